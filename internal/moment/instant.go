// Package moment is PostgreSQL's dates, times and intervals: how their text is read, what is stored
// for it, and how that is printed. It knows no session, no wire and no SQLite.
package moment

import (
	"bytes"
	"strings"
	"time"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// Instant is a date or time of any of the five types, in the units of its binary form: days for
// date, microseconds otherwise; Infinity and MinusInfinity stand for themselves. Zone is what a
// timetz carries, in seconds east.
type Instant struct {
	N    int64
	Zone int64
}

// At is a time as a timestamp.
func At(t time.Time) Instant {
	return Instant{N: (t.Unix()-unixOfEpoch)*microsPerSecond + int64(t.Nanosecond()/1000)}
}

// Time is a timestamp as a time in UTC. Infinities have none.
func (i Instant) Time() time.Time {
	seconds := floorDiv(i.N, microsPerSecond)
	return time.Unix(seconds+unixOfEpoch, (i.N-seconds*microsPerSecond)*1000).UTC()
}

// Finite says that an instant is neither of the infinities.
func (i Instant) Finite() bool { return i.N != Infinity && i.N != MinusInfinity }

// Reference is what a text may mean something relative to. The zero value is UTC and the clock.
type Reference struct {
	Zone *time.Location // of a time that names none; nil is UTC
	Now  time.Time      // what 'now' and 'today' mean; zero is the clock
}

func (r Reference) zone() *time.Location {
	if r.Zone == nil {
		return time.UTC
	}
	return r.Zone
}

func (r Reference) now() time.Time {
	if r.Now.IsZero() {
		return time.Now().In(r.zone())
	}
	return r.Now.In(r.zone())
}

// inputName is what PostgreSQL's messages about input call a type.
func inputName(t oid.OID) string {
	return strings.TrimSuffix(oid.ByOID(t).SQLName, " without time zone")
}

func badDatetime(t oid.OID, data []byte) *sqlstate.Error {
	return sqlstate.New(sqlstate.InvalidDatetimeFormat, `invalid input syntax for type %s: "%s"`, inputName(t), sqlstate.Excerpt(data))
}

func datetimeOverflow(data []byte) *sqlstate.Error {
	return sqlstate.New(sqlstate.DatetimeOverflow, `date/time field value out of range: "%s"`, sqlstate.Excerpt(data))
}

// Round rounds to the number of fractional digits that a type modifier allows, half away from 2000-01-01
// as PostgreSQL does.
func Round(micros int64, mod int32) int64 {
	if mod < 0 || mod >= 6 || micros == Infinity || micros == MinusInfinity {
		return micros
	}
	unit := int64(1)
	for range 6 - mod {
		unit *= 10
	}
	if micros < 0 {
		return -(-micros + unit/2) / unit * unit
	}
	return (micros + unit/2) / unit * unit
}

// Append appends the canonical text; a timestamptz is UTC and carries no zone.
func Append(dst []byte, t oid.OID, i Instant) []byte {
	switch {
	case i.N == Infinity:
		return append(dst, "infinity"...)
	case i.N == MinusInfinity:
		return append(dst, "-infinity"...)
	case t == oid.Time:
		return appendClock(dst, i.N)
	case t == oid.TimeTZ:
		return appendOffset(appendClock(dst, i.N), i.Zone)
	case t == oid.Date:
		dst, bc := appendDate(dst, i.N)
		return appendEra(dst, bc)
	}
	return appendTimestamp(dst, i.N)
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

// AppendText prints what is stored as PostgreSQL does with DateStyle ISO; a timestamptz is
// shown in a zone.
func AppendText(dst []byte, t oid.OID, stored []byte, zone *time.Location) ([]byte, error) {
	i, err := ParseStored(t, stored)
	if err != nil {
		return dst, err
	}
	if t != oid.Timestamptz || !i.Finite() {
		return Append(dst, t, i), nil
	}
	return AppendIn(dst, i, zone), nil
}

// AppendIn appends a timestamptz as a zone's clocks show it.
func AppendIn(dst []byte, i Instant, zone *time.Location) []byte {
	offset := offsetAt(zone, i.N)
	local := i.N + offset*microsPerSecond
	days := floorDiv(local, microsPerDay)
	dst, bc := appendDate(dst, days)
	dst = appendOffset(appendClock(append(dst, ' '), local-days*microsPerDay), offset)
	return appendEra(dst, bc)
}

// ParseStored reads what is stored: the canonical form at once, another form that a statement may
// have left as PostgreSQL would read it in UTC.
func ParseStored(t oid.OID, stored []byte) (Instant, error) {
	if n, ok := parseCanonical(t, stored); ok {
		return Instant{N: n}, nil
	}
	return Parse(t, stored, Reference{})
}

// parseCanonical reads what Append has written, but for timetz, infinities and years before 1
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

// parseISO reads YYYY-MM-DD, a T or a space, HH:MM:SS[.ffffff] and Z, ±HH or ±HH:MM, as most drivers send
// a timestamp.
func parseISO(t oid.OID, s []byte) (local, offset int64, ok bool) {
	const clock = len("YYYY-MM-DD ")
	if t != oid.Timestamp && t != oid.Timestamptz || len(s) < len("YYYY-MM-DD HH:MM:SSZ") || s[clock-1] != 'T' && s[clock-1] != ' ' {
		return 0, 0, false
	}
	mark := bytes.IndexAny(s[clock:], "Z+-") + clock
	if mark < clock {
		return 0, 0, false
	}
	days, ok1 := parseCanonical(oid.Date, s[:clock-1])
	micros, ok2 := parseCanonicalClock(s[clock:mark])
	offset, ok3 := parseISOZone(s[mark:])
	return days*microsPerDay + micros, offset, ok1 && ok2 && ok3
}

// parseISOZone gives seconds east.
func parseISOZone(s []byte) (int64, bool) {
	if s[0] == 'Z' {
		return 0, len(s) == 1
	}
	minutes := int64(0)
	if len(s) == len("+HH:MM") && s[3] == ':' {
		var ok bool
		if minutes, ok = number(s[4:]); !ok || minutes > 59 {
			return 0, false
		}
		s = s[:3]
	}
	if len(s) != len("+HH") {
		return 0, false
	}
	hours, ok := number(s[1:])
	seconds := hours*3600 + minutes*60
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, ok && hours <= 15
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

// InRange says whether a type holds an instant.
func InRange(t oid.OID, i Instant) bool {
	switch {
	case t == oid.Time || t == oid.TimeTZ:
		return i.N >= 0 && i.N <= microsPerDay
	case i.N == Infinity || i.N == MinusInfinity:
		return true
	case t == oid.Date:
		return i.N >= firstDay && i.N <= lastDay
	}
	return i.N >= firstDay*microsPerDay && i.N < endTimestamp
}

// Parse reads text in the forms that PostgreSQL accepts, relative to a session's time zone.
func Parse(t oid.OID, data []byte, at Reference) (Instant, error) {
	if n, ok := parseCanonical(t, data); ok {
		if t == oid.Timestamptz {
			n = ToUTC(at.zone(), n)
		}
		return Instant{N: n}, nil
	}
	if local, offset, ok := parseISO(t, data); ok {
		if t == oid.Timestamptz {
			local -= offset * microsPerSecond
		}
		return Instant{N: local}, nil
	}
	return parseAny(t, data, at)
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return true
}
