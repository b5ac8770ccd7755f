package clustertest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/claims"
)

// G21: leaders change in order, again and again, under load. Nothing is lost, and hardly anybody has to wait.
func TestSwitchover_G21_UnderLoad(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	r := newRegisters(e, seed(t))
	var pauses []time.Duration
	for range 4 {
		old, from := e.lead(), e.claims.Since()
		e.switchover("")
		if now := e.lead(); now == old {
			t.Fatalf("%s leads as before\n%s", old.name, e.logs(12))
		}
		e.progress(50)
		_, pause := claims.LongestPause(e.claims.Writes(), from, e.claims.Since())
		pauses = append(pauses, pause)
		e.caughtUp()
	}
	t.Logf("nothing was acknowledged for %v", pauses)
	if slices.Min(pauses) > time.Second {
		t.Errorf("a switchover takes %v at least", slices.Min(pauses))
	}
	r.check(t)
	e.end(true)
}

// The node that is to lead is named, and it does.
func TestSwitchover_ToTheOneNamed(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for range 2 {
		target := e.others(e.lead())[1]
		e.switchover(target.name)
		if now := e.lead(); now != target {
			t.Errorf("%s leads, and %s should", now.name, target.name)
		}
		e.caughtUp()
	}
	e.end(true)
}

// The target dies during the switchover: when it has been told to lead, and when it is about to. Another one leads, or the old
// leader goes on.
func TestSwitchover_TheTargetDies(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for _, fault := range []string{"promise.sealed=kill:1", "lead.append=kill:1", "lead.begun=kill:1"} {
		target := e.others(e.lead())[0]
		e.relaunch(target, fault)
		since := e.claims.Since()
		asked := e.begin("SELECT skein_switchover('" + target.name + "')")
		<-asked.done
		if e.runs(target) {
			t.Errorf("%s: the target lives, and the one who asked is told %v\n%s", fault, asked.err, e.logs(12))
		}
		e.progressFrom(since)
		t.Logf("%s: the one who asked is told %v", fault, asked.err)
		target.start()
		e.caughtUp()
	}
	e.end(true)
}

// E12: a leader that is told to stop hands over first. Nobody has to find out that it is gone.
func TestSwitchover_E12_StoppedInOrder(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for range 2 {
		old, since := e.lead(), e.claims.Since()
		old.Stop(t)
		e.takesOver(old, since)
		_, pause := claims.LongestPause(e.claims.Writes(), since, e.claims.Since())
		t.Logf("nothing was acknowledged for %v", pause)
		if h := strings.Join(e.history(), "\n"); !strings.Contains(h, " switchover ") || strings.Contains(h, "refuses connections") || strings.Contains(h, "silent") {
			t.Errorf("history: %s", h)
		}
		old.start()
		e.caughtUp()
	}
	e.end(true)
}

// G22: sessions of a leadership that is over end, and what they write later does not happen there. A transaction that has
// written and stands idle keeps a leader from handing over, which then goes on.
func TestSwitchover_G22_Sessions(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.leader.query("CREATE TABLE t (a int)")
	e.load()
	old := e.lead()
	idle := old.begin("BEGIN; SELECT count(*) FROM t")
	writing := old.begin("BEGIN; INSERT INTO t VALUES (1)")
	for _, p := range []*pending{idle, writing} {
		if code := p.code(); code != "" {
			t.Fatal(p.err)
		}
	}
	if _, err := e.others(old)[0].ask("SELECT skein_switchover()"); err == nil {
		t.Error("a leader has handed over with a transaction open that has written")
	} else {
		t.Logf("with a transaction open that has written: %v", err)
	}
	if _, err := writing.conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Errorf("a transaction that a switchover had to wait for: %v", err)
	}
	e.switchover("")
	if _, err := idle.conn.Exec(t.Context(), "INSERT INTO t VALUES (2)"); err == nil {
		t.Error("a session of a leadership that is over has written")
	} else if code := sqlState(err); code != "40001" {
		t.Errorf("a block that a leadership has not outlasted: %v", err)
	}
	if _, err := idle.conn.Exec(t.Context(), "ROLLBACK; INSERT INTO t VALUES (4)"); err != nil {
		t.Errorf("the session of that block goes on: %v", err)
	}
	p := old.begin("INSERT INTO t VALUES (3)")
	if code := p.code(); code != "" {
		t.Errorf("a write on the old leader: %v", p.err)
	}
	if got := e.lead().value("SELECT string_agg(a, ' ' ORDER BY a) FROM t"); got != "1 3 4" {
		t.Errorf("the rows %q are there, want 1 3 4", got)
	}
	e.end(true)
}

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// A block that has written ends with its leadership, also when its client notices only later: what it did must not be left out of what
// it commits. One in which nothing has run goes on with the next leader.
func TestFailover_G23_BlocksOfAStoppedLeader(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.leader.query("CREATE TABLE t (a int)")
	e.load()
	old := e.lead()
	written, empty := old.begin("SELECT 1"), old.begin("SELECT 1")
	for _, run := range []struct {
		on  *pending
		sql string
	}{{written, "SELECT 1"}, {written, "BEGIN"}, {written, "INSERT INTO t VALUES (1)"}, {empty, "SELECT 1"}, {empty, "BEGIN"}} {
		if code := run.on.code(); code != "" {
			t.Fatal(run.on.err)
		}
		if _, err := run.on.conn.Exec(t.Context(), run.sql); err != nil {
			t.Fatal(run.sql, err)
		}
	}
	old.pause()
	next := e.takesOver(old, e.claims.Since())
	old.resume()
	old.await("SELECT role FROM skein_status", "follower")
	if _, err := written.conn.Exec(t.Context(), "INSERT INTO t VALUES (2)"); sqlState(err) != "40001" {
		t.Errorf("a block that had written on the old leader: %v, want 40001", err)
	}
	if tag, err := written.conn.Exec(t.Context(), "COMMIT"); err != nil || tag.String() != "ROLLBACK" {
		t.Errorf("COMMIT of that block: %v, %v, want ROLLBACK", tag, err)
	}
	for _, sql := range []string{"INSERT INTO t VALUES (3)", "COMMIT"} {
		if _, err := empty.conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s in a block in which nothing had run: %v", sql, err)
		}
	}
	if got := next.value("SELECT string_agg(a, ' ') FROM t"); got != "3" {
		t.Errorf("the rows %q are there, want 3", got)
	}
	e.end(true)
}
