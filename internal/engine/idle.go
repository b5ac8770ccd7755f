package engine

import (
	"time"

	"skein/internal/sqlstate"
)

var (
	errIdle              = sqlstate.New("57P05", "terminating connection due to idle-session timeout")
	errIdleInTransaction = sqlstate.New(sqlstate.IdleInTransactionTimeout, "terminating connection due to idle-in-transaction timeout")
)

// wait starts the clock of a session that waits for its client. A transaction counts as idle between any
// two messages, not only after ReadyForQuery as in PostgreSQL: a pipeline whose Sync does not come
// keeps everybody else from writing.
func (s *Session) wait() { s.idleSince(s.tx.open()) }

func (s *Session) idleSince(open bool) {
	s.awake()
	name, reason := "idle_session_timeout", errIdle
	if open {
		name, reason = "idle_in_transaction_session_timeout", errIdleInTransaction
	} else if s.forwarded != nil {
		return // whoever has the client sees to that
	}
	if d := s.settings.duration(name); d > 0 {
		s.idle = time.AfterFunc(d, func() { s.out.Terminate(reason) })
	}
}

// awake stops the clock: the client has sent something.
func (s *Session) awake() {
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
}
