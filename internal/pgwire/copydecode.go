package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"skein/internal/sqlstate"
)

const (
	copyBuffer = 32 << 10
	maxCopyRow = 64 << 20 // bytes; more is refused before memory is taken for it
)

// CopyDecoder splits COPY data into rows. Lines end in \n or \r\n.
type CopyDecoder struct {
	source  io.Reader
	format  CopyFormat
	columns int

	buf        []byte
	start, end int // buf[start:end] has been read and not yet been handed out
	line       int // of the row given last
	lines      int // begun so far
	started    bool
	done       bool
	fields     [][]byte
	row        []byte // what the fields of a csv row point into
}

// NewCopyDecoder reads rows of the given number of columns from r.
func NewCopyDecoder(r io.Reader, f CopyFormat, columns int) *CopyDecoder {
	return &CopyDecoder{source: r, format: f.withDefaults(), columns: columns}
}

// Line is the number of the line on which the row given last began, from 1; of binary data, the
// number of the row.
func (d *CopyDecoder) Line() int { return d.line }

// Next gives the fields of the next row, nil for NULL, as wire values in text or (for format
// binary) binary format; io.EOF after the last. Fields are valid until the next call. An error is a
// *sqlstate.Error 22P04 that names the line, or the reader's own.
func (d *CopyDecoder) Next() ([][]byte, error) {
	if d.done {
		return nil, io.EOF
	}
	if d.format.binary() {
		return d.nextBinary()
	}
	if d.format.Header && !d.started {
		if _, err := d.readLine(); err != nil {
			return nil, err
		}
	}
	d.started = true
	line, err := d.readLine()
	if err != nil {
		return nil, err
	}
	if string(line) == endOfData {
		return nil, d.drain()
	}
	if d.format.csv() {
		return d.splitCSV(line)
	}
	return d.splitText(line)
}

func (d *CopyDecoder) bad(format string, args ...any) error {
	unit := "line"
	if d.format.binary() {
		unit = "row"
	}
	return sqlstate.New(sqlstate.BadCopyFormat, format+", "+unit+" %d of COPY data", append(args, d.line)...)
}

// drain reads what comes after the end-of-data line: the client has sent it, so it must be taken.
func (d *CopyDecoder) drain() error {
	d.done, d.start, d.end = true, 0, 0
	if _, err := io.Copy(io.Discard, d.source); err != nil {
		return err
	}
	return io.EOF
}

// lineScanner finds the end of a row, which in csv may span lines.
type lineScanner struct {
	csv           bool
	quote, escape byte
	quoted        bool
	escaped       bool
	newlines      int
}

// ends reports whether the newline c ends the row.
func (s *lineScanner) ends(c byte) bool {
	if !s.csv {
		if s.escaped || c != '\n' {
			s.escaped = !s.escaped && c == '\\'
			if c == '\n' {
				s.newlines++
			}
			return false
		}
		return true
	}
	if s.quoted && c == s.escape && s.escape != s.quote {
		s.escaped = !s.escaped
	}
	if c == s.quote && !s.escaped {
		s.quoted = !s.quoted
	}
	if c != s.escape {
		s.escaped = false
	}
	if c == '\n' && s.quoted {
		s.newlines++
	}
	return c == '\n' && !s.quoted
}

// readLine gives the next row without its line end, or io.EOF. It is valid until the next call.
func (d *CopyDecoder) readLine() ([]byte, error) {
	s := lineScanner{csv: d.format.csv(), quote: d.format.Quote, escape: d.format.Escape}
	d.line = d.lines + 1
	for i := 0; ; i++ {
		if d.start+i == d.end {
			err := d.fill()
			if errors.Is(err, io.EOF) && d.end > d.start {
				line := d.buf[d.start:d.end]
				d.start, d.lines = d.end, d.lines+1
				return bytes.TrimSuffix(line, []byte("\r")), nil
			}
			if err != nil {
				return nil, err
			}
		}
		if s.ends(d.buf[d.start+i]) {
			line := d.buf[d.start : d.start+i]
			d.start += i + 1
			d.lines += s.newlines + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
	}
}

// fill reads more behind what is buffered.
func (d *CopyDecoder) fill() error {
	if d.end-d.start > maxCopyRow {
		return sqlstate.New(sqlstate.ProgramLimitExceeded, "COPY data: line %d is longer than %d bytes", d.line, maxCopyRow)
	}
	if d.start > 0 {
		d.end = copy(d.buf, d.buf[d.start:d.end])
		d.start = 0
	}
	if d.end == len(d.buf) {
		grown := make([]byte, max(copyBuffer, 2*len(d.buf)))
		copy(grown, d.buf)
		d.buf = grown
	}
	for {
		n, err := d.source.Read(d.buf[d.end:])
		d.end += n
		if n > 0 || err != nil {
			if n > 0 {
				err = nil // it comes again
			}
			return err
		}
	}
}

// splitText unescapes in place: what is escaped is never shorter than what it stands for.
func (d *CopyDecoder) splitText(line []byte) ([][]byte, error) {
	d.fields = d.fields[:0]
	if d.columns == 0 && len(line) == 0 {
		return d.fields, nil
	}
	if d.columns == 0 {
		return nil, d.bad("extra data after last expected column")
	}
	for more := true; more; {
		var raw []byte
		if raw, line, more = cutField(line, d.format.Delimiter); len(d.fields) == d.columns {
			return nil, d.bad("extra data after last expected column")
		}
		if string(raw) == d.format.Null {
			d.fields = append(d.fields, nil)
			continue
		}
		if bytes.IndexByte(raw, '\r') >= 0 && bareReturn(raw) {
			return nil, d.bad("literal carriage return found in data")
		}
		d.fields = append(d.fields, unescapeCopy(raw))
	}
	if len(d.fields) < d.columns {
		return nil, d.bad("missing data for column %d", len(d.fields)+1)
	}
	return d.fields, nil
}

// cutField splits at the first delimiter that no backslash precedes.
func cutField(line []byte, delimiter byte) (field, rest []byte, more bool) {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case delimiter:
			return line[:i], line[i+1:], true
		case '\\':
			i++
		}
	}
	return line, nil, false
}

func bareReturn(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '\r':
			return true
		}
	}
	return false
}

// unescapeCopy resolves the backslashes of format text.
func unescapeCopy(raw []byte) []byte {
	first := bytes.IndexByte(raw, '\\')
	if first < 0 {
		return raw
	}
	out := raw[:first]
	for i := first; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' || i+1 == len(raw) {
			out = append(out, c)
			continue
		}
		i++
		switch c = raw[i]; {
		case octal(c):
			n := 1
			code := c - '0'
			for ; n < 3 && i+n < len(raw) && octal(raw[i+n]); n++ {
				code = code<<3 | (raw[i+n] - '0')
			}
			out = append(out, code)
			i += n - 1
		case c == 'x' && i+1 < len(raw) && hexDigit(raw[i+1]) >= 0:
			code := byte(hexDigit(raw[i+1]))
			i++
			if i+1 < len(raw) && hexDigit(raw[i+1]) >= 0 {
				code = code<<4 | byte(hexDigit(raw[i+1]))
				i++
			}
			out = append(out, code)
		default:
			out = append(out, escapedLetter(c))
		}
	}
	return out
}

func escapedLetter(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	}
	return c
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func (d *CopyDecoder) splitCSV(line []byte) ([][]byte, error) {
	d.fields = d.fields[:0]
	if d.columns == 0 && len(line) == 0 {
		return d.fields, nil
	}
	for more := true; more; {
		field, quoted, rest, again, err := d.csvField(line)
		if err != nil {
			return nil, err
		}
		i := len(d.fields)
		if i == d.columns {
			return nil, d.bad("extra data after last expected column")
		}
		isNull := string(field) == d.format.Null && (!quoted && !chosen(d.format.ForceNotNull, i) || quoted && chosen(d.format.ForceNull, i))
		if isNull {
			field = nil
		}
		d.fields = append(d.fields, field)
		line, more = rest, again
	}
	if len(d.fields) < d.columns {
		return nil, d.bad("missing data for column %d", len(d.fields)+1)
	}
	return d.fields, nil
}

// csvField takes the first field of line, its quotes resolved in place.
func (d *CopyDecoder) csvField(line []byte) (field []byte, quoted bool, rest []byte, more bool, err error) {
	f := &d.format
	out := line[:0]
	inside := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case inside && c == f.Escape && i+1 < len(line) && (line[i+1] == f.Quote || line[i+1] == f.Escape):
			i++
			out = append(out, line[i])
		case c == f.Quote:
			inside, quoted = !inside, true
		case !inside && c == f.Delimiter:
			return out, quoted, line[i+1:], true, nil
		case !inside && c == '\r':
			return nil, false, nil, false, d.bad("unquoted carriage return found in data")
		default:
			out = append(out, c)
		}
	}
	if inside {
		return nil, false, nil, false, d.bad("unterminated CSV quoted field")
	}
	return out, quoted, nil, false, nil
}

// take gives the next n bytes of binary data, valid until the next call; missing ones are an error.
func (d *CopyDecoder) take(n int) ([]byte, error) {
	if n > maxCopyRow {
		return nil, sqlstate.New(sqlstate.ProgramLimitExceeded, "COPY data: a field of row %d is longer than %d bytes", d.line, maxCopyRow)
	}
	for d.end-d.start < n {
		err := d.fill()
		if errors.Is(err, io.EOF) {
			return nil, d.bad("unexpected EOF in COPY data")
		}
		if err != nil {
			return nil, err
		}
	}
	taken := d.buf[d.start : d.start+n]
	d.start += n
	return taken, nil
}

func (d *CopyDecoder) int32() (int, error) {
	b, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return int(int32(binary.BigEndian.Uint32(b))), nil
}

func (d *CopyDecoder) binaryHeader() error {
	signature, err := d.take(len(copySignature))
	if err != nil || string(signature) != copySignature {
		return d.bad("COPY file signature not recognized")
	}
	flags, err := d.int32()
	if err != nil {
		return err
	}
	if flags != 0 { // the only defined one, bit 16, was dropped in PostgreSQL 12
		return d.bad("unrecognized critical flags in COPY file header")
	}
	extension, err := d.int32()
	if err != nil {
		return err
	}
	if extension < 0 {
		return d.bad("invalid COPY file header (wrong length)")
	}
	_, err = d.take(extension)
	return err
}

func (d *CopyDecoder) nextBinary() ([][]byte, error) {
	if !d.started {
		d.started = true
		if err := d.binaryHeader(); err != nil {
			return nil, err
		}
	}
	d.line++
	if d.end == d.start { // PostgreSQL takes the end of the data between two rows for the trailer, and pgx relies on it
		if err := d.fill(); err != nil {
			return nil, err
		}
	}
	count, err := d.take(2)
	if err != nil {
		return nil, err
	}
	switch n := int(int16(binary.BigEndian.Uint16(count))); {
	case n == -1:
		return nil, d.binaryEnd()
	case n != d.columns:
		return nil, d.bad("row field count is %d, expected %d", n, d.columns)
	}
	return d.binaryFields()
}

// binaryFields copies each field out of the buffer, which moves as more is read.
func (d *CopyDecoder) binaryFields() ([][]byte, error) {
	if d.row == nil {
		d.row = make([]byte, 0, 512) // not nil: an empty field is not NULL
	}
	d.fields, d.row = d.fields[:0], d.row[:0]
	for range d.columns {
		n, err := d.int32()
		if err != nil {
			return nil, err
		}
		if n == -1 {
			d.fields = append(d.fields, nil)
			continue
		}
		if n < 0 {
			return nil, d.bad("invalid field size")
		}
		raw, err := d.take(n)
		if err != nil {
			return nil, err
		}
		if len(d.row)+n > maxCopyRow {
			return nil, sqlstate.New(sqlstate.ProgramLimitExceeded, "COPY data: row %d is longer than %d bytes", d.line, maxCopyRow)
		}
		at := len(d.row)
		d.row = append(d.row, raw...) // fields given before keep the array that they were in
		d.fields = append(d.fields, d.row[at:len(d.row):len(d.row)])
	}
	return d.fields, nil
}

func (d *CopyDecoder) binaryEnd() error {
	d.done = true
	if d.end > d.start {
		return d.bad("received copy data after EOF marker")
	}
	err := d.fill()
	if err == nil {
		return d.bad("received copy data after EOF marker")
	}
	return err
}
