package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"skein/internal/failover"
)

// Five nodes are stopped, cut off in both directions or one, and given commands, for some virtual minutes. What must always hold, the
// nodes of the test look after. When all is healed, all is well soon.
func TestRandomFaults(t *testing.T) {
	first := time.Now().UnixNano()
	if s := os.Getenv("SKEIN_SEED"); s != "" {
		var err error
		if first, err = strconv.ParseInt(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	runs := 3
	if testing.Short() {
		runs = 1
	}
	for i := range runs {
		seed := first + int64(i)
		inBubbles(t, fmt.Sprint("SKEIN_SEED=", seed), func(t *testing.T, c *cluster) {
			r := rand.New(rand.NewPCG(uint64(seed), 0))
			all := c.three()
			for _, n := range all {
				n.mu.Lock()
				n.lossy = seed%2 == 0
				n.mu.Unlock()
			}
			all = append(all, c.join("d", all[0]), c.join("e", all[1]))
			for range 60 {
				c.disturb(r, all)
				time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
			}
			c.heal()
			for _, n := range all {
				if n.gone() {
					n.restart()
				}
			}
			c.until("all is well", func() bool {
				l, k := c.leader(all...), c.coordinator(all...)
				return l != nil && k != nil && l != k && len(c.voters(k)) == 5 && c.followed(all) && l.control.LeaseUntil() > c.boottime()
			})
			s := all[0].do(setting("stall_timeout", "33s"))
			for _, n := range all {
				c.until("all know the newest state", func() bool { return n.control.State().Version >= s.Version })
				c.until("and the same past", func() bool { return len(n.control.History()) == len(all[0].control.History()) })
			}
		})
	}
}

// disturb does one thing to a cluster.
func (c *cluster) disturb(r *rand.Rand, all []*node) {
	a, b := all[r.IntN(len(all))], all[r.IntN(len(all))]
	switch r.IntN(8) {
	case 0:
		switch {
		case a.gone():
		case r.IntN(2) == 0:
			a.stop()
		default:
			a.kill()
		}
	case 1, 2:
		if a.gone() {
			a.restart()
		}
	case 3:
		c.deafen(a, b)
	case 4:
		c.cut([]*node{a}, without(all, a)...)
	case 5:
		c.heal()
	default:
		if !a.gone() {
			ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
			defer cancel()
			_, _ = a.control.Do(ctx, setting("failover_timeout", []string{"300ms", "500ms", "1s", "3s"}[r.IntN(4)]))
		}
	}
}

// A coordinator that stood still has heard nobody, and takes nobody for silent.
func TestCoordinatorThatStoodStill(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		stand := make(chan time.Duration, 1)
		var after []failover.Facts
		all := c.three(func(o *Options) {
			o.Next = func(s failover.State, f failover.Facts) (failover.State, []failover.Event, bool) {
				select {
				case d := <-stand:
					time.Sleep(d)
				default:
				}
				if s.Settings.StallTimeout == 9*time.Second {
					after = append(after, f)
				}
				return c.next(s, f)
			}
		})
		k := c.coordinator(all...)
		k.do(setting("stall_timeout", "9s"))
		epoch := k.control.State().Epoch
		stand <- 10 * time.Second
		time.Sleep(20 * time.Second)
		if k.control.State().Epoch != epoch || c.coordinator(all...) != k {
			t.Error("something has changed")
		}
		for _, f := range after {
			for _, o := range f.Nodes {
				if o.Silence > 2*maxTurn {
					t.Errorf("%s counts as silent for %v", o.Node, o.Silence)
				}
			}
		}
		if len(after) == 0 {
			t.Error("nothing was decided")
		}
	})
}

// A cluster in which nothing happens goes on with the connections that it has, and its State stays.
func TestQuietCluster(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		time.Sleep(5 * time.Second)
		c.mu.Lock()
		before, version := c.dials[Watch]+c.dials[Command]+c.dials[Raft], len(c.states)
		c.mu.Unlock()
		k := c.coordinator(all...)
		time.Sleep(time.Minute)
		c.mu.Lock()
		defer c.mu.Unlock()
		if after := c.dials[Watch] + c.dials[Command] + c.dials[Raft]; after != before || len(c.states) != version {
			t.Errorf("%d connections were made, and %d states", after-before, len(c.states)-version)
		}
		if k == nil {
			t.Error("nobody coordinates")
		}
	})
}
