//go:build soak

package clustertest

import (
	"os"
	"slices"
	"testing"
	"time"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// long says that tests may take their time.
const long = true

// TestSoakCluster has random faults happen to a cluster under load for as long as CLUSTERTEST_TIME says (10m):
// processes killed, paused and wiped, connections held, cut, stranded and damaged, modes changed.
func TestSoakCluster(t *testing.T) {
	rounds := 0
	for end := time.Now().Add(soakTime(t)); time.Now().Before(end); rounds++ {
		soak(t, end)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d clusters", rounds)
}

// soakTime is how long the random faults go on.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	d := 10 * time.Minute
	if s := os.Getenv("CLUSTERTEST_TIME"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// soak is the life of one cluster.
func soak(t *testing.T, end time.Time) {
	l := nodetest.NewLedger(seed(t))
	c := newCluster(t, 2+l.Rand.IntN(2))
	if l.Rand.IntN(2) == 0 {
		c.follower(c.members[1])
	}
	l.Prepare(t, c.leader.Node)
	s := newSeries(c, 3)
	n := &nemesis{c: c, l: l, s: s}
	for range 30 {
		if time.Now().After(end) {
			break
		}
		wait := c.load(l, 2)
		n.harm()
		n.heal()
		wait()
		s.progress(3)
	}
	c.synchronous("")
	s.check()
	c.end(l)
}

// nemesis harms a cluster in ways that it must survive, and remembers what must be healed.
type nemesis struct {
	c     *cluster
	l     *nodetest.Ledger
	s     *series
	undo  []func()
	harms []string
}

func (n *nemesis) harm() {
	rng := n.l.Rand
	for range 1 + rng.IntN(3) {
		followers := n.c.followers()
		f := followers[rng.IntN(len(followers))]
		harms := []struct {
			name string
			do   func()
		}{
			{"kill", func() { f.Kill(); n.later(func() { f.launch("") }) }},
			{"wipe", func() { f.Kill(); f.wipe(); n.later(func() { f.launch("") }) }},
			{"pause", func() { f.pause(); n.later(f.resume) }},
			{"hold down", func() { f.link.Hold(proxy.Down); n.later(func() { f.link.Pass() }) }},
			{"hold up", func() { f.link.Hold(proxy.Up); n.later(func() { f.link.Pass() }) }},
			{"cut", func() { f.link.Cut() }},
			{"strand", func() { n.later(f.link.Strand()) }},
			{"refuse", func() { f.link.Refuse(true); f.link.Cut(); n.later(func() { f.link.Refuse(false) }) }},
			{"flip", func() { n.plan(f, proxy.Plan{Flip: true, FlipAt: rng.Int64N(100_000)}) }},
			{"cut at", func() { n.plan(f, proxy.Plan{Cut: true, CutAt: rng.Int64N(100_000)}) }},
			{"leader", func() { n.c.leader.restart() }},
			{"mode", func() {
				n.c.synchronous([]string{"", "ANY 1 (*)", "FIRST 1 (n2, n3)", "ANY 2 (n2, n3, n4)"}[rng.IntN(4)])
			}},
		}
		h := harms[rng.IntN(len(harms))]
		if h.name != "leader" && h.name != "mode" && slices.Contains(n.harms, f.name) {
			continue // one at a time
		}
		n.harms = append(n.harms, f.name)
		n.c.t.Logf("%s %s", h.name, f.name)
		h.do()
	}
}

func (n *nemesis) plan(f *member, p proxy.Plan) {
	plans := [2]proxy.Plan{}
	plans[n.l.Rand.IntN(2)] = p
	f.link.Each(func(int) (up, down proxy.Plan) { return plans[0], plans[1] })
	f.link.Cut()
	n.later(func() { f.link.Each(nil); f.link.Cut() })
}

func (n *nemesis) later(undo func()) { n.undo = append(n.undo, undo) }

// heal undoes everything before it waits for anybody: a wiped node serves only once the one that it copies
// from runs again.
func (n *nemesis) heal() {
	for _, undo := range n.undo {
		undo()
	}
	for _, f := range n.c.followers() {
		f.serves()
	}
	n.undo, n.harms = nil, nil
}
