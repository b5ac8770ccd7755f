package router

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"skein/internal/dialect"
	"skein/internal/engine"
	"skein/internal/oid"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// Session is a client's session. It implements pgwire.Relay.
type Session struct {
	router *Router
	out    *pgwire.Conn
	start  pgwire.Startup

	here    *engine.Session // nil between two engines
	luggage *engine.Luggage // while here is nil
	away    *link           // nil while there is none
	cycle   cycle
	opening []byte            // the cycle that began the block that is open, while nothing else has run in it
	reopen  bool              // that block has to be begun again
	before  map[string]string // settings, before what is open at the leader changed some; nil: it did not
	lost    lost
	reads   reads
	came    provenance
	remote  bool // a router process's, for reads: what belongs to the leader is turned down
	front   front

	mu        sync.Mutex
	running   *engine.Session // what Cancel is for: one of the two
	answering *link
}

// lost is what a session has lost with a leader, and its client was not told of.
type lost int

const (
	nothing  lost = iota
	pipeline      // what came before Sync
	block         // a failed one takes its place
)

var errLostBlock = sqlstate.New(sqlstate.SerializationFailure, "the transaction was rolled back: its leader does not lead any more").
	WithHint("Repeat the transaction.")

// adopt takes an engine's session.
func (s *Session) adopt(here *engine.Session) {
	s.here = here
	s.cycle.reset(here.Status())
	s.mu.Lock()
	s.running = here
	s.mu.Unlock()
}

// attach has the session use the node's present engine.
func (s *Session) attach(ctx context.Context) error {
	for {
		if s.here != nil && s.here.Engine() == s.router.engine.Load() {
			return nil
		}
		if s.here != nil {
			s.detach(errNoEngine)
		}
		patience := s.patience()
		if s.remote { // its client's router has other nodes
			patience = 0
		}
		e, err := s.router.current(ctx, patience)
		if err != nil {
			return err
		}
		if !s.router.attach(s, e) {
			continue
		}
		here, err := e.Resume(s.out, s.start, s.luggage)
		if err != nil {
			s.router.detach(s)
			return err
		}
		s.luggage = nil
		if s.remote {
			here.Report()
		}
		kept := s.cycle
		s.adopt(here)
		if len(kept.raw) > 0 || kept.away {
			s.cycle = kept
		}
		return nil
	}
}

// detach gives the engine's session back. A client that has what cannot be taken along is sent away.
func (s *Session) detach(why *sqlstate.Error) {
	if s.here == nil {
		return
	}
	defer s.router.detach(s)
	s.abandon(s.here.Untouched())
	if !s.here.Carriable() {
		s.out.Terminate(why)
	}
	s.mu.Lock()
	s.running = nil
	s.mu.Unlock()
	s.luggage = s.here.Luggage()
	s.here.Close()
	s.here = nil
}

// abandon gives up what is under way here, so that it can be begun anew, or is known to be lost. untouched says that nothing but BEGIN has run
// in the block that is open.
func (s *Session) abandon(untouched bool) {
	c := &s.cycle
	switch status := s.here.Status(); {
	case s.reopen || s.away != nil && s.away.status != 'I':
	case status != 'I' && len(s.opening) > 0 && untouched && c.repeatable():
		s.reopen = true
	case status != 'I':
		s.lost = block
	case c.ran && c.last != 0:
		s.lost = pipeline
	}
	if c.last != 0 && !c.away && s.lost == nothing {
		c.away, c.again = true, !c.writes && !s.reopen
	}
	s.here.Abandon()
}

// interrupt ends what runs here, from any goroutine.
func (s *Session) interrupt(why *sqlstate.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		s.running.Interrupt(why)
	}
}

// patience is for how long the session waits for a leader.
func (s *Session) patience() time.Duration {
	if s.here == nil {
		return connectTime
	}
	return s.here.Duration("skein.failover_wait")
}

// Take decides where a message belongs. Those that belong here it leaves to the engine.
func (s *Session) Take(ctx context.Context, kind byte, body []byte) (bool, error) {
	if s.here == nil || s.here.Engine() != s.router.engine.Load() {
		if err := s.attach(ctx); err != nil {
			return false, err
		}
	}
	if s.router.options.Cluster == nil {
		return false, nil
	}
	c := &s.cycle
	if l := s.leaderLink(); l != nil && l.held != "" && !c.away && (s.here.Leads() || !s.alive(l)) {
		return false, errBereft
	}
	if s.away != nil && s.here.Leads() {
		if s.away.held != "" {
			return false, errBereft
		}
		s.hangUp()
	}
	switch {
	case c.failed:
		return true, s.skip(ctx, kind)
	case s.lost != nothing:
		return s.mourn(kind, body)
	case s.remote && kind == 'Q' && s.raised(body):
		return true, s.ready(ctx)
	case c.away:
		return true, s.forward(ctx, kind, body)
	case kind == 'Q' && s.splits(body):
		return true, s.split(ctx, body)
	case s.belongsAway(kind, body):
		if c.ran {
			return true, s.fail(kind, errMixed)
		}
		return true, s.forward(ctx, kind, body)
	}
	if s.router.options.Pool != nil { // what stays here reads nothing
		c.add(kind, body)
		return false, nil
	}
	switch kind {
	case 'P', 'B', 'D': // or what is described is not what will be read
		if !s.here.Standing() && s.here.Setting("skein.read_consistency") != "eventual" && !s.reach(ctx, s.here.Floor()) && !c.ran {
			return true, s.forward(ctx, kind, body)
		}
	case 'Q', 'E':
		fresh, err := s.freshen(ctx, kind, body)
		if errors.Is(err, errLeaving) {
			return s.Take(ctx, kind, body)
		}
		if err != nil {
			return true, s.fail(kind, err)
		}
		if !fresh && !s.unblock() {
			return true, s.fail(kind, errFallenBehind)
		}
		if !fresh {
			return true, s.forward(ctx, kind, body)
		}
		s.answersHere()
	}
	c.add(kind, body)
	return false, nil
}

// errMixed: the implicit transaction has read on this node already.
var errMixed = sqlstate.New(sqlstate.FeatureNotSupported, "a pipeline that has begun by reading on a follower cannot write").
	WithHint("Begin it with BEGIN, or send Sync before the write.")

// unblock gives up the block that has begun here, if there is one, so that it can begin anew at the leader. It is false if something
// has been read in it, or in the pipeline.
func (s *Session) unblock() bool {
	switch {
	case s.cycle.ran:
		return false
	case s.here.Status() == 'I':
		return true
	case !s.here.Untouched() || len(s.opening) == 0:
		return false
	}
	s.reopen = true
	s.here.Abandon()
	return true
}

// errFallenBehind: the pipeline cannot be moved to the leader in its middle.
var errFallenBehind = sqlstate.New(sqlstate.SerializationFailure, "this node cannot be as new as the rest of the pipeline must be").
	WithHint("Repeat it.")

// belongsAway says whether a message does.
func (s *Session) belongsAway(kind byte, body []byte) bool {
	if s.reopen {
		return true
	}
	if s.router.options.Pool != nil {
		return s.leaves(kind, body)
	}
	if s.here.Leads() {
		s.notes(kind, body)
		return false
	}
	if l := s.away; l != nil && (l.status != 'I' || l.held == engine.HeldTables) {
		s.notes(kind, body)
		return true
	}
	if s.here.Status() != 'I' { // a block that only reads, or has failed
		s.notes(kind, body)
		return false
	}
	away := s.notes(kind, body) || s.away != nil && s.away.held != "" && s.discards(kind, body)
	if !away && kind == 'P' && !s.cycle.ran && len(s.cycle.raw) == 0 {
		away = s.ahead()
	}
	return away
}

// splits says whether a text ends a block that is here and then goes on to write.
func (s *Session) splits(body []byte) bool {
	if s.reopen || s.here.Status() == 'I' || s.here.Leads() {
		return false
	}
	list := s.statements('Q', body)
	i := blockEnd(list)
	return i > 0 && slices.ContainsFunc(list[i:], func(st *dialect.Statement) bool { return writes(st, s.named, s.here.ReadsOnly()) })
}

// split runs such a text in its two parts.
func (s *Session) split(ctx context.Context, body []byte) error {
	list := s.statements('Q', body)
	i := blockEnd(list)
	if err := s.here.Simple(ctx, together(list[:i])); err != nil {
		return s.fail('Q', err)
	}
	s.cycle.reset(s.here.Status())
	rest := append([]byte(together(list[i:])), 0)
	if !s.belongsAway('Q', rest) {
		return s.fail('Q', errMixed)
	}
	return s.forward(ctx, 'Q', rest)
}

// blockEnd is how many statements there are up to the first that ends a block.
func blockEnd(list []*dialect.Statement) int {
	return 1 + slices.IndexFunc(list, func(st *dialect.Statement) bool {
		return st.Kind == dialect.Commit || st.Kind == dialect.Rollback
	})
}

func together(list []*dialect.Statement) string {
	texts := make([]string, len(list))
	for i, st := range list {
		texts[i] = st.Text
	}
	return strings.Join(texts, ";\n")
}

// discards says whether a message gives up what the session holds, some of it at the leader.
func (s *Session) discards(kind byte, body []byte) bool {
	return slices.ContainsFunc(s.statements(kind, body), func(st *dialect.Statement) bool { return st != nil && st.Kind == dialect.Discard })
}

// ahead looks whether the pipeline that begins here comes to write.
func (s *Session) ahead() (away bool) {
	s.out.Ahead(func(kind byte, body []byte) bool {
		if kind == 'S' || kind == 'H' {
			return false
		}
		away = s.notes(kind, body)
		return !away
	})
	return away
}

// notes looks at the statements of a message and says whether one of them writes. A text that cannot be read is refused
// here.
func (s *Session) notes(kind byte, body []byte) (away bool) {
	for _, st := range s.statements(kind, body) {
		if showsProvenance(st) {
			s.here.Told("skein.provenance", s.came.String())
		}
		w := writes(st, s.named, s.here.ReadsOnly())
		s.cycle.note(st, w)
		away = away || w
	}
	return away
}

func (s *Session) named(name string) *dialect.Statement {
	p, _ := s.here.Prepared(name)
	return p.Statement
}

// statements are those that a message is about.
func (s *Session) statements(kind byte, body []byte) []*dialect.Statement {
	switch kind {
	case 'Q':
		list, _ := s.here.Engine().Parse(text(body))
		return list
	case 'P':
		_, rest := cut(body)
		list, _ := s.here.Engine().Parse(text(rest))
		return list
	case 'B':
		_, rest := cut(body)
		return []*dialect.Statement{s.named(text(rest))}
	case 'D':
		if len(body) > 0 && body[0] == 'S' {
			return []*dialect.Statement{s.named(text(body[1:]))}
		}
	}
	return nil
}

// cut takes a string that ends in NUL off a message's body.
func cut(body []byte) (s, rest []byte) {
	s, rest, _ = bytes.Cut(body, []byte{0})
	return s, rest
}

func text(body []byte) string {
	s, _ := cut(body)
	return string(s)
}

// fail answers a message with an error. What comes before the next Sync is skipped.
func (s *Session) fail(kind byte, err error) error {
	if err := s.out.Report(err); err != nil {
		return err
	}
	return s.failing(kind)
}

// failing goes on after an error that the client has been told.
func (s *Session) failing(kind byte) error {
	s.here.Fail()
	if kind == 'Q' || kind == 'S' {
		return s.ready(context.WithoutCancel(context.Background()))
	}
	s.cycle.failed = true
	return nil
}

// skip waits for the Sync after an error.
func (s *Session) skip(ctx context.Context, kind byte) error {
	if kind != 'S' {
		return nil
	}
	return s.ready(ctx)
}

// ready ends a cycle that nobody else ends.
func (s *Session) ready(ctx context.Context) error {
	if err := s.here.Sync(ctx); err != nil {
		if err := s.out.Report(err); err != nil {
			return err
		}
	}
	s.end()
	return nil
}

// end tells the client that it may go on.
func (s *Session) end() {
	s.out.ReadyForQuery(s.Status())
	s.cycle.reset(s.Status())
}

// mourn tells the client that its block is lost; here there is a failed one in its place. A client that rolls it back need not know.
func (s *Session) mourn(kind byte, body []byte) (taken bool, err error) {
	lost, ends := s.lost, dialect.Kind(0)
	if list := s.statements(kind, body); len(list) == 1 && list[0] != nil {
		ends = list[0].Kind
	}
	s.revert()
	s.lost, s.opening = nothing, s.opening[:0]
	if lost == block && ends != dialect.Commit {
		s.here.Block()
	}
	if lost == block && ends == dialect.Rollback {
		s.cycle.add(kind, body)
		return false, nil
	}
	return true, s.fail(kind, errLostBlock)
}

// hangUp ends the link. A block that was open there is lost.
func (s *Session) hangUp() {
	if s.away == nil {
		return
	}
	c := &s.cycle
	switch {
	case s.away.status != 'I':
		s.lost = block
	case c.away && c.skips:
		c.failed = true
	case c.away && !c.repeatable():
		s.lost = pipeline
	}
	c.sent = 0
	s.drop()
}

func (s *Session) drop() {
	s.away.close(s.router)
	s.away = nil
}

// hangUpAll ends all links of a session that ends.
func (s *Session) hangUpAll() {
	for _, l := range []*link{s.away, s.front.parked} {
		switch {
		case l == nil:
		case l.place == nil:
			l.give(s.router)
		default:
			l.close(s.router)
		}
	}
	s.away, s.front.parked = nil, nil
}

// refused says whether a statement was refused before it had an effect, by an engine that does not lead.
func refused(err error) bool {
	var e *sqlstate.Error
	return errors.As(err, &e) && e.NotHere
}

// Parameters are those of the engine.
func (s *Session) Parameters() [][2]string {
	all := s.here.Parameters()
	if s.remote {
		for name, value := range s.here.Own() {
			all = append(all, [2]string{name, value})
		}
	}
	return all
}

// Simple runs a Query message here; what is refused goes away.
func (s *Session) Simple(ctx context.Context, sql string) error {
	before := s.out.Written()
	untouched := s.here.Untouched()
	err := s.here.Simple(ctx, sql)
	s.tellProvenance()
	if err != nil && refused(err) && s.out.Written() == before && s.moves(untouched) {
		if err := s.exchange(ctx); err != nil {
			return err
		}
		return pgwire.ErrAnswered
	}
	s.endHere()
	return err
}

// endHere ends a cycle that ran here.
func (s *Session) endHere() {
	c := &s.cycle
	status := s.here.Status()
	switch {
	case status == 'I':
		s.opening = s.opening[:0]
	case c.began == 'I' && c.opening && !c.long:
		s.opening = append(s.opening[:0], c.raw...)
	}
	c.reset(status)
}

// moves has a cycle that was refused here run away, if it can. untouched is what was so before the refusal.
func (s *Session) moves(untouched bool) bool {
	if s.router.options.Cluster == nil || s.remote || !s.cycle.repeatable() {
		return false
	}
	s.cycle.writes = true
	s.abandon(untouched)
	return s.lost == nothing
}

// Parse prepares a statement here.
func (s *Session) Parse(ctx context.Context, name, sql string, params []oid.OID) error {
	return s.count(s.here.Parse(ctx, name, sql, params))
}

// Bind makes a portal here.
func (s *Session) Bind(ctx context.Context, b *pgwire.Bind) error {
	return s.count(s.here.Bind(ctx, b))
}

// DescribeStatement describes a statement that is here.
func (s *Session) DescribeStatement(ctx context.Context, name string) ([]oid.OID, []pgwire.Field, error) {
	params, fields, err := s.here.DescribeStatement(ctx, name)
	return params, fields, s.count(err)
}

// DescribePortal describes a portal that is here.
func (s *Session) DescribePortal(ctx context.Context, name string) ([]pgwire.Field, error) {
	fields, err := s.here.DescribePortal(ctx, name)
	return fields, s.count(err)
}

func (s *Session) count(err error) error {
	if err == nil {
		s.cycle.answered++
	}
	return err
}

// Execute runs a portal here; what is refused goes away.
func (s *Session) Execute(ctx context.Context, portal string, maxRows int) error {
	before := s.out.Written()
	untouched := s.here.Untouched()
	err := s.here.Execute(ctx, portal, maxRows)
	if err != nil && refused(err) && s.out.Written() == before && s.moves(untouched) {
		return nil // it is sent with the Sync or Flush that follows
	}
	s.cycle.ran = true
	s.tellProvenance()
	return s.count(err)
}

// CloseStatement forgets a prepared statement.
func (s *Session) CloseStatement(name string) error { return s.count(s.here.CloseStatement(name)) }

// ClosePortal closes a portal.
func (s *Session) ClosePortal(name string) error { return s.count(s.here.ClosePortal(name)) }

// Sync ends the implicit transaction here.
func (s *Session) Sync(ctx context.Context) error {
	err := s.here.Sync(ctx)
	s.endHere()
	return err
}

// Fail says that a message failed.
func (s *Session) Fail() { s.here.Fail() }

// Status is the transaction status for ReadyForQuery.
func (s *Session) Status() byte {
	switch {
	case s.reopen:
		return 'T'
	case s.away != nil && s.away.status != 'I':
		return s.away.status
	case s.here == nil:
		return 'I'
	}
	return s.here.Status()
}

// Cancel interrupts what runs now, here or away.
func (s *Session) Cancel() {
	s.mu.Lock()
	var dial func(context.Context) (net.Conn, error)
	var key []byte
	switch {
	case s.answering != nil:
		dial, key = s.answering.dial, s.answering.cancel
	case s.running != nil:
		s.running.Cancel()
	}
	s.mu.Unlock()
	if key != nil {
		cancel(dial, key)
	}
}

// Close ends the session: the client is gone.
func (s *Session) Close() {
	s.hangUpAll()
	if s.here != nil {
		s.here.Close()
		s.here = nil
	}
	s.router.detach(s)
}
