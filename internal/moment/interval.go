package moment

import (
	"bytes"
	"math"
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// Interval is PostgreSQL's: three counts that do not convert into each other.
type Interval struct {
	Months int64
	Days   int64
	Micros int64
}

func intervalOverflow() *sqlstate.Error {
	return sqlstate.New(sqlstate.DatetimeOverflow, "interval out of range")
}

// Append prints in PostgreSQL's style "postgres": 1 year 2 mons -3 days +04:05:06.
func (i Interval) Append(dst []byte) []byte {
	p := intervalPrinter{dst: dst, start: len(dst)}
	p.count(i.Months/12, "year")
	p.count(i.Months%12, "mon")
	p.count(i.Days, "day")
	if i.Micros != 0 || len(p.dst) == p.start {
		p.clock(i.Micros)
	}
	return p.dst
}

// intervalPrinter remembers whether the field before was negative: then a positive one needs a sign.
type intervalPrinter struct {
	dst      []byte
	start    int
	negative bool
}

func (p *intervalPrinter) sign(negative bool) {
	if len(p.dst) > p.start {
		p.dst = append(p.dst, ' ')
	}
	switch {
	case negative:
		p.dst = append(p.dst, '-')
	case p.negative:
		p.dst = append(p.dst, '+')
	}
	p.negative = negative
}

func (p *intervalPrinter) count(n int64, unit string) {
	if n == 0 {
		return
	}
	p.sign(n < 0)
	p.dst = append(append(appendInt(p.dst, max(n, -n)), ' '), unit...)
	if n != 1 {
		p.dst = append(p.dst, 's')
	}
}

func (p *intervalPrinter) clock(micros int64) {
	p.sign(micros < 0)
	if micros == math.MinInt64 { // has no positive counterpart
		p.dst = append(p.dst, "2562047788:00:54.775808"...)
		return
	}
	p.dst = appendClock(p.dst, max(micros, -micros))
}

// intervalUnits are the words for what a number counts, singular; plurals and abbreviations are
// resolved by unitOf.
var intervalUnits = map[string]Interval{
	"microsecond": {Micros: 1},
	"millisecond": {Micros: 1000},
	"second":      {Micros: microsPerSecond},
	"minute":      {Micros: microsPerMinute},
	"hour":        {Micros: microsPerHour},
	"day":         {Days: 1},
	"week":        {Days: 7},
	"month":       {Months: 1},
	"year":        {Months: 12},
	"decade":      {Months: 120},
	"century":     {Months: 1200},
	"millennium":  {Months: 12000},
}

var intervalAbbreviations = map[string]string{
	"us": "microsecond", "usec": "microsecond", "microsecon": "microsecond",
	"ms": "millisecond", "msec": "millisecond",
	"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "hr": "hour",
	"d": "day", "w": "week", "mon": "month", "y": "year", "yr": "year", "dec": "decade",
	"c": "century", "cent": "century", "centurie": "century", "mil": "millennium", "millennia": "millennium",
}

func unitOf(word string) (Interval, bool) {
	for _, name := range []string{word, strings.TrimSuffix(word, "s")} {
		if full, ok := intervalAbbreviations[name]; ok {
			name = full
		}
		if unit, ok := intervalUnits[name]; ok {
			return unit, true
		}
	}
	return Interval{}, false
}

// ParseInterval reads the styles postgres ("1 day 02:00", "@ 1 hour ago"), SQL standard ("1-2",
// "3 4:05:06") and ISO 8601 ("P1DT2H").
func ParseInterval(data []byte) (Interval, error) {
	text := strings.ToLower(string(bytes.TrimSpace(data)))
	if len(text) >= maxFieldBytes {
		return Interval{}, badDatetime(oid.Interval, data)
	}
	p := intervalParser{rest: text}
	ok := false
	if rest, iso := strings.CutPrefix(text, "p"); iso {
		p.rest = rest
		ok = p.iso()
	} else {
		ok = p.words()
	}
	if !ok {
		return Interval{}, badDatetime(oid.Interval, data)
	}
	if !p.fits() {
		return Interval{}, intervalOverflow()
	}
	return p.sum, nil
}

type intervalParser struct {
	rest string
	sum  Interval
	over bool
	seen bool // at least one field
}

func (p *intervalParser) fits() bool {
	return !p.over && fitsInt32(p.sum.Months) && fitsInt32(p.sum.Days)
}

func fitsInt32(n int64) bool { return n >= math.MinInt32 && n <= math.MaxInt32 }

func (p *intervalParser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t\n\r,") }

func (p *intervalParser) take(ok func(byte) bool) string {
	n := 0
	for n < len(p.rest) && ok(p.rest[n]) {
		n++
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *intervalParser) next(c byte) bool {
	if p.rest != "" && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

// words reads fields until the end.
func (p *intervalParser) words() bool {
	p.next('@')
	for p.skipSpace(); p.rest != ""; p.skipSpace() {
		if p.rest == "ago" {
			p.sum = Interval{Months: -p.sum.Months, Days: -p.sum.Days, Micros: -p.sum.Micros}
			return p.seen
		}
		if !p.field() {
			return false
		}
		p.seen = true
	}
	return p.seen
}

// field reads a number and its unit, a time, or years-months.
func (p *intervalParser) field() bool {
	n, ok := p.number()
	if !ok {
		return false
	}
	switch {
	case p.next(':'):
		return p.clock(n)
	case n.fraction == 0 && p.rest != "" && p.rest[0] == '-':
		return p.yearsMonths(n)
	}
	p.skipSpace()
	word := p.take(isLetter)
	if word == "" { // a number without a unit counts seconds, but days before a time
		unit := Interval{Micros: microsPerSecond}
		if strings.Contains(p.rest, ":") {
			unit = Interval{Days: 1}
		} else if p.rest != "" {
			return false
		}
		p.add(n, unit)
		return true
	}
	unit, ok := unitOf(word)
	if ok {
		p.add(n, unit)
	}
	return ok
}

// quantity is a decimal number: whole and fraction have the same sign.
type quantity struct {
	whole    int64
	fraction float64
	negative bool
	point    bool // it was written with a point
}

func (p *intervalParser) number() (quantity, bool) {
	var q quantity
	q.negative = p.next('-')
	if !q.negative {
		p.next('+')
	}
	digits := p.take(isDigit)
	var decimals string
	if q.point = p.next('.'); q.point {
		decimals = p.take(isDigit)
	}
	if digits+decimals == "" || len(digits) > 18 {
		return q, false
	}
	if digits != "" {
		q.whole, _ = number([]byte(digits))
	}
	scale := 0.1
	for i := range len(decimals) {
		q.fraction += float64(decimals[i]-'0') * scale
		scale /= 10
	}
	if q.negative {
		q.whole, q.fraction = -q.whole, -q.fraction
	}
	return q, true
}

// clock reads M[:S] after the hours, and M:S.f as minutes and seconds as PostgreSQL does.
func (p *intervalParser) clock(hours quantity) bool {
	minutes, ok1 := p.number()
	seconds, ok2 := quantity{}, true
	hasSeconds := p.next(':')
	if hasSeconds {
		seconds, ok2 = p.number()
	}
	if !ok1 || !ok2 || hours.fraction != 0 || minutes.negative || seconds.negative {
		return false
	}
	if !hasSeconds && minutes.point {
		hours, minutes, seconds = quantity{negative: hours.negative}, quantity{whole: max(hours.whole, -hours.whole)}, minutes
	}
	if minutes.whole > 59 || minutes.fraction != 0 || seconds.whole > 60 {
		p.over = true
	}
	if hours.negative {
		minutes.whole, seconds.whole, seconds.fraction = -minutes.whole, -seconds.whole, -seconds.fraction
	}
	p.add(hours, Interval{Micros: microsPerHour})
	p.add(minutes, Interval{Micros: microsPerMinute})
	p.add(seconds, Interval{Micros: microsPerSecond})
	return true
}

func (p *intervalParser) yearsMonths(years quantity) bool {
	p.next('-')
	months, ok := p.number()
	if !ok || months.negative || months.fraction != 0 {
		return false
	}
	if months.whole > 11 {
		p.over = true
	}
	if years.negative {
		months.whole = -months.whole
	}
	p.add(years, Interval{Months: 12})
	p.add(months, Interval{Months: 1})
	return true
}

// iso reads nY nM nW nD T nH nM nS.
func (p *intervalParser) iso() bool {
	inTime := false
	for p.rest != "" {
		if !inTime && p.next('t') {
			inTime = true
			continue
		}
		n, ok := p.number()
		if !ok || p.rest == "" {
			return false
		}
		designator := p.rest[:1]
		p.rest = p.rest[1:]
		switch {
		case inTime && strings.Contains("hms", designator):
		case !inTime && designator == "m":
			designator = "mon"
		case !inTime && strings.Contains("ywd", designator):
		default:
			return false
		}
		unit, _ := unitOf(designator)
		p.add(n, unit)
		p.seen = true
	}
	return p.seen
}

// add adds n units. The fraction of a unit of months or days goes on in the smaller fields, a month
// having 30 days, but that of a year stays in months.
func (p *intervalParser) add(n quantity, unit Interval) {
	p.accumulate(&p.sum.Months, n.whole, unit.Months)
	p.accumulate(&p.sum.Days, n.whole, unit.Days)
	p.accumulate(&p.sum.Micros, n.whole, unit.Micros)
	if n.fraction == 0 {
		return
	}
	days := n.fraction * float64(unit.Days)
	switch {
	case unit.Months > 1:
		p.accumulate(&p.sum.Months, int64(math.RoundToEven(n.fraction*float64(unit.Months))), 1)
	case unit.Months == 1:
		days = n.fraction * 30
	}
	whole := math.Trunc(days)
	p.accumulate(&p.sum.Days, int64(whole), 1)
	micros := (days-whole)*microsPerDay + n.fraction*float64(unit.Micros)
	p.accumulate(&p.sum.Micros, int64(math.RoundToEven(micros)), 1)
}

func (p *intervalParser) accumulate(field *int64, n, unit int64) {
	product := n * unit
	sum := *field + product
	if unit != 0 && product/unit != n || (product > 0) != (sum > *field) && product != 0 {
		p.over = true
		return
	}
	*field = sum
}
