package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/pgcatalog"
	"skein/internal/sqlitevfs"
	"skein/internal/sqlstate"
)

const (
	cachedStatements = 100 // per connection
	connMemoryBytes  = 256 << 20
	pageCacheKB      = 4096
)

// Limits on what one statement may take of a connection, far above what applications need and far
// below what harms others. Source of the list: sqlite.org/security.html.
var connLimits = map[sqlite3.LimitCategory]int{
	sqlite3.LIMIT_LENGTH:     64 << 20,
	sqlite3.LIMIT_SQL_LENGTH: 16 << 20,
	sqlite3.LIMIT_ATTACHED:   1, // VACUUM needs one; the authorizer denies every other
}

// conn is one SQLite connection. Whoever has taken it from the pool is its only user.
type conn struct {
	sqlite  *sqlite3.Conn
	file    *sqlitevfs.File
	session *Session // whose statement runs now
	ask     asked    // the same, for SQL functions
	cache   map[string]*sqlite3.Stmt
	own     bool         // what is prepared now is the engine's own, which may touch its hidden table
	reads   *columnReads // where the authorizer notes columns while a statement is analysed
	broken  bool         // not to be used again
	slot    bool         // counts as one of its database's readers
}

func (d *Database) open() (*conn, error) {
	ctx := sqlite3.WithMaxMemory(context.Background(), connMemoryBytes)
	s, err := sqlite3.OpenContext(ctx, d.uri)
	if err != nil {
		return nil, fmt.Errorf("open connection: %w", err)
	}
	c := &conn{sqlite: s, cache: map[string]*sqlite3.Stmt{}}
	if err := c.setup(); err != nil {
		return nil, errors.Join(fmt.Errorf("open connection: %w", err), s.Close())
	}
	return c, nil
}

func (c *conn) setup() error {
	var err error
	if c.file, err = sqlitevfs.FileOf(c.sqlite); err != nil {
		return err
	}
	// Not cell_size_check: every page has the checksum of what SQLite once wrote, or does not come in.
	if err := c.sqlite.Exec(fmt.Sprintf(`PRAGMA page_size=4096; PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=OFF;
		PRAGMA cache_size=-%d; PRAGMA case_sensitive_like=ON; PRAGMA temp_store=FILE; PRAGMA recursive_triggers=ON`, pageCacheKB)); err != nil {
		return err
	}
	for _, on := range []sqlite3.DBConfig{sqlite3.DBCONFIG_DEFENSIVE, sqlite3.DBCONFIG_ENABLE_FKEY} {
		if _, err := c.sqlite.Config(on, true); err != nil {
			return err
		}
	}
	for _, off := range []sqlite3.DBConfig{
		sqlite3.DBCONFIG_TRUSTED_SCHEMA, sqlite3.DBCONFIG_DQS_DDL, sqlite3.DBCONFIG_DQS_DML,
	} {
		if _, err := c.sqlite.Config(off, false); err != nil {
			return err
		}
	}
	for id, n := range connLimits {
		c.sqlite.Limit(id, n)
	}
	if err := pgcatalog.Register(c.sqlite, c.asked); err != nil {
		return err
	}
	return c.sqlite.SetAuthorizer(c.authorize)
}

// begin has the connection work for a session's statement, which ctx may interrupt.
func (c *conn) begin(ctx context.Context, s *Session) {
	c.session, c.ask = s, asked{s, c}
	c.sqlite.SetInterrupt(ctx)
	if s != nil {
		c.file.SetFloor(s.least())
	}
}

// asked is whom functions and catalog tables ask.
func (c *conn) asked() pgcatalog.Session {
	if c.session == nil {
		return nobody
	}
	return &c.ask
}

// take gives a prepared statement for sql, reset and without bindings, for its caller alone.
func (c *conn) take(sql string) (*sqlite3.Stmt, error) {
	_ = c.file.TakeError() // of something else
	if st := c.cache[sql]; st != nil {
		delete(c.cache, sql)
		return st, nil
	}
	return c.prepare(sql)
}

func (c *conn) prepare(sql string) (*sqlite3.Stmt, error) {
	st, tail, err := c.sqlite.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, sqlstate.New(sqlstate.SyntaxError, "the statement is empty")
	}
	if tail != "" {
		if rest, _, err := c.sqlite.Prepare(tail); err != nil || rest != nil {
			_ = rest.Close()
			return nil, errors.Join(sqlstate.New(sqlstate.SyntaxError, "cannot run several statements as one"), st.Close())
		}
	}
	return st, nil
}

// put gives a statement back for later use.
func (c *conn) put(sql string, st *sqlite3.Stmt) {
	_ = st.Reset() // repeats the error of the last step, which its caller has
	if c.broken || c.cache[sql] != nil || st.ClearBindings() != nil {
		_ = st.Close()
		return
	}
	if len(c.cache) >= cachedStatements {
		for k, old := range c.cache { // any one: a working set that fits is never evicted
			_ = old.Close()
			delete(c.cache, k)
			break
		}
	}
	c.cache[sql] = st
}

// exec runs a statement without parameters or rows. Of what goes wrong in a commit SQLite passes on a code
// alone, so that the reason is fetched from where it was given.
func (c *conn) exec(sql string) error {
	st, err := c.take(sql)
	if err != nil {
		return err
	}
	for st.Step() {
		continue
	}
	err = c.file.Because(st.Err())
	c.put(sql, st)
	return err
}

// query runs a statement of the engine's own and calls fn for each row.
func (c *conn) query(sql string, fn func(*sqlite3.Stmt), args ...string) error {
	st, err := c.take(sql)
	if err != nil {
		return err
	}
	defer c.put(sql, st)
	for i, a := range args {
		if err := st.BindText(i+1, a); err != nil {
			return err
		}
	}
	for st.Step() {
		if fn != nil {
			fn(st)
		}
	}
	return c.file.Because(st.Err())
}

// rest ends a session's use of the connection.
func (c *conn) rest() {
	c.session, c.ask = nil, asked{}
	c.sqlite.SetInterrupt(context.Background())
	c.file.PinHead(false)
	if !c.broken { // else its transaction goes with it, and must not become a writer's before
		_ = c.file.Draft(false)
	}
	_ = c.file.TakeError()
}

// close closes the connection. Where SQLite gave up in the middle of a call its locks and what it has not
// committed go first, so that nothing it still does has an effect.
func (c *conn) close() {
	if c.broken {
		_ = c.file.Close()
	}
	c.cache = nil
	c.free()
}

// free gives SQLite's memory back, which the garbage collector does not know. Should SQLite be too
// damaged for that, the memory is lost.
func (c *conn) free() {
	for _, st := range slices.Collect(c.sqlite.Stmts()) { // closing one changes the list
		despite(st.Close)
	}
	despite(c.sqlite.Close)
}

// despite closes something of SQLite's whatever comes of it: a statement that has run out of memory
// says so once more, by a panic, when it is closed.
func despite(closing func() error) {
	defer func() { _ = recover() }()
	_ = closing()
}
