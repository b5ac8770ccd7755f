package dialect

import (
	"strconv"
	"strings"

	"skein/internal/oid"
)

// typeOf is the type of an expression; oid.Unknown for a literal or parameter that takes any type,
// 0 when it cannot be told.
func (y *typer) typeOf(e *expr, sc *scope) oid.OID {
	switch e.kind {
	case exprNumber:
		return numberType(e.name)
	case exprString, exprNull:
		return oid.Unknown
	case exprBool, exprLogic, exprCompare:
		return oid.Bool
	case exprParam:
		if e.param <= len(y.params) && y.params[e.param-1].OID != 0 {
			return y.params[e.param-1].OID
		}
		return oid.Unknown
	case exprColumn:
		return y.reference(e, sc)
	case exprCast:
		return e.typ
	case exprParen:
		return y.typeOf(e.args[0], sc)
	case exprCase:
		return y.common(e.args, sc)
	case exprSubquery:
		return y.subqueryType(e.sub, sc)
	case exprRow:
		return oid.Record
	case exprArray:
		return arrayOf(y.common(e.args, sc))
	case exprElement:
		if t := oid.ByOID(y.typeOf(e.args[0], sc)); t != nil {
			return t.Elem
		}
	case exprOp:
		// Operands are typed before their operator, so a long chain is not walked again and again.
		t, ok := y.chain[e]
		if !ok {
			t = y.operatorType(e, sc)
			if y.chain == nil {
				y.chain = map[*expr]oid.OID{}
			}
			y.chain[e] = t
		}
		return t
	case exprCall:
		return y.callType(e, sc)
	}
	return 0
}

// numberType is the type of a numeric literal.
func numberType(s string) oid.OID {
	if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
		return oid.Int8
	}
	if _, err := strconv.ParseInt(s, 10, 32); err == nil {
		return oid.Int4
	}
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		return oid.Int8
	}
	return oid.Numeric
}

func arrayOf(elem oid.OID) oid.OID {
	if t := oid.ByOID(known(elem)); t != nil && t.Array != 0 {
		return t.Array
	}
	return oid.TextArray
}

// numberRank orders the numeric types by width; 0 for all others.
func numberRank(t oid.OID) int {
	switch t {
	case oid.Int2:
		return 1
	case oid.Int4:
		return 2
	case oid.Int8, oid.OIDType:
		return 3
	case oid.Numeric:
		return 4
	case oid.Float4:
		return 5
	case oid.Float8:
		return 6
	}
	return 0
}

func (y *typer) operatorType(e *expr, sc *scope) oid.OID {
	if len(e.args) == 1 {
		return y.typeOf(e.args[0], sc)
	}
	a, b := y.typeOf(e.args[0], sc), y.typeOf(e.args[1], sc)
	switch e.name {
	case "||":
		return joined(a, b)
	case "->>", "#>>":
		return oid.Text
	case "->", "#>":
		if known(a) == 0 {
			return oid.JSON
		}
		return a
	case "^":
		return oid.Float8
	}
	if e.name == "-" && isJSON(a) {
		return oid.JSONB
	}
	if t := temporalResult(e.name, a, b); t != 0 {
		return t
	}
	if t := positionResult(e.name, a, b); t != 0 {
		return t
	}
	a, b = known(a), known(b)
	if numberRank(b) > numberRank(a) || a == 0 {
		return b
	}
	return a
}

// joined is the type of a || b.
func joined(a, b oid.OID) oid.OID {
	for _, t := range []oid.OID{a, b} {
		if typ := oid.ByOID(known(t)); typ != nil && (typ.Elem != 0 || t == oid.Bytea || t == oid.JSONB) {
			return t
		}
	}
	return oid.Text
}

// reference is the type of a column: what the probe says, or else what the expression behind it in a
// subquery has.
func (y *typer) reference(e *expr, sc *scope) oid.OID {
	if y.collecting {
		y.note(e, sc)
	}
	if n, ok := y.f.refs[e]; ok && n < len(y.refs) && y.refs[n] != 0 {
		return y.refs[n]
	}
	return y.derived(e, sc)
}

// derived is the type of a column that is an expression in a subquery, 0 for others.
func (y *typer) derived(e *expr, sc *scope) oid.OID {
	if y.depth > 20 {
		return 0
	}
	y.depth++
	defer func() { y.depth-- }()
	for s := sc; s != nil; s = s.outer {
		for _, r := range s.relations {
			if e.qual != "" && !r.called(e.qual) {
				continue
			}
			if t := y.relationColumn(r, e.name, s); t != 0 {
				return t
			}
		}
	}
	return 0
}

// relationColumn is the type of a subquery's or function's column of that name, 0 for others.
func (y *typer) relationColumn(r *relation, name string, sc *scope) oid.OID {
	if r.fn != nil && r.alias != "" {
		if len(r.columns) > 0 && r.columns[0] != name {
			return 0
		}
		return y.typeOf(r.fn, sc)
	}
	q, outer := y.definition(r, sc)
	if q == nil {
		return y.viewColumn(r, name)
	}
	var t oid.OID
	for _, c := range q.cores {
		inner := y.scopeOf(q, c, outer)
		for n, it := range c.items {
			if !it.called(name, n, q.cores[0], r.columns) {
				continue
			}
			if t = known(y.typeOf(it.e, inner)); t != 0 {
				return t
			}
		}
	}
	return 0
}

// viewColumn is the type of a view's column of that name, 0 for others.
func (y *typer) viewColumn(r *relation, name string) oid.OID {
	if y.view == nil || r.name == "" {
		return 0
	}
	for n, c := range y.view(r.name) {
		given := c.Name
		if n < len(r.columns) {
			given = r.columns[n]
		}
		if strings.EqualFold(given, name) {
			return c.Type
		}
	}
	return 0
}

// called says whether the n-th item is the column of that name; names are those of the first core, or
// those given to the relation.
func (it *item) called(name string, n int, first *core, given []string) bool {
	if n < len(given) {
		return given[n] == name
	}
	if n >= len(first.items) {
		return false
	}
	it = first.items[n]
	if it.alias != "" {
		return it.alias == name
	}
	own, _ := columnName(it.e)
	return own == name
}

// note makes a column of the probe for a reference.
func (y *typer) note(e *expr, sc *scope) {
	const most = 500 // of probe columns; a statement with more is typed without the rest
	if _, ok := y.f.refs[e]; ok || len(y.f.columns) >= most || y.depth > 0 && sc == nil {
		return
	}
	for _, r := range sc.relations {
		if e.qual == "" && r.called(e.name) && len(r.columns) == 0 {
			return // a whole row, which SQLite does not have
		}
	}
	text := quoteIdent(e.name)
	if qual := e.qual; qual != "" {
		if c := y.f.change; c != nil && qual == "excluded" {
			qual = c.table.own()
		}
		text = quoteIdent(qual) + "." + text
	}
	for s := sc; s != nil; s = s.outer {
		if s.root {
			break
		}
		if s.from != "" {
			text = "(" + s.withText + "SELECT " + text + " FROM " + s.from + ")"
		}
	}
	y.f.refs[e] = len(y.f.columns)
	y.f.columns = append(y.f.columns, text)
}

func (y *typer) subqueryType(q *query, outer *scope) oid.OID {
	if y.depth > 20 {
		return 0
	}
	y.depth++
	defer func() { y.depth-- }()
	for _, c := range q.cores {
		if len(c.items) == 0 {
			continue
		}
		if t := known(y.typeOf(c.items[0].e, y.scopeOf(q, c, outer))); t != 0 {
			return t
		}
	}
	return 0
}

func (y *typer) callType(e *expr, sc *scope) oid.OID {
	var first oid.OID
	if len(e.args) > 0 {
		first = known(y.typeOf(e.args[0], sc))
	}
	switch e.name {
	case "coalesce", "greatest", "least", "ifnull":
		return y.common(e.args, sc)
	case "nullif", "min", "max", "lag", "lead", "first_value", "last_value", "nth_value", "any_value", "abs", "array_cat", "array_append",
		"array_remove", "array_replace", "numeric_neg", "numeric_sum", "numeric_avg", "mod", "bit_and", "bit_or":
		return first
	case "generate_series":
		if first == oid.Date {
			return oid.Timestamptz
		}
		return first
	case "iif", "array_prepend":
		if len(e.args) > 1 {
			return y.common(e.args[1:], sc)
		}
	case "sum":
		if isInteger(first) {
			return oid.Int8
		}
		return first
	case "avg":
		if first == oid.Numeric || first == oid.Interval {
			return first
		}
		return oid.Float8
	case "round", "trunc", "ceil", "ceiling", "floor", "sign", "power", "pow", "sqrt", "exp", "ln", "log":
		if first == oid.Numeric {
			return oid.Numeric
		}
		return oid.Float8
	case "array_agg":
		return arrayOf(first)
	case "unnest":
		if t := oid.ByOID(first); t != nil {
			return t.Elem
		}
		return 0
	case "timezone":
		return y.zoneType(e, sc)
	case "date_trunc":
		if len(e.args) > 1 {
			return known(y.typeOf(e.args[1], sc))
		}
	case "array_get":
		if t := oid.ByOID(first); t != nil {
			return t.Elem
		}
	}
	if op := arithmeticOperator[e.name]; op != "" && len(e.args) == 2 {
		a, b := first, known(y.typeOf(e.args[1], sc))
		if t := temporalResult(op, a, b); t != 0 {
			return t
		}
		if t := positionResult(op, a, b); t != 0 {
			return t
		}
		if numberRank(b) > numberRank(a) {
			return b
		}
		return a
	}
	return functionType(e.name)
}

// arithmeticOperator is what a function of Typed's edits, as it stands in the text of a view, computes.
var arithmeticOperator = map[string]string{
	"pg_lsn_add": "+", "pg_lsn_sub": "-", "numeric_add": "+", "numeric_sub": "-", "numeric_mul": "*", "numeric_div": "/", "numeric_mod": "%",
}

// zoneType swaps the two timestamps, as AT TIME ZONE does.
func (y *typer) zoneType(e *expr, sc *scope) oid.OID {
	if len(e.args) < 2 {
		return oid.Timestamp
	}
	switch y.typeOf(e.args[1], sc) {
	case oid.Timestamp:
		return oid.Timestamptz
	case oid.Time, oid.TimeTZ:
		return oid.TimeTZ
	}
	return oid.Timestamp
}

// arguments types the parameters among a function's arguments.
func (y *typer) arguments(e *expr, sc *scope) {
	switch e.name {
	case "coalesce", "greatest", "least", "nullif", "ifnull", "mod":
		y.same(e.args, sc)
		y.exactAlternatives(e.args, sc)
		return
	case "generate_series":
		y.same(e.args[:min(2, len(e.args))], sc)
		if len(e.args) > 2 {
			if t := y.common(e.args[:2], sc); isTemporal(t) {
				y.give(e.args[2], oid.Interval, -1)
			} else {
				y.same(e.args, sc)
			}
		}
		return
	case "timezone":
		if len(e.args) > 0 {
			y.give(e.args[0], oid.Text, -1)
		}
		return
	}
	types := argumentTypes(e.name)
	for n, a := range e.args {
		if n < len(types) {
			y.give(a, types[n], -1)
		}
	}
}
