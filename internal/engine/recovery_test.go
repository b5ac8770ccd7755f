package engine

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/history"
)

func TestAFollowerWithoutACopyAdmitsNobodyUntilItHasOne(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir()}
	r.following.Store(true)
	r.start()
	t.Cleanup(func() { r.stop() })
	if n := r.pipeline.Log().Head().LSN; n > 1 { // the rig's log begins with an epoch
		t.Fatalf("the follower has written %d entries", n)
	}
	var refused *pgconn.PgError
	if _, err := pgconn.Connect(t.Context(), r.dsn()); !errors.As(err, &refused) || refused.Code != "57P03" {
		t.Fatalf("connecting without a copy: %v, want 57P03", err)
	}
	if err := r.engine.beginSystem(t.Context()); err != nil { // the leader's first entry arrives
		t.Fatal(err)
	}
	r.engine.Replicated(history.SystemDatabase, r.pipeline.Log().Head().LSN)
	c := r.dial()
	if code, value := run(t, c, "SELECT pg_is_in_recovery()"); code != "" || value != "t" {
		t.Fatalf("with a copy: %q %q", code, value)
	}
	c.Close(t.Context())
	r.allGone()
}

// A client that was told of a commit sees it in the catalogs as well, however late the node looks at the system database by itself.
func TestAFollowerShowsTheDatabasesAndRolesThatItsReadersSee(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	r.following.Store(true)
	r.appear("system", "INSERT INTO databases (name, owner) VALUES ('gosling', 'skein')")
	r.appear("system", "INSERT INTO roles (name, verifier, login, superuser, createdb, createrole) VALUES ('gander', 'SCRAM-SHA-256$', 1, 0, 0, 0)")
	for _, sql := range []string{"SELECT count(*) FROM pg_database WHERE datname = 'gosling'", "SELECT count(*) FROM pg_roles WHERE rolname = 'gander'"} {
		if code, got := run(t, c, sql); code != "" || got != "1" {
			t.Errorf("%s: %s %s", sql, code, got)
		}
	}
	r.appear("system", "INSERT INTO settings VALUES ('', 'gander', 'lock_timeout', '7s')")
	if code, got := run(t, c, "SELECT count(*) FROM pg_db_role_setting"); code != "" || got != "1" {
		t.Errorf("settings of roles: %s %s", code, got)
	}
	r.appear("system", "UPDATE roles SET verifier = ''")
	if !r.engine.Trusts(&net.TCPAddr{IP: net.IPv6loopback}) {
		t.Error("a password is asked for that no role has any more")
	}
	r.appear("system", "UPDATE roles SET verifier = 'SCRAM-SHA-256$'")
	if r.engine.Trusts(&net.TCPAddr{IP: net.IPv6loopback}) {
		t.Error("who gives no password is let in, when roles have got some")
	}
}

func TestAWriteToAFollowerIsToldWhereToGo(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for _, sql := range []string{"CREATE TABLE t (a int)", "VACUUM", "ALTER SYSTEM SET lock_timeout = '1s'"} {
		r.following.Store(true)
		refused := new(pgconn.PgError)
		if _, err := c.Exec(t.Context(), sql).ReadAll(); !errors.As(err, &refused) || refused.Code != "25006" || refused.Hint != toTheLeader {
			t.Errorf("%s on a follower: %v, hint %q", sql, err, refused.Hint)
		}
		r.following.Store(false)
		if _, err := c.Exec(t.Context(), "BEGIN READ ONLY; "+sql).ReadAll(); !errors.As(err, &refused) || refused.Hint == toTheLeader {
			t.Errorf("%s in a read-only transaction of a leader: %v, hint %q", sql, err, refused.Hint)
		}
		if _, err := c.Exec(t.Context(), "ROLLBACK").ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheRuleCanBeChangedWhenPendingCommitsFillTheMemory(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), versions: 1 << 20}
	r.start()
	t.Cleanup(func() {
		r.allGone()
		r.stop()
	})
	c := r.dial()
	for _, sql := range []string{
		"CREATE TABLE t (a blob)", "ALTER SYSTEM SET synchronous_standby_names = 'gander'", "SET synchronous_commit = local",
	} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatalf("%s: %s", sql, code)
		}
	}
	code := ""
	for n := 0; code == "" && n < 100; n++ {
		code, _ = run(t, c, "INSERT INTO t VALUES (zeroblob(100000))")
	}
	if code != "53000" {
		t.Fatalf("without an end of pending commits the client gets %q, want 53000", code)
	}
	if err := r.engine.RecordDegraded(t.Context(), 1, "a test"); err != nil {
		t.Error(err)
	}
	for _, sql := range []string{"ALTER SYSTEM RESET synchronous_standby_names", "INSERT INTO t VALUES (zeroblob(100000))"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Errorf("%s: %s", sql, code)
		}
	}
}

// A power cut can take with it what the leader knew to be committed.
func TestALeaderThatCanShowNothingYetLetsItsRolesIn(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	run(t, c, "CREATE ROLE gander LOGIN")
	run(t, c, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	c.Close(t.Context())
	again := &rig{t: t, dir: t.TempDir()}
	if err := os.CopyFS(again.dir, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(again.dir, "log", "committed")); err != nil {
		t.Fatal(err)
	}
	again.start()
	t.Cleanup(func() {
		again.allGone()
		again.stop()
	})
	if lsn := again.pipeline.Visible(); lsn != 0 {
		t.Fatalf("visible is %d", lsn)
	}
	if code, _ := run(t, again.dial("user=gander"), "SELECT 1"); code != "" {
		t.Errorf("gander gets %s", code)
	}
	admin := again.dial()
	if code, value := run(t, admin, "ALTER SYSTEM RESET ALL"); code != "" {
		t.Errorf("%s %s", code, value)
	}
	if _, value := run(t, admin, "SELECT count(*) FROM pg_roles WHERE rolname = 'gander'"); value != "1" {
		t.Errorf("%s roles are called gander", value)
	}
}

func TestDegradationsAreRecorded(t *testing.T) {
	r := newRig(t)
	c, err := pgx.Connect(t.Context(), r.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	shown := func() string {
		rows, err := c.Query(t.Context(), "SELECT began IS NOT NULL, ended IS NULL, from_lsn::text, coalesce(to_lsn::text, '-'), commits::text, reason FROM skein_degradations")
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			var began, lasts bool
			var from, to, commits, reason string
			err := row.Scan(&began, &lasts, &from, &to, &commits, &reason)
			if !began {
				t.Error("a degradation without a beginning")
			}
			state := "over"
			if lasts {
				state = "lasts"
			}
			return strings.Join([]string{state, from, to, commits, reason}, " "), err
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	want := func(what, lines string) {
		t.Helper()
		if got := shown(); got != lines {
			t.Errorf("%s: got\n%s\nwant\n%s", what, got, lines)
		}
	}
	want("at first", "")
	ctx, e := t.Context(), r.engine
	if err := e.RecordDegraded(ctx, 7, "nobody answers"); err != nil {
		t.Fatal(err)
	}
	want("degraded", "lasts 0/7 - 0 nobody answers")
	if err := e.RecordRestored(ctx, 8, 20, 13); err != nil {
		t.Fatal(err)
	}
	want("restored", "over 0/8 0/14 13 nobody answers")
	if err := errors.Join(e.RecordDegraded(ctx, 30, "again"), e.RecordDegraded(ctx, 40, "after a crash")); err != nil {
		t.Fatal(err)
	}
	want("the leader was lost while degraded", "over 0/8 0/14 13 nobody answers\nover 0/1E - 0 again\nlasts 0/28 - 0 after a crash")
	for range keptDegradations {
		if err := e.RecordDegraded(ctx, 50, "and again"); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(shown(), "\n") + 1; n != keptDegradations {
		t.Errorf("%d degradations are kept, want %d", n, keptDegradations)
	}
}

func TestAFollowerShowsOnlyWhatEverybodySees(t *testing.T) { // T1, I8
	r := newRig(t)
	writer, reader := r.dial(), r.dial()
	for _, sql := range []string{"CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)", "ALTER SYSTEM SET synchronous_standby_names = 'gander'", "SET synchronous_commit = local"} {
		if code, _ := run(t, writer, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	if code, _ := run(t, writer, "INSERT INTO t VALUES (2)"); code != "" {
		t.Fatal(code)
	}
	count := func(c *pgconn.PgConn) string {
		t.Helper()
		code, n := run(t, c, "SELECT count(*) FROM t")
		if code != "" {
			t.Fatal(code)
		}
		return n
	}
	if own, other := count(writer), count(reader); own != "2" || other != "1" {
		t.Errorf("a leader shows who wrote at level local %s rows, and others %s", own, other)
	}
	r.following.Store(true)
	r.between(reader, func(s *Session) { s.Raise(r.pipeline.Log().Head().LSN) }) // by what it has written at the next leader
	if own, other := count(writer), count(reader); own != "1" || other != "1" {
		t.Errorf("a follower shows %s and %s rows, of which one may be cut", own, other)
	}
	r.following.Store(false)
	for _, c := range []*pgconn.PgConn{writer, reader} {
		_ = c.Close(t.Context())
	}
}
