package commit_test

import (
	"errors"
	"os"
	"testing"

	"skein/internal/commit"
	"skein/internal/history"
)

// crash copies a node's directory as a killed process leaves it.
func crash(t *testing.T, dir string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return copied
}

// The applier waits with an entry in its hands while the log is cut, and another leader's entries take
// the place of the one that it has.
func TestReplication_G02_WhatWasReadBeforeACutIsNotAppliedAfterIt(t *testing.T) {
	dir := t.TempDir()
	l := lead(t, dir, "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	s.all()
	l.write(w, "INSERT INTO t (b) VALUES ('kept')")
	fork := l.Log().Head().LSN
	before := crash(t, dir)
	l.write(w, "INSERT INTO t (b) VALUES (randomblob(9000))") // too much for who stands in for the applier
	applied := make(chan struct{}, 1)
	f.OnApply(func(_ history.DatabaseID, lsn history.LSN, _ bool) {
		if lsn == fork {
			f.PauseApply() // what comes next in the same batch is in the applier's hands
			applied <- struct{}{}
		}
	})
	s.send(l.Log().Head().LSN)
	<-applied
	closeAll(w)
	s.reader.Close()
	l.stop(true)

	l = lead(t, before, "", commit.SyncConfig{Level: commit.On})
	if err := f.CutBack(fork, commit.AnyEpoch); err != nil {
		t.Fatal(err)
	}
	s = connect(t, l, f)
	w = l.conn()
	l.write(w, "INSERT INTO t (b) VALUES ('another history')")
	s.send(l.Log().Head().LSN)
	s.ack()
	f.ResumeApply()
	s.all()
	r := f.conn()
	if got := r.query("SELECT group_concat(b) FROM t"); got != "kept,another history " {
		t.Fatal(got)
	}
	same(t, l, f.rig)
	closeAll(w, r)
	s.reader.Close()
	f.end()
	l.stop(true)
}

// What the leader has called committed may be shown at any moment, also while the follower does not apply.
func TestACutBelowWhatIsCommittedIsRefused(t *testing.T) {
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	s.all()
	f.PauseApply()
	l.write(w, "INSERT INTO t VALUES (1)")
	committed := l.Log().Head().LSN
	s.send(committed)
	s.ack()
	l.write(w, "INSERT INTO t VALUES (2)")
	s.send(committed + 1)
	if err := f.CutBack(committed-1, commit.AnyEpoch); !errors.Is(err, commit.ErrCommittedTail) {
		t.Errorf("a cut to %d, with %d committed and %d shown: %v", committed-1, committed, f.Visible(), err)
	}
	if err := f.CutBack(committed, commit.AnyEpoch); err != nil {
		t.Error(err)
	}
	f.ResumeApply()
	s.reader.Close()
	s = connect(t, l, f)
	s.all()
	same(t, l, f.rig)
	closeAll(w)
	s.reader.Close()
	f.end()
	l.stop(true)
}
