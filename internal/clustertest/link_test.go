package clustertest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// F02, F03: the network drops what goes one way, then what goes the other. Connections stay open meanwhile, as
// they do then. An asynchronous leader goes on; a synchronous one acknowledges nothing, and when the network is
// back the follower connects anew by itself.
func TestLink_F02_F03_OneWay(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.Down, proxy.Up} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1)
			f := c.members[1]
			s := newSeries(c, 1)
			s.progress(20)
			f.link.Hold(d)
			s.progress(50)
			f.connected(false)
			s.progress(50)
			s.end()
			c.synchronous("ANY 1 (*)")
			p := c.leader.begin("CREATE TABLE t (a int)")
			c.leader.unacknowledged(1)
			p.unanswered("with a network of one way")
			if got := c.leader.value("SELECT count(*) FROM pg_tables WHERE tablename = 't'"); got != "0" {
				t.Error("what is not acknowledged is seen")
			}
			f.link.Pass()
			if code := p.code(); code != "" {
				t.Fatal(p.err)
			}
			s.check()
			c.end()
		})
	}
}

// F10, F11: the connection is half open, and the follower makes another. What was stuck in the old one
// arrives much later, and is nobody's any more.
func TestLink_F11_TheOldConnectionArrivesLate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	c.synchronous("ANY 1 (*)")
	s := newSeries(c, 4)
	var stuck []func()
	for range 2 {
		s.progress(30)
		before := f.link.Connections()
		stuck = append(stuck, f.link.Strand())
		nodetest.Await(t, "the follower connects again", func() error {
			if f.link.Connections() == before {
				return errors.New("it does not")
			}
			return nil
		})
		s.progress(30)
	}
	for _, release := range stuck {
		release()
		s.progress(30)
	}
	s.check()
	c.end()
}

// F12: a byte is changed on its way, anywhere in the stream. Nothing wrong is ever taken in.
func TestLink_F12_FlippedByte(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	rng := nodetest.NewLedger(seed(t)).Rand
	c.synchronous("ANY 1 (*)")
	s := newSeries(c, 2)
	for round := range 16 {
		at := []int64{rng.Int64N(400), 400 + rng.Int64N(20_000)}[round%2]
		f.struckBy(proxy.Direction(round/2%2), proxy.Plan{Flip: true, FlipAt: at})
		s.progress(3)
	}
	s.check()
	c.end()
}

// The connection is reset at one byte after the other.
func TestLink_ResetAtAnyByte(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.Up, proxy.Down} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1)
			c.synchronous("ANY 1 (*)")
			s := newSeries(c, 1)
			resets(c, s, d, 0, 2000, 57)
			s.check()
			c.end()
		})
	}
}

// resets has one connection after the other reset before a byte, each at a later one. Between two there is progress,
// which also has the follower try again at once.
func resets(c *cluster, s *series, d proxy.Direction, from, to, step int64) {
	c.t.Helper()
	for at := from; at < to; at += step {
		c.members[1].struckBy(d, proxy.Plan{Cut: true, CutAt: at})
		s.progress(2)
	}
}

// struckBy has a new connection of m meet with what is planned for a direction, and waits until m connects again.
func (m *member) struckBy(d proxy.Direction, plan proxy.Plan) {
	m.t.Helper()
	before := m.link.Struck()
	var planned atomic.Int64 // the newest connection
	m.link.Each(func(n int) (up, down proxy.Plan) {
		plans := [2]proxy.Plan{}
		if m.link.Struck() == before {
			plans[d] = plan
			planned.Store(int64(n))
		}
		return plans[proxy.Up], plans[proxy.Down]
	})
	m.link.Cut()
	nodetest.Await(m.t, fmt.Sprintf("%v %+v comes about", d, plan), func() error {
		if m.link.Struck() == before {
			return errors.New(tail(m.Log(), 6))
		}
		return nil
	})
	nodetest.Await(m.t, fmt.Sprintf("after %v %+v there is a new connection", d, plan), func() error {
		if int64(m.link.Connections()) < planned.Load()+2 {
			return errors.New(tail(m.Log(), 6))
		}
		return nil
	})
}

// F09: a slow network. Commits take as long as the round trip, and nothing else happens.
func TestLink_F09_Slow(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	f.link.Each(func(int) (up, down proxy.Plan) {
		return proxy.Plan{Delay: 30 * time.Millisecond}, proxy.Plan{Delay: 30 * time.Millisecond, Trickle: 100}
	})
	f.link.Cut()
	f.connected(true)
	c.synchronous("ANY 1 (*)")
	s := newSeries(c, 3)
	s.progress(10)
	if lag := c.leader.value("SELECT count(*) FROM pg_stat_replication WHERE flush_lag IS NULL"); lag != "0" {
		t.Error("the lag of a connected follower is NULL")
	}
	s.check()
	c.end()
}
