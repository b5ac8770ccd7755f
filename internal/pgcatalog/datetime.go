package pgcatalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/moment"
	"skein/internal/oid"
	"skein/internal/sqlstate"
)

func datetimeFunctions() []function {
	return []function{
		{"now", 0, 0, 0, transactionTime},
		{"transaction_timestamp", 0, 0, 0, transactionTime},
		{"statement_timestamp", 0, 0, varying, func(c *call) error { return c.returnText(formatTimestamp(micros(c.sess().StatementTime()))) }},
		{"clock_timestamp", 0, 0, varying, func(c *call) error { return c.returnText(formatTimestamp(micros(time.Now()))) }},
		{"timeofday", 0, 0, varying, func(c *call) error {
			return c.returnText(time.Now().In(c.zone()).Format("Mon Jan 02 15:04:05.000000 2006 MST"))
		}},
		{"localtimestamp", 0, 1, 0, func(c *call) error { return c.returnText(formatTimestamp(c.localNow())) }},
		{"localtime_", 0, 1, 0, func(c *call) error { return c.returnText(formatTime(c.localNow())) }},
		{"current_date_", 0, 0, 0, func(c *call) error { return c.returnText(formatDate(c.localNow())) }},
		{"current_time_", 0, 1, 0, currentTime},
		{"current_timestamp_", 0, 1, 0, transactionTime},
		{"date_part", 2, 2, 0, datePart(false, true)},
		{"date_part_tz", 2, 2, 0, datePart(true, true)},
		{"extract", 2, 2, 0, datePart(false, false)},
		{"extract_tz", 2, 2, 0, datePart(true, false)},
		{"date_trunc", 2, 3, 0, dateTrunc},
		{"date_trunc_tz", 2, 2, 0, dateTruncTZ},
		{"date_bin", 3, 3, 0, dateBin},
		{"age", 1, 2, 0, ageOf},
		{"to_char", 2, 2, 0, toChar},
		{"to_char_tz", 2, 2, 0, toCharTZ},
		{"to_timestamp", 1, 2, 0, toTimestamp},
		{"to_date", 2, 2, 0, toDate},
		{"to_number", 2, 2, pure, toNumber},
		{"timezone", 2, 2, 0, timezoneOf},
		{"timezone_utc", 2, 2, 0, timezoneUTC},
		{"timestamptz_text", 1, 1, 0, timestamptzText},
		{"timestamptz_local", 1, 1, 0, timestamptzLocal},
		{"interval_time", 1, 1, pure, intervalTime},
		{"interval_text", 1, 1, 0, intervalText},
		{"make_date", 3, 3, pure, makeDate},
		{"make_timestamp", 6, 6, pure, makeTimestamp},
		{"make_timestamptz", 6, 6, 0, makeTimestamptz},
		{"make_time", 3, 3, pure, makeTime},
		{"make_interval", 0, 7, pure, makeInterval},
		{"justify_days", 1, 1, pure, justify(true, false)},
		{"justify_hours", 1, 1, pure, justify(false, true)},
		{"justify_interval", 1, 1, pure, justify(true, true)},
		{"isfinite", 1, 1, pure, func(c *call) error { return c.returnBool(!strings.HasSuffix(c.text(0), "infinity")) }},
		{"cast_date", 1, 1, 0, castMoment(oid.Date)},
		{"cast_time", 1, 2, 0, castMoment(oid.Time)},
		{"cast_timetz", 1, 2, 0, castMoment(oid.TimeTZ)},
		{"cast_timestamp", 1, 2, 0, castMoment(oid.Timestamp)},
		{"cast_timestamptz", 1, 2, 0, castMoment(oid.Timestamptz)},
		{"cast_interval", 1, 2, pure, castInterval},
	}
}

// micros cuts a time to what PostgreSQL keeps.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// zone is the session's time zone. The last one asked for is kept: loading one reads a file.
func (cat *catalog) zone() *time.Location {
	name, _ := cat.sess().Setting("TimeZone")
	if cat.zoneLoc != nil && cat.zoneName == name {
		return cat.zoneLoc
	}
	loc, err := moment.SessionZone(name)
	if err != nil {
		loc = time.UTC
	}
	cat.zoneName, cat.zoneLoc = name, loc
	return loc
}

func (cat *catalog) localNow() time.Time { return utcToLocal(micros(cat.sess().Now()), cat.zone()) }

func transactionTime(c *call) error { return c.returnText(formatTimestamp(micros(c.sess().Now()))) }

func currentTime(c *call) error {
	now := c.sess().Now().In(c.zone())
	_, offset := now.Zone()
	return c.returnText(stored(oid.TimeTZ, moment.Instant{N: sinceMidnight(now), Zone: int64(offset)}))
}

// instant reads argument i as a type, relative to a time zone; numbers are not dates.
func (c *call) instant(i int, t oid.OID, zone *time.Location) (moment.Instant, error) {
	if c.arg[i].Type() != sqlite3.TEXT {
		return moment.Instant{}, sqlstate.New(sqlstate.CannotCoerce, "cannot cast type %s to %s", typeName(c.arg[i].Type()), oid.ByOID(t).SQLName)
	}
	return moment.Parse(t, c.arg[i].RawText(), moment.Reference{Zone: zone, Now: c.sess().Now()})
}

// castMoment is the cast to a date or time; the precision may be in argument 1.
func castMoment(t oid.OID) func(*call) error {
	return func(c *call) error {
		i, err := c.instant(0, t, c.zone())
		if err != nil {
			return err
		}
		return c.returnMoment(t, i)
	}
}

func (c *call) returnMoment(t oid.OID, i moment.Instant) error {
	digits, err := c.intOr(1, 6)
	if err != nil {
		return err
	}
	if t != oid.Date {
		i.N = moment.Round(i.N, int32(min(max(digits, -1), 6)))
	}
	return c.returnText(stored(t, i))
}

// intervalTime is the time of day that an interval is cast to: what days it has are left out.
func intervalTime(c *call) error {
	v, ok := parseInterval(c.text(0))
	if !ok {
		return intervalError(c.text(0))
	}
	return c.returnText(clock(v.micros - floorDiv64(v.micros, microsPerDay)*microsPerDay))
}

func castInterval(c *call) error {
	s := c.text(0)
	v, ok := parseInterval(s)
	if !ok {
		return intervalError(s)
	}
	return c.returnText(v.String())
}

// moment reads argument i as a date, timestamp, time or interval.
func (c *call) moment(i int) (temporal, error) {
	m := momentOf(c.arg[i])
	if m.kind != noMoment && m.kind != aNumber || m.special != "" {
		return m, nil
	}
	at, err := c.instant(i, oid.Timestamptz, time.UTC)
	if err != nil {
		clock, notTime := c.instant(i, oid.TimeTZ, time.UTC)
		if notTime != nil {
			return temporal{}, err
		}
		at.N = clock.N - clock.Zone*microsPerSecond
	}
	if !at.Finite() {
		return temporal{kind: aTimestamp, special: stored(oid.Timestamptz, at)}, nil
	}
	return temporal{kind: aTimestamp, t: at.Time()}, nil
}

// datePart is EXTRACT and date_part. zoned says that the moment is an instant, whose fields are those
// of the session's time zone; float that the result is a floating-point number.
func datePart(zoned, float bool) func(*call) error {
	return func(c *call) error {
		field := strings.ToLower(c.text(0))
		m, err := c.moment(1)
		if err != nil {
			return err
		}
		if m.special != "" {
			return nil
		}
		v, ok := m.field(field, c.zoneIf(zoned))
		if !ok {
			return sqlstate.New(sqlstate.InvalidParameterValue, "unit \"%s\" not recognized for type timestamp without time zone", field)
		}
		if float {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return err
			}
			return c.returnFloat(f)
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return c.returnInt(n)
		}
		return c.returnText(v)
	}
}

// zoneIf is the session's time zone for what is an instant.
func (cat *catalog) zoneIf(zoned bool) *time.Location {
	if zoned {
		return cat.zone()
	}
	return time.UTC
}

// field gives one field as PostgreSQL spells it in an EXTRACT.
func (m temporal) field(name string, loc *time.Location) (string, bool) {
	if m.kind == anInterval {
		return intervalField(name, m.span)
	}
	_, offset := m.t.In(loc).Zone()
	switch name {
	case "epoch":
	case "timezone":
		return strconv.Itoa(offset), true
	case "timezone_hour":
		return strconv.Itoa(offset / 3600), true
	case "timezone_minute":
		return strconv.Itoa(offset % 3600 / 60), true
	default:
		return timestampField(name, utcToLocal(m.t, loc))
	}
	return timestampField(name, m.t)
}

// timestamptzText is an instant as the session sees it, with its offset.
func timestamptzText(c *call) error {
	m, err := c.moment(0)
	if err != nil {
		return err
	}
	if m.special != "" {
		return c.returnText(m.special)
	}
	return c.returnText(string(moment.AppendIn(nil, moment.At(m.t), c.zone())))
}

// intervalText is an interval in the session's style.
func intervalText(c *call) error {
	text := c.text(0)
	style, _ := c.sess().Setting("IntervalStyle")
	if style == "" || style == moment.Postgres {
		return c.returnText(text)
	}
	i, err := moment.ParseInterval([]byte(text))
	if err != nil {
		return err
	}
	return c.returnText(string(i.AppendStyle(nil, style)))
}

// timestamptzLocal is the session's wall clock at an instant.
func timestamptzLocal(c *call) error {
	m, err := c.moment(0)
	if err != nil {
		return err
	}
	if m.special != "" {
		return c.returnText(m.special)
	}
	return c.returnText(formatTimestamp(utcToLocal(m.t, c.zone())))
}

// secondsText spells microseconds as seconds with the six digits that EXTRACT gives.
func secondsText(micros int64) string {
	sign := ""
	if micros < 0 {
		sign, micros = "-", -micros
	}
	return fmt.Sprintf("%s%d.%06d", sign, micros/1000000, micros%1000000)
}

func timestampField(field string, t time.Time) (string, bool) {
	year := t.Year()
	isoYear, isoWeek := t.ISOWeek()
	era := func(n int) string { // PostgreSQL has no year 0
		if year <= 0 {
			return strconv.Itoa((year - n) / n)
		}
		return strconv.Itoa((year + n - 1) / n)
	}
	fraction := int64(t.Second())*microsPerSecond + int64(t.Nanosecond()/1000)
	switch field {
	case "year", "y", "years":
		if year <= 0 {
			year--
		}
		return strconv.Itoa(year), true
	case "quarter":
		return strconv.Itoa((int(t.Month()) + 2) / 3), true
	case "month", "mon", "months":
		return strconv.Itoa(int(t.Month())), true
	case "week":
		return strconv.Itoa(isoWeek), true
	case "day", "d", "days":
		return strconv.Itoa(t.Day()), true
	case "hour", "h", "hours":
		return strconv.Itoa(t.Hour()), true
	case "minute", "min", "minutes":
		return strconv.Itoa(t.Minute()), true
	case "second", "sec", "seconds", "s":
		return secondsText(fraction), true
	case "milliseconds", "millisecond", "ms":
		return fmt.Sprintf("%d.%03d", fraction/1000, fraction%1000), true
	case "microseconds", "microsecond", "us":
		return strconv.FormatInt(fraction, 10), true
	case "epoch":
		return secondsText(t.UnixMicro()), true
	case "dow":
		return strconv.Itoa(int(t.Weekday())), true
	case "isodow":
		return strconv.Itoa((int(t.Weekday())+6)%7 + 1), true
	case "doy":
		return strconv.Itoa(t.YearDay()), true
	case "isoyear":
		return strconv.Itoa(isoYear), true
	case "decade":
		return strconv.Itoa(floorDiv(year, 10)), true
	case "century":
		return era(100), true
	case "millennium":
		return era(1000), true
	case "julian":
		return strconv.FormatInt(floorDiv64(t.Unix(), 86400)+2440588, 10), true
	}
	return "", false
}

func floorDiv64(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func intervalField(field string, v interval) (string, bool) {
	second := v.micros % (60 * microsPerSecond)
	switch strings.TrimSuffix(field, "s") {
	case "year":
		return strconv.FormatInt(v.months/12, 10), true
	case "month":
		return strconv.FormatInt(v.months%12, 10), true
	case "quarter":
		return strconv.FormatInt(v.months%12/3+1, 10), true
	case "day":
		return strconv.FormatInt(v.days, 10), true
	case "hour":
		return strconv.FormatInt(v.micros/(3600*microsPerSecond), 10), true
	case "minute":
		return strconv.FormatInt(v.micros/(60*microsPerSecond)%60, 10), true
	case "second":
		return secondsText(second), true
	case "millisecond":
		return fmt.Sprintf("%d.%03d", second/1000, second%1000), true
	case "microsecond":
		return strconv.FormatInt(second, 10), true
	case "epoch":
		return strconv.FormatFloat(v.seconds(), 'f', 6, 64), true
	case "decade":
		return strconv.FormatInt(v.months/120, 10), true
	case "century":
		return strconv.FormatInt(v.months/1200, 10), true
	case "millennium":
		return strconv.FormatInt(v.months/12000, 10), true
	}
	return "", false
}

func dateTrunc(c *call) error {
	if len(c.arg) < 3 {
		return c.truncDate(time.UTC)
	}
	loc, err := moment.LoadZone(c.text(2))
	if err != nil {
		return err
	}
	return c.truncDate(loc)
}

func dateTruncTZ(c *call) error { return c.truncDate(c.zone()) }

func (c *call) truncDate(loc *time.Location) error {
	field := strings.ToLower(c.text(0))
	m, err := c.moment(1)
	if err != nil {
		return err
	}
	if m.special != "" {
		return c.returnText(m.special)
	}
	if m.kind == anInterval {
		v, ok := truncInterval(field, m.span)
		if !ok {
			return badUnit(field)
		}
		return c.returnText(v.String())
	}
	t, ok := truncTime(field, utcToLocal(m.t, loc))
	if !ok {
		return badUnit(field)
	}
	return c.returnText(formatTimestamp(localToUTC(t, loc)))
}

func badUnit(field string) error {
	return sqlstate.New(sqlstate.InvalidParameterValue, "unit \"%s\" not recognized for type timestamp with time zone", field)
}

func truncTime(field string, t time.Time) (time.Time, bool) {
	y, mo, d := t.Date()
	date := func(y int, m time.Month, d int) (time.Time, bool) {
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC), true
	}
	switch strings.TrimSuffix(field, "s") {
	case "microsecond":
		return t.Truncate(time.Microsecond), true
	case "millisecond":
		return t.Truncate(time.Millisecond), true
	case "second":
		return t.Truncate(time.Second), true
	case "minute":
		return t.Truncate(time.Minute), true
	case "hour":
		return t.Truncate(time.Hour), true
	case "day":
		return date(y, mo, d)
	case "week":
		return date(y, mo, d-(int(t.Weekday())+6)%7)
	case "month":
		return date(y, mo, 1)
	case "quarter":
		return date(y, (mo-1)/3*3+1, 1)
	case "year":
		return date(y, 1, 1)
	case "decade":
		return date(floorDiv(y, 10)*10, 1, 1)
	case "century":
		return date(floorDiv(y-1, 100)*100+1, 1, 1)
	case "millennium":
		return date(floorDiv(y-1, 1000)*1000+1, 1, 1)
	}
	return t, false
}

func truncInterval(field string, v interval) (interval, bool) {
	cut := func(n, unit int64) int64 { return n - n%unit }
	switch strings.TrimSuffix(field, "s") {
	case "microsecond":
		return v, true
	case "millisecond":
		return interval{v.months, v.days, cut(v.micros, 1000)}, true
	case "second":
		return interval{v.months, v.days, cut(v.micros, microsPerSecond)}, true
	case "minute":
		return interval{v.months, v.days, cut(v.micros, 60*microsPerSecond)}, true
	case "hour":
		return interval{v.months, v.days, cut(v.micros, 3600*microsPerSecond)}, true
	case "day":
		return interval{v.months, v.days, 0}, true
	case "month":
		return interval{months: v.months}, true
	case "quarter":
		return interval{months: cut(v.months, 3)}, true
	case "year":
		return interval{months: cut(v.months, 12)}, true
	case "decade":
		return interval{months: cut(v.months, 120)}, true
	case "century":
		return interval{months: cut(v.months, 1200)}, true
	}
	return v, false
}

func dateBin(c *call) error {
	stride, ok := parseInterval(c.text(0))
	step := stride.days*microsPerDay + stride.micros
	if !ok || stride.months != 0 || step <= 0 {
		return sqlstate.New(sqlstate.InvalidParameterValue, "stride must be greater than zero and without months")
	}
	m, err := c.moment(1)
	if err != nil {
		return err
	}
	origin, err := c.moment(2)
	if err != nil {
		return err
	}
	from := origin.t.UnixMicro()
	bin := from + floorDiv64(m.t.UnixMicro()-from, step)*step
	return c.returnText(formatTimestamp(time.UnixMicro(bin).UTC()))
}

func ageOf(c *call) error {
	a, err := c.moment(0)
	if err != nil {
		return err
	}
	if len(c.arg) == 2 {
		b, err := c.moment(1)
		if err != nil {
			return err
		}
		return c.returnText(age(a.t, b.t).String())
	}
	today, _ := truncTime("day", c.localNow())
	return c.returnText(age(today, a.t).String())
}

// timezoneOf is "instant AT TIME ZONE zone": the wall clock there. A text that names its own zone is
// an instant too; the canonical text of a timestamptz is UTC.
func timezoneOf(c *call) error {
	return c.atTimeZone(oid.Timestamptz, func(loc *time.Location, i moment.Instant) time.Time { return utcToLocal(i.Time(), loc) })
}

// timezoneUTC is "timestamp AT TIME ZONE zone": the instant of that wall clock there.
func timezoneUTC(c *call) error {
	return c.atTimeZone(oid.Timestamp, func(loc *time.Location, i moment.Instant) time.Time { return localToUTC(i.Time(), loc) })
}

func (c *call) atTimeZone(t oid.OID, move func(*time.Location, moment.Instant) time.Time) error {
	loc, err := moment.LoadZone(c.text(0))
	if err != nil {
		return err
	}
	i, err := c.instant(1, t, time.UTC)
	if err != nil {
		return err
	}
	if !i.Finite() {
		return c.returnText(stored(t, i))
	}
	return c.returnText(formatTimestamp(move(loc, i)))
}

// ints reads every argument as an integer.
func (c *call) ints() ([]int, error) {
	out := make([]int, len(c.arg))
	for i := range c.arg {
		n, err := c.int(i)
		if err != nil {
			return nil, err
		}
		if n < -1e9 || n > 1e9 {
			return nil, sqlstate.New(sqlstate.DatetimeOverflow, "date field value out of range: %d", n)
		}
		out[i] = int(n)
	}
	return out, nil
}

func makeDate(c *call) error {
	n, err := c.ints()
	if err != nil {
		return err
	}
	year := n[0]
	if year < 0 {
		year++
	}
	if n[0] == 0 || n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > daysIn(year, n[1]) {
		return sqlstate.New(sqlstate.DatetimeOverflow, "date field value out of range: %d-%02d-%02d", n[0], n[1], n[2])
	}
	return c.returnText(formatDate(time.Date(year, time.Month(n[1]), n[2], 0, 0, 0, 0, time.UTC)))
}

func makeTimestamp(c *call) error {
	t, err := c.fields()
	if err != nil {
		return err
	}
	return c.returnText(formatTimestamp(t))
}

func makeTimestamptz(c *call) error {
	t, err := c.fields()
	if err != nil {
		return err
	}
	return c.returnText(formatTimestamp(localToUTC(t, c.zone())))
}

// fields reads a year, month, day, hour, minute and second.
func (c *call) fields() (time.Time, error) {
	s := fmt.Sprintf("%s-%s-%s %s:%s:%s", c.text(0), pad2(c.text(1)), pad2(c.text(2)), c.text(3), c.text(4), c.text(5))
	i, err := moment.Parse(oid.Timestamp, []byte(s), moment.Reference{})
	if err != nil {
		return time.Time{}, sqlstate.New(sqlstate.DatetimeOverflow, "date field value out of range: %s", s)
	}
	return i.Time(), nil
}

func makeTime(c *call) error {
	micros, ok := parseClock(c.text(0) + ":" + c.text(1) + ":" + c.text(2))
	if !ok || micros < 0 || micros > microsPerDay {
		return sqlstate.New(sqlstate.DatetimeOverflow, "time field value out of range: %s:%s:%s", c.text(0), c.text(1), c.text(2))
	}
	return c.returnText(clock(micros))
}

func pad2(s string) string {
	if len(s) == 1 {
		return "0" + s
	}
	return s
}

func makeInterval(c *call) error {
	units := []string{"year", "month", "week", "day", "hour", "minute", "second"}
	var v interval
	for i := range c.arg {
		n, err := toFloat(c.arg[i], "double precision")
		if err != nil {
			return err
		}
		u, _ := unitOf(units[i])
		v.addQuantity(n, u)
	}
	return c.returnText(v.String())
}

func justify(days, hours bool) func(*call) error {
	return func(c *call) error {
		v, ok := parseInterval(c.text(0))
		if !ok {
			return intervalError(c.text(0))
		}
		if hours {
			v.days += v.micros / microsPerDay
			v.micros %= microsPerDay
		}
		if days {
			v.months += v.days / 30
			v.days %= 30
		}
		return c.returnText(v.String())
	}
}
