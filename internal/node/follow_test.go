package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/rest"
)

// member is a node of a test's cluster.
type member struct {
	*Node
	dsn  string
	stop func()
}

func runMember(t *testing.T, dir, name, follow string) *member {
	t.Helper()
	n, err := Open(Options{
		Dir: dir, Name: name, Follow: follow, PGAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", SegmentBytes: 2 << 20,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	m := &member{Node: n, dsn: "postgres://skein@" + n.PGAddr().String() + "/skein"}
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(m.stop)
	return m
}

// connect gives a session as soon as the node lets one in. A connection that comes between two terms is
// refused or dropped.
func (m *member) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	for {
		c, err := pgx.Connect(t.Context(), m.dsn)
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		if err == nil {
			t.Cleanup(func() { _ = c.Close(context.Background()) })
			return c
		}
		_ = rest.For(t.Context(), askPace)
	}
}

// askPace is how long a test that waits for a node's state rests between two questions.
const askPace = 2 * time.Millisecond

func exec(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// refused runs SQL that must fail with a SQLSTATE.
func refused(t *testing.T, c *pgx.Conn, sql, code string) {
	t.Helper()
	var e *pgconn.PgError
	if _, err := c.Exec(t.Context(), sql); !errors.As(err, &e) || e.Code != code {
		t.Fatalf("%s: %v, want %s", sql, err, code)
	}
}

// unacknowledged runs SQL that commits, and whose time is over while nobody acknowledges that. Where it is over before, nothing was
// done, and it gets more of it.
func unacknowledged(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	code := "57014"
	for limit := 100; code == "57014"; limit *= 2 {
		exec(t, c, fmt.Sprintf("SET statement_timeout = %d", limit))
		_, err := c.Exec(t.Context(), sql)
		code = codeOf(err)
		for codeOf(err) != "<nil>" { // that may be too slow as well
			_, err = c.Exec(t.Context(), "SET statement_timeout = 0")
		}
	}
	if code != "08007" {
		t.Fatalf("%s: %s, want 08007", sql, code)
	}
}

func text(t *testing.T, c *pgx.Conn, sql string) string {
	t.Helper()
	var got string
	if err := c.QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// caughtUp waits until the node's readers see what the other has committed.
func (m *member) caughtUp(t *testing.T, leader *pgx.Conn) {
	t.Helper()
	lsn, err := history.ParseLSN(text(t, leader, "SELECT pg_current_wal_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	c := m.connect(t)
	for at := history.LSN(0); at < lsn; {
		if at, err = history.ParseLSN(text(t, c, "SELECT pg_last_wal_replay_lsn()::text")); err != nil {
			t.Fatal(err)
		}
	}
}

// shows waits until the node answers a query so. It may come to fetch a new copy meanwhile, which ends
// sessions.
func (m *member) shows(t *testing.T, sql, want string) {
	t.Helper()
	for got := ""; got != want; {
		c, err := pgx.Connect(t.Context(), m.dsn)
		if err == nil {
			_ = c.QueryRow(t.Context(), sql).Scan(&got)
			_ = c.Close(t.Context())
		}
		if rest.For(t.Context(), askPace) != nil {
			t.Fatalf("%s: %s, want %s", sql, got, want)
		}
	}
}

func TestAFollowerCopiesTheClusterAndServesReads(t *testing.T) {
	leader := runMember(t, t.TempDir(), "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY, b text)")
	exec(t, l, "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 5000) n")
	dir := t.TempDir()
	follower := runMember(t, dir, "b", leader.PeerAddr().String())
	follower.caughtUp(t, l)
	f := follower.connect(t)
	if got := text(t, f, "SELECT count(*)::text FROM t"); got != "5000" {
		t.Fatalf("the follower has %s rows", got)
	}
	exec(t, f, "INSERT INTO t VALUES (0, '')")
	if got := text(t, f, "SELECT count(*)::text FROM t"); got != "5001" {
		t.Fatalf("after its own write through the follower a session reads %s rows there", got)
	}
	exec(t, f, "DELETE FROM t WHERE n = 0")

	exec(t, l, "CREATE DATABASE other")
	exec(t, l, "ALTER TABLE t ADD COLUMN c int DEFAULT 7")
	exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = 'b'")
	exec(t, l, "SET synchronous_commit = remote_apply")
	exec(t, l, "UPDATE t SET c = 8 WHERE n = 1")
	if got := text(t, f, "SELECT sum(c)::text FROM t"); got != "35001" {
		t.Fatalf("after remote_apply the follower says %s", got)
	}
	if got := text(t, f, "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database"); !strings.Contains(got, "other") {
		t.Fatalf("databases on the follower: %s", got)
	}

	// A commit while the follower is away is not acknowledged, and is there once it is back.
	_ = f.Close(t.Context())
	follower.stop()
	unacknowledged(t, l, "UPDATE t SET c = 9 WHERE n = 1")
	other := leader.connect(t)
	if got := text(t, other, "SELECT c::text FROM t WHERE n = 1"); got != "8" {
		t.Fatalf("another session sees %s before the commit is acknowledged", got)
	}
	follower = runMember(t, dir, "b", leader.PeerAddr().String())
	exec(t, l, "UPDATE t SET c = c + 1 WHERE n = 2")
	if got := text(t, other, "SELECT c::text FROM t WHERE n = 1"); got != "9" {
		t.Fatalf("with the follower back, another session sees %s", got)
	}
	if got := text(t, follower.connect(t), "SELECT sum(c)::text FROM t"); got != "35003" {
		t.Fatalf("the follower says %s", got)
	}
}

func TestAFollowerOfAFollower(t *testing.T) {
	leader := runMember(t, t.TempDir(), "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY)")
	middle := runMember(t, t.TempDir(), "b", leader.PeerAddr().String())
	middle.caughtUp(t, l)
	last := runMember(t, t.TempDir(), "c", middle.PeerAddr().String())
	exec(t, l, "INSERT INTO t VALUES (1), (2)")
	last.caughtUp(t, l)
	if got := text(t, last.connect(t), "SELECT count(*)::text FROM t"); got != "2" {
		t.Fatalf("%s rows", got)
	}
}

// ahead gives the directories of a leader that was restored from an older copy, and of its follower: what was
// inserted into t since is on the follower alone, whose readers have seen it.
func ahead(t *testing.T, inserts ...string) (leaderDir, followerDir string) {
	t.Helper()
	dir, fdir := t.TempDir(), t.TempDir()
	leader := runMember(t, dir, "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY)")
	follower := runMember(t, fdir, "b", leader.PeerAddr().String())
	follower.caughtUp(t, l)
	_ = l.Close(t.Context())
	leader.stop()
	backup := t.TempDir()
	copyDir(t, backup, dir)

	leader = runMember(t, dir, "a", "")
	follower.stop()
	l = leader.connect(t)
	follower = runMember(t, fdir, "b", leader.PeerAddr().String())
	for _, sql := range inserts {
		exec(t, l, sql)
	}
	follower.caughtUp(t, l)
	_ = l.Close(t.Context())
	leader.stop()
	follower.stop()
	return backup, fdir
}

func TestAFollowerThatIsAheadOfItsLeaderKeepsTheTailAndEndsLikeIt(t *testing.T) {
	dir, fdir := ahead(t, "INSERT INTO t VALUES (1), (2)")
	leader := runMember(t, dir, "a", "")
	exec(t, leader.connect(t), "INSERT INTO t VALUES (3)")
	follower := runMember(t, fdir, "b", leader.PeerAddr().String())
	follower.shows(t, "SELECT string_agg(n::text, ',') FROM t", "3")
	if kept := vault(t, fdir); len(kept) != 1 {
		t.Fatalf("in the vault: %v", kept)
	}
}

func TestStore_B06_ADamagedFollowerFetchesWhatIsWrong(t *testing.T) {
	for _, part := range []string{"db/0002.db", "log/*.log", "log/epochs", "db/checkpoint"} {
		t.Run(part, func(t *testing.T) {
			leader := runMember(t, t.TempDir(), "a", "")
			l := leader.connect(t)
			exec(t, l, "CREATE TABLE t (n int PRIMARY KEY, b text)")
			exec(t, l, "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 500) n")
			dir := t.TempDir()
			follower := runMember(t, dir, "b", leader.PeerAddr().String())
			follower.caughtUp(t, l)
			exec(t, l, "UPDATE t SET b = 'y' WHERE n = 7")
			follower.caughtUp(t, l)
			follower.stop()
			files, _ := filepath.Glob(filepath.Join(dir, part))
			b, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			b[min(len(b)/2, 100)] ^= 0x10
			if err := os.WriteFile(files[0], b, 0o600); err != nil {
				t.Fatal(err)
			}
			follower = runMember(t, dir, "b", leader.PeerAddr().String())
			follower.caughtUp(t, l)
			follower.shows(t, "SELECT count(*)::text || min(b) FROM t WHERE n < 8 OR b = 'y'", "7"+strings.Repeat("x", 500))
		})
	}
}

// The page is damaged while the follower runs, and the next entry needs what it held.
func TestAPageThatIsDamagedUnderTheApplierIsFetched(t *testing.T) {
	leader := runMember(t, t.TempDir(), "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY, b text)")
	exec(t, l, "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 500) n")
	dir := t.TempDir()
	follower := runMember(t, dir, "b", leader.PeerAddr().String())
	follower.caughtUp(t, l)
	damagePages(t, dir)
	exec(t, l, "UPDATE t SET b = 'y' WHERE n = 7")
	follower.shows(t, "SELECT count(*)::text || min(b) FROM t WHERE n < 8 OR b = 'y'", "7"+strings.Repeat("x", 500))
}

// damagePages flips a bit in every page of a database file, under the node that has it open.
func damagePages(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "db", "0002.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 1)
	for at := int64(100); ; at += pagestore.PageSize {
		if _, err := f.ReadAt(b, at); err != nil {
			return
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
}

// The node that it would fetch its pages from shows less than it has shown itself.
func TestAFollowerThatNeedsANewCopyShowsNothingOlder(t *testing.T) {
	leader := runMember(t, t.TempDir(), "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY)")
	middle := runMember(t, t.TempDir(), "b", leader.PeerAddr().String())
	middle.caughtUp(t, l)
	m := middle.connect(t)
	exec(t, m, "SELECT pg_wal_replay_pause()")
	dir := t.TempDir()
	last := runMember(t, dir, "c", leader.PeerAddr().String())
	exec(t, l, "INSERT INTO t VALUES (1)")
	last.caughtUp(t, l)
	last.stop()
	last = runMember(t, dir, "c", middle.PeerAddr().String())
	last.shows(t, "SELECT count(*)::text FROM t", "1")

	damagePages(t, dir)
	exec(t, l, "INSERT INTO t VALUES (2)")
	for refusals := 0; refusals < 50; {
		c, err := pgx.Connect(t.Context(), last.dsn)
		var e *pgconn.PgError
		switch {
		case err == nil:
			var got string
			if c.QueryRow(t.Context(), "SELECT count(*)::text FROM t").Scan(&got) == nil && got == "0" {
				t.Fatal("it shows what was before the row that it has shown")
			}
			_ = c.Close(t.Context())
		case errors.As(err, &e) && e.Code == "57P03": // it takes a copy
			refusals++
		case t.Context().Err() != nil:
			t.Fatal(err)
		}
		_ = rest.For(t.Context(), askPace)
	}
	exec(t, m, "SELECT pg_wal_replay_resume()")
	last.shows(t, "SELECT count(*)::text FROM t", "2")
}

func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func vault(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "vault", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
