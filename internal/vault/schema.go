package vault

import (
	"slices"
	"strings"
)

// Table is a table as its CREATE TABLE describes it.
type Table struct {
	Name         string
	Columns      []Column
	WithoutRowid bool
	SQL          string // as SQLite keeps it

	root  uint32
	key   []int // columns of the primary key, in its order
	rowid int   // the column that is the rowid; -1: none is
	kept  []int // the column of each value that a record has
}

// Column of a table.
type Column struct {
	Name      string
	Type      string // as declared
	Generated bool   // computed from others: nobody writes it
}

// Key gives the names of the primary key's columns; none if the table has no primary key.
func (t *Table) Key() (names []string) {
	for _, i := range t.key {
		names = append(names, t.Columns[i].Name)
	}
	return names
}

// object is a row of sqlite_schema.
type object struct {
	kind, name, table, sql string
	root                   uint32
}

// schema is what sqlite_schema says at one point.
type schema struct {
	objects []object
	tables  map[string]*Table // those that have rows, by name
	roots   map[uint32]*Table
	pages   map[uint32]bool // of sqlite_schema itself
	ordered []*Table        // in order of name
}

func newSchema(objects []object, pages map[uint32]bool) *schema {
	s := &schema{objects: objects, tables: map[string]*Table{}, roots: map[uint32]*Table{}, pages: pages}
	for _, o := range objects {
		if o.kind != "table" || o.root == 0 {
			continue
		}
		t, err := parseTable(o.sql)
		if err != nil {
			t = &Table{rowid: -1} // its rows are shown without names
		}
		t.Name, t.SQL, t.root = o.name, o.sql, o.root
		s.tables[o.name], s.roots[o.root] = t, t
		s.ordered = append(s.ordered, t)
	}
	slices.SortFunc(s.ordered, func(a, b *Table) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// objectOf reads a row of sqlite_schema.
func objectOf(row []Value) (o object, ok bool) {
	if len(row) < 5 {
		return o, false
	}
	o = object{kind: string(row[0].Bytes), name: string(row[1].Bytes), table: string(row[2].Bytes), sql: string(row[4].Bytes)}
	if row[3].Kind == Integer && row[3].Int >= 0 && row[3].Int < 1<<32 {
		o.root = uint32(row[3].Int)
	}
	return o, true
}

// internal says whether a table is SQLite's own, or the engine's of transaction tokens: that of what was lost a token is
// known would be wrong.
func internal(name string) bool {
	return len(name) >= 7 && strings.EqualFold(name[:7], "sqlite_") || name == "skein_transaction_tokens"
}

// DDL is a change of the schema.
type DDL struct {
	Kind   string // create, drop, alter
	Type   string // table, index, view, trigger
	Name   string
	Before string // the statement that made it; of what was altered or dropped
	After  string // of what was created or altered
}

// SQL says what happened, as a statement, or for what was altered as a comment before what it has become.
func (d DDL) SQL() string {
	switch d.Kind {
	case "drop":
		return "DROP " + strings.ToUpper(d.Type) + " " + name(d.Name)
	case "alter":
		return "-- " + d.Type + " " + d.Name + " was altered; it is now\n" + d.After
	}
	return d.After
}

// ddl compares two schemas.
func ddl(before, after *schema) (list []DDL) {
	key := func(o object) string { return o.kind + " " + o.name }
	was := map[string]object{}
	for _, o := range before.objects {
		was[key(o)] = o
	}
	var created []DDL
	for _, o := range after.objects {
		old, ok := was[key(o)]
		delete(was, key(o))
		d := DDL{Type: o.kind, Name: o.name, Before: old.sql, After: o.sql}
		switch {
		case o.sql == "" || internal(o.name) || old.sql == o.sql: // an index that belongs to a constraint has no statement
		case ok:
			d.Kind = "alter"
			created = append(created, d)
		default:
			d.Kind = "create"
			created = append(created, d)
		}
	}
	for _, o := range before.objects {
		if _, gone := was[key(o)]; gone && o.sql != "" && !internal(o.name) {
			list = append(list, DDL{Kind: "drop", Type: o.kind, Name: o.name, Before: o.sql})
		}
	}
	return append(list, created...)
}
