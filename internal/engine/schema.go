package engine

import (
	"math"

	"skein/internal/history"
)

// schemaVersion names the schema that a plan was made for: the transaction that changed it last and,
// where a session sees what others do not, the session's own count of changes.
type schemaVersion struct {
	lsn   history.LSN
	edits int
}

// changing is the LSN of a change of the schema that is being committed.
const changing = history.LSN(math.MaxUint64)

// schema gives the version that the session's next statement sees. It is not known to one that stands on
// an older snapshot, nor while a change is being committed: plans made then are for once.
//
// A counter that goes up with each change would not do: whoever plans on an old snapshot after the count
// has gone up would leave a plan behind that looks new.
func (s *Session) schema() (v schemaVersion, known bool) {
	v.lsn = history.LSN(s.db.schema.Load())
	if s.tx.ddl || s.own != nil {
		v.edits = s.edits
	}
	return v, s.stands() >= v.lsn
}

// stands gives the LSN that the session's next statement reads at, or an earlier one.
func (s *Session) stands() history.LSN {
	if c := s.tx.conn; c != nil {
		if lsn := c.file.SnapshotLSN(); lsn > 0 {
			return lsn
		}
	}
	return max(s.engine.storage.Visible(), s.least())
}

// fresh says whether a plan is for the schema as the session sees it.
func (s *Session) fresh(p *plan) bool {
	v, known := s.schema()
	return known && p.schema == v
}
