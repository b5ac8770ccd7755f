package control

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A coordinator that is cut off with the leader cannot tell that there is another by now: it must not give leases.
func TestCoordinatorThatIsCutOffGivesNoLease(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		leader, old := c.leader(all...), c.coordinator(all...)
		rest := without(all, leader, old)
		third := rest[0]
		c.until("the leader has a lease", func() bool { return leader.control.LeaseUntil() > c.boottime() })
		// The leader still speaks with the old coordinator, and neither with the third node. Raft's majority is there, so
		// leases go on.
		c.cut([]*node{leader}, third)
		time.Sleep(2 * time.Second)
		if until := leader.control.LeaseUntil(); until < c.boottime() {
			t.Errorf("though a majority coordinates, the lease ended %v ago", c.boottime()-until)
		}
		c.heal()

		// Now the coordinator's raft reaches nobody, while its stream to the leader lives on.
		at := c.boottime()
		old.control.layer.cut(errors.New("cut by the test"))
		c.until("the lease is over", func() bool { return leader.control.LeaseUntil() < c.boottime() })
		if until := leader.control.LeaseUntil(); until > at+leader.control.State().Settings.Lease() {
			t.Errorf("the coordinator that was cut off at %v gave a lease until %v", at, until)
		}
		c.until("another coordinates", func() bool { k := c.coordinator(all...); return k != nil && k != old })
		c.until("the leader has a lease again", func() bool { return leader.control.LeaseUntil() > c.boottime() })
		old.control.layer.cut(nil)
	})
}

// No lease that was given runs still when a coordinator says so, whoever gave it: cluster.next looks. And
// some time it does say so.
func TestLeasesAreOverBeforeAnybodyReliesOnIt(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		leader := c.leader(all...)
		rest := without(all, leader)
		said := func() bool {
			k := c.coordinator(rest...)
			if k == nil {
				return false
			}
			_, f, err := k.control.Observe(t.Context())
			return err == nil && f.LeaseOver
		}
		leader.do(setting("failover", "manual")) // so that nobody else is given one
		long := leader.do(setting("failover_timeout", "5s")).Settings
		c.until("a long lease is given", func() bool { return leader.control.LeaseUntil() > c.boottime()+3*time.Second })
		all[1].do(setting("failover_timeout", "300ms"))
		old := c.coordinator(all...)
		old.stop() // the next has to wait for a lease that it knows nothing of
		c.until("another coordinates", func() bool { return c.coordinator(all...) != nil })
		old.restart()
		c.cut([]*node{leader}, rest...)
		if took := c.until("a coordinator relies on it", said); took < long.Lease()-time.Second || took > long.Guard()+3*time.Second {
			t.Errorf("after %v a lease is taken to be over", took)
		}
	})
}

func TestOldCoordinatorLearnsWhatItHasMissed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		old := c.coordinator(all...)
		rest := without(all, old)
		c.cut([]*node{old}, rest...)
		took := c.until("another coordinates", func() bool { return c.coordinator(rest...) != nil })
		if took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		s := rest[0].do(setting("stall_timeout", "9s"))
		if v := old.control.State().Version; v >= s.Version {
			t.Errorf("who is cut off knows state %d", v)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := old.control.Do(ctx, setting("stall_timeout", "3s")); err == nil {
			t.Error("a minority has carried out a command")
		}
		cancel()
		c.heal()
		c.until("it knows the newest state", func() bool { return old.control.State().Settings.StallTimeout == 9*time.Second })
	})
}
