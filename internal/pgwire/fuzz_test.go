package pgwire

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"skein/internal/oid"
)

// scripted is the whole input of a client that then closes its side, and collects what it is sent.
type scripted struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *scripted) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *scripted) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *scripted) Close() error                     { return nil }
func (c *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

func encode(messages ...pgproto3.FrontendMessage) []byte {
	var raw []byte
	for _, m := range messages {
		raw, _ = m.Encode(raw)
	}
	return raw
}

// FuzzDecode sends any bytes, behind a startup message or as one, to a server with a fake session. No
// input may cause a panic, memory far beyond its size, or an answer that is not made of whole
// messages; what was answered ends with ReadyForQuery or an error, or in the middle of a pipeline.
func FuzzDecode(f *testing.F) {
	f.Add(true, encode(&pgproto3.Query{String: "rows 2; fail"}, &pgproto3.Sync{}))
	f.Add(true, encode(&pgproto3.Parse{Name: "s", Query: "echo int4 text", ParameterOIDs: []uint32{23}},
		&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{{0, 0, 0, 1}, nil}, ParameterFormatCodes: []int16{1, 0}, ResultFormatCodes: []int16{1}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Flush{}, &pgproto3.Close{ObjectType: 'S', Name: "s"}, &pgproto3.Sync{}))
	f.Add(true, encode(&pgproto3.Query{String: "copyin text 2"}, &pgproto3.CopyData{Data: []byte("1\t2\n")}, &pgproto3.CopyDone{},
		&pgproto3.Query{String: "copyin binary 1"}, &pgproto3.CopyFail{Message: "x"}, &pgproto3.Terminate{}))
	f.Add(false, startupFrame(3<<16|2, []byte("user\x00alice\x00_pq_.x\x00y\x00\x00")))
	f.Add(false, startupFrame(sslRequest, nil))
	f.Add(false, startupFrame(cancelRequest, []byte("12345678")))
	f.Add(true, []byte("B\x7f\xff\xff\xff"))
	f.Add(true, []byte("B\x00\x00\x00\x0e\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, started bool, data []byte) {
		if bytes.Contains(data, []byte("panic")) || bytes.Contains(data, []byte("wait")) {
			return // what the fake session does on request
		}
		input := data
		if started {
			input = append(startupFrame(3<<16, []byte("user\x00alice\x00\x00")), data...)
		}
		client := &scripted{in: bytes.NewReader(input)}
		server := NewServer(&fakeHandler{}, Options{Trust: true, MaxMessageBytes: 1 << 30, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		server.enter()
		before := allocated()
		server.serve(context.Background(), client)
		if used := allocated() - before; used > 4<<20+64*uint64(len(input))+8*uint64(client.out.Len()) {
			t.Errorf("%d bytes of input took %d bytes of memory", len(input), used)
		}
		if started {
			wholeMessages(t, client.out.Bytes())
		}
	})
}

// menu has the messages out of which FuzzSession makes conversations.
func menu() [][]byte {
	var all [][]byte
	for _, line := range []string{
		"Query rows 2", "Query fail", `Query ""`, "Query begin", "Query commit", `Query "copyin text 2"`, `Query "copyout csv 2"`,
		`Query "rows 1; fail; rows 1"`, `Parse "" "rows 3"`, `Parse "" failparse`, `Parse s "echo int4 text"`, `Bind "" ""`, "Bind p s 1 x",
		`Bind "" s x y`, `Describe S s`, `Describe P ""`, `Execute ""`, `Execute "" 1`, "Execute p", "Close S s", `Close P ""`, "Sync", "Flush",
		`CopyData "1\t2\n"`, `CopyData "1\n"`, "CopyDone", "CopyFail x", "FunctionCall", `Parse "" "copyin binary 1"`,
	} {
		all = append(all, encode(frontendMessage(splitWords(line))))
	}
	return all
}

// FuzzSession sends well-formed messages in any order. In the end, after the COPY that may be open
// and the skipping that may go on have been ended, the session is ready.
func FuzzSession(f *testing.F) {
	messages := menu()
	f.Add([]byte{0, 1, 2, 5, 23, 25, 9, 11, 16, 21})
	f.Add([]byte{10, 12, 14, 18, 22, 19, 21, 28, 11, 16, 24, 25, 21})
	f.Fuzz(func(t *testing.T, order []byte) {
		input := startupFrame(3<<16, []byte("user\x00alice\x00\x00"))
		for _, o := range order {
			input = append(input, messages[int(o)%len(messages)]...)
		}
		input = append(input, encode(&pgproto3.CopyFail{}, &pgproto3.Sync{})...)
		client := &scripted{in: bytes.NewReader(input)}
		server := NewServer(&fakeHandler{}, Options{Trust: true})
		server.enter()
		server.serve(context.Background(), client)
		wholeMessages(t, client.out.Bytes())
		if !bytes.HasSuffix(client.out.Bytes()[:client.out.Len()-1], []byte("Z\x00\x00\x00\x05")) {
			t.Fatalf("not ready in the end: %q", client.out.Bytes())
		}
	})
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func wholeMessages(t *testing.T, answer []byte) {
	t.Helper()
	frontend := pgproto3.NewFrontend(bytes.NewReader(answer), io.Discard)
	for {
		m, err := frontend.Receive()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return
		}
		if err != nil {
			t.Fatalf("%v in %q", err, answer)
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok && strings.Contains(e.Message, "the session has ended") {
			t.Fatalf("a panic: %q", answer)
		}
	}
}

// FuzzAuthentication: whatever a client that does not know the password sends, it is not let in.
func FuzzAuthentication(f *testing.F) {
	h := newFakeHandler(f)
	first := encode(&pgproto3.SASLInitialResponse{AuthMechanism: scramMechanism, Data: []byte("n,,n=,r=nonce")})
	f.Add("alice", first)
	f.Add("bob", append(first, encode(&pgproto3.SASLResponse{Data: []byte("c=biws,r=nonce,p=AAAA")})...))
	f.Add("alice", encode(&pgproto3.PasswordMessage{Password: "secret"}, &pgproto3.Query{String: "rows 1"}))
	f.Fuzz(func(t *testing.T, role string, data []byte) {
		input := append(startupFrame(3<<16, []byte("user\x00"+role+"\x00\x00")), data...)
		client := &scripted{in: bytes.NewReader(input)}
		server := NewServer(h, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		server.enter()
		server.serve(context.Background(), client)
		wholeMessages(t, client.out.Bytes())
		if bytes.Contains(client.out.Bytes(), []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")) {
			t.Fatal("let in")
		}
	})
}

// FuzzValue decodes any bytes as a value of any type and format. What is accepted must survive every
// form, and pgx must read the same from our binary form as from our text.
func FuzzValue(f *testing.F) {
	all := oid.All()
	for i, seed := range []string{
		"t", "-42", "1e10", "0.1", "-123.4500", "{1,NULL}", `{"a b",c}`, `\x00ff`, "2004-10-19 10:23:54.5+02", "1 year 2 mons -3 days 04:05:06",
		"infinity", "04:05:06.789", "0044-03-15 BC", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", `{"a":1}`, "[0:1]={1,2}", "99999-12-31",
	} {
		for j := range all {
			f.Add(byte(j), i%2 == 0, []byte(seed))
		}
	}
	f.Add(byte(0), true, []byte("\x00\x01\x00\x00\x40\x00\x00\x02\x03\xe8"))
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		f.Fatal(err)
	}
	types := pgtype.NewMap()
	f.Fuzz(func(t *testing.T, which byte, binary bool, data []byte) {
		typ := all[int(which)%len(all)].OID
		env := &Env{TimeZone: zone, Now: time.Unix(1e9, 0)}
		format := TextFormat
		if binary {
			format = BinaryFormat
		}
		v, err := Decode(typ, -1, format, append([]byte{}, data...), env)
		if err != nil || typ == oid.Void {
			return
		}
		for _, form := range []int16{TextFormat, BinaryFormat} {
			wire, err := Append([]byte{}, typ, form, v, env)
			if err != nil {
				if codeOf(err) == "0A000" {
					continue // the name of a reg* has no binary form
				}
				t.Fatalf("%s %q: stored %s, format %d: %v", typeName(typ), data, stored(v), form, err)
			}
			back, err := Decode(typ, -1, form, wire, env)
			if err != nil || !sameValue(typ, back, v) {
				t.Fatalf("%s %q: stored %s, wire %q, back %s %v", typeName(typ), data, stored(v), wire, stored(back), err)
			}
		}
		compareWithPgx(t, types, typ, v, env)
	})
}

// sameValue allows for what a form cannot hold: float4's digits, a reg* that becomes a number.
func sameValue(typ oid.OID, a, b Value) bool {
	if typ == oid.Float4 {
		return float32(a.asFloat()) == float32(b.asFloat())
	}
	if typ == oid.Regclass || typ == oid.Regtype || typ == oid.Regproc {
		return true
	}
	return stored(a) == stored(b) || a.Kind == Float && math.Abs(a.Float-b.Float) == 0
}

// compareWithPgx reads our text and our binary form with pgx, which must find the same in both.
func compareWithPgx(t *testing.T, types *pgtype.Map, typ oid.OID, v Value, env *Env) {
	t.Helper()
	var fromText, fromBinary any
	switch typ {
	case oid.Bool:
		fromText, fromBinary = new(bool), new(bool)
	case oid.Int2, oid.Int4, oid.Int8:
		fromText, fromBinary = new(int64), new(int64)
	case oid.Float4, oid.Float8:
		fromText, fromBinary = new(float64), new(float64)
	case oid.Numeric:
		fromText, fromBinary = new(string), new(string)
	case oid.UUID:
		fromText, fromBinary = new([16]byte), new([16]byte)
	case oid.Time:
		fromText, fromBinary = new(pgtype.Time), new(pgtype.Time)
	case oid.Interval:
		fromText, fromBinary = new(pgtype.Interval), new(pgtype.Interval)
	case oid.Int4Array:
		fromText, fromBinary = new(pgtype.Array[*int32]), new(pgtype.Array[*int32])
	case oid.TextArray:
		fromText, fromBinary = new(pgtype.Array[*string]), new(pgtype.Array[*string])
	default:
		return
	}
	text, _ := Append(nil, typ, TextFormat, v, env)
	raw, _ := Append(nil, typ, BinaryFormat, v, env)
	errText := types.Scan(uint32(typ), TextFormat, text, fromText)
	errBinary := types.Scan(uint32(typ), BinaryFormat, raw, fromBinary)
	if errText != nil || errBinary != nil {
		return // pgx's own limits, such as those of its numbers
	}
	a, _ := types.Encode(uint32(typ), BinaryFormat, fromText, nil)
	b, _ := types.Encode(uint32(typ), BinaryFormat, fromBinary, nil)
	if !bytes.Equal(a, b) {
		t.Fatalf("%s: pgx reads %v from text %q but %v from binary %x", typeName(typ), fromText, text, fromBinary, raw)
	}
}

// FuzzDatetime: what the parser accepts for a type, its canonical form is read back as the same.
func FuzzDatetime(f *testing.F) {
	for _, seed := range []string{
		"January 8, 1999", "1/8/1999", "J2451187", "19990108T040506.789-0800", "Tue Oct 19 10:23:54 2004 PST", "today 12:00", "99 BC Jan 3", "1999.008",
		"2004-10-19 10:23:54 America/New_York", "allballs", "12:00 AM", "4714-11-24 BC", "294276-12-31 23:59:59.999999",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range []oid.OID{oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz, oid.Interval} {
			v, err := Decode(typ, -1, TextFormat, []byte(text), nil)
			if err != nil {
				continue
			}
			again, err := Decode(typ, -1, TextFormat, v.Bytes, nil)
			if err != nil || stored(again) != stored(v) {
				t.Fatalf("%s %q: %s, read again %s %v", typeName(typ), text, stored(v), stored(again), err)
			}
		}
	})
}
