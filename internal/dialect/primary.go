package dialect

import (
	"strconv"
	"strings"
)

// primary reads an operand without operators.
func (p *parser) primary() *expr {
	start := p.i
	t := p.tok()
	switch t.kind {
	case tokenNumber:
		p.next()
		return p.literal(exprNumber, start)
	case tokenString:
		p.next()
		return p.literal(exprString, start)
	case tokenBlob:
		p.next()
		return p.literal(exprOther, start)
	case tokenParam:
		p.next()
		e := p.atom(exprParam, start)
		e.param, _ = strconv.Atoi(t.word)
		return e
	case tokenOp:
		if t.word == "(" {
			return p.parenthesis()
		}
		if t.word == "*" {
			p.next()
			return p.atom(exprStar, start)
		}
	case tokenQuoted:
		if p.peek(1).kind == tokenString {
			return p.typedLiteral()
		}
		return p.reference()
	case tokenWord:
		return p.wordPrimary()
	}
	p.lose()
	return p.atom(exprOther, start)
}

func (p *parser) literal(kind exprKind, start int) *expr {
	e := p.atom(kind, start)
	e.name = p.toks[start].word
	if kind == exprNumber || kind == exprString && convertible(e.name) {
		p.markExpr(e)
	}
	return e
}

// sessionWords are the functions that standard SQL calls without parentheses, and what they are here.
var sessionWords = map[string]string{
	"current_timestamp": "now()", "localtimestamp": "localtimestamp()",
	"current_date": "current_date_()", "current_time": "current_time_()", "localtime": "localtime_()",
	"current_user": "current_user_()", "session_user": "current_user_()", "user": "current_user_()",
	"current_role": "current_user_()", "current_schema": "current_schema()",
	"current_catalog": "current_database()",
}

func (p *parser) wordPrimary() *expr {
	start := p.i
	t := p.tok()
	call := p.peek(1).is("(")
	if fn, ok := sessionWords[t.word]; ok && !(call && strings.HasPrefix(fn, t.word+"(")) {
		return p.sessionFunction(fn)
	}
	switch t.word {
	case "null":
		p.next()
		return p.atom(exprNull, start)
	case "true", "false":
		p.next()
		return p.literal(exprBool, start)
	case "default":
		p.next()
		return p.atom(exprDefault, start)
	case "case":
		return p.caseExpression()
	case "cast":
		if call {
			return p.castFunction()
		}
	case "exists":
		if call {
			return p.exists()
		}
	case "array":
		return p.array()
	case "row":
		if call {
			p.drop("row")
			return p.parenthesis()
		}
	case "not":
		// NOT in the place of an operand, as in "a = NOT b".
		p.next()
		e := p.level(levelNot)
		p.wrap(start, p.i, "(", ")")
		n := p.node(exprLogic, start, tightAtom, e)
		return n
	}
	if reserved[t.word] && !call {
		p.lose()
		return p.atom(exprOther, start)
	}
	if p.startsTypedLiteral() {
		return p.typedLiteral()
	}
	return p.reference()
}

// sessionFunction replaces a word such as CURRENT_TIMESTAMP, with its optional precision, by a call.
func (p *parser) sessionFunction(fn string) *expr {
	start := p.i
	word := p.next().word
	if p.is("(") && p.peek(1).kind == tokenNumber && p.peek(2).is(")") {
		p.i += 3
	}
	p.collapse(start, p.i, fn)
	e := p.atom(exprCall, start)
	e.name, e.typ0 = strings.TrimSuffix(fn, "()"), word
	return e
}

func (p *parser) parenthesis() *expr {
	start := p.i
	p.next()
	if p.startsQuery() {
		e := p.subquery()
		p.want(")")
		e.i, e.j = start, p.i
		return e
	}
	if p.is(")") {
		p.next()
		return p.node(exprRow, start, tightAtom)
	}
	args := p.list()
	p.want(")")
	if len(args) == 1 {
		e := p.node(exprParen, start, tightAtom, args...)
		return e
	}
	return p.node(exprRow, start, tightAtom, args...)
}

func (p *parser) caseExpression() *expr {
	start := p.i
	p.next()
	e := &expr{kind: exprCase, i: start, tight: tightAtom, mod: -1}
	if !p.is("when") {
		e.when = append(e.when, p.expression())
		e.any = true
	}
	for p.accept("when") {
		e.when = append(e.when, p.expression())
		p.want("then")
		e.args = append(e.args, p.expression())
	}
	e.name = "case"
	if p.accept("else") {
		last := p.expression()
		e.args = append(e.args, last)
		if name, strong := columnName(last); strong {
			e.name = name
		}
	}
	p.want("end")
	e.j = p.i
	return e
}

func (p *parser) exists() *expr {
	start := p.i
	p.i += 2
	if !p.startsQuery() {
		p.lose()
		return p.atom(exprOther, start)
	}
	sub := p.subquery()
	p.want(")")
	e := p.node(exprLogic, start, tightAtom, sub)
	e.name = "exists"
	return e
}

// array reads ARRAY[…] and ARRAY(SELECT …).
func (p *parser) array() *expr {
	start := p.i
	p.next()
	if p.accept("(") {
		if !p.startsQuery() {
			p.lose()
			return p.atom(exprOther, start)
		}
		sub := p.subquery()
		p.want(")")
		p.replace(start, "(SELECT coalesce(array_agg(_c), '{}') FROM (SELECT NULL AS _c WHERE 0 UNION ALL SELECT * FROM ")
		p.after(p.i-1, "))")
		return p.node(exprArray, start, tightAtom, sub)
	}
	return p.arrayElements(start)
}

// arrayElements reads the brackets of ARRAY[…]; inner arrays may leave the word out.
func (p *parser) arrayElements(start int) *expr {
	open := p.i
	if !p.want("[") {
		return p.atom(exprOther, start)
	}
	var args []*expr
	p.enter()
	defer p.leave()
	for !p.dead() && !p.is("]") {
		if p.is("[") {
			args = append(args, p.arrayElements(p.i))
		} else {
			args = append(args, p.expression())
		}
		if !p.accept(",") {
			break
		}
	}
	p.want("]")
	if open > start {
		p.remove(start, start+1)
	}
	p.replace(open, "array_of(")
	p.replace(p.i-1, ")")
	e := p.node(exprArray, start, tightAtom, args...)
	p.markArguments(e)
	return e
}

// reference reads a column reference or a function call; both may be qualified.
func (p *parser) reference() *expr {
	start := p.i
	parts := 1
	p.i++
	for p.is(".") {
		if p.peek(1).is("*") {
			p.i += 2
			e := p.atom(exprStar, start)
			e.qual = p.toks[p.i-3].word
			p.quote(p.i - 3)
			if parts > 1 {
				p.remove(start, p.i-3)
			}
			return e
		}
		if !p.peek(1).name() {
			p.lose()
			return p.atom(exprOther, start)
		}
		p.i += 2
		parts++
	}
	if p.is("(") {
		return p.call(start)
	}
	e := p.atom(exprColumn, start)
	e.name = p.toks[p.i-1].word
	p.quote(p.i - 1)
	if parts > 1 {
		e.qual = p.toks[p.i-3].word
		p.quote(p.i - 3)
	}
	if parts > 2 {
		p.qualifiedColumn(start)
	}
	return e
}

// qualifiedColumn drops the schema from schema.table.column.
func (p *parser) qualifiedColumn(start int) {
	table := p.i - 3
	switch p.toks[table-2].word {
	case "main", "temp":
	default:
		p.remove(start, table)
	}
}

// call reads a function's arguments and what may follow them; p stands at the parenthesis.
func (p *parser) call(start int) *expr {
	nameAt := p.i - 1
	name := p.toks[nameAt].word
	if nameAt > start {
		p.remove(start, nameAt)
	}
	if p.toks[nameAt].kind == tokenQuoted {
		name = asciiLower(name)
	}
	e := p.specialCall(name, start, nameAt)
	if e == nil {
		e = p.plainCall(name, start, nameAt)
	}
	p.callTail(e)
	if p.rowCalls != nil && listFunctions[name] && !p.dead() {
		p.rowCall(e)
	}
	return e
}

// plainCall reads name([DISTINCT] arguments [ORDER BY …]).
func (p *parser) plainCall(name string, start, nameAt int) *expr {
	p.next()
	p.accept("distinct")
	p.drop("all")
	var args, order []*expr
	if p.is("variadic") {
		p.unsupported(p.i, "VARIADIC is")
	}
	if !p.is(")") && !p.is("order") {
		args = p.list()
	}
	if p.is("=>") || p.is(":=") {
		p.unsupported(p.i, "named arguments are")
	}
	if p.is("order") {
		order = p.orderBy()
	}
	p.want(")")
	e := p.node(exprCall, start, tightAtom, args...)
	e.name, e.when = name, order
	p.judgeCall(e, nameAt)
	return e
}

// judgeCall renames the few functions that SQLite knows by another name and notes what a call means
// for the statement.
func (p *parser) judgeCall(e *expr, nameAt int) {
	switch e.name {
	case "sum", "avg":
		p.markName(e, nameAt)
	case "timezone", "date_trunc", "date_part", "to_char", "greatest", "least":
		p.markName(e, nameAt)
	case "min", "max", "nullif", "concat", "concat_ws", "format", "array_agg", "json_build_object", "jsonb_build_object",
		"json_build_array", "jsonb_build_array", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "to_json", "to_jsonb":
		p.markArguments(e)
	}
	switch e.name {
	case "nextval", "setval":
		p.st.ForUpdate, p.st.Writing = true, e.name+"()" // writes the number of the last row
	case "coalesce":
		// SQLite's coalesce wants two arguments at least.
		if len(e.args) == 1 {
			p.remove(nameAt, nameAt+1)
		}
	case "btrim":
		p.replace(nameAt, "trim")
	case "sum", "avg", "round", "abs", "ceil", "ceiling", "floor", "trunc", "mod", "power", "sign", "total",
		"div", "sqrt", "exp", "ln", "log", "stddev", "variance", "min", "max", "greatest", "least":
		if len(e.args) > 0 && e.args[0].kind != exprNumber {
			p.st.Arithmetic = true
		}
	case "lo_create", "lo_creat", "lo_import", "lo_unlink", "lo_from_bytea", "lo_put":
		p.unsupported(nameAt, "large objects are")
	}
}

// callTail reads FILTER, OVER and WITHIN GROUP.
func (p *parser) callTail(e *expr) {
	if p.is("within", "group") {
		p.unsupported(p.i, "WITHIN GROUP is")
	}
	if p.is("filter", "(") {
		p.i += 2
		p.want("where")
		e.when = append(e.when, p.expression())
		p.want(")")
	}
	if p.accept("over") {
		if p.is("(") {
			e.when = append(e.when, p.window()...)
		} else {
			p.name()
		}
	}
	e.j = p.i
}

// window reads ([name] [PARTITION BY …] [ORDER BY …] [frame]).
func (p *parser) window() []*expr {
	var used []*expr
	p.next()
	if p.tok().name() && !p.isAny("partition", "order", "rows", "range", "groups") {
		p.name()
	}
	if p.accept("partition", "by") {
		used = append(used, p.list()...)
	}
	if p.is("order") {
		used = append(used, p.orderBy()...)
	}
	if p.isAny("rows", "range", "groups") {
		used = append(used, p.frame()...)
	}
	p.want(")")
	return used
}

func (p *parser) frame() []*expr {
	var used []*expr
	for !p.dead() && !p.is(")") && !p.end() {
		switch {
		case p.isAny("rows", "range", "groups", "between", "and", "unbounded", "preceding", "following",
			"current", "row", "exclude", "no", "others", "group", "ties"):
			p.next()
		default:
			used = append(used, p.level(levelLike))
		}
	}
	return used
}

// specialCall reads the functions whose arguments have a syntax of their own; nil for all others.
func (p *parser) specialCall(name string, start, nameAt int) *expr {
	switch name {
	case "extract":
		return p.extract(start, nameAt)
	case "position":
		return p.positionIn(start, nameAt)
	case "substring":
		return p.substring(start, nameAt)
	case "overlay":
		return p.overlay(start, nameAt)
	case "trim":
		return p.trim(start, nameAt)
	}
	return nil
}

func (p *parser) extract(start, nameAt int) *expr {
	field := p.peek(1)
	if !field.name() && field.kind != tokenString || !p.peek(2).is("from") {
		return nil
	}
	p.i += 2
	p.replace(p.i-1, quoteString(asciiLower(field.word)))
	p.next()
	p.replace(p.i-1, ",")
	arg := p.expression()
	p.want(")")
	e := p.node(exprCall, start, tightAtom, arg)
	e.name = "extract"
	p.markName(e, nameAt)
	return e
}

func (p *parser) positionIn(start, nameAt int) *expr {
	p.next()
	a := p.level(levelOther)
	if !p.want("in") {
		return a
	}
	p.replace(p.i-1, ",")
	b := p.level(levelOther)
	p.want(")")
	p.replace(nameAt, "position_")
	e := p.node(exprCall, start, tightAtom, a, b)
	e.name = "position"
	return e
}

func (p *parser) substring(start, nameAt int) *expr {
	p.next()
	args := []*expr{p.expression()}
	for !p.dead() && p.isAny(",", "from", "for") {
		if p.is("for") && len(args) == 1 {
			p.replace(p.i, ", 1,")
		} else {
			p.replace(p.i, ",")
		}
		p.next()
		args = append(args, p.expression())
	}
	name := "substr"
	if len(args) == 2 && args[1].bare().kind == exprString {
		name = "regexp_substr"
	}
	if p.is("similar") {
		p.unsupported(p.i, "SUBSTRING SIMILAR is")
	}
	p.want(")")
	p.replace(nameAt, name)
	e := p.node(exprCall, start, tightAtom, args...)
	e.name, e.typ0 = name, "substring"
	return e
}

func (p *parser) overlay(start, nameAt int) *expr {
	p.next()
	args := []*expr{p.expression()}
	for !p.dead() && p.isAny(",", "placing", "from", "for") {
		p.replace(p.i, ",")
		p.next()
		args = append(args, p.expression())
	}
	p.want(")")
	e := p.node(exprCall, start, tightAtom, args...)
	e.name = "overlay"
	return e
}

// trim reads TRIM([BOTH|LEADING|TRAILING] [chars] FROM text) and the plain forms.
func (p *parser) trim(start, nameAt int) *expr {
	p.next()
	name := "trim"
	switch {
	case p.drop("leading"):
		name = "ltrim"
	case p.drop("trailing"):
		name = "rtrim"
	case p.drop("both"):
	}
	var args []*expr
	if p.drop("from") {
		args = p.list()
	} else {
		args = p.list()
		if p.is("from") {
			from := p.i
			p.next()
			text := p.expression()
			if !p.dead() && len(args) == 1 {
				p.collapse(args[0].i, p.i, p.text(text.i, text.j)+", "+p.text(args[0].i, from))
			}
			args = []*expr{text, args[0]}
		}
	}
	p.want(")")
	p.replace(nameAt, name)
	e := p.node(exprCall, start, tightAtom, args...)
	e.name = map[string]string{"trim": "btrim"}[name]
	if e.name == "" {
		e.name = name
	}
	return e
}
