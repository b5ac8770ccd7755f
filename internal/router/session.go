package router

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

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
	opening []byte            // the cycles that began the block that is open and said how it runs, while nothing else has run in it
	reopen  bool              // that block has to be begun again
	before  map[string]string // settings, before what is open at the leader changed some; nil: it did not
	lost    lost
	reads   reads
	came    provenance
	remote  bool // a router process's, for reads: what belongs to the leader is turned down
	front   front
	lent    bool // another router's, for its client: it ends with the engine

	mu        sync.Mutex
	running   *engine.Session // what Cancel is for: one of the two
	answering *link
	canceled  bool                    // before answering could be told
	giveUp    context.CancelCauseFunc // what the session itself awaits; nil: it does not
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
	if s.remote && !s.lent {
		for name, value := range s.here.Own() {
			all = append(all, [2]string{name, value})
		}
	}
	return all
}

// Simple runs a Query message here; what is refused goes away.
func (s *Session) Simple(ctx context.Context, sql string) error {
	err := s.here.Simple(ctx, sql)
	if err != nil && refused(err) && s.moves() {
		if err := s.exchange(ctx); err != nil {
			return err
		}
		return pgwire.ErrAnswered
	}
	s.tellProvenance()
	s.endHere()
	return err
}

// endHere ends a cycle that ran here.
func (s *Session) endHere() {
	c := &s.cycle
	status := s.here.Status()
	switch {
	case status != 'T', c.commits, c.modes && (!c.opening || c.long || len(s.opening)+len(c.raw) > maxKept):
		s.opening = s.opening[:0]
	case c.began == 'I' && c.opening && !c.long:
		s.opening = append(s.opening[:0], c.raw...)
	case c.modes && len(s.opening) > 0:
		s.opening = append(s.opening, c.raw...)
	}
	c.reset(status)
}

// moves has a cycle that was refused here run away, if it can. The refusal says that nothing but BEGIN has run in the block that is open.
func (s *Session) moves() bool {
	switch {
	case s.router.options.Cluster == nil, s.remote, !s.cycle.repeatable(), s.here.Status() != 'I' && len(s.opening) == 0:
		return false
	}
	s.cycle.writes = true
	s.abandon(true)
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
	err := s.here.Execute(ctx, portal, maxRows)
	if err != nil && refused(err) && s.moves() {
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
	case s.here == nil && s.lost == block:
		return 'E'
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
	if s.giveUp != nil {
		s.giveUp(engine.ErrCanceled)
	}
	switch {
	case s.answering != nil:
		dial, key = s.answering.dial, s.answering.cancel
		s.canceled = key == nil // the session there is still being opened
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
