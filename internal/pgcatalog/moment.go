package pgcatalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
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

// moment is a value of one of the date and time types, or a number beside one.
type moment struct {
	kind    momentKind
	t       time.Time // the wall clock, in UTC
	span    interval
	number  float64
	special string // infinity or -infinity
}

// momentOf reads a value by its spelling: canonical dates and timestamps before intervals.
func momentOf(v sqlite3.Value) moment {
	switch v.Type() {
	case sqlite3.INTEGER, sqlite3.FLOAT:
		return moment{kind: aNumber, number: v.Float()}
	case sqlite3.TEXT:
		return momentOfText(v.Text())
	}
	return moment{}
}

func momentOfText(s string) moment {
	if looksDecimal(s) {
		f, _ := strconv.ParseFloat(s, 64)
		return moment{kind: aNumber, number: f}
	}
	if strings.HasSuffix(s, "infinity") {
		return moment{kind: aTimestamp, special: s}
	}
	if len(s) >= 10 && s[4] == '-' || strings.HasSuffix(s, " BC") {
		if p, err := parseDatetime(s, time.Time{}, time.UTC); err == nil && p.hasDate {
			kind := aTimestamp
			if !p.hasTime {
				kind = aDate
			}
			return moment{kind: kind, t: p.utc()}
		}
	}
	if v, ok := parseInterval(s); ok {
		return moment{kind: anInterval, span: v}
	}
	return moment{}
}

// datetime is what date and time input says.
type datetime struct {
	t                time.Time // wall clock, in UTC
	hasDate, hasTime bool
	hasZone          bool
	offset           int // seconds east of Greenwich, when hasZone
	special          string
}

// utc is the instant, taking a missing zone for UTC.
func (d datetime) utc() time.Time { return d.t.Add(-time.Duration(d.offset) * time.Second) }

// in is the instant, taking a missing zone for loc.
func (d datetime) in(loc *time.Location) time.Time {
	if d.hasZone {
		return d.utc()
	}
	return localToUTC(d.t, loc)
}

// localToUTC reads a wall clock in a zone.
func localToUTC(t time.Time, loc *time.Location) time.Time {
	if loc == time.UTC {
		return t
	}
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc).UTC()
}

// utcToLocal gives the wall clock of an instant in a zone, marked as UTC.
func utcToLocal(t time.Time, loc *time.Location) time.Time {
	_, offset := t.In(loc).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// parseDatetime reads PostgreSQL's date, time and timestamp input: ISO 8601, month names, slashed
// month first, BC, zones and the words now, today, tomorrow, yesterday and epoch.
func parseDatetime(s string, now time.Time, loc *time.Location) (datetime, error) {
	if t, ok := storedTimestamp(s); ok {
		return datetime{t: t, hasDate: true, hasTime: true}, nil
	}
	return parseAnyDatetime(s, now, loc)
}

// storedTimestamp reads what formatTimestamp gives for most times, since that is what most timestamps come as.
func storedTimestamp(s string) (time.Time, bool) {
	if len(s) < len(time.DateTime) || len(s) > len(time.DateTime)+7 || len(s) > len(time.DateTime) && s[len(time.DateTime)] != '.' {
		return time.Time{}, false
	}
	t, err := time.Parse(time.DateTime, s)
	return t, err == nil && t.Year() > 0
}

func parseAnyDatetime(s string, now time.Time, loc *time.Location) (datetime, error) {
	p := datetimeParser{now: now, loc: loc, year: noField, month: noField, day: noField}
	if len(s) > 128 {
		return datetime{}, errBadDatetime
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' || r == '\n' })
	for i, w := range words {
		if err := p.word(w, i); err != nil {
			return datetime{}, err
		}
	}
	if len(words) == 0 {
		return datetime{}, errBadDatetime
	}
	return p.finish()
}

// datetimeError tells a misspelt value from one that no calendar has.
type datetimeError string

func (e datetimeError) Error() string { return string(e) }

const (
	errBadDatetime   datetimeError = "bad"
	errDatetimeField datetimeError = "field"
)

const noField = -1 << 31

type datetimeParser struct {
	out              datetime
	now              time.Time
	loc              *time.Location
	year, month, day int
	clock            time.Duration
	bc, pm, am       bool
}

func (p *datetimeParser) word(w string, i int) error {
	lower := strings.ToLower(w)
	if i == 0 {
		if ok := p.relative(lower); ok {
			return nil
		}
	}
	switch {
	case lower == "bc":
		p.bc = true
	case lower == "ad":
	case lower == "am":
		p.am = true
	case lower == "pm":
		p.pm = true
	case lower == "z" || lower == "utc" || lower == "gmt":
		p.out.hasZone = true
	case !isDigit(w[0]) && monthNumber(lower) > 0:
		p.month = monthNumber(lower)
	case !isDigit(w[0]) && isWeekday(lower):
	case isDigit(w[0]) && strings.ContainsAny(w, "Tt") && len(w) > 10:
		return p.dateWord(w)
	case w[0] == '+' || w[0] == '-' && p.out.hasTime: // 12:00 +02:00
		return p.zone(w)
	case strings.Contains(w, ":"):
		return p.timeWord(w)
	case isDigit(w[0]):
		return p.dateWord(w)
	default:
		return p.zoneName(w)
	}
	return nil
}

// relative reads the special words.
func (p *datetimeParser) relative(w string) bool {
	today := utcToLocal(p.now, p.loc)
	switch w {
	case "infinity", "-infinity", "+infinity":
		p.out.special = strings.TrimPrefix(w, "+")
		return true
	case "epoch":
		p.setDate(time.Unix(0, 0).UTC())
		p.out.hasTime, p.out.hasZone = true, true
		return true
	case "now":
		p.setDate(today)
		p.clock = today.Sub(time.Date(today.Year(), today.Month(), today.Day(), 0, 0, 0, 0, time.UTC))
		p.out.hasTime = true
		return true
	case "today":
	case "tomorrow":
		today = today.AddDate(0, 0, 1)
	case "yesterday":
		today = today.AddDate(0, 0, -1)
	default:
		return false
	}
	p.setDate(today)
	return true
}

func (p *datetimeParser) setDate(t time.Time) {
	p.year, p.month, p.day = t.Year(), int(t.Month()), t.Day()
}

func monthNumber(w string) int {
	if len(w) < 3 {
		return 0
	}
	for m := time.January; m <= time.December; m++ {
		name := strings.ToLower(m.String())
		if w == name || w == name[:3] || w == "sept" && m == time.September {
			return int(m)
		}
	}
	return 0
}

func isWeekday(w string) bool {
	for d := time.Sunday; d <= time.Saturday; d++ {
		name := strings.ToLower(d.String())
		if len(w) >= 3 && strings.HasPrefix(name, w) {
			return true
		}
	}
	return false
}

// dateWord reads 2024-01-31, 20240131, 1/31/2024, 31-Jan-2024, 31, or a date with T and a time.
func (p *datetimeParser) dateWord(w string) error {
	if i := strings.IndexAny(w, "Tt"); i > 0 && i+1 < len(w) && isDigit(w[i+1]) {
		if err := p.dateWord(w[:i]); err != nil {
			return err
		}
		return p.timeWord(w[i+1:])
	}
	if allDigits(w) {
		return p.numberWord(w)
	}
	separator := strings.IndexAny(w, "-/.")
	if separator < 0 {
		return errBadDatetime
	}
	parts := strings.Split(w, w[separator:separator+1])
	if len(parts) != 3 {
		return errBadDatetime
	}
	if m := monthNumber(strings.ToLower(parts[1])); m > 0 {
		parts[1] = strconv.Itoa(m)
		if len(parts[0]) <= 2 { // 31-Jan-2024
			parts[0], parts[2] = parts[2], parts[0]
		}
	} else if len(parts[0]) <= 2 { // month first, as DateStyle MDY says
		parts[0], parts[1], parts[2] = parts[2], parts[0], parts[1]
	}
	var n [3]int
	for i, part := range parts {
		if !allDigits(part) || len(part) > 6 {
			return errBadDatetime
		}
		n[i], _ = strconv.Atoi(part)
	}
	p.year, p.month, p.day = n[0], n[1], n[2]
	if len(parts[0]) <= 2 {
		p.year = fullYear(n[0])
	}
	return nil
}

func fullYear(y int) int {
	if y < 70 {
		return 2000 + y
	}
	return 1900 + y
}

func (p *datetimeParser) numberWord(w string) error {
	n, _ := strconv.Atoi(w)
	switch {
	case len(w) == 8:
		p.year, p.month, p.day = n/10000, n/100%100, n%100
	case len(w) == 6 && p.year != noField:
		return p.timeWord(w[:2] + ":" + w[2:4] + ":" + w[4:])
	case len(w) <= 2 && p.day == noField && p.month != noField:
		p.day = n
	case len(w) <= 2 && p.day == noField && p.year == noField: // 31 Jan 2024
		p.day = n
	case len(w) <= 6 && len(w) >= 3 && p.year == noField:
		p.year = n
	default:
		return errBadDatetime
	}
	return nil
}

// timeWord reads hh:mm[:ss[.ffffff]] and a zone without a space before it.
func (p *datetimeParser) timeWord(w string) error {
	clock, zone := w, ""
	if i := strings.IndexAny(w, "+-Zz"); i > 0 {
		clock, zone = w[:i], w[i:]
	}
	lower := strings.ToLower(clock)
	if strings.HasSuffix(lower, "am") || strings.HasSuffix(lower, "pm") {
		p.am, p.pm = strings.HasSuffix(lower, "am"), strings.HasSuffix(lower, "pm")
		clock = clock[:len(clock)-2]
	}
	if !strings.Contains(clock, ":") && allDigits(clock) && (len(clock) == 6 || len(clock) == 4) {
		clock = clock[:2] + ":" + clock[2:4] + ":" + (clock + "00")[4:6]
	}
	parts := strings.Split(clock, ":")
	if len(parts) < 2 || len(parts) > 3 || p.out.hasTime {
		return errBadDatetime
	}
	hours, errH := strconv.Atoi(parts[0])
	minutes, errM := strconv.Atoi(parts[1])
	seconds := time.Duration(0)
	if len(parts) == 3 {
		var ok bool
		if seconds, ok = parseSeconds(parts[2]); !ok {
			return errBadDatetime
		}
	}
	if errH != nil || errM != nil {
		return errBadDatetime
	}
	if hours < 0 || hours > 24 || minutes < 0 || minutes > 59 || seconds > time.Minute {
		return errDatetimeField
	}
	p.clock = time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute + seconds
	if p.clock > 24*time.Hour {
		return errDatetimeField
	}
	p.out.hasTime = true
	if zone != "" {
		return p.zone(zone)
	}
	return nil
}

// parseSeconds reads ss[.ffffff], rounded to microseconds.
func parseSeconds(s string) (time.Duration, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	if !allDigits(whole) || len(whole) > 2 || (frac != "" && !allDigits(frac)) {
		return 0, false
	}
	n, _ := strconv.Atoi(whole)
	d := time.Duration(n) * time.Second
	if len(frac) > 9 {
		frac = frac[:9]
	}
	for len(frac) < 9 {
		frac += "0"
	}
	nanos, _ := strconv.Atoi(frac)
	return d + time.Duration(nanos).Round(time.Microsecond), true
}

// zone reads Z, +05, +0530, +05:30, +05:30:15.
func (p *datetimeParser) zone(w string) error {
	if strings.EqualFold(w, "z") {
		p.out.hasZone = true
		return nil
	}
	offset, ok := parseOffset(w)
	if !ok {
		return errBadDatetime
	}
	p.out.hasZone, p.out.offset = true, offset
	return nil
}

// parseOffset reads an offset from Greenwich, in seconds, east positive.
func parseOffset(w string) (int, bool) {
	if len(w) < 2 || w[0] != '+' && w[0] != '-' {
		return 0, false
	}
	digits := strings.ReplaceAll(w[1:], ":", "")
	if !allDigits(digits) || len(digits) > 6 {
		return 0, false
	}
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	total, weight := 0, 3600
	for i := 0; i < len(digits); i += 2 {
		n, _ := strconv.Atoi(digits[i : i+2])
		total += n * weight
		weight /= 60
	}
	if total > 16*3600 {
		return 0, false
	}
	if w[0] == '-' {
		total = -total
	}
	return total, true
}

func (p *datetimeParser) zoneName(w string) error {
	loc, err := loadZone(w)
	if err != nil {
		return errBadDatetime
	}
	p.out.hasZone = true
	day := time.Date(max(p.year, 1), time.Month(max(p.month, 1)), max(p.day, 1), 0, 0, 0, 0, time.UTC)
	_, p.out.offset = localToUTC(day.Add(p.clock), loc).In(loc).Zone()
	return nil
}

func (p *datetimeParser) finish() (datetime, error) {
	if p.out.special != "" {
		p.out.hasDate = true
		return p.out, nil
	}
	hours := p.clock / time.Hour
	switch {
	case (p.pm || p.am) && (hours < 1 || hours > 12):
		return datetime{}, errDatetimeField
	case p.pm && hours < 12:
		p.clock += 12 * time.Hour
	case p.am && hours == 12:
		p.clock -= 12 * time.Hour
	}
	p.out.hasDate = p.year != noField
	if !p.out.hasDate {
		if p.month != noField || p.day != noField || !p.out.hasTime {
			return datetime{}, errBadDatetime
		}
		p.year, p.month, p.day = 1, 1, 1
	}
	if p.month == noField || p.day == noField {
		return datetime{}, errBadDatetime
	}
	year := p.year
	if p.bc {
		year = 1 - year
	}
	if p.month < 1 || p.month > 12 || p.day < 1 || p.day > daysIn(year, p.month) || p.year == 0 || year > 294276 {
		return datetime{}, errDatetimeField
	}
	p.out.t = time.Date(year, time.Month(p.month), p.day, 0, 0, 0, 0, time.UTC).Add(p.clock)
	return p.out, nil
}

// datetimeFailure words a parse error for a type.
func datetimeFailure(err error, typ, s string) error {
	if err == errDatetimeField {
		return sqlstate.New(sqlstate.DatetimeOverflow, "date/time field value out of range: \"%s\"", s)
	}
	return sqlstate.New(sqlstate.InvalidDatetimeFormat, "invalid input syntax for type %s: \"%s\"", typ, s)
}

func formatDate(t time.Time) string {
	y := t.Year()
	if y <= 0 {
		return fmt.Sprintf("%04d-%02d-%02d BC", 1-y, int(t.Month()), t.Day())
	}
	return fmt.Sprintf("%04d-%02d-%02d", y, int(t.Month()), t.Day())
}

func formatTime(t time.Time) string {
	return t.Format("15:04:05") + fraction(int64(t.Nanosecond()/1000))
}

// formatTimestamp is the canonical text, which is also what PostgreSQL prints without a zone.
func formatTimestamp(t time.Time) string {
	if t.Year() > 0 && t.Year() < 10000 {
		return t.Format(time.DateTime + ".999999")
	}
	date, era, _ := strings.Cut(formatDate(t), " ")
	if era != "" {
		era = " " + era
	}
	return date + " " + formatTime(t) + era
}

// formatOffset spells an offset as PostgreSQL does: +00, +05:30, -03.
func formatOffset(seconds int) string {
	sign := byte('+')
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	s := fmt.Sprintf("%c%02d", sign, seconds/3600)
	if seconds%3600 != 0 {
		s += fmt.Sprintf(":%02d", seconds/60%60)
	}
	if seconds%60 != 0 {
		s += fmt.Sprintf(":%02d", seconds%60)
	}
	return s
}

// loadZone finds a time zone by name, abbreviation or offset. POSIX offsets count west, as in
// PostgreSQL: SET TIME ZONE and AT TIME ZONE differ from ISO 8601 there only for names like UTC+3.
func loadZone(name string) (*time.Location, error) {
	switch strings.ToUpper(name) {
	case "", "UTC", "Z", "GMT", "ETC/UTC", "UCT", "ZULU":
		return time.UTC, nil
	}
	if offset, ok := parseOffset(name); ok {
		return time.FixedZone(name, offset), nil
	}
	if strings.ContainsAny(name, "\\ ") || strings.Contains(name, "..") || strings.EqualFold(name, "local") || len(name) > 64 {
		return nil, sqlstate.New(sqlstate.InvalidParameterValue, "time zone \"%s\" not recognized", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, sqlstate.New(sqlstate.InvalidParameterValue, "time zone \"%s\" not recognized", name)
	}
	return loc, nil
}
