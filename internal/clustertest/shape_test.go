package clustertest

import (
	"fmt"
	"os/exec"
	"testing"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// A follower feeds another one; it is killed, and what hangs below it waits and goes on.
func TestShape_Cascade(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	middle := c.members[1]
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, c.leader.Node)
	c.load(l, 1)()
	last := c.follower(middle)
	c.synchronous("ANY 1 (*)")
	s := newSeries(c, 2)
	s.progress(10)
	wait := c.load(l, 2)
	middle.Kill()
	middle.start()
	s.progress(10)
	middle.link.Hold(proxy.Down)
	last.link.Cut()
	middle.link.Cut()
	middle.link.Pass()
	wait()
	last.Kill()
	s.progress(10)
	last.start()
	s.check()
	c.end(l)
}

// A follower at the end of a chain never shows what the leader has not acknowledged.
func TestShape_CascadeShowsNothingUnacknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	middle := c.members[1]
	last := c.follower(middle)
	c.leader.query("CREATE TABLE t (a int)")
	c.synchronous("ANY 1 (*)")
	c.equal()
	middle.link.Hold(proxy.Up) // acknowledgements do not arrive
	p := c.leader.begin("INSERT INTO t VALUES (1)")
	c.leader.unacknowledged(1)
	last.flushed(c.leader)
	p.unanswered("without an acknowledgement")
	for _, m := range c.members {
		if got := m.value("SELECT count(*) FROM t"); got != "0" {
			t.Errorf("%s shows what was not acknowledged", m.name)
		}
	}
	middle.link.Pass()
	if code := p.code(); code != "" {
		t.Error(p.err)
	}
	c.end()
}

// A delayed follower has everything on its disk and shows it later; a restart without the delay shows it at once.
func TestShape_Delayed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0)
	f := c.follower(c.leader, "--min-apply-delay", "1h")
	c.leader.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	c.synchronous("ANY 1 (*)") // its disk counts
	c.leader.query("INSERT INTO t VALUES (2)")
	f.flushed(c.leader)
	if got := f.value("SELECT count(*) FROM pg_tables WHERE tablename = 't'"); got != "0" {
		t.Error("a follower shows what is to be shown in an hour")
	}
	f.restart() // the delay outlives the process
	if got := f.value("SELECT count(*) FROM pg_tables WHERE tablename = 't'"); got != "0" {
		t.Error("a delayed follower shows all after a restart")
	}
	f.args = nil
	f.restart()
	c.end()
}

// Everything that is larger than usual: a load of 200 000 rows, an index, VACUUM, databases that come and go, and
// a transaction that is larger than the memory for it, while a reader holds a snapshot on the follower.
func TestShape_LargeTransactions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	c.leader.query("CREATE TABLE big (a int, b text)")
	s := newSeries(c, 1)
	c.equalEnough(f)
	reader := nodetest.Connect(t, f.Node, "skein")
	nodetest.Execute(t, reader, "BEGIN READ ONLY; SELECT count(*) FROM big")
	c.leader.query("INSERT INTO big SELECT a, 'goose ' || a FROM generate_series(1, 200000) g(a)")
	c.leader.query("CREATE INDEX big_b ON big (b)")
	f.more(1 << 20)
	f.link.Cut() // in the middle of it
	c.leader.query("UPDATE big SET b = b || '!' WHERE a % 3 = 0")
	c.leader.query("CREATE DATABASE one")
	c.leader.query("CREATE DATABASE two")
	other := nodetest.Connect(t, c.leader.Node, "one")
	nodetest.Execute(t, other, "CREATE TABLE t AS SELECT a, hex(randomblob(200)) b FROM generate_series(1, 5000) g(a); CREATE INDEX t_b ON t (b)")
	_ = other.Close(t.Context())
	c.leader.query("DROP DATABASE two")
	c.leader.query("DELETE FROM big WHERE a % 2 = 0")
	c.leader.query("VACUUM")
	if got := nodetest.Texts(t, reader, "SELECT count(*)::text FROM big"); got[0] != "0" {
		t.Errorf("a snapshot on the follower has changed under its reader: %v rows", got)
	}
	nodetest.Execute(t, reader, "COMMIT")
	_ = reader.Close(t.Context())
	s.check()
	for _, m := range c.members {
		if got := m.query("SELECT count(*), sum(a), count(CASE WHEN b LIKE '%!' THEN 1 END) FROM big"); fmt.Sprint(got) != "[[100000 10000000000 33333]]" {
			t.Errorf("%s has %v", m.name, got)
		}
	}
	c.end()
}

// equalEnough waits until a follower has the tables that the leader has, while others write.
func (c *cluster) equalEnough(f *member) {
	c.t.Helper()
	f.await("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", c.leader.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
}

// pgbench writes on the leader, while readers on both nodes look for anything that is not a prefix of one history.
func TestShape_Pgbench(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("pgbench")
	if err != nil {
		t.Skip("pgbench is not installed")
	}
	c := newCluster(t, 1)
	s := newSeries(c, 1)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(program, append(args, c.leader.URL("skein"))...).CombinedOutput(); err != nil {
			t.Fatalf("pgbench: %v\n%s", err, out)
		}
	}
	run("-i", "-q", "-s", "1")
	c.synchronous("ANY 1 (*)")
	run("-n", "-c", "8", "-j", "2", "-t", "100")
	s.check()
	for _, m := range c.members {
		got := m.query("SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)")[0]
		if got[0] != got[1] || got[0] != got[2] || got[3] != "800" {
			t.Errorf("%s: accounts, branches, history and its length are %v", m.name, got)
		}
	}
	c.end()
}
