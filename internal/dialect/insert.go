package dialect

import (
	"slices"
	"strings"
)

// What an INSERT leaves to its table: the columns that it does not name, DEFAULT in the place of a
// value, and a primary key that may not be NULL even where SQLite would number the row.

// markInsert marks the column list, or the place where one would stand, and the source.
func (p *parser) markInsert(c *change, list, listEnd, source int) {
	if p.dead() || source == p.i {
		return
	}
	c.listMark, c.sourceMark = p.newMark(), p.newMark()
	if c.listMark == 0 || c.sourceMark == 0 {
		c.listMark, c.sourceMark = 0, 0
		return
	}
	if mark := markText(markOperator, c.listMark); listEnd > list {
		p.wrap(list, listEnd, mark, mark)
	} else {
		p.after(list-1, mark+mark)
	}
	if c.source == nil {
		mark := markText(markOperator, c.sourceMark)
		p.wrap(source, p.i, mark, mark)
		return
	}
	p.wrap(source, p.i, markText(markBefore, c.sourceMark), markText(markAfter, c.sourceMark))
}

// markStored marks a value that INSERT stores, parameters and NULL as well.
func (p *parser) markStored(e *expr) int {
	if x := e.bare(); x.kind != exprParam && x.kind != exprNull {
		return p.markAround(e)
	}
	id := p.newMark()
	if id > 0 {
		p.wrap(e.i, e.j, markText(markBefore, id), markText(markAfter, id))
	}
	return id
}

// markDefaults marks each DEFAULT among the rows.
func (p *parser) markDefaults(rows [][]*expr) {
	for _, row := range rows {
		for _, e := range row {
			if e.kind == exprDefault {
				p.markName(e, e.i)
			}
		}
	}
}

// fill completes a change with what its table says.
func (y *typer) fill(c *change, t *Table) {
	for _, set := range c.sets {
		y.fillDefault(set.value, t.column(set.column))
	}
	for _, k := range c.conflicts {
		columns := t.keyColumns(k.name)
		if columns == nil {
			columns = []string{k.name} // for SQLite to complain of
		}
		y.edits[k.mark] = edit{operator: "(" + quoteList(columns) + ")"}
	}
	if c.listMark == 0 {
		return
	}
	columns := c.columns
	width := c.width()
	if len(columns) == 0 && c.source != nil {
		columns = t.writable()
		if width >= 0 && width < len(columns) {
			columns = columns[:width]
			y.edits[c.listMark] = edit{operator: " (" + quoteList(columns) + ")"}
		}
	}
	if c.source != nil {
		for _, row := range c.source.cores[0].rows {
			for n, e := range row {
				if n < len(columns) {
					y.fillDefault(e, t.column(columns[n]))
				}
			}
		}
	}
	if key := t.rowidColumn(); key != nil && key.find(Default) == nil && !strings.Contains(t.Options, "STRICT") {
		y.requireKey(c, t, key, columns)
	}
}

// fillDefault puts a column's default in the place of DEFAULT.
func (y *typer) fillDefault(e *expr, column *Column) {
	if e.kind != exprDefault || e.mark == 0 {
		return
	}
	value := "NULL"
	if column != nil {
		if k := column.find(Default); k != nil {
			value = strings.TrimPrefix(k.Text, "DEFAULT ")
		}
	}
	y.edits[e.mark] = edit{operator: value}
}

// Numbers says whether an INSERT leaves it to the table to number its last row, as serial and identity columns do.
func (s *Statement) Numbers(t *Table) bool {
	if t == nil || s.infer == nil || s.infer.change == nil {
		return false
	}
	serial := slices.IndexFunc(t.Columns, func(c *Column) bool { return c.Serial })
	if serial < 0 {
		return false
	}
	c := s.infer.change
	if c.source == nil { // DEFAULT VALUES
		return true
	}
	columns := c.columns
	if len(columns) == 0 {
		columns = t.writable()
		if width := c.width(); width >= 0 && width < len(columns) {
			columns = columns[:width]
		}
	}
	n := slices.IndexFunc(columns, func(name string) bool { return strings.EqualFold(name, t.Columns[serial].Name) })
	if n < 0 {
		return true
	}
	rows := c.source.cores[0].rows
	return len(rows) > 0 && n < len(rows[len(rows)-1]) && rows[len(rows)-1][n].kind == exprDefault
}

// writable lists the columns that values may be given to.
func (t *Table) writable() []string {
	var names []string
	for _, c := range t.Columns {
		if c.find(Generated) == nil {
			names = append(names, c.Name)
		}
	}
	return names
}

// keyColumns are the columns of the primary key or unique constraint of that name.
func (t *Table) keyColumns(name string) []string {
	var columns []string
	t.eachConstraint(func(k *Constraint) {
		if (k.Kind == PrimaryKey || k.Kind == Unique) && strings.EqualFold(k.Name, name) {
			columns = k.Columns
		}
	})
	return columns
}

// width is how many values a row of the INSERT has, -1 if that cannot be told from the text.
func (c *change) width() int {
	if c.source == nil || len(c.source.cores) == 0 {
		return -1
	}
	items := c.source.cores[0].items
	for _, it := range items {
		if it.e.kind == exprStar {
			return -1
		}
	}
	return len(items)
}

// requireKey refuses rows without a value for the primary key: where it is the rowid, SQLite would
// number them.
func (y *typer) requireKey(c *change, t *Table, key *Column, columns []string) {
	missing := "not_null(" + quoteString(t.Name) + ", " + quoteString(key.Name) + ")"
	for n, name := range columns {
		if strings.EqualFold(name, key.Name) {
			y.requireValue(c, n, missing)
			return
		}
	}
	switch {
	case key.Serial:
	case c.source == nil:
		y.edits[c.listMark] = edit{operator: " (" + quoteIdent(key.Name) + ")"}
		y.edits[c.sourceMark] = edit{operator: " VALUES (" + missing + ")"}
	default:
		y.edits[c.listMark] = edit{operator: " (" + quoteList(columns) + ", " + quoteIdent(key.Name) + ")"}
		after := ")"
		if !c.filtered {
			after += " WHERE true"
		}
		y.edits[c.sourceMark] = edit{before: "SELECT *, " + missing + " FROM (", after: after}
	}
}

// requireValue refuses NULL as the n-th value of each row.
func (y *typer) requireValue(c *change, n int, missing string) {
	if c.source == nil {
		return
	}
	require := func(mark int, e *expr) {
		if mark > 0 && e.kind != exprDefault {
			was := y.edits[mark]
			y.edits[mark] = edit{before: "ifnull(" + was.before, after: was.after + ", " + missing + ")"}
		}
	}
	for r, row := range c.source.cores[0].rows {
		if n < len(row) && r < len(c.rowMarks) {
			require(c.rowMarks[r][n], row[n])
		}
	}
	for _, core := range c.source.cores {
		if len(core.rows) == 0 && n < len(core.items) && c.width() >= 0 {
			require(core.items[n].mark, core.items[n].e)
		}
	}
}
