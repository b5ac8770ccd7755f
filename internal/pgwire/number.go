package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }

// intRange gives the least and the greatest value of an integer type.
func intRange(t oid.OID) (least, greatest int64) {
	switch t {
	case oid.Int2:
		return math.MinInt16, math.MaxInt16
	case oid.Int4:
		return math.MinInt32, math.MaxInt32
	case oid.OIDType, oid.XID:
		return 0, math.MaxUint32
	}
	return math.MinInt64, math.MaxInt64
}

func checkInt(t oid.OID, n int64) error {
	if least, greatest := intRange(t); n < least || n > greatest {
		return outOfRange(t, appendInt(nil, n))
	}
	return nil
}

func appendIntBinary(dst []byte, t oid.OID, n int64) []byte {
	switch t {
	case oid.Int2:
		return binary.BigEndian.AppendUint16(dst, uint16(n))
	case oid.Int8:
		return binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func decodeInt(t oid.OID, data []byte) (Value, error) {
	text := bytes.Trim(data, " \t\n\r\f\v")
	n, err := strconv.ParseInt(string(text), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return Value{}, outOfRange(t, data)
	}
	if err != nil {
		return Value{}, badText(t, data)
	}
	// PostgreSQL reads a negative oid as the 32 bits that it has.
	if (t == oid.OIDType || t == oid.XID) && n < 0 && n >= math.MinInt32 {
		n = int64(uint32(n))
	}
	if least, greatest := intRange(t); n < least || n > greatest {
		return Value{}, outOfRange(t, data)
	}
	return Value{Kind: Int, Int: n}, nil
}

func decodeIntBinary(t oid.OID, data []byte) (Value, error) {
	var n int64
	switch {
	case t == oid.Int2 && len(data) == 2:
		n = int64(int16(binary.BigEndian.Uint16(data)))
	case t == oid.Int4 && len(data) == 4:
		n = int64(int32(binary.BigEndian.Uint32(data)))
	case t == oid.Int8 && len(data) == 8:
		n = int64(binary.BigEndian.Uint64(data))
	case t != oid.Int2 && t != oid.Int4 && t != oid.Int8 && len(data) == 4:
		n = int64(binary.BigEndian.Uint32(data))
	default:
		return Value{}, badBinary(t)
	}
	return Value{Kind: Int, Int: n}, nil
}

// decodeBool accepts what PostgreSQL does: any unambiguous beginning of the words.
func decodeBool(data []byte) (Value, error) {
	text := strings.ToLower(string(bytes.TrimSpace(data)))
	switch {
	case text == "":
	case text == "1", text == "on", strings.HasPrefix("true", text), strings.HasPrefix("yes", text):
		return boolValue(true), nil
	case text == "0", text == "of", text == "off", strings.HasPrefix("false", text), strings.HasPrefix("no", text):
		return boolValue(false), nil
	}
	return Value{}, badText(oid.Bool, data)
}

// appendFloat prints as PostgreSQL does: the shortest digits that read back the same, in scientific
// notation when the exponent is below -4 or beyond the digits that the type is sure of.
func appendFloat(dst []byte, f float64, bits int, env *Env) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case f == 0 && math.Signbit(f):
		return append(dst, "-0"...)
	case f == 0:
		return append(dst, '0')
	}
	digits := 15
	if bits == 32 {
		digits = 6
		f = float64(float32(f))
	}
	precision := -1
	if env != nil && env.ExtraFloatDigits < 0 {
		precision = max(digits+env.ExtraFloatDigits, 1) - 1
	}
	var scratch [32]byte
	scientific := strconv.AppendFloat(scratch[:0], f, 'e', precision, bits)
	mark := bytes.LastIndexByte(scientific, 'e')
	exponent, _ := strconv.Atoi(string(scientific[mark+1:]))
	if exponent < -4 || exponent >= digits {
		if precision > 0 {
			mantissa := bytes.TrimRight(bytes.TrimRight(scientific[:mark], "0"), ".")
			return append(append(dst, mantissa...), scientific[mark:]...)
		}
		return append(dst, scientific...)
	}
	if precision < 0 {
		return strconv.AppendFloat(dst, f, 'f', -1, bits)
	}
	fixed := strconv.AppendFloat(scratch[:0], f, 'f', max(precision-exponent, 0), bits)
	if bytes.IndexByte(fixed, '.') >= 0 {
		fixed = bytes.TrimRight(bytes.TrimRight(fixed, "0"), ".")
	}
	return append(dst, fixed...)
}

// appendPlainFloat prints without an exponent, as a numeric needs it.
func appendPlainFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return appendFloat(dst, f, 64, nil)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

func decodeFloat(t oid.OID, data []byte, bits int) (Value, error) {
	text := bytes.TrimSpace(data)
	// strconv also reads hexadecimal and underscores, which PostgreSQL 15 does not.
	if len(text) == 0 || bytes.ContainsAny(text, "xX_pP") {
		return Value{}, badText(t, data)
	}
	f, err := strconv.ParseFloat(string(text), bits)
	if errors.Is(err, strconv.ErrRange) || err == nil && f == 0 && bytes.ContainsAny(mantissa(text), "123456789") {
		return Value{}, sqlstate.New(sqlstate.NumericOutOfRange, `"%s" is out of range for type %s`, sqlstate.Excerpt(data), typeName(t))
	}
	if err != nil {
		return Value{}, badText(t, data)
	}
	return floatValue(t, f)
}

func mantissa(text []byte) []byte {
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		return text[:i]
	}
	return text
}

// floatValue refuses NaN: SQLite would silently store NULL in its place.
func floatValue(t oid.OID, f float64) (Value, error) {
	if math.IsNaN(f) {
		return Value{}, sqlstate.New(sqlstate.FeatureNotSupported, "NaN cannot be stored as %s", typeName(t))
	}
	return Value{Kind: Float, Float: f}, nil
}

func decodeFloatBinary(t oid.OID, data []byte) (Value, error) {
	switch {
	case t == oid.Float4 && len(data) == 4:
		return floatValue(t, float64(math.Float32frombits(binary.BigEndian.Uint32(data))))
	case t == oid.Float8 && len(data) == 8:
		return floatValue(t, math.Float64frombits(binary.BigEndian.Uint64(data)))
	}
	return Value{}, badBinary(t)
}
