package moment

import "strconv"

// The values of IntervalStyle. Postgres is the form in which intervals are stored.
const (
	Postgres        = "postgres"
	PostgresVerbose = "postgres_verbose"
	SQLStandard     = "sql_standard"
	ISO8601         = "iso_8601"
)

// AppendStyle prints an interval as an IntervalStyle says; another word than those above is postgres.
func (i Interval) AppendStyle(dst []byte, style string) []byte {
	switch style {
	case PostgresVerbose:
		return i.split().verbose(dst)
	case SQLStandard:
		return i.split().standard(dst)
	case ISO8601:
		return i.split().iso(dst)
	}
	return i.Append(dst)
}

// parts are an interval's fields as they are shown, each with its sign.
type parts struct{ years, months, days, hours, minutes, seconds, micros int64 }

func (i Interval) split() parts {
	return parts{
		i.Months / 12, i.Months % 12, i.Days,
		i.Micros / microsPerHour, i.Micros / microsPerMinute % 60, i.Micros / microsPerSecond % 60, i.Micros % microsPerSecond,
	}
}

func (p parts) negated() parts {
	return parts{-p.years, -p.months, -p.days, -p.hours, -p.minutes, -p.seconds, -p.micros}
}

func magnitude(n int64) int64 { return max(n, -n) }

// clocked says whether there is a time of day, and what its sign is.
func (p parts) clocked() (sign int64) {
	for _, n := range []int64{p.hours, p.minutes, p.seconds, p.micros} {
		if n != 0 {
			return n
		}
	}
	return 0
}

// iso prints P1Y2M-3DT4H5M6.7S.
func (p parts) iso(dst []byte) []byte {
	if p == (parts{}) {
		return append(dst, "PT0S"...)
	}
	count := func(n int64, unit byte) {
		if n != 0 {
			dst = append(strconv.AppendInt(dst, n, 10), unit)
		}
	}
	dst = append(dst, 'P')
	count(p.years, 'Y')
	count(p.months, 'M')
	count(p.days, 'D')
	if p.clocked() == 0 {
		return dst
	}
	dst = append(dst, 'T')
	count(p.hours, 'H')
	count(p.minutes, 'M')
	if p.seconds != 0 || p.micros != 0 {
		if p.seconds < 0 || p.micros < 0 {
			dst = append(dst, '-')
		}
		dst = appendFraction(strconv.AppendInt(dst, magnitude(p.seconds), 10), magnitude(p.micros))
		dst = append(dst, 'S')
	}
	return dst
}

// verbose prints @ 1 year 2 mons -3 days 4 hours ago: the first field's sign is that of all, and others are as seen from it.
func (p parts) verbose(dst []byte) []byte {
	dst = append(dst, '@')
	ago, some := false, false
	sign := func(n int64) int64 {
		if !some {
			ago, some = n < 0, true
		}
		if ago {
			return -n
		}
		return n
	}
	for _, f := range []struct {
		n    int64
		unit string
	}{{p.years, "year"}, {p.months, "mon"}, {p.days, "day"}, {p.hours, "hour"}, {p.minutes, "min"}} {
		if f.n == 0 {
			continue
		}
		n := sign(f.n)
		dst = append(strconv.AppendInt(append(dst, ' '), n, 10), ' ')
		if dst = append(dst, f.unit...); n != 1 {
			dst = append(dst, 's')
		}
	}
	if p.seconds != 0 || p.micros != 0 {
		n := sign(p.seconds*microsPerSecond + p.micros)
		if dst = append(dst, ' '); n < 0 {
			dst = append(dst, '-')
		}
		dst = appendFraction(strconv.AppendInt(dst, magnitude(p.seconds), 10), magnitude(p.micros))
		if dst = append(dst, " sec"...); magnitude(p.seconds) != 1 || p.micros != 0 {
			dst = append(dst, 's')
		}
	}
	switch {
	case !some:
		dst = append(dst, " 0"...)
	case ago:
		dst = append(dst, " ago"...)
	}
	return dst
}

// standard prints 1-2, or 3 4:05:06, or where signs or both kinds of fields meet +1-2 -3 +4:05:06.
func (p parts) standard(dst []byte) []byte {
	long, clock := p.years != 0 || p.months != 0, p.clocked()
	negative := p.years < 0 || p.months < 0 || p.days < 0 || clock < 0
	positive := p.years > 0 || p.months > 0 || p.days > 0 || clock > 0
	switch {
	case !negative && !positive:
		return append(dst, '0')
	case negative && positive, long && (p.days != 0 || clock != 0):
		signed := func(n int64, negative bool) {
			sign := byte('+')
			if negative {
				sign = '-'
			}
			dst = strconv.AppendInt(append(dst, sign), magnitude(n), 10)
		}
		signed(p.years, p.years < 0 || p.months < 0)
		dst = append(strconv.AppendInt(append(dst, '-'), magnitude(p.months), 10), ' ')
		signed(p.days, p.days < 0)
		dst = append(dst, ' ')
		signed(p.hours, clock < 0)
		return p.sexagesimal(dst)
	}
	if negative {
		dst, p = append(dst, '-'), p.negated()
	}
	if long {
		return strconv.AppendInt(append(strconv.AppendInt(dst, p.years, 10), '-'), p.months, 10)
	}
	if p.days != 0 {
		dst = append(strconv.AppendInt(dst, p.days, 10), ' ')
	}
	return p.sexagesimal(strconv.AppendInt(dst, p.hours, 10))
}

// sexagesimal appends the minutes and seconds after the hours.
func (p parts) sexagesimal(dst []byte) []byte {
	dst = appendPadded(append(dst, ':'), magnitude(p.minutes), 2)
	dst = appendPadded(append(dst, ':'), magnitude(p.seconds), 2)
	return appendFraction(dst, magnitude(p.micros))
}
