package dialect

import (
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

type exprKind uint8

const (
	exprOther  exprKind = iota // nothing known but its span and operands
	exprNumber                 // name: its text
	exprString                 // name: its value
	exprNull
	exprBool
	exprParam    // param
	exprColumn   // name, qual
	exprStar     // qual
	exprCall     // name, args
	exprCast     // typ, args[0]
	exprOp       // name: the operator; args
	exprLogic    // a truth value from args: AND, OR, NOT, IS, EXISTS …
	exprCompare  // args are compared with each other: =, BETWEEN, IN …
	exprCase     // args: the results; when: operand, conditions
	exprArray    // args
	exprElement  // e[i]
	exprRow      // args
	exprSubquery // sub
	exprParen    // args[0]
	exprDefault  // DEFAULT
)

// expr is a node of the light syntax tree: what it is, and which tokens it spans.
type expr struct {
	kind  exprKind
	i, j  int
	tight int // how tightly SQLite binds the outermost operator
	name  string
	qual  string
	param int
	typ   oid.OID
	mod   int32
	typ0  string // the name of a cast's type, for the column name
	args  []*expr
	when  []*expr
	sub   *query
	mark  int   // where Typed may edit the expression, see markByte
	marks []int // around the operands of a comparison of several
	term  int   // the mark of a term of ORDER BY
	any   bool  // of exprCompare: the right side is an array; of exprCase: it has an operand
}

// How tightly SQLite binds operators; PostgreSQL's own levels are those of infix. Where the two
// differ, operand parenthesises.
const (
	tightOr = iota + 1
	tightAnd
	tightNot
	tightEqual
	tightLess
	tightBit
	tightAdd
	tightMul
	tightConcat
	tightCollate
	tightUnary
	tightAtom
)

// PostgreSQL's levels of operators, from its grammar.
const (
	levelOr = iota + 1
	levelAnd
	levelNot
	levelIs
	levelCompare
	levelLike
	levelOther
	levelAdd
	levelMul
	levelPower
	levelZone
	levelCollate
	levelUnary
)

func (p *parser) atom(kind exprKind, start int) *expr {
	return &expr{kind: kind, i: start, j: p.i, tight: tightAtom, mod: -1}
}

func (p *parser) node(kind exprKind, start, tight int, args ...*expr) *expr {
	return &expr{kind: kind, i: start, j: p.i, tight: tight, args: args, mod: -1}
}

// operand parenthesises e where SQLite would otherwise group differently than PostgreSQL.
func (p *parser) operand(e *expr, least int) {
	if e.tight < least {
		p.wrap(e.i, e.j, "(", ")")
		e.tight = tightAtom
	}
}

// expression reads an expression of any level.
func (p *parser) expression() *expr { return p.level(levelOr) }

// level reads an expression whose operators bind at least as tightly as given.
func (p *parser) level(least int) *expr {
	if !p.enter() {
		p.leave()
		return p.atom(exprOther, p.i)
	}
	defer p.leave()
	left := p.prefix(least)
	for !p.dead() {
		level := p.infixLevel()
		if level == 0 || level < least {
			break
		}
		left = p.infix(left, level)
	}
	return left
}

// infixLevel is the level of the operator that comes next, 0 if none does.
func (p *parser) infixLevel() int {
	t := p.tok()
	if t.kind == tokenOp {
		switch t.word {
		case "(", ")", ",", ".", ";", "[", "]", ":", "::", ":=", "{", "}", "=>", "@", "$", "\\":
			return 0
		case "=", "<", ">", "<=", ">=", "<>", "!=", "==":
			return levelCompare
		case "+", "-":
			return levelAdd
		case "*", "/", "%":
			return levelMul
		case "^":
			return levelPower
		}
		return levelOther
	}
	if t.kind != tokenWord {
		return 0
	}
	switch t.word {
	case "or":
		return levelOr
	case "and":
		return levelAnd
	case "is", "isnull", "notnull":
		return levelIs
	case "like", "ilike", "in", "between", "similar", "glob", "regexp", "match":
		return levelLike
	case "not":
		switch p.peek(1).word {
		case "like", "ilike", "in", "between", "similar", "glob", "regexp", "match":
			return levelLike
		case "null":
			return levelIs
		}
	case "operator":
		if p.peek(1).is("(") {
			return levelOther
		}
	case "at":
		if p.is("at", "time", "zone") {
			return levelZone
		}
	case "collate":
		return levelCollate
	case "overlaps":
		p.unsupported(p.i, "OVERLAPS is")
	}
	return 0
}

func (p *parser) infix(left *expr, level int) *expr {
	switch level {
	case levelOr, levelAnd:
		return p.logic(left, level)
	case levelIs:
		return p.isTest(left)
	case levelLike:
		return p.likeTest(left)
	case levelZone:
		return p.atTimeZone(left)
	case levelCollate:
		return p.collate(left)
	}
	return p.operator(left, level)
}

func (p *parser) logic(left *expr, level int) *expr {
	p.next()
	right := p.level(level + 1)
	tight := tightAnd
	if level == levelOr {
		tight = tightOr
	}
	p.operand(left, tight)
	p.operand(right, tight+1)
	return p.node(exprLogic, left.i, tight, left, right)
}

// operatorToken reads an operator, plain or as OPERATOR(schema.op), and gives its place.
func (p *parser) operatorToken() (string, int) {
	at := p.i
	if !p.accept("operator", "(") {
		return p.next().word, at
	}
	for p.tok().name() && p.peek(1).is(".") {
		p.i += 2
	}
	op := p.tok()
	if op.kind != tokenOp || !p.peek(1).is(")") {
		p.syntaxError()
		return "", at
	}
	p.i += 2
	p.collapse(at, p.i, op.word)
	return op.word, at
}

func (p *parser) operator(left *expr, level int) *expr {
	op, at := p.operatorToken()
	if p.isAny("any", "some", "all") && p.peek(1).is("(") {
		return p.quantified(left, op, at)
	}
	if op == "==" {
		level = levelCompare
	}
	right := p.level(level + 1)
	switch op {
	case "=", "<>", "!=", "==":
		return p.marked(p.binary(exprCompare, op, left, right, tightEqual), at)
	case "<", ">", "<=", ">=":
		return p.marked(p.binary(exprCompare, op, left, right, tightLess), at)
	case "+", "-", "*", "/", "%":
		return p.arithmetic(op, at, left, right)
	case "^":
		p.st.Arithmetic = true
		p.replace(at, ",")
		e := p.node(exprOp, left.i, tightAtom, left, right)
		e.name = op
		p.wrap(e.i, e.j, "power(", ")")
		return e
	case "||":
		e := p.binary(exprOp, op, left, right, tightConcat)
		p.markArguments(e)
		return p.marked(e, at)
	case "->":
		return p.binary(exprOp, op, left, right, tightConcat)
	case "&", "|", "<<", ">>":
		return p.binary(exprOp, op, left, right, tightBit)
	case "~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*":
		return p.match(op, at, left, right)
	}
	if fn := operatorFunction[op]; fn != "" {
		return p.operatorCall(op, fn, at, left, right)
	}
	p.refuse(at, sqlstate.FeatureNotSupported, "operator %s is not supported", op)
	return left
}

// operatorFunction computes the operators on arrays and on JSON that SQLite lacks.
var operatorFunction = map[string]string{
	"@>": "contains(", "<@": "contained(", "&&": "array_overlaps(",
	"?": "jsonb_exists(", "?|": "jsonb_exists_any(", "?&": "jsonb_exists_all(",
	"#>": "json_path(", "#>>": "json_path_text(",
	"->>": "json_field_text(", // SQLite's gives a number for a number, which is no text, and 1 for true
}

// operatorCall makes a function call of left op right.
func (p *parser) operatorCall(op, fn string, at int, left, right *expr) *expr {
	kind := exprCompare
	if op[0] == '#' || op[0] == '-' {
		kind = exprOp
	}
	p.replace(at, ",")
	e := p.node(kind, left.i, tightAtom, left, right)
	e.name = op
	p.wrap(e.i, e.j, fn, ")")
	return e
}

// binary keeps the operator as it is and only sees to the grouping.
func (p *parser) binary(kind exprKind, op string, left, right *expr, tight int) *expr {
	p.operand(left, tight)
	p.operand(right, tight+1)
	e := p.node(kind, left.i, tight, left, right)
	e.name = op
	return e
}

// arithmeticFunction computes on decimals, dates, times and intervals, which are text inside SQLite.
var arithmeticFunction = map[string]string{
	"+": "numeric_add(", "-": "numeric_sub(", "*": "numeric_mul(", "/": "numeric_div(", "%": "numeric_mod(",
}

// arithmetic keeps numbers for SQLite. Dates and intervals are text, on which SQLite's operators
// would compute nonsense, so what is known to be one goes to a function.
func (p *parser) arithmetic(op string, at int, left, right *expr) *expr {
	if left.kind != exprNumber || right.kind != exprNumber {
		p.st.Arithmetic = true
	}
	static := temporalResult(op, left.staticType(), right.staticType())
	if isTemporal(left.staticType()) || isTemporal(right.staticType()) {
		name, ok := arithmeticFunction[op]
		if !ok {
			p.refuse(at, sqlstate.UndefinedFunction, "operator does not exist: %s on dates and times", op)
		}
		p.replace(at, ",")
		e := p.node(exprOp, left.i, tightAtom, left, right)
		e.name, e.typ = op, static
		p.wrap(e.i, e.j, name, ")")
		return e
	}
	tight := tightAdd
	if op != "+" && op != "-" {
		tight = tightMul
	}
	return p.marked(p.binary(exprOp, op, left, right, tight), at)
}

// match rewrites the operators of LIKE and of regular expressions.
func (p *parser) match(op string, at int, left, right *expr) *expr {
	word := map[string]string{
		"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "MATCH", "!~~*": "NOT MATCH",
		"~": "REGEXP", "!~": "NOT REGEXP", "~*": "REGEXP '(?i)' ||", "!~*": "NOT REGEXP '(?i)' ||",
	}[op]
	p.replace(at, word)
	p.toks[at].space = true
	least := tightEqual + 1
	if strings.HasPrefix(op, "~~") || strings.HasPrefix(op, "!~~") {
		defer p.defaultEscape(right)
	}
	if strings.HasSuffix(word, "||") {
		least = tightCollate
	}
	p.operand(left, tightEqual)
	p.operand(right, least)
	if t := &p.toks[right.i]; t.pre == "" {
		t.space = true
	}
	e := p.node(exprCompare, left.i, tightEqual, left, right)
	e.name = "like"
	return e
}

// quantified rewrites x op ANY (…) and x op ALL (…). Only the two that are IN and NOT IN have a
// counterpart in SQLite.
func (p *parser) quantified(left *expr, op string, at int) *expr {
	quantifier := p.i
	all := p.next().is("all")
	word := "IN"
	switch {
	case op == "=" && !all:
	case (op == "<>" || op == "!=") && all:
		word = "NOT IN"
	default:
		p.refuse(at, sqlstate.FeatureNotSupported, "operator %s %s is not supported", op, strings.ToUpper(p.toks[quantifier].word))
		return left
	}
	open := p.i
	p.next()
	var right *expr
	if p.startsQuery() {
		right = p.subquery()
		p.want(")")
	} else {
		right = p.expression()
		p.want(")")
		if !p.spreadArray(right) {
			p.replace(open, "(SELECT value FROM unnest(")
			p.replace(p.i-1, "))")
		}
	}
	p.replace(at, word)
	p.toks[at].space = true
	p.remove(quantifier, quantifier+1)
	p.operand(left, tightEqual)
	e := p.node(exprCompare, left.i, tightEqual, left, right)
	e.name, e.any = op, right.kind != exprSubquery
	return e
}

// spreadArray turns ARRAY[a,b] inside ANY into the plain list of IN, for which SQLite has indexes.
func (p *parser) spreadArray(e *expr) bool {
	if e.kind != exprArray || len(e.args) == 0 || !p.toks[e.i].is("array") || !p.toks[e.i+1].is("[") {
		return false
	}
	p.remove(e.i, e.i+2)
	p.remove(e.j-1, e.j)
	return true
}

// isTest reads what follows IS, and the old ISNULL and NOTNULL.
func (p *parser) isTest(left *expr) *expr {
	p.operand(left, tightEqual)
	switch {
	case p.accept("isnull"), p.accept("notnull"), p.accept("not", "null"):
		return p.node(exprLogic, left.i, tightEqual, left)
	}
	p.next()
	p.accept("not")
	at := p.i
	switch {
	case p.accept("unknown"):
		p.replace(at, "NULL")
	case p.accept("null"), p.accept("true"), p.accept("false"):
	case p.is("document"), p.is("normalized"), p.is("json"), p.is("of"):
		p.unsupported(at, "IS "+strings.ToUpper(p.tok().word)+" is")
	default:
		p.accept("distinct", "from")
		right := p.level(levelCompare)
		p.operand(right, tightEqual+1)
		e := p.node(exprCompare, left.i, tightEqual, left, right)
		return e
	}
	return p.node(exprLogic, left.i, tightEqual, left)
}

// likeTest reads the tests that may have NOT before their word.
func (p *parser) likeTest(left *expr) *expr {
	p.operand(left, tightEqual)
	p.accept("not")
	at := p.i
	word := p.next().word
	switch word {
	case "in":
		return p.inTest(left)
	case "between":
		return p.between(left)
	case "similar":
		p.unsupported(at, "SIMILAR TO is")
		return left
	case "ilike":
		p.replace(at, "MATCH")
	}
	if p.isAny("any", "all", "some") && p.peek(1).is("(") {
		p.unsupported(p.i, strings.ToUpper(word)+" "+strings.ToUpper(p.tok().word)+" is")
		return left
	}
	right := p.level(levelOther)
	p.operand(right, tightEqual+1)
	args := []*expr{left, right}
	switch {
	case p.is("escape"):
		at := p.i
		p.next()
		esc := p.level(levelOther)
		p.operand(esc, tightBit)
		args = append(args, esc)
		if esc.kind == exprString && esc.name == "" {
			p.collapse(at, p.i, "") // no escape character at all, which is SQLite's default
		}
	case word == "like" || word == "ilike":
		p.defaultEscape(right)
	}
	e := p.node(exprCompare, left.i, tightEqual, args...)
	e.name = "like"
	return e
}

// defaultEscape makes the backslash the escape character of LIKE, as it is in PostgreSQL.
func (p *parser) defaultEscape(pattern *expr) {
	if pattern.kind != exprString || strings.Contains(pattern.name, `\`) {
		p.after(pattern.j-1, ` ESCAPE '\'`)
	}
}

func (p *parser) between(left *expr) *expr {
	if p.is("symmetric") {
		p.unsupported(p.i, "BETWEEN SYMMETRIC is")
	}
	p.drop("asymmetric")
	low := p.level(levelOther)
	p.want("and")
	high := p.level(levelOther)
	p.operand(low, tightEqual+1)
	p.operand(high, tightEqual+1)
	e := p.node(exprCompare, left.i, tightEqual, left, low, high)
	p.markArguments(e)
	return e
}

func (p *parser) inTest(left *expr) *expr {
	open := p.i
	if !p.accept("(") {
		// SQLite's IN table.
		if p.tok().name() {
			p.dottedName()
		} else {
			p.lose()
		}
		return p.node(exprLogic, left.i, tightEqual, left)
	}
	if p.startsQuery() {
		right := p.subquery()
		p.want(")")
		return p.node(exprCompare, left.i, tightEqual, left, right)
	}
	args := []*expr{left}
	if !p.is(")") {
		args = append(args, p.list()...)
	}
	p.want(")")
	if left.kind == exprRow && len(args) > 1 && args[1].kind == exprRow {
		p.after(open, "VALUES ")
	}
	e := p.node(exprCompare, left.i, tightEqual, args...)
	p.markArguments(e)
	return e
}

// atTimeZone turns x AT TIME ZONE z into timezone(z, x).
func (p *parser) atTimeZone(left *expr) *expr {
	end := p.i
	p.i += 3
	zone := p.level(levelZone + 1)
	if p.dead() {
		return left
	}
	e := p.node(exprCall, left.i, tightAtom, zone, left)
	e.name = "timezone"
	name := e.name
	if e.mark = p.newMark(); e.mark > 0 {
		name = markText(markOperator, e.mark) + name + markText(markOperator, e.mark)
	}
	p.collapse(left.i, p.i, name+"("+p.text(zone.i, zone.j)+", "+p.text(left.i, end)+")")
	return e
}

// collate drops the collations that are Skein's only one and keeps SQLite's own.
func (p *parser) collate(left *expr) *expr {
	start := p.i
	p.next()
	p.collation(start)
	left.j = p.i
	if left.kind == exprCast && p.toks[p.i-1].is("numeric") { // what innerItem has left in the text of a view
		left.typ = oid.Numeric
	}
	if p.toks[start].out != "" {
		left.tight = min(left.tight, tightCollate)
	}
	return left
}

// collation reads a collation's name; start is the place of COLLATE.
func (p *parser) collation(start int) {
	if !p.tok().name() {
		p.lose()
		return
	}
	at := p.i
	for p.peek(1).is(".") && p.peek(2).name() {
		p.i += 2
	}
	t := p.next()
	switch asciiLower(t.word) {
	case "default", "c", "posix", "ucs_basic", "c.utf8", "c.utf-8":
		p.remove(start, p.i)
	case "binary", "nocase", "rtrim", "numeric", "pg_lsn":
	default:
		p.refuse(at, sqlstate.UndefinedObject, "collation \"%s\" for encoding \"UTF8\" does not exist", t.word)
	}
}

// prefix reads an operand with the operators before it.
func (p *parser) prefix(least int) *expr {
	start := p.i
	t := p.tok()
	switch {
	case t.is("not") && least <= levelNot:
		p.next()
		e := p.level(levelNot)
		p.operand(e, tightNot)
		return p.node(exprLogic, start, tightNot, e)
	case t.is("-"), t.is("+"):
		p.next()
		e := p.level(levelUnary)
		p.operand(e, tightUnary)
		return p.signed(start, e)
	case t.is("~"):
		p.next()
		e := p.level(levelOther)
		p.operand(e, tightAtom)
		n := p.node(exprOp, start, tightUnary, e)
		n.name = "~"
		return n
	case t.kind == tokenOp && t.word != "*" && t.word != "?" && isOperator(t.word[0]):
		p.refuse(start, sqlstate.FeatureNotSupported, "operator %s is not supported", t.word)
	}
	return p.postfix(p.primary())
}

func (p *parser) signed(start int, e *expr) *expr {
	if e.kind == exprNumber && e.i == start+1 {
		p.signLiteral(start, e)
		return e
	}
	if isTemporal(e.staticType()) && p.toks[start].is("-") {
		p.replace(start, "numeric_mul(-1, ")
		p.after(e.j-1, ")")
		n := p.node(exprOp, start, tightAtom, e)
		n.name = "-"
		return n
	}
	p.st.Arithmetic = p.st.Arithmetic || e.kind != exprParam
	n := p.node(exprOp, start, tightUnary, e)
	n.name = p.toks[start].word
	return p.marked(n, start)
}

// signLiteral takes the sign into the literal and its marks.
func (p *parser) signLiteral(start int, e *expr) {
	e.i, e.tight = start, tightUnary
	if e.mark == 0 || p.dead() {
		return
	}
	number := &p.toks[start+1]
	number.space = false
	number.out = number.word + markText(markAfter, e.mark)
	p.toks[start].out = markText(markBefore, e.mark) + p.toks[start].out
}

// postfix reads casts and subscripts.
func (p *parser) postfix(e *expr) *expr {
	for !p.dead() {
		switch {
		case p.is("::"):
			e = p.colonCast(e)
		case p.is("[") && e.kind != exprNumber && e.kind != exprString:
			e = p.subscript(e)
		case p.is(".") && e.kind == exprParen:
			p.unsupported(p.i, "selecting a field of a composite value is")
		default:
			return e
		}
	}
	return e
}

func (p *parser) subscript(e *expr) *expr {
	open := p.i
	p.next()
	if p.is(":") {
		p.unsupported(open, "array slices are")
	}
	index := p.expression()
	if p.is(":") {
		p.unsupported(open, "array slices are")
	}
	if !p.want("]") {
		return e
	}
	p.replace(open, ", ")
	p.replace(p.i-1, ")")
	p.before(e.i, "array_get(")
	n := p.node(exprElement, e.i, tightAtom, e, index)
	return n
}

// list reads expressions with commas between.
func (p *parser) list() []*expr {
	args := []*expr{p.expression()}
	for p.accept(",") {
		args = append(args, p.expression())
	}
	return args
}

// startsQuery says whether a parenthesis has just been opened around a query; there may be more
// parentheses around it, as long as no expression follows them.
func (p *parser) startsQuery() bool {
	n := 0
	for p.peek(n).is("(") {
		n++
	}
	t := p.peek(n)
	if t.kind != tokenWord {
		return false
	}
	switch t.word {
	case "select", "with":
	case "values":
		return p.peek(n + 1).is("(")
	default:
		return false
	}
	return n == 0 || p.closesAsQuery(n)
}

// closesAsQuery says whether ((SELECT …) …) is a query: after the inner one only the words that
// continue a query may stand.
func (p *parser) closesAsQuery(n int) bool {
	depth := 0
	for k := p.i + n; k < len(p.toks); k++ {
		switch t := &p.toks[k]; {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
			if depth >= 0 {
				continue
			}
			n--
			depth = 0
			next := &p.toks[min(k+1, len(p.toks)-1)]
			if next.kind == tokenWord {
				switch next.word {
				case "union", "intersect", "except", "order", "limit", "offset", "fetch", "for":
					return true
				}
			}
			if n == 0 || !next.is(")") {
				return next.is(")")
			}
		}
	}
	return false
}

// subquery reads a query that stands in parentheses of which the first is already read.
func (p *parser) subquery() *expr {
	start := p.i
	q := p.query()
	e := p.atom(exprSubquery, start)
	e.sub = q
	return e
}

// staticType is the type that the expression has by its own text, 0 if that depends on columns.
func (e *expr) staticType() oid.OID {
	switch e.kind {
	case exprCast:
		return e.typ
	case exprCall:
		return functionType(e.name)
	case exprParen:
		return e.args[0].staticType()
	case exprOp:
		return e.typ
	}
	return 0
}

func isTemporal(t oid.OID) bool {
	switch t {
	case oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz, oid.Interval:
		return true
	}
	return false
}

// temporalResult types + - * / on dates, times and intervals; 0 when neither side is one.
func temporalResult(op string, a, b oid.OID) oid.OID {
	switch {
	case !isTemporal(a) && !isTemporal(b):
		return 0
	case op == "*" || op == "/":
		return oid.Interval
	case a == oid.Interval && (b == oid.Interval || known(b) == 0): // '1 hour' beside an interval is one
		return oid.Interval
	case a == oid.Interval:
		a, b = b, a
	}
	switch {
	case b == oid.Interval && a == oid.Date:
		return oid.Timestamp
	case b == oid.Interval:
		return a
	case op == "-" && a == oid.Date && b == oid.Date:
		return oid.Int4
	case op == "+" && (a == oid.Date && b == oid.Time || a == oid.Time && b == oid.Date):
		return oid.Timestamp
	case op == "-" && isTemporal(a) && isTemporal(b):
		return oid.Interval
	case a == oid.Date || b == oid.Date:
		return oid.Date
	}
	return a
}
