package engine

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/pagestore"
	"skein/internal/sqlitevfs"
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
	return ErrCanceled
}

// storageError looks for what the page store or the log said behind SQLite's error.
func (s *Session) storageError(err error) error {
	var limit *sqlitevfs.TempFullError
	switch {
	case errors.As(err, &limit):
		return sqlstate.New(sqlstate.ConfigLimitExceeded, "temporary files have reached the limit of this node: %d bytes", limit.LimitBytes).
			WithDetail("What sorts, temporary tables, cursors and open transactions need beyond their memory goes there, for all sessions together.").
			WithHint("Sort or change less at a time, end transactions earlier, or start the node with a larger --max-temp-bytes.")
	case errors.Is(err, pagestore.ErrSnapshotTooOld):
		return sqlstate.New(sqlstate.SnapshotTooOld, "snapshot too old").
			WithDetail("The memory for old page versions is used up, and this transaction was the oldest that needed them.").
			WithHint("Use shorter transactions, or give the node more memory for versions.")
	case errors.Is(err, pagestore.ErrDamaged):
		return sqlstate.New(sqlstate.DataCorrupted, "%v", err)
	case errors.Is(err, commit.ErrNotLeading):
		return errCeasedToLead
	case errors.Is(err, commit.ErrTooMuchPending):
		return sqlstate.New(sqlstate.InsufficientResources, "%v", commit.ErrTooMuchPending).
			WithHint("Bring a standby back, or change synchronous_standby_names or skein.on_sync_timeout with ALTER SYSTEM.")
	case errors.Is(err, commit.ErrDiskFull), errors.Is(err, syscall.ENOSPC):
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
		{"use DROP ", sqlstate.WrongObjectType},
		{"tables in a join", sqlstate.ProgramLimitExceeded},
		{"too many terms in", sqlstate.ProgramLimitExceeded},
		{"no such module", sqlstate.FeatureNotSupported},
		{"reserved for internal use", "42939"},
		{"object to be reindexed", sqlstate.UndefinedObject},
		{"GROUP BY", sqlstate.GroupingError},
	} {
		if strings.Contains(msg, t.part) {
			return sqlstate.New(t.code, "%s", msg)
		}
	}
	return sqlstate.New(sqlstate.SyntaxError, "%s", msg)
}

// quote spells a name for SQLite.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
