package pgcatalog

import (
	"math"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// maxDigits bounds a decimal on either side of its point, as PostgreSQL does (it allows 131072
// before and 16383 after); it bounds the memory that one multiplication may take.
const maxDigits = 16383

// parseDecimal reads a decimal as PostgreSQL's numeric input does; false when s is not one.
func parseDecimal(s string) (*apd.Decimal, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 2*maxDigits {
		return nil, false
	}
	if d := specialDecimal(s); d != nil {
		return d, true
	}
	if !looksDecimal(s) {
		return nil, false
	}
	d, _, err := apd.NewFromString(s)
	if err != nil || d.Exponent < -maxDigits || d.Exponent > maxDigits {
		return nil, false
	}
	return d, true
}

func specialDecimal(s string) *apd.Decimal {
	switch strings.ToLower(s) {
	case "nan":
		return &apd.Decimal{Form: apd.NaN}
	case "inf", "infinity", "+inf", "+infinity":
		return &apd.Decimal{Form: apd.Infinite}
	case "-inf", "-infinity":
		return &apd.Decimal{Form: apd.Infinite, Negative: true}
	}
	return nil
}

// looksDecimal tells whether s is [sign] digits [. digits] [e [sign] digits].
func looksDecimal(s string) bool {
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	digits := 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		digits++
	}
	if i < len(s) && s[i] == '.' {
		for i++; i < len(s) && isDigit(s[i]); i++ {
			digits++
		}
	}
	if digits == 0 {
		return false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '-' || s[i] == '+') {
			i++
		}
		start := i
		for ; i < len(s) && isDigit(s[i]); i++ {
		}
		if i == start || i-start > 5 {
			return false
		}
	}
	return i == len(s)
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// formatDecimal prints d as PostgreSQL does: plain digits, its scale kept, no "-0".
func formatDecimal(d *apd.Decimal) string {
	switch d.Form {
	case apd.NaN, apd.NaNSignaling:
		return "NaN"
	case apd.Infinite:
		if d.Negative {
			return "-Infinity"
		}
		return "Infinity"
	}
	s := d.Text('f')
	if d.IsZero() {
		s = strings.TrimPrefix(s, "-")
	}
	return s
}

// scaleOf is the number of digits after the point.
func scaleOf(d *apd.Decimal) int32 { return max(0, -d.Exponent) }

// roundTo rounds half away from zero to scale digits after the point, padding with zeros.
func roundTo(d *apd.Decimal, scale int32) *apd.Decimal {
	return quantize(d, scale, apd.RoundHalfUp)
}

func quantize(d *apd.Decimal, scale int32, mode apd.Rounder) *apd.Decimal {
	if d.Form != apd.Finite || -d.Exponent == scale {
		return d
	}
	ctx := apd.Context{
		Precision: uint32(max(d.NumDigits()+int64(d.Exponent)+int64(scale)+2, 1)),
		Rounding:  mode, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent,
	}
	r := new(apd.Decimal)
	if _, err := ctx.Quantize(r, d, -scale); err != nil {
		return d
	}
	return r
}

// exact has room for every sum and product of two decimals that parseDecimal lets in.
func exact() *apd.Context {
	return &apd.Context{Precision: 4 * maxDigits, Rounding: apd.RoundHalfUp, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent}
}

func divisionByZero() error { return sqlstate.New(sqlstate.DivisionByZero, "division by zero") }

func outOfRange(typ string) error {
	return sqlstate.New(sqlstate.NumericOutOfRange, "%s out of range", typ)
}

// decimalOp computes a op b with the scale that PostgreSQL gives the result.
func decimalOp(op byte, a, b *apd.Decimal) (*apd.Decimal, error) {
	r, ctx := new(apd.Decimal), exact()
	if a.Form != apd.Finite || b.Form != apd.Finite {
		return specialOp(op, a, b)
	}
	a, b = plain(a), plain(b)
	switch op {
	case '+':
		_, err := ctx.Add(r, a, b)
		return r, err
	case '-':
		_, err := ctx.Sub(r, a, b)
		return r, err
	case '*':
		_, err := ctx.Mul(r, a, b)
		return r, err
	}
	if b.IsZero() {
		return nil, divisionByZero()
	}
	if op == '%' {
		ctx.Precision = uint32(max(a.NumDigits(), b.NumDigits()) + 2*maxDigits)
		_, err := ctx.Rem(r, a, b)
		return quantize(r, max(scaleOf(a), scaleOf(b)), apd.RoundHalfUp), err
	}
	return divide(a, b, divisionScale(a, b))
}

// plain writes out a positive exponent, so that the scale of d is -d.Exponent.
func plain(d *apd.Decimal) *apd.Decimal {
	if d.Exponent > 0 {
		return quantize(d, 0, apd.RoundHalfUp)
	}
	return d
}

// divide gives a/b rounded half away from zero to scale digits.
func divide(a, b *apd.Decimal, scale int32) (*apd.Decimal, error) {
	ctx := exact()
	whole := a.NumDigits() + int64(a.Exponent) - (b.NumDigits() + int64(b.Exponent)) + 1
	// Truncated to two digits more than wanted, with a sticky last digit, so that the rounding
	// below sees on which side of the half the true quotient is.
	ctx.Precision = uint32(max(whole, 0) + int64(scale) + 3)
	ctx.Rounding = apd.Round05Up
	q := new(apd.Decimal)
	if _, err := ctx.Quo(q, a, b); err != nil {
		return nil, err
	}
	return roundTo(q, scale), nil
}

// divisionScale is select_div_scale of PostgreSQL's numeric.c: at least 16 significant digits,
// counted in groups of four as numeric stores them, and never less than the scale of an operand.
func divisionScale(a, b *apd.Decimal) int32 {
	weightA, firstA := leadingGroup(a)
	weightB, firstB := leadingGroup(b)
	weight := weightA - weightB
	if firstA <= firstB {
		weight--
	}
	scale := 16 - int32(weight)*4
	return min(max(scale, scaleOf(a), scaleOf(b), 0), 1000)
}

// leadingGroup gives the position and the value of the first non-zero group of four digits.
func leadingGroup(d *apd.Decimal) (weight, value int) {
	if d.IsZero() {
		return 0, 0
	}
	digits := d.Coeff.String()
	top := len(digits) + int(d.Exponent) // digits before the point; negative: zeros after it
	weight = floorDiv(top-1, 4)
	n := top - weight*4 // digits of the first group
	for len(digits) < n {
		digits += "0"
	}
	value, _ = strconv.Atoi(digits[:n])
	return weight, value
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func specialOp(op byte, a, b *apd.Decimal) (*apd.Decimal, error) {
	x, y := approximate(a), approximate(b)
	if op == '/' && y == 0 && a.Form != apd.NaN {
		return nil, divisionByZero()
	}
	f, err := floatOp(op, x, y)
	if err != nil {
		return nil, err
	}
	switch {
	case math.IsNaN(f):
		return &apd.Decimal{Form: apd.NaN}, nil
	case math.IsInf(f, 0):
		return &apd.Decimal{Form: apd.Infinite, Negative: f < 0}, nil
	case op == '%':
		return a, nil
	}
	return apd.New(0, 0), nil
}

// approximate gives the float nearest to d; special values keep their meaning.
func approximate(d *apd.Decimal) float64 {
	f, _ := strconv.ParseFloat(formatDecimal(d), 64)
	return f
}

// compareDecimals orders decimals by value; NaN is above everything and equal to itself.
func compareDecimals(a, b *apd.Decimal) int {
	aNaN, bNaN := a.Form == apd.NaN, b.Form == apd.NaN
	switch {
	case aNaN && bNaN:
		return 0
	case aNaN:
		return 1
	case bNaN:
		return -1
	}
	return a.Cmp(b)
}

// intOp computes on integers as PostgreSQL's int8 does.
func intOp(op byte, a, b int64) (int64, error) {
	switch op {
	case '+':
		if r := a + b; (r > a) == (b > 0) {
			return r, nil
		}
	case '-':
		if r := a - b; (r < a) == (b > 0) {
			return r, nil
		}
	case '*':
		if a == 0 || b == 0 {
			return 0, nil
		}
		r := a * b
		if r/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64) {
			return r, nil
		}
	case '/', '%':
		if b == 0 {
			return 0, divisionByZero()
		}
		if op == '%' {
			if b == -1 {
				return 0, nil
			}
			return a % b, nil
		}
		if !(a == math.MinInt64 && b == -1) {
			return a / b, nil
		}
	}
	return 0, outOfRange("bigint")
}

// floatOp computes on floats as PostgreSQL's float8 does.
func floatOp(op byte, a, b float64) (float64, error) {
	switch op {
	case '+':
		return a + b, nil
	case '-':
		return a - b, nil
	case '*':
		return a * b, nil
	}
	if b == 0 && !math.IsNaN(a) {
		return 0, divisionByZero()
	}
	if op == '%' {
		return math.Mod(a, b), nil
	}
	return a / b, nil
}

// compareNumericText is the collation "numeric": decimals by value, anything else after them by
// bytes. Almost always both are plain digits, which are compared without a big number.
func compareNumericText(a, b []byte) int {
	if c, ok := comparePlain(a, b); ok {
		return c
	}
	x, okX := parseDecimal(string(a))
	y, okY := parseDecimal(string(b))
	switch {
	case okX && okY:
		return compareDecimals(x, y)
	case okX:
		return -1
	case okY:
		return 1
	}
	return strings.Compare(string(a), string(b))
}

// comparePlain compares [-]digits[.digits]; false when one of them is spelled otherwise.
func comparePlain(a, b []byte) (int, bool) {
	negA, intA, fracA, okA := splitPlain(a)
	negB, intB, fracB, okB := splitPlain(b)
	if !okA || !okB {
		return 0, false
	}
	zeroA, zeroB := len(intA)+len(fracA) == 0, len(intB)+len(fracB) == 0
	negA, negB = negA && !zeroA, negB && !zeroB
	if negA != negB {
		if negA {
			return -1, true
		}
		return 1, true
	}
	c := len(intA) - len(intB)
	if c == 0 {
		c = strings.Compare(string(intA), string(intB))
	}
	if c == 0 {
		c = strings.Compare(string(fracA), string(fracB))
	}
	if negA {
		c = -c
	}
	return c, true
}

// splitPlain gives the digits before and after the point without the zeros that do not count.
func splitPlain(s []byte) (negative bool, whole, fraction []byte, ok bool) {
	if len(s) > 0 && s[0] == '-' {
		negative, s = true, s[1:]
	}
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	whole = s[:i]
	if i < len(s) {
		if s[i] != '.' {
			return false, nil, nil, false
		}
		fraction = s[i+1:]
		for _, c := range fraction {
			if !isDigit(c) {
				return false, nil, nil, false
			}
		}
	}
	if len(whole)+len(fraction) == 0 {
		return false, nil, nil, false
	}
	for len(whole) > 0 && whole[0] == '0' {
		whole = whole[1:]
	}
	for len(fraction) > 0 && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	return negative, whole, fraction, true
}

// formatFloat spells a float8 as PostgreSQL does: the shortest text that reads back the same.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	e := 0
	if f != 0 {
		s := strconv.FormatFloat(f, 'e', -1, 64)
		e, _ = strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	}
	if e < -4 || e >= 15 {
		s := strconv.FormatFloat(f, 'e', -1, 64)
		return s
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// toInt reads a value as an integer: floats round half to even, decimals half away from zero.
func toInt(v sqlite3.Value, typ string) (int64, error) {
	switch v.Type() {
	case sqlite3.INTEGER:
		return v.Int64(), nil
	case sqlite3.FLOAT:
		f := math.RoundToEven(v.Float())
		if f >= -9223372036854775808 && f < 9223372036854775808 {
			return int64(f), nil
		}
		return 0, outOfRange(typ)
	case sqlite3.TEXT:
		return parseInt(v.Text(), typ)
	}
	return 0, sqlstate.New(sqlstate.CannotCoerce, "cannot cast type bytea to %s", typ)
}

func parseInt(s, typ string) (int64, error) {
	t := strings.TrimSpace(s)
	n, err := strconv.ParseInt(t, 10, 64)
	if err == nil {
		return n, nil
	}
	if d, ok := parseDecimal(t); ok {
		n, err := roundTo(plain(d), 0).Int64()
		if err == nil {
			return n, nil
		}
		if !strings.ContainsAny(t, ".eE") {
			return 0, sqlstate.New(sqlstate.NumericOutOfRange, "value \"%s\" is out of range for type %s", t, typ)
		}
		return 0, outOfRange(typ)
	}
	return 0, badText(typ, s)
}

// badText is what PostgreSQL says of text that is not a value of a type.
func badText(typ, s string) *sqlstate.Error {
	return sqlstate.New(sqlstate.InvalidTextRepresentation, "invalid input syntax for type %s: \"%s\"", typ, s)
}

// toFloat reads a value as a float8.
func toFloat(v sqlite3.Value, typ string) (float64, error) {
	switch v.Type() {
	case sqlite3.INTEGER, sqlite3.FLOAT:
		return v.Float(), nil
	case sqlite3.TEXT:
		return parseFloat(v.Text(), typ)
	}
	return 0, sqlstate.New(sqlstate.CannotCoerce, "cannot cast type bytea to %s", typ)
}

func parseFloat(s, typ string) (float64, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	if d := specialDecimal(t); d != nil {
		return approximate(d), nil
	}
	if !looksDecimal(t) {
		return 0, badText(typ, s)
	}
	bits := 64
	if typ == "real" {
		bits = 32
	}
	f, err := strconv.ParseFloat(t, bits)
	if err != nil {
		return 0, sqlstate.New(sqlstate.NumericOutOfRange, "\"%s\" is out of range for type %s", s, typ)
	}
	return f, nil
}

// toDecimal reads a value as a numeric.
func toDecimal(v sqlite3.Value) (*apd.Decimal, error) {
	switch v.Type() {
	case sqlite3.INTEGER:
		return apd.New(v.Int64(), 0), nil
	case sqlite3.FLOAT:
		// float8 to numeric keeps 15 significant digits.
		s := strconv.FormatFloat(v.Float(), 'g', 15, 64)
		d, ok := parseDecimal(s)
		if !ok {
			return nil, outOfRange("numeric")
		}
		return plain(reduceTail(d)), nil
	case sqlite3.TEXT:
		if d, ok := parseDecimal(v.Text()); ok {
			return plain(d), nil
		}
		return nil, badText("numeric", v.Text())
	}
	return nil, sqlstate.New(sqlstate.CannotCoerce, "cannot cast type bytea to numeric")
}

func reduceTail(d *apd.Decimal) *apd.Decimal {
	if d.Form != apd.Finite {
		return d
	}
	r := new(apd.Decimal)
	r.Reduce(d)
	return r
}
