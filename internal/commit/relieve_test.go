package commit_test

import (
	"fmt"
	"strings"
	"testing"
)

// Only the snapshot whose old versions fill the memory is ended; the writer and a newer reader go on.
func TestStore_B08_TheOldestReaderGivesWayAndNoOther(t *testing.T) {
	o := testOptions
	o.MaxVersionBytes, o.CheckpointLogBytes = 1<<20, 64<<10
	r, err := open(t, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	w, old, recent := r.conn(), r.conn(), r.conn()
	old.exec("PRAGMA cache_size=10")
	recent.exec("PRAGMA cache_size=10")
	const read = "SELECT count(*), group_concat(hex(substr(b, 1, 4))) FROM t"
	r.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
	r.write(w, "INSERT INTO t SELECT value, randomblob(3000) FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value+1 FROM n WHERE value<500) SELECT value FROM n)")
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	old.exec("BEGIN")
	want := old.query(read)
	r.write(w, "UPDATE t SET b = randomblob(3000)")
	recent.exec("BEGIN")
	now := recent.query(read)
	ended := false
	for i := 0; i < 1000 && !ended; i++ { // each write has the checkpointer look
		r.write(w, fmt.Sprintf("UPDATE t SET b = randomblob(3000) WHERE a = %d", 1+i%5))
		switch got := old.query(read); {
		case strings.Contains(got, "error"):
			ended = true
		case got != want:
			t.Fatalf("%.40q, want %.40q", got, want)
		}
	}
	if !ended {
		t.Fatalf("the oldest snapshot goes on, with %d bytes of versions", r.Store().HeldBytes())
	}
	for i := range 50 {
		r.write(w, fmt.Sprintf("UPDATE t SET b = randomblob(3000) WHERE a = %d", 1+i%5))
		if got := recent.query(read); got != now {
			t.Fatalf("the newer snapshot: %.40q, want %.40q", got, now)
		}
	}
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if held := r.Store().HeldBytes(); held > o.MaxVersionBytes {
		t.Errorf("%d bytes of versions are held, want at most %d", held, o.MaxVersionBytes)
	}
	closeAll(w, old, recent)
	r.stop(true)
}
