package sqlitevfs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/sqlitevfs"
)

// A connection that stays open sees what a new one sees, rows and schema, whatever has happened since it looked: commits of
// others, its own, such as were refused, a tail that is not shown yet or that is cut, checkpoints. Connections that have
// written are opened anew after a cut, as an engine's are: SQLite counts changes of the schema, so that another tail
// may come to the same count.
func TestVFS_WhatStaysOpenIsNeverStale(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &memory{hides: true}
			v, store, _ := serveWith(t, fmt.Sprint("stale-", seed), m)
			s := &stale{t: t, rng: rand.New(rand.NewPCG(seed, 1)), memory: m, vfs: v, store: store, wrote: map[int]bool{}}
			for range 4 {
				s.conns = append(s.conns, open(t, v.URI(2)))
			}
			for range 200 {
				s.step()
			}
		})
	}
}

type stale struct {
	t      *testing.T
	rng    *rand.Rand
	memory *memory
	vfs    *sqlitevfs.VFS
	store  *pagestore.Store

	conns []*sqlite3.Conn
	wrote map[int]bool
	done  []string
}

func (s *stale) step() {
	i, m := s.rng.IntN(len(s.conns)), s.memory
	switch n := s.rng.IntN(20); {
	case n < 9:
		s.write(i)
	case n < 11:
		s.note("all is shown")
		m.hidden = 0
	case n == 11:
		s.cut()
	case n == 12:
		s.note("checkpoint")
		if err := s.store.Checkpoint(m.Visible()); err != nil {
			s.t.Fatal(err)
		}
	default:
		s.note("%d looks", i)
		fresh := open(s.t, s.vfs.URI(2))
		if got, want := seen(s.conns[i]), seen(fresh); got != want {
			s.t.Fatalf("connection %d sees\n%s\nand a new one\n%s\nafter\n%s", i, got, want, strings.Join(s.done, "\n"))
		}
		_ = fresh.Close()
	}
}

func (s *stale) note(format string, args ...any) {
	s.done = append(s.done, fmt.Sprintf(format, args...))
}

// write runs a transaction on the newest state. Many fail, because there is no such table.
func (s *stale) write(i int) {
	n := s.rng.IntN(4)
	sql := []string{
		fmt.Sprintf("CREATE TABLE t%d (a INTEGER PRIMARY KEY, b, c)", n),
		fmt.Sprintf("CREATE INDEX i%d ON t%d (c)", n, n),
		fmt.Sprintf("DROP TABLE t%d", n),
		fmt.Sprintf("INSERT INTO t%d (b, c) VALUES (zeroblob(%d), 1)", n, s.rng.IntN(6000)),
		fmt.Sprintf("UPDATE t%d SET c = c + 1", n),
		fmt.Sprintf("UPDATE t%d SET b = zeroblob(%d)", n, s.rng.IntN(3000)),
		fmt.Sprintf("DELETE FROM t%d WHERE a %% 2 = 0", n),
		fmt.Sprintf("BEGIN; CREATE TABLE u%d (a); SAVEPOINT s; CREATE TABLE t%d (a, b, c); ROLLBACK TO s; COMMIT", n, n),
		fmt.Sprintf("PRAGMA cache_size=5; BEGIN; CREATE TABLE u%d (a); INSERT INTO u%d VALUES (zeroblob(90000)); COMMIT", n, n),
		"VACUUM",
	}[s.rng.IntN(10)]
	if s.rng.IntN(5) == 0 {
		s.memory.refused = errors.New("no room")
	}
	c := s.conns[i]
	file, err := sqlitevfs.FileOf(c)
	if err != nil {
		s.t.Fatal(err)
	}
	file.PinHead(true)
	err = c.Exec(sql)
	s.note("%d: %s: refused %v: %v", i, sql, s.memory.refused, err)
	if !c.GetAutocommit() {
		exec(s.t, c, "ROLLBACK")
	}
	file.PinHead(false)
	s.memory.refused, s.wrote[i] = nil, true
}

// cut takes some of what is not shown back.
func (s *stale) cut() {
	m := s.memory
	n := history.LSN(s.rng.IntN(int(m.hidden) + 1))
	s.note("%d are cut", n)
	if err := s.store.CutAbove(m.at - n); err != nil {
		s.t.Fatal(err)
	}
	m.at, m.hidden = m.at-n, m.hidden-n
	for i := range s.wrote {
		_ = s.conns[i].Close()
		s.conns[i] = open(s.t, s.vfs.URI(2))
	}
	clear(s.wrote)
}

// seen is what there is: the schema as it is stored, and the tables as SQLite knows them.
func seen(c *sqlite3.Conn) string {
	all := rows(c, "SELECT name || ' ' || sql FROM sqlite_schema")
	for n := range 4 {
		all = append(all, fmt.Sprintf("t%d", n))
		all = append(all, rows(c, fmt.Sprintf("SELECT count(*) || ' ' || total(length(b)) || ' ' || total(c) FROM t%d", n))...)
		all = append(all, fmt.Sprintf("u%d", n))
		all = append(all, rows(c, fmt.Sprintf("SELECT count(*) || ' ' || total(length(a)) FROM u%d", n))...)
	}
	return strings.Join(all, "\n")
}

func rows(c *sqlite3.Conn, sql string) (all []string) {
	st, _, err := c.Prepare(sql)
	if err != nil {
		return []string{err.Error()}
	}
	defer st.Close()
	for st.Step() {
		all = append(all, st.ColumnText(0))
	}
	if err := st.Err(); err != nil {
		all = append(all, err.Error())
	}
	return slices.Clip(all)
}
