package engine

import (
	"skein/internal/dialect"
	"skein/internal/sqlstate"
)

// errReadWriteInRecovery has PostgreSQL's text, and the code that drivers look for to find another node.
var errReadWriteInRecovery = sqlstate.New(sqlstate.ReadOnlyTransaction, "cannot set transaction read-write mode during recovery")

var errCeasedToLead = sqlstate.New(sqlstate.ReadOnlyTransaction, "the transaction was rolled back: this node follows another now")

// following says whether this node follows another, so that it serves readers only. It may change from
// one statement to the next.
func (s *Session) following() bool {
	return s.engine != nil && s.engine.storage.InRecovery()
}

// refuseWrite is what a write gets that the transaction, or the node, does not allow.
func (s *Session) refuseWrite() error {
	st := s.statement
	switch st.Kind {
	case dialect.Vacuum, dialect.Analyze, dialect.Reindex, dialect.Lock:
		if s.following() {
			return sqlstate.New(sqlstate.ReadOnlyTransaction, "cannot execute %s during recovery", st.Tag)
		}
	}
	what := st.Writing
	if what == "" {
		what = st.Tag
	}
	return sqlstate.New(sqlstate.ReadOnlyTransaction, "cannot execute %s in a read-only transaction", what)
}
