package pgcatalog

import (
	"context"
	"errors"
	"time"

	"skein/internal/history"
)

// Errors of a Replication; what else it returns is shown as an internal error.
var (
	ErrSlotExists    = errors.New("replication slot exists already")
	ErrNoSlot        = errors.New("no such replication slot")
	ErrSlotActive    = errors.New("replication slot is in use")
	ErrNoReplication = errors.New("this node takes no part in replication")
)

// Replication is what SQL may ask of, and do to, the streaming between nodes. It is called by many
// sessions at a time, and must answer from memory except where it takes a context. What it returns
// belongs to the caller.
type Replication interface {
	// Node is this node as it stands now.
	Node() Node
	// Replicas lists the followers that this node feeds, or has fed and still keeps a slot for.
	Replicas() []Replica
	// Receiver is this node's own connection to its upstream; false when it has none to look for.
	Receiver() (Receiver, bool)
	Slots() []Slot
	// Staleness says how long ago it was that everything acknowledged by then, anywhere in the cluster, is visible here; false if
	// that is not known.
	Staleness() (time.Duration, bool)
	// AtRisk is what would be lost if this leader died now; zero on a follower.
	AtRisk() AtRisk

	// CreateSlot makes a slot; with reserve it keeps the log from now on, and its LSN is given.
	// Errors: ErrSlotExists.
	CreateSlot(name string, reserve bool) (history.LSN, error)
	// DropSlot errors: ErrNoSlot, ErrSlotActive.
	DropSlot(name string) error
	// PauseApply stops or resumes the applying of entries on a follower. It does not wait for the
	// entry that is being applied: see Node.Pause.
	PauseApply(pause bool)
	// Verify compares every database with the same one on the other nodes and reads every page once.
	// It takes as long as the disk needs, or until ctx is done.
	Verify(ctx context.Context) ([]Verified, error)
}

// NodeRole is what a node does in this epoch.
type NodeRole string

// The roles. PostgreSQL's clients see primary and standby.
const (
	Leader   NodeRole = "leader"
	Follower NodeRole = "follower"
)

// PauseState is what pg_get_wal_replay_pause_state answers.
type PauseState string

// The states; PauseRequested lasts while the last entry is being applied, and until readers see it.
const (
	NotPaused      PauseState = "not paused"
	PauseRequested PauseState = "pause requested"
	Paused         PauseState = "paused"
)

// Node is the row of skein_status.
type Node struct {
	Name, ID string
	Role     NodeRole
	Upstream string // HOST:PORT that a follower copies from; "" on a leader
	Epoch    history.Epoch

	Head, Flushed, Committed, Applied, Visible history.LSN

	// Mode says what a COMMIT at the cluster's level waits for, in a few words without a number that
	// changes by itself: "asynchronous", "synchronous: ANY 1 (*)", "degraded: ANY 1 (*)".
	Mode string

	// AcknowledgedAlone counts the commits since the start that a client heard of before enough followers had them.
	AcknowledgedAlone int64

	Lag          Lag       // behind the upstream, as far as it is known; zero on a leader
	LastReplayed time.Time // leader's clock at the commit of the newest visible transaction; zero: none since the start
	Pause        PauseState
	ApplyDelay   time.Duration
	LogBytes     int64 // on disk

	// Problem is what a person must do before this node can go on; "" when there is nothing.
	Problem string
}

// Lag is how far something is behind, in the three ways that one can ask.
type Lag struct {
	Bytes   int64 // of log
	Entries int64
	Time    time.Duration
}

// Replica is one follower as its sender sees it.
type Replica struct {
	Name, NodeID string
	Connected    bool
	PID          uint32 // number of the connection
	ClientAddr   string // IP address, "" when it has none
	ClientPort   int
	Since        time.Time // connected, or disconnected

	State string // startup, catchup, streaming, backup or stopping; "" while disconnected

	Sent, Received, Flushed, Applied history.LSN

	// Each lag stands for one level of synchronous_commit: remote_write, on, remote_apply.
	WriteLag, FlushLag, ReplayLag Lag
	// Reason is what holds it back: network, disk or apply; "" when it is not behind.
	Reason string

	// The copy that it takes in state backup, in bytes and bytes per second.
	SnapshotDone, SnapshotTotal, SnapshotRate int64

	SyncPriority int
	SyncState    string    // async, potential, sync or quorum
	LastReply    time.Time // this node's clock; zero: none yet
}

// Receiver is the row of pg_stat_wal_receiver.
type Receiver struct {
	PID        uint32
	Status     string // streaming, connecting, waiting, …: PostgreSQL's words where it has them
	Host       string // of the upstream
	Port       int
	StartLSN   history.LSN // where this connection began
	StartEpoch history.Epoch
	Epoch      history.Epoch // of the newest entry received
	Received   history.LSN
	Flushed    history.LSN
	LatestEnd  history.LSN // the upstream's own head as it last said
	SentAt     time.Time   // upstream's clock, of its last message
	ReceivedAt time.Time   // this node's clock
	Slot       string
}

// Slot keeps the log for one follower.
type Slot struct {
	Name      string
	Active    bool
	PID       uint32 // of the connection that uses it
	Restart   history.LSN
	Reserved  bool   // keeps log; false for one that was made without and never used
	Status    string // reserved, extended, unreserved or lost
	SafeBytes int64  // that may still be written before it can be lost; -1: no bound
	LastSeen  time.Time
}

// AtRisk is what only the leader has.
type AtRisk struct {
	Commits int64
	Bytes   int64
	Time    time.Duration // age of the oldest of them
}

// Verified is one database on one node, compared with this node's.
type Verified struct {
	Node, NodeID string
	Database     history.DatabaseID
	LSN          history.LSN // that both were compared at; 0 when they were not
	Pages        int64
	Checksum     uint64
	Damaged      int64  // pages whose bytes on disk are not what they should be
	Repaired     int64  // of these, replaced by a good copy
	Result       string // ok, damaged, repaired, different, unreachable
	Detail       string
}

// replication gives the node's, or one that stands for a node without followers.
func (cat *catalog) replication() Replication {
	c := cat.sess().Cluster()
	if r := c.Replication(); r != nil {
		return r
	}
	return alone{c}
}

// alone is the replication of a node that has none.
type alone struct{ cluster Cluster }

func (a alone) Node() Node {
	role := Leader
	if a.cluster.InRecovery() {
		role = Follower
	}
	at := history.LSN(a.cluster.CurrentLSN())
	return Node{Role: role, Head: at, Flushed: at, Committed: at, Applied: at, Visible: at, Mode: "asynchronous", Pause: NotPaused}
}

func (alone) Replicas() []Replica                          { return nil }
func (alone) Receiver() (Receiver, bool)                   { return Receiver{}, false }
func (alone) Slots() []Slot                                { return nil }
func (a alone) Staleness() (time.Duration, bool)           { return 0, !a.cluster.InRecovery() }
func (alone) AtRisk() AtRisk                               { return AtRisk{} }
func (alone) CreateSlot(string, bool) (history.LSN, error) { return 0, ErrNoReplication }
func (alone) DropSlot(string) error                        { return ErrNoSlot }
func (alone) PauseApply(bool)                              {}
func (alone) Verify(context.Context) ([]Verified, error)   { return nil, ErrNoReplication }
