package pgcatalog

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/ncruces/go-sqlite3"

	"skein/internal/moment"
	"skein/internal/sqlstate"
)

// toChar formats a timestamp, an interval or a number by PostgreSQL's template patterns.
func toChar(c *call) error {
	format := c.text(1)
	if len(format) > 1024 {
		return sqlstate.New(sqlstate.ProgramLimitExceeded, "formatting template is too long")
	}
	if t := c.arg[0].Type(); t == sqlite3.INTEGER || t == sqlite3.FLOAT || looksDecimal(c.text(0)) {
		d, err := toDecimal(c.arg[0])
		if err != nil {
			return err
		}
		return c.returnText(formatNumberTemplate(d, format))
	}
	m, err := c.moment(0)
	if err != nil {
		return err
	}
	if m.special != "" {
		return c.returnText(m.special)
	}
	if m.kind == anInterval {
		base := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
		m.t = base.Add(time.Duration(m.span.micros) * time.Microsecond)
	}
	return c.returnText(formatTimeTemplate(m.t, format))
}

// toCharTZ formats an instant, in the session's time zone.
func toCharTZ(c *call) error {
	format := c.text(1)
	if len(format) > 1024 {
		return sqlstate.New(sqlstate.ProgramLimitExceeded, "formatting template is too long")
	}
	m, err := c.moment(0)
	if err != nil {
		return err
	}
	if m.special != "" {
		return c.returnText(m.special)
	}
	return c.returnText(formatTimeTemplate(m.t.In(c.zone()), format))
}

// timePatterns are the template patterns of a time, longer ones before those that begin them.
var timePatterns = []struct {
	name   string
	format func(t time.Time) string
}{
	{"HH24", func(t time.Time) string { return fmt.Sprintf("%02d", t.Hour()) }},
	{"HH12", func(t time.Time) string { return fmt.Sprintf("%02d", (t.Hour()+11)%12+1) }},
	{"HH", func(t time.Time) string { return fmt.Sprintf("%02d", (t.Hour()+11)%12+1) }},
	{"MI", func(t time.Time) string { return fmt.Sprintf("%02d", t.Minute()) }},
	{"SSSSS", secondOfDay},
	{"SSSS", secondOfDay},
	{"SS", func(t time.Time) string { return fmt.Sprintf("%02d", t.Second()) }},
	{"MS", func(t time.Time) string { return fmt.Sprintf("%03d", t.Nanosecond()/1e6) }},
	{"US", func(t time.Time) string { return fmt.Sprintf("%06d", t.Nanosecond()/1e3) }},
	{"A.M.", func(t time.Time) string { return t.Format("PM")[:1] + ".M." }},
	{"P.M.", func(t time.Time) string { return t.Format("PM")[:1] + ".M." }},
	{"AM", func(t time.Time) string { return t.Format("PM") }},
	{"PM", func(t time.Time) string { return t.Format("PM") }},
	{"Y,YYY", func(t time.Time) string { return fmt.Sprintf("%d,%03d", t.Year()/1000, t.Year()%1000) }},
	{"YYYY", func(t time.Time) string { return fmt.Sprintf("%04d", t.Year()) }},
	{"YYY", func(t time.Time) string { return fmt.Sprintf("%03d", t.Year()%1000) }},
	{"YY", func(t time.Time) string { return fmt.Sprintf("%02d", t.Year()%100) }},
	{"Y", func(t time.Time) string { return strconv.Itoa(t.Year() % 10) }},
	{"IYYY", func(t time.Time) string { y, _ := t.ISOWeek(); return fmt.Sprintf("%04d", y) }},
	{"IW", func(t time.Time) string { _, w := t.ISOWeek(); return fmt.Sprintf("%02d", w) }},
	{"IDDD", func(t time.Time) string { return fmt.Sprintf("%03d", t.YearDay()) }},
	{"ID", func(t time.Time) string { return strconv.Itoa((int(t.Weekday())+6)%7 + 1) }},
	{"MONTH", func(t time.Time) string { return fmt.Sprintf("%-9s", strings.ToUpper(t.Month().String())) }},
	{"MON", func(t time.Time) string { return strings.ToUpper(t.Format("Jan")) }},
	{"MM", func(t time.Time) string { return fmt.Sprintf("%02d", int(t.Month())) }},
	{"DAY", func(t time.Time) string { return fmt.Sprintf("%-9s", strings.ToUpper(t.Weekday().String())) }},
	{"DDD", func(t time.Time) string { return fmt.Sprintf("%03d", t.YearDay()) }},
	{"DD", func(t time.Time) string { return fmt.Sprintf("%02d", t.Day()) }},
	{"DY", func(t time.Time) string { return strings.ToUpper(t.Format("Mon")) }},
	{"D", func(t time.Time) string { return strconv.Itoa(int(t.Weekday()) + 1) }},
	{"WW", func(t time.Time) string { return fmt.Sprintf("%02d", (t.YearDay()-1)/7+1) }},
	{"W", func(t time.Time) string { return strconv.Itoa((t.Day()-1)/7 + 1) }},
	{"CC", func(t time.Time) string { return fmt.Sprintf("%02d", (t.Year()+99)/100) }},
	{"J", func(t time.Time) string { return strconv.FormatInt(floorDiv64(t.Unix(), 86400)+2440588, 10) }},
	{"Q", func(t time.Time) string { return strconv.Itoa((int(t.Month()) + 2) / 3) }},
	{"TZH", func(t time.Time) string { return t.Format("-07") }},
	{"TZM", func(t time.Time) string { return t.Format("-07:00")[4:] }},
	{"TZ", func(t time.Time) string { return t.Format("MST") }},
	{"OF", func(t time.Time) string { return strings.TrimSuffix(t.Format("-07:00"), ":00") }},
	{"BC", func(time.Time) string { return "AD" }},
	{"AD", func(time.Time) string { return "AD" }},
}

func secondOfDay(t time.Time) string {
	return strconv.Itoa(t.Hour()*3600 + t.Minute()*60 + t.Second())
}

// formatTimeTemplate replaces the patterns of a template; text in double quotes and whatever is no
// pattern stays.
func formatTimeTemplate(t time.Time, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); {
		if format[i] == '"' {
			end := strings.IndexByte(format[i+1:], '"')
			if end < 0 {
				end = len(format) - i - 1
			}
			b.WriteString(format[i+1 : i+1+end])
			i = min(i+end+2, len(format))
			continue
		}
		rest := format[i:]
		fill := strings.HasPrefix(strings.ToUpper(rest), "FM")
		if fill {
			rest = rest[2:]
		}
		name, value := matchPattern(t, rest)
		if name == "" {
			if fill {
				i += 2
				continue
			}
			b.WriteByte(format[i])
			i++
			continue
		}
		if fill {
			value = strings.TrimRight(value, " ")
			if _, err := strconv.Atoi(value); err == nil {
				value = strings.TrimLeft(value, "0")
				if value == "" {
					value = "0"
				}
			}
			i += 2
		}
		i += len(name)
		b.WriteString(value)
		i += ordinalSuffix(&b, format[i:], value)
	}
	return b.String()
}

// matchPattern gives the pattern that rest begins with, as written, and its value in that case.
func matchPattern(t time.Time, rest string) (name, value string) {
	for _, p := range timePatterns {
		if len(rest) < len(p.name) || !strings.EqualFold(rest[:len(p.name)], p.name) {
			continue
		}
		name = rest[:len(p.name)]
		return name, matchCase(name, p.format(t))
	}
	return "", ""
}

// matchCase gives words the case of their pattern: MONTH, Month or month.
func matchCase(pattern, value string) string {
	switch {
	case pattern == strings.ToLower(pattern):
		return strings.ToLower(value)
	case len(pattern) > 1 && pattern[1:] == strings.ToLower(pattern[1:]) && value != "":
		return value[:1] + strings.ToLower(value[1:])
	}
	return value
}

// ordinalSuffix writes st, nd, rd or th where the template asks for one, and gives the length taken.
func ordinalSuffix(b *strings.Builder, rest, value string) int {
	if len(rest) < 2 || !strings.EqualFold(rest[:2], "th") {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0
	}
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	if rest[0] == 'T' {
		suffix = strings.ToUpper(suffix)
	}
	b.WriteString(suffix)
	return 2
}

// formatNumberTemplate formats a number by a template of 9, 0, D or ., G or comma, S, MI, PR and FM.
func formatNumberTemplate(d *apd.Decimal, format string) string {
	upper := strings.ToUpper(format)
	fill := strings.Contains(upper, "FM")
	upper = strings.ReplaceAll(upper, "FM", "")
	whole, frac := upper, ""
	if i := strings.IndexAny(upper, ".D"); i >= 0 {
		whole, frac = upper[:i], upper[i+1:]
	}
	places := strings.Count(frac, "9") + strings.Count(frac, "0")
	digits := strings.Count(whole, "9") + strings.Count(whole, "0")
	value := formatDecimal(roundTo(d, int32(places)))
	negative := strings.HasPrefix(value, "-")
	value = strings.TrimPrefix(value, "-")
	intPart, fracPart, _ := strings.Cut(value, ".")
	if intPart == "0" && places > 0 {
		intPart = ""
	}
	if len(intPart) > digits {
		return " " + strings.Map(hashDigits, strings.TrimLeft(upper, " "))
	}
	body := fillWhole(whole, intPart, digits)
	if places > 0 || strings.ContainsAny(upper, ".D") {
		if fill {
			fracPart = trimOptional(frac, fracPart)
		}
		body += "." + fracPart
	}
	body = placeSign(upper, body, negative)
	if fill {
		return strings.ReplaceAll(body, " ", "")
	}
	return body
}

func hashDigits(r rune) rune {
	switch r {
	case '9', '0':
		return '#'
	case 'D':
		return '.'
	case 'G':
		return ','
	}
	return r
}

// fillWhole lays the digits before the point into their template from the right.
func fillWhole(template, digits string, room int) string {
	digits = strings.Repeat(" ", room-len(digits)) + digits
	var b strings.Builder
	i, started := 0, false
	for _, r := range template {
		switch r {
		case '9', '0':
			ch := digits[i]
			i++
			if ch == ' ' && (r == '0' || started) {
				ch = '0'
			}
			started = started || ch != ' '
			b.WriteByte(ch)
		case ',', 'G':
			if started {
				b.WriteByte(',')
			} else {
				b.WriteByte(' ')
			}
		case 'L':
			b.WriteByte('$')
		case 'S', 'M', 'I', 'P', 'R':
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// trimOptional drops the trailing zeros that stand where the template has a 9.
func trimOptional(template, digits string) string {
	for i := len(digits) - 1; i >= 0 && i < len(template) && digits[i] == '0' && template[i] == '9'; i-- {
		digits = digits[:i]
	}
	return digits
}

func placeSign(template, body string, negative bool) string {
	switch {
	case strings.HasSuffix(template, "PR") && negative:
		return "<" + strings.TrimLeft(body, " ") + ">"
	case strings.HasSuffix(template, "PR"):
		return " " + body + " "
	case strings.HasSuffix(template, "MI") && negative, strings.HasSuffix(template, "S") && negative:
		return body + "-"
	case strings.HasSuffix(template, "MI"):
		return body + " "
	case strings.HasSuffix(template, "S"):
		return body + "+"
	}
	sign := " "
	if negative {
		sign = "-"
	} else if strings.HasPrefix(template, "S") {
		sign = "+"
	}
	blank := len(body) - len(strings.TrimLeft(body, " "))
	return body[:blank] + sign + body[blank:]
}

func toTimestamp(c *call) error {
	if len(c.arg) == 2 {
		t, err := parseTemplate(c.text(0), c.text(1))
		if err != nil {
			return err
		}
		return c.returnText(formatTimestamp(localToUTC(t, c.zone())))
	}
	f, err := toFloat(c.arg[0], "double precision")
	if err != nil {
		return err
	}
	if math.IsInf(f, 0) {
		return c.returnText(strings.ToLower(formatFloat(f)))
	}
	if math.IsNaN(f) || math.Abs(f) > 9e12 {
		return sqlstate.New(sqlstate.DatetimeOverflow, "timestamp out of range: \"%s\"", formatFloat(f))
	}
	return c.returnText(formatTimestamp(time.UnixMicro(int64(math.RoundToEven(f * 1e6))).UTC()))
}

func toDate(c *call) error {
	t, err := parseTemplate(c.text(0), c.text(1))
	if err != nil {
		return err
	}
	return c.returnText(formatDate(t))
}

// fullYear is the year that two digits stand for.
func fullYear(y int) int {
	if y < 70 {
		return 2000 + y
	}
	return 1900 + y
}

// parseTemplate reads a time by a template.
func parseTemplate(s, format string) (time.Time, error) {
	year, month, day, hour, minute, second := 1, 1, 1, 0, 0, 0
	nanos, pm := 0, false
	bad := sqlstate.New(sqlstate.InvalidDatetimeFormat, "invalid value \"%s\" for template \"%s\"", s, format)
	upper := strings.ToUpper(format)
	for len(upper) > 0 {
		pattern := templateField(upper)
		if pattern == "" {
			upper = upper[1:]
			if s != "" && !isDigit(s[0]) {
				s = s[1:]
			}
			continue
		}
		upper = upper[len(pattern):]
		s = strings.TrimLeft(s, " ")
		switch pattern {
		case "FM":
			continue
		case "AM", "PM":
			if len(s) < 2 {
				return time.Time{}, bad
			}
			pm = strings.EqualFold(s[:2], "pm")
			s = s[2:]
			continue
		case "MONTH", "MON":
			n := 0
			for n < len(s) && isLetter(s[n]) && (pattern == "MONTH" || n < 3) {
				n++
			}
			if month = moment.Month(s[:n]); month == 0 {
				return time.Time{}, bad
			}
			s = s[n:]
			continue
		}
		width := map[string]int{"YYYY": 4, "MS": 3, "US": 6}[pattern]
		n := 0
		for n < len(s) && isDigit(s[n]) && n < max(width, 2) {
			n++
		}
		v, err := strconv.Atoi(s[:n])
		if err != nil {
			return time.Time{}, bad
		}
		digits := n
		s = s[n:]
		switch pattern {
		case "YYYY":
			year = v
		case "YY":
			year = fullYear(v)
		case "MM":
			month = v
		case "DD":
			day = v
		case "HH24", "HH12", "HH":
			hour = v
		case "MI":
			minute = v
		case "SS":
			second = v
		case "MS", "US":
			for ; digits < 9; digits++ {
				v *= 10
			}
			nanos = v
		}
	}
	if pm && hour < 12 {
		hour += 12
	}
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 24 || minute > 59 || second > 59 {
		return time.Time{}, sqlstate.New(sqlstate.DatetimeOverflow, "date/time field value out of range: \"%s\"", s)
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC), nil
}

func templateField(upper string) string {
	for _, p := range []string{"YYYY", "YY", "MONTH", "MON", "MM", "DD", "HH24", "HH12", "HH", "MI", "SS", "MS", "US", "AM", "PM", "FM"} {
		if strings.HasPrefix(upper, p) {
			return p
		}
	}
	return ""
}

func toNumber(c *call) error {
	s := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, c.text(0))
	if strings.HasSuffix(s, "-") {
		s = "-" + strings.TrimSuffix(s, "-")
	}
	d, ok := parseDecimal(s)
	if !ok {
		return badText("numeric", c.text(0))
	}
	return c.returnText(formatDecimal(d))
}
