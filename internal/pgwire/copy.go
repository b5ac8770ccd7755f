package pgwire

import "io"

// CopyFormat is how COPY writes rows. The zero value is format text.
type CopyFormat struct {
	Format       string // "text" (also ""), "csv" or "binary"
	Delimiter    byte   // 0: tab in text, comma in csv
	Quote        byte   // csv; 0: "
	Escape       byte   // csv; 0: as Quote
	Null         string // see NullSet
	NullSet      bool   // Null was given; otherwise it is \N in text and empty in csv
	Header       bool   // the first line has the columns' names: skipped, or written
	ForceQuote   []bool // csv out: columns whose values are always quoted; nil for none
	ForceNotNull []bool // csv in: columns where Null's text is not NULL
	ForceNull    []bool // csv in: columns where Null's text is NULL even when it is quoted
}

// CopyDecoder splits COPY data into rows.
type CopyDecoder struct{}

// NewCopyDecoder reads rows of the given number of columns from r.
func NewCopyDecoder(r io.Reader, f CopyFormat, columns int) *CopyDecoder { return nil }

// Next gives the fields of the next row, nil for NULL, as wire values in text or (for format
// binary) binary format; io.EOF after the last. Fields are valid until the next call. An error is a
// *sqlstate.Error 22P04 that names the line, or the reader's own.
func (d *CopyDecoder) Next() ([][]byte, error) { return nil, nil }

// Line is the number of the line on which the row given last began, from 1.
func (d *CopyDecoder) Line() int { return 0 }

// CopyEncoder joins values to rows of COPY data.
type CopyEncoder struct{}

// NewCopyEncoder encodes rows as f says.
func NewCopyEncoder(f CopyFormat) *CopyEncoder { return nil }

// Header appends what stands before the rows: the signature of binary, or the line of names.
func (e *CopyEncoder) Header(dst []byte, names []string) []byte { return dst }

// Row appends one row; fields are wire values in text or (for format binary) binary format, nil
// for NULL.
func (e *CopyEncoder) Row(dst []byte, fields [][]byte) []byte { return dst }

// Trailer appends what stands after the rows.
func (e *CopyEncoder) Trailer(dst []byte) []byte { return dst }
