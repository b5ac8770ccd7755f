package engine

import (
	"errors"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// explain adds what SQLite does not say to the violation of a constraint: its name and its table.
func (s *Session) explain(err error, c *conn, st *dialect.Statement) error {
	if st.Table == "" || c == nil || c.broken {
		return err
	}
	switch {
	case errors.Is(err, sqlite3.CONSTRAINT_FOREIGNKEY):
		return s.withForeignKey(err, c, st)
	case errors.Is(err, sqlite3.CONSTRAINT_CHECK):
		return withType(s.withTable(err, st.Table), c, st.Table)
	case errors.Is(err, sqlite3.CONSTRAINT_UNIQUE), errors.Is(err, sqlite3.CONSTRAINT_PRIMARYKEY), errors.Is(err, sqlite3.CONSTRAINT_ROWID):
		return s.withUniqueName(err, c)
	case errors.Is(err, sqlite3.MISMATCH) && st.Kind == dialect.Update:
		return nullKey(err, c, st.Table)
	}
	return err
}

// withTable names the table whose check failed.
func (s *Session) withTable(err error, table string) error {
	var e *sqlstate.Error
	if !errors.As(s.translate(err), &e) || e.Code != sqlstate.CheckViolation {
		return err
	}
	e.Message = "new row for relation \"" + table + "\" violates check constraint \"" + e.Constraint + "\""
	e.Schema, e.Table = "public", table
	return e
}

// withType turns the violation of a type's check into the error that PostgreSQL has for it.
func withType(err error, c *conn, name string) error {
	_, column, ok := strings.Cut(err.Error(), typeCheck)
	if !ok {
		return err
	}
	text := typesOn(c).table(name).text
	if text == nil || text.Column(column) == nil {
		return err
	}
	t, mod := text.Column(column).Type()
	spelled := oid.Format(t, mod)
	e := sqlstate.New(sqlstate.InvalidTextRepresentation, "invalid input for type %s in column %q", spelled, column)
	switch t {
	case oid.Varchar, oid.Bpchar:
		e = sqlstate.New(sqlstate.StringTooLong, "value too long for type %s", spelled)
	case oid.Int2, oid.Int4, oid.Int8, oid.Numeric:
		e = sqlstate.New(sqlstate.NumericOutOfRange, "value in column %q is out of range for type %s, or no number", column, spelled)
	case oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz, oid.Interval:
		e = sqlstate.New(sqlstate.InvalidDatetimeFormat, "invalid input for type %s in column %q", spelled, column)
	}
	e.Schema, e.Table, e.Column = "public", name, column
	return e
}

// withUniqueName finds the name of the constraint, or of the index, on the columns that SQLite names.
func (s *Session) withUniqueName(err error, c *conn) error {
	var failed *sqlite3.Error
	if !errors.As(err, &failed) {
		return err
	}
	_, what, _ := strings.Cut(messageOf(failed), "constraint failed: ")
	table, columns := tableAndColumns(what)
	var e *sqlstate.Error
	if len(columns) == 0 || !errors.As(s.translate(err), &e) {
		return err
	}
	if name := c.uniqueName(table, columns); name != "" {
		e.Constraint = name
		e.Message = "duplicate key value violates unique constraint \"" + name + "\""
	}
	return e
}

func (c *conn) uniqueName(table string, columns []string) (name string) {
	for _, k := range c.constraints(table) {
		if (k.Kind == dialect.Unique || k.Kind == dialect.PrimaryKey) && slices.EqualFunc(k.Columns, columns, strings.EqualFold) {
			return k.Name
		}
	}
	// Without this the name is the one that PostgreSQL would have made.
	_ = c.query(`SELECT l.name FROM pragma_index_list(?1) l WHERE l.origin = 'c' AND l."unique"
		AND (SELECT group_concat(i.name, ', ') FROM pragma_index_info(l.name) i) = ?2`,
		func(st *sqlite3.Stmt) { name = st.ColumnText(0) }, table, strings.Join(columns, ", "))
	return name
}

// constraints gives a table's constraints, those of its columns too.
func (c *conn) constraints(table string) (all []dialect.Constraint) {
	sql, err := c.tableText(table)
	if err != nil || sql == "" {
		return nil
	}
	text, err := dialect.ParseTable(sql)
	if err != nil {
		return nil
	}
	all = append(all, text.Constraints...)
	for _, column := range text.Columns {
		for _, k := range column.Constraints {
			if len(k.Columns) == 0 {
				k.Columns = []string{column.Name}
			}
			all = append(all, k)
		}
	}
	return all
}

// nullKey is what SQLite means by a datatype mismatch in an UPDATE: the row's number would be NULL.
func nullKey(err error, c *conn, table string) error {
	for _, k := range c.constraints(table) {
		if k.Kind == dialect.PrimaryKey && len(k.Columns) == 1 {
			return notNull(table, k.Columns[0])
		}
	}
	return err
}

func notNull(table, column string) *sqlstate.Error {
	e := sqlstate.New(sqlstate.NotNullViolation, "null value in column %q of relation %q violates not-null constraint", column, table)
	e.Schema, e.Table, e.Column = "public", table, column
	return e
}

// foreignKey is one foreign key of a table to another.
type foreignKey struct{ name, child, parent string }

// foreignKeys lists the foreign keys of a table.
func (c *conn) foreignKeys(child string) (keys []foreignKey) {
	for _, k := range c.constraints(child) {
		if k.Kind == dialect.ForeignKey {
			keys = append(keys, foreignKey{k.Name, child, k.RefName})
		}
	}
	return keys
}

// references lists the foreign keys that refer to a table.
func (c *conn) references(parent string) (keys []foreignKey) {
	var children []string
	// Without these the error merely lacks its fields.
	_ = c.query(`SELECT DISTINCT s.name FROM sqlite_schema s, pragma_foreign_key_list(s.name) f WHERE s.type = 'table' AND f."table" = ?1 COLLATE NOCASE`,
		func(st *sqlite3.Stmt) { children = append(children, st.ColumnText(0)) }, parent)
	for _, child := range children {
		for _, k := range c.foreignKeys(child) {
			if strings.EqualFold(k.parent, parent) {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// withForeignKey tells which table and, where there is only one that it can be, which foreign key. An
// UPDATE of a table that has foreign keys and is referred to is taken for the violation of its own.
func (s *Session) withForeignKey(err error, c *conn, st *dialect.Statement) error {
	var keys []foreignKey
	if st.Kind != dialect.Delete {
		keys = c.foreignKeys(st.Table)
	}
	if len(keys) > 0 {
		e := sqlstate.New(sqlstate.ForeignKeyViolation, "insert or update on table %q violates foreign key constraint", st.Table)
		e.Schema, e.Table = "public", st.Table
		if len(keys) == 1 {
			e.Constraint = keys[0].name
			e.Message += ` "` + e.Constraint + `"`
			_ = e.WithDetail("Key is not present in table %q.", keys[0].parent)
		}
		return e
	}
	if keys = c.references(st.Table); len(keys) == 0 {
		return err
	}
	e := sqlstate.New(sqlstate.ForeignKeyViolation, "update or delete on table %q violates foreign key constraint", st.Table)
	e.Schema, e.Table = "public", st.Table
	if len(keys) == 1 {
		k := keys[0]
		e.Constraint, e.Table = k.name, k.child
		e.Message += ` "` + k.name + `" on table "` + k.child + `"`
		_ = e.WithDetail("Key is still referenced from table %q.", k.child)
	}
	return e
}

// typeCheck starts the names of the constraints that stand for PostgreSQL's types.
const typeCheck = "skein_type_"

// constraint reads "UNIQUE constraint failed: t.a, t.b" and its like.
func constraint(extended sqlite3.ExtendedErrorCode, msg string) *sqlstate.Error {
	_, what, _ := strings.Cut(msg, "constraint failed: ")
	table, columns := tableAndColumns(what)
	switch extended {
	case sqlite3.CONSTRAINT_UNIQUE, sqlite3.CONSTRAINT_PRIMARYKEY, sqlite3.CONSTRAINT_ROWID:
		name := table + "_" + strings.Join(columns, "_") + "_key"
		if extended != sqlite3.CONSTRAINT_UNIQUE {
			name = table + "_pkey"
		}
		if index, ok := strings.CutPrefix(what, "index "); ok { // an index on expressions
			table, columns, name = "", nil, strings.Trim(index, "'")
		}
		e := sqlstate.New(sqlstate.UniqueViolation, "duplicate key value violates unique constraint %q", name)
		if len(columns) > 0 {
			_ = e.WithDetail("Key (%s) already exists.", strings.Join(columns, ", "))
		}
		e.Schema, e.Table, e.Constraint = "public", table, name
		return e
	case sqlite3.CONSTRAINT_NOTNULL:
		column := ""
		if len(columns) > 0 {
			column = columns[0]
		}
		return notNull(table, column)
	case sqlite3.CONSTRAINT_FOREIGNKEY:
		return sqlstate.New(sqlstate.ForeignKeyViolation, "insert, update or delete violates a foreign key constraint")
	case sqlite3.CONSTRAINT_CHECK:
		if column, ok := strings.CutPrefix(what, typeCheck); ok {
			e := sqlstate.New(sqlstate.InvalidTextRepresentation, "value does not fit the type of column %q", column)
			e.Column = column
			return e
		}
		e := sqlstate.New(sqlstate.CheckViolation, "new row violates check constraint %q", what)
		e.Constraint = what
		return e
	case sqlite3.CONSTRAINT_TRIGGER:
		return sqlstate.New("P0001", "%s", msg)
	}
	return sqlstate.New(sqlstate.IntegrityViolation, "%s", msg)
}

// tableAndColumns splits "t.a, t.b".
func tableAndColumns(what string) (table string, columns []string) {
	for _, part := range strings.Split(what, ", ") {
		t, c, ok := strings.Cut(part, ".")
		if !ok {
			return "", nil
		}
		table, columns = t, append(columns, c)
	}
	return table, columns
}
