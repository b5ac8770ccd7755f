package engine

import (
	"errors"
	"strings"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/oid"
	"skein/internal/pgcatalog"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

const (
	cachedPlans   = 2000 // per database
	cachedPlanLen = 16 << 10
)

// planKey is a statement's SQL with the parameter types that the client declared. Texts that differ in
// types alone may be the same for SQLite.
type planKey struct {
	sql    string
	text   string
	params string
}

// plan is what is known of a statement before it runs: its parameters and its result.
type plan struct {
	schema  schemaVersion
	sql     string // what SQLite runs
	params  []dialect.ParamType
	fields  []pgwire.Field // nil for no rows
	changes bool           // SQLite says that it writes
	again   bool           // may be run again, see draft
	numbers string         // the table that numbers what an INSERT inserts, or ""
	long    atomic.Bool    // has taken too long for that
}

// plan analyses a statement on c, or finds it analysed.
func (s *Session) plan(c *conn, st *dialect.Statement, declared []oid.OID) (*plan, error) {
	if len(st.SQL) != 1 {
		return &plan{}, nil
	}
	key := planKey{st.SQL[0], st.Text, paramsKey(declared)}
	version, known := s.schema()
	shared := known && version.edits == 0
	if shared {
		if p := s.db.cachedPlan(key); p != nil && p.schema == version {
			return p, nil
		}
	}
	p, err := analyse(c, st, declared)
	if err != nil {
		return nil, err
	}
	if known {
		p.schema = version
	}
	if shared && len(key.sql) <= cachedPlanLen {
		s.db.cachePlan(key, p)
	}
	return p, nil
}

func (d *Database) cachedPlan(key planKey) *plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plans[key]
}

func (d *Database) cachePlan(key planKey, p *plan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.plans) >= cachedPlans {
		for k := range d.plans {
			delete(d.plans, k)
			break
		}
	}
	d.plans[key] = p
}

func paramsKey(declared []oid.OID) string {
	var b strings.Builder
	for _, o := range declared {
		b.WriteByte(byte(o))
		b.WriteByte(byte(o >> 8))
		b.WriteByte(byte(o >> 16))
	}
	return b.String()
}

// readSchema has a connection notice that another has changed the schema. It notices when a statement
// runs, not when one is prepared.
const readSchema = "SELECT 1 FROM sqlite_schema LIMIT 1"

// analyse prepares a statement to learn its columns, and a probe to learn what its expressions are
// made of. With the probe's types, the dialect gives the text that SQLite runs.
func analyse(c *conn, st *dialect.Statement, declared []oid.OID) (*plan, error) {
	if err := c.exec(readSchema); err != nil {
		return nil, err
	}
	types := typesOn(c)
	refs, mods := types.probe(st.Probe())
	p := &plan{}
	var exact bool
	var target *dialect.Table
	if st.Kind == dialect.Insert || st.Kind == dialect.Update {
		target = types.table(st.Table).text
	}
	known := dialect.Known{Refs: refs, Mods: mods, Target: target, Declared: declared, View: types.view}
	p.sql, exact = st.Typed(known)

	c.reads = &columnReads{}
	stmt, err := c.prepare(p.sql)
	reads := c.reads
	c.reads = nil
	if err != nil {
		return nil, err
	}
	defer c.put(p.sql, stmt)
	if st.Arithmetic && !exact {
		if err := refuseInexact(c, reads); err != nil {
			return nil, err
		}
	}
	p.changes = !stmt.ReadOnly()
	p.again = reads.again(st)
	if st.Kind == dialect.Insert && st.Numbers(target) {
		p.numbers = target.Name
	}
	if n := stmt.ColumnCount(); n > 0 {
		p.fields = types.describe(stmt, n)
	}
	columns := make([]oid.OID, len(p.fields))
	for i, f := range p.fields {
		columns[i] = f.Type
	}
	params, results := st.Infer(known, columns)
	for i := range p.fields {
		if p.fields[i].Type == oid.Unspecified && i < len(results) {
			p.fields[i].Type = results[i]
		}
	}
	p.params = make([]dialect.ParamType, st.NumParams)
	for i := range p.params {
		p.params[i].Mod = -1
		if i < len(params) {
			p.params[i] = params[i]
		}
		if i < len(declared) && declared[i] != oid.Unspecified && declared[i] != oid.Unknown {
			p.params[i].OID = declared[i]
		}
	}
	p.cannedTypes(st)
	return p, types.complete()
}

// columnTypes finds the types of a prepared statement's columns.
type columnTypes struct {
	conn   *conn
	tables map[string]*table
	views  map[string][]dialect.ViewColumn
	failed error // of what was read of the schema
}

func typesOn(c *conn) *columnTypes {
	return &columnTypes{conn: c, tables: map[string]*table{}, views: map[string][]dialect.ViewColumn{}}
}

// complete says why what was found must not be taken for the truth: the plan would be kept, and be wrong for everybody.
func (t *columnTypes) complete() error {
	if t.failed != nil {
		return t.failed
	}
	if t.conn.sqlite.GetInterrupt().Err() != nil {
		return sqlite3.INTERRUPT
	}
	return nil
}

// table is what a table's own text and SQLite's numbering of its columns say.
type table struct {
	text    *dialect.Table // nil for what is not a table
	numbers map[string]int16
}

// serial is the column that the table numbers its rows by, or "".
func (t *table) serial() string {
	if t.text != nil {
		for _, c := range t.text.Columns {
			if c.Serial {
				return c.Name
			}
		}
	}
	return ""
}

func (t *columnTypes) describe(stmt *sqlite3.Stmt, n int) []pgwire.Field {
	fields := make([]pgwire.Field, n)
	for i := range fields {
		f := &fields[i]
		f.Name = stmt.ColumnName(i)
		f.Type, f.Mod = t.of(stmt, i)
		name := stmt.ColumnTableName(i)
		if name == "" || strings.HasPrefix(name, "sqlite_") {
			continue
		}
		if attr := t.table(name).numbers[strings.ToLower(stmt.ColumnOriginName(i))]; attr > 0 {
			f.TableOID, f.Attr = uint32(pgcatalog.ObjectOID(pgcatalog.KindTable, name)), attr
		}
	}
	return fields
}

// of gives a column's declared type. SQLite respells INTEGER, so for that the table's own text is read.
func (t *columnTypes) of(stmt *sqlite3.Stmt, i int) (oid.OID, int32) {
	decl := stmt.ColumnDeclType(i)
	if decl != "INTEGER" || stmt.ColumnTableName(i) == "" {
		return oid.Declared(decl)
	}
	if text := t.table(stmt.ColumnTableName(i)).text; text != nil {
		if c := text.Column(stmt.ColumnOriginName(i)); c != nil {
			return c.Type()
		}
	}
	return oid.Declared(decl)
}

func (t *columnTypes) table(name string) *table {
	if known := t.tables[name]; known != nil {
		return known
	}
	tb := &table{numbers: map[string]int16{}}
	t.tables[name] = tb
	err := t.conn.query("SELECT lower(name), cid + 1 FROM pragma_table_xinfo(?1)",
		func(st *sqlite3.Stmt) { tb.numbers[st.ColumnText(0)] = int16(st.ColumnInt(1)) }, name)
	text, err2 := t.conn.tableText(name)
	if t.failed = errors.Join(t.failed, err, err2); text != "" {
		tb.text, _ = dialect.ParseTable(text)
	}
	return tb
}

// maxViewDepth bounds how many views stand on each other while their columns are typed.
const maxViewDepth = 8

// view gives the columns of a view, with the types of those that are expressions.
func (t *columnTypes) view(name string) []dialect.ViewColumn {
	if known, ok := t.views[name]; ok || len(t.views) >= maxViewDepth {
		return known
	}
	t.views[name] = nil
	var sql string
	if err := t.conn.query("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = ?1 COLLATE NOCASE",
		func(st *sqlite3.Stmt) { sql = st.ColumnText(0) }, name); err != nil || sql == "" {
		t.failed = errors.Join(t.failed, err)
		return nil
	}
	list, err := dialect.Parse(sql)
	if err != nil || len(list) != 1 || list[0].View == nil {
		return nil
	}
	fields, err := t.fields(list[0].View.Query)
	if err != nil {
		return nil
	}
	for _, f := range fields {
		t.views[name] = append(t.views[name], dialect.ViewColumn{Name: f.Name, Type: f.Type})
	}
	return t.views[name]
}

// fields gives the result columns of a query that is in SQLite's own text.
func (t *columnTypes) fields(query *dialect.Statement) ([]pgwire.Field, error) {
	refs, mods := t.probe(query.Probe())
	stmt, _, err := t.conn.sqlite.Prepare(query.SQL[0])
	if err != nil || stmt == nil {
		return nil, err
	}
	defer stmt.Close()
	fields := t.describe(stmt, stmt.ColumnCount())
	types := make([]oid.OID, len(fields))
	for i, f := range fields {
		types[i] = f.Type
	}
	_, types = query.Infer(dialect.Known{Refs: refs, Mods: mods, View: t.view}, types)
	for i := range fields {
		fields[i].Type = types[i]
	}
	return fields, nil
}

// probe gives the declared types of a probe's columns; nil when it does not prepare.
func (t *columnTypes) probe(sql string) ([]oid.OID, []int32) {
	if sql == "" {
		return nil, nil
	}
	stmt, _, err := t.conn.sqlite.Prepare(sql)
	if err != nil || stmt == nil {
		return nil, nil
	}
	defer stmt.Close()
	refs, mods := make([]oid.OID, stmt.ColumnCount()), make([]int32, stmt.ColumnCount())
	for i := range refs {
		refs[i], mods[i] = t.of(stmt, i)
	}
	return refs, mods
}

// refuseInexact refuses to calculate with numeric columns, which SQLite would do in floating point.
func refuseInexact(c *conn, reads *columnReads) error {
	seen := map[[2]string]bool{}
	for _, col := range reads.columns {
		if seen[col] || col[1] == "" {
			continue
		}
		seen[col] = true
		decl, _, _, _, _, err := c.sqlite.TableColumnMetadata("main", col[0], col[1])
		if err != nil {
			continue // a view, a virtual table
		}
		if t, _ := oid.Declared(decl); t == oid.Numeric {
			return sqlstate.New(sqlstate.FeatureNotSupported, "calculating with the numeric column %q of %q is not supported: SQLite would do it in floating point", col[1], col[0]).
				WithHint("Calculate in the application, keep amounts as bigint (cents), or cast to double precision where rounding does not matter.")
		}
	}
	return nil
}

// writesByKind says whether statements of a kind must run as the database's writer.
func writesByKind(k dialect.Kind) bool {
	switch k {
	case dialect.Select, dialect.Explain, dialect.Pragma:
		return false
	}
	return true
}
