package pgwire

import (
	"encoding/binary"

	"skein/internal/moment"
	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// Infinities of date's 32-bit binary form.
const (
	dateInfinity      = 1<<31 - 1
	dateMinusInfinity = -1 << 31
)

// decodeDatetime reads text of one of the five types as its stored form.
func decodeDatetime(t oid.OID, mod int32, data []byte, env *Env) (Value, error) {
	i, err := moment.Parse(t, data, env.reference())
	if err != nil {
		return Value{}, err
	}
	return storedMoment(t, mod, i), nil
}

func decodeDatetimeBinary(t oid.OID, mod int32, data []byte) (Value, error) {
	i, ok := momentFromBinary(t, data)
	if !ok {
		return Value{}, badBinary(t)
	}
	if !moment.InRange(t, i) {
		return Value{}, sqlstate.New(sqlstate.DatetimeOverflow, "%s out of range", typeName(t))
	}
	return storedMoment(t, mod, i), nil
}

func storedMoment(t oid.OID, mod int32, i moment.Instant) Value {
	if t != oid.Date {
		i.N = moment.Round(i.N, mod)
	}
	return textValue(moment.Append(make([]byte, 0, 32), t, i))
}

func appendDatetimeBinary(dst []byte, t oid.OID, stored []byte) ([]byte, error) {
	i, err := moment.ParseStored(t, stored)
	if err != nil {
		return dst, err
	}
	switch t {
	case oid.Date:
		switch i.N {
		case moment.Infinity:
			i.N = dateInfinity
		case moment.MinusInfinity:
			i.N = dateMinusInfinity
		}
		return binary.BigEndian.AppendUint32(dst, uint32(i.N)), nil
	case oid.TimeTZ:
		dst = binary.BigEndian.AppendUint64(dst, uint64(i.N))
		return binary.BigEndian.AppendUint32(dst, uint32(-i.Zone)), nil
	}
	return binary.BigEndian.AppendUint64(dst, uint64(i.N)), nil
}

func momentFromBinary(t oid.OID, data []byte) (moment.Instant, bool) {
	f := fields{rest: data}
	switch t {
	case oid.Date:
		days := int64(f.int32())
		switch days {
		case dateInfinity:
			days = moment.Infinity
		case dateMinusInfinity:
			days = moment.MinusInfinity
		}
		return moment.Instant{N: days}, f.done() == nil
	case oid.TimeTZ:
		i := moment.Instant{N: f.int64(), Zone: -int64(f.int32())}
		return i, f.done() == nil && i.Zone > -16*3600 && i.Zone < 16*3600
	}
	i := moment.Instant{N: f.int64()}
	return i, f.done() == nil
}

func (f *fields) int64() int64 {
	if b := f.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// intervalValue gives the stored form.
func intervalValue(i moment.Interval, err error) (Value, error) {
	if err != nil {
		return Value{}, err
	}
	return textValue(i.Append(nil)), nil
}

// appendInterval prints a stored interval in the session's style; it is stored in one of them.
func appendInterval(dst, stored []byte, env *Env) ([]byte, error) {
	if env == nil || env.IntervalStyle == "" || env.IntervalStyle == moment.Postgres {
		return append(dst, stored...), nil
	}
	i, err := moment.ParseInterval(stored)
	if err != nil {
		return dst, err
	}
	return i.AppendStyle(dst, env.IntervalStyle), nil
}

func appendIntervalBinary(dst, stored []byte) ([]byte, error) {
	i, err := moment.ParseInterval(stored)
	if err != nil {
		return dst, err
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(i.Micros))
	dst = binary.BigEndian.AppendUint32(dst, uint32(i.Days))
	return binary.BigEndian.AppendUint32(dst, uint32(i.Months)), nil
}

func intervalFromBinary(data []byte) (moment.Interval, error) {
	f := fields{rest: data}
	i := moment.Interval{Micros: f.int64(), Days: int64(f.int32()), Months: int64(f.int32())}
	if f.done() != nil {
		return i, badBinary(oid.Interval)
	}
	return i, nil
}
