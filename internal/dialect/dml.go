package dialect

// change is an INSERT, UPDATE or DELETE.
type change struct {
	with         []*relation
	i, withJ     int
	table        *relation
	tableI       int // the target's tokens, for the probe
	tableJ       int
	columns      []string     // of INSERT
	source       *query       // of INSERT
	sets         []assignment // of UPDATE and ON CONFLICT DO UPDATE
	from         []*relation
	fromI, fromJ int
	exprs        []*expr
	returning    []*item
	rowMarks     [][]int // around the values of INSERT … VALUES
	listMark     int     // the place of INSERT's column list
	sourceMark   int     // around INSERT's source
	filtered     bool    // disambiguate has put a WHERE after the source
	conflicts    []*namedConflict
	using        string // of DELETE: the tables beside the target, for the probe
}

// namedConflict is ON CONFLICT ON CONSTRAINT name; SQLite wants the constraint's columns there.
type namedConflict struct {
	name string
	mark int
}

// assignment is one column = value of SET.
type assignment struct {
	column string
	value  *expr
	mark   int // around the value
}

// insert reads INSERT INTO; p stands after a WITH clause, if there is one.
func (p *parser) insert(c *change) {
	p.st.Kind, p.st.Tag = Insert, "INSERT"
	if !p.accept("replace") {
		p.expect("insert")
		if p.accept("or") {
			p.name()
		}
	}
	p.expect("into")
	p.target(c)
	list := p.i
	if p.is("(") && !p.opensQuery() {
		c.columns = p.nameList()
	}
	listEnd := p.i
	if p.is("overriding") {
		start := p.i
		p.i += 2
		p.expect("value")
		p.remove(start, p.i)
	}
	source := p.i
	p.nest++
	p.storing = p.nest + 1
	switch {
	case p.accept("default", "values"):
	case p.is("values"):
		c.source = p.query()
		p.defaults(c, list, listEnd, source)
		p.markRows(c)
	default:
		c.source = p.query()
	}
	p.nest--
	p.storing = 0
	p.markInsert(c, list, listEnd, source)
	if p.accept("on") {
		p.onConflict(c)
	}
	p.returning(c)
}

// target reads the table of a change with its alias.
func (p *parser) target(c *change) {
	p.drop("only")
	c.tableI = p.i
	if !p.tok().name() {
		p.syntaxError()
		return
	}
	c.table = &relation{name: p.dottedName()}
	p.drop("*")
	p.st.Table = c.table.name
	if p.accept("as") || p.tok().name() && !p.isAny("set", "values", "default", "select", "with", "overriding", "table",
		"where", "using", "returning", "on", "from", "not", "indexed") {
		c.table.alias = p.name()
	}
	c.tableJ = p.i
	if p.accept("indexed", "by") {
		p.name()
	} else {
		p.accept("not", "indexed")
	}
}

// defaults handles DEFAULT among VALUES, which SQLite lacks: a column that is DEFAULT in every row is
// left out of the column list; elsewhere Typed puts the default in.
func (p *parser) defaults(c *change, list, listEnd, source int) {
	if p.dead() || len(c.source.cores) != 1 {
		return
	}
	rows := c.source.cores[0].rows
	width := len(c.columns)
	omit := map[int]bool{}
	for _, row := range rows {
		for n, e := range row {
			if e.kind == exprDefault {
				omit[n] = true
			}
		}
	}
	if len(omit) == 0 {
		return
	}
	for n := range omit {
		for _, row := range rows {
			if n >= width || len(row) != width || row[n].kind != exprDefault {
				p.markDefaults(rows)
				return
			}
		}
	}
	if len(omit) == width {
		if len(rows) > 1 {
			p.unsupported(source, "VALUES of nothing but DEFAULT in several rows is")
			return
		}
		p.remove(list, listEnd)
		p.collapse(source, p.i, "DEFAULT VALUES")
		c.columns, c.source = nil, nil
		return
	}
	p.omitColumns(c, omit, list, listEnd)
}

// omitColumns takes the columns out of the column list and of each row.
func (p *parser) omitColumns(c *change, omit map[int]bool, list, listEnd int) {
	var kept []string
	for n, name := range c.columns {
		if !omit[n] {
			kept = append(kept, name)
		}
	}
	c.columns = kept
	p.collapse(list, listEnd, "("+quoteList(kept)+")")
	core := c.source.cores[0]
	for r, row := range core.rows {
		var left []*expr
		first := true
		for n, e := range row {
			if omit[n] {
				p.remove(e.i, e.j)
				if n > 0 {
					p.remove(e.i-1, e.i)
				}
				continue
			}
			if first && n > 0 {
				// The comma before the first that stays.
				p.remove(e.i-1, e.i)
			}
			first = false
			left = append(left, e)
		}
		core.rows[r] = left
	}
}

// onConflict reads what follows ON in INSERT.
func (p *parser) onConflict(c *change) {
	on := p.i - 1
	if !p.want("conflict") {
		return
	}
	p.disambiguate(c, on)
	if p.is("on", "constraint") {
		start := p.i
		p.i += 2
		k := &namedConflict{name: p.name()}
		if k.mark = p.newMark(); k.mark > 0 {
			p.wrap(start, p.i, markText(markOperator, k.mark), markText(markOperator, k.mark))
			c.conflicts = append(c.conflicts, k)
		}
	}
	if p.accept("(") {
		for !p.dead() {
			p.expression()
			if p.tok().name() && !p.is("where") {
				p.operatorClass()
			}
			if !p.accept(",") {
				break
			}
		}
		p.want(")")
		if p.accept("where") {
			p.expression()
		}
	}
	p.want("do")
	if p.accept("nothing") {
		if p.accept("on") {
			p.onConflict(c)
		}
		return
	}
	p.want("update")
	p.want("set")
	p.setList(c)
	if p.accept("where") {
		c.exprs = append(c.exprs, p.expression())
	}
	if p.accept("on") {
		p.onConflict(c)
	}
}

// operatorClass leaves out an operator class of an index column.
func (p *parser) operatorClass() {
	start := p.i
	for p.tok().name() && p.peek(1).is(".") {
		p.i += 2
	}
	p.next()
	p.remove(start, p.i)
}

// disambiguate adds WHERE true before ON CONFLICT after a SELECT, which SQLite would read as a join's
// ON.
func (p *parser) disambiguate(c *change, on int) {
	if c.source == nil || len(c.source.cores) == 0 || p.dead() {
		return
	}
	last := c.source.cores[len(c.source.cores)-1]
	if last.fromJ == on {
		p.before(on, "WHERE true ")
		c.filtered = true
	}
}

// setList reads the assignments of SET.
func (p *parser) setList(c *change) {
	for !p.dead() {
		if p.is("(") {
			p.setRow(c)
		} else {
			if !p.tok().name() {
				p.lose()
				return
			}
			column := p.name()
			if p.is("[") || p.is(".") {
				p.unsupported(p.i, "assigning to a part of a column is")
			}
			if !p.want("=") {
				return
			}
			value := p.expression()
			if value.kind == exprDefault {
				p.markName(value, value.i)
			}
			c.sets = append(c.sets, assignment{column, value, p.markAround(value)})
		}
		if !p.accept(",") {
			return
		}
	}
}

// setRow reads (a, b) = (x, y) and (a, b) = (SELECT …).
func (p *parser) setRow(c *change) {
	columns := p.nameList()
	if !p.want("=") {
		return
	}
	e := p.expression()
	if e.kind != exprRow && e.kind != exprParen {
		c.exprs = append(c.exprs, e)
		return
	}
	for n, value := range e.args {
		if value.kind == exprDefault {
			p.markName(value, value.i)
		}
		if n < len(columns) {
			c.sets = append(c.sets, assignment{columns[n], value, p.markAround(value)})
		}
	}
}

func (p *parser) update(c *change) {
	p.st.Kind, p.st.Tag = Update, "UPDATE"
	p.expect("update")
	if p.accept("or") {
		p.name()
	}
	p.target(c)
	p.expect("set")
	p.setList(c)
	if p.accept("from") {
		c.fromI = p.i
		c.from = p.fromList()
		c.fromJ = p.i
	}
	p.changeWhere(c)
	p.returning(c)
	p.sqliteLimit()
}

func (p *parser) changeWhere(c *change) {
	if !p.accept("where") {
		return
	}
	if p.is("current", "of") {
		p.unsupported(p.i, "WHERE CURRENT OF is")
	}
	c.exprs = append(c.exprs, p.expression())
}

// sqliteLimit lets through the ORDER BY and LIMIT that some builds of SQLite know here.
func (p *parser) sqliteLimit() {
	if p.isAny("order", "limit") {
		p.lose()
	}
}

func (p *parser) delete(c *change) {
	p.st.Kind, p.st.Tag = Delete, "DELETE"
	p.expect("delete", "from")
	p.target(c)
	using := p.i
	if p.accept("using") {
		c.fromI = p.i
		c.from = p.fromList()
		c.fromJ = p.i
	}
	p.changeWhere(c)
	if len(c.from) > 0 {
		p.deleteUsing(c, using)
	}
	p.returning(c)
	p.sqliteLimit()
}

// deleteUsing turns DELETE FROM t USING u WHERE c into
// DELETE FROM t WHERE rowid IN (SELECT t.rowid FROM t, u WHERE c).
func (p *parser) deleteUsing(c *change, using int) {
	if p.dead() {
		return
	}
	name := c.table.own()
	c.using = p.unmarked(p.text(c.fromI, c.fromJ))
	p.collapse(using, p.i, "WHERE rowid IN (SELECT "+quoteIdent(name)+".rowid FROM "+
		p.text(c.tableI, c.tableJ)+", "+p.text(c.fromI, p.i)+")")
	p.toks[using].space = true
	c.fromI, c.fromJ = 0, 0
}

// returning reads RETURNING. SQLite has no table.* there, nor the target's alias.
func (p *parser) returning(c *change) {
	if !p.accept("returning") {
		return
	}
	p.st.Returning = true
	c.returning = p.items()
	for _, it := range c.returning {
		if it.e.kind == exprStar && it.e.j-it.e.i > 1 {
			p.remove(it.e.i, it.e.j-1)
		}
		it.e.walk(func(x *expr) {
			if x.kind == exprColumn && x.qual != "" && x.qual == c.table.alias && x.j-x.i == 3 {
				p.remove(x.i, x.i+2)
			}
		})
	}
}
