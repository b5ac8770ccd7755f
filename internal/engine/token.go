package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/history"
	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// A client that does not learn whether its transaction was committed may repeat it, if it has named it by a token: the name
// is written in the same SQLite transaction as the rest, so that it is replicated and cut together with it, and
// a second one of that name is refused before it has any effect.
//
// Rejected: positions instead of names, for which one has to know who wrote what; and a table of the cluster, which would not be
// atomic with the data.
//
// The names are those of a role in a database. Old ones go, a few with every so many new ones.
const tokensSchema = "CREATE TABLE main." + pgcatalog.TokensTable +
	" (id INTEGER PRIMARY KEY, role TEXT NOT NULL, token TEXT NOT NULL, at INTEGER NOT NULL, UNIQUE (role, token)) STRICT"

const (
	tokensSweep = 16 // every so many tokens old ones are deleted,
	tokensSwept = 64 // at most so many
)

const (
	findToken   = "SELECT at FROM main." + pgcatalog.TokensTable + " WHERE role = ?1 AND token = ?2"
	insertToken = "INSERT INTO main." + pgcatalog.TokensTable + " (role, token, at) VALUES (?1, ?2, CAST(?3 AS INTEGER))"
	sweepTokens = "DELETE FROM main." + pgcatalog.TokensTable + " WHERE id IN (SELECT id FROM main." + pgcatalog.TokensTable +
		" ORDER BY id LIMIT CAST(?1 AS INTEGER)) AND (at < CAST(?2 AS INTEGER) OR id <= CAST(?3 AS INTEGER))"
)

// nameTransaction writes down the name of the transaction that writes now, if it is given one and has none yet. If there has been
// one of that name, this one ends.
func (s *Session) nameTransaction(ctx context.Context, c *conn) error {
	t := &s.tx
	token := t.token
	switch {
	case token == "":
		token = s.naming
	case !t.unnamed:
		return nil
	}
	if token == "" {
		return nil
	}
	var at time.Time
	err := s.guard(c, func() (err error) {
		at, err = s.writeToken(c, token)
		return err
	})
	switch {
	case err != nil:
		return err
	case !at.IsZero() && t.token == "":
		return s.refuseToken(ctx, c.file.SnapshotLSN(), token, at)
	}
	t.token, t.unnamed = token, false
	return nil
}

// nameAtCommit names a transaction that was given its name after it had written last.
func (s *Session) nameAtCommit(ctx context.Context) error {
	t := &s.tx
	if !t.write || t.lost || t.conn == nil {
		return nil
	}
	t.conn.begin(ctx, s)
	return s.nameTransaction(ctx, t.conn)
}

// writeToken writes a token down, or gives the time of the transaction that had it before.
func (s *Session) writeToken(c *conn, token string) (at time.Time, err error) {
	c.own = true
	defer func() { c.own = false }()
	if err := s.makeTokens(c); err != nil {
		return at, err
	}
	if err := c.query(findToken, func(st *sqlite3.Stmt) { at = time.UnixMicro(st.ColumnInt64(0)) }, s.user, token); err != nil || !at.IsZero() {
		return at, err
	}
	now := time.Now()
	last := c.sqlite.LastInsertRowID() // which is the client's
	defer c.sqlite.SetLastInsertRowID(last)
	if err := c.query(insertToken, nil, s.user, token, number(now.UnixMicro())); err != nil {
		return at, err
	}
	return at, s.sweepTokens(c, now)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// makeTokens makes the table with the first token of a database.
func (s *Session) makeTokens(c *conn) error {
	if s.db.named.Load() {
		return nil
	}
	found := false
	if err := c.query("SELECT 1 FROM main.sqlite_schema WHERE name = ?1", func(*sqlite3.Stmt) { found = true }, pgcatalog.TokensTable); err != nil {
		return err
	}
	if found {
		if !s.tx.ddl { // else it may be this transaction's
			s.db.named.Store(true)
		}
		return nil
	}
	s.tx.ddl = true
	s.edits++
	return c.exec(tokensSchema)
}

// sweepTokens deletes old tokens. Their numbers go up with time, so that the oldest are found at once.
func (s *Session) sweepTokens(c *conn, now time.Time) error {
	newest := c.sqlite.LastInsertRowID()
	if newest%tokensSweep != 0 {
		return nil
	}
	var before int64
	if keep, _ := strconv.Atoi(s.settings.get("skein.transaction_token_retention")); keep > 0 {
		before = now.Add(-time.Duration(keep) * time.Second).UnixMicro()
	}
	return c.query(sweepTokens, nil, number(tokensSwept), number(before), number(newest-int64(s.engine.options.MaxTokens)))
}

// refuseToken ends a transaction whose name has been used. The earlier one may still wait for followers: that it was committed
// is said once it is true, and nobody else waits for that.
func (s *Session) refuseToken(ctx context.Context, seen history.LSN, token string, at time.Time) error {
	level := s.level()
	if s.tx.implicit {
		s.abandon()
	} else {
		s.closePortals(0)
		s.tx.failed = true
		s.releaseFailed()
	}
	if _, err := s.reach(ctx, seen, level); err != nil {
		return err
	}
	s.floor = max(s.floor, seen)
	err := sqlstate.New(sqlstate.UniqueViolation, "the transaction with token %q was committed already", token).
		WithDetail("It was written at %s by role %q. Nothing of this one was done.", at.UTC().Format(time.RFC3339Nano), s.user).
		WithHint("Set skein.transaction_token to another value to name another transaction, or to '' for none.")
	err.Constraint = "skein_transaction_token"
	return err
}

// forgetToken has the next transaction be another one, once this one is committed.
func (s *Session) forgetToken(token string) {
	if token != "" && s.naming == token {
		delete(s.startup, "skein.transaction_token") // RESET must not bring it back
		s.Told("skein.transaction_token", "")
	}
}

// unnameable refuses a statement whose change is not written together with a token.
func (s *Session) unnameable() error {
	if s.naming == "" {
		return nil
	}
	return sqlstate.New(sqlstate.FeatureNotSupported, "%s cannot be named by a transaction token", s.statement.Tag).
		WithHint("SET skein.transaction_token = '' first.")
}

// hasCommitted says whether a transaction of the session's role is known to be committed. Who writes sees more than that: what
// is not acknowledged yet.
func (s *Session) hasCommitted(c *conn, token string) (found bool, err error) {
	if s.tx.write && !s.asksForRouter() {
		return false, sqlstate.New(sqlstate.ActiveTransaction, "skein_transaction_status cannot be asked by a transaction that writes")
	}
	if token == s.tx.token { // its row is there, but it is this transaction's
		return false, nil
	}
	c.own = true
	defer func() { c.own = false }()
	exists := false
	err = c.query("SELECT 1 FROM main.sqlite_schema WHERE name = ?1", func(*sqlite3.Stmt) { exists = true }, pgcatalog.TokensTable)
	if err == nil && exists {
		err = c.query(findToken, func(*sqlite3.Stmt) { found = true }, s.user, token)
	}
	return found, err
}

// reservesTokens refuses statements for SQLite that could give the table's name to another one, of which its authorizer does not hear.
func reservesTokens(script []string) error {
	for _, sql := range script {
		if strings.Contains(strings.ToLower(sql), pgcatalog.TokensTable) {
			return sqlstate.New(sqlstate.InvalidName, "unacceptable name %q", pgcatalog.TokensTable).WithDetail("The name is reserved.")
		}
	}
	return nil
}
