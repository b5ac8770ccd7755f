package pgwire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// jsonbVersion is the first byte of jsonb's binary form.
const jsonbVersion = 1

// decodeUUID accepts hyphens after any group of four digits, and braces around all.
func decodeUUID(data []byte) (Value, error) {
	text := data
	if len(text) > 1 && text[0] == '{' && text[len(text)-1] == '}' {
		text = text[1 : len(text)-1]
	}
	digits := make([]byte, 0, 32)
	for i, c := range text {
		if c == '-' && len(digits) > 0 && len(digits)%4 == 0 && text[i-1] != '-' {
			continue
		}
		digits = append(digits, c)
	}
	var raw [16]byte
	if len(digits) != 32 || text[len(text)-1] == '-' {
		return Value{}, badText(oid.UUID, data)
	}
	if _, err := hex.Decode(raw[:], digits); err != nil {
		return Value{}, badText(oid.UUID, data)
	}
	return decodeUUIDBinary(raw[:])
}

func decodeUUIDBinary(data []byte) (Value, error) {
	if len(data) != 16 {
		return Value{}, badBinary(oid.UUID)
	}
	text := make([]byte, 0, 36)
	for i := range data {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, data[i:i+1])
	}
	return textValue(text), nil
}

func appendUUIDBinary(dst, stored []byte) ([]byte, error) {
	v, err := decodeUUID(stored)
	if err != nil {
		return dst, err
	}
	return hex.AppendDecode(dst, bytes.ReplaceAll(v.Bytes, []byte("-"), nil))
}

func decodeJSON(data []byte) (Value, error) {
	if json.Valid(data) {
		return textValue(data), nil
	}
	return Value{}, sqlstate.New(sqlstate.InvalidTextRepresentation, "invalid input syntax for type json").
		WithDetail("The value begins with: %s", cut(data, 60))
}

// appendRegBinary needs the OID; the name that a reg* cast prints has none at this level.
func appendRegBinary(dst []byte, t oid.OID, stored []byte) ([]byte, error) {
	n, err := strconv.ParseUint(string(stored), 10, 32)
	if err != nil {
		return dst, sqlstate.New(sqlstate.FeatureNotSupported, "a name of type %s has no binary form", typeName(t)).
			WithHint("Ask for it in text format, or cast it to oid.")
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)), nil
}

func decodeLSN(data []byte) (Value, error) {
	high, low, ok := bytes.Cut(data, []byte("/"))
	h, err1 := strconv.ParseUint(string(high), 16, 32)
	l, err2 := strconv.ParseUint(string(low), 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return Value{}, badText(oid.PgLSN, data)
	}
	return lsnValue(h<<32 | l), nil
}

func lsnValue(lsn uint64) Value {
	return textValue(fmt.Appendf(nil, "%X/%X", lsn>>32, uint32(lsn)))
}

func decodeLSNBinary(data []byte) (Value, error) {
	if len(data) != 8 {
		return Value{}, badBinary(oid.PgLSN)
	}
	return lsnValue(binary.BigEndian.Uint64(data)), nil
}

func appendLSNBinary(dst, stored []byte) ([]byte, error) {
	high, low, ok := bytes.Cut(stored, []byte("/"))
	h, err1 := strconv.ParseUint(string(high), 16, 32)
	l, err2 := strconv.ParseUint(string(low), 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return dst, badText(oid.PgLSN, stored)
	}
	return binary.BigEndian.AppendUint64(dst, h<<32|l), nil
}
