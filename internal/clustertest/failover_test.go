package clustertest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// The leader is killed, and comes back.
func TestFailover_E01_LeaderKilled(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	r := newRegisters(e, seed(t))
	for range 3 {
		old := e.lead()
		old.Kill()
		e.takesOver(old, e.claims.Since())
		e.progress(20)
		old.start()
		e.caughtUp()
	}
	r.check(t)
	e.end(true)
}

// A follower that dies, the coordinator's node or another one, is missed by nobody.
func TestFailover_E01_FollowersKilled(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.stays(func() {
		for range 2 {
			for _, m := range e.others(e.leader) {
				e.apart()
				m.Kill()
				e.progress(50)
				m.start()
				e.caughtUp()
			}
		}
	})
	e.end(true)
}

// E02: the leader stands still for longer than a leader may, and then goes on where it was. It has been replaced, and
// acknowledges nothing any more.
func TestFailover_E02_Zombie(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	r := newRegisters(e, seed(t))
	for range 2 {
		old := e.lead()
		open := old.begin("BEGIN; CREATE TABLE never (a int); INSERT INTO never VALUES (1)")
		if code := open.code(); code != "" {
			t.Fatal(open.err)
		}
		since := e.claims.Since()
		old.pause()
		e.takesOver(old, since)
		e.progress(20)
		old.resume()
		e.progress(20)
		if _, err := open.conn.Exec(t.Context(), "COMMIT"); err == nil {
			t.Error("a leader that is none any more has acknowledged a commit")
		}
		e.caughtUp()
	}
	r.check(t)
	e.end(true)
}

// E05: processes that stand still for 300 ms now and then, whoever they are, are no reason for a failover.
func TestFailover_E05_ShortPauses(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.stays(func() {
		for range 3 {
			for _, m := range e.members {
				m.pause()
				time.Sleep(300 * time.Millisecond) // it is what happens
				m.resume()
				e.progress(20)
			}
		}
	})
	e.end(true)
}

// F01, F02, F03: the leader is cut off, both ways or only one. Another one leads; what the old one is told by its clients
// meanwhile, it does not acknowledge.
func TestFailover_F01_F02_F03_LeaderCutOff(t *testing.T) {
	t.Parallel()
	for name, routes := range map[string]func(string) []proxy.Route{
		"both ways":   func(leader string) []proxy.Route { return proxy.Around(leader, proxy.Everything) },
		"F02 sending": func(leader string) []proxy.Route { return []proxy.Route{{To: leader}} },
		"F03 hearing": func(leader string) []proxy.Route { return []proxy.Route{{From: leader}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newElected(t, 3, "ANY 1 (*)")
			e.cutOff(func(leader *member) { e.network.Drop(routes(leader.name)...) }, e.network.Heal)
		})
	}
}

// cutOff is the life of a cluster whose leader is cut off in some way: another one leads, and when the network is whole it follows.
func (e *elected) cutOff(cut func(leader *member), heal func()) {
	e.t.Helper()
	e.load()
	old := e.lead()
	since := e.claims.Since()
	cut(old)
	e.takesOver(old, since)
	e.progress(20)
	heal()
	e.caughtUp()
	e.progress(20)
	e.end(true)
}

// F04: the leader and its followers do not reach each other, and all of them reach the coordinator. The leader is replaced by one whose
// followers hear it.
func TestFailover_F04_OnlyReplication(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(*proxy.Network, ...proxy.Route) (undo func()){
		"nothing arrives":       (*proxy.Network).Drop,
		"connections are reset": (*proxy.Network).Sever,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newElected(t, 3, "ANY 1 (*)")
			e.cutOff(func(leader *member) { broken(e.network, proxy.Around(leader.name, proxy.Replication)...) }, e.network.Heal)
		})
	}
}

// F04: where there is only one follower, it could do no better. Nobody is replaced; the status says why commits wait, and they go on
// when the link is whole.
func TestFailover_F04_OnlyReplicationOfAPair(t *testing.T) {
	t.Parallel()
	e := newElected(t, 2, "ANY 1 (*)")
	e.witness()
	e.load()
	old := e.lead()
	e.stays(func() {
		e.network.Drop(proxy.Around(old.name, proxy.Replication)...)
		e.stops(old)
		e.says(old, "commits wait")
		e.network.Heal()
		e.progress(20)
	})
	e.end(true)
}

// F04: an asynchronous leader waits for nobody, and goes on. The status says that nobody follows it.
func TestFailover_F04_OnlyReplicationAsynchronous(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "")
	e.load()
	e.stays(func() {
		e.network.Sever(proxy.Around(e.leader.name, proxy.Replication)...)
		e.forLonger(3 * time.Second)
		e.says(e.leader, "does not stream from the leader")
		e.network.Heal()
		e.caughtUp()
	})
	e.end(true)
}

// F05: the leader is cut off from the coordinator, and its followers hear it. A synchronous one goes on.
func TestFailover_F05_OnlyControl(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.stays(func() {
		e.network.Drop(proxy.Around(e.leader.name, proxy.Control)...)
		e.forLonger(3 * time.Second)
	})
	e.end(true)
}

// F05: an asynchronous leader that the coordinator does not hear cannot know whether it has been replaced, and
// acknowledges nothing. It need not be replaced for that, and goes on when it is heard.
func TestFailover_F05_OnlyControlAsynchronous(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "")
	e.load()
	undo := e.network.Drop(proxy.Around(e.leader.name, proxy.Control)...)
	e.stops(e.leader)
	undo()
	e.progress(20)
	if v := e.end(false); len(v.Lost) > 0 && len(e.watch.leaders) == 1 {
		t.Errorf("%d acknowledged writes are lost under one leader", len(v.Lost))
	}
}

// F06: one link of three is broken, whichever. Commits find another follower.
func TestFailover_F06_OneLink(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	a, b := e.other(e.leader), e.other(e.leader)
	for b == a {
		b = e.others(e.leader)[1]
	}
	e.stays(func() {
		for _, pair := range [][2]*member{{e.leader, a}, {e.leader, b}, {a, b}} {
			undo := e.network.Drop(proxy.Between(pair[0].name, pair[1].name, proxy.Everything)...)
			e.forLonger(1500 * time.Millisecond)
			undo()
			e.caughtUp()
		}
	})
	e.end(true)
}

// F06: five nodes of which each reaches its two neighbours only, so that everybody sees another majority. The leader goes on where the
// coordinator reaches it. Where it does not, the coordinator hears one of the two followers that hear the leader, which are needed, and
// appoints another one before long, that may come to reach as few. When the leader dies there is another one, or nobody who takes
// writes; with all links there is one again.
func TestFailover_F06_Ring(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed(t), 1))
	e := newElected(t, 5, "ANY 2 (*)")
	e.load()
	for range 2 {
		leader, epoch := e.leader, e.watch.newest()
		order := slices.Clone(e.members)
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for i, m := range order {
			far := order[(i+2)%len(order)]
			e.network.Drop(proxy.Between(m.name, far.name, proxy.Everything)...)
		}
		reach := func(a, b *member) bool {
			i, j := slices.Index(order, a), slices.Index(order, b)
			return i == j || (i+1)%len(order) == j || (j+1)%len(order) == i
		}
		since := e.claims.Since()
		nodetest.Await(t, "the leader goes on, unless the coordinator does not reach it", func() error {
			if e.claims.AckedFrom(since) < 50 && (e.watch.newest() == epoch || reach(e.coordinator(), leader)) {
				return fmt.Errorf("%d acknowledged under %s, epoch %d\n%s", e.claims.AckedFrom(since), leader.name, e.watch.newest(), e.logs(12))
			}
			return nil
		})
		old := e.lead()
		old.Kill()
		time.Sleep(3 * time.Second) // nobody may lead now, or somebody: there is nothing to wait for
		e.network.Heal()
		e.progressFrom(e.claims.Since())
		old.start()
		e.caughtUp()
	}
	e.end(true)
}

// F08: a link that comes and goes.
func TestFailover_F08_Flapping(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.stays(func() {
		for range 4 {
			undo := e.network.Sever(proxy.Between(e.leader.name, e.coordinator().name, proxy.Everything)...)
			e.forLonger(700 * time.Millisecond)
			undo()
			e.forLonger(300 * time.Millisecond)
		}
	})
	e.end(true)
}

// F09: a slow network with jitter.
func TestFailover_F09_Slow(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.stays(func() {
		e.network.Delay(20*time.Millisecond, 60*time.Millisecond, proxy.Route{})
		e.forLonger(2 * time.Second)
	})
	old := e.lead()
	old.Kill()
	e.takesOver(old, e.claims.Since())
	e.end(true)
}

// G01: of two followers one lacks what the other one has acknowledged. Only the other one can lead.
func TestFailover_G01_OneIsAhead(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	old := e.lead()
	behind, ahead := e.others(old)[0], e.others(old)[1]
	e.network.Sever(proxy.Between(old.name, behind.name, proxy.Replication)...)
	e.progress(50)
	old.Kill()
	if now := e.takesOver(old, e.claims.Since()); now != ahead {
		t.Errorf("%s leads, and %s had more", now.name, ahead.name)
	}
	e.end(true)
}

// P1: a leader that only its followers hear is replaced by order, and does not hear of that. It acknowledges nothing any more from when they have
// promised; what it had acknowledged before, the next one has.
func TestFailover_P1_TheOldLeaderDoesNotKnow(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for range 3 {
		old, since := e.lead(), e.claims.Since()
		next := e.others(old)[0]
		e.network.Drop(proxy.Around(old.name, proxy.Control)...)
		if _, err := next.ask("SELECT skein_failover('" + next.name + "')"); err != nil {
			t.Log(err)
		}
		e.takesOver(old, since)
		e.network.Heal()
		e.progress(20)
		e.caughtUp()
	}
	e.end(true)
}

// P3: a leader that was cut off has written more, on its own, than has been written since in the next epoch. Later epochs go first.
func TestFailover_P3_TheLongerLogIsOfAnOlderEpoch(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	old, since := e.lead(), e.claims.Since()
	conn := nodetest.Connect(t, old.Node, "skein")
	if _, err := conn.Exec(t.Context(), "CREATE TABLE alone (a int); SET synchronous_commit = off"); err != nil {
		t.Fatal(err)
	}
	e.network.Drop(proxy.Around(old.name, proxy.Everything)...)
	ahead := 0
	for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); ahead++ {
		if _, err := conn.Exec(t.Context(), "INSERT INTO alone VALUES (1)"); err != nil {
			break
		}
	}
	next := e.takesOver(old, since)
	e.progress(20)
	next.Kill()
	t.Logf("%s has %d entries that nobody else has", old.name, ahead)
	e.network.Heal()
	since = e.claims.Since()
	e.progressFrom(since)
	e.end(true)
}

// G04: a leader dies as soon as it is one.
func TestFailover_G04_Double(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for range 2 {
		first := e.lead()
		first.Kill()
		second := e.takesOver(first, e.claims.Since())
		second.Kill()
		since := e.claims.Since()
		first.launch("")
		e.takesOver(second, since)
		second.start()
		e.caughtUp()
	}
	e.end(true)
}

// G14: leader and coordinator die together. One of them is needed for a decision, and whichever it is, there is one.
func TestFailover_G14_LeaderAndCoordinatorKilled(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for round := range 2 {
		leader, coordinator := e.lead(), e.coordinator()
		leader.Kill()
		coordinator.Kill()
		since := e.claims.Since()
		back := []*member{leader, coordinator}
		back[round].launch("")
		e.progressFrom(since)
		back[1-round].start()
		e.caughtUp()
	}
	e.end(true)
}

// The leader's disk does not answer, and its network lives. It is replaced, and is one of the others when its disk is back.
func TestFailover_DiskOfTheLeaderHangs(t *testing.T) {
	t.Parallel()
	stuck := filepath.Join(t.TempDir(), "stuck")
	e := newElected(t, 3, "ANY 1 (*)", "log.beforeSync=hang:"+stuck+"*")
	e.load()
	old := e.lead()
	since := e.claims.Since()
	if err := os.WriteFile(stuck+old.name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.takesOver(old, since)
	e.progress(20)
	if err := os.Remove(stuck + old.name); err != nil {
		t.Fatal(err)
	}
	e.caughtUp()
	e.end(true)
}
