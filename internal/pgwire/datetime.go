package pgwire

import (
	"bytes"
	"encoding/binary"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// instant is a date or time of any of the five types, in the units of its binary form: days for
// date, microseconds otherwise; infinity and minusInfinity stand for themselves. zone is what a
// timetz carries, in seconds east.
type instant struct {
	n    int64
	zone int64
}

// Infinities of date's 32-bit binary form.
const (
	dateInfinity      = 1<<31 - 1
	dateMinusInfinity = -1 << 31
)

func badDatetime(t oid.OID, data []byte) *sqlstate.Error {
	return sqlstate.New(sqlstate.InvalidDatetimeFormat, `invalid input syntax for type %s: "%s"`, typeName(t), excerpt(data))
}

func datetimeOverflow(data []byte) *sqlstate.Error {
	return sqlstate.New(sqlstate.DatetimeOverflow, `date/time field value out of range: "%s"`, excerpt(data))
}

// decodeDatetime reads text of one of the five types as its stored form.
func decodeDatetime(t oid.OID, mod int32, data []byte, env *Env) (Value, error) {
	i, err := parseInstant(t, data, env)
	if err != nil {
		return Value{}, err
	}
	return storedInstant(t, mod, i), nil
}

func decodeDatetimeBinary(t oid.OID, mod int32, data []byte) (Value, error) {
	i, ok := parseInstantBinary(t, data)
	if !ok {
		return Value{}, badBinary(t)
	}
	if !inRange(t, i) {
		return Value{}, sqlstate.New(sqlstate.DatetimeOverflow, "%s out of range", typeName(t))
	}
	return storedInstant(t, mod, i), nil
}

func storedInstant(t oid.OID, mod int32, i instant) Value {
	if t != oid.Date {
		i.n = roundMicros(i.n, mod)
	}
	return textValue(appendStored(make([]byte, 0, 32), t, i))
}

// roundMicros rounds to the number of fractional digits that a type modifier allows.
func roundMicros(micros int64, mod int32) int64 {
	if mod < 0 || mod >= 6 || micros == infinity || micros == minusInfinity {
		return micros
	}
	unit := int64(1)
	for range 6 - mod {
		unit *= 10
	}
	return floorDiv(micros+unit/2, unit) * unit
}

// appendStored appends the canonical text; a timestamptz is UTC and carries no zone.
func appendStored(dst []byte, t oid.OID, i instant) []byte {
	switch {
	case i.n == infinity:
		return append(dst, "infinity"...)
	case i.n == minusInfinity:
		return append(dst, "-infinity"...)
	case t == oid.Time:
		return appendClock(dst, i.n)
	case t == oid.TimeTZ:
		return appendOffset(appendClock(dst, i.n), i.zone)
	case t == oid.Date:
		dst, bc := appendDate(dst, i.n)
		return appendEra(dst, bc)
	}
	return appendTimestamp(dst, i.n)
}

func appendTimestamp(dst []byte, micros int64) []byte {
	days := floorDiv(micros, microsPerDay)
	dst, bc := appendDate(dst, days)
	return appendEra(appendClock(append(dst, ' '), micros-days*microsPerDay), bc)
}

func appendEra(dst []byte, bc bool) []byte {
	if bc {
		return append(dst, " BC"...)
	}
	return dst
}

// appendDatetimeText prints what is stored as PostgreSQL does with DateStyle ISO; a timestamptz is
// shown in the session's time zone.
func appendDatetimeText(dst []byte, t oid.OID, stored []byte, env *Env) ([]byte, error) {
	i, err := parseStored(t, stored)
	if err != nil {
		return dst, err
	}
	if t != oid.Timestamptz || i.n == infinity || i.n == minusInfinity {
		return appendStored(dst, t, i), nil
	}
	offset := offsetAt(env.zone(), i.n)
	local := i.n + offset*microsPerSecond
	days := floorDiv(local, microsPerDay)
	dst, bc := appendDate(dst, days)
	dst = appendOffset(appendClock(append(dst, ' '), local-days*microsPerDay), offset)
	return appendEra(dst, bc), nil
}

func appendDatetimeBinary(dst []byte, t oid.OID, stored []byte) ([]byte, error) {
	i, err := parseStored(t, stored)
	if err != nil {
		return dst, err
	}
	switch t {
	case oid.Date:
		switch i.n {
		case infinity:
			i.n = dateInfinity
		case minusInfinity:
			i.n = dateMinusInfinity
		}
		return binary.BigEndian.AppendUint32(dst, uint32(i.n)), nil
	case oid.TimeTZ:
		dst = binary.BigEndian.AppendUint64(dst, uint64(i.n))
		return binary.BigEndian.AppendUint32(dst, uint32(-i.zone)), nil
	}
	return binary.BigEndian.AppendUint64(dst, uint64(i.n)), nil
}

// parseStored reads what is stored: the canonical form at once, another form that a statement may
// have left as PostgreSQL would read it in UTC.
func parseStored(t oid.OID, stored []byte) (instant, error) {
	if n, ok := parseCanonical(t, stored); ok {
		return instant{n: n}, nil
	}
	return parseInstant(t, stored, nil)
}

// parseCanonical reads what appendStored has written, but for timetz, infinities and years before 1
// or after 9999.
func parseCanonical(t oid.OID, s []byte) (int64, bool) {
	if t == oid.Time {
		return parseCanonicalClock(s)
	}
	if t == oid.TimeTZ || len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	year, ok1 := number(s[:4])
	month, ok2 := number(s[5:7])
	day, ok3 := number(s[8:10])
	if !ok1 || !ok2 || !ok3 || year < 1 || month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month) {
		return 0, false
	}
	days := dayNumber(year, month, day)
	switch {
	case t == oid.Date:
		return days, len(s) == 10
	case len(s) == 10:
		return days * microsPerDay, true
	case s[10] != ' ':
		return 0, false
	}
	micros, ok := parseCanonicalClock(s[11:])
	return days*microsPerDay + micros, ok
}

// parseCanonicalClock reads HH:MM:SS[.ffffff].
func parseCanonicalClock(s []byte) (int64, bool) {
	if len(s) < 8 || s[2] != ':' || s[5] != ':' {
		return 0, false
	}
	hour, ok1 := number(s[:2])
	minute, ok2 := number(s[3:5])
	second, ok3 := number(s[6:8])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	micros := hour*microsPerHour + minute*microsPerMinute + second*microsPerSecond
	fraction := s[8:]
	if len(fraction) == 0 {
		return micros, true
	}
	if fraction[0] != '.' || len(fraction) == 1 || len(fraction) > 7 || !allDigits(fraction[1:]) {
		return 0, false
	}
	return micros + fractionMicros(fraction[1:]), true
}

func number(digits []byte) (int64, bool) {
	var n int64
	if len(digits) == 0 || len(digits) > 18 || !allDigits(digits) {
		return 0, false
	}
	for _, d := range digits {
		n = n*10 + int64(d-'0')
	}
	return n, true
}

// fractionMicros reads the digits after the point as microseconds, rounded.
func fractionMicros(digits []byte) int64 {
	var n int64
	for i := range 6 {
		n *= 10
		if i < len(digits) {
			n += int64(digits[i] - '0')
		}
	}
	if len(digits) > 6 && digits[6] >= '5' {
		n++
	}
	return n
}

func parseInstantBinary(t oid.OID, data []byte) (instant, bool) {
	f := fields{rest: data}
	switch t {
	case oid.Date:
		days := int64(f.int32())
		switch days {
		case dateInfinity:
			days = infinity
		case dateMinusInfinity:
			days = minusInfinity
		}
		return instant{n: days}, f.done() == nil
	case oid.TimeTZ:
		i := instant{n: f.int64(), zone: -int64(f.int32())}
		return i, f.done() == nil && i.zone > -16*3600 && i.zone < 16*3600
	}
	i := instant{n: f.int64()}
	return i, f.done() == nil
}

func inRange(t oid.OID, i instant) bool {
	switch {
	case t == oid.Time || t == oid.TimeTZ:
		return i.n >= 0 && i.n <= microsPerDay
	case i.n == infinity || i.n == minusInfinity:
		return true
	case t == oid.Date:
		return i.n >= firstDay && i.n <= lastDay
	}
	return i.n >= firstDay*microsPerDay && i.n < endTimestamp
}

func (f *fields) int64() int64 {
	if b := f.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// parseInstant reads text in the forms that PostgreSQL accepts, relative to a session's time zone.
func parseInstant(t oid.OID, data []byte, env *Env) (instant, error) {
	p := datetimeParser{rest: bytes.TrimSpace(data), timeOnly: t == oid.Time || t == oid.TimeTZ}
	if err := p.parse(); err != nil {
		return instant{}, p.failure(err, t, data)
	}
	i, err := p.instant(t, env)
	if err != nil {
		return i, p.failure(err, t, data)
	}
	if !inRange(t, i) {
		return i, sqlstate.New(sqlstate.DatetimeOverflow, `%s out of range: "%s"`, typeName(t), excerpt(data))
	}
	return i, nil
}
