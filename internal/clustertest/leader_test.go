package clustertest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// J22: a leader dies with a commit that its follower has not acknowledged: because the follower never got it
// (A03), or because its acknowledgement was on the way (A04). When the leader is back, nobody sees the
// commit, on either node, until the follower has acknowledged it; then everybody does.
func TestLeader_J22_RestartedWithAnUnacknowledgedTail(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]proxy.Direction{"A03 the follower has not got it": proxy.Down, "A04 the follower has it": proxy.Up} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1)
			f := c.members[1]
			c.leader.query("CREATE TABLE t (a int PRIMARY KEY)")
			c.synchronous("ANY 1 (*)")
			c.leader.query("INSERT INTO t VALUES (1)")
			c.equal()

			f.link.Hold(held)
			before := c.leader.begin("INSERT INTO t VALUES (2)")
			c.leader.unacknowledged(1)
			if held == proxy.Up {
				f.flushed(c.leader)
			}
			unseen := func(when string) {
				t.Helper()
				before.unanswered(when)
				for _, m := range c.members {
					if got := m.value("SELECT max(a) FROM t"); got != "1" {
						t.Fatalf("%s: %s shows %s, which was not acknowledged", when, m.name, got)
					}
				}
			}
			unseen("while it waits")
			c.leader.Kill()
			<-before.done // the connection is gone, and the outcome unknown
			if before.err == nil {
				t.Fatal("the commit was acknowledged by a leader that died")
			}
			f.link.Cut()
			c.leader.start()
			before = c.leader.begin("INSERT INTO t VALUES (3)")
			c.leader.unacknowledged(3)
			unseen("after a restart")
			f.link.Pass()
			if code := before.code(); code != "" {
				t.Fatal(before.err)
			}
			c.equal()
			for _, m := range c.members {
				if got := m.value("SELECT count(*) FROM t"); got != "3" {
					t.Errorf("%s has %s rows, want 3", m.name, got)
				}
			}
			c.end()
		})
	}
}

// The leader of a synchronous cluster is killed under load, and so is sometimes a follower with it.
func TestLeader_E01_KilledUnderSynchronousCommit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, c.leader.Node)
	c.synchronous("ANY 1 (*)")
	s := newSeries(c, 2)
	for round := range 3 {
		wait := c.load(l, 3)
		s.progress(15)
		f := c.members[1+l.Rand.IntN(2)]
		if round > 0 {
			f.Kill()
		}
		c.leader.restart()
		wait()
		if round > 0 {
			f.start()
		}
		s.progress(15)
	}
	s.check()
	c.end(l)
}

// I03: at remote_apply a row is on the followers' screens before its writer hears of it.
func TestRead_I03_RemoteApplyIsSeen(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.leader.query("CREATE TABLE t (a int PRIMARY KEY)")
	c.synchronous("FIRST 2 (n2, n3)")
	c.leader.query("ALTER SYSTEM SET synchronous_commit = remote_apply")
	conns := make([]*pgx.Conn, len(c.members))
	for i, m := range c.members {
		conns[i] = nodetest.Connect(t, m.Node, "skein")
	}
	for n := range 100 {
		if _, err := conns[0].Exec(t.Context(), "INSERT INTO t VALUES ($1)", n); err != nil {
			t.Fatal(err)
		}
		for i, conn := range conns {
			var got int
			if err := conn.QueryRow(t.Context(), "SELECT coalesce(max(a), -1) FROM t").Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != n {
				t.Fatalf("%s shows %d after %d was acknowledged at remote_apply", c.members[i].name, got, n)
			}
		}
	}
	for _, conn := range conns {
		_ = conn.Close(t.Context())
	}
	c.end()
}

// I09: what a follower is asked to write is done by the leader, as a whole; in a transaction that is to read only it is refused before
// anything has happened.
func TestRead_I09_FollowersForwardWrites(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	c.leader.query("CREATE TABLE t (a int)")
	c.equal()
	for _, sql := range []string{"INSERT INTO t VALUES (1)", "CREATE TABLE u (a int)", "BEGIN; DELETE FROM t; COMMIT", "CREATE DATABASE d", "ALTER SYSTEM SET work_mem = '8MB'", "VACUUM"} {
		p := c.members[1].begin(sql)
		if code := p.code(); code != "" {
			t.Errorf("%s on a follower: %v", sql, p.err)
		}
		p = c.members[1].begin("BEGIN READ ONLY; " + strings.TrimPrefix(sql, "BEGIN; "))
		if code := p.code(); code != "25006" && code != "25001" {
			t.Errorf("%s, read only: SQLSTATE %q, want 25006: %v", sql, code, p.err)
		}
	}
	c.equal()
	if got := c.members[1].value("SELECT count(*) FROM pg_class WHERE relname = 'u'"); got != "1" {
		t.Errorf("%s tables were made by way of a follower, want 1", got)
	}
	c.end()
}

// ahead is the follower that has more of the log.
func (c *cluster) ahead() *member {
	c.t.Helper()
	var best *member
	most := int64(-1)
	for _, m := range c.followers() {
		n, err := strconv.ParseInt(m.value("SELECT flushed_lsn - '0/0' FROM skein_status"), 10, 64)
		if err != nil {
			c.t.Fatal(err)
		}
		if n > most {
			best, most = m, n
		}
	}
	return best
}

// promote makes m the leader by hand, the old one being dead: every node gets another command line.
func (c *cluster) promote(m *member) {
	c.t.Helper()
	for _, f := range c.followers() {
		f.Kill()
	}
	old := c.leader
	c.leader = m
	m.follow(nil)
	m.start()
	for _, f := range c.followers() {
		f.follow(m)
		if f != old {
			f.start()
		}
	}
}

// G01, G09: the leader dies and the follower that is ahead leads in its place. Everything acknowledged
// at `on` is there. The old leader comes back with a tail that nobody was promised: it gives that up,
// keeps it in its vault and follows.
func TestLeader_G09_ReturnsWithAnUnacknowledgedTail(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	old := c.leader
	c.synchronous("ANY 1 (*)")
	s := newSeries(c, 2)
	s.progress(50)
	for _, f := range c.followers() {
		f.link.Hold(proxy.Down)
	}
	tail := old.begin("CREATE TABLE lost (a int)")
	old.unacknowledged(3)
	tail.unanswered("with no follower")
	old.Kill()
	s.end()
	acked := s.acked()
	for _, f := range c.followers() {
		f.link.Cut()
		f.link.Pass()
	}
	c.promote(c.ahead())
	c.leader.query("CREATE TABLE found (a int)")
	old.start()
	c.equal()
	for _, m := range c.members {
		for i, n := range acked {
			m.await(fmt.Sprintf("SELECT count(*) >= %d FROM series WHERE writer = %d", n, i), "t")
		}
		if got := m.value("SELECT string_agg(tablename, ' ') FROM pg_tables WHERE tablename IN ('lost', 'found')"); got != "found" {
			t.Errorf("%s has the tables %q", m.name, got)
		}
	}
	if v := old.vault(); len(v) != 1 {
		t.Errorf("the old leader's vault holds %v, want one tail", v)
	}
	c.end()
}

// G02, G20: the same without followers that commits wait for: the tail has been acknowledged and
// seen, so the old leader must take back more than versions of pages.
func TestLeader_G02_ReturnsWithAnAcknowledgedTail(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	old, f := c.leader, c.members[1]
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, old.Node)
	c.load(l, 1)()
	c.equal()
	f.link.Hold(proxy.Down)
	for i := range 50 {
		old.query(fmt.Sprintf("CREATE TABLE lost%d (a int, b text); INSERT INTO lost%d SELECT a, hex(randomblob(100)) FROM generate_series(1, 100) g(a)", i, i))
	}
	old.query("CREATE DATABASE lost")
	old.query("CHECKPOINT")
	old.Kill()
	f.link.Cut()
	f.link.Pass()
	c.promote(f)
	c.load(l, 1)()
	old.start()
	c.equal()
	if v := old.vault(); len(v) != 1 {
		t.Errorf("the old leader's vault holds %v, want one tail", v)
	}
	c.end(l)
}

// The leader's directory is an older copy of itself, so that its follower is ahead: of a history that nobody will
// continue. What the follower alone has goes into its vault.
func TestLeader_RestoredFromAnOlderCopy(t *testing.T) {
	t.Parallel()
	for _, more := range []int{0, 200} { // entries that the restored leader writes before it is followed again: fewer, or more than were lost
		t.Run(strconv.Itoa(more), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1)
			f := c.members[1]
			c.leader.query("CREATE TABLE t (a int PRIMARY KEY, b text)")
			c.leader.query("INSERT INTO t VALUES (1, 'kept')")
			c.equal()
			c.leader.Stop(t)
			old := c.leader.copied()
			c.leader.start()
			for n := range 50 {
				c.leader.query(fmt.Sprintf("INSERT INTO t VALUES (%d, 'lost')", 100+n))
			}
			c.equal()
			c.leader.Kill()
			f.link.Refuse(true)
			c.leader.restore(old)
			c.leader.start()
			for n := range more {
				c.leader.query(fmt.Sprintf("INSERT INTO t VALUES (%d, 'new')", 100+n))
			}
			f.link.Refuse(false)
			f.more(1)
			c.leader.query("INSERT INTO t VALUES (2, 'last')")
			c.equal()
			want := fmt.Sprintf("%d|0", 2+more)
			f.await("SELECT count(*), count(CASE WHEN b = 'lost' THEN 1 END) FROM t", want)
			if v := f.vault(); len(v) == 0 {
				t.Errorf("what the follower alone had is not in its vault")
			}
			c.end()
		})
	}
}
