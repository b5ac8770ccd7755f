package engine

import (
	"context"
	"errors"
	"fmt"

	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// errReadWriteInRecovery has PostgreSQL's text, and the code that drivers look for to find another node.
var errReadWriteInRecovery = sqlstate.New(sqlstate.ReadOnlyTransaction, "cannot set transaction read-write mode during recovery")

// toTheLeader is what to do with a write that a follower refuses.
const toTheLeader = "This node follows another. Connect to the leader: of several hosts, target_session_attrs=read-write finds it."

// errNoCopy is for a follower before its first copy.
var errNoCopy = sqlstate.New(sqlstate.CannotConnectNow, "the database system is starting up").
	WithDetail("This node follows another and has no copy of its data yet.")

// errCeasedToLead is for a transaction of which nothing will ever be seen: its client may repeat it, elsewhere.
var errCeasedToLead = sqlstate.New(sqlstate.SerializationFailure, "the transaction was rolled back: this node does not lead any more").
	WithHint("%s", toTheLeader)

// follows says whether this node follows another, so that it serves readers only. An engine that has led does so for
// good once that epoch is over: what its connections keep of it may have been taken back.
func (e *Engine) follows() bool {
	epoch := e.epoch.Load()
	return epoch == 0 || uint64(e.storage.Leads()) != epoch
}

// following is Engine.follows. It may change from one statement to the next.
func (s *Session) following() bool { return s.engine != nil && s.engine.follows() }

// standsBy says whether the client is to know: a hollow engine follows, but what writes is not for it to refuse.
func (s *Session) standsBy() bool { return s.following() && s.engine.hollow == nil }

// Promote makes an engine that was opened on a follower one that writes. The storage leads already. Sessions
// stay, and are told; they may write once it returns. It does what Open does on a leader, and may be repeated
// after an error.
func (e *Engine) Promote(ctx context.Context) error {
	if e.storage.Leads() == 0 || e.epoch.Load() != 0 {
		return errors.New("promote: the storage does not lead, or the engine has led before")
	}
	if err := e.begin(ctx); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	e.storage.Configure(e.cluster.Load().rule()) // a new leadership does not know it, also where nothing has changed
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, s := range e.sessions {
		s.out.Between(s.adopt)
	}
	return nil
}

// refuseWrite is what a write gets that the transaction, or the node, does not allow. The texts are PostgreSQL's.
func (s *Session) refuseWrite() error {
	st := s.statement
	what := st.Writing
	if what == "" {
		what = st.Tag
	}
	err := sqlstate.New(sqlstate.ReadOnlyTransaction, "cannot execute %s in a read-only transaction", what)
	// Where nobody has asked for it, this node followed when the statement was refused. It may lead by now.
	asked := s.tx.open() && s.tx.readOnly && !s.tx.unasked || !s.tx.open() && s.ReadsOnly()
	switch following := s.following(); {
	case asked && !following:
		return err
	case following && s.tx.open() && !s.tx.readOnly: // it began when this node led
		return s.notHere(errCeasedToLead)
	}
	switch st.Kind {
	case dialect.Vacuum, dialect.Analyze, dialect.Reindex, dialect.Lock:
		err = sqlstate.New(sqlstate.ReadOnlyTransaction, "cannot execute %s during recovery", st.Tag)
	}
	err = err.WithHint("%s", toTheLeader)
	if asked {
		return err
	}
	return s.notHere(err)
}

// begun says whether the system database has been read.
func (e *Engine) begun() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.roles) > 0
}

// Replicated says that readers see, up to an LSN, entries of a database that came from elsewhere. For the
// system database, databases, roles and settings are read again: new databases open, the sessions in
// those that were dropped end. It returns when that is done, and may be called for every entry.
func (e *Engine) Replicated(db history.DatabaseID, lsn history.LSN) {
	if db != history.SystemDatabase {
		return
	}
	if err := e.reload(context.Background()); err != nil {
		e.options.Logger.Error("a change of the system database could not be read; it will be tried again", "lsn", lsn, "error", err)
		e.unread.add(lsn)
	}
}

// Applied says that an entry that came from elsewhere is applied, and whether it changes a schema. It must be called before
// readers see the entry: no plan for the old schema is taken for one of the new, and who is shown
// databases, roles and what is stored for them is shown those of the entry.
func (e *Engine) Applied(db history.DatabaseID, lsn history.LSN, schema bool) {
	if db == history.SystemDatabase {
		e.unread.add(lsn)
	}
	if !schema {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.schemas[db] = max(e.schemas[db], lsn)
	for _, d := range e.databases {
		if d.ID == db {
			raise(&d.schema, uint64(lsn))
		}
	}
}

// errUnsettled is for who would read less than was acknowledged before this node led.
var errUnsettled = sqlstate.New(sqlstate.CannotConnectNow, "this node has just begun to lead and cannot show yet what was committed before").
	WithDetail("Its followers have not confirmed that.").
	WithHint("See skein status for why they do not. Reads at skein.read_consistency = 'eventual' go on.")

// awaitInherited has a read wait until this leader shows what its session may have been told before by another one. That is in its log, and
// must not be shown before a follower has it, too. Of a client of another node it is not known how much that is.
func (s *Session) awaitInherited(ctx context.Context) error {
	e := s.engine
	inherited := history.LSN(e.inherited.Load())
	if s.forwarded == nil { // what it was told elsewhere; of that, what is above was lost
		inherited = min(inherited, s.seen)
	}
	if e.storage.Visible() >= inherited || s.following() || aboutNode(s.statement) || s.settings.get("skein.read_consistency") == "eventual" {
		return nil
	}
	defer s.out.WatchClient(clientCheckInterval)()
	ctx, stop := context.WithTimeoutCause(ctx, s.settings.duration("skein.failover_wait"), errUnsettled)
	defer stop()
	if e.storage.Await(ctx, inherited) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// aboutNode says whether a query reads nothing that clients have made: what is asked about a node waits for nothing.
func aboutNode(st *dialect.Statement) bool {
	if st == nil || st.Kind != dialect.Select || !st.FromKnown || st.NamesObjects {
		return false
	}
	for _, name := range st.From {
		if !pgcatalog.AboutNode(name) {
			return false
		}
	}
	return true
}
