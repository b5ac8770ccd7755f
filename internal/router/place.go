package router

import (
	"strings"

	"skein/internal/dialect"
)

// writes says whether a statement belongs to the leader. named finds prepared statements; readOnly is whether a
// transaction that does not say so may not write.
func writes(st *dialect.Statement, named func(string) *dialect.Statement, readOnly bool) bool {
	if st == nil {
		return false
	}
	switch st.Kind {
	case dialect.Select:
		return st.ForUpdate || st.AtLeader
	case dialect.Explain:
		return st.Explain.Analyze && writes(st.Explain.Query, named, readOnly)
	case dialect.Begin:
		return !readOnly && (st.Txn == nil || st.Txn.ReadOnly != dialect.On) || st.Txn != nil && st.Txn.ReadOnly == dialect.Off
	case dialect.DeclareCursor: // one that is kept must be there for blocks that write, too
		return st.Cursor.Hold
	case dialect.Prepare:
		return writes(st.Prepare.Query, named, readOnly)
	case dialect.Execute:
		if st.ForUpdate || st.AtLeader { // its arguments
			return true
		}
		st = named(st.Prepare.Name)
		return st != nil && st.Kind != dialect.Execute && writes(st, named, readOnly) // the engine refuses to execute an EXECUTE
	case dialect.Copy:
		return st.Copy.From || writes(st.Copy.Query, named, readOnly)
	}
	return !local(st.Kind)
}

// local lists the kinds that change nothing but their session, or nothing at all. An ALTER SYSTEM may be of those settings
// that any node can change; otherwise the engine refuses it.
func local(k dialect.Kind) bool {
	switch k {
	case dialect.Commit, dialect.Rollback, dialect.Savepoint, dialect.Release, dialect.RollbackTo,
		dialect.SetTransaction, dialect.SetConstraints, dialect.Set, dialect.Reset, dialect.Show, dialect.Deallocate, dialect.Discard,
		dialect.DeclareCursor, dialect.Fetch, dialect.Move, dialect.CloseCursor, dialect.Listen, dialect.Unlisten, dialect.Notify,
		dialect.Checkpoint, dialect.Comment, dialect.Grant, dialect.Revoke, dialect.Pragma, dialect.NoOp, dialect.AlterSystem, dialect.Wait:
		return true
	}
	return false
}

// opens says whether a statement does nothing but begin a block, or say how.
func opens(st *dialect.Statement) bool {
	switch st.Kind {
	case dialect.Begin, dialect.SetTransaction:
		return true
	case dialect.Set:
		return strings.HasPrefix(strings.ToLower(st.Set.Name), "transaction_")
	}
	return false
}
