package dialect

import (
	"strings"

	"skein/internal/oid"
)

// inference is what a statement keeps to type its parameters and results: the tree, and which
// columns the types come from.
type inference struct {
	query  *query
	change *change

	refs    map[*expr]int // the probe's column of a column reference
	columns []string      // the probe's columns
	target  []*expr       // of a change: the columns that values go to, as references
	star    int           // of an INSERT without column list: where the probe's * begins, or -1
	prefix  string        // WITH … of the probe
	from    string        // FROM … of the probe
	text    func(i, j int) string
	raw     string // the statement with marks, for Typed
}

// scope is the relations that an expression may name columns of.
type scope struct {
	relations []*relation
	with      []*relation
	outer     *scope
	withText  string
	from      string
	root      bool // its FROM is that of the probe itself
	sole      bool // its select list is the statement's result
}

// Probe gives a SELECT, to be prepared and never run, whose columns are the column references that
// Infer needs the types of; "" when there are none.
func (s *Statement) Probe() string {
	f := s.infer
	if f == nil || len(f.columns) == 0 && f.star < 0 {
		return ""
	}
	columns := f.columns
	if f.star >= 0 {
		columns = append(columns[:len(columns):len(columns)], "*")
	}
	sql := f.prefix + "SELECT " + strings.Join(columns, ", ")
	if f.from != "" {
		sql += " FROM " + f.from
	}
	return sql
}

// Known is what a database and a client say about a statement.
type Known struct {
	Refs     []oid.OID // the type of each of Probe's columns; nil if it could not be prepared
	Mods     []int32   // their modifiers
	Target   *Table    // the table that the statement changes; nil where that is not known
	Declared []oid.OID // the types that the client gave to parameters, 0 or oid.Unknown for none

	// View gives the columns of a view, nil for whatever is none. SQLite tells the types only of those
	// that are plain columns of a table. May be nil.
	View func(name string) []ViewColumn
}

// ViewColumn is a column of a view.
type ViewColumn struct {
	Name string
	Type oid.OID
}

// params are the types of the parameters that the text or the client gives.
func (s *Statement) params(k Known) []ParamType {
	params := make([]ParamType, s.NumParams)
	for i := range params {
		params[i] = ParamType{s.ParamTypes[i], -1}
		if i < len(k.Declared) && known(k.Declared[i]) != 0 {
			params[i].OID = k.Declared[i]
		}
	}
	return params
}

// Infer types the parameters and result columns. columns holds, for each result column, the type that
// its declaration gives, or 0.
func (s *Statement) Infer(k Known, columns []oid.OID) (params []ParamType, results []oid.OID) {
	y := &typer{f: s.infer, refs: k.Refs, mods: k.Mods, view: k.View, params: s.params(k)}
	results = append([]oid.OID(nil), columns...)
	if s.infer != nil {
		y.statement()
		y.results(results)
	}
	for i := range y.params {
		if known(y.params[i].OID) == 0 {
			y.params[i] = ParamType{oid.Text, -1}
		}
	}
	for i := range results {
		if known(results[i]) == 0 {
			results[i] = oid.Text
		}
	}
	return y.params, results
}

// inferQuery keeps what is needed to type a query, unless everything can be read from SQLite.
func (p *parser) inferQuery(q *query) {
	if p.dead() || p.st.NumParams == 0 && p.marks == 0 && q.plain() {
		return
	}
	f := p.newInference()
	f.query = q
	f.collect(p)
}

func (p *parser) inferChange(c *change) {
	if p.dead() || p.st.NumParams == 0 && p.marks == 0 && !p.st.Returning {
		return
	}
	f := p.newInference()
	f.change = c
	f.collect(p)
}

func (p *parser) newInference() *inference {
	p.st.infer = &inference{refs: map[*expr]int{}, star: -1}
	p.st.infer.text = func(i, j int) string { return p.unmarked(p.text(i, j)) }
	return p.st.infer
}

// plain says whether SQLite knows the types of all result columns. Of a relation it does not: it may be a
// view.
func (q *query) plain() bool {
	for _, c := range q.cores {
		for _, it := range c.items {
			if it.e.kind != exprColumn && it.e.kind != exprStar {
				return false
			}
		}
		if len(c.from) > 0 {
			return false
		}
	}
	return len(q.with) == 0
}

// collect finds the columns that the typer will ask for, by typing once without answers.
func (f *inference) collect(p *parser) {
	y := &typer{f: f, collecting: true, params: make([]ParamType, p.st.NumParams)}
	for i := range y.params {
		y.params[i] = ParamType{p.st.ParamTypes[i], -1}
	}
	if c := f.change; c != nil {
		f.prefix = f.spaced(c.i, c.withJ)
		if c.table != nil {
			f.from = f.text(c.tableI, c.tableJ)
			if c.fromJ > c.fromI {
				f.from += ", " + f.text(c.fromI, c.fromJ)
			}
			if c.using != "" {
				f.from += ", " + c.using
			}
		}
	}
	if q := f.query; q != nil && len(q.cores) > 0 {
		f.prefix = f.spaced(q.i, q.withJ)
		f.from = f.text(q.cores[0].fromI, q.cores[0].fromJ)
	}
	y.statement()
	y.results(nil)
	f.text = nil
}

func (f *inference) spaced(i, j int) string {
	if i >= j {
		return ""
	}
	return f.text(i, j) + " "
}

// typer walks the tree: it gives parameters the type of what they stand beside.
type typer struct {
	f          *inference
	collecting bool
	refs       []oid.OID
	mods       []int32
	view       func(string) []ViewColumn // nil when not known
	params     []ParamType
	chain      map[*expr]oid.OID // the types of operators' results
	inexact    bool              // arithmetic on a value of unknown type was seen
	edits      map[int]edit      // what Typed does at the marks; nil for Infer
	depth      int
}

func (y *typer) statement() {
	switch {
	case y.f.query != nil:
		y.query(y.f.query, nil, true)
	case y.f.change != nil:
		y.change(y.f.change)
	}
}

// query visits a query inside outer and gives the scope of its first core.
func (y *typer) query(q *query, outer *scope, root bool) []*scope {
	base := &scope{with: q.with, outer: outer}
	withText := ""
	if y.collecting && q.withJ > q.i {
		withText = y.f.text(q.i, q.withJ) + " "
	}
	for _, w := range q.with {
		if w.sub != nil {
			y.query(w.sub, base, false)
		}
	}
	var scopes []*scope
	for n, c := range q.cores {
		sc := &scope{relations: c.from, with: q.with, outer: outer, withText: withText, root: root && n == 0, sole: root && len(q.cores) == 1}
		if y.collecting {
			sc.from = y.f.text(c.fromI, c.fromJ)
		}
		scopes = append(scopes, sc)
		y.core(c, sc)
	}
	if len(scopes) > 0 {
		for _, e := range q.exprs {
			y.visit(e, scopes[0])
			y.sorted(e, q, scopes[0])
		}
	}
	for _, e := range q.counts {
		y.give(e, oid.Int8, -1)
	}
	return scopes
}

func (y *typer) core(c *core, sc *scope) {
	for _, r := range c.from {
		if r.sub != nil {
			y.query(r.sub, sc.outer, false)
		}
		if r.fn != nil {
			y.visit(r.fn, sc)
		}
	}
	for _, it := range c.items {
		if len(c.rows) == 0 {
			y.visit(it.e, sc)
			if sc.sole {
				y.exactItem(it.e)
			}
			y.innerItem(it, sc)
		}
	}
	for _, row := range c.rows {
		for _, e := range row {
			y.visit(e, sc)
		}
	}
	for _, e := range c.exprs {
		y.visit(e, sc)
		y.condition(e)
	}
}

// condition types a parameter that is itself a truth value.
func (y *typer) condition(e *expr) {
	if e.kind == exprParam {
		y.give(e, oid.Bool, -1)
	}
}

func (y *typer) change(c *change) {
	if c.table == nil {
		return
	}
	sc := &scope{relations: append([]*relation{c.table}, c.from...), with: c.with, root: true}
	if y.collecting {
		sc.from = y.f.from
		sc.withText = y.f.prefix
	}
	for _, w := range c.with {
		if w.sub != nil {
			y.query(w.sub, &scope{with: c.with}, false)
		}
	}
	y.insertSource(c, sc)
	for n := range c.sets {
		y.assign(c.sets[n].value, c.sets[n].mark, y.targetColumn(c, len(c.columns)+n, c.sets[n].column), sc)
		y.visit(c.sets[n].value, sc)
	}
	for _, r := range c.from {
		if r.sub != nil {
			y.query(r.sub, nil, false)
		}
		if r.fn != nil {
			y.visit(r.fn, sc)
		}
	}
	for _, e := range c.exprs {
		y.visit(e, sc)
	}
	for _, it := range c.returning {
		y.visit(it.e, sc)
	}
}

// targetColumn is a reference to the n-th column that the change gives a value to.
func (y *typer) targetColumn(c *change, n int, name string) *expr {
	for len(y.f.target) <= n {
		y.f.target = append(y.f.target, nil)
	}
	if y.f.target[n] == nil {
		y.f.target[n] = &expr{kind: exprColumn, name: name, qual: c.table.own(), mod: -1}
	}
	return y.f.target[n]
}

// insertSource gives the values of an INSERT the types of their columns.
func (y *typer) insertSource(c *change, sc *scope) {
	if c.source == nil {
		return
	}
	if len(c.columns) == 0 && y.collecting && c.source.hasOpen() {
		y.f.star = 0
	}
	for _, q := range c.source.cores {
		for r, row := range q.rows {
			for n, e := range row {
				mark := 0
				if r < len(c.rowMarks) {
					mark = c.rowMarks[r][n]
				}
				y.insertValue(c, n, e, mark, sc)
			}
		}
		inner := y.scopeOf(c.source, q, &scope{with: c.with})
		for n, it := range q.items {
			if len(q.rows) == 0 && it.e.kind != exprStar {
				y.insertValue(c, n, it.e, it.mark, inner)
			}
		}
	}
	y.query(c.source, &scope{with: c.with}, false)
}

// insertValue gives the n-th value of an INSERT the type of its column.
func (y *typer) insertValue(c *change, n int, e *expr, mark int, sc *scope) {
	if n < len(c.columns) {
		y.assign(e, mark, y.targetColumn(c, n, c.columns[n]), sc)
		return
	}
	if k := len(y.f.columns) + n; len(c.columns) == 0 && y.f.star >= 0 && k < len(y.refs) {
		y.store(e, mark, y.refs[k], y.mods[k], sc)
	}
}

// hasOpen says whether some of the values take their type from the columns they go to.
func (q *query) hasOpen() bool {
	for _, c := range q.cores {
		for _, row := range c.rows {
			for _, e := range row {
				if x := e.bare(); x.kind != exprNull {
					return true
				}
			}
		}
		for _, it := range c.items {
			if it.e.bare().kind != exprNull {
				return true
			}
		}
	}
	return false
}

// assign gives a value the type and modifier of the column that it goes to.
func (y *typer) assign(value *expr, mark int, column *expr, sc *scope) {
	if x := value.bare(); x.kind != exprParam && x.mark == 0 && mark == 0 {
		return
	}
	t := y.reference(column, &scope{root: true})
	mod := int32(-1)
	if n, ok := y.f.refs[column]; ok && n < len(y.mods) {
		mod = y.mods[n]
	}
	y.store(value, mark, t, mod, sc)
}

// give types e if it is a parameter that has no type yet.
func (y *typer) give(e *expr, t oid.OID, mod int32) {
	x := e.bare()
	y.convert(x, t, mod)
	if x.kind != exprParam || known(t) == 0 || x.param > len(y.params) {
		return
	}
	if s := &y.params[x.param-1]; known(s.OID) == 0 {
		*s = ParamType{t, mod}
	}
}

// anyOpen says whether one of the expressions takes its type from the others.
func anyOpen(list []*expr) bool {
	for _, e := range list {
		if x := e.bare(); x.kind == exprParam || x.kind == exprString && x.mark > 0 {
			return true
		}
	}
	return false
}

// known is t, or 0 for the types that a literal or parameter has before it meets another.
func known(t oid.OID) oid.OID {
	if t == oid.Unknown {
		return 0
	}
	return t
}

// visit gives the parameters below e their types.
func (y *typer) visit(e *expr, sc *scope) {
	if e.sub != nil {
		y.query(e.sub, sc, false)
	}
	for _, a := range e.args {
		y.visit(a, sc)
	}
	for _, a := range e.when {
		y.visit(a, sc)
		y.sortedTerm(a.term, a, sc)
	}
	switch e.kind {
	case exprCompare:
		y.compared(e, sc)
		y.comparedMoments(e, sc)
		y.positions(e, sc)
		y.comparedDecimals(e, sc)
		y.comparedByValue(e, sc)
	case exprLogic:
		if e.name != "exists" {
			for _, a := range e.args {
				y.condition(a)
			}
		}
	case exprOp:
		y.operands(e, sc)
		y.arithmetic(e, sc)
		y.positions(e, sc)
		y.shown(e, sc)
	case exprCast:
		y.castOperand(e, sc)
	case exprCase:
		y.caseParts(e, sc)
	case exprCall:
		y.arguments(e, sc)
		y.aggregate(e, sc)
		y.moment(e, sc)
		y.rounded(e)
		switch e.name {
		case "concat", "concat_ws", "format", "array_agg":
			y.shown(e, sc)
		case "json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array", "json_agg", "jsonb_agg",
			"json_object_agg", "jsonb_object_agg", "to_json", "to_jsonb":
			y.jsonArguments(e, sc)
		default:
			y.comparedByValue(e, sc)
		}
	case exprArray:
		y.same(e.args, sc)
		y.shown(e, sc)
	case exprElement:
		y.give(e.args[1], oid.Int4, -1)
	}
}

// same gives all parameters in the list the type of the first that has one.
func (y *typer) same(list []*expr, sc *scope) oid.OID {
	if !anyOpen(list) {
		return 0
	}
	t := y.common(list, sc)
	for _, e := range list {
		y.give(e, t, -1)
	}
	return t
}

// common is the type of a list of alternatives: the first known one, or the wider of numbers.
func (y *typer) common(list []*expr, sc *scope) oid.OID {
	var t oid.OID
	for _, e := range list {
		next := known(y.typeOf(e, sc))
		switch {
		case t == 0:
			t = next
		case numberRank(t) > 0 && numberRank(next) > numberRank(t):
			t = next
		}
	}
	return t
}

func (y *typer) compared(e *expr, sc *scope) {
	switch {
	case e.name == "like":
		for _, a := range e.args {
			y.give(a, oid.Text, -1)
		}
	case e.name == "?":
		y.give(e.args[1], oid.Text, -1)
	case e.name == "?|" || e.name == "?&":
		y.give(e.args[1], oid.TextArray, -1)
	case e.any && len(e.args) == 2:
		if t := oid.ByOID(known(y.typeOf(e.args[0], sc))); t != nil {
			y.give(e.args[1], t.Array, -1)
		}
		if t := oid.ByOID(known(y.typeOf(e.args[1], sc))); t != nil {
			y.give(e.args[0], t.Elem, -1)
		}
	case len(e.args) > 1 && e.args[0].kind == exprRow:
		y.comparedRows(e.args, sc)
	default:
		y.same(e.args, sc)
	}
}

func (y *typer) comparedRows(rows []*expr, sc *scope) {
	for n := range rows[0].args {
		var column []*expr
		for _, row := range rows {
			if row.kind == exprRow && n < len(row.args) {
				column = append(column, row.args[n])
			}
		}
		y.same(column, sc)
	}
}

func (y *typer) operands(e *expr, sc *scope) {
	switch e.name {
	case "||":
		t := joined(y.typeOf(e.args[0], sc), y.typeOf(e.args[1], sc))
		for _, a := range e.args {
			y.give(a, t, -1)
		}
		return
	case "#>", "#>>":
		y.give(e.args[1], oid.TextArray, -1)
		return
	case "->", "->>":
		y.give(e.args[len(e.args)-1], oid.Text, -1)
		return
	}
	if len(e.args) != 2 {
		return
	}
	for n, a := range e.args {
		if a.bare().kind != exprParam {
			continue
		}
		other := known(y.typeOf(e.args[1-n], sc))
		switch {
		case other == oid.Date && (e.name == "+" || e.name == "-" && n == 1):
			other = oid.Int4
		case isTemporal(other) && e.name == "+":
			if other != oid.Interval {
				other = oid.Interval
			}
		case other == oid.Interval && (e.name == "*" || e.name == "/"):
			other = oid.Float8
		}
		y.give(a, other, -1)
	}
}

func (y *typer) caseParts(e *expr, sc *scope) {
	y.same(e.args, sc)
	y.exactAlternatives(e.args, sc)
	if e.any {
		y.same(e.when, sc)
		return
	}
	for _, w := range e.when {
		y.condition(w)
	}
}

// results types the columns that are still 0.
func (y *typer) results(columns []oid.OID) {
	switch {
	case y.f.query != nil:
		q := y.f.query
		for _, c := range q.cores {
			sc := y.scopeOf(q, c, nil)
			sc.root = c == q.cores[0]
			y.items(c.items, sc, columns)
		}
	case y.f.change != nil:
		c := y.f.change
		sc := &scope{relations: append([]*relation{c.table}, c.from...), with: c.with, root: true}
		y.items(c.returning, sc, columns)
	}
}

// scopeOf is the scope of one core of a query.
func (y *typer) scopeOf(q *query, c *core, outer *scope) *scope {
	sc := &scope{relations: c.from, with: q.with, outer: outer}
	if y.collecting {
		sc.from = y.f.text(c.fromI, c.fromJ)
		if q.withJ > q.i {
			sc.withText = y.f.text(q.i, q.withJ) + " "
		}
	}
	return sc
}

// items types the columns of a select list. Entries before a * are counted from the left, those after
// it from the right.
func (y *typer) items(items []*item, sc *scope, columns []oid.OID) {
	at, stars := 0, 0
	for n, it := range items {
		if it.e.kind == exprStar {
			stars++
			width := y.starTypes(it.e, sc, columns, at)
			switch {
			case stars == 1 && len(items) == 1:
			case stars == 1:
				at = len(columns) - (len(items) - n - 1)
				if width > 0 && at < 0 {
					at = width
				}
			}
			continue
		}
		t := y.itemType(it.e, sc)
		if stars < 2 && at >= 0 && at < len(columns) && known(columns[at]) == 0 {
			columns[at] = t
		}
		at++
	}
}

// itemType is the type of an entry of a select list. A plain column needs no probe: SQLite gives its
// declaration, unless it comes from a subquery's expression.
func (y *typer) itemType(e *expr, sc *scope) oid.OID {
	if e.kind == exprColumn {
		return y.derived(e, sc)
	}
	return y.typeOf(e, sc)
}

// starTypes types the columns of a * over one subquery.
func (y *typer) starTypes(e *expr, sc *scope, columns []oid.OID, at int) int {
	var relations []*relation
	for _, r := range sc.relations {
		if (r.name != "" || r.sub != nil || r.alias != "") && (e.qual == "" || r.called(e.qual)) {
			relations = append(relations, r)
		}
	}
	if len(relations) != 1 {
		return 0
	}
	r := relations[0]
	if r.fn != nil && r.name == "" && r.sub == nil && len(r.columns) > 0 && at >= 0 && at < len(columns) {
		if known(columns[at]) == 0 {
			columns[at] = known(y.typeOf(r.fn, sc))
		}
		return len(r.columns)
	}
	q, outer := y.definition(r, sc)
	if q == nil {
		return y.viewStar(r, columns, at)
	}
	if len(q.cores) == 0 || y.depth > 20 {
		return 0
	}
	y.depth++
	defer func() { y.depth-- }()
	c := q.cores[0]
	if at < 0 || at > len(columns) {
		at = len(columns)
	}
	y.items(c.items, y.scopeOf(q, c, outer), columns[at:])
	return len(c.items)
}

// viewStar types the columns of a * over a view.
func (y *typer) viewStar(r *relation, columns []oid.OID, at int) int {
	if y.view == nil || r.name == "" || len(r.columns) > 0 {
		return 0
	}
	list := y.view(r.name)
	for n, c := range list {
		if i := at + n; i >= 0 && i < len(columns) && known(columns[i]) == 0 {
			columns[i] = c.Type
		}
	}
	return len(list)
}

// own is the name that the relation goes by.
func (r *relation) own() string {
	if r.alias != "" {
		return r.alias
	}
	return r.name
}

// called says whether the relation goes by the name.
func (r *relation) called(name string) bool {
	if r.alias != "" {
		return strings.EqualFold(r.alias, name)
	}
	return strings.EqualFold(r.name, name)
}

// definition is the query behind a subquery or a common table expression, with the scope around it.
func (y *typer) definition(r *relation, sc *scope) (*query, *scope) {
	if r.sub != nil {
		return r.sub, sc.outer
	}
	if r.name == "" {
		return nil, nil
	}
	for s := sc; s != nil; s = s.outer {
		for _, w := range s.with {
			if strings.EqualFold(w.alias, r.name) {
				return w.sub, s
			}
		}
	}
	return nil, nil
}
