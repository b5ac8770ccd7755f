package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"skein/internal/failover"
)

// told counts the events of a kind that a node knows.
func (n *node) told(kind failover.EventKind) (count int) {
	for _, e := range n.control.History() {
		if e.Kind == kind {
			count++
		}
	}
	return count
}

func TestCommandWhoseAnswerIsLostIsCarriedOutOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		k := c.coordinator(all...)
		asker := without(all, k)[0]
		lost := 0
		c.losing(func(p *pipeEnd) bool {
			if p.what == Command && p.from == k.address && lost < 2 {
				lost++
				return true
			}
			return false
		})
		before := k.told(failover.SettingsEvent)
		s := asker.do(setting("stall_timeout", "9s"))
		if lost != 2 || s.Settings.StallTimeout != 9*time.Second {
			t.Errorf("%d answers were lost, the state is %+v", lost, s)
		}
		if n := k.told(failover.SettingsEvent) - before; n != 1 {
			t.Errorf("it was carried out %d times", n)
		}
	})
}

// Carried out twice, this one would be refused.
func TestCommandThatCannotBeRepeated(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		d := c.join("d", all[0])
		k := c.coordinator(all...)
		asker := without(all, k)[0]
		var from time.Time
		c.losing(func(p *pipeEnd) bool {
			if p.what == Command && p.from == k.address && from.IsZero() {
				from = time.Now()
			}
			return p.what == Command && p.from == k.address && time.Since(from) < 5*time.Second
		})
		asker.do(failover.Command{Kind: failover.RemoveCommand, Node: string(d.id)})
		if took := time.Since(from); from.IsZero() || took < 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if _, is := member(asker.control.State(), d.id); is {
			t.Error("the node is a member still")
		}
	})
}

func TestCommandOutlivesTheCoordinatorThatHasProposedIt(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		inBubbles(t, map[bool]string{true: "the others have it", false: "nobody has it"}[arrives], func(t *testing.T, c *cluster) {
			all := c.three()
			k := c.coordinator(all...)
			asker := without(all, k)[0]
			before := asker.told(failover.SettingsEvent)
			// What the coordinator sends to the others' Raft is lost, or what they answer.
			c.losing(func(p *pipeEnd) bool {
				return p.what == Raft && (arrives && p.to == k.address || !arrives && p.from == k.address)
			})
			done := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := asker.control.Do(ctx, setting("stall_timeout", "9s"))
				done <- err
			}()
			time.Sleep(100 * time.Millisecond)
			k.stop()
			c.losing(nil)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			c.until("it is part of the past", func() bool { return asker.told(failover.SettingsEvent) > before })
			k.restart()
			c.until("who has missed it knows", func() bool { return k.control.State().Settings.StallTimeout == 9*time.Second })
			c.until("and tells it", func() bool { return k.told(failover.SettingsEvent) > before })
			time.Sleep(5 * time.Second)
			for _, n := range all {
				if n := n.told(failover.SettingsEvent) - before; n != 1 {
					t.Errorf("it was carried out %d times", n)
				}
			}
		})
	}
}

func TestWithoutACoordinatorCommandsWait(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		a, others := all[0], all[1:]
		for _, n := range others {
			n.stop()
		}
		c.until("nobody coordinates", func() bool { return c.coordinator(all...) == nil })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		_, err := a.control.Do(ctx, setting("stall_timeout", "9s"))
		var refused *Refused
		if err == nil || errors.As(err, &refused) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it gives %v", err)
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("after %v", took)
		}
		done := make(chan failover.State, 1)
		go func() { done <- a.do(setting("stall_timeout", "8s")) }()
		time.Sleep(time.Second)
		others[0].restart()
		if s := <-done; s.Settings.StallTimeout != 8*time.Second {
			t.Errorf("the state is %+v", s)
		}
	})
}

func TestCommandOfANodeThatTheCoordinatorDoesNotReach(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		asker := without(all, c.coordinator(all...), c.leader(all...))[0]
		asker.stop()
		c.losing(func(p *pipeEnd) bool { return p.what != Command && (p.to == asker.address || p.from == asker.address) })
		asker.restart()
		if s := asker.do(setting("stall_timeout", "9s")); s.Settings.StallTimeout != 9*time.Second {
			t.Errorf("the state is %+v", s)
		}
		if asker.control.Coordinator() != "" {
			t.Error("it knows the coordinator")
		}
	})
}

func TestJoinIsAskedOfAnyMember(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		for i, by := range all {
			name := string(rune('d' + i))
			c.join(name, by)
			if v := c.voters(c.coordinator(all...)); len(v) > maxVotersForTest {
				t.Errorf("%v vote", v)
			}
		}
		d := c.nodes["d:1"]
		c.until("all know all", func() bool {
			return len(d.control.State().Members) == 6 && len(c.nodes["f:1"].control.State().Members) == 6
		})
		c.until("five vote", func() bool { return len(c.voters(c.coordinator(all...))) == 5 })

		again := d.member() // a name that is taken
		again.ID, again.Disk = "id-x", "disk-x"
		_, err := Join(t.Context(), c.dialer("x:1"), "a:1", again)
		var refused *Refused
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "name") {
			t.Errorf("under a name that is taken: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := Join(ctx, c.dialer("x:1"), "nobody:1", again); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("where nobody is: %v", err)
		}
	})
}

const maxVotersForTest = 5
