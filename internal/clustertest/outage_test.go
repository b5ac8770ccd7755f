package clustertest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skein/internal/claims"
	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// What is killed at a step of a promotion is started again, until there is a leader that clients find.
func TestPromotion_G05_G12_KilledAtEveryStep(t *testing.T) {
	t.Parallel()
	steps := []string{
		"promise.sealed=kill:1", "promise.kept=kill:1", "lead.append=kill:1", "log.beforeSync=kill:2", "log.afterSync=kill:2", "lead.begun=kill:1",
		"promote.engine=kill:1", "promote.done=kill:1", "control.write=kill:2", "control.write=kill:3", "control.write=kill:4",
	}
	rng := rand.New(rand.NewPCG(seed(t), 1))
	rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	if !long {
		steps = steps[:3]
	}
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for _, step := range steps {
		old := e.lead()
		for _, m := range e.others(old) {
			m.Kill()
			m.launch(step)
			_ = m.AwaitServing(t) // it may have got there
			if !e.runs(m) {
				m.start()
			}
			e.caughtUp()
		}
		old.Kill()
		e.recovers(old)
		t.Logf("%s: %s leads", step, e.lead().name)
		old.start()
		e.caughtUp()
	}
	e.end(true)
}

// G16: the best candidate cannot open its databases. The other one copies what it lacks from it, and leads.
func TestPromotion_G16_CandidateCannotLead(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	old := e.lead()
	bad, good := e.others(old)[0], e.others(old)[1]
	e.relaunch(bad, "promote.engine=eio:0")
	e.network.Sever(proxy.Between(old.name, good.name, proxy.Replication)...)
	e.progress(50) // which only the bad one has
	old.Kill()
	if now := e.takesOver(old, e.claims.Since()); now != good {
		t.Errorf("%s leads, and cannot\n%s", now.name, e.logs(10))
	}
	e.end(true)
}

// G06, G07: the leader dies, and with it the only follower that is known to have its last commits. What is left does not
// lead by itself, and says why; when one of them is back it does.
func TestOutage_G07_TooManyDied(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	for range 2 {
		e.witness() // so that those who are left may decide
	}
	e.load()
	old := e.lead()
	with, left := e.others(old)[0], e.others(old)[1]
	e.network.Sever(proxy.Between(old.name, left.name, proxy.Replication)...)
	e.progress(50) // which only with has
	old.Kill()
	with.Kill()
	e.network.Heal()
	e.stops(left)
	e.says(left, with.name)
	if got := left.value("SELECT role FROM skein_status"); got != "follower" {
		t.Errorf("what is left is a %s", got)
	}
	since := e.claims.Since()
	with.start()
	e.progressFrom(since)
	e.end(true)
}

// P5: a follower loses what it has received and not written, and the leader dies. Who acknowledges what is on its disk has lost nothing that
// anybody was told of, and leads. Who acknowledges what it has received does not count: nobody leads before the leader is back.
func TestOutage_P5_AFollowerLosesWhatIsNotOnItsDisk(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"on", "remote_write"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			stuck := filepath.Join(t.TempDir(), "stuck")
			e := newElected(t, 3, "ANY 1 (*)", "log.write=hang:"+stuck+"*")
			for range 2 {
				e.witness()
			}
			e.leader.query("ALTER SYSTEM SET synchronous_commit = '" + level + "'")
			e.load()
			old := e.lead()
			loses, left := e.others(old)[0], e.others(old)[1]
			e.network.Sever(proxy.Between(old.name, left.name, proxy.Replication)...)
			e.progress(20)
			if err := os.WriteFile(stuck+loses.name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond) // not long enough for a failover
			old.Kill()
			loses.Kill()
			e.network.Heal()
			since := e.claims.Since()
			loses.start()
			if level != "on" {
				e.says(left, "may lack commits")
				if got := left.value("SELECT role FROM skein_status"); got != "follower" {
					t.Errorf("what is left is a %s", got)
				}
				old.start()
			}
			e.progressFrom(since)
			e.end(true)
		})
	}
}

// G07: an operator has what is left lead all the same. That is on record, and what is lost was acknowledged.
func TestOutage_G07_AcceptDataLoss(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	for range 2 {
		e.witness()
	}
	e.load()
	old := e.lead()
	with, left := e.others(old)[0], e.others(old)[1]
	e.network.Sever(proxy.Between(old.name, left.name, proxy.Replication)...)
	e.progress(50)
	old.Kill()
	with.Kill()
	e.network.Heal()
	e.stops(left)
	p := left.begin("SELECT skein_failover('" + left.name + "')")
	if code := p.code(); code == "" {
		t.Error("a failover that may lose acknowledged commits needs no consent")
	}
	left.query("SELECT skein_failover('" + left.name + "', true)")
	since := e.claims.Since()
	with.start()
	e.progressFrom(since) // it needs a follower
	old.start()
	e.caughtUp()
	v := e.end(false)
	if len(v.Lost) == 0 {
		t.Error("nothing is lost: the test has not shown anything")
	}
	if h := strings.Join(e.history(), "\n"); !strings.Contains(h, " forced ") || !strings.Contains(h, " loss ") {
		t.Errorf("the history does not tell of it: %s", h)
	}
	if len(old.vault()) == 0 && len(with.vault()) == 0 {
		t.Error("what was lost is in nobody's vault")
	}
}

// G08: everything dies at once, and comes back in some order. Whoever leads has all that was acknowledged.
func TestOutage_G08_Everything(t *testing.T) {
	t.Parallel()
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	rng := rand.New(rand.NewPCG(seed(t), 1))
	rng.Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] })
	if !long {
		orders = orders[:2]
	}
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for _, order := range orders {
		for _, m := range e.members {
			m.Kill()
		}
		for i, n := range order[:2] {
			e.members[n].launch("")
			if i == 0 {
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond) // alone for some time
			}
		}
		e.progressFrom(e.claims.Since()) // two of three are enough
		e.members[order[2]].start()
		e.caughtUp()
		e.progress(20)
	}
	e.end(true)
}

// G02, G20: an asynchronous leader dies with commits that nobody else has. They are lost, as many as the cluster says; when it
// is back they are in its vault.
func TestOutage_G20_Asynchronous(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "")
	e.loadClaims()
	for range 2 {
		old := e.lead()
		e.network.Sever(proxy.Around(old.name, proxy.Replication)...)
		e.progress(100)
		old.Kill()
		e.network.Heal()
		e.takesOver(old, e.claims.Since())
		e.progress(20)
		old.start()
		e.caughtUp()
		if got := old.vault(); len(got) == 0 {
			t.Error("what was lost is in no vault")
		}
	}
	v := e.end(false)
	if len(v.Lost) == 0 {
		t.Error("nothing is lost: the test has not shown anything")
	}
	conn := nodetest.Connect(t, e.lead().Node, "skein")
	reported, err := claims.Reported(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	for _, p := range v.Counted(reported) {
		t.Errorf("%s\n%s", p, strings.Join(e.history(), "\n"))
	}
}

// The follower of a pair is gone, and the leader has gone on alone. When it dies, too, and the follower is back, that is not
// promoted, and the status says why. When the leader is back it leads.
func TestOutage_DegradedLeaderDies(t *testing.T) {
	t.Parallel()
	e := newElected(t, 2, "ANY 1 (*)")
	e.witness()
	e.leader.query("ALTER SYSTEM SET skein.on_sync_timeout = degrade")
	e.leader.query("ALTER SYSTEM SET skein.sync_timeout = '500ms'")
	e.load()
	old := e.lead()
	left := e.others(old)[0]
	left.Kill()
	e.progressFrom(e.claims.Since())
	e.progress(50)
	old.Kill()
	left.launch("")
	left.serves()
	e.says(left, "only "+old.name)
	e.stops(left)
	since := e.claims.Since()
	old.start()
	e.progressFrom(since)
	if now := e.lead(); now != old {
		t.Errorf("%s leads, and %s alone has everything", now.name, old.name)
	}
	e.end(true)
}

// The coordinator's disk does not answer. Somebody else coordinates, and the leader is not replaced for it.
func TestOutage_DiskOfTheCoordinatorHangs(t *testing.T) {
	stuck := filepath.Join(t.TempDir(), "stuck")
	e := newElected(t, 3, "ANY 1 (*)", "control.write=hang:"+stuck+"*")
	e.load()
	victim := e.coordinator()
	e.stays(func() {
		if err := os.WriteFile(stuck+victim.name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		e.leader.query("SELECT skein_set_member('" + e.leader.name + "', 'priority', '1')") // which is to be agreed on
		e.forLonger(2 * time.Second)
	})
	old := e.lead()
	old.Kill()
	since := e.claims.Since()
	if err := os.Remove(stuck + victim.name); err != nil {
		t.Fatal(err)
	}
	e.takesOver(old, since)
	e.end(true)
}

// witness adds a node that votes and holds no data.
func (e *elected) witness() *member {
	e.t.Helper()
	m := e.join("--witness")
	e.remove(m)
	m.launch("")
	e.awaitOverview(e.lead(), "says that "+m.name+" votes", func(o overviewed) error {
		for _, w := range o.Members {
			if w.Name == m.name && w.Votes != nil && *w.Votes {
				return nil
			}
		}
		return fmt.Errorf("%+v", o)
	})
	e.arranged()
	e.healthy()
	return m
}

// relaunch starts a follower anew, to fail at some point.
func (e *elected) relaunch(m *member, faults string) {
	e.t.Helper()
	m.Kill()
	m.launch(faults)
	m.serves()
	e.caughtUp()
	e.healthy()
}

// recovers starts again whoever dies, but old, until clients find a leader.
func (e *elected) recovers(old *member) {
	e.t.Helper()
	since := e.claims.Since()
	deadline := time.Now().Add(progressWait)
	for e.claims.AckedFrom(since) == 0 {
		for _, m := range e.others(old) {
			if !e.runs(m) {
				m.launch("")
			}
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("nobody leads\n%s", e.logs(12))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// says waits until the status of a node holds a text in what it says is wrong.
func (e *elected) says(m *member, text string) {
	e.t.Helper()
	e.awaitOverview(m, fmt.Sprintf("says something of %s", text), func(o overviewed) error {
		for _, p := range o.Problems {
			if strings.Contains(p.What, text) {
				e.t.Logf("%s says: %s — %s", m.name, p.What, p.Do)
				return nil
			}
		}
		return fmt.Errorf("it says %+v", o)
	})
}
