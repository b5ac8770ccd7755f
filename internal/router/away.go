package router

import (
	"context"
	"errors"
	"net"
	"time"

	"skein/internal/engine"
	"skein/internal/pgwire"
	"skein/internal/rest"
	"skein/internal/sqlstate"
)

const (
	// window bounds what is sent before the answers to it are read, so that the two sides never wait for each other to
	// read: it fits the buffers between them.
	window = 64 << 10

	// retryPause is how long a node that is named leader and does not lead yet is let be.
	retryPause = 10 * time.Millisecond

	// cancelTime is for how long a leader is tried to be told of a cancel request.
	cancelTime = 2 * time.Second
)

// forward has a message answered by the leader. It is sent with the Sync or Flush that follows.
func (s *Session) forward(ctx context.Context, kind byte, body []byte) error {
	c := &s.cycle
	switch {
	case s.remote:
		return s.fail(kind, engine.ErrNotLeader)
	case c.skips && kind != 'S':
		return nil
	case c.long && !c.away:
		return s.fail(kind, errMixed)
	case c.away:
		s.notes(kind, body)
	}
	c.away = true
	c.add(kind, body)
	switch {
	case kind == 'Q', kind == 'S', kind == 'H':
		return s.exchange(ctx)
	case len(c.raw)-c.sent >= window:
		c.add('H', nil)
		return s.exchange(ctx)
	}
	return nil
}

// exchange sends what has gathered and passes the answers on, as often as it takes and is allowed.
func (s *Session) exchange(ctx context.Context) error {
	s.here.Awake()
	waiting, stop := s.waiting(ctx)
	defer stop()
	deadline := time.Now().Add(s.patience())
	before := s.mark()
	for {
		done, err := s.settle(waiting, deadline)
		if err == nil {
			err = s.connect(waiting, deadline)
		}
		if err == nil {
			err = s.attempt(ctx)
		}
		done()
		if err == nil {
			return nil
		}
		s.router.options.Logger.Debug("forwarding failed", "error", err)
		if s.here == nil { // nor will there be an engine soon
			return s.parted(err, givenUp(waiting))
		}
		s.rewind(before)
		if ended := s.out.Ended(); ended != nil {
			return ended
		}
		open := s.away != nil && s.away.status != 'I'
		var from Leader
		if s.away != nil {
			from = s.away.leader
		}
		if s.away != nil && (open || !errors.Is(err, errTurnedDown)) {
			s.failed(err)
			held := s.away.held
			s.drop()
			if held != "" {
				return s.bereft(err)
			}
		}
		why := givenUp(waiting)
		if errors.Is(err, errLeaving) && why == nil { // connect finds the next engine
			s.cycle.sent = 0
			continue
		}
		settled, repeat, failed := s.resolve(waiting, err, from, deadline)
		switch {
		case settled:
			return failed
		case s.here == nil && givenUp(waiting) != nil:
			return s.parted(err, unknown(err))
		case s.here == nil:
			return err
		}
		if why = givenUp(waiting); why != nil || !repeat && !s.again(err, open) || !time.Now().Before(deadline) {
			return s.surrender(err, open, why)
		}
		s.cycle.sent = 0
		if !errors.Is(err, errTurnedDown) {
			_ = rest.For(waiting, retryPause)
		}
	}
}

// bereft gives the last word to a client that has lost what it held at the leader: its locks are somebody else's by now, and the name of a
// temporary table may mean another one, that of a cursor nothing.
func (s *Session) bereft(err error) error {
	var fatal *fatalError
	var lost *lostError
	switch c := &s.cycle; {
	case errors.As(err, &fatal):
		return fatal.last
	case errors.As(err, &lost) && c.lasting() && !c.erred:
		if err := s.out.Report(unknown(err)); err != nil {
			return err
		}
	}
	return errBereft
}

var errBereft = sqlstate.New(sqlstate.AdminShutdown, "terminating connection: the leader has gone that held this session's locks, temporary tables or cursors").
	WithHint("Connect again.")

// unknown is for a cycle that may have made something that lasts.
func unknown(err error) *sqlstate.Error {
	return sqlstate.New(sqlstate.TransactionUnknown, "the outcome of the transaction is unknown: %v", err).
		WithDetail("It was sent to the leader, and whether it was committed there was not learnt.").
		WithHint("Look whether its changes are there before you repeat it, or name transactions with skein.transaction_token.")
}

// mark is how far the answering of a cycle was at some time.
type mark struct {
	written  int64
	answered int
	noted    int
	ran      bool
}

func (s *Session) mark() mark {
	c := &s.cycle
	return mark{written: s.out.Written(), answered: c.answered, ran: c.ran, noted: len(c.noted)}
}

// rewind takes back what the client has been answered since, if nothing of it has left. Rows and the end of a statement may be taken back, as
// long as only the end of the cycle commits; never an error, which may be that the outcome is unknown.
func (s *Session) rewind(to mark) {
	c := &s.cycle
	if c.erred || !c.plain || !s.out.Rewind(to.written) {
		return
	}
	for _, name := range c.noted[to.noted:] {
		_ = s.here.CloseStatement(name)
	}
	c.answered, c.ran, c.noted = to.answered, to.ran, c.noted[:to.noted]
	c.synced, c.skips = false, false
}

// again says whether the cycle may be sent once more. open is whether a block was open at the leader.
func (s *Session) again(err error, open bool) bool {
	c := &s.cycle
	if !c.repeatable() {
		return false
	}
	if open || c.began != 'I' {
		if len(s.opening) == 0 {
			return false
		}
		s.reopen = true
	}
	var fatal *fatalError
	var lost *lostError
	var told *sqlstate.Error
	switch {
	case errors.As(err, &fatal), errors.As(err, &told):
		return false
	case errors.As(err, &lost):
		return !c.writes || c.opening || s.reopen && !c.commits
	}
	return true
}

// surrender tells the client what is known of a cycle that was not answered to its end. why is for a client that waits no longer.
func (s *Session) surrender(err error, open bool, why *sqlstate.Error) error {
	c := &s.cycle
	var fatal *fatalError
	var lost *lostError
	var told *sqlstate.Error
	s.reopen = false
	switch {
	case errors.As(err, &fatal):
		return fatal.last
	case c.erred: // the client has heard of an error, and of no other one
		if (open || c.began != 'I') && !c.commits {
			s.here.Block()
		}
	case why != nil && !(errors.As(err, &lost) && c.lasting() && !c.copying):
		told = why
		if (open || c.began != 'I') && !c.commits {
			s.here.Block()
		}
	case errors.Is(err, errTurnedDown):
		told = errMixed
	case s.front.reads && errors.As(err, &lost) && (open || c.began != 'I' || !c.repeatable()):
		told = errLostReader
		if open || c.began != 'I' {
			s.here.Block()
		}
	case (open || c.began != 'I') && !c.commits:
		told = errLostBlock
		s.here.Block()
	case errors.As(err, &lost) && c.lasting() && !c.copying:
		told = unknown(err)
	case errors.As(err, &told):
	case open || c.began != 'I' || c.copying:
		told = errLostBlock
	case s.front.reads:
		told = sqlstate.New(sqlstate.CannotConnectNow, "no node has answered this read: %v", err).
			WithHint("Try again in a moment; skein status on a node says what is wrong.")
	default:
		told = sqlstate.New(sqlstate.CannotConnectNow, "there is no leader to run this statement: %v", err).
			WithDetail("Nothing of it has been done. It waited for skein.failover_wait (%v).", s.patience()).
			WithHint("Reads go on. See skein status for what keeps the cluster from having a leader.")
	}
	s.opening = s.opening[:0]
	c.away = false
	s.revert()
	if told == nil {
		err = s.failing(c.last)
	} else {
		err = s.fail(c.last, told)
	}
	if err == nil {
		s.here.Rest(false)
	}
	return err
}

// attempt sends the cycle's messages from the first on that was not sent, and reads until all of them are answered.
func (s *Session) attempt(ctx context.Context) error {
	l, c := s.away, &s.cycle
	if l == nil {
		return s.rerun(ctx)
	}
	defer context.AfterFunc(ctx, func() { _ = l.up.Close() })()
	s.tidy()
	if l.status == 'I' {
		l.set(s.here)
		l.raise(s.here)
	}
	if s.reopen {
		s.send(s.opening, 0, len(s.opening))
	}
	switch told, err := s.recheck(ctx); {
	case err != nil:
		return err
	case told != nil:
		s.opening, s.reopen, c.away = s.opening[:0], false, false
		return s.fail(c.last, told)
	}
	s.send(c.raw, c.sent, -1)
	if err := l.up.Flush(); err != nil {
		return errUnsent
	}
	c.sent = len(c.raw)
	if len(c.raw) > maxKept {
		c.raw, c.sent, c.long = c.raw[:0], 0, true
	}
	s.mu.Lock()
	s.answering, s.canceled = l, false
	s.mu.Unlock()
	err := s.pump(l)
	s.mu.Lock()
	s.answering = nil
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.reopen = false
	if c.synced {
		return s.finish(ctx)
	}
	s.here.Rest(true)
	return nil
}

// connect finds the leader, and sees that the link is to it; without one if that is this node.
func (s *Session) connect(ctx context.Context, deadline time.Time) error {
	if err := s.attach(ctx); err != nil || s.cycle.again {
		return err
	}
	if l := s.away; l != nil {
		if s.alive(l) {
			return nil
		}
		return errUnsent
	}
	if s.front.reads {
		return errUnsent
	}
	ctx, done := s.interruptible(ctx)
	defer done()
	ctx, stop := context.WithDeadline(ctx, deadline)
	defer stop()
	for {
		changed := s.router.options.Cluster.Changed()
		to, ok := s.router.options.Cluster.Leader()
		switch {
		case ok && to.Here && s.here.Leads():
			return nil
		case ok && !to.Here:
			l, err := s.dial(ctx, to, true)
			if err == nil {
				s.away = l
				return nil
			}
			s.router.options.Logger.Debug("the leader cannot be reached", "leader", to.Name, "error", err)
		}
		select {
		case <-changed:
		case <-time.After(retryPause):
		case <-ctx.Done():
			return errors.Join(errUnsent, context.Cause(ctx))
		}
		if err := s.attach(ctx); err != nil { // what this node's engine is may have changed as well
			return err
		}
	}
}

// alive reads what the leader has said meanwhile: it may have sent this node away.
func (s *Session) alive(l *link) bool {
	if now, ok := s.router.options.Cluster.Leader(); ok && l.place == nil && now.Epoch > l.leader.Epoch {
		return false
	}
	for l.up.Pending() {
		kind, body, err := l.up.Next()
		if err != nil || kind == 'E' {
			return false
		}
		s.aside(l, kind, body)
	}
	return true
}

// revert has the settings be as before the transaction that is lost.
func (s *Session) revert() {
	if s.before != nil {
		s.here.Revert(s.before)
		s.before = nil
	}
}

// cancel asks a leader to interrupt what a session of this router runs there.
func cancel(dial func(context.Context) (net.Conn, error), key []byte) {
	ctx, stop := context.WithTimeout(context.Background(), cancelTime)
	defer stop()
	conn, err := dial(ctx)
	if err != nil {
		return
	}
	up := pgwire.NewUpstream(conn)
	if up.Cancel(key) == nil {
		_, _, _ = up.Next() // its end
	}
	_ = up.Close()
}
