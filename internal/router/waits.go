package router

import (
	"context"
	"errors"
	"time"

	"skein/internal/engine"
	"skein/internal/sqlstate"
)

// What a session awaits by itself, so that a message may run, no engine can interrupt: that a node is as new as a read must be, that
// somebody leads, that this node has an engine.

// watchInterval is how often a session that waits looks whether its client is there.
const watchInterval = time.Second

// waiting gives a context that ends with a cancel request, with statement_timeout, and with a client that has gone, until stop is called.
func (s *Session) waiting(ctx context.Context) (_ context.Context, stop func()) {
	ctx, giveUp := context.WithCancelCause(ctx)
	s.mu.Lock()
	outer := s.giveUp
	s.giveUp = func(why error) {
		giveUp(why)
		if outer != nil {
			outer(why)
		}
	}
	s.mu.Unlock()
	unwatch := keep
	if outer == nil {
		unwatch = s.out.WatchClient(watchInterval)
	}
	timer := s.limit(giveUp)
	return ctx, func() {
		timer()
		unwatch()
		s.mu.Lock()
		s.giveUp = outer
		s.mu.Unlock()
		giveUp(nil)
	}
}

func keep() {}

// limit gives up after statement_timeout.
func (s *Session) limit(giveUp context.CancelCauseFunc) (stop func()) {
	var d time.Duration
	if s.here != nil {
		d = s.here.Duration("statement_timeout")
	} else if s.luggage != nil {
		d = s.luggage.Duration("statement_timeout")
	}
	if d == 0 {
		return keep
	}
	timer := time.AfterFunc(d, func() { giveUp(engine.ErrTimeout) })
	return func() { timer.Stop() }
}

// interruptible is for what is awaited while there is an engine: the context ends with that, too.
func (s *Session) interruptible(ctx context.Context) (_ context.Context, stop func()) {
	ctx, outer := s.waiting(ctx)
	ctx, inner := s.here.Interruptible(ctx)
	return ctx, func() {
		inner()
		outer()
	}
}

// givenUp is what ended the waiting, if it was neither the end of the wait nor the engine's.
func givenUp(waiting context.Context) *sqlstate.Error {
	var why *sqlstate.Error
	if waiting.Err() == nil || !errors.As(context.Cause(waiting), &why) {
		return nil
	}
	return why
}

// attachWaiting has the session use the node's present engine. taken says that the client has been told something instead.
func (s *Session) attachWaiting(ctx context.Context, kind byte) (taken bool, err error) {
	if s.here == nil && s.cycle.failed {
		return true, s.skip(ctx, kind)
	}
	waiting, done := s.waiting(ctx)
	defer done()
	if err := s.attach(waiting); err != nil {
		s.cycle.last = kind
		return true, s.parted(err, givenUp(waiting))
	}
	return false, nil
}

// parted has a client that waits no longer for an engine go on with why; without it, err is the last that it hears.
func (s *Session) parted(err error, why *sqlstate.Error) error {
	if why == nil || s.here != nil || s.out.Ended() != nil {
		return err
	}
	if s.reopen || s.lost == block {
		s.reopen, s.lost = false, block
	} else {
		s.lost = nothing
	}
	s.cycle.away = false
	return s.fail(s.cycle.last, why)
}
