package control

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
)

const (
	// changeTimeout bounds one change of who takes part in Raft.
	changeTimeout = time.Second

	// changePause is how long after a change, or an attempt at one, the next is looked for.
	changePause = 20 * time.Millisecond

	// quietTime is for how long nothing must have been decided before another node coordinates: that takes a while, and
	// nothing can be decided meanwhile.
	quietTime = 2 * time.Second

	// failedPause is how long after a change that failed the next is looked for.
	failedPause, failedMovePause = time.Second, 10 * time.Second
)

// change is one step from the servers that Raft has to those that it should have. The zero change is none.
type change struct {
	kind changeKind
	raft.Server
}

type changeKind uint8

const (
	noChange changeKind = iota
	add                 // or tell its address, as a voter or not
	demote
	remove
	move // the coordination, to that server
)

// wanted is what Raft's servers should be.
type wanted struct {
	state  failover.State
	voters []failover.NodeID
	self   server
	stores map[failover.NodeID]string // by which members vote, where that is known
	recent func(failover.NodeID) bool // says who has been heard lately
}

// nextChange says what to change next of the servers. Those that do not belong there go first, since they only count
// against a majority; nobody becomes a voter who is not there to vote; and nobody stops being one before those that should
// are.
func nextChange(servers []raft.Server, w wanted) change {
	for _, s := range servers {
		if !w.belongs(s) {
			return w.without(servers, s, change{remove, s})
		}
	}
	for _, m := range w.state.Members {
		store, known := w.stores[m.ID]
		if !known || !w.recent(m.ID) {
			continue
		}
		id := server{m.ID, store}
		s := raft.Server{Suffrage: raft.Nonvoter, ID: id.id(), Address: id.at(m.PeerAddr)}
		if slices.Contains(w.voters, m.ID) {
			s.Suffrage = raft.Voter
		}
		at := slices.IndexFunc(servers, func(old raft.Server) bool { return old.ID == s.ID })
		switch {
		case at < 0:
			s.Suffrage = raft.Nonvoter // until it has the log
			return change{add, s}
		case servers[at].Address != s.Address:
			s.Suffrage = servers[at].Suffrage
			return change{add, s}
		case servers[at].Suffrage != raft.Voter && s.Suffrage == raft.Voter:
			return change{add, s}
		}
	}
	for _, s := range servers {
		id, _ := parseServer(string(s.ID))
		if s.Suffrage == raft.Voter && !slices.Contains(w.voters, id.node) && w.others(servers, id) {
			return w.without(servers, s, change{demote, s})
		}
	}
	return change{}
}

// belongs says whether a server is that of a member.
func (w wanted) belongs(s raft.Server) bool {
	id, ok := parseServer(string(s.ID))
	if !ok {
		return false
	}
	if _, is := member(w.state, id.node); !is {
		return false
	}
	store, known := w.stores[id.node]
	return !known || store == id.store
}

// without is what takes a server's vote away. The coordinator's own is taken by another one.
func (w wanted) without(servers []raft.Server, s raft.Server, c change) change {
	if s.ID != w.self.id() {
		return c
	}
	if to, ok := w.successor(servers, ""); ok {
		return change{move, to}
	}
	return change{}
}

// others says whether somebody votes who should, but this one.
func (w wanted) others(servers []raft.Server, but server) bool {
	return slices.ContainsFunc(servers, func(s raft.Server) bool {
		id, _ := parseServer(string(s.ID))
		return id != but && s.Suffrage == raft.Voter && slices.Contains(w.voters, id.node)
	})
}

// successor gives another voter that could coordinate, but not that node.
func (w wanted) successor(servers []raft.Server, not failover.NodeID) (raft.Server, bool) {
	for _, s := range servers {
		id, _ := parseServer(string(s.ID))
		if s.Suffrage == raft.Voter && id != w.self && id.node != not && slices.Contains(w.voters, id.node) && w.belongs(s) && w.recent(id.node) {
			return s, true
		}
	}
	return raft.Server{}, false
}

// arrange brings Raft's servers, and who leads them, closer to what they should be: one step at a time.
func (k *coordinator) arrange(ctx context.Context) {
	if k.changing || k.proposing || k.clock.total < k.rested {
		return
	}
	servers, w := k.servers(), k.wanted()
	c := nextChange(servers, w)
	if c.kind == move && !k.quiet(0) {
		return
	}
	if c.kind == noChange && k.shouldMove() {
		if to, ok := w.successor(servers, k.state.Leader); ok {
			c = change{move, to}
		}
	}
	if c.kind == noChange {
		return
	}
	k.changing, k.moving = true, c.kind == move
	k.later(ctx, k.begin(c), func(err error) {
		k.changing, k.moving = false, false
		pause := changePause
		if err != nil {
			pause = failedPause
			if c.kind == move {
				pause = failedMovePause
			}
			k.o.Logger.Debug("raft's servers could not be changed", "change", c.kind, "server", c.ID, "error", err)
		}
		k.rested = k.clock.total + pause
	})
}

func (k *coordinator) servers() []raft.Server {
	return k.raft.GetConfiguration().Configuration().Servers
}

func (k *coordinator) wanted() wanted {
	w := wanted{state: k.state, voters: k.o.Voters(k.state), self: k.self, stores: map[failover.NodeID]string{}, recent: k.recent}
	for id, o := range k.members {
		if o.store != "" {
			w.stores[id] = o.store
		}
	}
	return w
}

// handOver has another node coordinate, since this one ends: without a word from it the others would wait for it first.
func (k *coordinator) handOver() {
	servers, w := k.servers(), k.wanted()
	to, ok := w.successor(servers, k.state.Leader)
	if !ok {
		to, ok = w.successor(servers, "")
	}
	if !ok || !k.presides() || k.Trouble() != "" { // Raft would not answer
		return
	}
	_ = within(raftTimeout, func() { _ = k.begin(change{move, to}).Error() })
}

// quiet says whether the cluster has a leader and has had nothing to decide for so long.
func (k *coordinator) quiet(long time.Duration) bool {
	return k.state.Phase == failover.Leading && k.state.Began.IsZero() && k.state.Switchover == nil &&
		k.clock.total-k.settled >= long && len(k.waiting) == 0
}

// shouldMove says whether the data leader's node coordinates, which one death would end both.
func (k *coordinator) shouldMove() bool {
	return k.quiet(quietTime) && k.state.Leader == k.o.Self
}

func (k *coordinator) begin(c change) raft.Future {
	switch c.kind {
	case add:
		if c.Suffrage == raft.Voter {
			return k.raft.AddVoter(c.ID, c.Address, 0, changeTimeout)
		}
		return k.raft.AddNonvoter(c.ID, c.Address, 0, changeTimeout)
	case demote:
		return k.raft.DemoteVoter(c.ID, 0, changeTimeout)
	case remove:
		return k.raft.RemoveServer(c.ID, 0, changeTimeout)
	}
	return k.raft.LeadershipTransferToServer(c.ID, c.Address)
}

// Voters are the members that vote now, as far as this node knows. A member that has joined becomes one of failover.Voters a
// moment later: until then the cluster can do without fewer nodes than it will.
func (c *Control) Voters() []failover.NodeID {
	var voters []failover.NodeID
	for _, s := range c.raft.GetConfiguration().Configuration().Servers {
		if id, ok := parseServer(string(s.ID)); ok && s.Suffrage == raft.Voter {
			voters = append(voters, id.node)
		}
	}
	return voters
}
