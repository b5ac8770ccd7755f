package commit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
	"skein/internal/sqlitevfs"
)

const testDB = history.DatabaseID(2)

var testOptions = commit.Options{
	Cluster: replog.Cluster{7}, SegmentBytes: 4 * replog.MaxChunk, Logger: slog.New(slog.DiscardHandler),
}

// rig is a node's storage with its goroutines, as a test uses it.
type rig struct {
	*commit.Pipeline
	t    testing.TB
	dir  string
	vfs  *sqlitevfs.VFS
	rec  commit.Recovery
	stop func(clean bool)
}

// open gives a node that leads by itself.
func open(t testing.TB, dir string, o commit.Options) (*rig, error) {
	t.Helper()
	r, err := bare(t, dir, o)
	if err != nil {
		return nil, err
	}
	if err := r.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.Configure(commit.SyncConfig{})
	return r, nil
}

// bare gives a node that neither leads nor follows.
func bare(t testing.TB, dir string, o commit.Options) (*rig, error) {
	t.Helper()
	p, rec, err := commit.Open(dir, o)
	if err != nil {
		return nil, err
	}
	if _, err := p.Store().Create(testDB); err != nil {
		t.Fatal(err)
	}
	v, err := sqlitevfs.Register(fmt.Sprintf("test-%d", rand.Uint64()), p.Store(), p, sqlitevfs.NewTempSpace(commit.TempDir(dir), 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	r := &rig{Pipeline: p, t: t, dir: dir, vfs: v, rec: rec}
	r.stop = func(clean bool) {
		cancel()
		if err := errors.Join(<-done, p.Close(clean)); err != nil {
			t.Fatal(err)
		}
		v.Unregister()
	}
	return r, nil
}

func mustOpen(t *testing.T, dir string) *rig {
	t.Helper()
	r, err := open(t, dir, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type conn struct {
	*sqlite3.Conn
	file *sqlitevfs.File
	t    testing.TB
}

func (r *rig) conn() *conn {
	r.t.Helper()
	c, err := sqlite3.Open(r.vfs.URI(testDB))
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := sqlitevfs.FileOf(c)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.Exec("PRAGMA page_size=4096; PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=OFF"); err != nil {
		r.t.Fatal(err)
	}
	return &conn{c, f, r.t}
}

func (c *conn) exec(sql string) {
	c.t.Helper()
	if err := c.Exec(sql); err != nil {
		c.t.Fatalf("%.60s: %v (%v)", sql, err, c.file.TakeError())
	}
}

func (c *conn) query(sql string) string {
	c.t.Helper()
	s, _, err := c.Prepare(sql)
	if err != nil {
		c.t.Fatalf("%.60s: %v", sql, err)
	}
	defer s.Close()
	out := ""
	for s.Step() {
		for i := range s.ColumnCount() {
			out += s.ColumnText(i) + " "
		}
	}
	if err := s.Err(); err != nil {
		return err.Error()
	}
	return out
}

// write runs sql as the database's writer and waits until it is committed.
func (r *rig) write(c *conn, sql string) {
	r.t.Helper()
	c.file.PinHead(true)
	c.exec(sql)
	c.file.PinHead(false)
	if _, err := r.Wait(r.t.Context(), c.file.TakeCommit(), commit.Local); err != nil {
		r.t.Fatal(err)
	}
}

func TestWhatIsCommittedIsThereAfterARestart(t *testing.T) {
	for _, clean := range []bool{true, false} {
		dir := t.TempDir()
		r := mustOpen(t, dir)
		w, reader := r.conn(), r.conn()
		r.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
		for i := range 50 {
			r.write(w, fmt.Sprintf("INSERT INTO t (b) VALUES ('row %d')", i))
		}
		if got := reader.query("SELECT count(*), max(b) FROM t"); got != "50 row 9 " {
			t.Fatalf("reader sees %q", got)
		}
		if !clean {
			// As after kill -9: the page store's files and the log, without a last checkpoint.
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			defer func(d string) { _ = d }(dir)
			closeAll(w, reader)
			r.stop(true)
			dir = copied
		} else {
			closeAll(w, reader)
			r.stop(true)
		}
		r = mustOpen(t, dir)
		c := r.conn()
		if got := c.query("SELECT count(*), max(b) FROM t; "); got != "50 row 9 " {
			t.Fatalf("clean=%v: after restart %q", clean, got)
		}
		if clean != (r.rec.Entries == 0) {
			t.Fatalf("clean=%v: %d entries were replayed", clean, r.rec.Entries)
		}
		closeAll(c)
		r.stop(true)
	}
}

func closeAll(conns ...*conn) {
	for _, c := range conns {
		if err := c.Conn.Close(); err != nil {
			c.t.Fatal(err)
		}
	}
}

func TestARollbackLeavesNothing(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	c := r.conn()
	r.write(c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE); INSERT INTO t (b) VALUES ('x')")
	head := r.Log().Head()
	c.file.PinHead(true)
	c.exec("BEGIN; INSERT INTO t (b) SELECT hex(randomblob(100)) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) SELECT i FROM n); ROLLBACK")
	if err := c.Exec("INSERT INTO t (b) VALUES ('y'), ('x')"); !errors.Is(err, sqlite3.CONSTRAINT) {
		t.Fatalf("error %v, want a constraint", err)
	}
	c.exec("BEGIN; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; ROLLBACK")
	c.file.PinHead(false)
	if got := c.query("SELECT count(*) FROM t; "); got != "1 " || r.Log().Head() != head {
		t.Fatalf("rows %q, head %v, want 1 and %v", got, r.Log().Head(), head)
	}
	if got := c.query("PRAGMA integrity_check"); got != "ok " {
		t.Fatal(got)
	}
	closeAll(c)
	r.stop(true)
}

func TestAReaderKeepsItsSnapshotThroughWritesAndCheckpoints(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	w, reader := r.conn(), r.conn()
	r.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
	r.write(w, "INSERT INTO t SELECT value, randomblob(300) FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value+1 FROM n WHERE value<2000) SELECT value FROM n)")
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	reader.exec("BEGIN")
	before := reader.query("SELECT sum(a), sum(length(b)), group_concat(hex(b)) FROM t")
	for i := range 5 {
		r.write(w, "UPDATE t SET b = randomblob(300)")
		r.write(w, fmt.Sprintf("DELETE FROM t WHERE a > %d", 1500-300*i))
		r.write(w, "VACUUM")
		if err := r.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if got := reader.query("SELECT sum(a), sum(length(b)), group_concat(hex(b)) FROM t"); got != before {
			t.Fatalf("round %d: the snapshot changed", i)
		}
	}
	reader.exec("PRAGMA shrink_memory")
	if got := reader.query("SELECT sum(a), sum(length(b)), group_concat(hex(b)) FROM t"); got != before {
		t.Fatal("the snapshot changed")
	}
	reader.exec("COMMIT")
	if got := reader.query("SELECT count(*) FROM t"); got != "300 " {
		t.Fatal(got)
	}
	if err := errors.Join(r.Checkpoint()); err != nil {
		t.Fatal(err)
	}
	r.write(w, "INSERT INTO t (b) VALUES (1)")
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if held := r.Store().HeldBytes(); held > 0 {
		t.Fatalf("%d bytes of versions are held that nobody needs", held)
	}
	if err := r.Store().Verify(); err != nil {
		t.Fatal(err)
	}
	closeAll(w, reader)
	r.stop(true)
}

func TestASnapshotThatTheHeadHasLeftBehindCannotWrite(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	w, other := r.conn(), r.conn()
	r.write(w, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	other.exec("BEGIN")
	other.query("SELECT * FROM t")
	r.write(w, "UPDATE t SET a = 2")
	if err := other.Exec("UPDATE t SET a = a + 1"); !errors.Is(err, sqlite3.BUSY_SNAPSHOT) {
		t.Fatalf("error %v, want %v", err, sqlite3.BUSY_SNAPSHOT)
	}
	other.exec("ROLLBACK")
	if got := w.query("SELECT a FROM t"); got != "2 " {
		t.Fatal(got)
	}
	closeAll(w, other)
	r.stop(true)
}

func TestLargeTransactionsSpillAndComeBack(t *testing.T) {
	dir := t.TempDir()
	o := testOptions
	o.CheckpointLogBytes = 1 << 40 // the copy below must find the log, not a checkpoint
	r, err := open(t, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	w := r.conn()
	r.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
	r.write(w, "INSERT INTO t SELECT value, randomblob(1000) FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value+1 FROM n WHERE value<12000) SELECT value FROM n)")
	r.write(w, "CREATE INDEX i ON t (b)")
	r.write(w, "DELETE FROM t WHERE a % 3 = 0")
	r.write(w, "VACUUM")
	if got := w.query("PRAGMA integrity_check"); got != "ok " {
		t.Fatal(got)
	}
	sum := w.query("SELECT count(*), sum(a), max(b) FROM t")
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closeAll(w)
	r.stop(true)
	o.MaxVersionBytes = 4 << 20
	for _, d := range []string{copied, dir} {
		if r, err = open(t, d, o); err != nil {
			t.Fatal(err)
		}
		c := r.conn()
		if got := c.query("SELECT count(*), sum(a), max(b) FROM t"); got != sum {
			t.Fatalf("%d entries replayed, then %.50q, want %.50q", r.rec.Entries, got, sum)
		}
		closeAll(c)
		r.stop(true)
	}
}

func TestStore_B06_FlippedBitInABaseFileIsFoundAtTheStart(t *testing.T) {
	dir := t.TempDir()
	r := mustOpen(t, dir)
	w := r.conn()
	r.write(w, "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, randomblob(9000))")
	closeAll(w)
	r.stop(true)
	files, _ := filepath.Glob(filepath.Join(dir, "db", "*.db"))
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, testOptions); !errors.Is(err, pagestore.ErrDamaged) {
		t.Fatalf("error %v, want %v", err, pagestore.ErrDamaged)
	}
}

func TestStore_B06_FlippedBitWhileRunningIsAnErrorNotAnAnswer(t *testing.T) {
	dir := t.TempDir()
	r := mustOpen(t, dir)
	w := r.conn()
	r.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	r.write(w, "INSERT INTO t SELECT value, randomblob(3000) FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value+1 FROM n WHERE value<50) SELECT value FROM n)")
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "db", "*.db"))
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("flip"), 20*4096+2000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c := r.conn()
	c.query("SELECT sum(length(b)) FROM t")
	if err := c.file.TakeError(); !errors.Is(err, pagestore.ErrDamaged) {
		t.Fatalf("error %v, want %v", err, pagestore.ErrDamaged)
	}
	closeAll(w, c)
	r.stop(true)
}
