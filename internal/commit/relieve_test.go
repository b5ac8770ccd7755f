package commit_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
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

// What is pending fills the memory. Nothing more is taken, but for the system database: there it is said whose
// acknowledgement counts.
func TestPendingCommitsLeaveRoomForChangingTheRule(t *testing.T) {
	o := testOptions
	o.MaxVersionBytes = 1 << 20
	r, err := bare(t, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.rule("nobody", commit.SyncConfig{Level: commit.On})
	put := func(id history.DatabaseID) error {
		db, err := r.Store().Create(id)
		if err != nil {
			t.Fatal(err)
		}
		page := pagestore.NewPage()
		clear(page.Bytes())
		binary.LittleEndian.PutUint64(page.Bytes(), uint64(r.Log().Received())+1)
		lsn, err := r.Commit(db, db.Head().LSN, []pagestore.Dirty{{No: 1, Page: page}}, 1)
		if err == nil {
			err = r.Log().Wait(t.Context(), lsn)
		}
		return err
	}
	for i := 0; err == nil; i++ {
		if err = put(testDB); i > 4096 {
			t.Fatalf("%d bytes of versions are held, and more is taken", r.Store().HeldBytes())
		}
	}
	if !errors.Is(err, commit.ErrTooMuchPending) {
		t.Fatalf("error %v, want %v", err, commit.ErrTooMuchPending)
	}
	if err := put(history.SystemDatabase); err != nil {
		t.Fatalf("in the system database: %v", err)
	}
	r.rule("", commit.SyncConfig{Level: commit.On})
	if err := put(testDB); err != nil {
		t.Fatalf("once nothing is pending any more: %v", err)
	}
	r.stop(true)
}
