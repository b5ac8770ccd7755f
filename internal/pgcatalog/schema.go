package pgcatalog

import (
	"fmt"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/zeebo/xxh3"

	"skein/internal/oid"
)

// schema is the user's tables, views and indexes as the running statement sees them.
type schema struct {
	stamp      time.Time // StatementTime of the statement that checked it last
	cookie     [2]int64  // schema_version of main and temp then
	sum        uint64    // of everything in sqlite_schema
	tables     []*table
	tableNames map[string]*table
	relations  map[oid.OID]relationRef
	names      map[string]oid.OID
}

// relationRef finds what an OID of pg_class stands for.
type relationRef struct {
	name  string
	kind  byte // r, v, i, S
	table *table
	index *index
}

// table is a table or a view.
type table struct {
	name        string
	oid         oid.OID
	kind        byte // r or v
	temp        bool
	sql         string
	columns     []column
	constraints []tableConstraint
	indexes     []*index
	triggers    []string
	sequence    string // of the AUTOINCREMENT column, "" without
}

type column struct {
	name      string
	number    int // attnum
	typ       oid.OID
	mod       int32
	notNull   bool
	def       string // as PostgreSQL spells it, "" for none
	generated bool
	serial    bool
}

// tableConstraint is a constraint with its final name and its columns as attnums.
type tableConstraint struct {
	constraint
	oid    oid.OID
	keys   []int
	index  *index // of p and u; for f the index of the table referred to
	target *table // of f
	refs   []int
}

// index is a unique or primary key, or something from CREATE INDEX.
type index struct {
	name    string
	oid     oid.OID
	table   *table
	unique  bool
	primary bool
	items   []indexItem
	keys    []int // attnums, 0 for an expression
	where   string
}

// hiddenConstraint begins the names of the checks that stand for column types.
const hiddenConstraint = "skein_type_"

// serialKey is the primary key of a table that has a serial column and, to PostgreSQL, no key.
const serialKey = "skein_serial"

// loadSchema reads the schema, at most once in a statement and only when it has changed. The cookie
// alone does not do: it goes back with a rolled back DDL and comes again with the next one. So the
// text of sqlite_schema is summed once for each statement, and the cookies, which are on pages that
// are in memory anyway, are trusted within one.
func (cat *catalog) loadSchema() (*schema, error) {
	now := cat.sess().StatementTime()
	if s := cat.schema; s != nil && cat.checked && s.stamp.Equal(now) {
		return s, nil // a query of the catalog asks for each of its rows
	}
	cat.checked = cat.openCursors > 0
	main, err := cat.queryInt("PRAGMA main.schema_version")
	if err != nil {
		return nil, err
	}
	temp, err := cat.queryInt("PRAGMA temp.schema_version")
	if err != nil {
		return nil, err
	}
	cookie := [2]int64{main, temp}
	if s := cat.schema; s != nil && s.cookie == cookie && s.stamp.Equal(now) && !now.IsZero() {
		return s, nil
	}
	objects, sum, err := cat.readObjects()
	if err != nil {
		return nil, err
	}
	if s := cat.schema; s != nil && s.sum == sum {
		s.stamp, s.cookie = now, cookie
		return s, nil
	}
	s := &schema{stamp: now, cookie: cookie, sum: sum}
	if err := cat.build(s, objects); err != nil {
		return nil, err
	}
	cat.schema = s
	return s, nil
}

func (cat *catalog) queryInt(sql string) (n int64, err error) {
	err = cat.query(sql, func(row *sqlite3.Stmt) { n = row.ColumnInt64(0) })
	return n, err
}

// query runs a statement on the connection, inside the one that is running.
func (cat *catalog) query(sql string, each func(row *sqlite3.Stmt)) error {
	stmt, _, err := cat.conn.Prepare(sql)
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	defer stmt.Close()
	for stmt.Step() {
		each(stmt)
	}
	if err := stmt.Err(); err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	return nil
}

// object is one row of sqlite_schema.
type object struct {
	typ, name, table, sql string
	temp                  bool
}

func (cat *catalog) readObjects() ([]object, uint64, error) {
	const q = `SELECT type, name, tbl_name, sql, 0 FROM main.sqlite_schema
		UNION ALL SELECT type, name, tbl_name, sql, 1 FROM temp.sqlite_schema`
	var objects []object
	hash := xxh3.New()
	err := cat.query(q, func(row *sqlite3.Stmt) {
		o := object{row.ColumnText(0), row.ColumnText(1), row.ColumnText(2), row.ColumnText(3), row.ColumnBool(4)}
		for _, part := range []string{o.typ, o.name, o.table, o.sql} {
			_, _ = hash.WriteString(part) // a hash never fails
			_, _ = hash.WriteString("\x00")
		}
		if !strings.HasPrefix(o.name, "sqlite_") && o.table != TokensTable {
			objects = append(objects, o)
		}
	})
	return objects, hash.Sum64(), err
}

func (cat *catalog) build(s *schema, objects []object) error {
	s.tableNames = map[string]*table{}
	for _, o := range objects {
		if o.typ == "table" || o.typ == "view" {
			t := &table{name: o.name, kind: 'r', temp: o.temp, sql: o.sql}
			kind := KindTable
			if o.typ == "view" {
				t.kind, kind = 'v', KindView
			}
			t.oid = ObjectOID(kind, o.name)
			s.tables = append(s.tables, t)
			s.tableNames[strings.ToLower(o.name)] = t
		}
	}
	if err := cat.readColumns(s); err != nil {
		return err
	}
	for _, t := range s.tables {
		if t.kind == 'r' {
			t.readText()
		}
	}
	for _, o := range objects {
		switch t := s.tableNames[strings.ToLower(o.table)]; {
		case t == nil:
		case o.typ == "index" && o.sql != "":
			t.addIndex(o)
		case o.typ == "trigger":
			t.triggers = append(t.triggers, o.name)
		}
	}
	s.link()
	return nil
}

// readColumns reads all columns of all tables in one query.
func (cat *catalog) readColumns(s *schema) error {
	const q = `SELECT m.name, x.name, x.type, x."notnull", x.dflt_value, x.pk, x.hidden
		FROM %[1]s.sqlite_schema m, pragma_table_xinfo(m.name, '%[1]s') x WHERE m.type IN ('table', 'view') ORDER BY m.rowid, x.cid`
	read := func(temp bool) func(*sqlite3.Stmt) {
		return func(row *sqlite3.Stmt) {
			t := s.tableNames[strings.ToLower(row.ColumnText(0))]
			if t == nil || t.temp != temp || row.ColumnInt(6) == 1 {
				return
			}
			c := column{
				name: row.ColumnText(1), number: len(t.columns) + 1,
				notNull: row.ColumnBool(3) || row.ColumnInt(5) > 0, generated: row.ColumnInt(6) > 1,
			}
			if c.typ, c.mod = oid.Declared(row.ColumnText(2)); c.typ == 0 {
				c.typ, c.mod = oid.Text, -1
			}
			if row.ColumnType(4) != sqlite3.NULL {
				c.def = spellDefault(row.ColumnText(4), c.typ)
			}
			t.columns = append(t.columns, c)
		}
	}
	if err := cat.query(fmt.Sprintf(q, "main"), read(false)); err != nil {
		return err
	}
	return cat.query(fmt.Sprintf(q, "temp"), read(true))
}

// spellDefault gives a default as pg_get_expr prints it.
func spellDefault(expr string, typ oid.OID) string {
	expr = strings.TrimSpace(expr)
	tokens := lex(expr)
	switch {
	case len(tokens) == 1 && strings.HasPrefix(expr, "'") && typ == oid.Numeric:
		return strings.Trim(expr, "'")
	case len(tokens) == 1 && strings.HasPrefix(expr, "'"):
		return expr + "::" + typeSpelling(typ, -1)
	case typ == oid.Bool && expr == "1":
		return "true"
	case typ == oid.Bool && expr == "0":
		return "false"
	case len(tokens) == 1 && tokens[0].is("NULL"):
		return ""
	}
	return spell(expr)
}

// readText adds what only the CREATE TABLE text tells: the constraints, and which column counts up.
func (t *table) readText() {
	text := parseTable(t.sql)
	for i := range t.columns {
		c := &t.columns[i]
		if typ, mod := oid.Declared(text.types[strings.ToLower(c.name)]); typ != 0 {
			c.typ, c.mod = typ, mod
		}
	}
	taken := map[string]bool{}
	for _, c := range text.constraints {
		if strings.HasPrefix(c.name, hiddenConstraint) || c.name == serialKey {
			continue
		}
		k := tableConstraint{constraint: c}
		for _, name := range c.columns {
			if n := t.columnNumber(name); n > 0 {
				k.keys = append(k.keys, n)
			}
		}
		if k.kind == 'c' {
			k.check = spell(c.check)
			if len(k.keys) == 0 {
				k.keys = t.mentioned(c.check)
			}
		}
		k.name = t.constraintName(k, taken)
		taken[k.name] = true
		k.oid = ObjectOID(KindConstraint, t.name+"."+k.name)
		if k.kind == 'p' || k.kind == 'u' {
			k.index = &index{name: k.name, oid: ObjectOID(KindIndex, k.name), table: t, unique: true, primary: k.kind == 'p', keys: k.keys}
			for _, n := range k.keys {
				k.index.items = append(k.index.items, indexItem{column: t.columns[n-1].name})
			}
			t.indexes = append(t.indexes, k.index)
		}
		t.constraints = append(t.constraints, k)
	}
	if n := t.columnNumber(text.autoIncrement); n > 0 {
		c := &t.columns[n-1]
		c.serial = true
		t.sequence = t.name + "_" + c.name + "_seq"
		c.def = "nextval(" + quoteLiteral(quoteIdent(t.sequence)) + "::regclass)"
	}
}

// mentioned gives the columns that a check speaks of.
func (t *table) mentioned(expr string) []int {
	var out []int
	seen := map[int]bool{}
	for _, tok := range lex(expr) {
		if n := t.columnNumber(tok.text); tok.word && n > 0 && !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// constraintName is the given name, or the one that PostgreSQL would have chosen.
func (t *table) constraintName(k tableConstraint, taken map[string]bool) string {
	if k.name != "" {
		return k.name
	}
	parts := []string{t.name}
	suffix := map[byte]string{'p': "pkey", 'u': "key", 'f': "fkey", 'c': "check"}[k.kind]
	if k.kind != 'p' && (k.kind != 'c' || len(k.keys) == 1) {
		for _, n := range k.keys {
			parts = append(parts, t.columns[n-1].name)
		}
	}
	base := strings.Join(append(parts, suffix), "_")
	name := base
	for i := 1; taken[name]; i++ {
		name = fmt.Sprintf("%s%d", base, i)
	}
	return name
}

func (t *table) columnNumber(name string) int {
	if name == "" {
		return 0
	}
	for _, c := range t.columns {
		if strings.EqualFold(c.name, name) {
			return c.number
		}
	}
	return 0
}

func (t *table) addIndex(o object) {
	items, where := parseIndex(o.sql)
	i := &index{name: o.name, oid: ObjectOID(KindIndex, o.name), table: t, items: items, where: spell(where)}
	tokens := lex(o.sql)
	i.unique = len(tokens) > 1 && tokens[1].is("UNIQUE")
	for _, item := range items {
		i.keys = append(i.keys, t.columnNumber(item.column))
	}
	t.indexes = append(t.indexes, i)
}

// link resolves foreign keys and fills the maps.
func (s *schema) link() {
	s.relations = map[oid.OID]relationRef{}
	s.names = map[string]oid.OID{}
	add := func(o oid.OID, r relationRef) {
		s.relations[o] = r
		s.names[strings.ToLower(r.name)] = o
	}
	for _, t := range s.tables {
		for i := range t.constraints {
			if k := &t.constraints[i]; k.kind == 'f' {
				s.linkForeignKey(k)
			}
		}
		if t.sequence != "" {
			add(ObjectOID(KindSequence, t.sequence), relationRef{t.sequence, 'S', t, nil})
		}
		for _, i := range t.indexes {
			add(i.oid, relationRef{i.name, 'i', t, i})
		}
	}
	for _, t := range s.tables { // last, so that a table wins over an index of its name
		add(t.oid, relationRef{t.name, t.kind, t, nil})
	}
}

func (s *schema) linkForeignKey(k *tableConstraint) {
	if k.target = s.tableNames[strings.ToLower(k.refTable)]; k.target == nil {
		return
	}
	for _, name := range k.refColumns {
		if n := k.target.columnNumber(name); n > 0 {
			k.refs = append(k.refs, n)
		}
	}
	for _, c := range k.target.constraints {
		if c.kind == 'p' && len(k.refs) == 0 {
			k.refs = c.keys
		}
		if c.index != nil && sameKeys(c.keys, k.refs) {
			k.index = c.index
		}
	}
}

func sameKeys(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// relationOID finds a relation by name. An unqualified name is looked for among the user's first,
// then in pg_catalog.
func (s *schema) relationOID(schemaName, name string) (oid.OID, bool) {
	switch schemaName {
	case "information_schema":
		name = "information_schema_" + name
	case "", "public", "pg_temp":
		if o, ok := s.names[strings.ToLower(name)]; ok {
			return o, true
		}
		if schemaName != "" {
			return 0, false
		}
	case "pg_catalog":
	default:
		return 0, false
	}
	if r := relationByName(name); r != nil {
		return r.oid, true
	}
	return 0, false
}

// relationName gives the name that ::regclass shows: unqualified, for every schema is on the path.
func (s *schema) relationName(o oid.OID) (string, bool) {
	if r, ok := s.relations[o]; ok {
		return r.name, true
	}
	if r := relationByOID(o); r != nil {
		return r.name, true
	}
	return "", false
}

// constraintByOID finds a constraint and its table.
func (s *schema) constraintByOID(o oid.OID) (*table, *tableConstraint) {
	for _, t := range s.tables {
		for i := range t.constraints {
			if t.constraints[i].oid == o {
				return t, &t.constraints[i]
			}
		}
	}
	return nil, nil
}
