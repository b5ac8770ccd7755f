package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"math"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/pgcatalog"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// A block holds nobody up while its client thinks: it writes a draft. What it changes stands on the snapshot that it reads,
// seen by itself alone, and does not take the turn. The turn comes with COMMIT. If nobody has committed since the snapshot, the
// draft is the transaction. Otherwise everything is run again on the newest state; if each
// statement tells the client what it was told before, that is the transaction, and it is serializable because it ran in
// one piece. If not, what the client knows is not true any more: 40001.
//
// The same is done for who has read and then takes the turn to write.
//
// What can be run again is the plain statement: one that acts on the database alone, whose result was sent whole. Before any
// other one, and when there is too much to run again, the draft is settled: the turn is taken, and kept as long as the block lasts.
type draft struct {
	written bool   // there are changes without the turn
	told    []told // everything so far, unless void
	steps   int    // of SQLite's machine for that
	bytes   int    // of statements and parameters for that
	void    bool   // something cannot be run again
}

// told is a statement that was run and what its client was told of it.
type told struct {
	portal *portal
	sum    uint64
}

// What is run again while everybody else waits must be short.
const (
	draftStatements = 100
	draftSteps      = 200_000 // some 10 ms
	draftBytes      = 1 << 20
)

var sumSeed = maphash.MakeSeed()

// again says whether a statement that reads and calls this may be run a second time for the first. What differs from call to
// call may be written: nobody has seen it yet.
func (r *columnReads) again(st *dialect.Statement) bool {
	for _, name := range r.functions {
		if pgcatalog.Acts(name) || st.Kind == dialect.Select && pgcatalog.Varies(name) {
			return false
		}
	}
	for _, col := range r.columns {
		if pgcatalog.Acts(col[0]) || strings.HasPrefix(strings.ToLower(col[0]), "pragma_") {
			return false
		}
	}
	return plain(st)
}

// plain says whether a statement may be one that is run again.
func plain(st *dialect.Statement) bool {
	switch st.Kind {
	case dialect.Select, dialect.Insert, dialect.Update, dialect.Delete:
		return !st.ForUpdate && !st.Returning && !st.AtLeader
	}
	return false
}

// drafts says whether a change may be one of a draft. READ COMMITTED waits for others instead, as in PostgreSQL, and
// so does who has just failed for that: what is tried again comes through. Who waits holds no connection, which a draft does: some
// are left for readers.
func (s *Session) drafts() bool {
	t := &s.tx
	if t.conn == nil && len(s.db.slots) >= cap(s.db.slots)*3/4 {
		return false
	}
	return t.block && !t.write && !t.draft.void && !t.readOnly && t.isolation != readCommitted && len(t.savepoints) == 0 &&
		s.own == nil && s.naming == "" && t.token == "" && !s.overtaken && !s.following() && s.settings.get("skein.optimistic_blocks") == "on"
}

// note has the portal's statement be run again with the rest of its transaction, if that comes to it. It must be called when the
// plan is made, and before the first step; the portal's connection may be another one after it.
func (p *portal) note(ctx context.Context, write bool) error {
	s := p.session
	t := &s.tx
	if t.write || t.readOnly {
		return nil
	}
	if !p.whole || !p.plan.again || p.plan.long.Load() || t.draft.full() {
		return s.unrepeatable(ctx, write)
	}
	if write {
		if !s.engine.drafts.enter(s) {
			return s.settle(ctx)
		}
		t.draft.written = true
		_ = t.conn.file.Draft(true)
	}
	p.sum = newSum()
	return nil
}

// leavesDraft says whether a statement of the engine's own has nothing to do with what would be run again.
func (s *Session) leavesDraft(st *dialect.Statement) bool {
	switch st.Kind {
	case dialect.Commit, dialect.Rollback, dialect.Show, dialect.NoOp,
		dialect.Prepare, dialect.Execute, dialect.Deallocate:
		return true
	case dialect.Begin, dialect.Set, dialect.Reset, dialect.SetTransaction: // what comes later may depend on it
		return len(s.tx.draft.told) == 0
	}
	return !s.tx.open()
}

// full says that there is too much to run again already.
func (d *draft) full() bool {
	return d.void || len(d.told) >= draftStatements || d.steps >= draftSteps || d.bytes >= draftBytes
}

// unrepeatable says that the transaction now does what is not run again. A draft is settled before.
func (s *Session) unrepeatable(ctx context.Context, write bool) error {
	t := &s.tx
	if t.write {
		return nil
	}
	if write || t.draft.written {
		return s.settle(ctx)
	}
	t.draft.void, t.draft.told = true, nil
	return nil
}

// keep notes that the portal's statement is done, and what its client was told.
func (d *draft) keep(p *portal) {
	sum := p.sum
	p.sum = nil
	if d.void {
		return
	}
	d.told = append(d.told, told{p, endSum(sum, p)})
	steps := p.stmt.Status(sqlite3.STMTSTATUS_VM_STEP, true)
	if steps > draftSteps { // the next time it takes the turn
		p.plan.long.Store(true)
	}
	d.steps += steps
	d.bytes += len(p.statement.Text)
	for _, v := range p.params {
		d.bytes += 16 + len(v.Bytes)
	}
}

// settleDraft takes the turn if there is something to commit.
func (s *Session) settleDraft(ctx context.Context) error {
	if s.tx.write || !s.tx.draft.written {
		return nil
	}
	return s.settle(ctx)
}

// settle takes the turn for a transaction that has read or written without it.
func (s *Session) settle(ctx context.Context) error {
	t := &s.tx
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	t.write = true
	s.engine.drafts.leave(s)
	f := t.conn.file
	switch {
	case f.SnapshotLSN() == 0: // nothing read yet
		f.PinHead(true)
		return f.Draft(false)
	case f.AtHead():
		t.draft = draft{}
		return f.Draft(false)
	case t.isolation == readCommitted && len(t.savepoints) == 0 && !s.openPortals():
		t.draft = draft{} // it moves on
	case t.draft.void || len(t.savepoints) > 0:
		return nil // SQLite's own check refuses what is too old
	}
	return s.runAgain(ctx)
}

// runAgain has the transaction be one of the newest state. It has the turn.
func (s *Session) runAgain(ctx context.Context) error {
	t := &s.tx
	again := t.draft.told
	t.draft = draft{}
	s.rollbackSQLite()
	s.giveConn(t.conn, t.source)
	t.conn = nil
	if _, err := s.openTransaction(ctx, true); err != nil {
		return err
	}
	for i, told := range again {
		sum, err := told.portal.runAgain(ctx)
		if err == nil && sum == told.sum {
			continue
		}
		s.overtaken = true
		return s.notAgain(i, err)
	}
	return nil
}

// runAgain gives the sum of what the client is told if the statement is run now. It tells the client nothing.
func (p *portal) runAgain(ctx context.Context) (uint64, error) {
	q := &portal{session: p.session, prepared: p.prepared, statement: p.statement, plan: p.plan, params: p.params}
	defer q.close()
	if err := q.start(ctx); err != nil {
		return 0, err
	}
	sum := newSum()
	row := func() error {
		for i := range q.plan.fields {
			addSum(sum, columnValue(q.stmt, i))
		}
		return nil
	}
	if _, err := q.step(0, row); err != nil {
		return 0, err
	}
	return endSum(sum, q), nil
}

func newSum() *maphash.Hash {
	h := &maphash.Hash{}
	h.SetSeed(sumSeed)
	return h
}

// addSum adds a value of a row.
func addSum(h *maphash.Hash, v pgwire.Value) {
	var b [9]byte
	b[0] = byte(v.Kind)
	switch v.Kind {
	case pgwire.Int:
		binary.LittleEndian.PutUint64(b[1:], uint64(v.Int))
	case pgwire.Float:
		binary.LittleEndian.PutUint64(b[1:], math.Float64bits(v.Float))
	default:
		binary.LittleEndian.PutUint64(b[1:], uint64(len(v.Bytes)))
	}
	_, _ = h.Write(b[:])
	_, _ = h.Write(v.Bytes)
}

// endSum adds what the command tag says.
func endSum(h *maphash.Hash, p *portal) uint64 {
	_ = p.tag()
	addSum(h, pgwire.Value{Kind: pgwire.Int, Int: p.rows})
	return h.Sum64()
}

// notAgain is what the client gets whose transaction came out differently: nothing of it is done. What has nothing to do with
// others' changes is told as it is.
func (s *Session) notAgain(i int, err error) error {
	overtaken := sqlstate.New(sqlstate.SerializationFailure, "could not serialize access due to concurrent update").
		WithHint("Retry the transaction. To have it wait for others instead, begin it with SELECT … FOR UPDATE, or use READ COMMITTED.")
	if err == nil {
		return overtaken.WithDetail("Another transaction has changed what statement %d of this one found.", i+1)
	}
	var e *sqlstate.Error
	if err = s.translate(err); !errors.As(err, &e) || !strings.Contains("0A 22 23 42 54 55 P0", string(e.Code[:2])) {
		return err
	}
	return overtaken.WithDetail("Another transaction has changed what statement %d of this one found: now it fails with %q.", i+1, e.Message)
}
