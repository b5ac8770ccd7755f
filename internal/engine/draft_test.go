package engine

import (
	"fmt"
	"sync"
	"testing"

	"skein/internal/sqlstate"
)

// A connection that SQLite gave up in the middle of a draft has no turn, and must not stand in the way of who has.
func TestABrokenDraftDoesNotTakeTheWriteLock(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	run(t, c, "CREATE TABLE t (a int)")
	d := r.database(DefaultDatabase)
	draft, err := d.reader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	draft.begin(t.Context(), nil)
	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1)"} {
		_ = draft.file.Draft(true)
		if err := draft.exec(sql); err != nil {
			t.Fatal(sql, err)
		}
	}
	draft.broken = true
	draft.rest()
	if code, _ := run(t, c, "INSERT INTO t VALUES (2)"); code != "" {
		t.Error(code)
	}
	d.giveReader(draft)
	if _, rows := run(t, c, "SELECT count(*) FROM t"); rows != "1" {
		t.Error(rows)
	}
}

// Whoever cannot write a draft waits for its turn without a reader's connection.
func TestWhoWaitsForItsTurnHoldsNoReader(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	run(t, c, "CREATE TABLE t (a int)")
	run(t, c, "BEGIN ISOLATION LEVEL READ COMMITTED")
	run(t, c, "INSERT INTO t VALUES (1)")
	var waiting sync.WaitGroup
	for _, sql := range []string{"SELECT a FROM t FOR UPDATE", "INSERT INTO t VALUES (2) RETURNING a"} {
		w := r.dial()
		run(t, w, "BEGIN")
		waiting.Go(func() {
			if code, _ := run(t, w, sql); code != "" {
				t.Error(code)
			}
			if code, _ := run(t, w, "COMMIT"); code != "" {
				t.Error(code)
			}
		})
	}
	r.queued(2)
	if n := len(r.database(DefaultDatabase).slots); n != 0 {
		t.Errorf("%d readers are in use", n)
	}
	run(t, c, "COMMIT")
	waiting.Wait()
}

// A draft whose snapshot has gone, because the memory for old versions is used up, is run again at COMMIT all the same.
func TestADraftOutlivesItsSnapshot(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), versions: 1 << 20}
	r.start()
	t.Cleanup(func() {
		r.allGone()
		r.stop()
	})
	c, draft, reader := r.dial(), r.dial(), r.dial()
	run(t, c, "CREATE TABLE t (a int PRIMARY KEY, b text)")
	run(t, c, "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) g(i)")
	run(t, draft, "BEGIN")
	run(t, draft, "UPDATE t SET b = 'draft' WHERE a = 1000")
	run(t, reader, "BEGIN")
	run(t, reader, "SELECT 1 FROM t WHERE a = 1000")
	code, row := "", 0
	r.eventually("the snapshot goes", func() bool {
		if code, _ := run(t, c, "UPDATE t SET b = b || 'y' WHERE a <> 1000"); code != "" {
			t.Fatal(code)
		}
		row += 5 // on a page that its connection has not read yet
		code, _ = run(t, reader, fmt.Sprintf("SELECT b FROM t WHERE a = %d", row))
		return code != ""
	})
	if code != string(sqlstate.SnapshotTooOld) {
		t.Error(code)
	}
	if code, _ := run(t, draft, "COMMIT"); code != "" {
		t.Error(code)
	}
	if _, rows := run(t, c, "SELECT count(*) FROM t WHERE b = 'draft'"); rows != "1" {
		t.Error(rows)
	}
}
