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
	"bytes"
	"regexp"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// catalog is what is registered on one connection. It is used by that connection's goroutine only.
type catalog struct {
	conn    *sqlite3.Conn
	session func() Session

	patterns map[string]*regexp.Regexp // compiled by REGEXP and MATCH on this connection
	schema   *schema                   // as last read; see loadSchema

	zoneName string // the session's TimeZone when zoneLoc was loaded
	zoneLoc  *time.Location

	caches      map[*relation]*rowCache // filled while openCursors > 0
	openCursors int
	checked     bool // schema was read since the first of these cursors was opened
}

// Register installs functions, collations and catalog tables on a connection. session gives the
// session that is running on it now; it is never nil while a statement runs.
func Register(c *sqlite3.Conn, session func() Session) error {
	cat := &catalog{conn: c, session: session}
	for i := range functions {
		if err := functions[i].register(cat); err != nil {
			return err
		}
	}
	for i := range aggregates {
		if err := aggregates[i].register(cat); err != nil {
			return err
		}
	}
	for i := range relations {
		if err := relations[i].register(cat); err != nil {
			return err
		}
	}
	if err := registerSeries(cat); err != nil {
		return err
	}
	return registerCollations(c)
}

// registerCollations adds "numeric" and "pg_lsn", which the dialect gives to columns of these types, "interval", and the names that
// PostgreSQL text uses for comparing bytes.
func registerCollations(c *sqlite3.Conn) error {
	if err := c.CreateCollation("numeric", compareNumericText); err != nil {
		return err
	}
	if err := c.CreateCollation("pg_lsn", compareLSNs); err != nil {
		return err
	}
	if err := c.CreateCollation("interval", compareIntervals); err != nil {
		return err
	}
	for _, name := range []string{"default", "C", "POSIX", "ucs_basic"} {
		if err := c.CreateCollation(name, bytes.Compare); err != nil {
			return err
		}
	}
	return nil
}
