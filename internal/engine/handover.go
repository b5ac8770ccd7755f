package engine

import (
	"context"
	"encoding/binary"
	"maps"
	"time"

	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/oid"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// What a router needs of a session beside running its messages: that it can tell what belongs elsewhere, and
// that what a client has set up can be taken to another engine.

// Parse gives the statements of a text.
func (e *Engine) Parse(sql string) ([]*dialect.Statement, error) { return e.parse(sql) }

// Leads says whether this engine takes writes.
func (e *Engine) Leads() bool { return !e.follows() }

// OpenForwarded opens a session that another node's router uses for a client, who has proved who it is there. It reports
// every setting that changes, how far it has seen, and what it holds.
func (e *Engine) OpenForwarded(out *pgwire.Conn, st pgwire.Startup) (*Session, error) {
	if !e.Leads() {
		return nil, ErrNotLeader
	}
	s, err := e.connect(out, st)
	if err != nil {
		return nil, err
	}
	s.Report()
	return s, nil
}

// Report has the session tell a router what those of OpenForwarded do.
func (s *Session) Report() { s.forwarded = &forwarded{} }

// forwarded is what a router has been told of a session.
type forwarded struct {
	seen history.LSN
	held string
}

// The parameters that only routers are told.
const (
	SeenParameter = "skein.seen" // LSN that the session has seen, as pg_lsn
	HeldParameter = "skein.held" // what cannot be made anew elsewhere: "", HeldTables or HeldLocks
	HeldTables    = "temp"       // or cursors: what a name means
	HeldLocks     = "locks"
)

// ErrNotLeader is for routers: what they asked had no effect.
var ErrNotLeader = &sqlstate.Error{
	Code: sqlstate.NotLeader, Message: "this node does not lead", NotHere: true,
}

// tellRouter reports, before the client may send again, what a router keeps of a session.
func (s *Session) tellRouter() {
	f := s.forwarded
	if f == nil {
		return
	}
	if seen := max(s.floor, s.engine.storage.Visible()); seen != f.seen {
		f.seen = seen
		s.out.ParameterStatus(SeenParameter, seen.PgLSN())
	}
	if held := s.held(); held != f.held {
		f.held = held
		s.out.ParameterStatus(HeldParameter, held)
	}
}

// held names what the session has that nobody can make anew elsewhere.
func (s *Session) held() string {
	switch {
	case s.own != nil, s.keeps():
		return HeldTables
	case s.locked:
		return HeldLocks
	}
	return ""
}

// keeps says whether a cursor has outlived its transaction.
func (s *Session) keeps() bool {
	for _, c := range s.cursors {
		if c.kept {
			return true
		}
	}
	return false
}

// notHere marks the refusal of a statement before it, or anything else of its transaction, has had an effect, or its client has heard
// of it: the leader may run it. Between nodes it has a code of its own, and what was heard before is taken back there.
func (s *Session) notHere(e *sqlstate.Error) error {
	if !s.untouched() {
		return e
	}
	if s.forwarded != nil {
		return ErrNotLeader
	}
	if s.out.Written() != s.told {
		return e
	}
	moved := *e
	moved.NotHere = true
	return &moved
}

// untouched says that the transaction, if one is open, has neither read nor written anything.
func (s *Session) untouched() bool {
	t := &s.tx
	return t.conn == nil && len(t.savepoints) == 0 && len(t.changes) == 0 && !t.failed
}

// Untouched says that nothing but BEGIN has run in the block that is open.
func (s *Session) Untouched() bool { return s.tx.block && s.untouched() }

// Carriable says that a session opened elsewhere with this one's Luggage would be as good, but for what is open.
func (s *Session) Carriable() bool { return s.held() == "" }

// Luggage is what a client has set up.
type Luggage struct {
	settings   map[string]string
	startup    map[string]first
	statements map[string]*prepared
	floor      history.LSN
}

// Luggage gives it. The session must not be used any more, but for Close.
func (s *Session) Luggage() *Luggage {
	return &Luggage{s.settings.values, s.startup, s.statements, s.Floor()}
}

// Duration gives a setting that is one, as far as it was the client's.
func (l *Luggage) Duration(name string) time.Duration {
	return (&settings{values: l.settings}).duration(name)
}

// Resume opens a session that goes on where another one with this luggage was, outside of any transaction. The client
// is told what has changed.
func (e *Engine) Resume(out *pgwire.Conn, st pgwire.Startup, l *Luggage) (*Session, error) {
	s, err := e.connect(out, st)
	if err != nil {
		return nil, err
	}
	s.settings.values, s.startup, s.seen = l.settings, l.startup, l.floor
	for name, p := range l.statements {
		s.statements[name] = &prepared{text: p.text, statement: p.statement, declared: p.declared}
	}
	for name := range s.settings.values {
		s.applyToEnv(name, s.settings.get(name))
	}
	s.applied("in_hot_standby")
	return s, nil
}

// Prepared is a named statement, as its client has prepared it.
type Prepared struct {
	Text      string
	Statement *dialect.Statement // nil for an empty text
	Declared  []oid.OID
	which     *prepared // of those that had the name
}

// Same says whether two are one and not only alike.
func (p Prepared) Same(q Prepared) bool { return p.which == q.which }

// Pending says that nobody has answered for the statement yet.
func (p Prepared) Pending() bool { return p.which == nil }

// Message gives the body of the Parse message that prepares it.
func (p Prepared) Message(name string) []byte {
	body := append(append([]byte(name), 0), p.Text...)
	body = binary.BigEndian.AppendUint16(append(body, 0), uint16(len(p.Declared)))
	for _, t := range p.Declared {
		body = binary.BigEndian.AppendUint32(body, uint32(t))
	}
	return body
}

// Prepared gives a named statement.
func (s *Session) Prepared(name string) (Prepared, bool) {
	p := s.statements[name]
	if p == nil {
		return Prepared{}, false
	}
	text := p.text
	if text == "" && p.statement != nil { // of SQL's PREPARE
		text = p.statement.Text
	}
	return Prepared{text, p.statement, p.declared, p}, true
}

// Note keeps a statement that was prepared elsewhere. Here it is analysed when it is first used.
func (s *Session) Note(name, text string, st *dialect.Statement, declared []oid.OID) {
	s.statements[name] = &prepared{text: text, statement: st, declared: append([]oid.OID(nil), declared...)}
}

// Describe notes what the client was told, elsewhere, of the result of a prepared statement: nil for no rows.
func (s *Session) Describe(name string, fields []pgwire.Field) {
	if p := s.statements[name]; p != nil && p.plan == nil {
		p.plan, p.described = &plan{fields: fields, schema: schemaVersion{edits: -1}}, true
	}
}

// Described gives the result of a prepared statement as the client was told it; false if it was not told.
func (s *Session) Described(name string) ([]pgwire.Field, bool) {
	p := s.statements[name]
	if p == nil || !p.described || p.plan == nil {
		return nil, false
	}
	return p.plan.fields, true
}

// Committed says whether the transaction with a token is committed, now and for ever: it waits for its turn to write, so that
// whatever was sent before has ended, and until what it has seen is acknowledged.
func (s *Session) Committed(ctx context.Context, token string) (bool, error) {
	ctx, done := s.run(ctx)
	defer done()
	naming := s.naming
	s.resolving, s.naming = true, "" // the question is not that transaction
	defer func() { s.resolving, s.naming = false, naming }()
	l, err := s.lease(ctx, true)
	if err != nil {
		return false, s.failed(err)
	}
	defer l.give()
	committed, err := s.hasCommitted(l.conn, token)
	if err != nil {
		return false, s.failed(err)
	}
	return committed, s.endImplicit(ctx)
}

// asksForRouter says whether a question about a token is asked as Committed does, here or by another node's router. Its
// transaction ends only when what it has seen is acknowledged.
func (s *Session) asksForRouter() bool { return s.resolving || s.forwarded != nil && s.tx.implicit }

// Repeat does here what a statement has done elsewhere to the session's own things: it forgets prepared statements.
func (s *Session) Repeat(st *dialect.Statement) {
	switch st.Kind {
	case dialect.Deallocate:
		_ = s.runDeallocate(st.Name)
	case dialect.Discard:
		_ = s.runDiscard(st.Name)
	case dialect.Prepare:
		s.Note(st.Prepare.Name, "", st.Prepare.Query, st.Prepare.Types)
	}
}

// ReadsOnly says whether a transaction that begins now may not write, as the client has asked.
func (s *Session) ReadsOnly() bool { return s.settings.get("default_transaction_read_only") == "on" }

// Own gives the session's own settings by which it differs from others of the same role and database.
func (s *Session) Own() map[string]string {
	own := maps.Clone(s.settings.values)
	maps.DeleteFunc(own, func(name, _ string) bool { return !carried(name) })
	return own
}

// carried says whether a setting is taken along with the session.
func carried(name string) bool {
	switch name {
	case "session_authorization", "role":
		return false
	}
	p := parameters[name]
	return p == nil || !p.readOnly && !p.node && !p.agreed
}

// Changes counts changes of Own.
func (s *Session) Changes() int { return s.changes }

// Adopt takes over a setting that a statement of this session has changed elsewhere. It goes through no transaction.
func (s *Session) Adopt(name, value string) {
	if value, err := checked(name, value); err == nil && carried(name) && s.settings.get(name) != value {
		s.settings.put(name, value)
		s.applied(name)
	}
}

// Revert has the session's settings be as Own gave them.
func (s *Session) Revert(own map[string]string) {
	for name := range s.Own() {
		if _, had := own[name]; !had {
			delete(s.settings.values, name)
			s.applied(name)
		}
	}
	for name, value := range own {
		s.Adopt(name, value)
	}
}

// Floor is the oldest LSN that the session may still read: it never goes back.
func (s *Session) Floor() history.LSN { return max(s.floor, s.seen) }

// least is the oldest state that the session is shown, whether everybody sees it or not: only a leader's own sessions see more than
// that. What a follower has above it may be cut, and the session's floor is then of another history, whose entries it may not have.
func (s *Session) least() history.LSN {
	if s.following() {
		return 0
	}
	return s.floor
}

// Raise raises Floor, for what the session has seen elsewhere. Who calls it waits for the LSN to be visible here before the session
// reads: the log of this node may have something else under that number, which the cluster is about to cut.
func (s *Session) Raise(lsn history.LSN) { s.seen = max(s.seen, lsn) }

// Forget lowers Floor to nothing: what the session had seen is not part of the history any more.
func (s *Session) Forget() { s.floor, s.seen = 0, 0 }

// Standing says that the open transaction reads one state, which it has chosen already.
func (s *Session) Standing() bool { return s.tx.conn != nil && s.tx.conn.file.SnapshotLSN() > 0 }

// Block gives the session a transaction block that has failed: what it did is gone with a leader.
func (s *Session) Block() {
	s.tx.start(s, false)
	s.fail()
}

// Abandon rolls back whatever is open.
func (s *Session) Abandon() { s.abandon() }

// Engine is whose session it is.
func (s *Session) Engine() *Engine { return s.engine }

// Leads says whether the session takes writes.
func (s *Session) Leads() bool { return !s.following() }

// Interrupt ends what runs now, and only that, with an error; it comes from any goroutine, as Cancel does.
func (s *Session) Interrupt(why *sqlstate.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(why)
	}
}

// Interruptible gives a context that ends with a cancel request or statement_timeout, for what is awaited before a message runs.
func (s *Session) Interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	var timer *time.Timer
	if d := s.settings.duration("statement_timeout"); d > 0 {
		timer = time.AfterFunc(d, func() { cancel(ErrTimeout) })
	}
	return ctx, func() {
		if timer != nil {
			timer.Stop()
		}
		s.mu.Lock()
		s.cancel = nil
		s.mu.Unlock()
		cancel(nil)
	}
}

// Duration gives a setting that is one.
func (s *Session) Duration(name string) time.Duration { return s.settings.duration(name) }

// Awake and Rest enclose what is done for the session elsewhere: it is not idle meanwhile.
func (s *Session) Awake() { s.awake() }

// Rest ends what Awake began. inBlock says that a block is open there.
func (s *Session) Rest(inBlock bool) { s.idleSince(inBlock) }
