package pgcatalog

import (
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/oid"
)

// relation describes one catalog table. The list of them is shared by all connections.
type relation struct {
	name    string
	oid     oid.OID
	columns string              // "name type, name type": PostgreSQL's columns in its order
	rows    func(b *rowBuilder) // lists every row; nil for a table that is always empty
}

// field is one column of a relation.
type field struct {
	name string
	typ  oid.OID
}

// fields reads the column list.
func (r *relation) fields() []field {
	items := strings.Split(r.columns, ",")
	out := make([]field, len(items))
	for i, item := range items {
		name, typ, _ := strings.Cut(strings.TrimSpace(item), " ")
		out[i] = field{name, oid.Text}
		if t := oid.ByName(typ); t != nil {
			out[i].typ = t.OID
		} else if t := typeByName(typ); t != nil {
			out[i].typ = t.oid
		}
	}
	return out
}

// declaration is the CREATE TABLE text for SQLite. Each type keeps PostgreSQL's spelling for
// Describe; a suffix _text gives those that hold text the affinity that leaves text alone.
func (r *relation) declaration() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE x(")
	for i, item := range strings.Split(r.columns, ",") {
		if i > 0 {
			b.WriteString(", ")
		}
		name, typ, _ := strings.Cut(strings.TrimSpace(item), " ")
		switch typ {
		case `"char"`:
			typ = `"""char"""` // SQLite takes one pair of quotes off
		case "text", "varchar", "bool", "oid", "int2", "int4", "int8", "float4", "float8", "regproc", "xid":
		default:
			typ += "_text"
		}
		b.WriteString(`"` + name + `" ` + typ)
		if typ == "numeric_text" || typ == "pg_lsn_text" {
			b.WriteString(" COLLATE " + strings.TrimSuffix(typ, "_text"))
		}
	}
	b.WriteString(", tableoid oid HIDDEN)")
	return b.String()
}

func (r *relation) register(cat *catalog) error {
	connect := func(db *sqlite3.Conn, _, _, _ string, _ ...string) (*catalogTable, error) {
		if err := db.VTabConfig(sqlite3.VTAB_INNOCUOUS); err != nil {
			return nil, err
		}
		return &catalogTable{catalog: cat, relation: r, fields: r.fields()}, db.DeclareVTab(r.declaration())
	}
	return createModule(cat.conn, r.name, connect)
}

// createModule installs an eponymous virtual table: one that is there without CREATE VIRTUAL TABLE.
func createModule[T sqlite3.VTab](c *sqlite3.Conn, name string, connect sqlite3.VTabConstructor[T]) error {
	//lint:ignore SA1019 the method that replaces it needs a later Go
	return sqlite3.CreateModule(c, name, nil, connect)
}

// rowBuilder collects the rows of a relation.
type rowBuilder struct {
	*catalog
	schema *schema
	rows   [][]any
}

// add takes one row: nil, bool, int, int64, float64, string or OID for each column in order.
func (b *rowBuilder) add(values ...any) {
	for i, v := range values {
		switch v := v.(type) {
		case oid.OID:
			values[i] = int64(v)
		case int:
			values[i] = int64(v)
		case int16:
			values[i] = int64(v)
		case int32:
			values[i] = int64(v)
		case byte:
			values[i] = string(rune(v))
		}
	}
	b.rows = append(b.rows, values)
}

// catalogTable is a relation on one connection.
type catalogTable struct {
	*catalog
	*relation
	fields []field
}

// rowCache holds the rows of a relation while any cursor on any catalog table is open, so that the
// inner table of a join is listed once, and nothing is kept between statements.
type rowCache struct {
	stamp   time.Time // StatementTime of the statement that listed them
	rows    [][]any
	indexes map[int]map[any][]int // by column: positions in rows by value
}

// BestIndex takes every equality: the first finds the rows in a hash of that column.
func (t *catalogTable) BestIndex(idx *sqlite3.IndexInfo) error {
	var used []string
	for i, c := range idx.Constraint {
		if !c.Usable || c.Op != sqlite3.INDEX_CONSTRAINT_EQ || c.Column < 0 || c.Column >= len(t.fields) {
			continue
		}
		isBool := t.fields[c.Column].typ == oid.Bool
		if !isBool && !strings.EqualFold(idx.Collation(i), "BINARY") {
			continue
		}
		// SQLite would find 0 = 'f' false; clients write it of booleans, so the test is left to Filter.
		idx.ConstraintUsage[i] = sqlite3.IndexConstraintUsage{ArgvIndex: len(used) + 1, Omit: isBool}
		used = append(used, strconv.Itoa(c.Column))
	}
	idx.IdxStr = strings.Join(used, " ")
	idx.EstimatedRows, idx.EstimatedCost = 1000, 100000
	if len(used) > 0 {
		idx.EstimatedRows, idx.EstimatedCost = 5, 10/float64(len(used))
	}
	return nil
}

func (t *catalogTable) Open() (sqlite3.VTabCursor, error) {
	t.openCursors++
	return &catalogCursor{table: t}, nil
}

// listed gives the rows, made now or by an earlier cursor of this statement.
func (t *catalogTable) listed() (*rowCache, error) {
	// A cursor of an open portal may hold the cache over statements.
	now := t.sess().StatementTime()
	if c := t.caches[t.relation]; c != nil && c.stamp.Equal(now) {
		return c, nil
	}
	b := &rowBuilder{catalog: t.catalog}
	if t.relation.rows != nil {
		var err error
		if b.schema, err = t.loadSchema(); err != nil {
			return nil, err
		}
		t.relation.rows(b)
	}
	if t.caches == nil {
		t.caches = map[*relation]*rowCache{}
	}
	c := &rowCache{stamp: now, rows: b.rows, indexes: map[int]map[any][]int{}}
	t.caches[t.relation] = c
	return c, nil
}

// index gives the positions of rows by the values of a column.
func (c *rowCache) index(column int) map[any][]int {
	if m := c.indexes[column]; m != nil {
		return m
	}
	m := make(map[any][]int, len(c.rows))
	for i, row := range c.rows {
		m[row[column]] = append(m[row[column]], i)
	}
	c.indexes[column] = m
	return m
}

type catalogCursor struct {
	table *catalogTable
	cache *rowCache
	match []int // positions in cache.rows; all rows when nil and whole
	whole bool
	at    int
}

func (c *catalogCursor) Close() error {
	cat := c.table.catalog
	if cat.openCursors--; cat.openCursors == 0 {
		cat.caches, cat.checked = nil, false
	}
	return nil
}

func (c *catalogCursor) Filter(_ int, idxStr string, arg ...sqlite3.Value) error {
	cache, err := c.table.listed()
	if err != nil {
		return err
	}
	c.cache, c.at, c.match, c.whole = cache, 0, nil, true
	for i, column := range strings.Fields(idxStr) {
		n, err := strconv.Atoi(column)
		if err != nil || i >= len(arg) || n >= len(c.table.fields) {
			continue
		}
		key, ok := keyOf(arg[i], c.table.fields[n].typ)
		switch {
		case !ok:
			c.match = nil
		case c.whole:
			c.match = cache.index(n)[key]
		default:
			c.match = keep(c.match, func(at int) bool { return cache.rows[at][n] == key })
		}
		c.whole = false
	}
	return nil
}

func keep(positions []int, ok func(int) bool) []int {
	var out []int
	for _, p := range positions {
		if ok(p) {
			out = append(out, p)
		}
	}
	return out
}

// keyOf gives a compared value as the column holds it; false when no row can have it.
func keyOf(v sqlite3.Value, typ oid.OID) (any, bool) {
	switch typ {
	case oid.Bool:
		if v.Type() == sqlite3.TEXT {
			b, ok := parseBool(v.Text())
			return b, ok
		}
		return v.Int64() != 0, v.Type() == sqlite3.INTEGER
	case oid.OIDType, oid.Int2, oid.Int4, oid.Int8, oid.Regproc, oid.XID:
		if v.Type() == sqlite3.INTEGER {
			return v.Int64(), true
		}
		n, err := strconv.ParseInt(strings.TrimSpace(v.Text()), 10, 64)
		return n, err == nil && v.Type() == sqlite3.TEXT
	case oid.Float4, oid.Float8:
		return v.Float(), v.Type() != sqlite3.NULL
	}
	return v.Text(), v.Type() != sqlite3.NULL
}

func (c *catalogCursor) EOF() bool {
	if c.whole {
		return c.at >= len(c.cache.rows)
	}
	return c.at >= len(c.match)
}

func (c *catalogCursor) Next() error {
	c.at++
	return nil
}

func (c *catalogCursor) position() int {
	if c.whole {
		return c.at
	}
	return c.match[c.at]
}

func (c *catalogCursor) RowID() (int64, error) { return int64(c.position()), nil }

func (c *catalogCursor) Column(ctx sqlite3.Context, n int) error {
	switch row := c.cache.rows[c.position()]; {
	case n == len(c.table.fields):
		ctx.ResultInt64(int64(c.table.oid)) // tableoid
	case n >= 0 && n < len(row):
		setResult(ctx, row[n])
	}
	return nil
}
