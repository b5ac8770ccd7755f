package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/failover"
	"skein/internal/rest"
)

// wire stands between a follower and its leader. What the leader says can be kept back, and all connections broken.
type wire struct {
	net.Listener
	to string

	mu    sync.Mutex
	held  chan struct{} // closed: nothing is kept back
	conns []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, to: to, held: make(chan struct{})}
	close(w.held)
	t.Cleanup(func() { _ = l.Close(); w.breakAll() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", w.to)
			if err != nil {
				_ = c.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, c, up)
			w.mu.Unlock()
			go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
			go w.answers(c, up)
		}
	}()
	return w
}

func (w *wire) answers(c, up net.Conn) {
	defer func() { _ = c.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		w.mu.Lock()
		held := w.held
		w.mu.Unlock()
		<-held
		if _, werr := c.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// keepBack has nothing of what the leader says arrive any more.
func (w *wire) keepBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = make(chan struct{})
}

// breakAll ends all connections; those that come are as usual.
func (w *wire) breakAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
	select {
	case <-w.held:
	default:
		close(w.held)
	}
}

// pairByWire runs a leader and a follower with a wire between them, and gives a session of each.
func pairByWire(t *testing.T) (w *wire, leader, follower *pgx.Conn) {
	t.Helper()
	a := runMember(t, t.TempDir(), "a", "")
	l := a.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY, b text)")
	w = newWire(t, a.PeerAddr().String())
	b := runMember(t, t.TempDir(), "b", w.Addr().String())
	b.caughtUp(t, l)
	return w, l, b.connect(t)
}

func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestACommitWhoseAnswerIsLostIsNotCalledRolledBack(t *testing.T) {
	w, l, f := pairByWire(t)
	exec(t, f, "BEGIN")
	exec(t, f, "INSERT INTO t VALUES (1, 'x')")
	w.keepBack()
	done := make(chan error, 1)
	go func() {
		_, err := f.Exec(t.Context(), "COMMIT")
		done <- err
	}()
	for text(t, l, "SELECT count(*)::text FROM t") != "1" {
		_ = rest.For(t.Context(), askPace)
	}
	w.breakAll()
	if err := <-done; codeOf(err) != "08007" {
		t.Fatalf("the answer is %v", err)
	}
}

func TestALongPipelineIsAnsweredToItsEnd(t *testing.T) {
	_, l, f := pairByWire(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var batch pgx.Batch
	for n := range 3000 {
		batch.Queue("INSERT INTO t VALUES ($1, $2)", n, strings.Repeat("x", 100))
	}
	if err := f.SendBatch(ctx, &batch).Close(); err != nil {
		t.Fatal(err)
	}
	if got := text(t, l, "SELECT count(*)::text FROM t"); got != "3000" {
		t.Fatalf("there are %s rows", got)
	}
}

func TestACursorOfAFollowerSeesWhatItsSessionHasWritten(t *testing.T) {
	w, _, f := pairByWire(t)
	_ = w
	for n := range 50 {
		exec(t, f, fmt.Sprintf("INSERT INTO t VALUES (%d, '')", n))
		exec(t, f, "BEGIN READ ONLY")
		exec(t, f, "DECLARE c CURSOR FOR SELECT n FROM t")
		rows, err := f.Query(t.Context(), "FETCH ALL c")
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for rows.Next() {
			got++
		}
		exec(t, f, "COMMIT")
		if got != n+1 {
			t.Fatalf("%d rows, want %d", got, n+1)
		}
	}
}

// A statement that was prepared here for reading runs at the leader when its arguments write, or its block does.
func TestWhatExecuteRunsIsKnownToTheLeader(t *testing.T) {
	for name, run := range map[string]func(c *pgconn.PgConn, sql string) error{
		"simple": func(c *pgconn.PgConn, sql string) error { return c.Exec(t.Context(), sql).Close() },
		"extended": func(c *pgconn.PgConn, sql string) error {
			return c.ExecParams(t.Context(), sql, nil, nil, nil, nil).Read().Err
		},
		"prepared": func(c *pgconn.PgConn, sql string) error {
			_, err := c.Prepare(t.Context(), sql, sql, nil)
			return errors.Join(err, c.ExecPrepared(t.Context(), sql, nil, nil, nil).Read().Err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, l, f := pairByWire(t)
			exec(t, l, "CREATE TABLE s (a serial)")
			for _, sql := range []string{
				"PREPARE p (int) AS SELECT $1::text", "EXECUTE p(nextval('s_a_seq'))", "EXECUTE p(lastval())",
				"BEGIN", "EXECUTE p(currval('s_a_seq'))", "COMMIT",
			} {
				if err := run(f.PgConn(), sql); err != nil {
					t.Errorf("%s: %v", sql, err)
				}
			}
			if got := text(t, l, "SELECT nextval('s_a_seq')::text"); got != "2" {
				t.Errorf("the next is %s", got)
			}
		})
	}
}

func TestAClientThatLosesAdvisoryLocksIsSentAway(t *testing.T) {
	w, l, f := pairByWire(t)
	exec(t, f, "SELECT pg_advisory_lock(7)")
	w.breakAll()
	for text(t, l, "SELECT pg_try_advisory_lock(7)::text") != "true" {
		_ = rest.For(t.Context(), askPace)
	}
	if _, err := f.Exec(t.Context(), "INSERT INTO t VALUES (1, '')"); err == nil {
		t.Fatal("a client that has lost its lock goes on")
	}
}

func TestManySettingsReachTheLeader(t *testing.T) {
	_, _, f := pairByWire(t)
	exec(t, f, "SELECT set_config('my.app', repeat('x', 20000), false)")
	exec(t, f, "INSERT INTO t VALUES (1, '')")
}

func TestWhatABlockHasSetIsGoneWithIt(t *testing.T) {
	w, _, f := pairByWire(t)
	exec(t, f, "BEGIN")
	exec(t, f, "INSERT INTO t VALUES (1, '')")
	exec(t, f, "SET LOCAL skein.read_consistency = 'eventual'")
	w.breakAll()
	refused(t, f, "INSERT INTO t VALUES (2, '')", "40001")
	exec(t, f, "ROLLBACK")
	if got := text(t, f, "SHOW skein.read_consistency"); got != "session" {
		t.Fatalf("reads are %s", got)
	}
}

func TestABlockAtTheLeaderWaitsForAPosition(t *testing.T) {
	_, _, f := pairByWire(t)
	exec(t, f, "INSERT INTO t VALUES (1, '')")
	_, cluster, _ := strings.Cut(text(t, f, "SHOW skein.last_commit"), "@")
	exec(t, f, "SET skein.failover_wait = '50ms'")
	for position, code := range map[string]string{"0/99999@" + cluster: "57014", "0/1@1-00000001": "22023"} {
		exec(t, f, "BEGIN")
		exec(t, f, "SET LOCAL skein.wait_for = '"+position+"'")
		refused(t, f, "SELECT * FROM t", code)
		exec(t, f, "ROLLBACK")
		exec(t, f, "SET skein.wait_for = '"+position+"'")
		exec(t, f, "BEGIN")
		refused(t, f, "UPDATE t SET n = 2", code)
		exec(t, f, "ROLLBACK")
		exec(t, f, "RESET skein.wait_for")
	}
}

// A leader that cannot confirm that it leads answers no strong read, wherever it comes from (L2).
func TestAStrongReadAtTheLeaderIsConfirmed(t *testing.T) {
	cluster := elect(t, "a", "b", "c")
	leader := cluster.leader()
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY)")
	exec(t, l, "ALTER SYSTEM SET skein.automatic_failover = off")
	exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = 'b'")
	cluster.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 1 && !r.Lossy })
	cluster.nodes["c"].caughtUp(t, l)
	c := cluster.nodes["c"].connect(t)
	exec(t, c, "SET skein.failover_wait = '50ms'")
	cluster.nodes["b"].stop()
	exec(t, l, "SET skein.failover_wait = '50ms'; SET skein.read_consistency = 'strong'")
	refused(t, l, "SELECT * FROM t", "57P03")
	for _, sql := range []string{
		"BEGIN; SET LOCAL skein.read_consistency = 'strong'; SELECT * FROM t",
		"SELECT set_config('skein.read_consistency', 'strong', false); SELECT * FROM t",
		"BEGIN READ ONLY; SELECT set_config('skein.read_consistency', 'strong', true); SELECT * FROM t",
		"BEGIN; SELECT set_config('skein.read_consistency', 'strong', true); SELECT * FROM t",
	} {
		refused(t, c, sql, "57P03")
		exec(t, c, "ROLLBACK")
	}
	for _, sql := range []string{"SELECT * FROM t", "BEGIN; SELECT * FROM t; COMMIT", "SELECT set_config('skein.read_consistency', 'session', false)"} {
		exec(t, c, sql)
	}
	exec(t, c, "BEGIN")
	exec(t, c, "SET LOCAL skein.read_consistency = 'strong'")
	refused(t, c, "SELECT * FROM t", "57P03")
	exec(t, c, "ROLLBACK")
}

func TestWhoOnlyReadsHasAPositionToo(t *testing.T) {
	_, l, f := pairByWire(t)
	exec(t, l, "INSERT INTO t VALUES (1, '')")
	want := text(t, l, "SHOW skein.last_commit")
	for text(t, f, "SELECT count(*)::text FROM t") != "1" {
		_ = rest.For(t.Context(), askPace)
	}
	for _, c := range []*pgx.Conn{l, f} {
		if got := text(t, c, "SELECT current_setting('skein.last_seen')"); got != want {
			t.Errorf("it has seen %q, want %q", got, want)
		}
	}
	exec(t, f, "SET skein.wait_for = '"+want+"'")
	exec(t, f, "SELECT * FROM t")
}

func TestAFollowerLetsAClientIntoADatabaseThatWasJustMade(t *testing.T) {
	_, _, f := pairByWire(t)
	for n := range 20 {
		exec(t, f, fmt.Sprintf("CREATE DATABASE d%d", n))
		config := f.Config().Copy()
		config.Database = fmt.Sprintf("d%d", n)
		c, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close(t.Context())
	}
	config := f.Config().Copy()
	config.Database = "nothing"
	if _, err := pgx.ConnectConfig(t.Context(), config); codeOf(err) != "3D000" {
		t.Fatalf("a database that there is not: %v", err)
	}
}

func TestALeaderThatHasJustBegunDoesNotReadThePast(t *testing.T) { // L2
	dir, fdir := t.TempDir(), t.TempDir()
	leader := runMember(t, dir, "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY)")
	follower := runMember(t, fdir, "b", leader.PeerAddr().String())
	follower.caughtUp(t, l)
	exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = 'b'")
	exec(t, l, "INSERT INTO t VALUES (1)")
	_ = l.Close(t.Context())
	follower.stop()
	leader.stop()

	// What b has acknowledged is in the leader's log, and is not shown before b has said so again.
	leader = runMember(t, dir, "a", "")
	other := runMember(t, t.TempDir(), "c", leader.PeerAddr().String())
	c := other.connect(t)
	exec(t, c, "SET skein.failover_wait = '50ms'")
	exec(t, c, "BEGIN")
	refused(t, c, "SELECT * FROM t", "57P03")
	exec(t, c, "ROLLBACK")
	exec(t, c, "SET skein.failover_wait = '1min'")
	runMember(t, fdir, "b", leader.PeerAddr().String())
	exec(t, c, "BEGIN")
	if got := text(t, c, "SELECT count(*)::text FROM t"); got != "1" {
		t.Fatalf("a block at the leader reads %s rows", got)
	}
}
