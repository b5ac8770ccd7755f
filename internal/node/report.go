package node

import (
	"sync"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/replication"
)

// nearEnough is how many entries a follower may lack of what is committed to count as one that has caught up.
const nearEnough = 1000

// maxTurn is the longest that one turn of a clock counts: a process that was stopped has not heard nothing
// for that long, it has not listened.
const maxTurn = 150 * time.Millisecond

// listening is for how long an upstream has been silent while this node listened.
type listening struct {
	mu       sync.Mutex
	upstream failover.NodeID
	heard    time.Time // zero: never
	asked    time.Time
	silent   time.Duration
}

// since gives the upstream's silence at now, negative if it was never heard. heard is when it last said something on
// the present connection, zero if there is none.
func (l *listening) since(upstream failover.NodeID, heard, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upstream != l.upstream {
		l.upstream, l.heard = upstream, time.Time{}
	}
	turn := min(now.Sub(l.asked), maxTurn)
	l.asked = now
	l.silent += turn
	if heard.After(l.heard) {
		l.heard, l.silent = heard, min(turn, now.Sub(heard))
	}
	if l.heard.IsZero() {
		return -1
	}
	return l.silent
}

// report is what this node tells the coordinator. It waits for no disk and for nobody else.
func (a *appointed) report() failover.Report {
	n := a.node
	r := failover.Report{
		Node: a.self(), Disk: n.home.Disk, Incarnation: n.incarnation, Seen: a.actsUnder(), Heard: -1,
	}
	t := n.current.Load()
	if t == nil {
		r.Tainted = "it has no copy of the data, or takes a new one"
		if n.options.Witness {
			r.Tainted = "it is a witness and holds no data"
		}
		return r
	}
	p := t.pipeline
	r.Promise, r.Stalled, r.Tainted = p.Promised(), p.Stalled(), p.Tainted()
	r.Flushed, r.Committed, r.Visible = p.Log().Flushed.Load(), p.Committed(), p.Visible()
	r.Ready = t.engine.Load() != nil
	if why := t.failed.Load(); why != nil {
		r.Failed = *why
	}
	followers, upstream := t.peer.Connections()
	if p.Leading() {
		a.reportLeading(&r, t, followers)
		return r
	}
	r.Position = p.Log().Head()
	duty, _ := a.duty()
	if r.Upstream = duty.Upstream.ID; upstream != nil && upstream.Address == duty.Upstream.PeerAddr {
		r.Streaming = upstream.Connected
		r.Heard = n.listening.since(r.Upstream, upstream.HeardAt, time.Now())
	}
	return r
}

// reportLeading does not ask for the log's head, which waits while a large transaction is being appended.
func (a *appointed) reportLeading(r *failover.Report, t *term, followers []replication.Replica) {
	p := t.pipeline
	r.Leading = p.Leads()
	r.Position = history.Position{Epoch: r.Leading, LSN: p.Log().Received()}
	if r.Paused = t.paused.Load(); r.Paused {
		r.Position = p.Log().Head()
	}
	if why := t.busy.Load(); why != nil {
		r.Busy = *why
	}
	var best history.LSN
	current := map[failover.NodeID]bool{}
	for _, f := range followers {
		best = max(best, f.Flushed)
		if f.State == replication.StateStreaming {
			id := failover.NodeID(f.Node)
			r.Followers = append(r.Followers, failover.Following{Node: id, Flushed: f.Flushed, Visible: f.Visible})
			current[id] = f.Flushed+nearEnough >= p.Visible()
		}
	}
	r.AtRisk = int64(max(p.Visible(), best) - best)
	r.Deaf = time.Duration(t.deaf.Load())
	r.Settled = t.ruling.settled()
	r.Want = t.ruling.want(a.node.control.Load().State(), a.self(), func(id failover.NodeID) bool { return current[id] })
}
