package sqlitevfs_test

import (
	"fmt"
	"slices"
	"testing"

	"skein/internal/history"
	"skein/internal/pagestore"
)

// listed notes which pages the last commit has changed.
type listed struct {
	*memory
	pages []pagestore.PageNo
}

func (l *listed) Commit(db *pagestore.DB, base history.LSN, dirty []pagestore.Dirty, pages uint32) (history.LSN, error) {
	l.pages = nil
	for _, d := range dirty {
		l.pages = append(l.pages, d.No)
	}
	slices.Sort(l.pages)
	return l.memory.Commit(db, base, dirty, pages)
}

// A change counter alone is no change: an update is one page. What else stands on page 1 is committed.
func TestVFS_PageOneIsCommittedWhenItHasChanged(t *testing.T) {
	m := &listed{memory: &memory{}}
	v, _, _ := serveWith(t, "page-one", m)
	c := open(t, v.URI(2))
	exec(t, c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 1)")
	for _, step := range []struct {
		sql  string
		want string
	}{
		{"UPDATE t SET b = 2", "[2]"},
		{"UPDATE t SET b = 3", "[2]"},
		{"PRAGMA user_version = 7", "[1]"},
		{"UPDATE t SET b = zeroblob(5000)", "[1 2 3]"}, // the database grows
		{"UPDATE t SET b = 4", "[1 2 3]"},              // a page becomes free
		{"UPDATE t SET b = 5", "[2]"},
		{"CREATE TABLE u (a)", "[1 3]"},
	} {
		exec(t, c, step.sql)
		if got := fmt.Sprint(m.pages); got != step.want {
			t.Errorf("%s: pages %s, want %s", step.sql, got, step.want)
		}
	}
	if got := query(t, open(t, v.URI(2)), "PRAGMA integrity_check") + query(t, c, "PRAGMA user_version"); got != "ok 7 " {
		t.Errorf("%q", got)
	}
}

// Each of several connections sees what the others have committed, and its own, whatever it has in its cache.
func TestVFS_CachesFollowTheState(t *testing.T) {
	m, v, _, _ := serve(t, "caches")
	a, b, c := open(t, v.URI(2)), open(t, v.URI(2)), open(t, v.URI(2))
	exec(t, a, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 0)")
	n := 0
	for i := range 200 {
		writer := a
		if i*i%3 == 1 {
			writer = b
		}
		m.refused = nil
		if i%7 == 3 {
			m.refused = fmt.Errorf("no room")
		}
		if err := writer.Exec("UPDATE t SET b = b + 1"); err == nil {
			n++
		}
		if i%5 == 0 {
			exec(t, writer, "BEGIN; UPDATE t SET b = -1; ROLLBACK")
		}
		if i%2 == 0 {
			continue
		}
		if got, want := query(t, c, "SELECT b FROM t")+query(t, a, "SELECT b FROM t"), fmt.Sprintf("%d %d ", n, n); got != want {
			t.Fatalf("after %d: %q, want %q", i, got, want)
		}
	}
}
