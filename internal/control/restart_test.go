package control

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skein/internal/failover"
)

func TestTotalOutage(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		inBubbles(t, "", func(t *testing.T, c *cluster) {
			all := c.three()
			s := all[0].do(setting("stall_timeout", "9s"))
			for _, n := range all {
				n.stop()
			}
			all[order[0]].restart()
			first := all[order[0]].control
			if v := first.State().Version; v+1 < s.Version {
				t.Errorf("it knows state %d of %d", v, s.Version)
			}
			time.Sleep(10 * time.Second)
			if c.coordinator(all...) != nil || first.LeaseUntil() != 0 {
				t.Error("one of three coordinates, or leads")
			}
			all[order[1]].restart()
			c.until("two of three have a leader", func() bool { return c.leader(all...) != nil })
			if got := first.State(); got.Settings.StallTimeout != 9*time.Second || got.Version <= s.Version {
				t.Errorf("the state is %+v", got)
			}
			all[order[2]].restart()
			c.until("all is well", func() bool { return c.followed(all) && all[order[2]].control.State().Version == first.State().Version })
		})
	}
}

func TestNodeThatLostItsControlStoreVotesAsAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		victim := without(all, c.coordinator(all...), c.leader(all...))[0]
		old := victim.control.self
		victim.stop()
		if err := os.RemoveAll(victim.dir); err != nil {
			t.Fatal(err)
		}
		victim.restart()
		if victim.control.self == old {
			t.Fatal("it is the same server")
		}
		c.until("the new server votes, and the old one is gone", func() bool {
			servers := all[0].control.raft.GetConfiguration().Configuration().Servers
			var names []string
			for _, s := range servers {
				if s.Suffrage == 0 {
					names = append(names, string(s.ID))
				}
			}
			return len(servers) == 3 && len(names) == 3 && slices.Contains(names, string(victim.control.self.id()))
		})
		c.until("it knows the state, and what happened", func() bool {
			return victim.control.State().Version == all[0].control.State().Version && len(victim.control.History()) == len(all[0].control.History())
		})
	})
}

func TestAnotherNodeAtAMembersAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		victim := without(all, c.coordinator(all...), c.leader(all...))[0]
		victim.stop()
		wiped := c.node("w") // whose address is the old one's
		wiped.address = victim.address
		wiped.start()
		k := c.coordinator(all...)
		c.until("the member counts as gone", func() bool {
			_, f, err := k.control.Observe(t.Context())
			return err == nil && slices.ContainsFunc(f.Nodes, func(o failover.Observation) bool {
				return o.Node == victim.id && o.Refused && o.Silence > time.Second
			})
		})
		time.Sleep(10 * time.Second)
		if wiped.control.State().Version != 0 {
			t.Errorf("who is no member is told %+v", wiped.control.State())
		}
		if len(c.voters(k)) != 3 {
			t.Errorf("%v vote", c.voters(k))
		}
		for _, n := range without(all, victim) { // the raft of both goes on with each other only
			c.until("a command is carried out", func() bool { n.do(setting("stall_timeout", "9s")); return true })
		}
	})
}

func TestRemovedNodeIsToldAndMayComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		k := c.coordinator(all...)
		gone := without(all, k, c.leader(all...))[0]
		c.losing(func(p *pipeEnd) bool { return p.what == Raft && p.to == gone.address }) // which need not tell it
		k.do(failover.Command{Kind: failover.RemoveCommand, Node: string(gone.id)})
		isMember := func() bool { _, is := member(gone.control.State(), gone.id); return is }
		c.until("it is told that it is no member", func() bool { return !isMember() })
		c.until("its server is gone", func() bool { return len(k.control.raft.GetConfiguration().Configuration().Servers) == 2 })
		c.losing(nil)
		time.Sleep(5 * time.Second) // Raft may still send it what was agreed on before
		v := gone.control.State().Version
		k.do(setting("stall_timeout", "9s"))
		time.Sleep(10 * time.Second)
		if gone.control.State().Version != v {
			t.Error("it is told what the cluster does")
		}
		if k2 := c.coordinator(all...); k2 == nil || k2 == gone {
			t.Errorf("%v coordinates", k2)
		}
		if _, err := Join(t.Context(), c.dialer(gone.address), k.address, gone.member()); err != nil {
			t.Fatal(err)
		}
		c.until("it is a member again", isMember)
		c.until("and votes", func() bool { return len(c.voters(k)) == 3 })
	})
}

func TestCoordinatorThatStopsHandsOver(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		leader := c.leader(all...)
		for range 5 {
			k := c.coordinator(all...)
			rest := without(all, k)
			k.stop()
			if took := c.until("another coordinates", func() bool { return c.coordinator(rest...) != nil }); took > raftTimeout/4 {
				t.Errorf("it took %v", took)
			}
			if k := c.coordinator(rest...); k == leader {
				t.Error("the leader's node coordinates")
			}
			k.restart()
			c.until("all vote", func() bool { return len(c.voters(leader)) == 3 && c.followed(all) })
			time.Sleep(time.Second)
		}
	})
}

func TestCoordinatorThatIsKilledIsFollowedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		all = append(all, c.join("d", all[0]), c.join("e", all[1]))
		c.until("five vote", func() bool { return len(c.voters(c.coordinator(all...))) == 5 })
		for range 5 {
			k, leader := c.coordinator(all...), c.leader(all...)
			rest := without(all, k)
			began := time.Now()
			go k.kill()
			c.until("another coordinates", func() bool { return c.coordinator(rest...) != nil })
			if took := time.Since(began); took > successionPause {
				t.Errorf("it took %v", took)
			}
			if c.coordinator(rest...) == leader {
				t.Error("the leader's node coordinates")
			}
			time.Sleep(10 * time.Second)
			k.restart()
			c.until("all is well", func() bool { return len(c.voters(leader)) == 5 && c.followed(all) })
			time.Sleep(time.Second)
		}
	})
}

// Entries reach a node that was away for long as soon as it is back: its vote may be needed.
func TestRaftComesBackToWhoWasAwayAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		k := c.coordinator(all...)
		for _, away := range without(all, k) {
			for _, cutOff := range []bool{true, false} {
				if cutOff {
					c.cut([]*node{away}, without(all, away)...)
				} else {
					away.stop()
				}
				time.Sleep(time.Minute)
				k = c.coordinator(without(all, away)...)
				k.do(setting("stall_timeout", map[bool]string{true: "8s", false: "9s"}[cutOff]))
				if cutOff {
					c.heal()
				} else {
					away.restart()
				}
				has := func() bool { return away.control.raft.LastIndex() == k.control.raft.LastIndex() }
				if took := c.until("it has all entries", has); took > 3*time.Second || !cutOff && took > 3*redialPause {
					t.Errorf("it took %v", took)
				}
				c.until("all is well", func() bool { return c.followed(all) && c.coordinator(all...) != nil })
			}
		}
	})
}

func TestNobodyDialsWhoWasRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		d := c.join("d", all[0])
		c.until("it is part of Raft", func() bool {
			return len(c.coordinator(all...).control.raft.GetConfiguration().Configuration().Servers) == 4
		})
		d.kill()
		k := c.coordinator(all...)
		k.do(failover.Command{Kind: failover.RemoveCommand, Node: string(d.id)})
		time.Sleep(10 * time.Second)
		before := c.refused()
		time.Sleep(time.Minute)
		if n := c.refused() - before; n != 0 {
			t.Errorf("it was tried %d times", n)
		}
	})
}

// Whoever is told that a node is gone may stop it: those that stay must be able to decide without it, though it coordinated.
func TestClusterShrinksToOneNode(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		leader := c.leader(all...)
		leader.leadAlone()
		for _, first := range []bool{true, false} {
			gone := c.coordinator(all...)
			if !first || gone == leader {
				gone = without(all, leader)[0]
			}
			all = without(all, gone)
			leader.do(failover.Command{Kind: failover.RemoveCommand, Node: string(gone.id)})
			c.until("it is no member", func() bool { _, is := member(leader.control.State(), gone.id); return !is })
			gone.stop()
			leader.do(setting("stall_timeout", map[bool]string{true: "9s", false: "8s"}[first]))
		}
	})
}

func TestAddressOfAMemberChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		k := c.coordinator(all...)
		moved := without(all, k, c.leader(all...))[0]
		moved.stop()
		c.mu.Lock()
		delete(c.nodes, moved.address)
		c.mu.Unlock()
		moved.address = "elsewhere:1"
		moved.restart()
		c.until("it is believed to be elsewhere, since it is not where it was", func() bool {
			_, err := Join(t.Context(), c.dialer(moved.address), k.address, moved.member())
			return err == nil
		})
		v := k.do(setting("stall_timeout", "9s")).Version
		c.until("it is told", func() bool { return moved.control.State().Version >= v })
		c.until("Raft finds it", func() bool {
			for _, s := range k.control.raft.GetConfiguration().Configuration().Servers {
				if s.Address == moved.control.self.at(moved.address) {
					return true
				}
			}
			return false
		})
		c.until("the coordinator hears it", func() bool {
			_, f, err := k.control.Observe(t.Context())
			return err == nil && slices.ContainsFunc(f.Nodes, func(o failover.Observation) bool {
				return o.Node == moved.id && !o.Refused && o.Silence < time.Second && o.Incarnation == 2
			})
		})
		without(all, moved, k)[0].stop() // now its vote is needed
		k.do(setting("stall_timeout", "8s"))
	})
}

func TestCoordinatorWhoseDiskIsFullMakesWay(t *testing.T) {
	for _, test := range []struct {
		err    error
		passes bool
	}{{syscall.ENOSPC, true}, {syscall.EIO, false}} {
		inBubbles(t, test.err.Error(), func(t *testing.T, c *cluster) {
			all := c.three()
			k := c.coordinator(all...)
			var bad atomic.Bool
			k.control.store.mu.Lock()
			k.control.store.fault = func() error {
				if bad.Load() {
					return test.err
				}
				return nil
			}
			k.control.store.mu.Unlock()
			bad.Store(true)
			other := without(all, k)[0]
			began := time.Now()
			other.do(setting("stall_timeout", "9s"))
			if took := time.Since(began); took > stallLimit+5*raftTimeout {
				t.Errorf("a command took %v", took)
			}
			if c.coordinator(without(all, k)...) == nil {
				t.Error("none of the others coordinates")
			}
			if k.control.Trouble() == "" {
				t.Error("who cannot write does not say so")
			}
			c.until("it is told all the same", func() bool { return k.control.State().Settings.StallTimeout == 9*time.Second })
			bad.Store(false)
			if test.passes {
				c.until("it takes part again", func() bool { return k.control.Trouble() == "" })
				c.until("and has everything", func() bool { return k.told(failover.SettingsEvent) == other.told(failover.SettingsEvent) })
			}
		})
	}
}

func TestControlStoreStaysSmall(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.begin("a")
		c.until("it leads", a.leads)
		for i := range 2 * snapshotDue {
			a.do(setting("stall_timeout", []string{"7s", "8s"}[i%2]))
		}
		time.Sleep(time.Minute) // a snapshot is looked for now and then
		for range 2 {
			a.control.store.mu.Lock()
			n := len(a.control.store.entries)
			a.control.store.mu.Unlock()
			if n > trailing+10 {
				t.Errorf("the log has %d entries", n)
			}
			dirs, err := os.ReadDir(filepath.Join(a.dir, "snapshots"))
			if err != nil || len(dirs) > 2 {
				t.Errorf("there are %d snapshots, %v", len(dirs), err)
			}
			if told := a.told(failover.SettingsEvent); told < 2*snapshotDue {
				t.Errorf("%d commands are remembered", told)
			}
			v := a.control.State().Version
			a.restart()
			c.until("it leads", a.leads)
			if a.control.State().Version < v {
				t.Errorf("it knows state %d of %d", a.control.State().Version, v)
			}
		}
	})
}

func TestBootstrapIsDoneOnceAndWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "control")
	s := failover.NewCluster(failover.Member{ID: "a", PeerAddr: "a:1"})
	if err := os.MkdirAll(filepath.Join(dir+".new", "left"), 0o700); err != nil { // by one that was cut off
		t.Fatal(err)
	}
	if err := Bootstrap(dir, "a", "a:1", s); err != nil {
		t.Fatal(err)
	}
	if err := Bootstrap(dir, "a", "a:1", s); err == nil {
		t.Error("a cluster is begun twice")
	}
	if _, err := os.Stat(dir + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
	for _, name := range []failover.NodeID{"", "a/b", "a@b"} {
		if _, err := Open(Options{Dir: dir, Self: name}); err == nil {
			t.Errorf("a node may be called %q", name)
		}
	}
}
