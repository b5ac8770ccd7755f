//go:build soak

package clustertest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"skein/internal/clustertest/proxy"
)

// TestSoakGuarantees has sessions use every node of one cluster after the other while their nodes suffer whatever comes, for as long as
// CLUSTERTEST_TIME says (10m), and judges each cluster's history.
func TestSoakGuarantees(t *testing.T) {
	clusters := 0
	for end := time.Now().Add(soakTime(t)); time.Now().Before(end) && !t.Failed(); clusters++ {
		t.Run(fmt.Sprint(clusters+1), func(t *testing.T) { soakGuarantees(t, end) })
	}
}

// crews are clusters that go on writing while any one node is away.
var crews = []struct {
	nodes int
	names string
}{{3, "ANY 1 (*)"}, {5, "ANY 1 (*)"}, {5, "ANY 2 (*)"}}

// soakGuarantees is the life of one cluster.
func soakGuarantees(t *testing.T, end time.Time) {
	n := seed(t)
	random := rand.New(rand.NewPCG(n, 2))
	c := crews[random.IntN(len(crews))]
	e := newElected(t, c.nodes, c.names)
	t.Logf("%d nodes, synchronous_standby_names = '%s'", c.nodes, c.names)
	s := newSessions(e, n)
	s.progress(30)
	for range 15 {
		if time.Now().After(end) {
			break
		}
		s.suffer(random)
		s.progress(30)
		e.caughtUp()
	}
	s.check()
}

// suffer has one thing happen to one node, which the others go on without.
func (s *sessions) suffer(random *rand.Rand) {
	leader := s.e.lead()
	m := leader
	if random.IntN(2) == 0 {
		m = s.e.other(leader)
	}
	meanwhile := random.IntN(60)
	switch random.IntN(6) {
	case 0:
		s.e.t.Logf("kill %s", m.name)
		s.kill(m, meanwhile)
	case 1:
		s.e.t.Logf("stop %s in order", m.name)
		over := s.Outage(m.name)
		m.Stop(s.e.t)
		s.progress(meanwhile)
		m.start()
		over()
	case 2:
		s.e.t.Logf("pause %s", m.name)
		s.pause(m, meanwhile)
	case 3:
		s.e.t.Logf("cut %s off", m.name)
		s.cutOff(m, meanwhile)
	case 4:
		s.e.t.Logf("%s hears nobody", m.name)
		undo := s.e.network.Drop(proxy.Route{To: m.name})
		s.progress(meanwhile)
		undo()
	default:
		s.e.t.Log("switchover")
		s.e.switchover("")
	}
}
