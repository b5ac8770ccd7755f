package control

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
	"skein/internal/rest"
)

const (
	// tickEvery is how often the coordinator decides when it hears nothing.
	tickEvery = 50 * time.Millisecond

	// maxTurn is what the clock of silences advances at most between two looks at it. A coordinator that was
	// stopped has heard nobody for long, and that is nobody's fault.
	maxTurn = 150 * time.Millisecond

	// commitLimit is how long Raft may take to begin with a proposal.
	commitLimit = time.Second
)

// steady is a clock that stands still while nobody looks at it.
type steady struct {
	last  time.Time
	total time.Duration
}

func (s *steady) turn(now time.Time) {
	s.total += min(now.Sub(s.last), maxTurn)
	s.last = now
}

// coordinator is the time for which this node coordinates: one term of Raft's leader. Everything in it belongs to the
// goroutine of coordinate; others have it run their functions.
type coordinator struct {
	*Control
	term  uint64
	inbox chan func()
	done  chan struct{} // closed when nothing is taken from inbox any more

	clock   steady
	began   time.Duration // Boottime
	state   failover.State
	changed time.Duration // of the clock, when Epoch or Phase became what they are
	settled time.Duration // of the clock, when the State became what it is

	members map[failover.NodeID]*observed
	streams sync.WaitGroup

	proposing bool
	waiting   []*asked // commands, in order
	granting  bool     // Raft is being asked whether this is the coordinator still
	granted   time.Duration

	changing bool          // Raft's configuration, or its leader
	moving   bool          // its leader: meanwhile it takes no proposals
	rested   time.Duration // of the clock: no change is looked for before
}

// observed is what the coordinator has of a member.
type observed struct {
	stream  *stream
	report  failover.Report
	number  uint64        // of the report
	heard   time.Duration // of the clock; when the report came, or before that when it was first waited for
	known   bool          // a report has come
	refused bool
	store   string // of its newest stream; "" before there was one
}

// coordinate is the coordinator's life: it ends with ctx, or when Raft has another leader.
func (c *Control) coordinate(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	k := &coordinator{
		Control: c, term: c.raft.CurrentTerm(), inbox: make(chan func()), done: make(chan struct{}),
		clock: steady{last: time.Now()}, members: map[failover.NodeID]*observed{},
	}
	defer k.streams.Wait()
	defer close(k.done)
	defer cancel()
	if err := c.await(ctx, c.raft.Barrier(commitLimit)); err != nil || !k.presides() {
		_ = rest.For(ctx, tickEvery)
		return
	}
	k.began = k.o.boottime()
	k.adopt(ctx)
	c.o.Logger.Info("this node coordinates the cluster", "term", k.term, "version", k.state.Version)
	c.present.Store(k)
	defer c.present.Store(nil)
	defer k.dismissAll()
	if k.run(ctx); ctx.Err() != nil {
		k.handOver()
	} else {
		c.o.Logger.Info("this node does not coordinate the cluster any more", "term", k.term)
	}
}

// presides says whether this is still the coordinator of its term, as far as this node knows.
func (k *coordinator) presides() bool {
	return k.raft.State() == raft.Leader && k.raft.CurrentTerm() == k.term
}

func (k *coordinator) run(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		ticked := false
		select {
		case <-ctx.Done():
			return
		case fn := <-k.inbox:
			fn()
		case <-tick.C:
			ticked = true
		}
		k.clock.turn(time.Now())
		if !k.presides() {
			return
		}
		k.grant(ctx)
		k.decide(ctx)
		if ticked {
			k.arrange(ctx)
		}
	}
}

// tell has fn run on the coordinator's goroutine; false: it ended, or ctx did.
func (k *coordinator) tell(ctx context.Context, fn func()) bool {
	select {
	case k.inbox <- fn:
		return true
	case <-k.done:
	case <-ctx.Done():
	}
	return false
}

// later waits for a future of Raft's, and then has fn run.
func (k *coordinator) later(ctx context.Context, f raft.Future, fn func(error)) {
	k.streams.Go(func() {
		err := k.await(ctx, f)
		k.tell(ctx, func() { fn(err) })
	})
}

// await waits for a future of Raft's. When ctx ends sooner, so does the waiting: Raft forgets some futures when it ends.
func (c *Control) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	c.futures.Go(func() { done <- f.Error() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// adopt takes over the State that has been agreed on.
func (k *coordinator) adopt(ctx context.Context) {
	old := k.state
	k.state = k.machine.state()
	k.settled = k.clock.total
	if k.state.Epoch != old.Epoch || k.state.Phase != old.Phase {
		k.changed = k.clock.total
	}
	k.watch(ctx)
}

// watch has a stream to every member, and tells all of them the State.
func (k *coordinator) watch(ctx context.Context) {
	for _, m := range k.state.Members {
		o := k.members[m.ID]
		if o == nil {
			o = &observed{heard: k.clock.total}
			k.members[m.ID] = o
		}
		if o.stream != nil && o.stream.address != m.PeerAddr {
			o.stream.cancel()
			o.stream = nil
		}
		if o.stream == nil {
			o.stream = k.open(ctx, m)
		}
		o.stream.show(k.state)
	}
	for id, o := range k.members {
		if _, is := member(k.state, id); !is {
			o.stream.dismiss(k.state)
			delete(k.members, id)
		}
	}
}

// dismissAll ends all streams.
func (k *coordinator) dismissAll() {
	for _, o := range k.members {
		o.stream.cancel()
	}
}

// heardFrom takes a report.
func (k *coordinator) heardFrom(s *stream, n numbered, store string) {
	o := k.members[s.id]
	if o == nil || o.stream != s {
		return
	}
	o.report, o.number, o.heard, o.known, o.refused, o.store = n.Report, n.Number, k.clock.total, true, false, store
}

// refusedBy notes whether somebody listens at a member's address.
func (k *coordinator) refusedBy(s *stream, refused bool) {
	if o := k.members[s.id]; o != nil && o.stream == s {
		o.refused = refused
	}
}

// facts is what the coordinator knows now.
func (k *coordinator) facts() failover.Facts {
	f := failover.Facts{
		Self: k.o.Self, Now: time.Now(), Elapsed: k.clock.total, Electing: k.clock.total - k.changed,
		Voters: k.Control.Voters(), LeaseOver: k.o.boottime()-max(k.began, k.granted) > k.state.Settings.Guard(),
	}
	for id, o := range k.members {
		r := o.report
		r.Node = id // of which nothing else may be known
		f.Nodes = append(f.Nodes, failover.Observation{Report: r, Silence: k.clock.total - o.heard, Refused: o.refused})
	}
	slices.SortFunc(f.Nodes, func(a, b failover.Observation) int { return cmp.Compare(a.Node, b.Node) })
	return f
}

// recent says whether a member has been heard lately.
func (k *coordinator) recent(id failover.NodeID) bool {
	o := k.members[id]
	return o != nil && o.known && k.clock.total-o.heard < raftTimeout
}

// grant gives the leader a lease from its newest report on, once Raft has confirmed that nobody else coordinates:
// whoever comes to do so later waits until it is over.
func (k *coordinator) grant(ctx context.Context) {
	o, epoch := k.deserves()
	if o == nil || k.granting {
		return
	}
	k.granting = true
	s, number := o.stream, o.number
	o.number = 0 // one lease for each report
	k.later(ctx, k.raft.VerifyLeader(), func(err error) {
		k.granting = false
		again, now := k.mayLease()
		if err != nil || again == nil || again.stream != s || now != epoch {
			return
		}
		k.granted = k.o.boottime()
		s.grant(number, k.state.Settings.Lease())
	})
}

// deserves gives the leader if a report of it has come that a lease may count from.
func (k *coordinator) deserves() (*observed, uint64) {
	o, epoch := k.mayLease()
	if o == nil || o.number == 0 {
		return nil, 0
	}
	return o, epoch
}

// mayLease gives the leader, and its epoch, unless a lease might outlive its right to it: while a proposal is under way, the
// facts that it was made with have to stay true.
func (k *coordinator) mayLease() (*observed, uint64) {
	o := k.members[k.state.Leader]
	if o == nil || !o.known || k.proposing || k.state.Phase != failover.Leading {
		return nil, 0
	}
	r := o.report
	if r.Leading != k.state.Epoch || r.Stalled > k.state.Settings.StallTimeout || r.Failed != "" {
		return nil, 0
	}
	return o, uint64(k.state.Epoch)
}

// decide carries out commands, and asks what else should follow from the facts. One proposal is under way at a time.
func (k *coordinator) decide(ctx context.Context) {
	for !k.busy() && len(k.waiting) > 0 {
		a := k.waiting[0]
		k.waiting = k.waiting[1:]
		k.carryOut(ctx, a)
	}
	if k.busy() || k.state.Version == 0 {
		return
	}
	next, events, ok := k.o.Next(k.state, k.facts())
	if ok {
		k.propose(ctx, proposal{State: next, Events: events}, nil)
	}
}

// busy says whether a proposal would have to wait.
func (k *coordinator) busy() bool { return k.proposing || k.moving }

// carryOut turns a command into a proposal.
func (k *coordinator) carryOut(ctx context.Context, a *asked) {
	if k.machine.did(a.ID) { // it had come before, and its answer was lost
		a.reply(answer{State: k.state})
		return
	}
	next, events, err := a.Command.Apply(k.state, k.facts())
	switch {
	case err != nil:
		a.reply(answer{Refused: err.Error()})
	case next.Version == k.state.Version:
		a.reply(answer{State: k.state})
	default:
		k.propose(ctx, proposal{State: next, Events: events, Request: a.ID}, a)
	}
}

// propose has the next State agreed on. Whoever asked for it is answered then.
func (k *coordinator) propose(ctx context.Context, p proposal, for_ *asked) {
	p.Expect = k.state.Version
	p.State.Version = p.Expect + 1
	data, err := encodeProposal(p)
	if err != nil {
		k.o.Logger.Error("the cluster's state cannot be changed", "error", err)
		if for_ != nil {
			for_.reply(answer{Refused: err.Error()})
		}
		return
	}
	k.proposing = true
	future := k.raft.Apply(data, commitLimit)
	k.later(ctx, future, func(err error) {
		k.proposing = false
		if err == nil {
			err, _ = future.Response().(error)
		}
		if err != nil {
			k.o.Logger.Warn("a change of the cluster's state did not come about", "version", p.State.Version, "error", err)
		}
		k.adopt(ctx)
		switch {
		case for_ == nil:
		case err == nil:
			for_.reply(answer{State: k.state})
		default:
			for_.reply(answer{Again: err.Error()})
		}
	})
}
