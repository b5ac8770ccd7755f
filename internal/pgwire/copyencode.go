package pgwire

import (
	"bytes"
	"encoding/binary"
)

// CopyEncoder joins values to rows of COPY data.
type CopyEncoder struct{ format CopyFormat }

// NewCopyEncoder encodes rows as f says.
func NewCopyEncoder(f CopyFormat) *CopyEncoder { return &CopyEncoder{format: f.withDefaults()} }

// Header appends what stands before the rows: the signature of binary, or the line of names.
func (e *CopyEncoder) Header(dst []byte, names []string) []byte {
	if e.format.binary() {
		return append(append(dst, copySignature...), 0, 0, 0, 0, 0, 0, 0, 0)
	}
	if !e.format.Header {
		return dst
	}
	fields := make([][]byte, len(names))
	for i, name := range names {
		fields[i] = []byte(name)
	}
	return e.line(dst, fields, nil)
}

// Row appends one row; fields are wire values in text or (for format binary) binary format, nil
// for NULL.
func (e *CopyEncoder) Row(dst []byte, fields [][]byte) []byte {
	if e.format.binary() {
		return appendCopyBinary(dst, fields)
	}
	return e.line(dst, fields, e.format.ForceQuote)
}

// Trailer appends what stands after the rows.
func (e *CopyEncoder) Trailer(dst []byte) []byte {
	if e.format.binary() {
		return append(dst, 0xff, 0xff)
	}
	return dst
}

func appendCopyBinary(dst []byte, fields [][]byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(fields)))
	for _, f := range fields {
		if f == nil {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

func (e *CopyEncoder) line(dst []byte, fields [][]byte, force []bool) []byte {
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, e.format.Delimiter)
		}
		switch {
		case f == nil:
			dst = append(dst, e.format.Null...)
		case e.format.csv():
			dst = e.appendCSV(dst, f, chosen(force, i), len(fields) == 1)
		default:
			dst = e.appendEscaped(dst, f)
		}
	}
	return append(dst, '\n')
}

func (e *CopyEncoder) appendEscaped(dst, field []byte) []byte {
	const letters, controls = "bfnrtv", "\b\f\n\r\t\v"
	for _, c := range field {
		switch i := bytes.IndexByte([]byte(controls), c); {
		case i >= 0:
			dst = append(dst, '\\', letters[i])
		case c == '\\' || c == e.format.Delimiter:
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendCSV quotes where a reader would otherwise see something else: a delimiter, a line's end,
// NULL, or the end of the data.
func (e *CopyEncoder) appendCSV(dst, field []byte, force, alone bool) []byte {
	f := &e.format
	special := string([]byte{f.Delimiter, f.Quote, '\n', '\r'})
	if !force && string(field) != f.Null && !bytes.ContainsAny(field, special) && (!alone || string(field) != endOfData) {
		return append(dst, field...)
	}
	dst = append(dst, f.Quote)
	for _, c := range field {
		if c == f.Quote || c == f.Escape {
			dst = append(dst, f.Escape)
		}
		dst = append(dst, c)
	}
	return append(dst, f.Quote)
}
