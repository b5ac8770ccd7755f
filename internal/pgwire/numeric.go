package pgwire

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// PostgreSQL's limits on a numeric, in digits, and the signs of its binary form.
const (
	maxWholeDigits = 131072
	maxScale       = 16383

	signPositive = 0x0000
	signNegative = 0x4000
	signNaN      = 0xC000
	signInf      = 0xD000
	signMinusInf = 0xF000

	infScale = 32 // what PostgreSQL sends as the scale of the infinities
)

// numeric is a decimal number taken apart: digits holds the whole part, without leading zeros, and
// then scale digits of fraction.
type numeric struct {
	special  string // NaN, Infinity, -Infinity; "" for a number
	negative bool
	digits   []byte
	scale    int
}

func (n *numeric) whole() []byte    { return n.digits[:len(n.digits)-n.scale] }
func (n *numeric) fraction() []byte { return n.digits[len(n.digits)-n.scale:] }

func (n *numeric) isZero() bool { return len(bytes.TrimLeft(n.digits, "0")) == 0 }

// parseNumeric reads text, in PostgreSQL's syntax.
func parseNumeric(data []byte) (numeric, error) {
	text := bytes.TrimSpace(data)
	var n numeric
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		n.negative = text[0] == '-'
		text = text[1:]
	}
	if special := specialNumeric(text); special != "" {
		return numeric{special: signed(special, n.negative)}, nil
	}
	mantissa, exponent := text, 0
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(string(text[i+1:])); err != nil {
			return n, badText(oid.Numeric, data)
		}
		if exponent > maxWholeDigits || exponent < -maxWholeDigits {
			return n, numericOverflow()
		}
		mantissa = text[:i]
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	if len(whole)+len(fraction) == 0 || !allDigits(whole) || !allDigits(fraction) {
		return n, badText(oid.Numeric, data)
	}
	n.digits = append(append(make([]byte, 0, len(whole)+len(fraction)), whole...), fraction...)
	n.scale = len(fraction)
	n.shift(exponent)
	return n, n.normalize()
}

func signed(special string, negative bool) string {
	if negative && special == "Infinity" {
		return "-Infinity"
	}
	return special
}

func specialNumeric(text []byte) string {
	switch {
	case bytes.EqualFold(text, []byte("nan")):
		return "NaN"
	case bytes.EqualFold(text, []byte("inf")), bytes.EqualFold(text, []byte("infinity")):
		return "Infinity"
	}
	return ""
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func numericOverflow() *sqlstate.Error {
	return sqlstate.New(sqlstate.NumericOutOfRange, "value overflows numeric format")
}

// shift multiplies by ten to the power of exponent.
func (n *numeric) shift(exponent int) {
	n.scale -= exponent
	if n.scale < 0 {
		n.digits = append(n.digits, bytes.Repeat([]byte("0"), -n.scale)...)
		n.scale = 0
	}
	if missing := n.scale - len(n.digits); missing > 0 {
		n.digits = append(bytes.Repeat([]byte("0"), missing), n.digits...)
	}
}

// normalize drops leading zeros and the sign of zero, and checks the limits.
func (n *numeric) normalize() error {
	for len(n.digits) > n.scale && n.digits[0] == '0' {
		n.digits = n.digits[1:]
	}
	if len(n.digits)-n.scale > maxWholeDigits || n.scale > maxScale {
		return numericOverflow()
	}
	if n.isZero() {
		n.negative = false
	}
	return nil
}

// round rounds half away from zero to a scale, or adds zeros up to it.
func (n *numeric) round(scale int) {
	if scale >= n.scale {
		n.digits = append(n.digits, bytes.Repeat([]byte("0"), scale-n.scale)...)
		n.scale = scale
		return
	}
	keep := len(n.digits) - n.scale + scale
	up := n.digits[keep] >= '5'
	n.digits, n.scale = n.digits[:keep], scale
	for i := keep - 1; up && i >= 0; i-- {
		if up = n.digits[i] == '9'; up {
			n.digits[i] = '0'
		} else {
			n.digits[i]++
		}
	}
	if up {
		n.digits = append([]byte("1"), n.digits...)
	}
}

// value gives the stored form, fitted to a type modifier.
func (n numeric) value(mod int32, err error) (Value, error) {
	if err != nil {
		return Value{}, err
	}
	if mod >= 4 && n.special == "" {
		precision, scale := int((mod-4)>>16), int((mod-4)&0x7ff)
		n.round(scale)
		if err := n.normalize(); err != nil {
			return Value{}, err
		}
		if len(n.whole()) > precision-scale {
			return Value{}, sqlstate.New(sqlstate.NumericOutOfRange, "numeric field overflow").
				WithDetail("A field with precision %d, scale %d must round to an absolute value less than 10^%d.",
					precision, scale, precision-scale)
		}
	}
	return textValue(n.append(nil)), nil
}

func (n *numeric) append(dst []byte) []byte {
	if n.special != "" {
		return append(dst, n.special...)
	}
	if n.negative {
		dst = append(dst, '-')
	}
	if len(n.whole()) == 0 {
		dst = append(dst, '0')
	}
	dst = append(dst, n.whole()...)
	if n.scale > 0 {
		dst = append(append(dst, '.'), n.fraction()...)
	}
	return dst
}

// appendNumericText passes on what is stored if it is in canonical form, which it nearly always is.
func appendNumericText(dst, stored []byte) ([]byte, error) {
	if canonicalNumeric(stored) {
		return append(dst, stored...), nil
	}
	n, err := parseNumeric(stored)
	if err != nil {
		return dst, err
	}
	return n.append(dst), nil
}

func canonicalNumeric(text []byte) bool {
	if len(text) > 0 && text[0] == '-' {
		text = text[1:]
	}
	whole, fraction, point := bytes.Cut(text, []byte("."))
	switch {
	case len(whole) == 0, len(whole) > 1 && whole[0] == '0', point && len(fraction) == 0:
		return false
	}
	return allDigits(whole) && allDigits(fraction)
}

// appendNumericBinary writes base-10000 digits: their count, the weight of the first, sign, scale.
func appendNumericBinary(dst, stored []byte) ([]byte, error) {
	n, err := parseNumeric(stored)
	if err != nil {
		return dst, err
	}
	switch n.special {
	case "NaN":
		return appendNumericHeader(dst, 0, 0, signNaN, 0), nil
	case "Infinity":
		return appendNumericHeader(dst, 0, 0, signInf, infScale), nil
	case "-Infinity":
		return appendNumericHeader(dst, 0, 0, signMinusInf, infScale), nil
	}
	groups, weight := n.groups()
	sign := uint16(signPositive)
	if n.negative {
		sign = signNegative
	}
	dst = appendNumericHeader(dst, len(groups), weight, sign, n.scale)
	for _, g := range groups {
		dst = binary.BigEndian.AppendUint16(dst, g)
	}
	return dst, nil
}

func appendNumericHeader(dst []byte, count, weight int, sign uint16, scale int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(count))
	dst = binary.BigEndian.AppendUint16(dst, uint16(int16(weight)))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	return binary.BigEndian.AppendUint16(dst, uint16(scale))
}

// groups gives the base-10000 digits without leading and trailing zeros, and the power of 10000 of
// the first.
func (n *numeric) groups() (groups []uint16, weight int) {
	whole := len(n.whole())
	lead := (4 - whole%4) % 4
	weight = (whole+lead)/4 - 1
	total := (lead + len(n.digits) + 3) / 4
	groups = make([]uint16, total)
	for i, d := range n.digits {
		at := lead + i
		groups[at/4] += uint16(d-'0') * [4]uint16{1000, 100, 10, 1}[at%4]
	}
	for len(groups) > 0 && groups[0] == 0 {
		groups = groups[1:]
		weight--
	}
	for len(groups) > 0 && groups[len(groups)-1] == 0 {
		groups = groups[:len(groups)-1]
	}
	if len(groups) == 0 {
		weight = 0
	}
	return groups, weight
}

func parseNumericBinary(data []byte) (numeric, error) {
	f := fields{rest: data}
	count, weight, sign, scale := int(uint16(f.int16())), int(f.int16()), uint16(f.int16()), int(uint16(f.int16()))
	if f.bad || len(f.rest) != 2*count || scale > maxScale {
		return numeric{}, badBinary(oid.Numeric)
	}
	switch sign {
	case signNaN:
		return numeric{special: "NaN"}, nil
	case signInf:
		return numeric{special: "Infinity"}, nil
	case signMinusInf:
		return numeric{special: "-Infinity"}, nil
	case signPositive, signNegative:
	default:
		return numeric{}, badBinary(oid.Numeric)
	}
	n := numeric{negative: sign == signNegative, digits: make([]byte, 0, 4*count)}
	for range count {
		g := uint16(f.int16())
		if g > 9999 {
			return numeric{}, badBinary(oid.Numeric)
		}
		n.digits = append(n.digits, byte('0'+g/1000), byte('0'+g/100%10), byte('0'+g/10%10), byte('0'+g%10))
	}
	n.scale = len(n.digits)
	n.shift(4 * (weight + 1))
	n.truncate(scale)
	return n, n.normalize()
}

// truncate cuts to a scale, or adds zeros up to it: the display scale of the binary form rules.
func (n *numeric) truncate(scale int) {
	if n.scale > scale {
		n.digits = n.digits[:len(n.digits)-n.scale+scale]
		n.scale = scale
	}
	n.round(scale)
}
