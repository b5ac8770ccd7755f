// Package pgcatalog is what PostgreSQL clients expect to find in every database: functions,
// collations and the system catalogs, installed on one SQLite connection. The engine calls Register
// when it opens a connection, and Canned for each statement; everything installed runs on the
// goroutine that steps a statement of that connection. Nothing here is kept on disk.
//
// Nouns: a function is one entry of a static table, a relation is one catalog table with its
// columns and the code that lists its rows, a schema is what was read from sqlite_schema for the
// statement that runs now.
package pgcatalog

import (
	"github.com/ncruces/go-sqlite3"
)

// Register installs functions, collations and catalog tables on a connection. session gives the
// session that is running on it now; it is never nil while a statement runs.
func Register(c *sqlite3.Conn, session func() Session) error {
	return nil
}

// Canned gives the replacement, in SQLite's dialect, for the few exact client queries that cannot
// be translated word by word.
func Canned(sql string) (replacement string, ok bool) {
	return "", false
}
