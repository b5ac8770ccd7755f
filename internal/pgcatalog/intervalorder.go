package pgcatalog

import (
	"bytes"
	"cmp"
)

// compareIntervals is the collation "interval": by length, a month being 30 days and a day 24 hours; anything else after them by bytes.
func compareIntervals(a, b []byte) int {
	x, isX := parseInterval(string(a))
	y, isY := parseInterval(string(b))
	switch {
	case isX && isY:
		daysX, microsX := x.length()
		daysY, microsY := y.length()
		return cmp.Or(cmp.Compare(daysX, daysY), cmp.Compare(microsX, microsY))
	case isX:
		return -1
	case isY:
		return 1
	}
	return bytes.Compare(a, b)
}

// length is the interval in days and what is left of one.
func (v interval) length() (days, micros int64) {
	days, micros = 30*v.months+v.days+v.micros/microsPerDay, v.micros%microsPerDay
	if micros < 0 {
		days, micros = days-1, micros+microsPerDay
	}
	return days, micros
}
