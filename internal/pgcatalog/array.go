package pgcatalog

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// Arrays are kept as PostgreSQL's array literals, such as {1,2,"a b",NULL}. The vectors of the
// catalog (pg_index.indkey) are numbers with spaces between, and count from zero.

func arrayFunctions() []function {
	return []function{
		{"array_of", 0, -1, pure | nullable, arrayOf},
		{"array_get", 2, 2, pure, arrayGet},
		{"array_to_string", 2, 3, pure | nullable, arrayToString},
		{"string_to_array", 2, 3, pure | nullable, stringToArray},
		{"array_position", 2, 2, pure | nullable, arrayPosition},
		{"array_upper", 2, 2, pure, arrayBound(func(low, n int) int { return low + n - 1 })},
		{"array_lower", 2, 2, pure, arrayBound(func(low, _ int) int { return low })},
		{"array_length", 2, 2, pure, arrayBound(func(_, n int) int { return n })},
		{"array_ndims", 1, 1, pure, arrayDims},
		{"cardinality", 1, 1, pure, cardinality},
		{"array_append", 2, 2, pure | nullable, arrayAppend},
		{"array_prepend", 2, 2, pure | nullable, arrayPrepend},
		{"array_overlaps", 2, 2, pure, arrayOverlaps},
		{"array_cat", 2, 2, pure | nullable, arrayCat},
		{"array_remove", 2, 2, pure | nullable, arrayRemove},
		{"array_replace", 3, 3, pure | nullable, arrayReplace},
		{"cast_array", 1, 1, pure, castArray},
		{"cast_int2vector", 1, 1, pure, func(c *call) error { return c.returnText(c.text(0)) }},
		{"cast_oidvector", 1, 1, pure, func(c *call) error { return c.returnText(c.text(0)) }},
	}
}

// element is one element of an array; null tells NULL from the text "NULL".
type element struct {
	text string
	null bool
}

// array is a parsed literal. Elements of a nested array are their own literals.
type array struct {
	low      int // index of the first element
	elements []element
}

// textArray writes texts as an array literal.
func textArray(texts []string) string {
	a := array{low: 1}
	for _, t := range texts {
		a.elements = append(a.elements, element{text: t})
	}
	return a.String()
}

// maxElements bounds what one literal may unfold to, as PostgreSQL's MaxArraySize does.
const maxElements = 1 << 24

// maxDimensions is PostgreSQL's; it also bounds recursion over a literal.
const maxDimensions = 6

// parseArray reads an array literal or a vector.
func parseArray(s string) (array, error) {
	t := strings.TrimSpace(s)
	if !strings.HasPrefix(t, "{") && !strings.HasPrefix(t, "[") {
		return parseVector(s)
	}
	low := 1
	if t[0] == '[' { // explicit bounds: [0:2]={…}
		bounds, rest, ok := strings.Cut(t, "=")
		if !ok {
			return array{}, malformedArray(s)
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(bounds, "["), ":")
		n, err := strconv.Atoi(first)
		if err != nil {
			return array{}, malformedArray(s)
		}
		low, t = n, rest
	}
	if len(t) < 2 || t[0] != '{' || t[len(t)-1] != '}' {
		return array{}, malformedArray(s)
	}
	p := arrayParser{s: t[1 : len(t)-1]}
	elements, ok := p.elements()
	if !ok {
		return array{}, malformedArray(s)
	}
	return array{low, elements}, nil
}

func parseVector(s string) (array, error) {
	fields := strings.Fields(s)
	a := array{elements: make([]element, len(fields))}
	for i, f := range fields {
		if _, err := strconv.ParseInt(f, 10, 64); err != nil {
			return array{}, malformedArray(s)
		}
		a.elements[i].text = f
	}
	return a, nil
}

func malformedArray(s string) error {
	return sqlstate.New(sqlstate.InvalidTextRepresentation, "malformed array literal: \"%s\"", s).
		WithDetail("Array value must start with \"{\" or dimension information.")
}

type arrayParser struct {
	s string
	i int
}

func (p *arrayParser) elements() ([]element, bool) {
	p.space()
	if p.i == len(p.s) {
		return nil, true
	}
	var out []element
	for {
		p.space()
		e, ok := p.element()
		if !ok || len(out) == maxElements {
			return nil, false
		}
		out = append(out, e)
		p.space()
		if p.i == len(p.s) {
			return out, true
		}
		if p.s[p.i] != ',' {
			return nil, false
		}
		p.i++
	}
}

func (p *arrayParser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\n\r\v\f", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *arrayParser) element() (element, bool) {
	if p.i == len(p.s) {
		return element{}, false
	}
	switch p.s[p.i] {
	case '"':
		return p.quoted()
	case '{':
		return p.nested()
	}
	return p.bare()
}

func (p *arrayParser) quoted() (element, bool) {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			return element{text: b.String()}, true
		case '\\':
			if p.i++; p.i == len(p.s) {
				return element{}, false
			}
			b.WriteByte(p.s[p.i])
		default:
			b.WriteByte(c)
		}
	}
	return element{}, false
}

// nested takes an inner array as it is written.
func (p *arrayParser) nested() (element, bool) {
	start, depth, quoted := p.i, 0, false
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '\\':
			p.i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{':
			if depth++; depth >= maxDimensions {
				return element{}, false
			}
		case c == '}':
			if depth--; depth == 0 {
				p.i++
				return element{text: p.s[start:p.i]}, true
			}
		}
	}
	return element{}, false
}

func (p *arrayParser) bare() (element, bool) {
	var b strings.Builder
	for ; p.i < len(p.s) && p.s[p.i] != ','; p.i++ {
		switch p.s[p.i] {
		case '"', '{', '}':
			return element{}, false
		case '\\':
			if p.i++; p.i == len(p.s) {
				return element{}, false
			}
		}
		b.WriteByte(p.s[p.i])
	}
	s := strings.TrimRight(b.String(), " \t\n\r\v\f")
	return element{s, strings.EqualFold(s, "null")}, s != ""
}

// quoteElement spells text as an element of an array literal.
func quoteElement(s string) string {
	if s != "" && !strings.EqualFold(s, "null") && !strings.ContainsAny(s, "{},\"\\ \t\n\r\v\f") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// arrayElement spells a value as an element of an array literal.
func arrayElement(v sqlite3.Value) string {
	switch v.Type() {
	case sqlite3.NULL:
		return "NULL"
	case sqlite3.FLOAT:
		return formatFloat(v.Float())
	case sqlite3.BLOB:
		return quoteElement(byteaOut(v.RawBlob()))
	}
	return quoteElement(v.Text())
}

func (e element) String() string {
	switch {
	case e.null:
		return "NULL"
	case strings.HasPrefix(e.text, "{"):
		return e.text
	}
	return quoteElement(e.text)
}

func (a array) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, e := range a.elements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(e.String())
	}
	b.WriteByte('}')
	return b.String()
}

// intArray spells a list of numbers as an array literal.
func intArray(numbers []int) string {
	return "{" + joinInts(numbers, ",") + "}"
}

func joinInts(numbers []int, separator string) string {
	s := make([]string, len(numbers))
	for i, n := range numbers {
		s[i] = strconv.Itoa(n)
	}
	return strings.Join(s, separator)
}

// setElement gives SQLite an element: a number when it is spelled as SQLite would spell that
// integer, otherwise text, so that elements compare with integer columns.
func setElement(ctx sqlite3.Context, e element) {
	if e.null {
		ctx.ResultNull()
		return
	}
	if n, err := strconv.ParseInt(e.text, 10, 64); err == nil && strconv.FormatInt(n, 10) == e.text {
		ctx.ResultInt64(n)
		return
	}
	ctx.ResultText(e.text)
}

func arrayOf(c *call) error {
	parts := make([]string, len(c.arg))
	for i, a := range c.arg {
		if parts[i] = arrayElement(a); a.Type() == sqlite3.TEXT && strings.HasPrefix(a.Text(), "{") {
			if _, err := parseArray(a.Text()); err == nil {
				parts[i] = a.Text()
			}
		}
	}
	return c.returnText("{" + strings.Join(parts, ",") + "}")
}

func arrayGet(c *call) error {
	a, err := parseArray(c.text(0))
	if err != nil {
		return err
	}
	i, err := c.int(1)
	if err != nil {
		return err
	}
	if i -= int64(a.low); i >= 0 && i < int64(len(a.elements)) {
		setElement(c.ctx, a.elements[i])
	}
	return nil
}

func arrayToString(c *call) error {
	if c.isNull(0) || c.isNull(1) {
		return nil
	}
	a, err := parseArray(c.text(0))
	if err != nil {
		return err
	}
	var parts []string
	for _, e := range a.elements {
		switch {
		case !e.null:
			parts = append(parts, e.text)
		case !c.isNull(2):
			parts = append(parts, c.text(2))
		}
	}
	return c.returnText(strings.Join(parts, c.text(1)))
}

func stringToArray(c *call) error {
	if c.isNull(0) {
		return nil
	}
	a, err := splitByText(c)
	if err != nil {
		return err
	}
	return c.returnText(a.String())
}

// splitByText cuts argument 0 at each argument 1; argument 2 is the text that stands for NULL.
func splitByText(c *call) (array, error) {
	a := array{low: 1}
	if c.isNull(0) || c.text(0) == "" {
		return a, nil
	}
	s := c.text(0)
	parts := []string{s}
	switch {
	case c.isNull(1):
		parts = strings.Split(s, "")
	case c.text(1) != "":
		parts = strings.Split(s, c.text(1))
	}
	for _, p := range parts {
		a.elements = append(a.elements, element{p, !c.isNull(2) && p == c.text(2)})
	}
	return a, nil
}

func arrayPosition(c *call) error {
	if c.isNull(0) {
		return nil
	}
	a, err := parseArray(c.text(0))
	if err != nil {
		return err
	}
	for i, e := range a.elements {
		if e.null == c.isNull(1) && (e.null || e.text == c.text(1)) {
			return c.returnInt(int64(i + a.low))
		}
	}
	return nil
}

// arrayBound makes the functions that look at one dimension of an array.
func arrayBound(f func(low, n int) int) func(*call) error {
	return func(c *call) error {
		a, err := parseArray(c.text(0))
		if err != nil {
			return err
		}
		dimension, err := c.int(1)
		if err != nil {
			return err
		}
		for ; dimension > 1 && len(a.elements) > 0; dimension-- {
			if !strings.HasPrefix(a.elements[0].text, "{") {
				return nil
			}
			if a, err = parseArray(a.elements[0].text); err != nil {
				return err
			}
		}
		if dimension != 1 || len(a.elements) == 0 {
			return nil
		}
		return c.returnInt(int64(f(a.low, len(a.elements))))
	}
}

func arrayDims(c *call) error {
	a, err := parseArray(c.text(0))
	n := int64(0)
	for ; err == nil && len(a.elements) > 0; n++ {
		if !strings.HasPrefix(a.elements[0].text, "{") {
			n++
			break
		}
		a, err = parseArray(a.elements[0].text)
	}
	if err != nil || n == 0 {
		return err
	}
	return c.returnInt(n)
}

func cardinality(c *call) error {
	a, err := parseArray(c.text(0))
	if err != nil {
		return err
	}
	return c.returnInt(int64(len(a.elements)))
}

func (c *call) array(i int) (array, error) {
	if c.isNull(i) {
		return array{low: 1}, nil
	}
	return parseArray(c.text(i))
}

func (c *call) element(i int) element {
	if c.isNull(i) {
		return element{null: true}
	}
	return element{text: c.text(i)}
}

func arrayAppend(c *call) error {
	a, err := c.array(0)
	if err != nil {
		return err
	}
	a.elements = append(a.elements, c.element(1))
	return c.returnText(a.String())
}

func arrayPrepend(c *call) error {
	a, err := c.array(1)
	if err != nil {
		return err
	}
	a.elements = append([]element{c.element(0)}, a.elements...)
	return c.returnText(a.String())
}

func arrayCat(c *call) error {
	if c.isNull(0) && c.isNull(1) {
		return nil
	}
	a, err := c.array(0)
	if err != nil {
		return err
	}
	b, err := c.array(1)
	if err != nil {
		return err
	}
	a.elements = append(a.elements, b.elements...)
	return c.returnText(a.String())
}

func arrayOverlaps(c *call) error {
	a, err := c.array(0)
	if err != nil {
		return err
	}
	b, err := c.array(1)
	if err != nil {
		return err
	}
	return c.returnBool(slices.ContainsFunc(a.elements, func(e element) bool { return !e.null && slices.Contains(b.elements, e) }))
}

func arrayRemove(c *call) error {
	if c.isNull(0) {
		return nil
	}
	a, err := c.array(0)
	if err != nil {
		return err
	}
	out, gone := array{low: 1}, c.element(1)
	for _, e := range a.elements {
		if e != gone {
			out.elements = append(out.elements, e)
		}
	}
	return c.returnText(out.String())
}

func arrayReplace(c *call) error {
	if c.isNull(0) {
		return nil
	}
	a, err := c.array(0)
	if err != nil {
		return err
	}
	from, to := c.element(1), c.element(2)
	for i, e := range a.elements {
		if e == from {
			a.elements[i] = to
		}
	}
	return c.returnText(a.String())
}

func castArray(c *call) error {
	a, err := parseArray(c.text(0))
	if err != nil {
		return err
	}
	return c.returnText(a.String())
}
