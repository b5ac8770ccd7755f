package pgwire

import (
	"bytes"
	"encoding/hex"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

func appendBytea(dst, data []byte, env *Env) []byte {
	if env == nil || env.ByteaOutput != "escape" {
		return hex.AppendEncode(append(dst, `\x`...), data)
	}
	for _, b := range data {
		switch {
		case b == '\\':
			dst = append(dst, `\\`...)
		case b < 0x20 || b > 0x7e:
			dst = append(dst, '\\', '0'+(b>>6), '0'+(b>>3&7), '0'+(b&7))
		default:
			dst = append(dst, b)
		}
	}
	return dst
}

// decodeBytea reads both of PostgreSQL's forms: \x and hex digits, between which whitespace may
// stand, or text in which \\ and \ooo are escapes.
func decodeBytea(data []byte) (Value, error) {
	if digits, ok := bytes.CutPrefix(data, []byte(`\x`)); ok {
		return decodeHex(digits)
	}
	if bytes.IndexByte(data, '\\') < 0 {
		return Value{Kind: Blob, Bytes: data}, nil
	}
	out := make([]byte, 0, len(data))
	for len(data) > 0 {
		switch {
		case data[0] != '\\':
			out, data = append(out, data[0]), data[1:]
		case len(data) >= 2 && data[1] == '\\':
			out, data = append(out, '\\'), data[2:]
		case len(data) >= 4 && data[1] >= '0' && data[1] <= '3' && octal(data[2]) && octal(data[3]):
			out, data = append(out, (data[1]-'0')<<6|(data[2]-'0')<<3|(data[3]-'0')), data[4:]
		default:
			return Value{}, sqlstate.New(sqlstate.InvalidTextRepresentation, "invalid input syntax for type %s", typeName(oid.Bytea))
		}
	}
	return Value{Kind: Blob, Bytes: out}, nil
}

func octal(b byte) bool { return b >= '0' && b <= '7' }

// decodeHex reads pairs of digits; whitespace may stand between pairs.
func decodeHex(digits []byte) (Value, error) {
	out := make([]byte, 0, hex.DecodedLen(len(digits)))
	for len(digits) > 0 {
		if c := digits[0]; c == ' ' || c == '\t' || c == '\n' || c == '\r' {
			digits = digits[1:]
			continue
		}
		for _, d := range digits[:min(2, len(digits))] {
			if hexDigit(d) < 0 {
				return Value{}, sqlstate.New(sqlstate.InvalidParameterValue, `invalid hexadecimal digit: "%c"`, d)
			}
		}
		if len(digits) == 1 {
			return Value{}, sqlstate.New(sqlstate.InvalidParameterValue, "invalid hexadecimal data: odd number of digits")
		}
		out = append(out, byte(hexDigit(digits[0])<<4|hexDigit(digits[1])))
		digits = digits[2:]
	}
	return Value{Kind: Blob, Bytes: out}, nil
}
