package moment

import (
	"math"
	"strconv"
	"time"
)

// Times are counted as in PostgreSQL's binary forms: days and microseconds since 2000-01-01, with
// the extreme numbers for the infinities. Days are those of the Gregorian calendar, extended
// backwards; year 0 is 1 BC.
const (
	microsPerSecond = 1_000_000
	microsPerMinute = 60 * microsPerSecond
	microsPerHour   = 60 * microsPerMinute
	microsPerDay    = 24 * microsPerHour

	Infinity      = math.MaxInt64
	MinusInfinity = math.MinInt64

	unixOfEpoch = 946_684_800 // 2000-01-01 in Unix seconds

	// PostgreSQL's range: 4714-11-24 BC to the ends of 5874897 (date) and of 294276 (timestamp).
	firstDay     = -2_451_545
	lastDay      = 2_145_031_948
	endTimestamp = 9_223_371_331_200_000_000

	daysTo20000301 = 60
	daysPerEra     = 146_097
	yearsPerEra    = 400
)

// dayNumber counts days since 2000-01-01, by the era method of H. Hinnant's "chrono-compatible
// low-level date algorithms": years begin in March, so that the leap day is the last.
func dayNumber(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	year -= 2000
	era := floorDiv(year, yearsPerEra)
	yearOfEra := year - era*yearsPerEra
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return era*daysPerEra + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear + daysTo20000301
}

// civil is dayNumber's inverse.
func civil(days int64) (year, month, day int64) {
	days -= daysTo20000301
	era := floorDiv(days, daysPerEra)
	dayOfEra := days - era*daysPerEra
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	shifted := (5*dayOfYear + 2) / 153
	day = dayOfYear - (153*shifted+2)/5 + 1
	year, month = 2000+era*yearsPerEra+yearOfEra, shifted+3
	if month > 12 {
		year, month = year+1, month-12
	}
	return year, month, day
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func daysInMonth(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// offsetAt is a zone's distance from UTC, in seconds east, at an instant.
func offsetAt(zone *time.Location, micros int64) int64 {
	_, offset := time.Unix(floorDiv(micros, microsPerSecond)+unixOfEpoch, 0).In(zone).Zone()
	return int64(offset)
}

// ToUTC finds the instant of a local time. Of a time that a zone's clocks show twice it takes the
// second, and one that they skip it reads by the clock before the jump, as PostgreSQL does.
func ToUTC(zone *time.Location, local int64) int64 {
	if zone == time.UTC {
		return local
	}
	before := local - offsetAt(zone, local-microsPerDay)*microsPerSecond
	after := local - offsetAt(zone, local+microsPerDay)*microsPerSecond
	if before == after {
		return before
	}
	fits := func(utc int64) bool { return utc+offsetAt(zone, utc)*microsPerSecond == local }
	if fits(after) || !fits(before) && before < after {
		return after
	}
	return before
}

// appendDate appends YYYY-MM-DD and reports whether " BC" must follow what else is appended.
func appendDate(dst []byte, days int64) (text []byte, bc bool) {
	year, month, day := civil(days)
	if bc = year <= 0; bc {
		year = 1 - year
	}
	dst = appendPadded(dst, year, 4)
	dst = appendPadded(append(dst, '-'), month, 2)
	return appendPadded(append(dst, '-'), day, 2), bc
}

// appendClock appends HH:MM:SS and the fraction without trailing zeros.
func appendClock(dst []byte, micros int64) []byte {
	dst = appendPadded(dst, micros/microsPerHour, 2)
	dst = appendPadded(append(dst, ':'), micros/microsPerMinute%60, 2)
	dst = appendPadded(append(dst, ':'), micros/microsPerSecond%60, 2)
	return appendFraction(dst, micros%microsPerSecond)
}

func appendFraction(dst []byte, micros int64) []byte {
	if micros == 0 {
		return dst
	}
	dst = appendPadded(append(dst, '.'), micros, 6)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendOffset appends +HH, and minutes and seconds where they are not zero.
func appendOffset(dst []byte, seconds int64) []byte {
	sign := byte('+')
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	dst = appendPadded(append(dst, sign), seconds/3600, 2)
	if seconds%3600 != 0 {
		dst = appendPadded(append(dst, ':'), seconds/60%60, 2)
	}
	if seconds%60 != 0 {
		dst = appendPadded(append(dst, ':'), seconds%60, 2)
	}
	return dst
}

func appendPadded(dst []byte, n int64, width int) []byte {
	digits := 1
	for rest := n; rest >= 10; rest /= 10 {
		digits++
	}
	for ; digits < width; digits++ {
		dst = append(dst, '0')
	}
	return appendInt(dst, n)
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
