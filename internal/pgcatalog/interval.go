package pgcatalog

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// interval is PostgreSQL's: three parts that do not carry into each other.
type interval struct {
	months, days int64
	micros       int64
}

const (
	microsPerSecond = int64(1000000)
	microsPerDay    = 24 * 60 * 60 * microsPerSecond
)

// unit is what one of a unit word is worth.
type unit struct {
	months, days float64
	micros       float64
}

// unitOf reads a unit word such as "days", "hr" or "mon"; false for anything else.
func unitOf(word string) (unit, bool) {
	w := strings.ToLower(word)
	if len(w) > 1 {
		w = strings.TrimSuffix(w, "s")
	}
	switch w {
	case "microsecond", "usec", "us", "u":
		return unit{micros: 1}, true
	case "millisecond", "msec", "ms":
		return unit{micros: 1e3}, true
	case "second", "sec", "s", "":
		return unit{micros: 1e6}, true
	case "minute", "min", "m":
		return unit{micros: 60e6}, true
	case "hour", "hr", "h":
		return unit{micros: 3600e6}, true
	case "day", "d":
		return unit{days: 1}, true
	case "week", "w":
		return unit{days: 7}, true
	case "month", "mon":
		return unit{months: 1}, true
	case "year", "yr", "y":
		return unit{months: 12}, true
	case "decade", "dec":
		return unit{months: 120}, true
	case "century", "centurie", "cent", "c":
		return unit{months: 1200}, true
	case "millennium", "millennia", "mil":
		return unit{months: 12000}, true
	}
	return unit{}, false
}

// parseInterval reads "1 day 02:00:00", "3 hours ago", "1-2", "P1DT2H" and the like.
func parseInterval(s string) (interval, bool) {
	t := strings.TrimSpace(s)
	if t == "" || len(t) > 200 {
		return interval{}, false
	}
	if t[0] == 'P' || strings.HasPrefix(t, "-P") {
		return parseISOInterval(t)
	}
	var v interval
	words := strings.Fields(splitUnits(t))
	ago := false
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case strings.EqualFold(w, "ago") && i == len(words)-1:
			ago = true
		case w == "@" && i == 0:
		case strings.Contains(w, ":"):
			micros, ok := parseClock(w)
			if !ok {
				return interval{}, false
			}
			v.micros += micros
		case isYearMonth(w):
			years, months, _ := strings.Cut(strings.TrimLeft(w, "+-"), "-")
			y, _ := strconv.ParseInt(years, 10, 32)
			m, _ := strconv.ParseInt(months, 10, 32)
			if w[0] == '-' {
				y, m = -y, -m
			}
			v.months += y*12 + m
		default:
			n, ok := parseQuantity(w)
			if !ok {
				return interval{}, false
			}
			u := unit{micros: 1e6}
			if i+1 < len(words) {
				if next, isUnit := unitOf(words[i+1]); isUnit {
					u = next
					i++
				} else if strings.Contains(words[i+1], ":") {
					u = unit{days: 1}
				} else {
					return interval{}, false
				}
			}
			v.addQuantity(n, u)
		}
	}
	if ago {
		v = v.scale(-1)
	}
	return v, true
}

// splitUnits puts a space between a number and a unit written together: "2h" is "2 h".
func splitUnits(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i > 0 && isDigit(s[i-1]) && isLetter(s[i]) || i > 0 && isLetter(s[i-1]) && (isDigit(s[i]) || s[i] == '-' || s[i] == '+') {
			b.WriteByte(' ')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isYearMonth(w string) bool {
	years, months, ok := strings.Cut(strings.TrimLeft(w, "+-"), "-")
	return ok && allDigits(years) && allDigits(months) && len(years) < 9 && len(months) < 3
}

func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

func parseQuantity(w string) (float64, bool) {
	if !looksDecimal(w) {
		return 0, false
	}
	f, err := strconv.ParseFloat(w, 64)
	return f, err == nil && math.Abs(f) < 1e15
}

// addQuantity adds n units; what is left of a fraction goes to the next smaller part.
func (v *interval) addQuantity(n float64, u unit) {
	months := n * u.months
	whole := math.Trunc(months)
	v.months += int64(whole)
	days := n*u.days + (months-whole)*30
	wholeDays := math.Trunc(days)
	v.days += int64(wholeDays)
	v.micros += int64(math.RoundToEven(n*u.micros + (days-wholeDays)*float64(microsPerDay)))
}

// parseClock reads [-]h:mm[:ss[.ffffff]].
func parseClock(w string) (int64, bool) {
	negative := strings.HasPrefix(w, "-")
	parts := strings.Split(strings.TrimLeft(w, "+-"), ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, false
	}
	h, errH := strconv.ParseInt(parts[0], 10, 32)
	m, errM := strconv.ParseInt(parts[1], 10, 32)
	s := 0.0
	var errS error
	if len(parts) == 3 {
		s, errS = strconv.ParseFloat(parts[2], 64)
	}
	if errH != nil || errM != nil || errS != nil || m < 0 || m > 59 || !(s >= 0 && s < 61) {
		return 0, false
	}
	micros := (h*60+m)*60*microsPerSecond + int64(math.RoundToEven(s*1e6))
	if negative {
		micros = -micros
	}
	return micros, true
}

// parseISOInterval reads ISO 8601's P1Y2M3DT4H5M6S.
func parseISOInterval(s string) (interval, bool) {
	sign := 1.0
	if s[0] == '-' {
		sign, s = -1, s[1:]
	}
	var v interval
	inTime := false
	number := ""
	for i := 1; i < len(s); i++ {
		c := s[i]
		if isDigit(c) || c == '.' || c == '-' || c == '+' {
			number += string(c)
			continue
		}
		if c == 'T' && number == "" {
			inTime = true
			continue
		}
		u, ok := unitOf(string(c))
		if c == 'M' && !inTime {
			u = unit{months: 1}
		}
		n, okN := parseQuantity(number)
		if !ok || !okN {
			return interval{}, false
		}
		v.addQuantity(sign*n, u)
		number = ""
	}
	return v, number == "" && len(s) > 1
}

// scale multiplies an interval; fractions of months become days, those of days time.
func (v interval) scale(f float64) interval {
	if f == -1 {
		return interval{-v.months, -v.days, -v.micros}
	}
	var r interval
	r.addQuantity(f, unit{months: float64(v.months), days: float64(v.days), micros: float64(v.micros)})
	return r
}

func (v interval) add(w interval) interval {
	return interval{v.months + w.months, v.days + w.days, v.micros + w.micros}
}

// String is PostgreSQL's output in IntervalStyle postgres: "1 year 2 mons 3 days 04:05:06".
func (v interval) String() string {
	var parts []string
	// PostgreSQL writes a plus where a negative part came before.
	negative := false
	part := func(n int64, one, many string) {
		if n == 0 {
			return
		}
		word := many
		if n == 1 {
			word = one
		}
		plus := ""
		if negative && n > 0 {
			plus = "+"
		}
		negative = n < 0
		parts = append(parts, plus+strconv.FormatInt(n, 10)+" "+word)
	}
	part(v.months/12, "year", "years")
	part(v.months%12, "mon", "mons")
	part(v.days, "day", "days")
	if v.micros != 0 || len(parts) == 0 {
		sign := ""
		if v.micros < 0 {
			sign = "-"
		} else if negative {
			sign = "+"
		}
		parts = append(parts, sign+clock(v.micros))
	}
	return strings.Join(parts, " ")
}

// clock spells the absolute value of micros as hh:mm:ss[.ffffff].
func clock(micros int64) string {
	u := uint64(micros)
	if micros < 0 {
		u = -u
	}
	seconds := u / 1000000
	return fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60) + fraction(int64(u%1000000))
}

// fraction spells microseconds as ".25", or as nothing when there are none.
func fraction(micros int64) string {
	if micros == 0 {
		return ""
	}
	return "." + strings.TrimRight(fmt.Sprintf("%06d", micros), "0")
}

// seconds is the interval's length as EXTRACT(EPOCH) counts it: a month is 30 days, a year 365.25.
func (v interval) seconds() float64 {
	years, months := v.months/12, v.months%12
	return float64(v.micros)/1e6 + 86400*(float64(v.days)+30*float64(months)+365.25*float64(years))
}

// addTo moves a point of time: months first, clipped to the month's end, then days, then time.
func (v interval) addTo(t time.Time) time.Time {
	if v.months != 0 {
		y, m, d := t.Date()
		total := int64(y)*12 + int64(m) - 1 + v.months
		year, month := floorDiv(int(total), 12), int(total)-12*floorDiv(int(total), 12)
		if last := daysIn(year, month+1); d > last {
			d = last
		}
		t = time.Date(year, time.Month(month+1), d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	}
	t = t.AddDate(0, 0, int(min(max(v.days, -1e9), 1e9)))
	return time.UnixMicro(t.UnixMicro() + v.micros).UTC()
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// between is b - a in days and time, as PostgreSQL subtracts timestamps.
func between(a, b time.Time) interval {
	d := b.UnixMicro() - a.UnixMicro()
	return interval{days: d / microsPerDay, micros: d % microsPerDay}
}

// intervalOp computes on dates, timestamps and intervals; done is false when the operands are not
// such, so that the caller can say so in its own words.
func (c *call) intervalOp(op byte, a, b sqlite3.Value) (done bool, err error) {
	x, y := momentOf(a), momentOf(b)
	switch {
	case x.kind == noMoment && y.kind == noMoment:
		return false, nil
	case x.special != "" || y.special != "":
		return true, c.returnText(x.special + y.special)
	}
	var r string
	switch {
	case op == '+' && x.kind == anInterval && y.kind != anInterval:
		r = addMoment(y, x, 1)
	case op == '+':
		r = addMoment(x, y, 1)
	case op == '-' && x.kind == y.kind:
		r = subtractMoments(x, y)
	case op == '-' && isPoint(x.kind) && isPoint(y.kind):
		r = between(y.t, x.t).String()
	case op == '-':
		r = addMoment(x, y, -1)
	case op == '*' || op == '/':
		r = scaleMoment(op, x, y)
	}
	if r == "" {
		return false, nil
	}
	if n, err := strconv.ParseInt(r, 10, 64); err == nil {
		return true, c.returnInt(n)
	}
	return true, c.returnText(r)
}

func isPoint(k momentKind) bool { return k == aDate || k == aTimestamp }

// addMoment gives "" when the kinds do not go together.
func addMoment(x, y temporal, sign float64) string {
	switch {
	case x.kind == aDate && y.kind == aNumber:
		return formatDate(x.t.AddDate(0, 0, int(sign*y.number)))
	case x.kind == aNumber && y.kind == aDate && sign > 0:
		return formatDate(y.t.AddDate(0, 0, int(x.number)))
	case isPoint(x.kind) && y.kind == anInterval:
		return formatTimestamp(y.span.scale(sign).addTo(x.t))
	case x.kind == anInterval && y.kind == anInterval:
		return x.span.add(y.span.scale(sign)).String()
	}
	return ""
}

func subtractMoments(x, y temporal) string {
	switch x.kind {
	case aDate:
		return strconv.FormatInt((x.t.Unix()-y.t.Unix())/86400, 10)
	case aTimestamp:
		return between(y.t, x.t).String()
	case anInterval:
		return x.span.add(y.span.scale(-1)).String()
	}
	return ""
}

func scaleMoment(op byte, x, y temporal) string {
	switch {
	case x.kind == anInterval && y.kind == aNumber && op == '*':
		return x.span.scale(y.number).String()
	case x.kind == aNumber && y.kind == anInterval && op == '*':
		return y.span.scale(x.number).String()
	case x.kind == anInterval && y.kind == aNumber && y.number != 0:
		return x.span.scale(1 / y.number).String()
	}
	return ""
}

// age is the difference in years, months and days as a person counts it: each part by itself, and
// what is missing borrowed from the next, a month having the days of the earlier date's.
func age(a, b time.Time) interval {
	if a.Before(b) {
		return age(b, a).scale(-1)
	}
	midnight := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC) }
	v := interval{
		months: int64(a.Year()-b.Year())*12 + int64(a.Month()-b.Month()),
		days:   int64(a.Day() - b.Day()),
		micros: a.Sub(midnight(a)).Microseconds() - b.Sub(midnight(b)).Microseconds(),
	}
	if v.micros < 0 {
		v.micros += microsPerDay
		v.days--
	}
	if v.days < 0 {
		v.days += int64(daysIn(b.Year(), int(b.Month())))
		v.months--
	}
	return v
}

func intervalError(s string) error {
	return sqlstate.New(sqlstate.InvalidDatetimeFormat, "invalid input syntax for type interval: \"%s\"", s)
}
