package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The leader restarts while its standbys are dead: one can log in, read what was committed, and say that nobody is to
// be waited for.
func TestARestartedLeaderWithoutItsStandbysCanBeRepairedBySQL(t *testing.T) {
	for _, lost := range []bool{false, true} {
		dir := t.TempDir()
		leader := runMember(t, dir, "a", "")
		l := leader.connect(t)
		exec(t, l, "CREATE TABLE t (n int PRIMARY KEY)")
		exec(t, l, "INSERT INTO t VALUES (1)")
		exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = 'b'")
		unacknowledged(t, l, "INSERT INTO t VALUES (2)")
		if got := text(t, l, "SELECT count(*)::text FROM t"); got != "1" {
			t.Fatalf("its own session sees %s rows", got)
		}
		waiting := leader.connect(t)
		exec(t, waiting, "SELECT 1")
		answered := make(chan error, 1)
		go func() {
			_, err := waiting.Exec(context.Background(), "INSERT INTO t VALUES (3)")
			answered <- err
		}()
		other := leader.connect(t)
		for text(t, other, "SELECT (head_lsn - committed_lsn >= 3)::text FROM skein_status") == "false" {
		}
		crashed := t.TempDir()
		copyDir(t, crashed, dir)
		leader.stop() // while a client waits
		if err := <-answered; err == nil {
			t.Fatal("acknowledged without a standby")
		}
		if lost { // a power cut instead, after which the hint is older: here older than everything
			dir = crashed
			if err := os.Remove(filepath.Join(dir, "log", "committed")); err != nil {
				t.Fatal(err)
			}
		}
		leader = runMember(t, dir, "a", "")
		l = leader.connect(t)
		if lost {
			exec(t, l, "SELECT 1")
		} else if got := text(t, l, "SELECT count(*)::text FROM t"); got != "1" {
			t.Fatalf("after a restart %s rows are seen", got)
		}
		exec(t, l, "SET synchronous_commit = local")
		exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = ''")
		exec(t, l, "RESET synchronous_commit")
		exec(t, l, "INSERT INTO t VALUES (4)")
		if got := text(t, l, "SELECT count(*)::text FROM t"); got != "4" {
			t.Fatalf("after the repair %s rows are seen", got)
		}
		leader.stop()
	}
}

// The leader comes back from an older copy, and writes nothing more: what the follower has shown is more than the
// cluster has, and will be for ever.
func TestAFollowerFarAheadOfARestoredLeaderTakesItsCopyAtOnce(t *testing.T) {
	dir, fdir := ahead(t, slices.Repeat([]string{"INSERT INTO t SELECT coalesce(max(n), 0) + 1 FROM t"}, 50)...)
	leader := runMember(t, dir, "a", "")
	follower := runMember(t, fdir, "b", leader.PeerAddr().String())
	follower.shows(t, "SELECT count(*)::text FROM t", "0")
	if kept := vault(t, fdir); len(kept) != 1 {
		t.Fatalf("in the vault: %v", kept)
	}
}

// A session of a follower has planned a statement. The leader changes the schema.
func TestAFollowersSessionsPlanAnewWhenTheLeaderChangesTheSchema(t *testing.T) {
	leader := runMember(t, t.TempDir(), "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE TABLE t (n int PRIMARY KEY, b text)")
	exec(t, l, "INSERT INTO t VALUES (1, 'x')")
	follower := runMember(t, t.TempDir(), "b", leader.PeerAddr().String())
	follower.caughtUp(t, l)
	exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = 'b'")
	exec(t, l, "SET synchronous_commit = remote_apply")
	f := follower.connect(t)
	columns := func() int {
		rows, err := f.Query(t.Context(), "SELECT * FROM t", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		return len(rows.FieldDescriptions())
	}
	for want := 2; want < 6; want++ {
		for range 3 {
			if got := columns(); got != want {
				t.Fatalf("%d columns, want %d", got, want)
			}
		}
		exec(t, l, fmt.Sprintf("ALTER TABLE t ADD COLUMN c%d int DEFAULT 7", want))
	}
}

// What is written to a database behind its end in the log would be nobody's. A leader that restarts before its DROP DATABASE
// is acknowledged still lists the database, and lets nobody in.
func TestADatabaseWhoseEndIsPendingIsNotWrittenTo(t *testing.T) {
	dir := t.TempDir()
	leader := runMember(t, dir, "a", "")
	l := leader.connect(t)
	exec(t, l, "CREATE DATABASE other")
	exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = 'b'")
	unacknowledged(t, l, "DROP DATABASE other")
	for _, when := range []string{"before", "after"} {
		l = leader.connect(t)
		if got := text(t, l, "SELECT count(*)::text FROM pg_database WHERE datname = 'other'"); got != "1" {
			t.Errorf("%s a restart it is not listed any more, and nobody has acknowledged its end", when)
		}
		c, err := pgx.Connect(t.Context(), strings.TrimSuffix(leader.dsn, "skein")+"other")
		if err == nil {
			_, err = c.Exec(t.Context(), "SET synchronous_commit = local; CREATE TABLE t (n int)")
			_ = c.Close(t.Context())
		}
		if err == nil {
			t.Errorf("%s a restart it is written to", when)
		}
		if when == "before" {
			leader.stop()
			leader = runMember(t, dir, "a", "")
		}
	}
	l = leader.connect(t)
	exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = ''")
	exec(t, l, "CREATE DATABASE another")
	if got := text(t, l, "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database"); got != "another,postgres,skein" {
		t.Errorf("databases: %s", got)
	}
}
