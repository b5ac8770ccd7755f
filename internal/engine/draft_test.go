package engine

import "testing"

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
