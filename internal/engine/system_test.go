package engine

import (
	"errors"
	"testing"

	"skein/internal/history"
)

// A cancel request may come when the change is in the log already: it is too late then to say that nothing
// was done, or to leave the change unread.
func TestACancelThatComesAfterACommitOfTheSystemDatabaseChangesNothing(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	late := func(sql string) string {
		t.Helper()
		r.engine.loading.Lock() // what was changed cannot be read yet
		before := r.pipeline.Visible()
		done := make(chan string, 1)
		go func() {
			code, _ := run(t, c, sql)
			done <- code
		}()
		r.eventually("the change is in the log", func() bool { return r.engine.unread.any(before + 1) })
		if err := r.pipeline.Log().Wait(t.Context(), r.pipeline.Log().Head().LSN); err != nil {
			t.Error(err)
		}
		r.eventually("nobody waits for a commit", func() bool { return r.pipeline.Visible() > before && r.waits.Load() == 0 })
		r.engine.mu.RLock()
		s := r.engine.sessions[c.PID()]
		r.engine.mu.RUnlock()
		s.Cancel()
		r.engine.loading.Unlock()
		return <-done
	}
	if code := late("ALTER SYSTEM SET lock_timeout = '7s'"); code != "" {
		t.Errorf("ALTER SYSTEM gets %s", code)
	}
	if _, value := run(t, r.dial(), "SHOW lock_timeout"); value != "7s" {
		t.Errorf("lock_timeout is %q, want 7s", value)
	}
	if code := late("CREATE DATABASE gaggle"); code != "" {
		t.Errorf("CREATE DATABASE gets %s", code)
	}
	d := r.database("gaggle")
	if code := late("DROP DATABASE gaggle"); code != "" {
		t.Errorf("DROP DATABASE gets %s", code)
	}
	if d == nil || !d.ended() {
		t.Error("what was dropped can be written to again")
	}
}

// A system database that reads as empty would have every database dropped.
func TestAnEmptySystemDatabaseIsNotTaken(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	defer func() { _ = c.Close(t.Context()) }()
	run(t, c, "CREATE TABLE t (a int)")
	lsn, err := r.engine.system.write(t.Context(), nil, func(c *conn) error { return errors.Join(c.exec("DELETE FROM roles"), c.exec("DELETE FROM databases")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.engine.loadSystem(t.Context(), lsn); err == nil {
		t.Error("it is taken")
	}
	if code, _ := run(t, c, "SELECT * FROM t"); code != "" {
		t.Errorf("the table is gone: %s", code)
	}
}

func TestUnreadChangesAreThoseThatReadersSeeOfSeveral(t *testing.T) {
	var u unread
	want := func(visible history.LSN, any bool) {
		t.Helper()
		if u.any(visible) != any {
			t.Errorf("with %d visible, of those from %d to %d there are some: %v", visible, u.first, u.last, !any)
		}
	}
	want(9, false)
	u.add(5)
	u.add(3)
	u.add(8)
	want(2, false)
	want(3, true) // although what comes last is not visible yet
	u.read(4)
	want(4, false)
	want(5, true)
	u.read(7)
	want(7, false)
	want(8, true)
	u.read(8)
	want(9, false)
	u.add(10)
	want(9, false)
	want(10, true)
}
