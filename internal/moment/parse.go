package moment

import (
	"errors"
	"strings"
	"time"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// Why a date or time cannot be read.
var (
	errDateSyntax = errors.New("syntax")
	errDateRange  = errors.New("range")
	errDateZone   = errors.New("time zone")
)

// datetimeParser reads PostgreSQL's date and time input: ISO 8601 and the customary forms, fields in
// any order, with DateStyle "ISO, MDY". It is a list of fields, each of which may come once; numbers
// that stand alone wait until it is known what is missing.
type datetimeParser struct {
	rest     []byte
	timeOnly bool // for the types without a date: 040506 is a time at once

	word             string // Infinity, -infinity, epoch, now, today, tomorrow, yesterday
	year, month, day int64
	hasDate          bool
	shortYear        bool // two digits: of this century or the last
	monthNamed       bool
	numbers          [][]byte // numbers of a date whose meaning depends on the rest
	bc               bool

	micros  int64
	hasTime bool
	half    string // am, pm

	hasZone  bool
	offset   int64          // seconds east
	location *time.Location // set instead of offset for a zone by name
	zoneName string
}

func (p *datetimeParser) failure(err error, t oid.OID, data []byte) error {
	switch {
	case errors.Is(err, errDateRange):
		return datetimeOverflow(data)
	case errors.Is(err, errDateZone):
		return sqlstate.New(sqlstate.InvalidParameterValue, `time zone "%s" not recognized`, p.zoneName)
	}
	return badDatetime(t, data)
}

// maxYear is beyond the last year of any type, and keeps the arithmetic within 64 bits.
const maxYear = 9_999_999

// maxDatetimeText is PostgreSQL's limit on the text of a date or time (MAXDATELEN).
const maxDatetimeText = 128

func (p *datetimeParser) parse() error {
	if len(p.rest) == 0 || len(p.rest) > maxDatetimeText {
		return errDateSyntax
	}
	for len(p.rest) > 0 {
		var err error
		switch c := p.rest[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',':
			p.rest = p.rest[1:]
		case isDigit(c):
			err = p.parseNumber()
		case c == '+' || c == '-':
			err = p.parseSigned()
		case isLetter(c):
			err = p.parseWord()
		default:
			err = errDateSyntax
		}
		if err != nil {
			return err
		}
	}
	return p.resolve()
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// run takes the longest prefix whose bytes all satisfy ok.
func (p *datetimeParser) run(ok func(byte) bool) []byte {
	n := 0
	for n < len(p.rest) && ok(p.rest[n]) {
		n++
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *datetimeParser) next(c byte) bool {
	if len(p.rest) > 0 && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

// parseNumber reads what begins with a digit: a time, a date in one piece, or a number.
func (p *datetimeParser) parseNumber() error {
	digits := p.run(isDigit)
	if len(p.rest) > 0 {
		switch c := p.rest[0]; {
		case c == ':':
			return p.parseTime(digits)
		case (c == '-' || c == '/' || c == '.') && !p.hasDate && len(p.numbers) == 0 && !p.monthNamed:
			return p.parseDate(digits)
		case c == '-' && p.monthNamed && !p.hasDate:
			p.rest = p.rest[1:] // Jan-08-1999
		case c == '.' && p.dateKnown() && !p.hasTime && len(digits) == 6:
			return p.parseCompactTime(digits)
		}
	}
	return p.bareNumber(digits)
}

func (p *datetimeParser) dateKnown() bool {
	return p.timeOnly || p.hasDate || len(p.numbers) >= 3 || p.monthNamed && len(p.numbers) >= 2
}

func (p *datetimeParser) bareNumber(digits []byte) error {
	switch {
	case p.dateKnown() && !p.hasTime:
		return p.parseCompactTime(digits)
	case len(digits) == 8 && !p.hasDate && len(p.numbers) == 0 && !p.monthNamed:
		return p.setDate(digits[:4], digits[4:6], digits[6:])
	case len(digits) == 6 && !p.hasDate && len(p.numbers) == 0 && !p.monthNamed:
		return p.setDate(digits[:2], digits[2:4], digits[4:])
	case p.hasDate || len(p.numbers) == 3:
		return errDateSyntax
	}
	p.numbers = append(p.numbers, digits)
	return nil
}

// parseTime reads H:M[:S[.f]] of which the hours have been taken.
func (p *datetimeParser) parseTime(hours []byte) error {
	if p.hasTime {
		return errDateSyntax
	}
	p.next(':')
	minutes := p.run(isDigit)
	seconds, fraction := []byte("0"), []byte(nil)
	hasSeconds := p.next(':')
	if hasSeconds {
		seconds = p.run(isDigit)
	}
	if p.next('.') {
		if fraction = p.run(isDigit); !hasSeconds { // 05:06.7 has no hours
			hours, minutes, seconds = []byte("0"), hours, minutes
		}
	}
	return p.setTime(hours, minutes, seconds, fraction)
}

// parseCompactTime reads HHMMSS[.f] or HHMM.
func (p *datetimeParser) parseCompactTime(digits []byte) error {
	var fraction []byte
	switch len(digits) {
	case 4:
		return p.setTime(digits[:2], digits[2:], []byte("0"), nil)
	case 6:
		if p.next('.') {
			fraction = p.run(isDigit)
		}
		return p.setTime(digits[:2], digits[2:4], digits[4:], fraction)
	}
	return errDateSyntax
}

func (p *datetimeParser) setTime(hours, minutes, seconds, fraction []byte) error {
	h, ok1 := number(hours)
	m, ok2 := number(minutes)
	s, ok3 := number(seconds)
	if !ok1 || !ok2 || !ok3 {
		return errDateSyntax
	}
	if h > 24 || m > 59 || s > 60 {
		return errDateRange
	}
	p.hasTime = true
	p.micros = h*microsPerHour + m*microsPerMinute + s*microsPerSecond + fractionMicros(fraction)
	if p.micros > microsPerDay {
		return errDateRange
	}
	return nil
}

// parseDate reads the second and third part of a date whose parts are joined by one separator. A
// part may be the name of a month; without a third, the second is the day of the year.
func (p *datetimeParser) parseDate(first []byte) error {
	separator := p.rest[0]
	p.rest = p.rest[1:]
	second := p.datePart()
	if !p.next(separator) {
		if separator != '.' && separator != '-' || len(second) != 3 {
			return errDateSyntax
		}
		return p.setDayOfYear(first, second)
	}
	third := p.datePart()
	switch month := int64(Month(string(second))); {
	case month > 0 && len(first) > 2:
		return p.setDate(first, appendInt(nil, month), third)
	case month > 0:
		return p.setDate(third, appendInt(nil, month), first)
	case len(first) > 2:
		return p.setDate(first, second, third)
	}
	return p.setDate(third, first, second) // MDY
}

func (p *datetimeParser) datePart() []byte {
	if len(p.rest) > 0 && isLetter(p.rest[0]) {
		return p.run(isLetter)
	}
	return p.run(isDigit)
}

func (p *datetimeParser) setDayOfYear(year, day []byte) error {
	if err := p.setDate(year, []byte("1"), []byte("1")); err != nil {
		return err
	}
	n, ok := number(day)
	if !ok {
		return errDateSyntax
	}
	if n < 1 || n > 366 {
		return errDateRange
	}
	p.year, p.month, p.day = civil(dayNumber(p.year, 1, 1) + n - 1)
	return nil
}

func (p *datetimeParser) setDate(year, month, day []byte) error {
	if p.hasDate {
		return errDateSyntax
	}
	y, ok1 := number(year)
	m, ok2 := number(month)
	d, ok3 := number(day)
	if !ok1 || !ok2 || !ok3 {
		return errDateSyntax
	}
	if y > maxYear {
		return errDateRange
	}
	p.hasDate, p.year, p.month, p.day = true, y, m, d
	p.shortYear = len(year) <= 2
	return nil
}

// parseSigned reads a zone offset, or an Infinity.
func (p *datetimeParser) parseSigned() error {
	negative := p.rest[0] == '-'
	p.rest = p.rest[1:]
	if len(p.rest) > 0 && isLetter(p.rest[0]) {
		word := strings.ToLower(string(p.run(isLetter)))
		switch {
		case word != "infinity" && word != "inf":
			return errDateSyntax
		case negative:
			return p.setWord("-infinity")
		}
		return p.setWord("infinity")
	}
	if p.monthNamed && !p.dateKnown() && !p.hasTime {
		return nil // Jan-08-1999: a separator
	}
	return p.parseOffset(negative)
}

// parseOffset reads HH, HHMM, HHMMSS, or HH:MM[:SS].
func (p *datetimeParser) parseOffset(negative bool) error {
	if p.hasZone || !p.hasTime && !p.dateKnown() {
		return errDateSyntax
	}
	digits := p.run(isDigit)
	parts := [3][]byte{digits, []byte("0"), []byte("0")}
	switch {
	case len(digits) == 4:
		parts = [3][]byte{digits[:2], digits[2:], []byte("0")}
	case len(digits) == 6:
		parts = [3][]byte{digits[:2], digits[2:4], digits[4:]}
	case len(digits) < 1 || len(digits) > 2:
		return errDateSyntax
	default:
		for i := 1; i < 3 && p.next(':'); i++ {
			parts[i] = p.run(isDigit)
		}
	}
	h, ok1 := number(parts[0])
	m, ok2 := number(parts[1])
	s, ok3 := number(parts[2])
	if !ok1 || !ok2 || !ok3 {
		return errDateSyntax
	}
	if h > 15 || m > 59 || s > 59 {
		return errDateRange
	}
	p.hasZone, p.offset = true, h*3600+m*60+s
	if negative {
		p.offset = -p.offset
	}
	return nil
}

// parseWord reads a name: of a month, a day of the week, a zone, an era, half of a day, a moment.
func (p *datetimeParser) parseWord() error {
	start := p.rest
	word := strings.ToLower(string(p.run(isLetter)))
	if word == "t" && p.dateKnown() && !p.hasTime && len(p.rest) > 0 && isDigit(p.rest[0]) {
		return nil
	}
	if word == "j" && len(p.rest) > 0 && isDigit(p.rest[0]) {
		return p.setJulianDay(p.run(isDigit))
	}
	if m := int64(Month(word)); m > 0 && !p.monthNamed && !p.hasDate {
		p.month, p.monthNamed = m, true
		p.next('.')
		return nil
	}
	switch word {
	case "am", "pm":
		p.half = word
		return nil
	case "bc":
		p.bc = true
		return nil
	case "ad", "at":
		return nil
	case "infinity", "inf", "epoch", "now", "today", "tomorrow", "yesterday":
		return p.setWord(word)
	case "allballs":
		p.hasTime, p.hasZone = true, true
		return nil
	}
	if isWeekday(word) {
		p.next('.')
		return nil
	}
	p.rest = start
	return p.parseZoneName()
}

func (p *datetimeParser) setJulianDay(digits []byte) error {
	n, ok := number(digits)
	if !ok || p.hasDate {
		return errDateSyntax
	}
	if n > lastDay-firstDay {
		return errDateRange
	}
	p.year, p.month, p.day = civil(n + firstDay)
	p.hasDate = true
	return nil
}

func (p *datetimeParser) setWord(word string) error {
	if p.word != "" {
		return errDateSyntax
	}
	if word == "inf" {
		word = "infinity"
	}
	p.word = word
	return nil
}

func (p *datetimeParser) parseZoneName() error {
	if p.hasZone {
		return errDateSyntax
	}
	name := string(p.run(func(c byte) bool { return isLetter(c) || isDigit(c) || c == '/' || c == '_' || c == '-' || c == '+' }))
	p.hasZone = true
	if offset, ok := abbreviations[strings.ToUpper(name)]; ok {
		p.offset = int64(offset) * 900
		return nil
	}
	location, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		if !strings.ContainsAny(name, "/-_") {
			return errDateSyntax // it is not even meant as a zone
		}
		p.zoneName = name
		return errDateZone
	}
	p.location = location
	return nil
}

// resolve gives the numbers that stood alone their meaning and checks that the fields fit together.
func (p *datetimeParser) resolve() error {
	if err := p.resolveNumbers(); err != nil {
		return err
	}
	if p.shortYear && !p.bc {
		p.year += 2000
		if p.year >= 2070 {
			p.year -= 100
		}
	}
	if p.bc {
		if !p.hasDate || p.year < 1 {
			return errDateSyntax
		}
		p.year = 1 - p.year
	} else if p.hasDate && p.year == 0 && p.word == "" {
		return errDateRange
	}
	if p.hasDate && (p.month < 1 || p.month > 12 || p.day < 1 || p.day > daysInMonth(p.year, p.month)) {
		return errDateRange
	}
	return p.resolveHalf()
}

func (p *datetimeParser) resolveNumbers() error {
	n := p.numbers
	switch {
	case p.hasDate:
		return nil
	case p.monthNamed && len(n) == 2 && len(n[0]) > 2:
		return p.setDate(n[0], appendInt(nil, p.month), n[1])
	case p.monthNamed && len(n) == 2:
		return p.setDate(n[1], appendInt(nil, p.month), n[0])
	case !p.monthNamed && len(n) == 3 && len(n[0]) > 2:
		return p.setDate(n[0], n[1], n[2])
	case !p.monthNamed && len(n) == 3:
		return p.setDate(n[2], n[0], n[1])
	case p.monthNamed || len(n) > 0:
		return errDateSyntax
	}
	return nil
}

func (p *datetimeParser) resolveHalf() error {
	if p.half == "" {
		return nil
	}
	if !p.hasTime || p.micros >= 13*microsPerHour {
		return errDateRange
	}
	switch noon := p.micros >= 12*microsPerHour; {
	case p.half == "am" && noon:
		p.micros -= 12 * microsPerHour
	case p.half == "pm" && !noon:
		p.micros += 12 * microsPerHour
	}
	return nil
}

// instant makes a value of a type out of the fields.
func (p *datetimeParser) instant(t oid.OID, at Reference) (Instant, error) {
	if t == oid.Time || t == oid.TimeTZ {
		return p.timeOfDay(t, at)
	}
	if p.word == "infinity" || p.word == "-infinity" {
		if p.hasDate || p.hasTime {
			return Instant{}, errDateSyntax
		}
		if p.word == "infinity" {
			return Instant{N: Infinity}, nil
		}
		return Instant{N: MinusInfinity}, nil
	}
	days, micros, err := p.local(at)
	if err != nil {
		return Instant{}, err
	}
	switch {
	case t == oid.Date:
		return Instant{N: days}, nil
	case days < firstDay-1 || days > endTimestamp/microsPerDay:
		return Instant{}, errDateRange
	}
	local := days*microsPerDay + micros
	if t == oid.Timestamp || p.word == "epoch" {
		return Instant{N: local}, nil
	}
	return Instant{N: p.utc(local, at)}, nil
}

// local gives the day and the time that the fields name, in their own zone.
func (p *datetimeParser) local(at Reference) (days, micros int64, err error) {
	if p.word == "" {
		if !p.hasDate {
			return 0, 0, errDateSyntax
		}
		return dayNumber(p.year, p.month, p.day), p.micros, nil
	}
	if p.hasDate || p.word == "now" && p.hasTime {
		return 0, 0, errDateSyntax
	}
	now := at.now()
	days = dayNumber(int64(now.Year()), int64(now.Month()), int64(now.Day()))
	switch p.word {
	case "epoch":
		return -unixOfEpoch / 86400, 0, nil
	case "now":
		midnight := now.Hour()*3600 + now.Minute()*60 + now.Second()
		return days, int64(midnight)*microsPerSecond + int64(now.Nanosecond()/1000), nil
	case "tomorrow":
		days++
	case "yesterday":
		days--
	}
	return days, p.micros, nil
}

func (p *datetimeParser) utc(local int64, at Reference) int64 {
	switch {
	case p.location != nil:
		return ToUTC(p.location, local)
	case p.hasZone:
		return local - p.offset*microsPerSecond
	}
	return ToUTC(at.zone(), local)
}

func (p *datetimeParser) timeOfDay(t oid.OID, at Reference) (Instant, error) {
	micros := p.micros
	if p.word == "now" {
		_, now, err := p.local(at)
		if err != nil {
			return Instant{}, err
		}
		micros = now
	} else if !p.hasTime || p.word != "" {
		return Instant{}, errDateSyntax
	}
	if t == oid.Time {
		return Instant{N: micros}, nil
	}
	switch {
	case p.location != nil:
		return Instant{N: micros, Zone: p.zoneOffset(p.location, micros, at)}, nil
	case p.hasZone:
		return Instant{N: micros, Zone: p.offset}, nil
	}
	return Instant{N: micros, Zone: p.zoneOffset(at.zone(), micros, at)}, nil
}

// zoneOffset is a zone's offset on the date that was given, or else today.
func (p *datetimeParser) zoneOffset(zone *time.Location, micros int64, at Reference) int64 {
	now := at.now()
	days := dayNumber(int64(now.Year()), int64(now.Month()), int64(now.Day()))
	if p.hasDate {
		days = dayNumber(p.year, p.month, p.day)
	}
	local := days*microsPerDay + micros
	return (local - ToUTC(zone, local)) / microsPerSecond
}
