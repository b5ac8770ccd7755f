package clustertest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/nodetest"
)

// load runs the ledger's clients on the leader and gives what to wait with.
func (c *cluster) load(l *nodetest.Ledger, rounds int) (wait func()) {
	c.t.Helper()
	node, seed, done := c.leader.Node, l.Rand.Uint64(), make(chan struct{})
	go func() {
		defer close(done)
		l.Work(node, rounds, seed)
	}()
	return func() { <-done }
}

// The ledger's clients make and drop tables and databases, load, vacuum and move money, while one follower is
// killed again and again, and the other one's connection is cut.
func TestFollower_E01_KilledUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	killed, cut := c.members[1], c.members[2]
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, c.leader.Node)
	s := newSeries(c, 2)
	for range 3 {
		wait := c.load(l, 3)
		s.progress(10)
		killed.Kill()
		cut.link.Cut()
		s.progress(10)
		killed.launch("")
		wait()
		killed.serves()
	}
	s.check()
	c.end(l)
}

// A follower that stands still costs an asynchronous leader nothing.
func TestFollower_E04_PausedUnderAnAsynchronousLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	f := c.members[1]
	s := newSeries(c, 1)
	s.progress(10)
	f.pause()
	f.connected(false) // the leader has noticed
	s.progress(100)
	f.resume()
	f.connected(true)
	s.check()
	c.end()
}

// pending is a statement that has been sent and not been answered.
type pending struct {
	t    *testing.T
	conn *pgx.Conn
	done chan struct{}
	tag  string
	err  error
	note []string // notices
}

// begin sends a statement on a connection of its own.
func (m *member) begin(sql string) *pending {
	m.t.Helper()
	p := &pending{t: m.t, done: make(chan struct{})}
	config, err := pgx.ParseConfig(m.URL("skein"))
	if err != nil {
		m.t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { p.note = append(p.note, n.Severity+" "+n.Code+" "+n.Message) }
	if p.conn, err = pgx.ConnectConfig(m.t.Context(), config); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		results, err := p.conn.PgConn().Exec(m.t.Context(), sql).ReadAll()
		if p.err = err; err == nil && len(results) > 0 {
			p.tag = results[len(results)-1].CommandTag.String()
		}
	}()
	m.t.Cleanup(func() {
		_ = p.conn.PgConn().Conn().Close()
		<-p.done
	})
	return p
}

// unanswered fails if the statement was answered.
func (p *pending) unanswered(when string) {
	p.t.Helper()
	select {
	case <-p.done:
		p.t.Fatalf("%s a commit was answered: %q, error %v, notices %q", when, p.tag, p.err, p.note)
	default:
	}
}

// code waits for the answer and gives its SQLSTATE, "" for success.
func (p *pending) code() string {
	p.t.Helper()
	<-p.done
	if p.err == nil {
		return ""
	}
	e := new(pgconn.PgError)
	if !asError(p.err, &e) {
		p.t.Fatal(p.err)
	}
	return e.Code
}

// A synchronous leader acknowledges nothing while its only follower stands still, whatever the clients
// try; and nothing that is not acknowledged is seen by anybody.
func TestFollower_E04_PausedUnderASynchronousLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	c.leader.query("CREATE TABLE t (a int PRIMARY KEY)")
	c.synchronous("ANY 1 (*)")
	c.leader.query("INSERT INTO t VALUES (0)")
	f.pause()
	waits := c.leader.begin("INSERT INTO t VALUES (1)")
	cancelled := c.leader.begin("INSERT INTO t VALUES (2)")
	lost := c.leader.begin("INSERT INTO t VALUES (3)")
	idle := c.leader.begin("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING") // J8: changes nothing, and has read what is not acknowledged
	c.leader.unacknowledged(3)
	f.connected(false) // the leader has noticed, and still waits
	waits.unanswered("without a follower")
	idle.unanswered("without a follower")
	if err := cancelled.conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := cancelled.code(); code != "08007" { // J-03
		t.Errorf("a wait that was cancelled: SQLSTATE %q, want 08007: %v", code, cancelled.err)
	}
	_ = lost.conn.PgConn().Conn().Close()
	if got := c.leader.value("SELECT string_agg(a::text, ' ') FROM t"); got != "0" {
		t.Errorf("readers of the leader see %q, and only 0 was acknowledged", got)
	}
	c.leader.query("SET synchronous_commit = local; INSERT INTO t VALUES (4)") // waits for nobody, and comes after what waits
	if got := c.leader.value("SELECT string_agg(a::text, ' ') FROM t"); got != "0" {
		t.Errorf("readers of the leader see %q, and only 0 was acknowledged before 4", got)
	}
	waits.unanswered("without a follower")
	f.resume()
	for _, p := range []*pending{waits, idle} {
		if code := p.code(); code != "" {
			t.Errorf("once the follower goes on: %v", p.err)
		}
	}
	c.equal()
	for _, m := range c.members {
		if got := m.value("SELECT string_agg(a::text, ' ') FROM (SELECT a FROM t ORDER BY a)"); got != "0 1 2 3 4" {
			t.Errorf("%s has %q", m.name, got)
		}
	}
	c.end()
}

// A leader that may degrade says so to each client, records it, and ends it when the follower is back.
func TestFollower_E04_PausedUnderALeaderThatMayDegrade(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	c.leader.query("CREATE TABLE t (a int PRIMARY KEY)")
	c.synchronous("ANY 1 (*)")
	c.leader.query("ALTER SYSTEM SET skein.on_sync_timeout = 'degrade'")
	f.pause()
	patience := func(d string) { // waits for nobody by itself
		conn := nodetest.Connect(t, c.leader.Node, "skein")
		for _, sql := range []string{"SET synchronous_commit = local", "ALTER SYSTEM SET skein.sync_timeout = '" + d + "'"} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.Close(t.Context())
	}
	patience("200ms")
	p := c.leader.begin("INSERT INTO t VALUES (1)")
	if code := p.code(); code != "" {
		t.Fatalf("a leader that may degrade: %v", p.err)
	}
	if len(p.note) == 0 || !strings.HasPrefix(p.note[0], "WARNING 01000") {
		t.Errorf("notices %q, want a warning that the leader alone has it", p.note)
	}
	if mode := c.leader.value("SELECT mode FROM skein_status"); !strings.HasPrefix(mode, "degraded") {
		t.Errorf("mode %q, want degraded", mode)
	}
	if got := c.leader.value("SELECT count(*) FROM t"); got != "1" {
		t.Errorf("the leader shows %s rows of what it has acknowledged alone", got)
	}
	if got := c.leader.value("SELECT acknowledged_alone FROM skein_status"); got != "1" {
		t.Errorf("%s commits acknowledged alone, want 1", got)
	}
	patience("1min")
	f.resume()
	c.leader.await("SELECT mode FROM skein_status", "synchronous: ANY 1 (*)")
	p = c.leader.begin("INSERT INTO t VALUES (2)")
	if code := p.code(); code != "" || len(p.note) > 0 {
		t.Errorf("back from degraded: error %v, notices %q", p.err, p.note)
	}
	c.leader.await("SELECT count(*), min(commits) > 0, min(ended IS NOT NULL) FROM skein_degradations", "1|t|t")
	c.end()
}

// H06: the directory is gone. The node comes back as a new, empty one under its old name.
func TestFollower_H06_Wiped(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	f := c.members[1]
	s := newSeries(c, 2)
	s.progress(20)
	f.Kill()
	f.wipe()
	s.progress(20)
	f.start()
	s.progress(20)
	s.check()
	c.end()
}

// The directory is an older copy of itself: once the log still goes back so far, once it does not.
func TestFollower_RestoredFromAnOlderCopy(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, c.leader.Node)
	c.load(l, 2)()
	f.Kill()
	old := f.copied()
	f.start()
	c.load(l, 2)()
	c.equal()
	f.Kill()
	f.restore(old)
	f.start()
	c.equal()
	l.Check(t, f.Node)

	f.Kill()
	c.trimmed(f)
	f.restore(old)
	c.load(l, 1)()
	f.start()
	c.end(l)
}

// trimmed writes until the leader no longer keeps the log for f, which does not run.
func (c *cluster) trimmed(f *member) {
	c.t.Helper()
	c.leader.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
	c.leader.query("CREATE TABLE IF NOT EXISTS filler (a int, b text)")
	rng := rand.New(rand.NewPCG(1, 1))
	nodetest.Await(c.t, "the log is trimmed", func() error {
		for range 4 {
			c.leader.query(fmt.Sprintf("INSERT INTO filler SELECT a, hex(randomblob(2000)) FROM generate_series(1, 200) g(a); DELETE FROM filler WHERE a < %d", rng.IntN(200)))
		}
		return c.isTrimmed(f)
	})
}

// isTrimmed is an error while the leader has the log that f needs.
func (c *cluster) isTrimmed(f *member) error {
	c.leader.query("CHECKPOINT")
	got := c.leader.query("SELECT wal_status, log_bytes FROM pg_replication_slots, skein_status WHERE slot_name = '" + f.name + "'")[0]
	if bytes, err := strconv.ParseInt(got[1], 10, 64); err != nil || got[0] != "lost" || bytes >= 3<<20 {
		return fmt.Errorf("the slot is %q, and the log has %s bytes", got[0], got[1])
	}
	return nil
}

// D04: the log that a follower needs is gone when it comes back, or while it is cut off. It takes a new copy by
// itself; its slot says lost meanwhile.
func TestFollower_D04_LogTrimmedUnderItsFeet(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, c.leader.Node)
	f.link.Hold()
	c.trimmed(f)
	f.link.Cut()
	f.link.Pass()
	c.load(l, 1)()
	f.says("a new one is fetched")
	f.serves()
	c.leader.await("SELECT wal_status FROM pg_replication_slots", "reserved")
	c.end(l)
}

// D03: a follower's disk is full. The leader goes on, and so does the follower when there is room again.
func TestFollower_D03_DiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounts a small file system: needs root")
	}
	c := newCluster(t, 0)
	f := c.add("full", c.leader)
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=30m"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if f.Node != nil {
			f.Kill()
		}
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f.dir = disk + "/data"
	ballast := disk + "/ballast"
	if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f.start()
	s := newSeries(c, 2)
	s.progress(10)
	c.leader.query("CREATE TABLE big (a int, b text)")
	for range 20 { // 16 MB of log that do not compress
		c.leader.query("INSERT INTO big SELECT a, hex(randomblob(1000)) FROM generate_series(1, 400) g(a)")
	}
	s.progress(50)
	c.leader.await("SELECT flushed_lsn = head_lsn AND visible_lsn = head_lsn FROM skein_status", "t")
	nodetest.Await(t, "the follower says that its disk is full", func() error {
		select {
		case <-f.Ended:
			return nil // it says so on leaving
		default:
		}
		if !strings.Contains(f.Log(), "no space left") {
			return fmt.Errorf("it says:\n%s", tail(f.Log(), 6))
		}
		return nil
	})
	if !strings.Contains(f.Log(), "no space left") {
		t.Errorf("the follower has ended and does not say why:\n%s", f.Log())
	}
	c.leader.query("DELETE FROM big")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.Ended:
		t.Errorf("the follower has ended for a full disk:\n%s", tail(f.Log(), 6))
		f.start()
	default:
	}
	s.progress(20)
	s.check()
	c.end()
}
