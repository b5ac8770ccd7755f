package engine

import (
	"context"
	"errors"
	"time"

	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/sqlstate"
)

// WAIT FOR LSN is PostgreSQL 19's, with its modes, its results and the texts of its errors. Beyond that it takes bookmarks,
// and every mode but primary_flush on the leader too, where standby_replay means that readers see the position:
// a client need not know which node it speaks to. Not in recovery is what it says of a bare LSN
// whose follower was promoted meanwhile: which history it is of, nobody knows then. A bookmark says so itself.

// waitPace is how often a wait for the log looks at it, where no reader has to see anything.
const waitPace = 2 * time.Millisecond

var (
	errWaitTimeout   = errors.New("timeout of WAIT FOR LSN")
	errNotInRecovery = errors.New("recovery is not in progress")
	errHoldsSnapshot = sqlstate.New(sqlstate.NotInRequiredState, "WAIT FOR must be called without an active or registered snapshot").
				WithDetail("What the transaction has begun to read or write stays as it was then.").
				WithHint("Wait before BEGIN, or as the first statement after it.")
)

// waiting is how a mode is spoken of, and how far the node is in it.
type waiting struct {
	participle string
	mark       func(Storage) history.LSN
}

var waits = map[string]waiting{
	dialect.StandbyReplay: {"replayed", Storage.Visible},
	dialect.StandbyWrite:  {"written", Storage.Head},
	dialect.StandbyFlush:  {"flushed", Storage.Flushed},
	dialect.PrimaryFlush:  {"flushed", Storage.Flushed},
}

func (p *portal) runWait(ctx context.Context, w *dialect.WaitStmt) error {
	s := p.session
	target, err := parsePosition(w.LSN)
	if err != nil {
		return sqlstate.New(sqlstate.InvalidTextRepresentation, "invalid input syntax for type pg_lsn: %q", w.LSN).WithHint("%s", positionHint)
	}
	timeout, err := waitTimeout(w.Timeout)
	if err != nil {
		return err
	}
	if s.tx.conn != nil || s.openPortals() {
		return errHoldsSnapshot
	}
	if w.Mode == dialect.PrimaryFlush && s.following() {
		return sqlstate.New(sqlstate.NotInRequiredState, "recovery is in progress").
			WithHint("Waiting for primary_flush can only be done on a primary server. Use standby_flush mode on a standby server.")
	}
	status := "success"
	err = s.awaitPosition(ctx, target, w, timeout)
	switch {
	case w.NoThrow && errors.Is(err, errWaitTimeout):
		status = "timeout"
	case w.NoThrow && errors.Is(err, errNotInRecovery):
		status = "not in recovery"
	case err != nil:
		return s.waitFailed(err, target, w)
	}
	if p.simple {
		s.out.RowDescription(utilityFields(s, p.statement))
	}
	return p.sendTexts([]string{status})
}

// waitTimeout reads TIMEOUT; 0 is none.
func waitTimeout(value string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	ms, err := quantity(value, "ms")
	switch {
	case errors.Is(err, errOutOfRange):
		return 0, sqlstate.New(sqlstate.NumericOutOfRange, "timeout value is out of range")
	case err != nil:
		return 0, sqlstate.New(sqlstate.InvalidParameterValue, "invalid timeout value: %q", value).WithHint("%s", quantityHint("ms"))
	case ms < 0:
		return 0, sqlstate.New(sqlstate.InvalidParameterValue, "timeout cannot be negative")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// awaitPosition returns once this node has come to a position in a mode.
//
// That its LSN is reached does not mean that of a bookmark: where the commit was cut, something else has that LSN. So
// its place in the history is looked at with each step, and what readers see decides whether it was cut: the end of the log may
// itself be cut.
func (s *Session) awaitPosition(ctx context.Context, target position, w *dialect.WaitStmt, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errWaitTimeout)
		defer cancel()
	}
	defer s.out.WatchClient(clientCheckInterval)()
	storage, mark := s.engine.storage, waits[w.Mode].mark
	followed := s.standby // when the statement began
	for {
		visible := storage.Visible() // before it is looked at, so that nothing is missed that comes after
		err := target.reachedBy(mark(storage), storage)
		if err != nil && w.Mode != dialect.StandbyReplay {
			if seen := target.reachedBy(visible, storage); seen != nil {
				err = seen
			} else {
				err = history.ErrAhead // it is part of the history, but has not come so far
			}
		}
		if err == nil && w.Mode == dialect.StandbyReplay {
			s.floor = max(s.floor, target.LSN)
		}
		if !errors.Is(err, history.ErrAhead) {
			return err
		}
		if target.bare && followed && !s.following() {
			return errNotInRecovery
		}
		if err := s.awaitStep(ctx, w.Mode, visible); err != nil {
			return err
		}
	}
}

// awaitStep returns when there may be something new to see.
func (s *Session) awaitStep(ctx context.Context, mode string, visible history.LSN) error {
	if mode == dialect.StandbyReplay {
		return s.engine.storage.Await(ctx, visible+1)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(waitPace):
		return nil
	}
}

// waitFailed gives the error that the client gets.
func (s *Session) waitFailed(err error, target position, w *dialect.WaitStmt) error {
	done, at := waits[w.Mode].participle, waits[w.Mode].mark(s.engine.storage).PgLSN()
	switch {
	case errors.Is(err, errWaitTimeout):
		return sqlstate.New(sqlstate.QueryCanceled, "timed out while waiting for target LSN %s to be %s; current %s LSN %s", target.LSN.PgLSN(), done, w.Mode, at)
	case errors.Is(err, errNotInRecovery):
		return sqlstate.New(sqlstate.NotInRequiredState, "recovery is not in progress").
			WithDetail("Recovery ended before target LSN %s was %s; last %s LSN %s.", target.LSN.PgLSN(), done, w.Mode, at)
	}
	return PositionError(err)
}
