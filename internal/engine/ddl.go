package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/sqlstate"
)

// schemaChange runs fn as a write that changes the schema.
func (s *Session) schemaChange(ctx context.Context, fn func(*conn) error) error {
	l, err := s.lease(ctx, true)
	if err != nil {
		return err
	}
	defer l.give()
	s.tx.ddl = true
	s.edits++
	return s.guard(l.conn, func() error { return fn(l.conn) })
}

// runDDL runs CREATE, ALTER and DROP statements that SQLite has.
func (s *Session) runDDL(ctx context.Context, st *dialect.Statement) error {
	if err := reservesTokens(st.SQL); err != nil {
		return err
	}
	if isTemporary(st.SQL[0]) {
		if err := s.takeOwn(); err != nil {
			return err
		}
	}
	return s.schemaChange(ctx, func(c *conn) error {
		if st.IfExists {
			if err := s.noticeSkips(c, st); err != nil {
				return err
			}
		}
		if st.Tag == "DROP TABLE" {
			return s.dropTables(c, st)
		}
		if st.View != nil {
			return s.createView(c, st)
		}
		if st.Index != nil {
			return c.createIndex(st.Index)
		}
		return c.script(st.SQL)
	})
}

// createView makes a view whose text computes exactly, whoever reads it.
func (s *Session) createView(c *conn, st *dialect.Statement) error {
	last := len(st.SQL) - 1
	if err := c.script(st.SQL[:last]); err != nil { // OR REPLACE drops the old one
		return err
	}
	p, err := analyse(c, st.View.Query, nil)
	if err != nil {
		return err
	}
	return c.exec(st.View.Head + p.sql)
}

// createIndex makes an index that the statement does not name, under the first name that is free.
func (c *conn) createIndex(x *dialect.IndexStmt) error {
	for n := 0; ; n++ {
		name := x.Name(n)
		if found, err := c.exists(name); err != nil {
			return err
		} else if !found {
			return c.exec(x.SQL(name))
		}
	}
}

// dropTables drops tables in any order. Rows that other tables refer to must not go by way of the drop.
func (s *Session) dropTables(c *conn, st *dialect.Statement) error {
	names := st.Names
	if len(names) == 0 {
		names = []string{st.Table}
	}
	for _, name := range names {
		from, err := c.referrer(name, names)
		if err != nil {
			return err
		}
		if from != "" {
			return sqlstate.New(sqlstate.DependentObjects, "cannot drop table %s because other objects depend on it", name).
				WithDetail("A foreign key of table %s refers to it.", from).
				WithHint("Drop that table, or its foreign key, first.")
		}
	}
	return c.withoutForeignKeys(st.SQL)
}

// referrer gives a table, other than those in except, with a foreign key to the table; "" for none.
func (c *conn) referrer(table string, except []string) (from string, err error) {
	err = c.query(`SELECT s.name FROM sqlite_schema s, pragma_foreign_key_list(s.name) f WHERE s.type = 'table' AND f."table" = ?1 COLLATE NOCASE`, func(st *sqlite3.Stmt) {
		name := st.ColumnText(0)
		if !slices.ContainsFunc(except, func(e string) bool { return strings.EqualFold(e, name) }) {
			from = name
		}
	}, table)
	return from, err
}

func isTemporary(sql string) bool {
	f := strings.Fields(sql)
	return len(f) > 2 && strings.EqualFold(f[0], "CREATE") && (strings.EqualFold(f[1], "TEMP") || strings.EqualFold(f[1], "TEMPORARY"))
}

// takeOwn gives the session a connection of its own: SQLite keeps temporary tables with the connection.
func (s *Session) takeOwn() error {
	if s.readOnly() {
		return s.refuseWrite()
	}
	if s.own != nil {
		return nil
	}
	if s.tx.conn != nil {
		return sqlstate.New(sqlstate.FeatureNotSupported, "the first temporary table of a session must be created outside of a transaction block, or first in it")
	}
	c, err := s.db.open()
	if err != nil {
		return err
	}
	s.own = c
	return nil
}

// noticeSkips tells what IF EXISTS and IF NOT EXISTS pass over.
func (s *Session) noticeSkips(c *conn, st *dialect.Statement) error {
	names := st.Names
	if len(names) == 0 {
		names = []string{st.Name}
		if st.Name == "" {
			names = []string{st.Table}
		}
	}
	kind := strings.ToLower(st.Tag[strings.LastIndexByte(st.Tag, ' ')+1:])
	for _, name := range names {
		if name == "" {
			continue
		}
		found, err := c.exists(name)
		if err != nil {
			return err
		}
		switch drop := strings.HasPrefix(st.Tag, "DROP"); {
		case drop && !found:
			s.out.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "%s %q does not exist, skipping", kind, name))
		case !drop && found && strings.HasPrefix(st.Tag, "CREATE"):
			s.out.Notice(sqlstate.New(sqlstate.DuplicateTable, "relation %q already exists, skipping", name))
		}
	}
	return nil
}

// renameIndex makes an index anew under another name, or renames the constraint that has it.
func (s *Session) renameIndex(c *conn, from, to string, ifExists bool) error {
	switch taken, err := c.exists(to); {
	case err != nil:
		return err
	case taken:
		return sqlstate.New(sqlstate.DuplicateTable, "relation %q already exists", to)
	}
	create, owner := "", ""
	if err := c.query("SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?1 COLLATE NOCASE AND sql IS NOT NULL", func(st *sqlite3.Stmt) {
		create = st.ColumnText(0)
	}, from); err != nil {
		return err
	}
	if create != "" {
		return c.script([]string{"DROP INDEX " + quote(from), dialect.NameIndex(create, to)})
	}
	var tables []string
	if err := c.query("SELECT name FROM sqlite_schema WHERE type = 'table'", func(st *sqlite3.Stmt) { tables = append(tables, st.ColumnText(0)) }); err != nil {
		return err
	}
	for _, table := range tables {
		if slices.ContainsFunc(c.constraints(table), func(k dialect.Constraint) bool {
			return k.Name == from && (k.Kind == dialect.Unique || k.Kind == dialect.PrimaryKey)
		}) {
			owner = table
		}
	}
	switch {
	case owner != "":
		return s.rebuild(c, &dialect.TableEdit{Table: owner, Changes: []dialect.Change{{Op: dialect.RenameConstraint, Name: from, NewName: to}}})
	case ifExists:
		s.out.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "relation %q does not exist, skipping", from))
		return nil
	}
	return sqlstate.New(sqlstate.UndefinedTable, "relation %q does not exist", from)
}

// rebuild makes a change of a table that SQLite's ALTER TABLE lacks: a new table with the new text takes
// the rows and the place of the old one. Source of the steps: sqlite.org/lang_altertable.html.
func (s *Session) rebuild(c *conn, edit *dialect.TableEdit) error {
	table, err := c.tableText(edit.Table)
	if err != nil {
		return err
	}
	if table == "" {
		if edit.IfExists {
			s.out.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "relation %q does not exist, skipping", edit.Table))
			return nil
		}
		return sqlstate.New(sqlstate.UndefinedTable, "relation %q does not exist", edit.Table)
	}
	newName := "skein_rebuild_" + edit.Table
	create, err := dialect.EditTable(table, newName, edit)
	if err != nil {
		return err
	}
	if create == "" { // IF EXISTS or IF NOT EXISTS left nothing to do
		return nil
	}
	fill, err := dialect.CopyRows(table, newName, edit)
	if err != nil {
		return err
	}
	var after []string // indexes and triggers go with the old table
	if err := c.query("SELECT sql, type FROM sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY rowid", func(st *sqlite3.Stmt) {
		if sql := st.ColumnText(0); st.ColumnText(1) == "trigger" || edit.KeepsIndex(sql) {
			after = append(after, sql)
		}
	}, edit.Table); err != nil {
		return err
	}
	// Dropping a table that others refer to must not run their ON DELETE actions, and renaming must
	// leave their references alone.
	sequence, err := c.sequence(edit.Table, newName)
	if err != nil {
		return err
	}
	script := slices.Concat([]string{create, fill}, sequence,
		[]string{"DROP TABLE " + quote(edit.Table), "ALTER TABLE " + quote(newName) + " RENAME TO " + quote(edit.Table)}, after)
	if err := c.withoutForeignKeys(script); err != nil {
		return s.named(err, newName, edit.Table)
	}
	return c.checkForeignKeys(edit.Table)
}

// named gives the table its own name in an error that speaks of the new one.
func (s *Session) named(err error, newName, table string) error {
	var e *sqlstate.Error
	if !errors.As(s.translate(err), &e) || !strings.Contains(e.Message+e.Table, newName) {
		return err
	}
	with := *e
	for _, field := range []*string{&with.Message, &with.Table, &with.Constraint} {
		*field = strings.ReplaceAll(*field, newName, table)
	}
	return &with
}

// sequence has the table to go on with the numbers of the table from: those of rows that were deleted are not
// given again.
func (c *conn) sequence(from, to string) ([]string, error) {
	if found, err := c.exists("sqlite_sequence"); err != nil || !found {
		return nil, err
	}
	return []string{
		"DELETE FROM sqlite_sequence WHERE name = " + literal(to),
		"INSERT INTO sqlite_sequence SELECT " + literal(to) + ", seq FROM sqlite_sequence WHERE name = " + literal(from) + " COLLATE NOCASE",
	}, nil
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// configure switches foreign keys, and with their absence SQLite's plain renaming.
func (c *conn) configure(foreignKeys bool) error {
	_, err := c.sqlite.Config(sqlite3.DBCONFIG_ENABLE_FKEY, foreignKeys)
	_, err2 := c.sqlite.Config(sqlite3.DBCONFIG_LEGACY_ALTER_TABLE, !foreignKeys)
	return errors.Join(err, err2)
}

// withoutForeignKeys runs statements that may break foreign keys for a while.
func (c *conn) withoutForeignKeys(script []string) error {
	if err := c.configure(false); err != nil {
		return err
	}
	return errors.Join(c.script(script), c.configure(true))
}

func (c *conn) script(script []string) error {
	for _, sql := range script {
		if err := c.exec(sql); err != nil {
			return err
		}
	}
	return nil
}

// tableText gives a table's CREATE TABLE. A temporary one hides a lasting one of the same name.
func (c *conn) tableText(name string) (sql string, err error) {
	err = c.query(`SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE
		UNION ALL SELECT sql FROM sqlite_temp_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE`, func(st *sqlite3.Stmt) { sql = st.ColumnText(0) }, name)
	return sql, err
}

// checkForeignKeys refuses rows that break the table's foreign keys, which a rebuild does not check.
func (c *conn) checkForeignKeys(table string) error {
	broken := ""
	if err := c.query("SELECT \"parent\" FROM pragma_foreign_key_check(?1) LIMIT 1", func(st *sqlite3.Stmt) { broken = st.ColumnText(0) }, table); err != nil {
		return err
	}
	if broken != "" {
		e := sqlstate.New(sqlstate.ForeignKeyViolation, "insert or update on table %q violates a foreign key constraint", table).
			WithDetail("A row refers to one that is not present in table %q.", broken)
		e.Schema, e.Table = "public", table
		return e
	}
	return nil
}

// createTableAs makes a table of a query's rows, with the query's types.
func (s *Session) createTableAs(ctx context.Context, st *dialect.Statement) (string, error) {
	as := st.CreateAs
	if as.Temp {
		if err := s.takeOwn(); err != nil {
			return "", err
		}
	}
	rows := int64(0)
	err := s.schemaChange(ctx, func(c *conn) error {
		if as.IfNotExists {
			if found, err := c.exists(as.Table); err != nil || found {
				s.out.Notice(sqlstate.New(sqlstate.DuplicateTable, "relation %q already exists, skipping", as.Table))
				return err
			}
		}
		p, err := s.plan(c, as.Query, nil)
		if err != nil {
			return err
		}
		names, types := make([]string, len(p.fields)), make([]dialect.ParamType, len(p.fields))
		for i, f := range p.fields {
			names[i], types[i] = f.Name, dialect.ParamType{OID: f.Type, Mod: f.Mod}
		}
		create, err := as.Create(names, types)
		if err != nil {
			return err
		}
		if err := c.exec(create); err != nil || as.NoData {
			return err
		}
		if err := c.exec("INSERT INTO " + quote(as.Table) + " " + p.sql); err != nil {
			return err
		}
		rows = c.sqlite.Changes()
		return nil
	})
	if as.NoData {
		return "CREATE TABLE AS", err
	}
	return "SELECT " + strconv.FormatInt(rows, 10), err
}
