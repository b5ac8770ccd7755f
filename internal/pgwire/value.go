package pgwire

import (
	"time"

	"skein/internal/oid"
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
	ExtraFloatDigits int            // PostgreSQL's meaning less one: 0 and above print the shortest exact text
	ByteaOutput      string         // "escape", or anything else for hex
	Now              time.Time      // what 'now' and 'today' mean in input; zero is the clock
}

// Append appends v as the wire bytes of type t, without a length. v must not be Null.
//
// A stored value need not be of the class its column promises: see the package's rules in classes.go.
func Append(dst []byte, t oid.OID, format int16, v Value, env *Env) ([]byte, error) {
	return dst, nil
}

// Decode reads a wire parameter of type t as the value that is stored for it. data nil is NULL. The
// result may share memory with data.
func Decode(t oid.OID, mod int32, format int16, data []byte, env *Env) (Value, error) {
	return Value{}, nil
}
