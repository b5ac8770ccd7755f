package engine

import (
	"context"
	"errors"
	"time"

	"skein/internal/commit"
	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/sqlstate"
)

// transaction is the state of a session between BEGIN and COMMIT, or of the implicit transaction around
// the messages up to Sync. Its SQLite connection is taken when the first statement needs it: a
// reader's, or together with the database's turn the writer's. A transaction that began by reading
// and comes to write does so on its own connection, if what it has read is still the newest.
type transaction struct {
	block    bool // between BEGIN and its end
	implicit bool
	failed   bool // only ROLLBACK helps

	isolation string
	readOnly  bool
	unasked   bool // only because the node followed another when it began
	started   time.Time
	id        int64

	conn       *conn
	source     source // where conn goes back to
	write      bool   // has the turn
	draft      draft
	ddl        bool // has changed the schema
	lost       bool // SQLite has rolled it back by itself
	deferred   bool // foreign keys are looked at when it commits
	savepoints []savepoint
	changes    []replaced // by SET, newest last
	token      string     // that it is named by; "" for none
	unnamed    bool       // a savepoint may have taken that back
}

var (
	errInFailedBlock = sqlstate.New(sqlstate.InFailedTransaction, "current transaction is aborted, commands ignored until end of transaction block")
	errNoTransaction = sqlstate.New(sqlstate.NoActiveTransaction, "there is no transaction in progress")
	errSerialize     = sqlstate.New(sqlstate.SerializationFailure, "could not serialize access due to concurrent update").
				WithDetail("The transaction has read rows before it came to write, and another transaction has written since.").
				WithHint("Retry the transaction; begin it with the write, or with SELECT … FOR UPDATE, to have it wait instead.")
	errLockTimeout = sqlstate.New(sqlstate.LockNotAvailable, "canceling statement due to lock timeout")
	errTurnTimeout = sqlstate.New(sqlstate.LockNotAvailable, "canceling statement due to lock timeout").
			WithDetail("Another transaction is writing to this database; a database has one writer at a time.")
)

const readCommitted = "read committed"

// clientCheckInterval is how often a session that waits for followers looks whether its client is there.
const clientCheckInterval = time.Second

func (t *transaction) open() bool { return t.block || t.implicit }

// start begins a transaction without touching SQLite yet.
func (t *transaction) start(s *Session, implicit bool) {
	*t = transaction{
		block: !implicit, implicit: implicit, started: s.began, id: s.engine.nextTransaction(),
		isolation: s.settings.get("default_transaction_isolation"),
		readOnly:  s.ReadsOnly() || s.following(),
		unasked:   !s.ReadsOnly(),
	}
}

// endsBlock says whether a failed block takes a statement of this kind.
func endsBlock(k dialect.Kind) bool {
	return k == dialect.Commit || k == dialect.Rollback || k == dialect.RollbackTo
}

// lease is a connection for one statement: give must be called when its rows have been read.
type lease struct {
	conn *conn
	give func()
}

func keep() {}

// lease gives a statement its connection. Reads outside of any transaction stand alone; everything
// else belongs to the transaction that is open or begins with it.
func (s *Session) lease(ctx context.Context, write bool) (lease, error) {
	if write && s.readOnly() {
		return lease{}, s.refuseWrite()
	}
	if !write && !s.Standing() {
		if err := s.awaitInherited(ctx); err != nil {
			return lease{}, err
		}
	}
	if write && !s.tx.open() {
		s.tx.start(s, true)
	}
	if s.tx.open() {
		c, err := s.transactionConn(ctx, write)
		return lease{c, keep}, err
	}
	return s.leaseReader(ctx)
}

// leaseReader gives a connection for a reading that stands alone. The locks that it takes for its
// transaction end with it.
func (s *Session) leaseReader(ctx context.Context) (lease, error) {
	c, from, err := s.takeConn(ctx, false)
	if err != nil {
		return lease{}, err
	}
	c.begin(ctx, s)
	return lease{c, func() {
		s.giveConn(c, from)
		if !s.tx.open() {
			s.releaseLocks()
			s.keepSettings()
		}
	}}, nil
}

// readOnly says whether the transaction that is open, or would be opened now, may not write. A node that
// has come to follow another takes no more writes, not even those of an open transaction.
func (s *Session) readOnly() bool {
	switch {
	case s.standsBy():
		return true
	case s.tx.open():
		return s.tx.readOnly
	}
	return s.settings.get("default_transaction_read_only") == "on"
}

// alone refuses a statement that cannot be undone together with others.
func (s *Session) alone(tag string) error {
	if s.tx.open() {
		return sqlstate.New(sqlstate.ActiveTransaction, "%s cannot run inside a transaction block", tag)
	}
	return nil
}

// transactionConn gives the transaction's connection, with the turn if the statement writes. What writes is named before it
// has any effect.
func (s *Session) transactionConn(ctx context.Context, write bool) (*conn, error) {
	c, err := s.heldConn(ctx, write)
	if err != nil || !write {
		return c, err
	}
	if err := s.nameTransaction(ctx, c); err != nil {
		return nil, err
	}
	return c, nil
}

func (s *Session) heldConn(ctx context.Context, write bool) (*conn, error) {
	t := &s.tx
	if t.conn != nil {
		t.conn.begin(ctx, s)
		if t.lost || t.conn.broken {
			return nil, errInFailedBlock
		}
		if write && !t.write {
			if err := s.settle(ctx); err != nil {
				return nil, err
			}
		}
		return t.conn, nil
	}
	if write {
		if err := s.takeTurn(ctx); err != nil {
			return nil, err
		}
	}
	c, err := s.openTransaction(ctx, write)
	if err != nil && write {
		s.db.writer.give()
	}
	return c, err
}

func (s *Session) openTransaction(ctx context.Context, write bool) (*conn, error) {
	c, from, err := s.takeConn(ctx, write)
	if err != nil {
		return nil, err
	}
	c.begin(ctx, s)
	begin := "BEGIN"
	if write {
		c.file.PinHead(true)
		begin = "BEGIN IMMEDIATE"
	}
	if err := c.exec(begin); err != nil {
		s.giveConn(c, from)
		return nil, err
	}
	if err := s.tx.furnish(c); err != nil {
		c.broken = true // there is a transaction on it
		s.giveConn(c, from)
		return nil, err
	}
	s.tx.conn, s.tx.source, s.tx.write = c, from, write
	return c, nil
}

// furnish has a new connection of the transaction be as its client has asked before: with savepoints, or on the one that it had.
func (t *transaction) furnish(c *conn) error {
	for depth := range t.savepoints {
		if err := c.exec(t.savepointSQL("SAVEPOINT", depth)); err != nil {
			return err
		}
	}
	if !t.deferred {
		return nil
	}
	return c.exec(deferForeignKeys(true))
}

// source says whose connection a transaction uses.
type source int

const (
	fromReaders source = iota
	fromWriter
	fromSession
)

func (s *Session) takeConn(ctx context.Context, write bool) (*conn, source, error) {
	switch {
	case s.own != nil:
		return s.own, fromSession, nil
	case write:
		c, err := s.db.takeWriter()
		return c, fromWriter, err
	}
	c, err := s.db.reader(ctx)
	return c, fromReaders, err
}

// giveConn returns a connection to where it came from. The turn is given on after it.
func (s *Session) giveConn(c *conn, to source) {
	switch to {
	case fromSession:
		c.rest()
		if c.broken {
			c.close()
			s.own = nil
		}
	case fromWriter:
		s.db.giveWriter(c)
	default:
		s.db.giveReader(c)
	}
}

// takeTurn waits for the right to write.
func (s *Session) takeTurn(ctx context.Context) error { return s.db.takeTurn(ctx, s) }

func (s *Session) withLockTimeout(ctx context.Context, reason error) (context.Context, context.CancelFunc) {
	d := s.settings.duration("lock_timeout")
	if d == 0 {
		return ctx, keep
	}
	return context.WithTimeoutCause(ctx, d, reason)
}

func (s *Session) openPortals() bool {
	for _, m := range []map[string]*portal{s.portals, s.cursors} {
		for _, p := range m {
			if p.stmt != nil {
				return true
			}
		}
	}
	return false
}

// finish ends the transaction's hold on its connection and the turn.
func (s *Session) finish() {
	t := &s.tx
	if t.conn != nil {
		s.giveConn(t.conn, t.source)
	}
	if t.write {
		s.db.writer.give()
	} else if t.draft.written {
		s.engine.drafts.leave(s)
	}
	s.releaseLocks()
	*t = transaction{}
}

// commit makes the transaction real and waits for what synchronous_commit asks. When it returns an
// error the transaction is over too.
func (s *Session) commit(ctx context.Context) error {
	s.closeReading()
	key := s.causality // SET LOCAL counts
	err := s.settleDraft(ctx)
	if err == nil {
		err = s.nameAtCommit(ctx)
	}
	token := s.tx.token
	var lsn history.LSN
	wrote := false
	if err == nil {
		lsn, wrote, err = s.commitSchema(ctx)
	}
	level := s.level()
	if err != nil {
		s.closePortals(0)
		s.rollbackSQLite()
		s.undoSettings(0)
		s.finish()
		return err
	}
	s.keepCursors()
	s.keepSettings()
	s.finish()
	if lsn == 0 {
		return nil
	}
	if err := s.await(ctx, lsn, level); err != nil {
		return err
	}
	if wrote {
		s.overtaken = false
		s.committed(lsn, key)
	}
	s.forgetToken(token)
	return nil
}

// committed tells the client, and those who ask for its causality key, of an entry that it has written.
func (s *Session) committed(lsn history.LSN, key string) {
	if key != "" && s.engine.options.OnCommit != nil {
		s.engine.options.OnCommit(key, lsn)
	}
	e := s.engine
	const name = "skein.last_commit"
	mark := history.Bookmark{Cluster: e.storage.Cluster(), Epoch: history.Epoch(e.epoch.Load()), LSN: lsn}.String()
	s.settings.put(name, mark) // as Told does, which takes longer
	s.out.ParameterStatus(name, mark)
}

// level is what the session's commits wait for.
func (s *Session) level() commit.Level {
	level, err := commit.ParseLevel(s.settings.get("synchronous_commit"))
	if err != nil {
		return commit.On
	}
	return level
}

// commitSchema commits, and if the schema has changed says since when.
func (s *Session) commitSchema(ctx context.Context) (lsn history.LSN, wrote bool, err error) {
	if !s.tx.ddl {
		return s.commitSQLite(ctx)
	}
	before := s.db.schema.Swap(uint64(changing))
	lsn, wrote, err = s.commitSQLite(ctx)
	if err != nil {
		s.db.schema.Store(before)
	} else {
		s.db.schema.Store(max(before, uint64(lsn)))
	}
	return lsn, wrote, err
}

// commitSQLite commits on the connection. It gives the LSN that must be committed before the client
// may hear of success: what it wrote or, if it changed nothing, what it has seen.
func (s *Session) commitSQLite(ctx context.Context) (lsn history.LSN, wrote bool, err error) {
	t := &s.tx
	if t.conn == nil || t.lost {
		return 0, false, nil
	}
	c := t.conn
	if t.write && s.following() {
		s.rollbackSQLite()
		return 0, false, errCeasedToLead
	}
	c.begin(ctx, s)
	err = s.guard(c, func() error {
		if t.write {
			lsn = c.file.SnapshotLSN()
		}
		if err := c.exec("COMMIT"); err != nil {
			return err
		}
		own := c.file.TakeCommit()
		lsn, wrote = max(lsn, own), own != 0
		return nil
	})
	if err == nil {
		return lsn, wrote, nil
	}
	err = s.translate(err)
	s.rollbackSQLite()
	return 0, false, err
}

// await waits until an entry has reached the level.
//
// The session reads its own entry as soon as its level asks nothing of followers. Above that it does so
// once they have answered: what a failover may still take back is shown to nobody.
func (s *Session) await(ctx context.Context, lsn history.LSN, level commit.Level) error {
	if level <= commit.Local {
		s.floor = max(s.floor, lsn)
	}
	alone, err := s.reach(ctx, lsn, level)
	if err != nil {
		return err
	}
	s.floor = max(s.floor, lsn)
	if alone {
		s.out.Notice(sqlstate.New(sqlstate.Warning, "the transaction was acknowledged by the leader alone").
			WithDetail("No follower has confirmed entry %s; replication is degraded.", lsn.PgLSN()).
			WithHint("It is lost if the leader is lost before a follower has it. See skein_degradations."))
	}
	return nil
}

// reach waits until an entry has reached the level. If that is interrupted nobody knows the outcome: it is
// neither success nor failure.
func (s *Session) reach(ctx context.Context, lsn history.LSN, level commit.Level) (alone bool, err error) {
	if level > commit.Local && s.engine.cluster.Load().get("synchronous_standby_names") != "" {
		defer s.out.WatchClient(clientCheckInterval)() // followers may be away for long
	}
	alone, err = s.engine.storage.Wait(ctx, lsn, level)
	if err == nil && s.following() { // what was waited for may be another's entry
		err = errors.New("this node does not lead any more")
	}
	if err == nil {
		return alone, nil
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("the node is stopping")
	}
	return false, sqlstate.New(sqlstate.TransactionUnknown, "the outcome of the transaction is unknown: %v", err).
		WithDetail("It was written to the log as entry %s, but whether that became durable was not learnt.", lsn.PgLSN()).
		WithHint("Look whether its changes are there before you repeat it.")
}

// abandon rolls the transaction back.
func (s *Session) abandon() {
	if !s.tx.open() {
		return
	}
	s.closePortals(0)
	s.rollbackSQLite()
	s.undoSettings(0)
	s.finish()
}

func (s *Session) rollbackSQLite() {
	t := &s.tx
	if t.conn == nil || t.conn.broken {
		return
	}
	c := t.conn
	c.sqlite.SetInterrupt(context.Background()) // a cancelled statement's rollback must run
	err := s.guard(c, func() error {
		if c.sqlite.GetAutocommit() {
			return nil
		}
		return c.exec("ROLLBACK")
	})
	if err != nil {
		c.broken = true
	}
}

// endImplicit commits the implicit transaction, if there is one.
func (s *Session) endImplicit(ctx context.Context) error {
	if !s.tx.implicit {
		return nil
	}
	if err := s.commit(ctx); err != nil {
		return s.translate(err)
	}
	return nil
}

// fail says that a statement failed: an implicit transaction is over, a block takes nothing but its end.
func (s *Session) fail() {
	switch {
	case s.tx.implicit:
		s.abandon()
	case s.tx.block && !s.tx.failed:
		s.tx.failed = true
		if c := s.tx.conn; c != nil && (c.broken || c.sqlite.GetAutocommit()) {
			s.tx.lost = true
		}
		if len(s.tx.savepoints) == 0 { // nothing to go back to: let others write
			s.closePortals(0)
			s.releaseFailed()
		}
	}
}

// releaseFailed gives up a failed block's connection; the block itself goes on until its ROLLBACK.
func (s *Session) releaseFailed() {
	t := &s.tx
	s.rollbackSQLite()
	if t.conn != nil {
		s.giveConn(t.conn, t.source)
		t.conn = nil
	}
	if t.write {
		s.db.writer.give()
		t.write = false
	} else if t.draft.written {
		s.engine.drafts.leave(s)
	}
	s.releaseLocks()
	t.draft, t.ddl, t.lost = draft{}, false, true
}

// The statements that control transactions.

func (s *Session) runBegin(o *dialect.TxnOptions) error {
	if s.tx.block {
		s.out.Notice(sqlstate.New(sqlstate.ActiveTransaction, "there is already a transaction in progress"))
		return s.setModes(o)
	}
	if s.tx.implicit { // BEGIN after other statements of the same message: they join the block
		s.tx.block, s.tx.implicit = true, false
		return s.setModes(o)
	}
	s.tx.start(s, false)
	if err := s.setModes(o); err != nil {
		s.tx = transaction{} // it has not begun
		return err
	}
	return nil
}

// setModes applies transaction modes to the open transaction.
func (s *Session) setModes(o *dialect.TxnOptions) error {
	if o == nil {
		return nil
	}
	used := s.tx.conn != nil
	if o.Isolation != "" && o.Isolation != s.tx.isolation {
		if used {
			return sqlstate.New(sqlstate.ActiveTransaction, "SET TRANSACTION ISOLATION LEVEL must be called before any query")
		}
		s.tx.isolation = isolationOf(o.Isolation)
	}
	switch o.ReadOnly {
	case dialect.On:
		s.tx.readOnly, s.tx.unasked = true, false
	case dialect.Off:
		if used && s.tx.readOnly {
			return sqlstate.New(sqlstate.ActiveTransaction, "transaction read-write mode must be set before any query")
		}
		if s.following() {
			return s.notHere(errReadWriteInRecovery)
		}
		s.tx.readOnly = false
	}
	return nil
}

// isolationOf names the level that is given for the one that is asked for.
func isolationOf(level string) string {
	if level == "read uncommitted" {
		return readCommitted
	}
	return level
}

func (s *Session) runCommit(ctx context.Context, o *dialect.TxnOptions) (tag string, err error) {
	chain := o != nil && o.Chain
	if !s.tx.block {
		if chain {
			return "", chainOutside("COMMIT")
		}
		s.out.Notice(errNoTransaction)
		return "COMMIT", s.endImplicit(ctx)
	}
	modes := dialect.TxnOptions{Isolation: s.tx.isolation, ReadOnly: choice(s.tx.readOnly)}
	tag = "COMMIT"
	if s.tx.failed {
		tag = "ROLLBACK"
		s.abandon()
	} else if err := s.commit(ctx); err != nil {
		return "", err
	}
	if chain {
		s.tx.start(s, false)
		return tag, s.setModes(&modes)
	}
	return tag, nil
}

func chainOutside(verb string) error {
	return sqlstate.New(sqlstate.NoActiveTransaction, "%s AND CHAIN can only be used in transaction blocks", verb)
}

func (s *Session) runRollback(o *dialect.TxnOptions) error {
	chain := o != nil && o.Chain
	if !s.tx.block {
		if chain {
			return chainOutside("ROLLBACK")
		}
		s.out.Notice(errNoTransaction)
		s.abandon()
		return nil
	}
	modes := dialect.TxnOptions{Isolation: s.tx.isolation, ReadOnly: choice(s.tx.readOnly)}
	s.abandon()
	if chain {
		s.tx.start(s, false)
		return s.setModes(&modes)
	}
	return nil
}

func choice(on bool) dialect.Choice {
	if on {
		return dialect.On
	}
	return dialect.Off
}
