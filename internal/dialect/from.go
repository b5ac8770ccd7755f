package dialect

import (
	"strconv"
	"strings"
)

// fromList reads the relations of FROM with their joins.
func (p *parser) fromList() []*relation {
	list := p.fromItem(false)
	for !p.dead() {
		switch {
		case p.accept(","):
			list = append(list, p.fromItem(true)...)
		case p.joinWords():
			list = append(list, p.fromItem(true)...)
			if p.accept("on") {
				list = append(list, &relation{fn: p.condition()})
			} else if p.accept("using") {
				if !p.is("(") {
					p.lose()
					return list
				}
				p.nameList()
				if p.is("as") {
					p.unsupported(p.i, "an alias of JOIN USING is")
				}
			}
		default:
			return list
		}
	}
	return list
}

// condition reads a join's ON, kept in the list of relations so that its parameters are typed.
func (p *parser) condition() *expr {
	e := p.expression()
	return &expr{kind: exprOther, i: e.i, j: e.j, args: []*expr{e}}
}

func (p *parser) joinWords() bool {
	start := p.i
	p.accept("natural")
	switch {
	case p.accept("left"), p.accept("right"), p.accept("full"):
		p.accept("outer")
	case p.accept("inner"), p.accept("cross"):
	}
	if p.accept("join") {
		return true
	}
	p.i = start
	return false
}

// fromItem reads one relation. later says that others stand before it, which functions may use.
func (p *parser) fromItem(later bool) []*relation {
	start := p.i
	if p.drop("lateral") {
		if p.is("(") {
			p.unsupported(start, "LATERAL subqueries are")
		}
	}
	p.drop("only")
	at := p.i
	switch {
	case p.opensQuery():
		p.next()
		r := &relation{sub: p.query()}
		p.want(")")
		p.alias(r, at)
		return []*relation{r}
	case p.accept("("):
		if !p.enter() {
			p.leave()
			return nil
		}
		list := p.fromList()
		p.leave()
		p.want(")")
		if p.is("as") || p.tok().kind == tokenQuoted {
			p.lose()
		}
		return list
	case !p.tok().name() || p.tok().kind == tokenWord && reserved[p.tok().word]:
		if fn, ok := sessionWords[p.tok().word]; ok && p.tok().kind == tokenWord {
			return p.scalarRelation(fn)
		}
		p.lose()
		return nil
	}
	if end := p.nameEnd(); p.toks[min(end, len(p.toks)-1)].is("(") {
		return p.functionRelation(later)
	}
	if fn, ok := sessionWords[p.tok().word]; ok && p.tok().kind == tokenWord {
		return p.scalarRelation(fn)
	}
	schema, last := p.tok().word, p.peek(2).word
	r := &relation{name: p.dottedName()}
	p.st.From = append(p.st.From, r.name)
	p.drop("*")
	p.alias(r, at)
	if r.alias == "" && schema == "information_schema" && r.name != schema {
		// Its columns are qualified with the table's own name.
		p.after(p.i-1, " AS "+quoteIdent(last))
	}
	if p.is("tablesample") {
		p.unsupported(p.i, "TABLESAMPLE is")
	}
	if !p.accept("not", "indexed") && p.accept("indexed", "by") {
		p.name()
	}
	return []*relation{r}
}

// nameEnd is the place after the dotted name that starts here.
func (p *parser) nameEnd() int {
	i := p.i + 1
	for i+1 < len(p.toks) && p.toks[i].is(".") && p.toks[i+1].name() {
		i += 2
	}
	return i
}

// alias reads [AS] name [(columns)]. SQLite cannot name the columns of a relation, except those of a
// common table expression, so one is put around it.
func (p *parser) alias(r *relation, start int) {
	end := p.i
	if p.accept("as") {
		if !p.tok().name() {
			p.lose()
			return
		}
	} else if t := p.tok(); t.kind != tokenQuoted && (t.kind != tokenWord || reserved[t.word] || joinWords[t.word]) {
		return
	}
	r.alias = p.name()
	if !p.is("(") {
		return
	}
	list := p.i
	r.columns = p.columnNames()
	names := quoteList(r.columns)
	p.remove(list, p.i)
	if r.sub != nil {
		p.wrap(start, end, "(WITH _q("+names+") AS ", " SELECT * FROM _q)")
		return
	}
	p.wrap(start, end, "(WITH _q("+names+") AS (SELECT * FROM ", ") SELECT * FROM _q)")
}

// columnNames reads the names of an alias; those of a column definition list have types.
func (p *parser) columnNames() []string {
	var names []string
	p.next()
	for !p.dead() {
		names = append(names, p.name())
		if !p.is(",") && !p.is(")") {
			p.typeNameAt()
		}
		if !p.accept(",") {
			break
		}
	}
	p.want(")")
	return names
}

func quoteList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quoteIdent(n)
	}
	return strings.Join(quoted, ", ")
}

// scalarRelation reads CURRENT_DATE and the like in FROM.
func (p *parser) scalarRelation(fn string) []*relation {
	at := p.i
	word := p.next().word
	e := &expr{kind: exprCall, i: at, j: p.i, tight: tightAtom, name: strings.TrimSuffix(fn, "()"), mod: -1}
	r := &relation{fn: e, alias: word}
	p.replace(at, fn)
	p.asSubquery(r, at, p.i)
	return []*relation{r}
}

// functionRelation reads a function in FROM: one that gives rows, or a scalar one as a row.
func (p *parser) functionRelation(later bool) []*relation {
	at := p.i
	e := p.reference()
	if p.dead() {
		return nil
	}
	r := &relation{fn: e, alias: e.name}
	end := p.i
	ordinality := p.drop("with", "ordinality")
	if functionType(e.name) != 0 && !rowFunctions[e.name] {
		p.asSubquery(r, at, end)
		return []*relation{r}
	}
	if !listFunctions[e.name] {
		if ordinality {
			p.wrap(at, end, "(SELECT *, ordinality FROM ", ")")
		}
		p.alias(r, at)
		return []*relation{r}
	}
	if later && e.refersToColumns() {
		if e.name == "unnest" && len(e.args) > 1 {
			p.unsupported(at, "unnest() of several arrays of other relations is")
		}
		p.correlatedFunction(r)
		return []*relation{r}
	}
	p.listRelation(r, at, end, ordinality)
	return []*relation{r}
}

// asSubquery turns f(x) AS a(c) into (SELECT f(x) AS c) AS a.
func (p *parser) asSubquery(r *relation, at, end int) {
	column := r.alias
	if p.relationAlias(r) {
		column = r.alias
	}
	if len(r.columns) > 0 {
		column = r.columns[0]
	}
	p.wrap(at, end, "(SELECT ", " AS "+quoteIdent(column)+") AS "+quoteIdent(r.alias))
	r.columns = []string{column}
}

// relationAlias reads an alias and leaves it out, for a relation that is written anew.
func (p *parser) relationAlias(r *relation) bool {
	start := p.i
	if !p.accept("as") {
		if t := p.tok(); t.kind != tokenQuoted && (t.kind != tokenWord || reserved[t.word] || joinWords[t.word]) {
			return false
		}
	}
	if !p.tok().name() {
		p.lose()
		return false
	}
	r.alias = p.name()
	if p.is("(") {
		r.columns = p.columnNames()
	}
	p.remove(start, p.i)
	return true
}

// listRelation turns unnest(x) AS a(c) into (SELECT value AS c FROM unnest(x)) AS a. Of unnest(x, y) each list is a column.
func (p *parser) listRelation(r *relation, at, end int, ordinality bool) {
	p.relationAlias(r)
	values := []string{"value"}
	if r.fn.name == "unnest" {
		for n := 2; n <= len(r.fn.args); n++ {
			values = append(values, "value"+strconv.Itoa(n))
		}
	}
	if ordinality {
		values = append(values, "ordinality")
	}
	names, list := make([]string, len(values)), make([]string, len(values))
	for n, value := range values {
		switch {
		case n < len(r.columns):
			names[n] = r.columns[n]
		case value == "ordinality":
			names[n] = value
		default:
			names[n] = r.alias
		}
		list[n] = value + " AS " + quoteIdent(names[n])
	}
	r.columns = names
	p.wrap(at, end, "(SELECT "+strings.Join(list, ", ")+" FROM ", ") AS "+quoteIdent(r.alias))
}

// correlatedFunction keeps a function that uses columns of the relations before it as it is, because
// SQLite's subqueries in FROM cannot; its column is then called value, so references are renamed
// when the query is complete.
func (p *parser) correlatedFunction(r *relation) {
	at := p.i
	had := p.relationAlias(r)
	if !had {
		p.after(at-1, " AS "+quoteIdent(r.alias))
	} else {
		p.after(p.i-1, " AS "+quoteIdent(r.alias))
	}
	if len(r.columns) == 0 {
		r.columns = []string{r.alias}
	}
	r.direct = true
}

// setReturning renames the columns of functions that correlatedFunction kept.
func (p *parser) setReturning(c *core) {
	for _, r := range c.from {
		if !r.direct || p.dead() {
			continue
		}
		rename := func(e *expr) {
			if e.kind != exprColumn || e.qual != "" && e.qual != r.alias {
				return
			}
			for n, column := range r.columns {
				if e.name == column {
					p.collapse(e.i, e.j, quoteIdent(r.alias)+"."+[]string{"value", "ordinality"}[min(n, 1)])
					return
				}
			}
		}
		for _, it := range c.items {
			if it.e.kind == exprColumn && it.alias == "" {
				name, end := it.e.name, it.e.j
				rename(it.e)
				p.after(end-1, " AS "+quoteIdent(name))
				continue
			}
			it.e.walk(rename)
		}
		for _, e := range c.exprs {
			e.walk(rename)
		}
		for _, other := range c.from {
			if other.fn != nil {
				other.fn.walk(rename)
			}
		}
	}
}

// walk visits the expression and its operands, not the queries inside.
func (e *expr) walk(visit func(*expr)) {
	visit(e)
	for _, a := range e.args {
		a.walk(visit)
	}
	for _, a := range e.when {
		a.walk(visit)
	}
}

func (e *expr) refersToColumns() bool {
	found := false
	e.walk(func(x *expr) { found = found || x.kind == exprColumn })
	return found
}
