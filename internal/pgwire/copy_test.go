package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// readRows gives every row as one string: fields in quotes or NULL, and at the end the error.
func readRows(r io.Reader, f CopyFormat, columns int) string {
	d := NewCopyDecoder(r, f, columns)
	var out strings.Builder
	for {
		fields, err := d.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			return out.String() + fmt.Sprintf("%s %s", codeOf(err), strings.TrimSuffix(err.Error(), " (SQLSTATE "+codeOf(err)+")"))
		}
		for _, field := range fields {
			out.WriteString(quoted(field) + " ")
		}
		out.WriteString("| ")
	}
}

func TestCopyDecoding(t *testing.T) {
	text, csv := CopyFormat{}, CopyFormat{Format: "csv"}
	header := CopyFormat{Format: "csv", Header: true}
	for _, c := range []struct {
		name   string
		format CopyFormat
		in     string
		want   string
	}{
		{"two rows", text, "a\tb\nc\td\n", `"a" "b" | "c" "d" | `},
		{"no newline at the end", text, "a\tb", `"a" "b" | `},
		{"carriage returns", text, "a\tb\r\nc\td\r\n", `"a" "b" | "c" "d" | `},
		{"NULL and empty", text, "\\N\t\n", `NULL "" | `},
		{"escapes", text, `\t\n\\` + "\t" + `\x41\101\q` + "\n", `"\t\n\\" "AAq" | `},
		{"escaped delimiter and newline", text, "a\\\tb\tc\\\nd\n", `"a\tb" "c\nd" | `},
		{"escaped NULL is text", text, "\\\\N\tx\n", `"\\N" "x" | `},
		{"end of data", text, "a\tb\n\\.\nanything\n", `"a" "b" | `},
		{"missing", text, "a\tb\nc\n", `"a" "b" | 22P04 missing data for column 2, line 2 of COPY data`},
		{"extra", text, "a\tb\tc\n", `22P04 extra data after last expected column, line 1 of COPY data`},
		{"line numbers count escaped newlines", text, "a\\\nb\tc\nd\n", `"a\nb" "c" | 22P04 missing data for column 2, line 3 of COPY data`},
		{"bare return", text, "a\rb\tc\n", `22P04 literal carriage return found in data, line 1 of COPY data`},
		{"own delimiter and NULL", CopyFormat{Delimiter: '|', Null: "-", NullSet: true}, "-|\\N\n", `NULL "N" | `},
		{"csv", csv, "a,b\n\"c,\"\"d\"\"\",\n", `"a" "b" | "c,\"d\"" NULL | `},
		{"csv quoted empty is not NULL", csv, "\"\",\n", `"" NULL | `},
		{"csv newline in quotes", csv, "\"a\nb\",c\r\nd\n", `"a\nb" "c" | 22P04 missing data for column 2, line 3 of COPY data`},
		{"csv header", header, "x,y\na,b\n", `"a" "b" | `},
		{"csv end of data", csv, "a,b\n\\.\n", `"a" "b" | `},
		{"csv unterminated", csv, "a,\"b\n", `22P04 unterminated CSV quoted field, line 1 of COPY data`},
		{"csv own quote and escape", CopyFormat{Format: "csv", Quote: '\'', Escape: '\\'}, `'a\'b\\',c` + "\n", `"a'b\\" "c" | `},
		{"csv force not null", CopyFormat{Format: "csv", ForceNotNull: []bool{true}}, ",\n", `"" NULL | `},
		{"csv force null", CopyFormat{Format: "csv", ForceNull: []bool{true}}, "\"\",\"\"\n", `NULL "" | `},
		{"binary", CopyFormat{Format: "binary"}, copySignature + "\x00\x00\x00\x00\x00\x00\x00\x02xx" + "\x00\x02\x00\x00\x00\x01a\xff\xff\xff\xff" + "\xff\xff", `"a" NULL | `},
		{"binary not", CopyFormat{Format: "binary"}, "a\tb\nc\td\ne\tf\n", `22P04 COPY file signature not recognized, row 0 of COPY data`},
		{"binary count", CopyFormat{Format: "binary"}, copySignature + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x01\x00\x00\x00\x00", `22P04 row field count is 1, expected 2, row 1 of COPY data`},
		{"binary cut", CopyFormat{Format: "binary"}, copySignature + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x02\x00\x00", `22P04 unexpected EOF in COPY data, row 1 of COPY data`},
		{"binary negative", CopyFormat{Format: "binary"}, copySignature + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x02\xff\xff\xff\xfe", `22P04 invalid field size, row 1 of COPY data`},
		{"binary huge", CopyFormat{Format: "binary"}, copySignature + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x02\x7f\xff\xff\xff", `54000 COPY data: a field of row 1 is longer than 67108864 bytes`},
		{"binary after the end", CopyFormat{Format: "binary"}, copySignature + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\xff\xffx", `22P04 received copy data after EOF marker, row 1 of COPY data`},
	} {
		if got := readRows(strings.NewReader(c.in), c.format, 2); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		if got := readRows(iotest.OneByteReader(strings.NewReader(c.in)), c.format, 2); got != c.want {
			t.Errorf("%s, byte by byte: %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestCopyEncoding(t *testing.T) {
	rows := [][][]byte{{[]byte("a"), nil}, {[]byte("x\ty\\\n"), []byte("")}, {[]byte(`q"c,`), []byte(`\N`)}}
	for _, c := range []struct {
		format CopyFormat
		want   string
	}{
		{CopyFormat{}, "a\t\\N\nx\\ty\\\\\\n\t\nq\"c,\t\\\\N\n"},
		{CopyFormat{Format: "csv", Header: true}, "one,two\na,\n\"x\ty\\\n\",\"\"\n\"q\"\"c,\",\\N\n"},
		{CopyFormat{Format: "csv", ForceQuote: []bool{true}}, "\"a\",\n\"x\ty\\\n\",\"\"\n\"q\"\"c,\",\\N\n"},
	} {
		e := NewCopyEncoder(c.format)
		out := e.Header(nil, []string{"one", "two"})
		for _, r := range rows {
			out = e.Row(out, r)
		}
		if out = e.Trailer(out); string(out) != c.want {
			t.Errorf("%q\nwant %q", out, c.want)
		}
	}
}

// roundTrip writes rows in a format and reads them again.
func roundTrip(t *testing.T, f CopyFormat, rows [][][]byte, columns int) {
	t.Helper()
	e := NewCopyEncoder(f)
	out := e.Header(nil, make([]string, columns))
	for _, r := range rows {
		out = e.Row(out, r)
	}
	out = e.Trailer(out)
	d := NewCopyDecoder(bytes.NewReader(out), f, columns)
	for _, want := range rows {
		got, err := d.Next()
		if err != nil {
			t.Fatalf("%+v %q: %v in %q", f, rows, err, out)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v: wrote %q, read %q, by way of %q", f, want, got, out)
		}
	}
	if _, err := d.Next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func copyFormats() []CopyFormat {
	return []CopyFormat{
		{},
		{Delimiter: '|', Null: "nil", NullSet: true},
		{Format: "csv"},
		{Format: "csv", Header: true, Quote: '\'', Escape: '\\', Delimiter: ';', Null: "NULL", NullSet: true},
		{Format: "binary"},
	}
}

func TestCopyRoundTrip(t *testing.T) {
	const alphabet = "ab\\\"',;|\t\n\r\x01\x00NnilU."
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		columns := 1 + random.IntN(3)
		rows := make([][][]byte, random.IntN(4))
		for i := range rows {
			for range columns {
				field := []byte{}
				for range random.IntN(6) {
					field = append(field, alphabet[random.IntN(len(alphabet))])
				}
				if random.IntN(5) == 0 {
					field = nil
				}
				rows[i] = append(rows[i], field)
			}
		}
		for _, f := range copyFormats() {
			roundTrip(t, f, rows, columns)
		}
	}
}

// FuzzCopy: any data gives rows or an error, the same whether it comes whole or in pieces, and what
// was read can be written and read again.
func FuzzCopy(f *testing.F) {
	for i := range copyFormats() {
		f.Add(byte(i), byte(2), []byte("a\tb\n\\N\t\\x41\n\\.\n"))
		f.Add(byte(i), byte(2), []byte("\"a\n\"\"\",b\r\n,\n"))
		f.Add(byte(i), byte(1), []byte(copySignature+"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01a\xff\xff"))
	}
	f.Fuzz(func(t *testing.T, which, columns byte, data []byte) {
		format := copyFormats()[int(which)%len(copyFormats())]
		n := int(columns)%5 + 1
		whole := readRows(bytes.NewReader(data), format, n)
		if pieces := readRows(iotest.HalfReader(bytes.NewReader(data)), format, n); pieces != whole {
			t.Fatalf("whole %s\npieces %s", whole, pieces)
		}
		var rows [][][]byte
		for d := NewCopyDecoder(bytes.NewReader(data), format, n); ; {
			fields, err := d.Next()
			if err != nil {
				break
			}
			row := make([][]byte, n)
			for i, field := range fields {
				row[i] = bytes.Clone(field)
			}
			rows = append(rows, row)
		}
		roundTrip(t, format, rows, n)
	})
}
