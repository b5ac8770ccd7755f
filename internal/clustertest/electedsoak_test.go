//go:build soak

package clustertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"skein/internal/clustertest/proxy"
)

// TestSoakElected has random faults happen to clusters that appoint their leader, for as long as CLUSTERTEST_TIME says (10m): processes
// killed, paused and wiped, links cut, held and slow, both ways and one way, for data and for control; leaders that hand over,
// members that come and go. Every cluster ends with all checkers.
func TestSoakElected(t *testing.T) {
	lives := 0
	for end := time.Now().Add(soakTime(t)); time.Now().Before(end) && !t.Failed(); lives++ {
		t.Run(fmt.Sprint(lives+1), func(t *testing.T) { soakElected(t, end) })
	}
	t.Logf("%d clusters", lives)
}

const (
	electedRounds = 20 // of one cluster
	judgedRounds  = 5  // whose registers are judged, which takes the longer the more there are
)

// soakElected is the life of one cluster.
func soakElected(t *testing.T, end time.Time) {
	rng := rand.New(rand.NewPCG(seed(t), 2))
	nodes, names := 3, "ANY 1 (*)"
	switch rng.IntN(5) {
	case 0:
		nodes = 5
	case 1:
		nodes, names = 5, "ANY 2 (*)"
	case 2:
		names = ""
	}
	lossless := names != ""
	e := newElected(t, nodes, names)
	t.Logf("%d nodes, synchronous_standby_names = '%s'", nodes, names)
	e.load()
	var r *registers
	if lossless {
		r = newRegisters(e, rng.Uint64())
	}
	chaos := &chaos{e: e, rng: rng, lossless: lossless}
	for round := range electedRounds {
		if time.Now().After(end) {
			break
		}
		chaos.round()
		if r != nil && round == judgedRounds {
			r.check(t)
			r = nil
		}
		if t.Failed() {
			return
		}
	}
	if r != nil {
		r.check(t)
	}
	e.end(lossless)
}

// chaos harms an elected cluster in ways that it must survive, and remembers what must be healed.
type chaos struct {
	e        *elected
	rng      *rand.Rand
	lossless bool
	undo     []func()
	harmed   []*member // processes that are not to be harmed otherwise
}

// round does harm, has it last for a moment, undoes it, and waits until the cluster goes on.
func (c *chaos) round() {
	c.e.t.Helper()
	if c.rng.IntN(5) == 0 {
		c.change()
	} else {
		for range 1 + c.rng.IntN(3) {
			c.harm()
			c.rest(300)
		}
		c.rest(2500)
	}
	for _, undo := range c.undo {
		undo()
	}
	c.undo, c.harmed = nil, nil
	c.e.progressFrom(c.e.claims.Since())
	c.e.caughtUp()
	c.e.progress(10)
}

// rest lets things happen for up to so many milliseconds.
func (c *chaos) rest(most int) { time.Sleep(time.Duration(c.rng.IntN(most)) * time.Millisecond) }

func (c *chaos) later(undo func()) { c.undo = append(c.undo, undo) }

// pick gives a node: half the time the one that led last.
func (c *chaos) pick() *member {
	if c.rng.IntN(2) == 0 && slices.Contains(c.e.members, c.e.leader) {
		return c.e.leader
	}
	return c.e.members[c.rng.IntN(len(c.e.members))]
}

func (c *chaos) matter() proxy.Matter {
	return []proxy.Matter{proxy.Everything, proxy.Everything, proxy.Replication, proxy.Control}[c.rng.IntN(4)]
}

// routes are those between two sides of the cluster, from one node, to one, or between two.
func (c *chaos) routes(m *member) (routes []proxy.Route, what string) {
	of := c.matter()
	switch c.rng.IntN(5) {
	case 0:
		return []proxy.Route{{From: m.name, Of: of}}, "from " + m.name
	case 1:
		return []proxy.Route{{To: m.name, Of: of}}, "to " + m.name
	case 2:
		o := c.e.others(m)[c.rng.IntN(len(c.e.members)-1)]
		return proxy.Between(m.name, o.name, of), "between " + m.name + " and " + o.name
	case 3:
		all := slices.Clone(c.e.members)
		c.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		half := len(all) / 2
		for _, a := range all[:half] {
			what += a.name + " "
			for _, b := range all[half:] {
				routes = append(routes, proxy.Between(a.name, b.name, of)...)
			}
		}
		return routes, "around " + what
	default:
		return proxy.Around(m.name, of), "around " + m.name
	}
}

func (c *chaos) harm() {
	m, n := c.pick(), c.e.network
	if slices.Contains(c.harmed, m) {
		return // one at a time
	}
	process := func() { c.harmed = append(c.harmed, m) }
	what := ""
	switch c.rng.IntN(8) {
	case 0, 1:
		what = "kill " + m.name
		process()
		m.Kill()
		c.later(func() { m.launch("") })
	case 2:
		what = "restart " + m.name
		m.Kill()
		m.launch("")
	case 3:
		what = "pause " + m.name
		process()
		m.pause()
		c.later(m.resume)
	case 4, 5:
		routes, which := c.routes(m)
		what = "drop " + which
		c.later(n.Drop(routes...))
	case 6:
		routes, which := c.routes(m)
		what = "sever " + which
		c.later(n.Sever(routes...))
	case 7:
		routes, which := c.routes(m)
		what = "delay " + which
		c.later(n.Delay(time.Duration(c.rng.IntN(100))*time.Millisecond, 100*time.Millisecond, routes...))
	}
	c.e.t.Log(what)
}

// change is what people do to a cluster that is whole, while a node fails: hand over, let members in and out, lose a directory.
func (c *chaos) change() {
	e := c.e
	e.lead()
	victim := c.pick()
	fail := func() {
		if c.rng.IntN(2) == 0 {
			e.t.Log("and kill " + victim.name)
			victim.Kill()
			c.later(func() { victim.launch("") })
		}
	}
	switch c.rng.IntN(4) {
	case 0:
		e.t.Log("switchover")
		asked := e.others(e.leader)[0].begin("SELECT skein_switchover()")
		fail()
		<-asked.done
	case 1:
		m := e.join()
		e.t.Log("join " + m.name)
		m.launch("")
		fail()
		c.later(m.serves)
	case 2:
		if len(e.members) <= 3 {
			return
		}
		m := e.other(victim)
		e.t.Log("drop " + m.name)
		e.drop(m)
	case 3:
		m := e.others(e.leader)[0]
		e.t.Log("wipe " + m.name)
		m.Kill()
		e.wipe(m)
		m.launch("")
		e.enters(m)
		e.caughtUp()
		e.arranged()
	}
}
