package sqlitevfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/sqlitevfs"
)

// memory is a Committer without a log: what is committed is visible at once. It can be told to refuse, or to show
// nothing yet.
type memory struct {
	at      history.LSN
	refused error
	hides   bool
	hidden  history.LSN // so many of the newest
}

func (m *memory) Visible() history.LSN { return m.at - m.hidden }

func (m *memory) Commit(db *pagestore.DB, _ history.LSN, dirty []pagestore.Dirty, pages uint32) (history.LSN, error) {
	if m.refused != nil {
		return 0, m.refused
	}
	writes, old := make([]pagestore.Write, len(dirty)), make([]uint64, len(dirty))
	buf := make([]byte, pagestore.PageSize)
	for i, d := range dirty {
		var err error
		if old[i], err = db.ReadHead(d.No, buf); err != nil {
			return 0, err
		}
		if err := d.Page.Read(buf); err != nil {
			return 0, err
		}
		writes[i] = pagestore.Write{No: d.No, Page: d.Page, Sum: pagestore.PageSum(d.No, buf)}
	}
	s, err := db.After(pages, writes, old)
	if err != nil {
		return 0, err
	}
	visible := m.Visible()
	m.at++
	if m.hides {
		m.hidden++
	}
	s.LSN = m.at
	db.Publish(s, writes, visible)
	return m.at, nil
}

// serve gives an empty database with its Committer.
func serve(t *testing.T, name string) (*memory, *sqlitevfs.VFS, *pagestore.Store, string) {
	t.Helper()
	m := &memory{}
	v, store, dir := serveWith(t, name, m)
	return m, v, store, dir
}

func serveWith(t *testing.T, name string, c sqlitevfs.Committer) (*sqlitevfs.VFS, *pagestore.Store, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := pagestore.Open(dir, pagestore.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if _, err := store.Create(2); err != nil {
		t.Fatal(err)
	}
	v, err := sqlitevfs.Register(name, store, c, sqlitevfs.NewTempSpace(t.TempDir(), 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Unregister) // after the connections
	return v, store, dir
}

func open(t *testing.T, uri string) *sqlite3.Conn {
	t.Helper()
	c, err := sqlite3.Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	exec(t, c, "PRAGMA page_size=4096; PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=OFF")
	return c
}

func exec(t *testing.T, c *sqlite3.Conn, sql string) {
	t.Helper()
	if err := c.Exec(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query(t *testing.T, c *sqlite3.Conn, sql string) string {
	t.Helper()
	s, _, err := c.Prepare(sql)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := ""
	for s.Step() {
		got += s.ColumnText(0) + " "
	}
	if err := s.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// SQLite learns at the very end of its commit that there is none, when its cache already counts the pages
// as written. Another connection's commit can then have the same change counter as the refused one.
func TestVFS_D01_ARefusedCommitLeavesNothingInTheCache(t *testing.T) {
	m, v, _, _ := serve(t, "refused")
	a, b := open(t, v.URI(2)), open(t, v.URI(2))
	exec(t, a, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 1), (2, 1)")
	query(t, b, "SELECT b FROM t")

	m.refused = errors.New("no room")
	if err := a.Exec("UPDATE t SET b = 100 WHERE a = 1"); err == nil {
		t.Fatal("a refused commit has succeeded")
	}
	m.refused = nil
	exec(t, b, "UPDATE t SET b = 2 WHERE a = 2")
	for _, c := range []*sqlite3.Conn{a, b} {
		if got := query(t, c, "SELECT b FROM t"); got != "1 2 " {
			t.Errorf("%q, want the second update alone", got)
		}
	}
	exec(t, a, "UPDATE t SET b = b + 1")
	for _, c := range []*sqlite3.Conn{a, b} {
		if got := query(t, c, "SELECT b FROM t") + query(t, c, "PRAGMA integrity_check"); got != "2 3 ok " {
			t.Errorf("%q, want both rows one higher", got)
		}
	}
}

// A page that cannot be read, because it is damaged or its snapshot was ended, is an error of the
// statement, never an answer.
func TestVFS_B06_APageThatCannotBeReadIsAnError(t *testing.T) {
	m, v, store, dir := serve(t, "damaged")
	c := open(t, v.URI(2))
	exec(t, c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, zeroblob(3000)), (2, zeroblob(3000)), (3, 'x')")
	if err := store.Checkpoint(m.at); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "0002.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(pagestore.PageSize); at < st.Size(); at += pagestore.PageSize {
		if _, err := f.WriteAt([]byte("flip"), at+pagestore.PageSize-10); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	reader := open(t, v.URI(2))
	s, _, err := reader.Prepare("SELECT length(b) FROM t")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for s.Step() {
		t.Errorf("an answer from a damaged page: %s", s.ColumnText(0))
	}
	if err := s.Err(); !errors.Is(err, sqlite3.IOERR) {
		t.Errorf("error %v, want %v", err, sqlite3.IOERR)
	}
}

// A draft takes temporary space once it is too much for memory, and gives it back when it ends or becomes the writer's. The writer takes none.
func TestWhatADraftSpillsIsBounded(t *testing.T) {
	_, v, _, _ := serve(t, "spills") // 1 MB beside the 16 MB that a transaction has in memory, and the 2 MB that SQLite has
	a, b := open(t, v.URI(2)), open(t, v.URI(2))
	exec(t, a, "CREATE TABLE t (a, b)")
	begin := func(c *sqlite3.Conn, draft bool, rows int) error {
		f, err := sqlitevfs.FileOf(c)
		if err != nil {
			t.Fatal(err)
		}
		return errors.Join(f.Draft(draft), c.Exec(fmt.Sprintf(
			"BEGIN; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO t SELECT i, zeroblob(4000) FROM n", rows)))
	}
	const fits, tooMuch = 4750, 6000
	if err := begin(b, true, tooMuch); !errors.Is(err, sqlite3.FULL) {
		t.Errorf("a draft that takes more than there is: %v", err)
	}
	if !b.GetAutocommit() {
		exec(t, b, "ROLLBACK")
	}
	for range 3 {
		if err := begin(b, true, fits); err != nil {
			t.Errorf("a draft that takes what there is: %v", err)
		}
		exec(t, b, "ROLLBACK")
	}
	if err := begin(a, true, fits); err != nil {
		t.Fatal(err)
	}
	if err := begin(b, true, fits); !errors.Is(err, sqlite3.FULL) {
		t.Errorf("another one beside it: %v", err)
	}
	if f, _ := sqlitevfs.FileOf(a); f.Draft(false) != nil {
		t.Fatal("nobody has written, and the draft does not become the writer's")
	}
	if !b.GetAutocommit() {
		exec(t, b, "ROLLBACK")
	}
	if err := begin(b, true, fits); err != nil {
		t.Errorf("another one beside the writer: %v", err)
	}
	exec(t, b, "ROLLBACK")
	exec(t, a, "COMMIT")
	if err := begin(a, false, tooMuch); err != nil {
		t.Errorf("a writer: %v", err)
	}
	exec(t, a, "COMMIT")
}
