package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"skein/internal/control"
	"skein/internal/failover"
	"skein/internal/history"
)

const (
	vigilPace = 50 * time.Millisecond

	// deafPatience and loosePatience are for how many FailoverTimeouts a leader goes on that can acknowledge nothing: one whose
	// commits wait for followers that it does not hear, or, where they wait for nobody, one that only lacks a
	// lease. That takes a moment whenever the coordinator changes.
	deafPatience, loosePatience = 2, 6
)

// vigil is a leader's watch over itself. One that is cut off from the others cannot acknowledge anything. It need not step
// down for safety's sake; but its clients would try again and again here, and never find the next leader.
type vigil struct {
	epoch       failover.NodeID // that the clocks are of, as listening takes it
	acks, lease listening
}

// isolation says why the leader of an epoch can acknowledge nothing.
type isolation struct {
	epoch history.Epoch
	why   string
}

// sees gives for how long this leader has been without enough followers, and without a lease; zeros while it does not lead.
func (v *vigil) sees(t *term, now time.Time) (deaf, unleased time.Duration) {
	leads := t.pipeline.Leads()
	if leads == 0 {
		v.epoch = ""
		return 0, 0
	}
	key := failover.NodeID(strconv.FormatUint(uint64(leads), 10))
	began := v.epoch != key
	v.epoch = key
	acked, leased := t.backedAt(now), time.Time{}
	if c := t.node.control.Load(); c != nil && control.Boottime() < c.LeaseUntil() {
		leased = now
	}
	if began {
		acked, leased = now, now
	}
	return v.acks.since(v.epoch, acked, now), v.lease.since(v.epoch, leased, now)
}

// backedAt is when as many members as the rule needs had last said something; now if it needs none.
func (t *term) backedAt(now time.Time) time.Time {
	rule := t.ruling.inForce()
	if rule.K == 0 {
		return now
	}
	var at []time.Time
	followers, _ := t.peer.Connections()
	for _, f := range followers {
		if slices.Contains(rule.Members, failover.NodeID(f.Node)) {
			at = append(at, f.LastReply)
		}
	}
	if len(at) < rule.K {
		return time.Time{}
	}
	slices.SortFunc(at, func(a, b time.Time) int { return b.Compare(a) })
	return at[rule.K-1]
}

// watchItself has this node step down when it leads and can acknowledge nothing.
func (t *term) watchItself(ctx context.Context) error {
	if t.ruling.members == nil {
		return nil
	}
	var v vigil
	tick := time.NewTicker(vigilPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		deaf, unleased := v.sees(t, time.Now())
		t.deaf.Store(int64(deaf))
		patience := t.node.control.Load().State().Settings.FailoverTimeout
		if patience == 0 {
			continue
		}
		rule := t.ruling.inForce()
		var why string
		switch {
		case rule.K > 0 && deaf >= deafPatience*patience && unleased >= deafPatience*patience:
			why = fmt.Sprintf("it heard neither the coordinator nor the followers that it needs for %v", min(deaf, unleased).Round(time.Millisecond))
		case rule.K == 0 && rule.ID != 0 && unleased >= loosePatience*patience:
			why = fmt.Sprintf("no coordinator heard it for %v", unleased.Round(time.Millisecond))
		default:
			continue
		}
		select {
		case t.cutOff <- isolation{t.pipeline.Leads(), why}:
		default:
		}
	}
}
