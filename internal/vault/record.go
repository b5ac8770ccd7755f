package vault

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind says what a Value is.
type Kind uint8

// The kinds of values. Missing is that of a column that a row does not have because it was added after the row was
// written: it reads as the column's default.
const (
	Null Kind = iota
	Integer
	Real
	Text
	Blob
	Missing
)

// Value is what SQLite keeps in one column of one row.
type Value struct {
	Kind  Kind
	Int   int64
	Float float64
	Bytes []byte // of Text and Blob
}

func (v Value) equal(o Value) bool {
	return v.Kind == o.Kind && v.Int == o.Int && math.Float64bits(v.Float) == math.Float64bits(o.Float) && string(v.Bytes) == string(o.Bytes)
}

// SQL is the value as a literal.
func (v Value) SQL() string {
	switch v.Kind {
	case Integer:
		return strconv.FormatInt(v.Int, 10)
	case Real:
		return realSQL(v.Float)
	case Text:
		if !utf8.Valid(v.Bytes) || strings.IndexByte(string(v.Bytes), 0) >= 0 {
			return "CAST(x'" + hex.EncodeToString(v.Bytes) + "' AS text)"
		}
		return quote(string(v.Bytes))
	case Blob:
		return "x'" + hex.EncodeToString(v.Bytes) + "'"
	}
	return "NULL"
}

// realSQL is the shortest text that reads as the same number, and not as an integer.
func realSQL(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "9e999"
	case math.IsInf(f, -1):
		return "-9e999"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// name quotes an identifier.
func name(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// parseRecord reads the columns of a row (https://www.sqlite.org/fileformat2.html#record_format). The values share b.
func parseRecord(b []byte) ([]Value, error) {
	size, n := varint(b)
	if n == 0 || size < int64(n) || size > int64(len(b)) {
		return nil, errNotDecoded
	}
	header, body := b[n:size], b[size:]
	values := make([]Value, 0, min(len(header), 64))
	for len(header) > 0 {
		serial, n := varint(header)
		if n == 0 || serial < 0 {
			return nil, errNotDecoded
		}
		header = header[n:]
		v, rest, err := parseValue(serial, body)
		if err != nil {
			return nil, err
		}
		values, body = append(values, v), rest
	}
	return values, nil
}

func parseValue(serial int64, b []byte) (v Value, rest []byte, err error) {
	size := int64(0)
	switch {
	case serial <= 4:
		size = serial
	case serial == 5:
		size = 6
	case serial <= 7:
		size = 8
	case serial == 10, serial == 11:
		return v, nil, errNotDecoded
	case serial >= 12:
		size = (serial - 12) / 2
	}
	if size > int64(len(b)) {
		return v, nil, errNotDecoded
	}
	content, rest := b[:size], b[size:]
	switch {
	case serial == 0:
	case serial <= 6:
		v = Value{Kind: Integer, Int: signed(content)}
	case serial == 7:
		v = Value{Kind: Real, Float: math.Float64frombits(binary.BigEndian.Uint64(content))}
	case serial <= 9:
		v = Value{Kind: Integer, Int: serial - 8}
	case serial%2 == 0:
		v = Value{Kind: Blob, Bytes: content}
	default:
		v = Value{Kind: Text, Bytes: content}
	}
	return v, rest, nil
}

// signed reads a big-endian integer of up to eight bytes.
func signed(b []byte) int64 {
	var u uint64
	if len(b) > 0 && b[0] >= 0x80 {
		u = math.MaxUint64
	}
	for _, c := range b {
		u = u<<8 | uint64(c)
	}
	return int64(u)
}
