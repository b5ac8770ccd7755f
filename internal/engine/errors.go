package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/dialect"
	"skein/internal/oid"
	"skein/internal/pagestore"
	"skein/internal/sqlstate"
)

// translate gives the error that the client gets. SQLite reports most of what goes wrong in a
// statement as one code with a text, so for those the text is all there is to tell them apart.
func (s *Session) translate(err error) error {
	var known *sqlstate.Error
	if errors.As(err, &known) {
		return known
	}
	failure := s.failure
	s.failure = nil
	if errors.Is(err, sqlite3.INTERRUPT) || errors.Is(err, context.Canceled) {
		return s.interrupted()
	}
	if failure != nil {
		return failure
	}
	if inner := s.storageError(err); inner != nil {
		return inner
	}
	var e *sqlite3.Error
	if !errors.As(err, &e) {
		var code sqlite3.ExtendedErrorCode
		if !errors.As(err, &code) {
			return sqlstate.New(sqlstate.InternalError, "%v", err)
		}
		return byCode(sqlite3.ErrorCode(code), code, err.Error())
	}
	return byCode(e.Code(), e.ExtendedCode(), messageOf(e))
}

// interrupted gives the reason why the statement was interrupted.
func (s *Session) interrupted() error {
	var cause *sqlstate.Error
	if errors.As(s.interruptCause(), &cause) {
		return cause
	}
	return errCanceled
}

// storageError looks for what the page store or the log said behind SQLite's error.
func (s *Session) storageError(err error) error {
	switch {
	case errors.Is(err, pagestore.ErrSnapshotTooOld):
		return sqlstate.New(sqlstate.SnapshotTooOld, "snapshot too old").
			WithDetail("The memory for old page versions is used up, and this transaction was the oldest that needed them.").
			WithHint("Use shorter transactions, or give the node more memory for versions.")
	case errors.Is(err, pagestore.ErrDamaged):
		return sqlstate.New(sqlstate.DataCorrupted, "%v", err)
	case errors.Is(err, commit.ErrDiskFull):
		return sqlstate.New(sqlstate.DiskFull, "%v", err).WithHint("Free disk space; nothing needs to be restarted.")
	}
	return nil
}

// messageOf is SQLite's own text, without the binding's prefix.
func messageOf(e *sqlite3.Error) string {
	_, text, ok := strings.Cut(strings.TrimPrefix(e.Error(), "sqlite3: "), ": ")
	if !ok {
		return e.Error()
	}
	return text
}

func byCode(code sqlite3.ErrorCode, extended sqlite3.ExtendedErrorCode, msg string) *sqlstate.Error {
	switch code {
	case sqlite3.CONSTRAINT:
		return constraint(extended, msg)
	case sqlite3.BUSY:
		if extended == sqlite3.BUSY_SNAPSHOT {
			return errSerialize
		}
		return errLockTimeout
	case sqlite3.LOCKED:
		return sqlstate.New(sqlstate.ObjectInUse, "the table is in use by an open cursor of this session")
	case sqlite3.FULL:
		return sqlstate.New(sqlstate.DiskFull, "no space left on disk: %s", msg).WithHint("Free disk space; nothing needs to be restarted.")
	case sqlite3.NOMEM:
		return sqlstate.New(sqlstate.OutOfMemory, "out of memory")
	case sqlite3.IOERR, sqlite3.CANTOPEN:
		return sqlstate.New(sqlstate.IOError, "disk error: %s", msg)
	case sqlite3.CORRUPT, sqlite3.NOTADB:
		return sqlstate.New(sqlstate.DataCorrupted, "the database is damaged: %s", msg)
	case sqlite3.TOOBIG:
		return sqlstate.New(sqlstate.ProgramLimitExceeded, "value or statement is too large (limit: 64 MB)")
	case sqlite3.AUTH:
		return sqlstate.New(sqlstate.InsufficientPrivilege, "not allowed: %s", msg)
	case sqlite3.READONLY:
		return sqlstate.New(sqlstate.ReadOnlyTransaction, "cannot execute this statement in a read-only transaction")
	case sqlite3.MISMATCH:
		return sqlstate.New(sqlstate.DatatypeMismatch, "data type mismatch")
	case sqlite3.ERROR:
		return byText(msg)
	}
	return sqlstate.New(sqlstate.InternalError, "%s", msg)
}

// explain adds what SQLite does not say to a constraint's violation.
func (s *Session) explain(err error, p *portal) error {
	switch {
	case p.statement.Table == "":
		return err
	case errors.Is(err, sqlite3.CONSTRAINT_FOREIGNKEY):
		return s.withForeignKey(err, p)
	case errors.Is(err, sqlite3.CONSTRAINT_CHECK):
		return s.withType(err, p.lease.conn, p.statement.Table)
	}
	return err
}

// withType turns the violation of a type's check into the error that PostgreSQL has for it.
func (s *Session) withType(err error, c *conn, name string) error {
	_, column, ok := strings.Cut(err.Error(), typeCheck)
	if !ok {
		return err
	}
	text := columnTypes{conn: c, tables: map[string]*table{}}.table(name).text
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

// withForeignKey adds to a foreign key's violation what SQLite does not say: which table and, where
// there is only one that it can be, which constraint.
func (s *Session) withForeignKey(err error, p *portal) error {
	table, child := p.statement.Table, p.statement.Kind != dialect.Delete
	q := `SELECT s.name, f."table", f."from" FROM sqlite_schema s, pragma_foreign_key_list(s.name) f WHERE s.type = 'table' AND f.seq = 0 AND s.name = ?1 COLLATE NOCASE`
	if !child {
		q = strings.Replace(q, "s.name = ?1", `f."table" = ?1`, 1)
	}
	var keys []string
	other := ""
	if qerr := p.lease.conn.query(q, func(st *sqlite3.Stmt) {
		keys = append(keys, st.ColumnText(0)+"_"+st.ColumnText(2)+"_fkey")
		if other = st.ColumnText(1); !child {
			other = st.ColumnText(0)
		}
	}, table); qerr != nil || len(keys) == 0 {
		return err
	}
	e := sqlstate.New(sqlstate.ForeignKeyViolation, "insert or update on table %q violates foreign key constraint", table)
	if len(keys) == 1 {
		e.Constraint = keys[0]
		e.Message += ` "` + keys[0] + `"`
	}
	if child && len(keys) == 1 {
		_ = e.WithDetail("Key is not present in table %q.", other)
	} else if !child {
		e.Message = strings.Replace(e.Message, "insert or update", "update or delete", 1)
		if len(keys) == 1 {
			e.Message += fmt.Sprintf(" on table %q", other)
			_ = e.WithDetail("Key is still referenced from table %q.", other)
		}
	}
	e.Schema, e.Table = "public", table
	return e
}

// texts maps the beginnings and ends of SQLite's messages. The rest, between them, is the name.
var texts = []struct {
	prefix, suffix string
	code           sqlstate.Code
	format         string
}{
	{"no such table: ", "", sqlstate.UndefinedTable, `relation "%s" does not exist`},
	{"no such view: ", "", sqlstate.UndefinedTable, `view "%s" does not exist`},
	{"no such index: ", "", sqlstate.UndefinedObject, `index "%s" does not exist`},
	{"no such trigger: ", "", sqlstate.UndefinedObject, `trigger "%s" does not exist`},
	{"no such column: ", "", sqlstate.UndefinedColumn, `column "%s" does not exist`},
	{"no such function: ", "", sqlstate.UndefinedFunction, `function %s does not exist`},
	{"no such collation sequence: ", "", sqlstate.UndefinedObject, `collation "%s" does not exist`},
	{"no such savepoint: ", "", sqlstate.InvalidSavepoint, `savepoint "%s" does not exist`},
	{"wrong number of arguments to function ", "", sqlstate.UndefinedFunction, `function %s does not exist with this number of arguments`},
	{"ambiguous column name: ", "", sqlstate.AmbiguousColumn, `column reference "%s" is ambiguous`},
	{"misuse of aggregate: ", "", sqlstate.GroupingError, `aggregate function %s is not allowed here`},
	{"misuse of aggregate function ", "", sqlstate.GroupingError, `aggregate function %s is not allowed here`},
	{"misuse of window function ", "", "42P20", `window function %s is not allowed here`},
	{"duplicate column name: ", "", sqlstate.DuplicateColumn, `column "%s" specified more than once`},
	{"table ", " already exists", sqlstate.DuplicateTable, `relation "%s" already exists`},
	{"view ", " already exists", sqlstate.DuplicateTable, `relation "%s" already exists`},
	{"index ", " already exists", sqlstate.DuplicateTable, `relation "%s" already exists`},
	{"trigger ", " already exists", sqlstate.DuplicateObject, `trigger "%s" already exists`},
	{"there is already a table named ", "", sqlstate.DuplicateTable, `relation "%s" already exists`},
	{"there is already an index named ", "", sqlstate.DuplicateTable, `relation "%s" already exists`},
	{"there is already another table or index with this name: ", "", sqlstate.DuplicateTable, `relation "%s" already exists`},
	{"unrecognized token: ", "", sqlstate.SyntaxError, `syntax error at or near %s`},
	{"near ", ": syntax error", sqlstate.SyntaxError, `syntax error at or near %s`},
	{"incomplete input", "", sqlstate.SyntaxError, `syntax error at end of input%s`},
	{"too many SQL variables", "", sqlstate.ProgramLimitExceeded, `too many parameters%s`},
	{"too many columns", "", "54011", `too many columns%s`},
	{"Expression tree is too large", "", "54001", `expression is too deeply nested%s`},
	{"parser stack overflow", "", "54001", `statement is too deeply nested%s`},
	{"foreign key mismatch", "", "42830", `there is no unique constraint matching the keys of the referenced table%s`},
	{"not authorized", "", sqlstate.InsufficientPrivilege, `not allowed%s`},
	{"cannot VACUUM from within a transaction", "", sqlstate.ActiveTransaction, `VACUUM cannot run inside a transaction block%s`},
	{"integer overflow", "", sqlstate.NumericOutOfRange, `bigint out of range%s`},
}

func byText(msg string) *sqlstate.Error {
	for _, t := range texts {
		rest, ok := strings.CutPrefix(msg, t.prefix)
		if !ok || !strings.HasSuffix(rest, t.suffix) {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(rest, t.suffix), `" - should this be`)
		if !strings.HasPrefix(t.format, "syntax error at or near") {
			name = strings.Trim(name, `"`)
		}
		return sqlstate.New(t.code, strings.Replace(t.format, "%s", "%[1]s", 1), strings.TrimPrefix(name, "main."))
	}
	for _, t := range []struct {
		part string
		code sqlstate.Code
	}{
		{"values for", sqlstate.SyntaxError}, // "2 values for 3 columns", "table t has 3 columns but 2 values were supplied"
		{"values were supplied", sqlstate.SyntaxError},
		{"has no column named", sqlstate.UndefinedColumn},
		{"syntax error", sqlstate.SyntaxError},
		{"may not be", sqlstate.InvalidTableDefinition},
		{"cannot modify", sqlstate.WrongObjectType},
		{"ORDER BY term", sqlstate.SyntaxError},
		{"GROUP BY", sqlstate.GroupingError},
	} {
		if strings.Contains(msg, t.part) {
			return sqlstate.New(t.code, "%s", msg)
		}
	}
	return sqlstate.New(sqlstate.SyntaxError, "%s", msg)
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
		e := sqlstate.New(sqlstate.NotNullViolation, "null value in column %q of relation %q violates not-null constraint", column, table)
		e.Schema, e.Table, e.Column = "public", table, column
		return e
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

// quote spells a name for SQLite.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
