package sqlitevfs_test

import (
	"errors"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/sqlitevfs"
)

// memory is a Committer without a log: what is committed is visible at once. It can be told to refuse.
type memory struct {
	at      history.LSN
	refused error
}

func (m *memory) Visible() history.LSN { return m.at }

func (m *memory) Commit(db *pagestore.DB, dirty []pagestore.Dirty, pages uint32) (history.LSN, error) {
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
		writes[i] = pagestore.Write{No: d.No, Page: d.Page, Sum: pagestore.PageSum(d.No, d.Page.Bytes())}
	}
	s, err := db.After(pages, writes, old)
	if err != nil {
		return 0, err
	}
	m.at++
	s.LSN = m.at
	db.Publish(s, writes, m.at-1)
	return m.at, nil
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
	store, err := pagestore.Open(t.TempDir(), pagestore.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if _, err := store.Create(2); err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	v, err := sqlitevfs.Register("refused", store, m, sqlitevfs.NewTempSpace(t.TempDir(), 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Unregister) // after the connections
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
