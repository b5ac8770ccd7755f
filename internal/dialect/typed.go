package dialect

import (
	"slices"
	"strconv"
	"strings"

	"skein/internal/oid"
)

// Some rewrites depend on the types of columns, which are not known while a statement is parsed:
// a string compared with a timestamp must be brought into the one form in which timestamps are kept,
// and arithmetic on decimals must not become floating point. The parser leaves marks where such an
// edit may be needed; Typed resolves them once the probe has told the types. A mark is markByte, the
// place (before an expression, its operator, after it) and the mark's number in three digits of
// seven bits. A text that has markByte itself gets no marks.
const (
	markByte   = 1
	markLength = 5
)

const (
	markBefore   = '<'
	markOperator = '='
	markAfter    = '>'
)

// edit is what stands at a mark's three places; an empty operator leaves the one that is there.
type edit struct{ before, operator, after string }

func (p *parser) newMark() int {
	if !p.marking || p.marks >= 1<<21-1 {
		return 0
	}
	p.marks++
	return p.marks
}

func markText(place byte, id int) string {
	return string([]byte{markByte, place, byte(id>>14) | 0x80, byte(id>>7) | 0x80, byte(id) | 0x80})
}

// markExpr marks a literal, inside everything that is still to come around it.
func (p *parser) markExpr(e *expr) {
	if e.mark = p.newMark(); e.mark == 0 || p.dead() {
		return
	}
	t := &p.toks[e.i]
	t.out = markText(markBefore, e.mark) + t.out + markText(markAfter, e.mark)
}

// marked marks an operator with its operands.
func (p *parser) marked(e *expr, at int) *expr {
	if e.mark = p.newMark(); e.mark == 0 || p.dead() {
		return e
	}
	p.wrap(e.i, e.j, markText(markBefore, e.mark), markText(markAfter, e.mark))
	p.toks[at].out = markText(markOperator, e.mark) + p.toks[at].out + markText(markOperator, e.mark)
	return e
}

// markArguments marks each operand of a comparison of several, unless it is a literal, which has its
// own mark.
func (p *parser) markArguments(e *expr) {
	e.marks = make([]int, len(e.args))
	for n, a := range e.args {
		e.marks[n] = p.markAround(a)
	}
}

// markName marks a function's name.
func (p *parser) markName(e *expr, at int) {
	if e.mark = p.newMark(); e.mark > 0 && !p.dead() {
		p.toks[at].out = markText(markOperator, e.mark) + p.toks[at].out + markText(markOperator, e.mark)
	}
}

// markAround marks a value that is stored in a column.
func (p *parser) markAround(e *expr) int {
	switch e.kind {
	case exprParam, exprNull, exprString, exprNumber, exprDefault:
		return 0
	}
	id := p.newMark()
	if id > 0 {
		p.wrap(e.i, e.j, markText(markBefore, id), markText(markAfter, id))
	}
	return id
}

// markRows marks the values of INSERT … VALUES.
func (p *parser) markRows(c *change) {
	if c.source == nil || p.dead() {
		return
	}
	for _, row := range c.source.cores[0].rows {
		marks := make([]int, len(row))
		for n, e := range row {
			marks[n] = p.markStored(e)
		}
		c.rowMarks = append(c.rowMarks, marks)
	}
}

// markTerm marks a term of ORDER BY that is not a mark already.
func (p *parser) markTerm(e *expr) {
	if e.kind == exprColumn || e.kind == exprCall || e.kind == exprOp || e.kind == exprCase || e.kind == exprCast || e.kind == exprParen {
		if id := p.newMark(); id > 0 {
			p.wrap(e.i, e.j, markText(markBefore, id), markText(markAfter, id))
			e.term = id
		}
		return
	}
	e.term = e.mark
}

// unmarked takes the marks out.
func (p *parser) unmarked(s string) string {
	if !p.marking {
		return s
	}
	return resolveMarks(s, nil)
}

// resolveMarks puts the edits in the place of the marks.
func resolveMarks(raw string, edits map[int]edit) string {
	i := strings.IndexByte(raw, markByte)
	if i < 0 {
		return raw
	}
	var b strings.Builder
	b.Grow(len(raw))
	for i >= 0 && len(raw)-i >= markLength {
		b.WriteString(raw[:i])
		place := raw[i+1]
		id := int(raw[i+2]&0x7f)<<14 | int(raw[i+3]&0x7f)<<7 | int(raw[i+4]&0x7f)
		raw = raw[i+markLength:]
		e := edits[id]
		switch place {
		case markBefore:
			b.WriteString(e.before)
		case markAfter:
			b.WriteString(e.after)
		case markOperator:
			if e.operator == "" {
				break
			}
			// What the operator replaces stands between two marks.
			b.WriteString(e.operator)
			if end := strings.Index(raw, markText(markOperator, id)); end >= 0 {
				raw = raw[end+markLength:]
			}
		}
		i = strings.IndexByte(raw, markByte)
	}
	b.WriteString(raw)
	return b.String()
}

// Typed gives the statement's SQL with the edits that depend on the types of the probe's columns:
// literals and assigned values converted to the types of their columns, and exact arithmetic on
// decimals, dates and times. It is SQL[0] when there is nothing to edit. exact says that no arithmetic is
// left to SQLite on a value whose type is not known, which may be a decimal.
func (s *Statement) Typed(k Known) (sql string, exact bool) {
	if len(s.SQL) == 0 {
		return "", true
	}
	if s.infer == nil || s.infer.raw == "" {
		return s.SQL[0], !s.Arithmetic
	}
	y := &typer{f: s.infer, refs: k.Refs, mods: k.Mods, view: k.View, params: s.params(k), edits: map[int]edit{}}
	y.statement()
	if y.f.change != nil && k.Target != nil {
		y.fill(y.f.change, k.Target)
	}
	return resolveMarks(s.infer.raw, y.edits), !y.inexact
}

// maxConvertible bounds the string literals that may stand for a value of another type than text: a
// date, a number, a uuid. Bytes may be longer.
const maxConvertible = 64

// convertible says whether a string literal may stand for a value that is kept in another form. Short
// ones all may: what does not read as the column's type must fail as PostgreSQL has it fail.
func convertible(s string) bool {
	s = strings.TrimSpace(s)
	return s != "" && (len(s) <= maxConvertible || len(s) <= 1<<10 && s[0] >= '0' && s[0] <= '9' || s[0] == '\\')
}

// converted says whether literals of the type are kept in a form of their own.
func converted(t oid.OID) bool {
	switch t {
	case oid.Bool, oid.UUID, oid.Bytea, oid.Numeric, oid.Int2, oid.Int4, oid.Int8, oid.Float4, oid.Float8, oid.PgLSN:
		return true
	}
	return isTemporal(t)
}

// convert makes a literal beside a value of type t one of that type.
func (y *typer) convert(x *expr, t oid.OID, mod int32) {
	if y.edits == nil || x.mark == 0 || x.kind != exprString || !converted(t) {
		return
	}
	y.edits[x.mark] = castEdit(t, mod)
}

// castEdit casts what stands between the marks.
func castEdit(t oid.OID, mod int32) edit {
	typ := oid.ByOID(t)
	tn := &typeName{typ: typ, args: modifierArgs(t, mod)}
	return edit{before: tn.castName() + "(", after: tn.castArgs() + ")"}
}

// store converts a value to the type of the column that it goes to, as PostgreSQL's assignment casts
// do.
func (y *typer) store(value *expr, mark int, t oid.OID, mod int32, sc *scope) {
	y.give(value, t, mod)
	x := value.bare()
	if x.kind == exprParam || x.kind == exprNull || x.kind == exprString {
		return
	}
	if x.mark > 0 && x.kind == exprNumber {
		switch {
		case y.edits == nil:
		case t == oid.Numeric:
			y.edits[x.mark] = decimalEdit(x, mod)
		case isInteger(t) && numberType(x.name) == oid.Numeric:
			y.edits[x.mark] = castEdit(t, mod)
		}
		return
	}
	if mark == 0 {
		return
	}
	from := known(y.typeOf(value, sc))
	if y.edits == nil || from == 0 && t != oid.Numeric {
		return
	}
	integer := isInteger(t) && (from == oid.Numeric || from == oid.Float4 || from == oid.Float8)
	fn := conversion(from, t)
	if t == oid.Numeric || integer || isTemporal(t) && isTemporal(from) && from != t || isTextual(t) && fn != "" {
		y.edits[mark] = castEdit(t, mod)
		if fn != "" {
			y.edits[mark] = edit{before: y.edits[mark].before + fn, after: ")" + y.edits[mark].after}
		}
	}
}

// decimalEdit casts a number as text, because SQLite would read it as a float first.
func decimalEdit(x *expr, mod int32) edit {
	e := castEdit(oid.Numeric, mod)
	if numberType(x.name) == oid.Numeric {
		e.before, e.after = e.before+"'", "'"+e.after
	}
	return e
}

// arithmetic gives decimals, dates and times to the functions that compute exactly.
func (y *typer) arithmetic(e *expr, sc *scope) {
	if e.mark > 0 && len(e.args) == 1 && e.name == "-" {
		t := y.typeOf(e.args[0], sc)
		y.inexact = y.inexact || t == 0
		if t == oid.Numeric && y.edits != nil {
			y.edits[e.mark] = edit{before: "numeric_neg(", operator: " ", after: ")"}
		}
		return
	}
	name := arithmeticFunction[e.name]
	if e.mark == 0 || len(e.args) != 2 || name == "" {
		return
	}
	a, b := y.typeOf(e.args[0], sc), y.typeOf(e.args[1], sc)
	if e.name == "-" && isJSON(a) {
		name := "jsonb_without("
		if b == oid.TextArray {
			name = "jsonb_without_all("
		}
		if y.edits != nil {
			y.edits[e.mark] = edit{before: name, operator: ",", after: ")"}
		}
		return
	}
	y.inexact = y.inexact || a == 0 || b == 0
	if y.edits != nil && (e.name == "/" || e.name == "%") && mayBeZero(e.args[1]) && numberRank(a) > 0 && numberRank(b) > 0 {
		// SQLite gives NULL where PostgreSQL complains of a division by zero.
		y.edits[e.mark] = edit{before: name, operator: ",", after: ")"}
	}
	if y.edits == nil || !exact(a) && !exact(b) || isFloat(a) || isFloat(b) {
		return
	}
	if onlyLiterals(e) {
		return
	}
	y.edits[e.mark] = edit{before: name, operator: ",", after: ")"}
	for _, arg := range e.args {
		y.quoteDecimal(arg)
	}
}

// mayBeZero says whether a divisor is anything but a literal that is not zero.
func mayBeZero(e *expr) bool {
	x := e.bare()
	return x.kind != exprNumber || strings.Trim(x.name, "0.") == ""
}

func isJSON(t oid.OID) bool { return t == oid.JSON || t == oid.JSONB }

func isFloat(t oid.OID) bool { return t == oid.Float4 || t == oid.Float8 }

func exact(t oid.OID) bool { return t == oid.Numeric || isTemporal(t) }

// aggregate sums decimals and intervals exactly.
func (y *typer) aggregate(e *expr, sc *scope) {
	if e.mark == 0 || len(e.args) != 1 || e.name != "sum" && e.name != "avg" {
		return
	}
	t := y.typeOf(e.args[0], sc)
	y.inexact = y.inexact || t == 0
	if exact(t) && y.edits != nil {
		y.edits[e.mark] = edit{operator: "numeric_" + e.name}
	}
}

// onlyLiterals says whether the expression has nothing but numbers in it.
func onlyLiterals(e *expr) bool {
	only := true
	e.walk(func(x *expr) {
		only = only && (x.kind == exprNumber || x.kind == exprOp || x.kind == exprParen)
	})
	return only
}

// quoteDecimal makes a decimal literal text, so that it keeps its digits.
func (y *typer) quoteDecimal(e *expr) {
	if x := e.bare(); x.kind == exprNumber && x.mark > 0 && numberType(x.name) == oid.Numeric {
		y.edits[x.mark] = edit{before: "'", after: "'"}
	}
}

// comparedDecimals compares decimals by value. A plain column has the collation that does; the
// result of an expression has none.
func (y *typer) comparedDecimals(e *expr, sc *scope) {
	if e.mark == 0 || len(e.args) != 2 {
		return
	}
	computed := false
	for _, a := range e.args {
		switch a.bare().kind {
		case exprColumn, exprNumber, exprString, exprParam, exprNull, exprRow:
		default:
			computed = true
		}
	}
	if !computed {
		return
	}
	a, b := y.typeOf(e.args[0], sc), y.typeOf(e.args[1], sc)
	if y.edits == nil || a != oid.Numeric && b != oid.Numeric || isFloat(a) || isFloat(b) || onlyLiterals(e.args[0]) && onlyLiterals(e.args[1]) {
		return
	}
	op := e.name
	if op == "==" {
		op = "="
	}
	y.edits[e.mark] = edit{before: "(numeric_cmp(", operator: ",", after: ") " + op + " 0)"}
	for _, arg := range e.args {
		y.quoteDecimal(arg)
	}
}

// innerItem has a decimal that a nested query computes be compared outside of it like a column: with the affinity and the collation of one.
func (y *typer) innerItem(it *item, sc *scope) {
	if it.inner > 0 && y.edits != nil && y.typeOf(it.e, sc) == oid.Numeric {
		y.edits[it.inner] = edit{before: "CAST(", after: " AS TEXT) COLLATE numeric"}
	}
}

// comparedByValue makes BETWEEN, IN, min, max and nullif compare computed decimals by value: all
// operands become text, compared by the collation of the first.
func (y *typer) comparedByValue(e *expr, sc *scope) {
	if y.positionsAmong(e, sc) {
		return
	}
	if len(e.marks) == 0 || len(e.marks) != len(e.args) || e.args[0].kind == exprRow {
		return
	}
	decimal, computed := false, false
	for _, a := range e.args {
		t := y.typeOf(a, sc)
		if isFloat(t) {
			return
		}
		decimal = decimal || t == oid.Numeric && a.bare().kind != exprNumber
		switch a.bare().kind {
		case exprColumn, exprNumber, exprString, exprParam, exprNull:
		default:
			computed = true
		}
	}
	if y.edits == nil || !decimal || !computed {
		return
	}
	for n, a := range e.args {
		var change edit
		if t := y.typeOf(a, sc); numberRank(t) > 0 && t != oid.Numeric && a.bare().kind != exprNumber {
			change = castEdit(oid.Numeric, -1)
		}
		if n == 0 {
			change.after += " COLLATE numeric"
		}
		if x := a.bare(); x.kind == exprNumber && x.mark > 0 {
			y.edits[x.mark] = edit{before: "'", after: "'"}
		}
		if e.marks[n] > 0 {
			y.edits[e.marks[n]] = change
		}
	}
}

// sorted sorts computed decimals by value.
func (y *typer) sorted(e *expr, q *query, sc *scope) {
	x := e.bare()
	if e.term == 0 {
		return
	}
	c := q.cores[0]
	switch {
	case x.kind == exprNumber:
		n, err := strconv.Atoi(x.name)
		if err != nil || n < 1 || n > len(c.items) {
			return
		}
		x = c.items[n-1].e
	case x.kind == exprColumn && x.qual == "":
		for _, it := range c.items {
			if it.alias == x.name {
				x = it.e
				break
			}
		}
	}
	y.sortedTerm(e.term, x, sc)
}

// direct says whether a column is one of a function that is kept as it is, where it has another name.
func (sc *scope) direct(column *expr) bool {
	return slices.ContainsFunc(sc.relations, func(r *relation) bool {
		return r.direct && (column.qual == r.alias || column.qual == "" && slices.Contains(r.columns, column.name))
	})
}

// sortedTerm makes one term of ORDER BY, that stands for x, sort by value.
func (y *typer) sortedTerm(mark int, x *expr, sc *scope) {
	b := x.bare()
	if mark == 0 || b.kind == exprStar || b.kind == exprNumber || b.kind == exprColumn && sc.direct(b) {
		return
	}
	switch t := y.typeOf(x, sc); {
	case y.edits == nil:
	case b.kind == exprColumn && valueCollation(t) != "":
	case t == oid.Numeric:
		y.edits[mark] = edit{after: " COLLATE numeric"}
	case byCollation(t) != "":
		y.edits[mark] = edit{after: byCollation(t)}
	}
}
