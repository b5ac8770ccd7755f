package dialect

import (
	"strconv"
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// query is a SELECT, VALUES or TABLE with what stands around it.
type query struct {
	i, j   int
	withJ  int // the tokens i to withJ are the WITH clause
	with   []*relation
	cores  []*core
	exprs  []*expr // ORDER BY
	counts []*expr // LIMIT and OFFSET
}

// core is one SELECT or VALUES between set operators.
type core struct {
	items        []*item
	rows         [][]*expr // of VALUES
	from         []*relation
	fromI, fromJ int // the tokens after FROM; equal when there is none
	exprs        []*expr
}

// rowCalls are the functions of a select list that give rows.
type rowCalls struct{ from []string }

// item is one entry of a select list or RETURNING.
type item struct {
	e     *expr
	alias string
	mark  int // around the value, in INSERT … SELECT
	inner int // around what a nested query computes
}

// relation is something in FROM, or a common table expression.
type relation struct {
	name    string // of a table, lower case as SQLite finds it
	alias   string
	columns []string // names given to its columns
	sub     *query   // of a subquery
	fn      *expr    // of a function, or a join's condition
	direct  bool     // a function whose columns keep SQLite's names, see correlatedFunction
}

// opensQuery says whether the tokens here open a parenthesised query.
func (p *parser) opensQuery() bool {
	if !p.is("(") {
		return false
	}
	p.i++
	ok := p.startsQuery()
	p.i--
	return ok
}

// query reads a whole query, from WITH to FOR UPDATE.
func (p *parser) query() *query {
	q := &query{i: p.i, withJ: p.i}
	if !p.enter() {
		p.leave()
		return q
	}
	defer p.leave()
	p.nest++
	defer func() { p.nest-- }()
	if p.is("with") {
		q.with = p.withClause()
		q.withJ = p.i
	}
	p.compound(q)
	p.tail(q)
	q.j = p.i
	return q
}

func (p *parser) withClause() []*relation {
	p.next()
	p.accept("recursive")
	var with []*relation
	for !p.dead() {
		if !p.tok().name() {
			p.lose()
			break
		}
		r := &relation{alias: p.name()}
		if p.is("(") {
			r.columns = p.nameList()
		}
		if !p.want("as") {
			break
		}
		p.accept("not")
		p.accept("materialized")
		if !p.is("(") {
			p.lose()
			break
		}
		p.next()
		if p.isAny("insert", "update", "delete") {
			p.unsupported(p.i, "data-modifying statements in WITH are")
		}
		r.sub = p.query()
		p.want(")")
		with = append(with, r)
		if p.isAny("search", "cycle") {
			p.unsupported(p.i, strings.ToUpper(p.tok().word)+" is")
		}
		if !p.accept(",") {
			break
		}
	}
	return with
}

// nameList reads (a, b, c).
func (p *parser) nameList() []string {
	var names []string
	p.next()
	for !p.dead() {
		if !p.tok().name() {
			p.lose()
			break
		}
		names = append(names, p.name())
		if !p.accept(",") {
			break
		}
	}
	p.want(")")
	return names
}

// compound reads the SELECTs between UNION, INTERSECT and EXCEPT.
func (p *parser) compound(q *query) {
	p.core(q, p.i)
	last := ""
	for !p.dead() && p.isAny("union", "intersect", "except") {
		op := p.next()
		if op.word == "intersect" && last != "" && last != "intersect" {
			p.unsupported(p.i-1, "INTERSECT after UNION or EXCEPT without parentheses is")
		}
		last = op.word
		if p.is("all") {
			if op.word != "union" {
				p.unsupported(p.i, strings.ToUpper(op.word)+" ALL is")
			}
			p.next()
		} else {
			p.drop("distinct")
		}
		p.core(q, p.i)
	}
}

func (p *parser) core(q *query, start int) {
	switch {
	case p.accept("select"):
		p.selectCore(q)
	case p.is("values"):
		p.valuesCore(q)
	case p.is("table"):
		p.tableCore(q)
	case p.is("("):
		// SQLite has no parentheses around the members of a compound.
		p.next()
		sub := p.query()
		p.want(")")
		p.before(start, "SELECT * FROM ")
		star := &item{e: &expr{kind: exprStar, i: start, j: start, tight: tightAtom}}
		q.cores = append(q.cores, &core{items: []*item{star}, from: []*relation{{sub: sub}}, fromI: start, fromJ: p.i})
	default:
		p.lose()
	}
}

func (p *parser) valuesCore(q *query) {
	p.next()
	c := &core{}
	for !p.dead() {
		if !p.want("(") {
			break
		}
		c.rows = append(c.rows, p.list())
		p.want(")")
		if !p.accept(",") {
			break
		}
	}
	if len(c.rows) > 0 {
		for n, e := range c.rows[0] {
			c.items = append(c.items, &item{e: e, alias: "column" + strconv.Itoa(n+1)})
		}
	}
	q.cores = append(q.cores, c)
}

func (p *parser) tableCore(q *query) {
	p.replace(p.i, "SELECT * FROM")
	p.next()
	c := &core{fromI: p.i}
	if !p.tok().name() {
		p.lose()
		return
	}
	c.from = []*relation{{name: p.dottedName()}}
	c.items = []*item{{e: &expr{kind: exprStar}}}
	c.fromJ = p.i
	q.cores = append(q.cores, c)
}

func (p *parser) selectCore(q *query) {
	c := &core{}
	q.cores = append(q.cores, c)
	outer, calls := p.rowCalls, &rowCalls{}
	defer func() { p.rowCalls = outer }()
	if p.accept("distinct") {
		if p.is("on") {
			p.unsupported(p.i, "DISTINCT ON is")
		}
	} else {
		p.drop("all")
	}
	if p.isAny("from", "where") || p.end() || p.is(")") {
		p.before(p.i, "1 ")
	} else {
		p.rowCalls = calls
		c.items = p.items()
	}
	p.rowCalls = nil
	if p.is("into") {
		p.selectInto()
	}
	if p.accept("from") {
		c.fromI = p.i
		c.from = p.fromList()
		c.fromJ = p.i
	}
	p.addRowCalls(c, calls)
	p.clauses(c)
	p.setReturning(c)
}

// rowCall moves a function that gives rows from the select list to FROM. Several of them advance
// together, as in PostgreSQL.
func (p *parser) rowCall(e *expr) {
	n := len(p.rowCalls.from) + 1
	alias := "_s" + strconv.Itoa(n)
	from := p.text(e.i, e.j) + " AS " + alias
	if n > 1 {
		from = " LEFT JOIN " + from + " ON " + alias + ".ordinality = _s1.ordinality"
	}
	p.rowCalls.from = append(p.rowCalls.from, from)
	p.collapse(e.i, e.j, alias+".value")
}

// addRowCalls puts the functions that rowCall took out into FROM.
func (p *parser) addRowCalls(c *core, calls *rowCalls) {
	if len(calls.from) == 0 || p.dead() {
		return
	}
	if p.is("group") || p.is("having") {
		p.unsupported(p.i, "a function that gives rows in the select list, with GROUP BY,")
	}
	from := strings.Join(calls.from, "")
	if c.fromJ == c.fromI {
		p.after(p.i-1, " FROM "+from)
		return
	}
	p.after(c.fromJ-1, ", "+from)
}

// clauses reads WHERE, GROUP BY, HAVING and WINDOW.
func (p *parser) clauses(c *core) {
	if p.accept("where") {
		if p.is("current", "of") {
			p.unsupported(p.i, "WHERE CURRENT OF is")
		}
		c.exprs = append(c.exprs, p.expression())
	}
	if p.accept("group", "by") {
		p.drop("all")
		p.drop("distinct")
		if p.isAny("rollup", "cube") && p.peek(1).is("(") || p.is("grouping", "sets") {
			p.unsupported(p.i, strings.ToUpper(p.tok().word)+" is")
		}
		c.exprs = append(c.exprs, p.list()...)
	}
	if p.accept("having") {
		c.exprs = append(c.exprs, p.expression())
	}
	if p.accept("window") {
		for !p.dead() {
			p.name()
			p.want("as")
			if !p.is("(") {
				p.lose()
				break
			}
			c.exprs = append(c.exprs, p.window()...)
			if !p.accept(",") {
				break
			}
		}
	}
}

// items reads a select list and gives each entry the name that PostgreSQL would give it.
func (p *parser) items() []*item {
	var items []*item
	for !p.dead() {
		it := &item{e: p.expression()}
		p.regName(it.e)
		switch {
		case p.storing > 0 && p.nest == p.storing:
			it.mark = p.markStored(it.e)
		case (p.nest > 1 || p.view || p.st.Kind != Select) && it.e.bare().kind != exprColumn && it.e.kind != exprStar:
			it.inner = p.markAround(it.e)
		}
		switch {
		case p.accept("as"):
			if !p.tok().name() && p.tok().kind != tokenString {
				p.lose()
				return items
			}
			it.alias = p.tok().word
			p.quote(p.i)
			p.next()
		case p.tok().kind == tokenQuoted, p.tok().kind == tokenWord && !reserved[p.tok().word] && !needsAS[p.tok().word]:
			it.alias = p.tok().word
			p.quote(p.i)
			p.next()
		case it.e.kind != exprStar && it.e.kind != exprColumn && it.e.j > it.e.i:
			name, _ := columnName(it.e)
			p.after(p.i-1, " AS "+quoteIdent(name))
		}
		items = append(items, it)
		if !p.accept(",") {
			break
		}
	}
	return items
}

// regName turns a reg… value, a number inside SQLite, into a name where it leaves the statement.
func (p *parser) regName(e *expr) {
	if x := e.bare(); p.nest <= 1 && x.kind == exprCast && isRegType(x.typ) {
		p.wrap(e.i, e.j, oid.ByOID(x.typ).Name+"_out(", ")")
	}
}

// columnName is the name that PostgreSQL gives to a result column, and whether it is a strong one,
// which casts and CASE take over (FigureColname in PostgreSQL's parser).
func columnName(e *expr) (string, bool) {
	switch e.kind {
	case exprColumn:
		return e.name, true
	case exprCall:
		if e.typ0 != "" {
			return e.typ0, true
		}
		return e.name, true
	case exprParen:
		return columnName(e.args[0])
	case exprElement:
		return columnName(e.args[0])
	case exprCast:
		if name, strong := columnName(e.args[0]); strong {
			return name, true
		}
		return e.typ0, false
	case exprBool:
		return "bool", false
	case exprCase:
		return e.name, e.name != "case"
	case exprArray:
		return "array", true
	case exprRow:
		return "row", true
	case exprLogic:
		if e.name == "exists" {
			return "exists", true
		}
	case exprSubquery:
		if name := e.sub.firstName(); name != "" {
			return name, true
		}
	}
	return "?column?", false
}

// firstName is the name of the query's first column, "" when it is not known.
func (q *query) firstName() string {
	if len(q.cores) == 0 || len(q.cores[0].items) == 0 {
		return ""
	}
	it := q.cores[0].items[0]
	if it.alias != "" {
		return it.alias
	}
	if it.e.kind == exprStar {
		return ""
	}
	name, _ := columnName(it.e)
	return name
}

// selectInto refuses SELECT … INTO.
func (p *parser) selectInto() {
	p.fail(sqlstate.New(sqlstate.FeatureNotSupported, "SELECT INTO is not supported").
		WithHint("Use CREATE TABLE AS.").At(p.position(p.i)))
}

// tail reads ORDER BY, LIMIT, OFFSET, FETCH and FOR UPDATE, in the orders that PostgreSQL allows.
func (p *parser) tail(q *query) {
	if p.is("order") {
		q.exprs = append(q.exprs, p.orderBy()...)
	}
	p.limits(q)
	for !p.dead() && p.is("for") {
		p.locking()
		p.limits(q)
	}
}

// orderBy reads ORDER BY and its terms. PostgreSQL sorts NULL as the greatest value, SQLite as the
// smallest, so the place is written out.
func (p *parser) orderBy() []*expr {
	p.next()
	if !p.want("by") {
		return nil
	}
	var terms []*expr
	for !p.dead() {
		e := p.expression()
		terms = append(terms, e)
		p.markTerm(e)
		nulls := " NULLS LAST"
		switch {
		case p.accept("asc"):
		case p.accept("desc"):
			nulls = " NULLS FIRST"
		case p.is("using"):
			p.unsupported(p.i, "ORDER BY USING is")
		}
		if p.accept("nulls") {
			if !p.accept("first") && !p.accept("last") {
				p.lose()
			}
		} else {
			p.after(p.i-1, nulls)
		}
		if !p.accept(",") {
			break
		}
	}
	return terms
}

// limits reads LIMIT, OFFSET and FETCH FIRST and writes them as SQLite's LIMIT … OFFSET.
func (p *parser) limits(q *query) {
	start := p.i
	var limit, offset *expr
	unlimited := false
	for !p.dead() {
		switch {
		case p.accept("limit"):
			if p.accept("all") || p.accept("null") {
				unlimited = true
				continue
			}
			limit = p.expression()
			if p.is(",") {
				// SQLite's LIMIT offset, count.
				p.next()
				offset, limit = limit, p.expression()
			}
		case p.accept("offset"):
			offset = p.level(levelIs)
			if !p.accept("rows") {
				p.accept("row")
			}
		case p.is("fetch", "first"), p.is("fetch", "next"):
			p.i += 2
			limit = p.fetchCount()
		default:
			p.writeLimits(q, start, limit, offset, unlimited)
			return
		}
	}
}

// fetchCount reads [n] ROWS ONLY; nil stands for one row.
func (p *parser) fetchCount() *expr {
	at := p.i
	e := &expr{kind: exprNumber, i: at, j: at, name: "1", mod: -1}
	if !p.isAny("row", "rows") {
		e = p.level(levelUnary)
	}
	if !p.accept("rows") {
		p.want("row")
	}
	if p.is("with", "ties") {
		p.unsupported(p.i, "FETCH FIRST WITH TIES is")
	}
	p.want("only")
	return e
}

func (p *parser) writeLimits(q *query, start int, limit, offset *expr, unlimited bool) {
	if p.i == start || p.dead() {
		return
	}
	var b strings.Builder
	if limit != nil || offset != nil {
		b.WriteString("LIMIT ")
		switch {
		case limit == nil:
			b.WriteString("-1")
		case limit.i == limit.j:
			b.WriteString(limit.name)
		default:
			b.WriteString(p.text(limit.i, limit.j))
		}
	}
	if offset != nil {
		b.WriteString(" OFFSET " + p.text(offset.i, offset.j))
	}
	for _, e := range []*expr{limit, offset} {
		if e == nil || e.i == e.j {
			continue
		}
		q.counts = append(q.counts, e)
		if x := e.bare(); x.kind == exprParam && p.st.ParamTypes[x.param-1] == 0 {
			p.st.ParamTypes[x.param-1] = oid.Int8
		}
	}
	p.collapse(start, p.i, b.String())
	p.toks[start].space = true
}

// locking reads FOR UPDATE and its kin: one writer at a time has no rows to lock, but the statement
// must run as a write.
func (p *parser) locking() {
	start := p.i
	p.next()
	switch {
	case p.accept("update"), p.accept("share"), p.accept("key", "share"), p.accept("no", "key", "update"):
	default:
		p.lose()
		return
	}
	strength := make([]string, 0, 4)
	for _, t := range p.toks[start:p.i] {
		strength = append(strength, strings.ToUpper(t.word))
	}
	p.st.ForUpdate, p.st.Writing = true, "SELECT "+strings.Join(strength, " ")
	if p.accept("of") {
		for !p.dead() && p.tok().name() {
			p.i++
			if !p.accept(",") {
				break
			}
		}
	}
	if !p.accept("nowait") {
		p.accept("skip", "locked")
	}
	p.collapse(start, p.i, "")
}
