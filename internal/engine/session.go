package engine

import (
	"context"
	"sync"
	"time"

	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/oid"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// Session is one client's session. It holds a SQLite connection only while a statement or a
// transaction of its own needs one. Except for Cancel it is used from its connection's goroutine.
type Session struct {
	engine  *Engine
	db      *Database
	out     *pgwire.Conn
	user    string
	startup map[string]first
	standby bool // the client was told that this node follows another

	forwarded *forwarded  // nil unless another node's router uses the session
	changes   int         // of settings, so far
	locked    bool        // has asked for advisory locks that last
	seen      history.LSN // elsewhere, or of another engine: it waits for that to be visible, and never reads above what is
	resolving bool        // Committed runs

	settings             settings
	causality, naming    string // skein.causality_key and skein.transaction_token of them
	statements           map[string]*prepared
	portals              map[string]*portal
	cursors              map[string]*portal // by SQL: DECLARE
	started              int                // portals and cursors so far
	edits                int                // of the schema so far, undone ones too
	tx                   transaction
	floor                history.LSN        // of its own last commit: it never reads anything older
	own                  *conn              // its own connection, once it has temporary tables
	began                time.Time          // the message that runs now
	told                 int64              // bytes to its client before that
	message              context.Context    // its context
	statement            *dialect.Statement // of it that runs now
	last                 bool               // that is the last of a Query message
	completed            string             // its tag, until its transaction is real
	failure              *sqlstate.Error    // behind the error that an SQL function gave to SQLite
	overtaken            bool               // its last draft was
	numbers              numbers            // that its tables' sequences have given it
	lockedForTransaction bool               // has asked for advisory locks that end with the transaction
	idle                 *time.Timer        // ends the session unless its client sends something

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of what runs now
}

// prepared is a named statement.
type prepared struct {
	text      string
	statement *dialect.Statement // nil for an empty text
	declared  []oid.OID
	plan      *plan
	described bool // the client knows the plan's fields: they must not change
}

var errPlanChanged = sqlstate.New(sqlstate.FeatureNotSupported, "cached plan must not change result type")

// What a client is told whose statement was interrupted: at its own request, or by statement_timeout.
var (
	ErrCanceled = sqlstate.New(sqlstate.QueryCanceled, "canceling statement due to user request")
	ErrTimeout  = sqlstate.New(sqlstate.QueryCanceled, "canceling statement due to statement timeout")
)

// run gives the context of one message: it ends with a cancel request or statement_timeout.
func (s *Session) run(ctx context.Context) (context.Context, func()) {
	s.awake()
	s.adopt()
	s.began = time.Now()
	s.failure = nil
	s.told = s.out.Written()
	ctx, stop := s.Interruptible(ctx)
	s.message = ctx
	return ctx, func() {
		stop()
		s.wait()
	}
}

// Cancel interrupts what runs now, and only that.
func (s *Session) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(ErrCanceled)
	}
}

// Simple runs every statement of a Query message; together they are one transaction, unless they say
// otherwise.
func (s *Session) Simple(ctx context.Context, sql string) error {
	ctx, done := s.run(ctx)
	defer done()
	s.dropStatement("")
	statements, err := s.engine.parse(sql)
	if err != nil {
		return s.failed(err)
	}
	if len(statements) == 0 {
		s.out.EmptyQuery()
		return nil
	}
	if len(statements) > 1 && !s.tx.open() {
		s.tx.start(s, true)
	}
	for i, st := range statements {
		s.last = i == len(statements)-1
		if err := s.simple(ctx, st); err != nil {
			s.last, s.completed = false, ""
			return s.failed(err)
		}
	}
	return s.endSimple(ctx)
}

// endSimple ends the implicit transaction of a Query message. Only then does the client hear that its
// last statement is done: the wait for followers may be long, and need not end well.
func (s *Session) endSimple(ctx context.Context) error {
	tag := s.completed
	s.last, s.completed = false, ""
	if err := s.endImplicit(ctx); err != nil {
		return err
	}
	s.tellRouter()
	if tag != "" {
		s.out.CommandComplete(tag)
	}
	return nil
}

// complete tells the client that a statement is done.
func (s *Session) complete(tag string) {
	if s.last {
		s.completed = tag
		return
	}
	s.out.CommandComplete(tag)
}

func (s *Session) simple(ctx context.Context, st *dialect.Statement) error {
	p := &portal{session: s, statement: st, simple: true}
	defer p.close()
	return p.execute(ctx, 0)
}

// failed ends what an error ends: the implicit transaction, or the block's good state.
func (s *Session) failed(err error) error {
	err = s.translate(err)
	s.fail()
	return err
}

// Parse prepares a statement.
func (s *Session) Parse(ctx context.Context, name, sql string, declared []oid.OID) error {
	ctx, done := s.run(ctx)
	defer done()
	if name != "" && s.statements[name] != nil {
		return sqlstate.New(sqlstate.DuplicatePreparedStmt, "prepared statement %q already exists", name)
	}
	statements, err := s.engine.parse(sql)
	if err != nil {
		return s.translate(err)
	}
	if len(statements) > 1 {
		return sqlstate.New(sqlstate.SyntaxError, "cannot insert multiple commands into a prepared statement")
	}
	p := &prepared{text: sql, declared: append([]oid.OID(nil), declared...)}
	if len(statements) == 1 {
		p.statement = statements[0]
		if s.tx.failed && !endsBlock(p.statement.Kind) {
			return errInFailedBlock
		}
		if err := s.prepare(ctx, p); err != nil {
			return s.translate(err)
		}
	}
	s.statements[name] = p
	return nil
}

// prepare analyses a statement that SQLite will run, or the one in a statement of the engine's own, whose parameters it has.
func (s *Session) prepare(ctx context.Context, p *prepared) error {
	st := p.statement
	inner := st
	switch st.Kind {
	case dialect.DeclareCursor:
		inner = st.Cursor.Query
	case dialect.Explain:
		inner = st.Explain.Query
	}
	found := &plan{}
	if runsInSQLite(inner.Kind) {
		if err := s.borrow(ctx, func(c *conn) (err error) {
			found, err = s.plan(c, inner, p.declared)
			return err
		}); err != nil {
			return err
		}
	}
	if inner == st && runsInSQLite(st.Kind) {
		p.plan = found
		return nil
	}
	p.plan = &plan{params: found.params, fields: utilityFields(s, st)}
	return nil
}

// borrow lends a connection for looking at the schema as this session sees it.
func (s *Session) borrow(ctx context.Context, fn func(*conn) error) error {
	if c := s.tx.conn; c != nil {
		c.begin(ctx, s)
		return s.guard(c, func() error { return fn(c) })
	}
	l, err := s.leaseReader(ctx)
	if err != nil {
		return err
	}
	defer l.give()
	return s.guard(l.conn, func() error { return fn(l.conn) })
}

// current gives a prepared statement with a plan for the schema as it is now.
func (s *Session) current(ctx context.Context, name string) (*prepared, error) {
	p := s.statements[name]
	if p == nil {
		if name == "" {
			return nil, sqlstate.New(sqlstate.InvalidStatementName, "unnamed prepared statement does not exist")
		}
		return nil, sqlstate.New(sqlstate.InvalidStatementName, "prepared statement %q does not exist", name)
	}
	if p.statement == nil || p.plan != nil && runsInSQLite(p.statement.Kind) && s.fresh(p.plan) {
		return p, nil
	}
	again := &prepared{statement: p.statement, declared: p.declared}
	if err := s.prepare(ctx, again); err != nil {
		return nil, err
	}
	if p.described && !sameFields(p.plan.fields, again.plan.fields) {
		return nil, errPlanChanged
	}
	p.plan = again.plan
	return p, nil
}

func sameFields(a, b []pgwire.Field) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Type != b[i].Type {
			return false
		}
	}
	return true
}

// Bind makes a portal.
func (s *Session) Bind(ctx context.Context, b *pgwire.Bind) error {
	p, err := s.current(ctx, b.Statement)
	if err != nil {
		return s.translate(err)
	}
	if b.Portal != "" && s.portals[b.Portal] != nil {
		return sqlstate.New(sqlstate.DuplicateCursor, "portal %q already exists", b.Portal)
	}
	po := &portal{session: s, name: b.Portal, prepared: p}
	if p.statement != nil {
		if s.tx.failed && !endsBlock(p.statement.Kind) {
			return errInFailedBlock
		}
		po.statement, po.plan = p.statement, p.plan
		if err := po.bind(b); err != nil {
			return err
		}
	}
	if old := s.portals[b.Portal]; old != nil {
		old.close()
	}
	s.portals[b.Portal] = po
	return nil
}

// DescribeStatement gives a prepared statement's parameters and result.
func (s *Session) DescribeStatement(ctx context.Context, name string) ([]oid.OID, []pgwire.Field, error) {
	p, err := s.current(ctx, name)
	if err != nil {
		return nil, nil, s.translate(err)
	}
	if p.statement == nil {
		return nil, nil, nil
	}
	p.described = true
	params := make([]oid.OID, len(p.plan.params))
	for i, t := range p.plan.params {
		params[i] = t.OID
	}
	return params, p.plan.fields, nil
}

// DescribePortal gives a portal's result.
func (s *Session) DescribePortal(_ context.Context, name string) ([]pgwire.Field, error) {
	p, err := s.portal(name)
	if err != nil || p.plan == nil {
		return nil, err
	}
	return p.fields(), nil
}

func (s *Session) portal(name string) (*portal, error) {
	if p := s.portals[name]; p != nil {
		return p, nil
	}
	if p := s.cursors[name]; p != nil && name != "" {
		return p, nil
	}
	return nil, sqlstate.New(sqlstate.InvalidCursorName, "portal %q does not exist", name)
}

// Execute runs a portal.
func (s *Session) Execute(ctx context.Context, name string, maxRows int) error {
	p, err := s.portal(name)
	if err != nil {
		return err
	}
	ctx, done := s.run(ctx)
	defer done()
	if p.statement == nil {
		s.out.EmptyQuery()
		return nil
	}
	if err := p.execute(ctx, maxRows); err != nil {
		p.close()
		return s.translate(err)
	}
	return nil
}

// CloseStatement forgets a prepared statement.
func (s *Session) CloseStatement(name string) error {
	s.dropStatement(name)
	return nil
}

func (s *Session) dropStatement(name string) { delete(s.statements, name) }

// ClosePortal closes a portal.
func (s *Session) ClosePortal(name string) error {
	if p := s.portals[name]; p != nil {
		p.close()
		delete(s.portals, name)
	}
	return nil
}

// Sync ends the implicit transaction and, outside of a block, every portal.
func (s *Session) Sync(ctx context.Context) error {
	if !s.tx.block {
		s.closeReading()
	}
	if !s.tx.implicit {
		s.tellRouter()
		return nil
	}
	ctx, done := s.run(ctx)
	defer done()
	err := s.endImplicit(ctx)
	s.tellRouter()
	return err
}

// Fail says that a message failed.
func (s *Session) Fail() {
	s.fail()
	s.wait()
}

// Status is the transaction status that ReadyForQuery shows.
func (s *Session) Status() byte {
	switch {
	case s.tx.block && s.tx.failed:
		return 'E'
	case s.tx.block:
		return 'T'
	}
	return 'I'
}

// Close rolls back and releases everything.
func (s *Session) Close() {
	s.awake()
	_ = s.closeCursor("")
	s.closePortals(0)
	s.abandon()
	if s.own != nil {
		s.own.close()
		s.own = nil
	}
	s.engine.locks.releaseAll(s)
	s.engine.leave(s)
	s.db.leave()
}

// closePortals closes the portals and cursors of the transaction that were started after the first n; 0 is all, those too
// that have not been started.
func (s *Session) closePortals(n int) {
	s.closeThose(func(p *portal) bool { return !p.kept && (n == 0 || p.order > n) })
}

// closeReading closes all but the cursors that have read their result.
func (s *Session) closeReading() { s.closeThose(func(p *portal) bool { return p.held == nil }) }

func (s *Session) closeThose(which func(*portal) bool) {
	for _, m := range []map[string]*portal{s.portals, s.cursors} {
		for name, p := range m {
			if which(p) {
				p.drop()
				delete(m, name)
			}
		}
	}
}

// keepCursors has the cursors WITH HOLD outlive the transaction that has been committed; others end with it.
func (s *Session) keepCursors() {
	if len(s.cursors) == 0 {
		return
	}
	for _, p := range s.cursors {
		p.kept = p.kept || p.holds
	}
	s.closePortals(0)
}

// interruptCause is why the context of the message that runs now ended, if it did.
func (s *Session) interruptCause() error {
	if s.message == nil {
		return nil
	}
	return context.Cause(s.message)
}
