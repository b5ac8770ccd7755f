package pgcatalog

import (
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/moment"
	"skein/internal/oid"
)

// momentKind says what a text value is, where types are only known by their spelling.
type momentKind int

const (
	noMoment momentKind = iota
	aNumber
	aDate
	aTimestamp
	anInterval
)

// temporal is a value of one of the date and time types, or a number beside one.
type temporal struct {
	kind    momentKind
	t       time.Time // the wall clock, in UTC
	span    interval
	number  float64
	special string // infinity or -infinity
}

// momentOf reads a value by its spelling: canonical dates and timestamps before intervals.
func momentOf(v sqlite3.Value) temporal {
	switch v.Type() {
	case sqlite3.INTEGER, sqlite3.FLOAT:
		return temporal{kind: aNumber, number: v.Float()}
	case sqlite3.TEXT:
		return momentOfText(v.Text())
	}
	return temporal{}
}

func momentOfText(s string) temporal {
	if looksDecimal(s) {
		f, _ := strconv.ParseFloat(s, 64)
		return temporal{kind: aNumber, number: f}
	}
	if strings.HasSuffix(s, "infinity") {
		return temporal{kind: aTimestamp, special: s}
	}
	if beginsWithYear(s) {
		if i, err := moment.Parse(oid.Timestamptz, []byte(s), moment.Reference{}); err == nil {
			kind := aTimestamp
			if !strings.Contains(s, ":") {
				kind = aDate
			}
			return temporal{kind: kind, t: i.Time()}
		}
	}
	if v, ok := parseInterval(s); ok {
		return temporal{kind: anInterval, span: v}
	}
	return temporal{}
}

// beginsWithYear tells a date or timestamp as it is stored from an interval.
func beginsWithYear(s string) bool {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n >= 4 && n < len(s) && s[n] == '-'
}

// localToUTC reads a wall clock in a zone.
func localToUTC(t time.Time, loc *time.Location) time.Time {
	if loc == time.UTC {
		return t
	}
	return moment.Instant{N: moment.ToUTC(loc, moment.At(t).N)}.Time()
}

// utcToLocal gives the wall clock of an instant in a zone, marked as UTC.
func utcToLocal(t time.Time, loc *time.Location) time.Time {
	_, offset := t.In(loc).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

func formatDate(t time.Time) string {
	return stored(oid.Date, moment.Instant{N: floorDiv64(moment.At(t).N, microsPerDay)})
}

func formatTime(t time.Time) string { return stored(oid.Time, moment.Instant{N: sinceMidnight(t)}) }

// formatTimestamp is the canonical text, which is also what PostgreSQL prints without a zone.
func formatTimestamp(t time.Time) string { return stored(oid.Timestamp, moment.At(t)) }

func stored(t oid.OID, i moment.Instant) string {
	var space [40]byte
	return string(moment.Append(space[:0], t, i))
}

// sinceMidnight is a wall clock's time of day in microseconds.
func sinceMidnight(t time.Time) int64 {
	return int64(t.Hour()*3600+t.Minute()*60+t.Second())*microsPerSecond + int64(t.Nanosecond()/1000)
}
