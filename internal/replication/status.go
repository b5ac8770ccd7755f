package replication

import (
	"maps"
	"net"
	"slices"
	"time"

	"skein/internal/history"
	"skein/internal/replog"
)

// Status is a Peer at one moment.
type Status struct {
	Replicas []Replica // followers, connected or not, by name; those that take a snapshot come after them
	Receiver *Receiver // nil unless Follow runs
	Slots    []Slot
	AtRisk   AtRisk
	Scrub    Scrub
}

// Replica is a follower as its sender sees it.
type Replica struct {
	Identity
	Connected bool
	PID       uint32 // number of the connection
	Remote    net.Addr
	Since     time.Time // connected, or disconnected
	State     State     // "" while disconnected

	Sent, Received, Flushed, Applied, Visible history.LSN

	// One for each of remote_write, on and remote_apply. In time each is the round trip while nothing is
	// behind, and the age of the oldest entry that is missing otherwise.
	WriteLag, FlushLag, ReplayLag Lag
	Reason                        Reason
	Paused                        bool // it does not apply: it was told to wait

	SyncPriority int
	SyncState    string
	LastReply    time.Time
	Trip         time.Duration // last round trip
	BytesSent    int64         // on this connection
	Snapshot     Progress      // while it takes one
}

// Receiver is this node's connection to its upstream.
type Receiver struct {
	Address   string
	Connected bool
	PID       uint32
	Start     history.LSN
	Epoch     history.Epoch

	Received, Flushed history.LSN
	Head              history.LSN // the upstream's, as it last said
	Committed         history.LSN
	SentAt            time.Time // upstream's clock, of its last message
	HeardAt           time.Time // this node's clock
	Trouble           string    // why there is no connection
}

// AtRisk is what would be lost if this node died now: visible here, and on no follower's disk.
type AtRisk struct {
	Commits int64
	Bytes   int64
	Time    time.Duration // age of the oldest
}

// Status tells how things stand. It asks nobody and costs little; the age of what is at risk is read from the log.
func (p *Peer) Status() Status {
	now := time.Now()
	s := Status{Slots: p.slots.list(), Receiver: p.receiverStatus()}
	p.mu.Lock()
	s.Scrub = p.scrubbed
	names := slices.Sorted(maps.Keys(p.replicas))
	for _, name := range names {
		s.Replicas = append(s.Replicas, p.replicaStatus(p.replicas[name], now))
	}
	for ship, pid := range p.snapshots {
		s.Replicas = append(s.Replicas, ship.status(pid, now))
	}
	p.mu.Unlock()
	for _, slot := range s.Slots {
		if _, known := slices.BinarySearch(names, slot.Name); !known && slot.Node != "" {
			s.Replicas = append(s.Replicas, p.awayStatus(slot, now))
		}
	}
	s.AtRisk = p.atRisk(s.Replicas, now)
	return s
}

// Connections tells of the followers that are connected, and of the upstream if there is one. Other than Status it reads
// no file: it may be asked while the disk does not answer.
func (p *Peer) Connections() (followers []Replica, upstream *Receiver) {
	now := time.Now()
	p.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(p.replicas)) {
		if r := p.replicas[name]; r.sender != nil {
			followers = append(followers, p.replicaStatus(r, now))
		}
	}
	p.mu.Unlock()
	return followers, p.receiverStatus()
}

func (p *Peer) replicaStatus(r *replica, now time.Time) Replica {
	out := Replica{Identity: r.who, Since: r.since}
	a := r.last
	if s := r.sender; s != nil {
		a = s.progress()
		s.mu.Lock()
		out.State, out.LastReply, out.Trip, out.Paused = s.state, s.ackedAt, s.trip, s.flags&flagPaused != 0
		s.mu.Unlock()
		out.Connected, out.PID, out.Remote, out.Since = true, s.pid, s.w.conn.RemoteAddr(), s.since
		out.Sent, out.BytesSent = history.LSN(s.sent.Load()), s.w.sent.Load()
		out.SyncPriority, out.SyncState = p.pipeline.SyncStateOf(p.countAs(r.who))
	}
	p.fill(&out, a, now)
	return out
}

// awayStatus is a follower that has not been here since this node started, as its slot remembers it.
func (p *Peer) awayStatus(slot Slot, now time.Time) Replica {
	out := Replica{Identity: Identity{Name: slot.Name, Node: slot.Node}, Since: slot.LastSeen}
	p.fill(&out, ack{Received: slot.Restart, Flushed: slot.Restart, Applied: slot.Restart, Visible: slot.Restart}, now)
	return out
}

// fill computes what is behind. A disconnected follower falls behind in time even while nothing happens: nobody
// knows any more what it shows.
func (p *Peer) fill(out *Replica, a ack, now time.Time) {
	out.Received, out.Flushed, out.Applied, out.Visible = a.Received, a.Flushed, a.Applied, a.Visible
	head := p.pipeline.Log().Received()
	lag := func(at history.LSN, end history.LSN) Lag {
		l := Lag{Entries: distance(end, at), Time: out.Trip}
		if l.Entries > 0 {
			l.Bytes = p.pipeline.Log().BytesSince(at)
			if since, ok := p.times.after(at); ok {
				l.Time = max(l.Time, now.Sub(since))
			}
		}
		if !out.Connected {
			l.Time = max(l.Time, now.Sub(out.Since))
		}
		return l
	}
	out.WriteLag, out.FlushLag = lag(a.Received, head), lag(a.Flushed, head)
	out.ReplayLag = lag(a.Visible, max(p.pipeline.Visible(), a.Visible))
	if out.Reason = reasonOf(head, a); !out.Connected {
		out.Reason = LagNetwork
	}
}

func (s *shipment) status(pid uint32, now time.Time) Replica {
	done := s.done.Load()
	return Replica{
		Identity: s.who, Connected: true, PID: pid, Remote: s.w.conn.RemoteAddr(), Since: s.since, State: StateBackup,
		Sent: s.at, SyncState: "async", BytesSent: s.w.sent.Load(),
		Snapshot: Progress{Total: s.total.Load(), Done: done, Moved: s.sent.Load(), Rate: rate(done, s.since, now)},
	}
}

func (p *Peer) receiverStatus() *Receiver {
	p.mu.Lock()
	out := &Receiver{Address: p.upstream, Trouble: p.trouble}
	p.mu.Unlock()
	if out.Address == "" {
		return nil
	}
	out.Received, out.Flushed = p.pipeline.Log().Received(), p.pipeline.Log().Flushed.Load()
	r := p.receiver.Load()
	if r == nil {
		return out
	}
	out.Connected, out.PID, out.Start, out.Trouble = true, r.pid, r.base, ""
	out.Epoch = history.Epoch(r.epoch.Load())
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Head, out.Committed, out.HeardAt = r.pulse.Head, r.pulse.Committed, r.heard
	if r.pulse.Clock != 0 {
		out.SentAt = time.UnixMicro(r.pulse.Clock)
	}
	return out
}

// atRisk compares what is visible here with what the best follower has on its disk.
func (p *Peer) atRisk(replicas []Replica, now time.Time) AtRisk {
	var out AtRisk
	var best history.LSN
	for _, r := range replicas {
		if r.State != StateBackup {
			best = max(best, r.Flushed)
		}
	}
	if out.Commits = distance(p.pipeline.Visible(), best); out.Commits == 0 {
		return out
	}
	out.Bytes = p.pipeline.Log().BytesSince(best)
	if at, ok := p.committedAt(best + 1); ok {
		out.Time = max(now.Sub(at), 0)
	}
	return out
}

// committedAt reads an entry's commit time; false if the log no longer has it.
func (p *Peer) committedAt(lsn history.LSN) (time.Time, bool) {
	r, err := p.pipeline.Log().NewReader(lsn - 1)
	if err != nil {
		return time.Time{}, false
	}
	defer r.Close()
	b, ok, err := r.TryNext(1)
	if err != nil || !ok {
		return time.Time{}, false
	}
	var at time.Time
	var scratch []byte
	_ = b.Each(&scratch, func(e *replog.Entry) error {
		if at.IsZero() {
			at = time.UnixMicro(e.Time)
		}
		return nil
	})
	return at, !at.IsZero()
}

// addresses lists where other nodes may be reached, the upstream first.
func (p *Peer) addresses() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	if p.upstream != "" {
		all = append(all, p.upstream)
	}
	for _, name := range slices.Sorted(maps.Keys(p.replicas)) {
		if r := p.replicas[name]; r.sender != nil && r.who.reachable() {
			all = append(all, r.who.Address)
		}
	}
	return slices.Compact(all)
}
