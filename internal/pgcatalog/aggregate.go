package pgcatalog

import (
	"math"
	"strings"

	"github.com/cockroachdb/apd/v3"
	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// aggregate describes one aggregate function. The table of them is shared by all connections.
type aggregate struct {
	name  string
	args  int
	json  bool // gives JSON, and takes JSON arguments as such
	start func(cat *catalog) sqlite3.AggregateFunction
}

func (a *aggregate) register(cat *catalog) error {
	flags := sqlite3.INNOCUOUS | sqlite3.DETERMINISTIC
	if a.json {
		flags |= sqlite3.SUBTYPE | sqlite3.RESULT_SUBTYPE
	}
	return cat.conn.CreateWindowFunction(a.name, a.args, flags, func() sqlite3.AggregateFunction { return a.start(cat) })
}

var aggregates = []aggregate{
	{"numeric_sum", 1, false, func(cat *catalog) sqlite3.AggregateFunction { return &total{catalog: cat} }},
	{"numeric_avg", 1, false, func(cat *catalog) sqlite3.AggregateFunction { return &total{catalog: cat, average: true} }},
	{"array_agg", 1, false, func(*catalog) sqlite3.AggregateFunction { return &arrayAggregate{} }},
	{"bool_and", 1, false, func(*catalog) sqlite3.AggregateFunction { return &boolAggregate{all: true} }},
	{"every", 1, false, func(*catalog) sqlite3.AggregateFunction { return &boolAggregate{all: true} }},
	{"bool_or", 1, false, func(*catalog) sqlite3.AggregateFunction { return &boolAggregate{} }},
	{"stddev", 1, false, spreadOf(true, true)},
	{"stddev_samp", 1, false, spreadOf(true, true)},
	{"stddev_pop", 1, false, spreadOf(false, true)},
	{"variance", 1, false, spreadOf(true, false)},
	{"var_samp", 1, false, spreadOf(true, false)},
	{"var_pop", 1, false, spreadOf(false, false)},
	{"bit_and", 1, false, func(*catalog) sqlite3.AggregateFunction { return &bitAggregate{and: true} }},
	{"bit_or", 1, false, func(*catalog) sqlite3.AggregateFunction { return &bitAggregate{} }},
	{"json_agg", 1, true, func(*catalog) sqlite3.AggregateFunction { return &jsonAggregate{} }},
	{"jsonb_agg", 1, true, func(*catalog) sqlite3.AggregateFunction { return &jsonAggregate{} }},
	{"json_object_agg", 2, true, func(*catalog) sqlite3.AggregateFunction { return &jsonObjectAggregate{spaced: true} }},
	{"jsonb_object_agg", 2, true, func(*catalog) sqlite3.AggregateFunction { return &jsonObjectAggregate{} }},
}

// total is an exact sum or average. It keeps integers, decimals and floats apart, so that a window
// that gives rows back ends where it began.
type total struct {
	*catalog
	average          bool
	rows             int64
	decimals, floats int64 // rows that were decimals, floats
	whole            apd.Decimal
	decimal          apd.Decimal
	scales           []int64 // scales[i] counts the decimals with i digits after the point
	float            float64
	spans            int64 // rows that were intervals
	span             interval
	failed           bool
}

func (t *total) Step(ctx sqlite3.Context, arg ...sqlite3.Value)    { t.add(ctx, arg[0], 1) }
func (t *total) Inverse(ctx sqlite3.Context, arg ...sqlite3.Value) { t.add(ctx, arg[0], -1) }

func (t *total) add(ctx sqlite3.Context, v sqlite3.Value, n int64) {
	if v.Type() == sqlite3.NULL || t.failed {
		return
	}
	t.rows += n
	switch v.Type() {
	case sqlite3.INTEGER:
		t.accumulate(ctx, &t.whole, apd.New(v.Int64(), 0), n)
	case sqlite3.FLOAT:
		t.floats += n
		t.float += float64(n) * v.Float()
	default:
		t.addText(ctx, v.Text(), n)
	}
}

// addText takes a decimal or an interval.
func (t *total) addText(ctx sqlite3.Context, s string, n int64) {
	if d, ok := parseDecimal(s); ok {
		d = plain(d)
		t.decimals += n
		t.countScale(scaleOf(d), n)
		t.accumulate(ctx, &t.decimal, d, n)
		return
	}
	span, ok := parseInterval(s)
	if !ok {
		t.failed = true
		t.fail(ctx, badText("numeric", s))
		return
	}
	t.spans += n
	t.span = t.span.add(interval{n * span.months, n * span.days, n * span.micros})
}

func (t *total) accumulate(ctx sqlite3.Context, sum, d *apd.Decimal, n int64) {
	if d.Form != apd.Finite || sum.Form != apd.Finite {
		if r, err := specialOp('+', sum, d); err == nil {
			sum.Set(r)
		}
		return
	}
	op := exact().Add
	if n < 0 {
		op = exact().Sub
	}
	if _, err := op(sum, sum, d); err != nil {
		t.failed = true
		t.fail(ctx, decimalError(err))
	}
}

func (t *total) countScale(scale int32, n int64) {
	for len(t.scales) <= int(scale) {
		t.scales = append(t.scales, 0)
	}
	t.scales[scale] += n
}

func (t *total) Value(ctx sqlite3.Context) {
	if t.rows <= 0 || t.failed {
		return
	}
	switch {
	case t.spans > 0 && t.average:
		ctx.ResultText(t.span.scale(1 / float64(t.rows)).String())
		return
	case t.spans > 0:
		ctx.ResultText(t.span.String())
		return
	case t.floats > 0:
		f := t.float + approximate(&t.whole) + approximate(&t.decimal)
		if t.average {
			f /= float64(t.rows)
		}
		ctx.ResultFloat(f)
		return
	}
	if t.decimals == 0 && !t.average {
		n, err := t.whole.Int64()
		if err != nil {
			t.fail(ctx, outOfRange("bigint"))
			return
		}
		ctx.ResultInt64(n)
		return
	}
	sum, err := decimalOp('+', &t.whole, &t.decimal)
	if err == nil {
		sum = roundTo(plain(sum), t.scale())
		if t.average {
			sum, err = decimalOp('/', sum, apd.New(t.rows, 0))
		}
	}
	if err != nil {
		t.fail(ctx, decimalError(err))
		return
	}
	ctx.ResultText(formatDecimal(sum))
}

// scale is the largest scale among the decimals that are in the sum now.
func (t *total) scale() int32 {
	for i := len(t.scales) - 1; i >= 0; i-- {
		if t.scales[i] > 0 {
			return int32(i)
		}
	}
	return 0
}

// boolAggregate is bool_and and bool_or.
type boolAggregate struct {
	all     bool
	yes, no int64
}

func (b *boolAggregate) Step(_ sqlite3.Context, arg ...sqlite3.Value)    { b.count(arg[0], 1) }
func (b *boolAggregate) Inverse(_ sqlite3.Context, arg ...sqlite3.Value) { b.count(arg[0], -1) }

func (b *boolAggregate) count(v sqlite3.Value, n int64) {
	switch {
	case v.Type() == sqlite3.NULL:
	case v.Bool():
		b.yes += n
	default:
		b.no += n
	}
}

func (b *boolAggregate) Value(ctx sqlite3.Context) {
	switch {
	case b.yes+b.no == 0:
	case b.all:
		ctx.ResultBool(b.no == 0)
	default:
		ctx.ResultBool(b.yes > 0)
	}
}

// bitAggregate is bit_and and bit_or. It has no inverse, so it is no window function.
type bitAggregate struct {
	and, any bool
	bits     int64
}

func (b *bitAggregate) Step(_ sqlite3.Context, arg ...sqlite3.Value) {
	if arg[0].Type() == sqlite3.NULL {
		return
	}
	n := arg[0].Int64()
	switch {
	case !b.any:
		b.bits = n
	case b.and:
		b.bits &= n
	default:
		b.bits |= n
	}
	b.any = true
}

func (b *bitAggregate) Value(ctx sqlite3.Context) {
	if b.any {
		ctx.ResultInt64(b.bits)
	}
}

// spread is a variance or a standard deviation, by Welford's method; taking a row out runs it
// backwards.
type spread struct {
	sample, root bool
	n            float64
	mean, m2     float64
}

func spreadOf(sample, root bool) func(*catalog) sqlite3.AggregateFunction {
	return func(*catalog) sqlite3.AggregateFunction { return &spread{sample: sample, root: root} }
}

func (s *spread) Step(_ sqlite3.Context, arg ...sqlite3.Value) {
	x, err := toFloat(arg[0], "double precision")
	if arg[0].Type() == sqlite3.NULL || err != nil {
		return
	}
	s.n++
	d := x - s.mean
	s.mean += d / s.n
	s.m2 += d * (x - s.mean)
}

func (s *spread) Inverse(_ sqlite3.Context, arg ...sqlite3.Value) {
	x, err := toFloat(arg[0], "double precision")
	if arg[0].Type() == sqlite3.NULL || err != nil {
		return
	}
	if s.n--; s.n <= 0 {
		s.n, s.mean, s.m2 = 0, 0, 0
		return
	}
	d := x - s.mean
	s.mean -= d / s.n
	s.m2 -= d * (x - s.mean)
}

func (s *spread) Value(ctx sqlite3.Context) {
	n := s.n
	if s.sample {
		n--
	}
	if n <= 0 {
		return
	}
	v := max(s.m2, 0) / n
	if s.root {
		v = math.Sqrt(v)
	}
	ctx.ResultFloat(v)
}

// maxAggregate bounds what one aggregate may collect: it is held twice when the value is made.
const maxAggregate = 64 << 20

// arrayAggregate collects values into an array literal.
type arrayAggregate struct {
	elements []string
	size     int
}

func (a *arrayAggregate) Step(ctx sqlite3.Context, arg ...sqlite3.Value) {
	s := arrayElement(arg[0])
	if a.size += len(s) + 1; a.size > maxAggregate {
		ctx.ResultError(sqlite3.TOOBIG)
		return
	}
	a.elements = append(a.elements, s)
}

func (a *arrayAggregate) Inverse(_ sqlite3.Context, _ ...sqlite3.Value) { a.elements = a.elements[1:] }

func (a *arrayAggregate) Value(ctx sqlite3.Context) {
	if len(a.elements) > 0 {
		ctx.ResultText("{" + strings.Join(a.elements, ",") + "}")
	}
}

// jsonAggregate is json_agg.
type jsonAggregate struct {
	elements []string
	size     int
}

func (a *jsonAggregate) Step(ctx sqlite3.Context, arg ...sqlite3.Value) {
	s := jsonOf(arg[0])
	if a.size += len(s) + 2; a.size > maxAggregate {
		ctx.ResultError(sqlite3.TOOBIG)
		return
	}
	a.elements = append(a.elements, s)
}

func (a *jsonAggregate) Inverse(_ sqlite3.Context, _ ...sqlite3.Value) { a.elements = a.elements[1:] }

func (a *jsonAggregate) Value(ctx sqlite3.Context) {
	if len(a.elements) > 0 {
		resultJSON(ctx, "["+strings.Join(a.elements, ", ")+"]")
	}
}

// jsonObjectAggregate is json_object_agg; spaced sets json's spelling apart from jsonb's.
type jsonObjectAggregate struct {
	spaced  bool
	members []string
	size    int
}

func (a *jsonObjectAggregate) Step(ctx sqlite3.Context, arg ...sqlite3.Value) {
	if arg[0].Type() == sqlite3.NULL {
		ctx.ResultError(sqlstate.New(sqlstate.InvalidParameterValue, "field name must not be null"))
		return
	}
	colon := ": "
	if a.spaced {
		colon = " : "
	}
	s := jsonString(arg[0].Text()) + colon + jsonOf(arg[1])
	if a.size += len(s) + 2; a.size > maxAggregate {
		ctx.ResultError(sqlite3.TOOBIG)
		return
	}
	a.members = append(a.members, s)
}

func (a *jsonObjectAggregate) Inverse(_ sqlite3.Context, _ ...sqlite3.Value) {
	a.members = a.members[1:]
}

func (a *jsonObjectAggregate) Value(ctx sqlite3.Context) {
	switch {
	case len(a.members) == 0:
	case a.spaced:
		resultJSON(ctx, "{ "+strings.Join(a.members, ", ")+" }")
	default:
		resultJSON(ctx, "{"+strings.Join(a.members, ", ")+"}")
	}
}
