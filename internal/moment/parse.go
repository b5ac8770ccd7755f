package moment

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// Why a date or time cannot be read.
var (
	errDateSyntax = errors.New("syntax")
	errDateRange  = errors.New("range")
	errZoneOffset = errors.New("time zone displacement")
)

// The parts of a date or time, each of which may be named once.
const (
	hasYear = 1 << iota
	hasMonth
	hasDay
	hasDayOfYear
	hasWeekday
	hasTime
	hasZone
	hasSummer
	hasHalf
	hasEra
	hasSpecial

	hasDate = hasYear | hasMonth | hasDay
)

// decoder gives the fields of a date or time their meaning, by the rules of PostgreSQL's
// DecodeDateTime and, for the types without a date, DecodeTimeOnly (datetime.c), with DateStyle
// "ISO, MDY". Most of what looks arbitrary here is theirs. Stricter are only the hours and minutes of
// digits that run together: '1999-01-08 9959' is not four days later.
type decoder struct {
	timeOnly bool
	at       Reference
	fields   []field

	have int // the parts so far
	adds int // the parts that the field at hand names

	special          word // epoch or an infinity, which stand for the whole
	year, month, day int64
	dayOfYear        int64
	monthNamed       bool
	shortYear        bool // two digits: of this century or the last
	julian           bool
	bc               bool

	hour, minute, second int64
	micros               int64
	half                 word // am or pm

	expect word // what the field before says of the next: julian day, time, or a unit that nothing may follow

	offset   int64          // seconds east
	location *time.Location // set instead of offset for a zone by name
	moving   string         // an abbreviation whose meaning in location changed over time
}

func failure(err error, t oid.OID, data []byte) error {
	switch {
	case errors.Is(err, errDateRange):
		return datetimeOverflow(data)
	case errors.Is(err, errZoneOffset):
		return sqlstate.New(sqlstate.ZoneDisplacement, `time zone displacement out of range: "%s"`, sqlstate.Excerpt(data))
	case errors.Is(err, errDateSyntax):
		return badDatetime(t, data)
	}
	return err
}

// parseAny reads what is not in the canonical form.
func parseAny(t oid.OID, data []byte, at Reference) (Instant, error) {
	maxBytes := maxFieldBytes
	if t == oid.Timestamp || t == oid.Timestamptz {
		maxBytes = maxTimestampBytes
	}
	fields, ok := split(string(data), maxBytes)
	if !ok {
		return Instant{}, badDatetime(t, data)
	}
	d := decoder{timeOnly: t == oid.Time || t == oid.TimeTZ, at: at, fields: fields}
	if err := d.decode(); err != nil {
		return Instant{}, failure(err, t, data)
	}
	i, err := d.instant(t)
	if err != nil {
		return i, failure(err, t, data)
	}
	if !InRange(t, i) {
		return i, sqlstate.New(sqlstate.DatetimeOverflow, `%s out of range: "%s"`, strings.TrimSuffix(inputName(t), " with time zone"), sqlstate.Excerpt(data))
	}
	return i, nil
}

func (d *decoder) decode() error {
	for i := range d.fields {
		d.adds = 0
		if err := d.field(i); err != nil {
			return err
		}
		if d.adds&d.have != 0 {
			return errDateSyntax
		}
		d.have |= d.adds
	}
	if d.expect == timeWord {
		return errDateSyntax
	}
	if err := d.checkDate(); err != nil {
		return err
	}
	if err := d.applyHalf(); err != nil {
		return err
	}
	if d.timeOverflows() {
		return errDateRange
	}
	return nil
}

func (d *decoder) field(i int) error {
	f := d.fields[i]
	switch f.kind {
	case dateField:
		if d.timeOnly {
			return d.dateOfTime(i)
		}
		return d.date(f.text)
	case timeField:
		if d.expect != noWord && d.expect != timeWord {
			return errDateSyntax
		}
		d.expect = noWord
		return d.clock(f.text)
	case offsetField:
		d.adds = hasZone
		return d.zoneOffset(f.text)
	case numberField:
		return d.number(i)
	}
	return d.word(i)
}

// date reads a field with - or /: a date, or once there is one, the name of a zone or hhmmss-zz.
func (d *decoder) date(text string) error {
	switch {
	case d.expect == julianWord: // J2451187-08
		d.expect = noWord
		n, rest, err := leadingNumber(text)
		if err != nil {
			return err
		}
		d.setJulian(n)
		d.adds = hasDate | hasTime | hasZone
		return d.zoneOffset(rest)
	case d.expect != noWord && d.expect != timeWord:
		return errDateSyntax
	case d.expect == timeWord || d.have&(hasMonth|hasDay) == hasMonth|hasDay:
		if d.expect == timeWord || isDigit(text[0]) {
			d.expect = noWord
			return d.compactTimeWithZone(text)
		}
		return d.namedZone(text)
	}
	return d.datePart(text)
}

// dateOfTime reads such a field for a type without a date, where a date may only stand first.
func (d *decoder) dateOfTime(i int) error {
	text := d.fields[i].text
	last := len(d.fields) - 1
	switch {
	case i == 0 && last >= 1 && (d.fields[last].kind == dateField || d.fields[1].kind == timeField):
		return d.datePart(text)
	case isDigit(text[0]):
		d.expect = noWord
		return d.compactTimeWithZone(text)
	}
	return d.namedZone(text)
}

func (d *decoder) compactTimeWithZone(text string) error {
	mark := strings.IndexByte(text, '-')
	if d.have&hasTime != 0 || mark < 0 {
		return errDateSyntax
	}
	if err := d.zoneOffset(text[mark:]); err != nil {
		return err
	}
	have := d.have
	if d.timeOnly {
		have |= hasDate
	}
	if err := d.compact(text[:mark], have); err != nil {
		return err
	}
	d.adds |= hasZone
	return nil
}

// datePart reads a date in one piece, whose month may be a name.
func (d *decoder) datePart(text string) error {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r > 0x7f || !isDigit(byte(r)) && !isLetter(byte(r)) })
	have, all := d.have, 0
	named := false
	set := func() error {
		if have&d.adds != 0 {
			return errDateSyntax
		}
		have |= d.adds
		all |= d.adds
		return nil
	}
	for i, part := range parts {
		if !isLetter(part[0]) {
			continue
		}
		w := words[part]
		parts[i] = ""
		if w == ignoredWord {
			continue
		}
		if !w.isMonth() {
			return errDateSyntax
		}
		d.month, d.adds, named = int64(w-januaryWord)+1, hasMonth, true
		if err := set(); err != nil {
			return err
		}
	}
	for _, part := range parts {
		if part == "" {
			continue
		}
		if err := d.partOfDate(part, have, named); err != nil {
			return err
		}
		if err := set(); err != nil {
			return err
		}
	}
	d.adds = all
	if have&^(hasDayOfYear|hasZone) != hasDate {
		return errDateSyntax
	}
	return nil
}

// partOfDate reads a number that stands for one part, which depends on what there is.
func (d *decoder) partOfDate(text string, have int, monthNamed bool) error {
	n, rest, err := leadingNumber(text)
	if err != nil {
		return err
	}
	if rest != "" {
		if len(text)-len(rest) > 2 { // 20011225, or 040506.789
			return d.compact(text, have|hasDate)
		}
		if d.micros, err = fraction(rest); err != nil {
			return err
		}
	}
	if len(text) == 3 && have&hasDate == hasYear && n >= 1 && n <= 366 {
		d.dayOfYear, d.adds = n, hasDayOfYear|hasMonth|hasDay
		return nil
	}
	switch have & hasDate {
	case 0:
		if len(text) >= 3 {
			d.setYear(n, text)
		} else {
			d.month, d.adds = n, hasMonth
		}
	case hasYear, hasDay:
		d.month, d.adds = n, hasMonth
	case hasMonth:
		if monthNamed && len(text) >= 3 {
			d.setYear(n, text)
		} else {
			d.day, d.adds = n, hasDay
		}
	case hasYear | hasMonth:
		d.adds = hasDay
		if monthNamed && len(text) >= 3 && d.shortYear { // what was taken for a year was the day
			d.day, d.year, d.shortYear = d.year, n, false
		} else {
			d.day = n
		}
	case hasMonth | hasDay:
		d.setYear(n, text)
	case hasDate:
		return d.compact(text, have)
	default:
		return errDateSyntax
	}
	return nil
}

func (d *decoder) setYear(n int64, text string) {
	d.year, d.adds, d.shortYear = n, hasYear, len(text) <= 2
}

// compact reads digits that run together: YYMMDD and longer, HHMMSS or HHMM.
func (d *decoder) compact(text string, have int) error {
	digits, decimals, point := strings.Cut(text, ".")
	switch {
	case point:
		micros, err := fraction("." + decimals)
		if err != nil {
			return err
		}
		d.micros = micros
	case have&hasDate != hasDate && len(digits) >= 6:
		mark := len(digits) - 4
		year, ok := number([]byte(digits[:mark]))
		if !ok || year > math.MaxInt32 {
			return errDateRange
		}
		d.year, d.month, d.day = year, twoDigits(digits[mark:]), twoDigits(digits[mark+2:])
		d.shortYear = mark == 2
		d.adds = hasDate
		return nil
	}
	if have&hasTime != 0 || len(digits) != 4 && len(digits) != 6 {
		return errDateSyntax
	}
	d.adds = hasTime
	d.hour, d.minute, d.second = twoDigits(digits), twoDigits(digits[2:]), 0
	if len(digits) == 6 {
		d.second = twoDigits(digits[4:])
	}
	return nil
}

func twoDigits(s string) int64 { return int64(s[0]-'0')*10 + int64(s[1]-'0') }

// clock reads H:M[:S][.f], or M:S.f.
func (d *decoder) clock(text string) error {
	d.adds = hasTime
	var part [3]int64
	rest, n := text, 0
	for ; n < 3; n++ {
		var err error
		if part[n], rest, err = leadingNumber(rest); err != nil {
			return err
		}
		if rest == "" || rest[0] != ':' {
			break
		}
		rest = rest[1:]
	}
	if n == 3 {
		return errDateSyntax
	}
	d.micros = 0
	if rest != "" {
		micros, err := fraction(rest)
		if err != nil {
			return err
		}
		d.micros = micros
		if n == 1 {
			part[0], part[1], part[2] = 0, part[0], part[1]
		}
	}
	d.hour, d.minute, d.second = part[0], part[1], part[2]
	if d.minute > 59 || d.second > 60 || !d.timeOnly && d.timeOverflows() {
		return errDateRange
	}
	return nil
}

func (d *decoder) timeOverflows() bool {
	return d.hour > 24 || d.minute > 59 || d.second > 60 || d.timeOfDay() > microsPerDay
}

func (d *decoder) timeOfDay() int64 {
	return d.hour*microsPerHour + d.minute*microsPerMinute + d.second*microsPerSecond + d.micros
}

// zoneOffset reads a sign and HH, HHMM, or HH:MM[:SS].
func (d *decoder) zoneOffset(text string) error {
	if text == "" || text[0] != '+' && text[0] != '-' {
		return errDateSyntax
	}
	var part [3]int64
	rest := text[1:]
	if strings.HasPrefix(rest, "-") {
		return errZoneOffset
	}
	for n := range part {
		var err error
		if part[n], rest, err = leadingNumber(rest); err != nil {
			return errZoneOffset
		}
		if rest == "" && n == 0 && len(text) > 3 {
			part[0], part[1] = part[0]/100, part[0]%100
		}
		if rest == "" || rest[0] != ':' || n == 2 {
			break
		}
		rest = rest[1:]
	}
	if part[0] > 15 || part[1] > 59 || part[2] > 59 {
		return errZoneOffset
	}
	if rest != "" {
		return errDateSyntax
	}
	d.offset = part[0]*3600 + part[1]*60 + part[2]
	if text[0] == '-' {
		d.offset = -d.offset
	}
	return nil
}

// number reads digits, which may have a point: what the field before says, or a date or time that
// runs together, or one part of a date.
func (d *decoder) number(i int) error {
	text := d.fields[i].text
	if d.expect != noWord {
		return d.expected(text)
	}
	point := strings.IndexByte(text, '.')
	last := len(d.fields) - 1
	switch {
	case d.timeOnly && point >= 0 && i == 0 && last >= 1 && d.fields[last].kind == dateField:
		return d.datePart(text)
	case d.timeOnly && point >= 0 && point <= 2:
		return errDateSyntax
	case d.timeOnly && (point >= 0 || len(text) > 4):
		return d.compact(text, d.have|hasDate)
	case d.timeOnly:
		return d.partOfDate(text, d.have|hasDate, false)
	case point >= 0 && d.have&hasDate == 0:
		return d.datePart(text)
	case point > 2, len(text) >= 6 && point < 0 && (d.have&hasDate == 0 || d.have&hasTime == 0):
		return d.compact(text, d.have)
	}
	return d.partOfDate(text, d.have, d.monthNamed)
}

func (d *decoder) expected(text string) error {
	n, rest, err := leadingNumber(text)
	if err != nil {
		return err
	}
	expect := d.expect
	d.expect = noWord
	switch expect {
	case julianWord:
		d.setJulian(n)
		d.adds = hasDate
		if rest == "" {
			return nil
		}
		part, err := strconv.ParseFloat("0"+rest, 64)
		if err != nil {
			return errDateSyntax
		}
		d.adds |= hasTime
		d.hour, d.minute, d.second, d.micros = 0, 0, 0, int64(part*microsPerDay)
		return nil
	case timeWord:
		return d.compact(text, d.have|hasDate)
	}
	return errDateSyntax
}

func (d *decoder) setJulian(day int64) {
	d.year, d.month, d.day = civil(day + firstDay)
	d.julian = true
}

// word reads letters: abbreviations of zones first, then the words of dates, then names of zones.
func (d *decoder) word(i int) error {
	text := d.fields[i].text
	if offset, ok := abbreviations[text]; ok {
		d.offset, d.adds = int64(offset)*900, hasZone
		return nil
	}
	if name, ok := movingAbbreviations[text]; ok {
		d.moving = strings.ToUpper(text)
		return d.namedZone(name)
	}
	w, ok := words[text]
	switch {
	case !ok:
		if d.namedZone(text) != nil {
			return errDateSyntax
		}
	case d.timeOnly && (w.isMonth() || w == weekdayWord):
		return errDateSyntax
	case w.isMonth():
		d.setMonth(int64(w-januaryWord) + 1)
	case w == timeWord:
		if d.timeOnly && (i == len(d.fields)-1 || d.fields[i+1].kind == offsetField || d.fields[i+1].kind == wordField) ||
			!d.timeOnly && d.have&hasDate != hasDate {
			return errDateSyntax
		}
		d.expect = w
	case w == julianWord, w == unitWord:
		d.expect = w
	case w == weekdayWord:
		d.adds = hasWeekday
	case w == amWord, w == pmWord:
		d.half, d.adds = w, hasHalf
	case w == adWord, w == bcWord:
		d.bc, d.adds = w == bcWord, hasEra
	case w == summerWord:
		d.offset += 3600
		d.adds = hasSummer
	case w != ignoredWord:
		return d.reserved(w)
	}
	return nil
}

// setMonth takes a month by name; a number that was taken for one becomes the day.
func (d *decoder) setMonth(month int64) {
	d.adds = hasMonth
	if d.have&hasMonth != 0 && !d.monthNamed && d.have&hasDay == 0 && d.month >= 1 && d.month <= 31 {
		d.day, d.adds = d.month, hasDay
	}
	d.month, d.monthNamed = month, true
}

// reserved reads the words that stand for a moment.
func (d *decoder) reserved(w word) error {
	now := d.at.now()
	switch {
	case w == allballsWord:
		d.adds = hasTime | hasZone
		d.hour, d.minute, d.second, d.micros, d.offset = 0, 0, 0, 0, 0
		return nil
	case w == nowWord:
		d.adds = hasDate | hasTime | hasZone
		d.hour, d.minute, d.second = int64(now.Hour()), int64(now.Minute()), int64(now.Second())
		d.micros = int64(now.Nanosecond() / 1000)
		_, offset := now.Zone()
		d.offset = int64(offset)
		if d.timeOnly {
			d.adds = hasTime
			return nil
		}
	case d.timeOnly:
		return errDateSyntax
	case w == epochWord, w == infinityWord, w == minusInfinityWord:
		d.special, d.adds = w, hasSpecial
		return nil
	default:
		d.adds = hasDate
		now = now.AddDate(0, 0, int(w-todayWord))
	}
	d.year, d.month, d.day = int64(now.Year()), int64(now.Month()), int64(now.Day())
	d.julian = true // as it is
	return nil
}

func (d *decoder) namedZone(name string) error {
	location, err := loadNamed(name)
	if err != nil {
		return err
	}
	d.location, d.adds = location, hasZone
	return nil
}

// checkDate makes the year what it says and looks whether there is such a day.
func (d *decoder) checkDate() error {
	if d.have&hasYear != 0 && !d.julian {
		switch {
		case !d.bc && d.shortYear:
			d.year += 1900
			if d.year < 1970 {
				d.year += 100
			}
		case d.year <= 0:
			return errDateRange
		case d.bc:
			d.year = 1 - d.year
		}
	}
	if d.have&hasDayOfYear != 0 {
		d.year, d.month, d.day = civil(dayNumber(d.year, 1, 1) + d.dayOfYear - 1)
	}
	if d.have&hasMonth != 0 && (d.month < 1 || d.month > 12) || d.have&hasDay != 0 && (d.day < 1 || d.day > 31) {
		return errDateRange
	}
	if d.have&hasDate == hasDate && d.day > daysInMonth(d.year, d.month) {
		return errDateRange
	}
	return nil
}

func (d *decoder) applyHalf() error {
	switch {
	case d.half == noWord:
	case d.hour > 12:
		return errDateRange
	case d.half == amWord && d.hour == 12:
		d.hour = 0
	case d.half == pmWord && d.hour != 12:
		d.hour += 12
	}
	return nil
}

// instant makes a value of a type out of the parts.
func (d *decoder) instant(t oid.OID) (Instant, error) {
	if d.timeOnly {
		return d.ofDay(t)
	}
	switch d.special {
	case infinityWord:
		return Instant{N: Infinity}, nil
	case minusInfinityWord:
		return Instant{N: MinusInfinity}, nil
	case epochWord:
		if t == oid.Date {
			return Instant{N: -unixOfEpoch / 86400}, nil
		}
		return Instant{N: -unixOfEpoch * microsPerSecond}, nil
	}
	if d.have&hasDate != hasDate || d.have&hasSummer != 0 && (d.location != nil || d.have&hasZone == 0) {
		return Instant{}, errDateSyntax
	}
	days := dayNumber(d.year, d.month, d.day)
	if t == oid.Date {
		return Instant{N: days}, nil
	}
	if days < firstDay-1 || days > endTimestamp/microsPerDay {
		return Instant{N: endTimestamp}, nil // of no timestamp's range
	}
	local := days*microsPerDay + d.timeOfDay()
	if t == oid.Timestamp {
		return Instant{N: local}, nil
	}
	return Instant{N: local - d.east(local)*microsPerSecond}, nil
}

// ofDay makes a value of a type without a date. The date, where there is one, or else today's says
// how far a zone is from UTC.
func (d *decoder) ofDay(t oid.OID) (Instant, error) {
	dated := d.have&hasDate == hasDate
	bare := d.have&hasZone == 0
	switch {
	case d.have&hasTime == 0, d.have&hasDate != 0 && !dated && (bare || d.location != nil), d.have&hasSummer != 0 && (bare || d.location != nil):
		return Instant{}, errDateSyntax
	case d.location != nil && d.moving == "" && !dated && !fixed(d.location, d.at.now()):
		return Instant{}, errDateSyntax
	case t == oid.Time:
		return Instant{N: d.timeOfDay()}, nil
	}
	now := d.at.now()
	days := dayNumber(int64(now.Year()), int64(now.Month()), int64(now.Day()))
	if dated {
		days = dayNumber(d.year, d.month, d.day)
	}
	return Instant{N: d.timeOfDay(), Zone: d.east(days*microsPerDay + d.timeOfDay())}, nil
}

// east is the distance from UTC, in seconds, that a local time has by what was said of its zone.
func (d *decoder) east(local int64) int64 {
	switch {
	case d.moving != "":
		return abbreviationAt(d.location, d.moving, ToUTC(d.location, local))
	case d.location != nil:
		return (local - ToUTC(d.location, local)) / microsPerSecond
	case d.have&hasZone != 0:
		return d.offset
	}
	return (local - ToUTC(d.at.zone(), local)) / microsPerSecond
}

// leadingNumber reads the digits that text begins with, none being 0.
func leadingNumber(text string) (n int64, rest string, err error) {
	digits := prefix(text, isDigit)
	if digits > 0 {
		if n, err = strconv.ParseInt(text[:digits], 10, 32); err != nil {
			return 0, "", errDateRange
		}
	}
	return n, text[digits:], nil
}

// fraction reads a point and digits as microseconds, rounded as PostgreSQL does: half to even.
func fraction(text string) (int64, error) {
	if text == "." {
		return 0, nil
	}
	f, err := strconv.ParseFloat("0"+text, 64)
	if err != nil || text[0] != '.' {
		return 0, errDateSyntax
	}
	return int64(math.RoundToEven(f * microsPerSecond)), nil
}
