package control

import (
	"testing"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
)

func TestLeaseEndsWithItsEpoch(t *testing.T) {
	c := &Control{changed: make(chan struct{}, 1)}
	for i, test := range []struct {
		epoch, of history.Epoch // that the State says, and that the lease is for
		until     time.Duration
		want      time.Duration
	}{
		{1, 1, 100, 100},
		{1, 1, 50, 100}, // from an earlier report
		{1, 2, 500, 100},
		{2, 1, 500, 0},
		{2, 2, 50, 50},
	} {
		c.learn(failover.State{Version: uint64(i + 1), Epoch: test.epoch})
		c.extend(test.of, test.until)
		if got := c.LeaseUntil(); got != test.want {
			t.Errorf("in epoch %d a lease for %d until %v makes it %v", test.epoch, test.of, test.until, got)
		}
	}
}

func TestLeaseCountsFromBeforeTheReport(t *testing.T) {
	now := time.Hour
	c := &Control{changed: make(chan struct{}, 1)}
	c.o.boottime = func() time.Duration { return now }
	c.o.Report = func() failover.Report {
		now += time.Second // as if it took that long
		return failover.Report{Leading: 3}
	}
	c.learn(failover.State{Version: 1, Epoch: 3})
	r := &reporter{control: c, number: 41, sent: map[uint64]sent{}}
	n := r.next()
	r.take(push{Grant: 7, Lease: time.Minute})
	if got := c.LeaseUntil(); got != 0 {
		t.Errorf("a lease for a report that was not made lasts until %v", got)
	}
	r.take(push{Grant: n.Number, Lease: time.Minute})
	if got := c.LeaseUntil(); n.Number != 42 || got != time.Hour+time.Minute {
		t.Errorf("a lease of a minute for report %d lasts until %v", n.Number, got)
	}
	for range 10 * maxSent {
		r.next()
	}
	if len(r.sent) > maxSent {
		t.Errorf("%d reports are remembered", len(r.sent))
	}
}

// Only a leader that is well, in this very epoch, and about which nothing is being decided, is given a lease.
func TestWhoMayHaveALease(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(k *coordinator, r *failover.Report)
		may    bool
	}{
		{"a leader", func(*coordinator, *failover.Report) {}, true},
		{"that has not begun", func(_ *coordinator, r *failover.Report) { r.Leading = 0 }, false},
		{"of another epoch", func(_ *coordinator, r *failover.Report) { r.Leading = 4 }, false},
		{"whose disk hangs", func(_ *coordinator, r *failover.Report) { r.Stalled = time.Minute }, false},
		{"that has failed", func(_ *coordinator, r *failover.Report) { r.Failed = "why" }, false},
		{"while something is being decided", func(k *coordinator, _ *failover.Report) { k.proposing = true }, false},
		{"that is being replaced", func(k *coordinator, _ *failover.Report) { k.state.Phase = failover.Electing }, false},
		{"that has not been heard", func(k *coordinator, _ *failover.Report) { k.members["a"].known = false }, false},
		{"that is another node", func(k *coordinator, _ *failover.Report) { k.state.Leader = "b" }, false},
	} {
		o := &observed{known: true, number: 1, report: failover.Report{Node: "a", Leading: 5}}
		k := &coordinator{members: map[failover.NodeID]*observed{"a": o}}
		k.state = failover.NewCluster(failover.Member{ID: "a"})
		k.state.Phase, k.state.Leader, k.state.Epoch = failover.Leading, "a", 5
		test.change(k, &o.report)
		if got, _ := k.deserves(); (got != nil) != test.may {
			t.Errorf("%s: %t", test.name, got != nil)
		}
	}
}

// The coordination moves only when nothing goes on that would have to wait for that.
func TestWhenTheCoordinationMoves(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(k *coordinator)
		moves  bool
	}{
		{"long after the last decision", func(*coordinator) {}, true},
		{"soon after it", func(k *coordinator) { k.settled += time.Second }, false},
		{"in an election", func(k *coordinator) { k.state.Phase = failover.Electing }, false},
		{"in an appointment", func(k *coordinator) { k.state.Began = time.Now() }, false},
		{"before a switchover", func(k *coordinator) { k.state.Switchover = &failover.Switchover{} }, false},
		{"with a command to carry out", func(k *coordinator) { k.waiting = []*asked{{}} }, false},
		{"another node leads", func(k *coordinator) { k.state.Leader = "b" }, false},
	} {
		k := &coordinator{Control: &Control{o: Options{Self: "a"}}}
		k.state = failover.NewCluster(failover.Member{ID: "a"})
		k.state.Phase, k.state.Leader = failover.Leading, "a"
		k.clock.total, k.settled = time.Minute, time.Minute-quietTime
		test.change(k)
		if k.shouldMove() != test.moves {
			t.Errorf("%s: %t", test.name, !test.moves)
		}
	}
}
