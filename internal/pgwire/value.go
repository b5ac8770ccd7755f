package pgwire

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"
	"unicode/utf8"

	"skein/internal/moment"
	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// Formats of a value on the wire.
const (
	TextFormat   int16 = 0
	BinaryFormat int16 = 1
)

// ValueKind is the storage class of a Value.
type ValueKind uint8

// The storage classes of SQLite.
const (
	Null ValueKind = iota
	Int
	Float
	Text
	Blob
)

// Value mirrors a SQLite value. Bytes, of Text and Blob, belong to whoever made the Value and are
// valid only during the call it is passed to.
type Value struct {
	Kind  ValueKind
	Int   int64
	Float float64
	Bytes []byte
}

// Env holds the settings that values depend on. The zero value is UTC and PostgreSQL's defaults.
type Env struct {
	TimeZone         *time.Location // nil is UTC
	ExtraFloatDigits int            // below 0 rounds; 0 and above print the shortest exact text
	ByteaOutput      string         // "escape", or anything else for hex
	IntervalStyle    string         // moment.Postgres and its kin; "" is that
	Now              time.Time      // what 'now' and 'today' mean in input; zero is the clock
}

func (e *Env) zone() *time.Location {
	if e == nil || e.TimeZone == nil {
		return time.UTC
	}
	return e.TimeZone
}

func (e *Env) reference() moment.Reference {
	if e == nil {
		return moment.Reference{}
	}
	return moment.Reference{Zone: e.TimeZone, Now: e.Now}
}

// Append appends v as the wire bytes of type t, without a length. v must not be Null.
//
// SQLite does not promise that a value is of the class its column declares. One that is not is cast
// as PostgreSQL casts its text to t: the integer 7 in a text column is '7', the real 1.5 in a
// numeric column is 1.5, the text '12' in an integer column is 12, and the text 'abc' there fails
// with 22P02, invalid input syntax for type integer: "abc". The text of a blob is its hex form.
func Append(dst []byte, t oid.OID, format int16, v Value, env *Env) ([]byte, error) {
	if v.Kind == Null {
		return dst, sqlstate.New(sqlstate.InternalError, "NULL has no wire form")
	}
	if class := storageClass(t); v.Kind != class && (class != Float || v.Kind != Int) {
		fitting, err := recast(t, class, v, env)
		if err != nil {
			return dst, err
		}
		v = fitting
	}
	if format == BinaryFormat {
		return appendBinary(dst, t, v, env)
	}
	return appendText(dst, t, v, env)
}

// storageClass is the class that values of a type are stored with.
func storageClass(t oid.OID) ValueKind {
	switch t {
	case oid.Bool, oid.Int2, oid.Int4, oid.Int8, oid.OIDType, oid.XID:
		return Int
	case oid.Float4, oid.Float8:
		return Float
	case oid.Bytea:
		return Blob
	}
	return Text
}

// recast gives v the class it should have had, by way of its text.
func recast(t oid.OID, class ValueKind, v Value, env *Env) (Value, error) {
	text := v.Bytes
	switch {
	case v.Kind == Int && t == oid.Bool:
		return Value{Kind: Int, Int: v.Int}, nil
	case v.Kind == Int:
		text = appendInt(nil, v.Int)
	case v.Kind == Float && (t == oid.Numeric || class == Int):
		text = appendPlainFloat(nil, v.Float)
	case v.Kind == Float:
		text = appendFloat(nil, v.Float, 64, env)
	case v.Kind == Blob:
		text = appendBytea(nil, v.Bytes, nil)
	}
	if class == Text {
		return Value{Kind: Text, Bytes: text}, nil // appendText and appendBinary check its form
	}
	return Decode(t, -1, TextFormat, text, env)
}

func appendText(dst []byte, t oid.OID, v Value, env *Env) ([]byte, error) {
	switch t {
	case oid.Bool:
		if v.Int != 0 {
			return append(dst, 't'), nil
		}
		return append(dst, 'f'), nil
	case oid.Int2, oid.Int4, oid.Int8, oid.OIDType, oid.XID:
		if err := checkInt(t, v.Int); err != nil {
			return dst, err
		}
		return appendInt(dst, v.Int), nil
	case oid.Float4:
		return appendFloat(dst, v.asFloat(), 32, env), nil
	case oid.Float8:
		return appendFloat(dst, v.asFloat(), 64, env), nil
	case oid.Bytea:
		return appendBytea(dst, v.Bytes, env), nil
	case oid.Numeric:
		return appendNumericText(dst, v.Bytes)
	case oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz:
		return moment.AppendText(dst, t, v.Bytes, env.zone())
	case oid.Interval:
		return appendInterval(dst, v.Bytes, env)
	case oid.Void:
		return dst, nil
	case oid.TimestamptzArray:
		return appendArrayText(dst, t, v.Bytes, env)
	}
	return append(dst, v.Bytes...), nil
}

func appendBinary(dst []byte, t oid.OID, v Value, env *Env) ([]byte, error) {
	switch t {
	case oid.Bool:
		if v.Int != 0 {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case oid.Int2, oid.Int4, oid.Int8, oid.OIDType, oid.XID:
		if err := checkInt(t, v.Int); err != nil {
			return dst, err
		}
		return appendIntBinary(dst, t, v.Int), nil
	case oid.Float4:
		return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(v.asFloat()))), nil
	case oid.Float8:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(v.asFloat())), nil
	case oid.Bytea:
		return append(dst, v.Bytes...), nil
	case oid.Numeric:
		return appendNumericBinary(dst, v.Bytes)
	case oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz:
		return appendDatetimeBinary(dst, t, v.Bytes)
	case oid.Interval:
		return appendIntervalBinary(dst, v.Bytes)
	case oid.UUID:
		return appendUUIDBinary(dst, v.Bytes)
	case oid.JSONB:
		return append(append(dst, jsonbVersion), v.Bytes...), nil
	case oid.Regclass, oid.Regtype, oid.Regproc:
		return appendRegBinary(dst, t, v.Bytes)
	case oid.PgLSN:
		return appendLSNBinary(dst, v.Bytes)
	case oid.Void:
		return dst, nil
	}
	if elem := elementType(t); elem != 0 {
		return appendArrayBinary(dst, t, elem, v.Bytes, env)
	}
	return append(dst, v.Bytes...), nil
}

func (v Value) asFloat() float64 {
	if v.Kind == Int {
		return float64(v.Int)
	}
	return v.Float
}

// Decode reads a wire parameter of type t as the value that is stored for it. data nil is NULL. The
// result may share memory with data. mod, when not negative, is applied as at an assignment: a
// numeric is rounded to its scale, a text that is too long is refused.
func Decode(t oid.OID, mod int32, format int16, data []byte, env *Env) (Value, error) {
	if data == nil {
		return Value{}, nil
	}
	if format == BinaryFormat {
		return decodeBinary(t, mod, data, env)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return Value{}, sqlstate.New(sqlstate.CharacterNotInRepertoire, `invalid byte sequence for encoding "UTF8": 0x00`)
	}
	if !utf8.Valid(data) {
		return Value{}, badEncoding(data)
	}
	return decodeText(t, mod, data, env)
}

func decodeText(t oid.OID, mod int32, data []byte, env *Env) (Value, error) {
	switch t {
	case oid.Bool:
		return decodeBool(data)
	case oid.Int2, oid.Int4, oid.Int8, oid.OIDType, oid.XID:
		return decodeInt(t, data)
	case oid.Float4:
		return decodeFloat(t, data, 32)
	case oid.Float8:
		return decodeFloat(t, data, 64)
	case oid.Bytea:
		return decodeBytea(data)
	case oid.Numeric:
		n, err := parseNumeric(data)
		return n.value(mod, err)
	case oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz:
		return decodeDatetime(t, mod, data, env)
	case oid.Interval:
		i, err := moment.ParseInterval(data)
		return intervalValue(i, err)
	case oid.UUID:
		return decodeUUID(data)
	case oid.JSON, oid.JSONB:
		return decodeJSON(data)
	case oid.Varchar, oid.Bpchar:
		return decodeLimited(t, mod, data)
	case oid.Name:
		return textValue(cut(data, 63)), nil
	case oid.Char:
		return textValue(cut(data, 1)), nil
	case oid.PgLSN:
		return decodeLSN(data)
	}
	if elem := elementType(t); elem != 0 {
		return decodeArrayText(t, elem, data, env)
	}
	return textValue(data), nil
}

func decodeBinary(t oid.OID, mod int32, data []byte, env *Env) (Value, error) {
	switch t {
	case oid.Bool:
		if len(data) != 1 {
			return Value{}, badBinary(t)
		}
		return boolValue(data[0] != 0), nil
	case oid.Int2, oid.Int4, oid.Int8, oid.OIDType, oid.XID, oid.Regclass, oid.Regtype, oid.Regproc:
		return decodeIntBinary(t, data)
	case oid.Float4, oid.Float8:
		return decodeFloatBinary(t, data)
	case oid.Bytea:
		return Value{Kind: Blob, Bytes: data}, nil
	case oid.Numeric:
		n, err := parseNumericBinary(data)
		return n.value(mod, err)
	case oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz:
		return decodeDatetimeBinary(t, mod, data)
	case oid.Interval:
		i, err := intervalFromBinary(data)
		return intervalValue(i, err)
	case oid.UUID:
		return decodeUUIDBinary(data)
	case oid.JSONB:
		if len(data) == 0 || data[0] != jsonbVersion {
			return Value{}, sqlstate.New(sqlstate.InternalError, "unsupported jsonb version number")
		}
		data = data[1:]
	case oid.PgLSN:
		return decodeLSNBinary(data)
	}
	if elem := elementType(t); elem != 0 {
		return decodeArrayBinary(t, elem, data, env)
	}
	return Decode(t, mod, TextFormat, data, env) // types whose binary form is their text
}

func badBinary(t oid.OID) *sqlstate.Error {
	return sqlstate.New(sqlstate.InvalidBinaryFormat, "incorrect binary data format for type %s", typeName(t))
}

func badText(t oid.OID, data []byte) *sqlstate.Error {
	return sqlstate.New(sqlstate.InvalidTextRepresentation, `invalid input syntax for type %s: "%s"`, typeName(t), sqlstate.Excerpt(data))
}

func outOfRange(t oid.OID, data []byte) *sqlstate.Error {
	return sqlstate.New(sqlstate.NumericOutOfRange, `value "%s" is out of range for type %s`, sqlstate.Excerpt(data), typeName(t))
}

func typeName(t oid.OID) string {
	if known := oid.ByOID(t); known != nil {
		return known.SQLName
	}
	return "unknown"
}

// cut shortens UTF-8 text to at most n bytes without splitting a character. A single character may
// be longer than n; then it is kept whole.
func cut(data []byte, n int) []byte {
	if len(data) <= n {
		return data
	}
	end := n
	for end > 0 && !utf8.RuneStart(data[end]) {
		end--
	}
	if end == 0 {
		_, end = utf8.DecodeRune(data)
	}
	return data[:end]
}

func textValue(data []byte) Value { return Value{Kind: Text, Bytes: data} }

func boolValue(b bool) Value {
	if b {
		return Value{Kind: Int, Int: 1}
	}
	return Value{Kind: Int}
}

// decodeLimited refuses text that is longer than its type allows, except for trailing spaces, which
// are cut as SQL has it.
func decodeLimited(t oid.OID, mod int32, data []byte) (Value, error) {
	limit := int(mod) - 4
	if mod < 4 || utf8.RuneCount(data) <= limit {
		return textValue(data), nil
	}
	kept := 0
	for range limit {
		_, n := utf8.DecodeRune(data[kept:])
		kept += n
	}
	if len(bytes.TrimRight(data[kept:], " ")) > 0 {
		return Value{}, sqlstate.New(sqlstate.StringTooLong, "value too long for type %s", oid.Format(t, mod))
	}
	return textValue(data[:kept]), nil
}
