package node

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"skein/internal/history"
	"skein/internal/pgcatalog"
	"skein/internal/replication"
)

// A term is what SQL may ask of replication.
var _ pgcatalog.Replication = (*term)(nil)

// Node is this node as it stands now.
func (t *term) Node() pgcatalog.Node {
	p := t.pipeline
	n := pgcatalog.Node{
		Name: t.node.name(), ID: t.node.home.Node, Role: pgcatalog.Leader, Epoch: p.Epoch(),
		Head: p.Log().Received(), Flushed: p.Log().Flushed.Load(), Committed: p.Committed(), Applied: p.Applied(), Visible: p.Visible(),
		Mode: t.mode(), AcknowledgedAlone: p.AcknowledgedAlone(), Pause: pgcatalog.NotPaused, LogBytes: p.Log().BytesSince(p.Log().First() - 1),
	}
	if leads := p.Leads(); leads != 0 {
		n.Epoch = leads // it may have begun since
		return n
	}
	n.Role, n.Upstream, n.LastReplayed, n.ApplyDelay = pgcatalog.Follower, t.upstream(), p.AppliedAt(), p.ApplyDelay()
	switch {
	case p.ApplyStopped():
		n.Pause = pgcatalog.Paused
	case p.ApplyPaused():
		n.Pause = pgcatalog.PauseRequested
	}
	if r := t.peer.Status().Receiver; r != nil {
		n.Lag = t.behind(r)
	}
	return n
}

// Staleness is the node's, as its router knows it.
func (t *term) Staleness() (time.Duration, bool) { return t.pipeline.Staleness() }

// upstream is the address of the node to copy from, "" while there is none.
func (t *term) upstream() string {
	duty, _ := t.node.cluster.duty()
	return duty.Upstream.PeerAddr
}

// mode says in a few words what a COMMIT at the cluster's level waits for.
func (t *term) mode() string {
	sync, alone := t.pipeline.Sync()
	switch {
	case sync.Names.Empty():
		return "asynchronous"
	case alone:
		return "degraded: " + t.ruling.spelled(sync)
	}
	return "synchronous: " + t.ruling.spelled(sync)
}

// behind is how far this follower's readers are behind what its upstream last said, and since when it has
// said nothing.
func (t *term) behind(r *replication.Receiver) pgcatalog.Lag {
	visible := t.pipeline.Visible()
	lag := pgcatalog.Lag{Entries: int64(max(r.Committed, visible) - visible)}
	if lag.Entries > 0 && r.Received > visible {
		lag.Bytes = t.pipeline.Log().BytesSince(visible)
	}
	if !r.HeardAt.IsZero() {
		lag.Time = time.Since(r.HeardAt)
	}
	if at := t.pipeline.AppliedAt(); lag.Entries > 0 && !at.IsZero() {
		lag.Time = max(lag.Time, r.SentAt.Sub(at))
	}
	return lag
}

// Replicas lists the followers that this node feeds, or has fed and still keeps a slot for.
func (t *term) Replicas() []pgcatalog.Replica {
	var all []pgcatalog.Replica
	for _, r := range t.peer.Status().Replicas {
		row := pgcatalog.Replica{
			Name: r.Name, NodeID: r.Node, Connected: r.Connected, PID: r.PID, Since: r.Since, State: string(r.State),
			Sent: r.Sent, Received: r.Received, Flushed: r.Flushed, Applied: r.Visible,
			WriteLag: lagOf(r.WriteLag), FlushLag: lagOf(r.FlushLag), ReplayLag: lagOf(r.ReplayLag), Reason: string(r.Reason),
			SnapshotDone: r.Snapshot.Done, SnapshotTotal: r.Snapshot.Total, SnapshotRate: r.Snapshot.Rate,
			SyncPriority: r.SyncPriority, SyncState: r.SyncState, LastReply: r.LastReply,
		}
		if addr, ok := r.Remote.(*net.TCPAddr); ok {
			row.ClientAddr, row.ClientPort = addr.IP.String(), addr.Port
		}
		all = append(all, row)
	}
	return all
}

func lagOf(l replication.Lag) pgcatalog.Lag {
	return pgcatalog.Lag{Bytes: l.Bytes, Entries: l.Entries, Time: l.Time}
}

// Receiver is this node's connection to the one that it follows.
func (t *term) Receiver() (pgcatalog.Receiver, bool) {
	r := t.peer.Status().Receiver
	if r == nil {
		return pgcatalog.Receiver{}, false
	}
	row := pgcatalog.Receiver{
		PID: r.PID, Status: "streaming", StartLSN: r.Start, StartEpoch: r.Epoch, Epoch: r.Epoch,
		Received: r.Received, Flushed: r.Flushed, LatestEnd: r.Head, SentAt: r.SentAt, ReceivedAt: r.HeardAt, Slot: t.node.name(),
	}
	if !r.Connected {
		row.Status = "connecting"
	}
	host, port, err := net.SplitHostPort(r.Address)
	if err == nil {
		row.Host = host
		row.Port, _ = strconv.Atoi(port)
	}
	return row, true
}

// Slots keep the log for followers.
func (t *term) Slots() []pgcatalog.Slot {
	status := t.peer.Status()
	pids := map[string]uint32{}
	for _, r := range status.Replicas {
		pids[r.Name] = r.PID
	}
	var all []pgcatalog.Slot
	for _, s := range status.Slots {
		row := pgcatalog.Slot{
			Name: s.Name, Active: s.Active, Restart: s.Restart, Reserved: s.Reserved, Status: "reserved",
			SafeBytes: t.peer.SafeBytes(s), LastSeen: s.LastSeen,
		}
		switch {
		case s.Lost != "":
			row.Status = "lost"
		case s.Restart < t.pipeline.Store().CheckpointLSN():
			row.Status = "extended"
		}
		if s.Active {
			row.PID = pids[s.Name]
		}
		all = append(all, row)
	}
	return all
}

// AtRisk is what would be lost if this leader died now.
func (t *term) AtRisk() pgcatalog.AtRisk {
	if !t.pipeline.Leading() {
		return pgcatalog.AtRisk{}
	}
	r := t.peer.Status().AtRisk
	return pgcatalog.AtRisk{Commits: r.Commits, Bytes: r.Bytes, Time: r.Time}
}

// CreateSlot makes a slot by hand.
func (t *term) CreateSlot(name string, reserve bool) (history.LSN, error) {
	lsn, err := t.peer.CreateSlot(name, reserve)
	return lsn, slotError(err)
}

// DropSlot lets the log of a follower go that will not come back.
func (t *term) DropSlot(name string) error { return slotError(t.peer.DropSlot(name)) }

func slotError(err error) error {
	switch {
	case errors.Is(err, replication.ErrSlotExists):
		return pgcatalog.ErrSlotExists
	case errors.Is(err, replication.ErrNoSlot):
		return pgcatalog.ErrNoSlot
	case errors.Is(err, replication.ErrSlotActive):
		return pgcatalog.ErrSlotActive
	}
	return err
}

// PauseApply stops or resumes applying.
func (t *term) PauseApply(pause bool) {
	if pause {
		t.pipeline.PauseApply()
	} else {
		t.pipeline.ResumeApply()
	}
}

// Verify compares every database with the same one on the other nodes and reads every page once. In a cluster that appoints its leader
// these are all members with data, whichever of them is asked; otherwise those that this node has to do with.
func (t *term) Verify(ctx context.Context) ([]pgcatalog.Verified, error) {
	var addresses []string
	names := map[string]string{}
	if t.ruling.members != nil {
		for _, m := range t.ruling.members() {
			if !m.Witness && string(m.ID) != t.node.home.Node {
				addresses = append(addresses, m.PeerAddr)
				names[m.PeerAddr] = m.Name
			}
		}
	}
	found, err := t.peer.Verify(ctx, addresses...)
	var all []pgcatalog.Verified
	for _, v := range found {
		name := cmp.Or(v.Name, names[v.Address], v.Address)
		all = append(all, pgcatalog.Verified{
			Node: name, NodeID: v.Node, Database: v.Database, LSN: v.LSN, Pages: v.Pages, Checksum: v.Checksum,
			Damaged: v.Damaged, Repaired: v.Repaired, Result: v.Result, Detail: v.Detail,
		})
	}
	return all, err
}
