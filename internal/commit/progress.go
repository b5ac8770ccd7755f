package commit

import (
	"time"

	"skein/internal/history"
)

// Progress is how far one node has come: what it has appended, what is on its disk, and what its
// readers see. Received ≥ Flushed and Received ≥ Applied.
type Progress struct {
	Received, Flushed, Applied history.LSN
}

// SyncConfig is the cluster's rule for acknowledging a commit.
type SyncConfig struct {
	Names   StandbyNames  // synchronous_standby_names
	Level   Level         // synchronous_commit of the cluster: what other sessions see a commit at
	Timeout time.Duration // skein.sync_timeout; 0: none
	Degrade bool          // skein.on_sync_timeout = degrade: go on alone after Timeout, and say so
	Bound   bool          // others count on Names: the leader goes on alone only after another Configure, without it
}

// mayGoAlone says whether the leader may acknowledge without the standbys that are named.
func (c SyncConfig) mayGoAlone() bool { return c.Degrade && !c.Bound && !c.Names.Empty() }
