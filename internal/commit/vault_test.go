package commit_test

import (
	"fmt"
	"testing"

	"skein/internal/replog"
)

// The oldest segment begins within a large entry, of which the rest was trimmed.
func TestATailIsKeptAlsoWhereTheLogBeginsWithinAnEntry(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	w := r.conn()
	r.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
	large := fmt.Sprintf("INSERT INTO t (b) SELECT randomblob(4000) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d) SELECT i FROM n)", 5*replog.MaxChunk/4000)
	r.write(w, large)
	begun := r.Log().Head().LSN
	for range 3 {
		r.write(w, "INSERT INTO t (b) VALUES (1)")
	}
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Log().NewReader(begun - 1); err == nil {
		t.Fatal("the log still has the entry; this test shows nothing")
	}
	if first := r.Log().First(); first != begun+1 {
		t.Errorf("the log begins with entry %d, want %d: of the one before only the end is left", first, begun+1)
	}
	if name, err := r.SaveTail(0); err != nil || name == "" {
		t.Errorf("%q %v", name, err)
	}
	closeAll(w)
	r.stop(true)
}
