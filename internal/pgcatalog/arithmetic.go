package pgcatalog

import (
	"math"

	"github.com/cockroachdb/apd/v3"
	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// Arithmetic that the dialect calls where SQLite's own would lose digits or give NULL for 1/0. What
// is computed depends on the values: integers stay integers, text is a decimal (or a date, a
// timestamp, an interval), and a float makes the result a float.
func arithmeticFunctions() []function {
	return []function{
		{"numeric_add", 2, 2, pure, binaryOp('+')},
		{"numeric_sub", 2, 2, pure, binaryOp('-')},
		{"numeric_mul", 2, 2, pure, binaryOp('*')},
		{"numeric_div", 2, 2, pure, binaryOp('/')},
		{"numeric_mod", 2, 2, pure, binaryOp('%')},
		{"mod", 2, 2, pure, binaryOp('%')},
		{"div", 2, 2, pure, integerDivision},
		{"numeric_neg", 1, 1, pure, negate},
		{"numeric_abs", 1, 1, pure, absolute},
		{"abs", 1, 1, pure, absolute},
		{"numeric_cmp", 2, 2, pure, compareNumbers},
		{"numeric_round", 1, 2, pure, rounding(apd.RoundHalfUp, math.RoundToEven)},
		{"round", 1, 2, pure, rounding(apd.RoundHalfUp, math.RoundToEven)},
		{"trunc", 1, 2, pure, rounding(apd.RoundDown, math.Trunc)},
		{"ceil", 1, 1, pure, rounding(apd.RoundCeiling, math.Ceil)},
		{"ceiling", 1, 1, pure, rounding(apd.RoundCeiling, math.Ceil)},
		{"floor", 1, 1, pure, rounding(apd.RoundFloor, math.Floor)},
		{"sign", 1, 1, pure, sign},
		{"scale", 1, 1, pure, scale},
		{"power", 2, 2, pure, power},
		{"pow", 2, 2, pure, power},
		{"sqrt", 1, 1, pure, squareRoot},
		{"cbrt", 1, 1, pure, floatFunc(math.Cbrt)},
		{"gcd", 2, 2, pure, gcd},
		{"greatest", 1, -1, pure | nullable, extreme(1)},
		{"least", 1, -1, pure | nullable, extreme(-1)},
		{"interval_greatest", 1, -1, pure | nullable, extremeText(compareIntervals, 1)},
		{"interval_least", 1, -1, pure | nullable, extremeText(compareIntervals, -1)},
		{"width_bucket", 4, 4, pure, widthBucket},
	}
}

func binaryOp(op byte) func(*call) error {
	return func(c *call) error {
		a, b := c.arg[0], c.arg[1]
		ta, tb := a.Type(), b.Type()
		switch {
		case ta == sqlite3.INTEGER && tb == sqlite3.INTEGER:
			n, err := intOp(op, a.Int64(), b.Int64())
			if err != nil {
				return err
			}
			return c.returnInt(n)
		case ta == sqlite3.BLOB || tb == sqlite3.BLOB:
			return noOperator(op, ta, tb)
		case ta == sqlite3.TEXT || tb == sqlite3.TEXT:
			return c.textOp(op, a, b)
		}
		f, err := floatOp(op, a.Float(), b.Float())
		if err != nil {
			return err
		}
		if math.IsInf(f, 0) && !math.IsInf(a.Float(), 0) && !math.IsInf(b.Float(), 0) {
			return sqlstate.New(sqlstate.NumericOutOfRange, "value out of range: overflow")
		}
		return c.returnFloat(f)
	}
}

func noOperator(op byte, a, b sqlite3.Datatype) error {
	return sqlstate.New(sqlstate.UndefinedFunction, "operator does not exist: %s %c %s", typeName(a), op, typeName(b)).
		WithHint("No operator matches the given name and argument types. You might need to add explicit type casts.")
}

func typeName(t sqlite3.Datatype) string {
	switch t {
	case sqlite3.INTEGER:
		return "bigint"
	case sqlite3.FLOAT:
		return "double precision"
	case sqlite3.BLOB:
		return "bytea"
	}
	return "text"
}

// textOp computes where at least one operand is text: decimals first, dates and intervals next.
func (c *call) textOp(op byte, a, b sqlite3.Value) error {
	if a.Type() == sqlite3.FLOAT || b.Type() == sqlite3.FLOAT {
		if done, err := c.intervalOp(op, a, b); done {
			return err
		}
		return c.floatTextOp(op, a, b)
	}
	x, okX := decimalOf(a)
	y, okY := decimalOf(b)
	if okX && okY {
		r, err := decimalOp(op, x, y)
		if err != nil {
			return decimalError(err)
		}
		return c.returnText(formatDecimal(r))
	}
	if done, err := c.intervalOp(op, a, b); done {
		return err
	}
	if !okX && a.Type() == sqlite3.TEXT {
		return badText("numeric", a.Text())
	}
	return badText("numeric", b.Text())
}

func (c *call) floatTextOp(op byte, a, b sqlite3.Value) error {
	x, err := toFloat(a, "double precision")
	if err != nil {
		return err
	}
	y, err := toFloat(b, "double precision")
	if err != nil {
		return err
	}
	f, err := floatOp(op, x, y)
	if err != nil {
		return err
	}
	return c.returnFloat(f)
}

// decimalOf reads an integer or a decimal's text.
func decimalOf(v sqlite3.Value) (*apd.Decimal, bool) {
	if v.Type() == sqlite3.INTEGER {
		return apd.New(v.Int64(), 0), true
	}
	return parseDecimal(v.Text())
}

func decimalError(err error) error {
	if e, ok := err.(*sqlstate.Error); ok {
		return e
	}
	return sqlstate.New(sqlstate.NumericOutOfRange, "value overflows numeric format")
}

func integerDivision(c *call) error {
	if c.arg[0].Type() == sqlite3.INTEGER && c.arg[1].Type() == sqlite3.INTEGER {
		return binaryOp('/')(c)
	}
	a, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	b, err := toDecimal(c.arg[1])
	if err != nil {
		return err
	}
	if b.IsZero() {
		return divisionByZero()
	}
	if a.Form != apd.Finite || b.Form != apd.Finite {
		return binaryOp('/')(c)
	}
	q, err := divide(a, b, 0)
	if err != nil {
		return decimalError(err)
	}
	// divide rounds; step back when that went away from zero.
	rest, err := decimalOp('-', a, mustMul(q, b))
	if err != nil {
		return decimalError(err)
	}
	if rest.Sign() != 0 && rest.Sign() != a.Sign() {
		step := apd.New(int64(a.Sign()*b.Sign()), 0)
		if q, err = decimalOp('-', q, step); err != nil {
			return decimalError(err)
		}
	}
	return c.returnText(formatDecimal(q))
}

func mustMul(a, b *apd.Decimal) *apd.Decimal {
	r := new(apd.Decimal)
	if _, err := exact().Mul(r, a, b); err != nil {
		return apd.New(0, 0)
	}
	return r
}

func negate(c *call) error {
	switch c.arg[0].Type() {
	case sqlite3.INTEGER:
		n, err := intOp('-', 0, c.arg[0].Int64())
		if err != nil {
			return err
		}
		return c.returnInt(n)
	case sqlite3.FLOAT:
		return c.returnFloat(-c.arg[0].Float())
	}
	s := c.text(0)
	if d, ok := parseDecimal(s); ok {
		d = plain(d)
		d.Negative = !d.Negative
		return c.returnText(formatDecimal(d))
	}
	if v, ok := parseInterval(s); ok {
		return c.returnText(v.scale(-1).String())
	}
	return badText("numeric", s)
}

func absolute(c *call) error {
	switch c.arg[0].Type() {
	case sqlite3.INTEGER:
		n := c.arg[0].Int64()
		if n == math.MinInt64 {
			return outOfRange("bigint")
		}
		return c.returnInt(max(n, -n))
	case sqlite3.FLOAT:
		return c.returnFloat(math.Abs(c.arg[0].Float()))
	}
	d, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	d.Negative = false
	return c.returnText(formatDecimal(d))
}

func compareNumbers(c *call) error {
	a, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	b, err := toDecimal(c.arg[1])
	if err != nil {
		return err
	}
	return c.returnInt(int64(compareDecimals(a, b)))
}

// rounding makes round, trunc, ceil and floor: exact on decimals, the float rule on floats.
func rounding(mode apd.Rounder, float func(float64) float64) func(*call) error {
	return func(c *call) error {
		digits, err := c.intOr(1, 0)
		if err != nil {
			return err
		}
		switch t := c.arg[0].Type(); {
		case t == sqlite3.INTEGER && digits >= 0:
			return c.returnArg(0)
		case t == sqlite3.FLOAT && len(c.arg) == 1:
			return c.returnFloat(float(c.arg[0].Float()))
		}
		d, err := toDecimal(c.arg[0])
		if err != nil {
			return err
		}
		digits = min(max(digits, -maxDigits), maxDigits)
		r := quantize(d, int32(digits), mode)
		return c.returnText(formatDecimal(plain(r)))
	}
}

func sign(c *call) error {
	switch c.arg[0].Type() {
	case sqlite3.INTEGER, sqlite3.FLOAT:
		f := c.arg[0].Float()
		switch {
		case f > 0:
			return c.returnInt(1)
		case f < 0:
			return c.returnInt(-1)
		}
		return c.returnInt(0)
	}
	d, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	return c.returnText(formatDecimal(apd.New(int64(d.Sign()), 0)))
}

func scale(c *call) error {
	d, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	return c.returnInt(int64(scaleOf(d)))
}

func power(c *call) error {
	x, err := toFloat(c.arg[0], "double precision")
	if err != nil {
		return err
	}
	y, err := toFloat(c.arg[1], "double precision")
	if err != nil {
		return err
	}
	if x == 0 && y < 0 {
		return sqlstate.New("2201F", "zero raised to a negative power is undefined")
	}
	if x < 0 && y != math.Trunc(y) {
		return sqlstate.New("2201F", "a negative number raised to a non-integer power yields a complex result")
	}
	f := math.Pow(x, y)
	if math.IsInf(f, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		return sqlstate.New(sqlstate.NumericOutOfRange, "value out of range: overflow")
	}
	return c.returnFloat(f)
}

func squareRoot(c *call) error {
	if c.arg[0].Type() != sqlite3.TEXT {
		f := c.arg[0].Float()
		if f < 0 {
			return sqlstate.New("2201F", "cannot take square root of a negative number")
		}
		return c.returnFloat(math.Sqrt(f))
	}
	d, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	if d.Sign() < 0 {
		return sqlstate.New("2201F", "cannot take square root of a negative number")
	}
	weight, _ := leadingGroup(d)
	ctx := exact()
	places := min(max(16-(int32(weight)*2+1), scaleOf(d), 0), 1000)
	ctx.Precision = uint32(max(weight*4+8, 0)) + uint32(places) + 4
	r := new(apd.Decimal)
	if _, err := ctx.Sqrt(r, d); err != nil {
		return decimalError(err)
	}
	return c.returnText(formatDecimal(roundTo(r, places)))
}

func floatFunc(f func(float64) float64) func(*call) error {
	return func(c *call) error {
		x, err := toFloat(c.arg[0], "double precision")
		if err != nil {
			return err
		}
		return c.returnFloat(f(x))
	}
}

func gcd(c *call) error {
	a, err := c.int(0)
	if err != nil {
		return err
	}
	b, err := c.int(1)
	if err != nil {
		return err
	}
	for b != 0 {
		if b == -1 {
			return c.returnInt(1)
		}
		a, b = b, a%b
	}
	return c.returnInt(max(a, -a))
}

// extreme makes greatest (1) and least (-1): NULLs do not count, decimals compare by value.
func extreme(want int) func(*call) error {
	return func(c *call) error {
		best := -1
		for i, a := range c.arg {
			if a.Type() == sqlite3.NULL {
				continue
			}
			if best < 0 || compareValues(a, c.arg[best]) == want {
				best = i
			}
		}
		if best < 0 {
			return nil
		}
		return c.returnArg(best)
	}
}

// compareValues orders two values: numbers and decimals by value, otherwise text by bytes.
func compareValues(a, b sqlite3.Value) int {
	if a.Type() == sqlite3.INTEGER && b.Type() == sqlite3.INTEGER {
		return compareInts(a.Int64(), b.Int64())
	}
	if a.Type() == sqlite3.FLOAT || b.Type() == sqlite3.FLOAT {
		x, errX := toFloat(a, "double precision")
		y, errY := toFloat(b, "double precision")
		if errX == nil && errY == nil {
			return compareFloats(x, y)
		}
	}
	return compareNumericText([]byte(a.Text()), []byte(b.Text()))
}

func compareInts(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func widthBucket(c *call) error {
	var f [3]float64
	for i := range f {
		v, err := toFloat(c.arg[i], "double precision")
		if err != nil {
			return err
		}
		f[i] = v
	}
	n, err := c.int(3)
	if err != nil {
		return err
	}
	x, low, high := f[0], f[1], f[2]
	if n <= 0 || low == high {
		return sqlstate.New("2201G", "lower bound cannot equal upper bound and count must be greater than zero")
	}
	if high < low {
		x, low, high = -x, -low, -high
	}
	switch {
	case x < low:
		return c.returnInt(0)
	case x >= high:
		return c.returnInt(n + 1)
	}
	return c.returnInt(int64((x-low)/(high-low)*float64(n)) + 1)
}
