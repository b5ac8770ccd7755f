package commit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
	"skein/internal/vault"
)

// lead opens a node in dir and has it lead under a rule.
func lead(t *testing.T, dir string, names string, c commit.SyncConfig) *rig {
	t.Helper()
	r := idle(t, dir)
	if err := r.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.rule(names, c)
	return r
}

func idle(t *testing.T, dir string) *rig {
	t.Helper()
	r, err := bare(t, dir, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) rule(names string, c commit.SyncConfig) {
	r.t.Helper()
	var err error
	if c.Names, err = commit.ParseStandbyNames(names); err != nil {
		r.t.Fatal(err)
	}
	r.Configure(c)
}

// follower is a node that applies what its stream brings.
type follower struct {
	*rig
	name string
	end  func()
}

func follow(t *testing.T, dir, name string) *follower {
	t.Helper()
	f := &follower{rig: idle(t, dir), name: name}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Follow(ctx) }()
	f.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.stop(true)
	})
	return f
}

// stream is what lies between the two in these tests instead of a network. It steps only when told.
type stream struct {
	t      *testing.T
	leader *rig
	to     *follower
	reader *replog.Reader
}

func connect(t *testing.T, leader *rig, to *follower) *stream {
	t.Helper()
	r, err := leader.Log().NewReader(to.Log().Head().LSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return &stream{t, leader, to, r}
}

// send brings the follower everything up to lsn, on its disk, and tells nobody.
func (s *stream) send(lsn history.LSN) {
	s.t.Helper()
	for s.to.Log().Head().LSN < lsn {
		b, err := s.reader.Next(s.t.Context(), 1<<20)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.to.Receive(b.Frames, commit.AnyEpoch); err != nil {
			s.t.Fatal(err)
		}
	}
	defer s.to.StandIn()()
	if _, err := s.to.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// hand brings the follower everything without flushing it, and gives what is left to do by who stands in for its applier.
func (s *stream) hand(lsn history.LSN) (apply func()) {
	s.t.Helper()
	synctest.Wait() // the applier sleeps
	b, err := s.reader.Next(s.t.Context(), 1<<20)
	if err != nil {
		s.t.Fatal(err)
	}
	if head, err := s.to.Receive(b.Frames, commit.AnyEpoch); err != nil || head.LSN != lsn {
		s.t.Fatalf("received up to %v, want %d: %v", head, lsn, err)
	}
	apply = s.to.StandIn()
	if _, err := s.to.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	synctest.Wait()
	if s.to.Applied() >= lsn {
		s.t.Fatal("the applier was woken although somebody stands in for it")
	}
	return apply
}

// ack tells the leader how far the follower is, and the follower what is committed.
func (s *stream) ack() {
	s.leader.Acknowledge(s.to.name, s.to.Progress())
	s.to.LearnCommitted(s.leader.Committed(), commit.AnyEpoch)
}

func (s *stream) all() {
	s.t.Helper()
	head := s.leader.Log().Head().LSN
	s.send(head)
	s.ack()
	if s.leader.Committed() < head {
		s.t.Fatalf("committed %d after every follower has confirmed %d", s.leader.Committed(), head)
	}
	if err := s.to.VisibleMark().Wait(s.t.Context(), head); err != nil {
		s.t.Fatal(err)
	}
}

// put runs sql as the leader's writer and gives its LSN once that is on the leader's own disk.
func (r *rig) put(c *conn, sql string) history.LSN {
	r.t.Helper()
	c.file.PinHead(true)
	c.exec(sql)
	c.file.PinHead(false)
	lsn := c.file.TakeCommit()
	if _, err := r.Wait(r.t.Context(), lsn, commit.Local); err != nil {
		r.t.Fatal(err)
	}
	return lsn
}

const count = "SELECT count(*) FROM t"

func TestAFollowerHoldsTheLeadersBytesAndShowsWhatIsCommitted(t *testing.T) {
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
	s.all()
	r := f.conn()
	for i := range 20 {
		l.write(w, fmt.Sprintf("INSERT INTO t (b) SELECT randomblob(%d) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<50) SELECT i FROM n)", 10+100*i))
	}
	l.write(w, "DELETE FROM t WHERE a % 3 = 0; VACUUM")
	s.send(l.Log().Head().LSN)
	if got := r.query(count); got != "0 " {
		t.Fatalf("the follower shows %s rows before it has heard that they are committed", got)
	}
	s.ack()
	s.all()
	const all = "SELECT count(*), sum(a), hex(group_concat(b)) FROM t"
	if want, got := w.query(all), r.query(all); got != want {
		t.Fatalf("the follower shows %.40q, the leader %.40q", got, want)
	}
	same(t, l, f.rig)
	head := f.Log().Head()
	closeAll(w, r)
	f.end()
	l.stop(true)
	if a := l.Log().Head(); a != head {
		t.Fatalf("positions %v and %v", a, head)
	}
}

// same compares the databases of two nodes page by page, as far as a checksum can.
func same(t *testing.T, a, b *rig) {
	t.Helper()
	for _, db := range a.Store().All() {
		other := b.Store().DB(db.ID)
		if other == nil {
			t.Fatalf("database %d is missing", db.ID)
		}
		if db.Head() != other.Head() {
			t.Fatalf("database %d: %+v and %+v", db.ID, db.Head(), other.Head())
		}
	}
}

func TestReplication_J21_ACommitThatIsNotAcknowledgedIsNotSeenWhateverItsClientDoes(t *testing.T) {
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w, r := l.conn(), l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	s.all()
	l.rule("ANY 1 (f)", commit.SyncConfig{Level: commit.On})
	s.ack()

	lsn := l.put(w, "INSERT INTO t VALUES (1)")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Wait(gone, lsn, commit.On); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled wait: %v", err)
	}
	if alone, err := l.Wait(t.Context(), lsn, commit.Local); alone || err != nil {
		t.Fatalf("waiting for this disk only: %v, %v", alone, err)
	}
	if got := r.query(count); got != "0 " {
		t.Fatalf("another session sees %s rows of a commit that no follower has", got)
	}
	s.send(lsn)
	if got := r.query(count); got != "0 " {
		t.Fatalf("another session sees %s rows of a commit that no follower has confirmed", got)
	}
	s.ack()
	if alone, err := l.Wait(t.Context(), lsn, commit.On); alone || err != nil {
		t.Fatalf("after the acknowledgement: %v, %v", alone, err)
	}
	if got := r.query(count); got != "1 " {
		t.Fatalf("after the acknowledgement %s rows are seen", got)
	}
	closeAll(w, r)
	f.end()
	l.stop(true)
}

func TestReplication_J22_ARestartedLeaderDoesNotShowItsTail(t *testing.T) {
	dir := t.TempDir()
	l := lead(t, dir, "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	l.write(w, "INSERT INTO t VALUES (1)")
	s.all()
	l.rule("f", commit.SyncConfig{Level: commit.On})
	s.ack()
	l.put(w, "INSERT INTO t VALUES (2)")
	shown := l.Visible()

	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closeAll(w)
	s.reader.Close()
	l.stop(true)
	for _, d := range []string{crashed, dir} {
		l = idle(t, d)
		if err := l.Lead(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		r := l.conn()
		if got := r.query(count); got != "1 " {
			t.Fatalf("before it knows whom to ask, the restarted leader shows %s rows", got)
		}
		l.rule("f", commit.SyncConfig{Level: commit.On})
		if got := r.query(count); got != "1 " || l.Visible() != shown {
			t.Fatalf("the restarted leader shows %s rows, up to %d; before it was %d", got, l.Visible(), shown)
		}
		if err := l.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		s = connect(t, l, f)
		s.all()
		if got := r.query(count); got != "2 " {
			t.Fatalf("after the acknowledgement %s rows are seen", got)
		}
		closeAll(r)
		same(t, l, f.rig)
		s.reader.Close()
		l.stop(true)
		if d == crashed { // the other history began its second epoch too: let the follower have the entries of neither
			f.end()
			f = follow(t, t.TempDir(), "f")
		}
	}
	f.end()
}

type recorder struct {
	mu    sync.Mutex
	lines []string
	fail  error
	wake  chan struct{}
}

func (r *recorder) add(line string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	r.lines = append(r.lines, line)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

func (r *recorder) RecordDegraded(_ context.Context, from history.LSN, _ string) error {
	return r.add(fmt.Sprintf("degraded from %d", from))
}

func (r *recorder) RecordRestored(_ context.Context, first, last history.LSN, commits int64) error {
	return r.add(fmt.Sprintf("restored, %d to %d, %d commits", first, last, commits))
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "; ")
}

func TestGoingOnWithoutStandbysIsWrittenDownFirstAndUndone(t *testing.T) {
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w, r := l.conn(), l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	s.all()
	rec := &recorder{wake: make(chan struct{}, 1), fail: errors.New("no")}
	l.RecordWith(rec)
	patient := commit.SyncConfig{Level: commit.On, Timeout: time.Millisecond}
	l.rule("f", patient)
	s.ack()

	lsn := l.put(w, "INSERT INTO t VALUES (1)")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Wait(short, lsn, commit.On); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("without leave to degrade the wait gave %v", err)
	}
	hasty := patient
	hasty.Degrade = true
	l.rule("f", hasty)
	short, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Wait(short, lsn, commit.On); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("although it could not be written down, the wait gave %v", err)
	}
	if got := r.query(count); got != "0 " {
		t.Fatalf("%s rows are seen", got)
	}

	rec.mu.Lock()
	rec.fail = nil
	rec.mu.Unlock()
	if alone, err := l.Wait(t.Context(), lsn, commit.On); !alone || err != nil {
		t.Fatalf("alone %v, %v; want to be acknowledged by the leader alone", alone, err)
	}
	if got, want := rec.String(), fmt.Sprintf("degraded from %d", lsn); got != want {
		t.Fatalf("written down: %q, want %q", got, want)
	}
	if got := r.query(count); got != "1 " {
		t.Fatalf("%s rows are seen", got)
	}
	next := l.put(w, "INSERT INTO t VALUES (2)")
	if alone, err := l.Wait(t.Context(), next, commit.RemoteApply); !alone || err != nil {
		t.Fatalf("the next commit: alone %v, %v", alone, err)
	}
	<-rec.wake
	s.all()
	select {
	case <-rec.wake:
	case <-t.Context().Done():
	}
	if got, want := rec.String(), fmt.Sprintf("degraded from %d; restored, %d to %d, 2 commits", lsn, lsn, next); got != want {
		t.Fatalf("written down: %q, want %q", got, want)
	}
	if _, alone := l.Sync(); alone || l.AcknowledgedAlone() != 2 {
		t.Fatalf("alone %v, %d commits acknowledged alone", alone, l.AcknowledgedAlone())
	}
	l.rule("f", patient)
	last := l.put(w, "INSERT INTO t VALUES (3)")
	short, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Wait(short, last, commit.On); err == nil {
		t.Fatal("standbys are not waited for again")
	}
	closeAll(w, r)
	f.end()
	l.stop(true)
}

func TestRemoteApplyWaitsUntilTheFollowersReadersSeeIt(t *testing.T) {
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.RemoteApply})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	s.all()
	l.rule("f", commit.SyncConfig{Level: commit.RemoteApply})
	f.PauseApply()
	lsn := l.put(w, "INSERT INTO t VALUES (1)")
	s.send(lsn)
	s.ack()
	s.ack()
	if _, err := l.Wait(t.Context(), lsn, commit.On); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Wait(short, lsn, commit.RemoteApply); err == nil {
		t.Fatal("remote_apply is acknowledged while the follower does not apply")
	}
	r := f.conn()
	if got := r.query(count); got != "0 " {
		t.Fatalf("a follower that is paused shows %s rows", got)
	}
	f.ResumeApply()
	if err := f.VisibleMark().Wait(t.Context(), lsn); err != nil {
		t.Fatal(err)
	}
	s.ack()
	if _, err := l.Wait(t.Context(), lsn, commit.RemoteApply); err != nil {
		t.Fatal(err)
	}
	closeAll(w, r)
	f.end()
	l.stop(true)
}

func TestReplication_G02_ATailThatTheLeaderLostIsCutAndKept(t *testing.T) {
	dir, fdir := t.TempDir(), t.TempDir()
	l := lead(t, dir, "", commit.SyncConfig{Level: commit.On})
	f := follow(t, fdir, "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	s.all()
	before := t.TempDir() // the leader's disk, as a power cut will leave it
	if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	fork := l.Log().Head().LSN
	for range 3 {
		l.write(w, "INSERT INTO t (b) VALUES (randomblob(5000))")
	}
	s.send(l.Log().Head().LSN) // and not that they are committed
	closeAll(w)
	s.reader.Close()
	l.stop(true)

	l = lead(t, before, "", commit.SyncConfig{Level: commit.On})
	w = l.conn()
	l.write(w, "INSERT INTO t (b) VALUES ('another history')")
	if got := history.Fork(l.Log().Epochs(), l.Log().Head().LSN, f.Log().Epochs(), f.Log().Head().LSN); got != fork {
		t.Fatalf("fork at %d, want %d", got, fork)
	}
	if err := f.CutBack(f.Visible()-1, commit.AnyEpoch); !errors.Is(err, commit.ErrCommittedTail) {
		t.Fatalf("a cut below what readers have seen: %v", err)
	}
	if err := f.CutBack(fork, commit.AnyEpoch); err != nil {
		t.Fatal(err)
	}
	kept, err := filepath.Glob(filepath.Join(fdir, "vault", "*"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("in the vault: %v, %v", kept, err)
	}
	tail, err := vault.Open(kept[0], "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tail.Close() }()
	if tail.From != fork+1 || tail.To != fork+3 || tail.Missing != "" {
		t.Fatalf("the vault has %+v; want three entries behind %d", tail, fork)
	}
	s = connect(t, l, f)
	s.all()
	same(t, l, f.rig)
	r := f.conn()
	if got := r.query("SELECT group_concat(b) FROM t"); got != "another history " {
		t.Fatal(got)
	}
	closeAll(w, r)
	s.reader.Close()
	f.end()
	l.stop(true)
}

func TestLog_A09_AFlippedBitInTheLastEntryThatReadersHaveSeenIsDamage(t *testing.T) {
	dir := t.TempDir()
	l := lead(t, dir, "", commit.SyncConfig{Level: commit.On})
	w := l.conn()
	l.write(w, "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'a text that is easy to find')")
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closeAll(w)
	l.stop(true)
	segments, _ := filepath.Glob(filepath.Join(crashed, "log", "*.log"))
	b, err := os.ReadFile(segments[len(segments)-1])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(b), "easy to find")
	if at < 0 {
		t.Fatal("the entry is not in the log")
	}
	b[at] ^= 1
	if err := os.WriteFile(segments[len(segments)-1], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bare(t, crashed, testOptions); !errors.Is(err, replog.ErrDamaged) {
		t.Fatalf("error %v, want %v", err, replog.ErrDamaged)
	}
}

func TestADelayedFollowerIsDelayedAfterARestartToo(t *testing.T) {
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	dir := t.TempDir()
	f := follow(t, dir, "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	s.all()
	shown := f.Visible()
	f.SetApplyDelay(time.Hour)
	l.write(w, "DROP TABLE t")
	head := l.Log().Head().LSN
	s.send(head)
	s.ack()
	f.end()

	f = &follower{rig: idle(t, dir), name: "f"}
	f.SetApplyDelay(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Follow(ctx) }()
	f.LearnCommitted(l.Committed(), commit.AnyEpoch)
	if f.Visible() != shown || f.Applied() != shown {
		t.Fatalf("after a restart it has applied %d and shows %d, want %d for an hour", f.Applied(), f.Visible(), shown)
	}
	f.SetApplyDelay(0)
	if err := f.VisibleMark().Wait(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	same(t, l, f.rig)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.stop(true)
	closeAll(w)
	s.reader.Close()
	l.stop(true)
}

func TestALeaderThatIsAloneStaysSoUntilItsStandbysHaveCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lead(t, t.TempDir(), "f", commit.SyncConfig{Level: commit.On, Timeout: time.Second, Degrade: true})
		rec := &recorder{wake: make(chan struct{}, 9)}
		l.RecordWith(rec)
		w := l.conn()
		if alone, err := l.Wait(t.Context(), l.put(w, "CREATE TABLE t (a)"), commit.On); !alone || err != nil {
			t.Fatalf("alone %v, %v", alone, err)
		}
		time.Sleep(time.Minute)
		want := rec.String()
		if _, alone := l.Sync(); !alone {
			t.Errorf("its standbys have nothing and it waits for them: %s", want)
		}
		l.Acknowledge("f", commit.Progress{Received: 1, Flushed: 1, Applied: 1})
		time.Sleep(time.Minute)
		if _, alone := l.Sync(); !alone || rec.String() != want {
			t.Errorf("its standbys have little and it waits for them: %s", rec)
		}
		head := l.Log().Received()
		l.Acknowledge("f", commit.Progress{Received: head, Flushed: head, Applied: head})
		time.Sleep(time.Minute)
		if _, alone := l.Sync(); alone || rec.String() == want {
			t.Errorf("its standbys have everything and it goes on alone: %s", rec)
		}
		closeAll(w)
		l.stop(true)
	})
}

func TestAFollowerCommitsNothing(t *testing.T) {
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w, r := l.conn(), f.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	s.all()
	head := f.Log().Head()
	r.file.PinHead(true)
	if err := r.Exec("INSERT INTO t VALUES (1)"); err == nil {
		t.Error("it has committed")
	}
	if err := r.file.TakeError(); !errors.Is(err, commit.ErrNotLeading) {
		t.Errorf("error %v, want %v", err, commit.ErrNotLeading)
	}
	if _, err := l.Receive(nil, commit.AnyEpoch); err == nil {
		t.Error("the leader has received")
	}
	if f.Log().Head() != head {
		t.Errorf("its log ends at %v, want %v", f.Log().Head(), head)
	}
	closeAll(w, r)
	s.reader.Close()
	f.end()
	l.stop(true)
}

func TestWhoReceivesStandsInForTheApplier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lead(t, t.TempDir(), "", commit.SyncConfig{})
		f := follow(t, t.TempDir(), "f")
		s := connect(t, l, f)
		w := l.conn()
		l.put(w, "CREATE TABLE t (a)")
		s.all()

		stoodIn := map[history.LSN]bool{}
		f.OnApply(func(_ history.DatabaseID, lsn history.LSN, _ bool) {
			stoodIn[lsn] = bytes.Contains(debug.Stack(), []byte("applyInstead"))
		})
		little := l.put(w, "INSERT INTO t VALUES (1)")
		apply := s.hand(little)
		again := f.StandIn()
		apply()
		if f.Applied() != little {
			t.Errorf("applied %d, want %d", f.Applied(), little)
		}
		again()

		much := l.put(w, "INSERT INTO t SELECT randomblob(5000)")
		s.hand(much)()
		synctest.Wait()
		if f.Applied() != much {
			t.Errorf("applied %d, want %d", f.Applied(), much)
		}

		paused := l.put(w, "INSERT INTO t VALUES (2)")
		apply = s.hand(paused)
		f.PauseApply()
		apply()
		synctest.Wait()
		if f.Applied() == paused {
			t.Error("applied while that was paused")
		}
		f.ResumeApply()
		synctest.Wait()
		if f.Applied() != paused {
			t.Errorf("applied %d after the pause, want %d", f.Applied(), paused)
		}

		short := l.put(w, "INSERT INTO t VALUES (3)")
		apply = s.hand(short)
		f.FindFull() // whether there is memory until there is room again, the applier looks
		apply()
		synctest.Wait()
		if f.Applied() != short {
			t.Errorf("applied %d, want %d", f.Applied(), short)
		}
		if want := map[history.LSN]bool{little: true, much: false, paused: false, short: false}; !maps.Equal(stoodIn, want) {
			t.Errorf("who stood in applied %v, want %v", stoodIn, want)
		}

		closeAll(w)
		f.end()
		l.stop(true)
	})
}

// A pause may come while several entries are applied in one go, by whomever. It has come when it is said to have, and nothing is applied after that.
func TestNothingIsAppliedOncePaused(t *testing.T) {
	for name, standsIn := range map[string]bool{"by the applier": false, "by who receives": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := lead(t, t.TempDir(), "", commit.SyncConfig{})
				f := follow(t, t.TempDir(), "f")
				s := connect(t, l, f)
				w := l.conn()
				l.put(w, "CREATE TABLE t (a)")
				s.all()
				synctest.Wait()
				first := l.put(w, "INSERT INTO t VALUES (1)")
				last := l.put(w, "INSERT INTO t VALUES (2)")
				f.OnApply(func(_ history.DatabaseID, lsn history.LSN, _ bool) {
					if lsn != first {
						return
					}
					f.PauseApply()
					if !f.ApplyPaused() || f.ApplyStopped() {
						t.Error("the pause has come before the entry was applied")
					}
				})
				if standsIn {
					s.hand(last)()
				} else if b, err := s.reader.Next(t.Context(), 1<<20); err != nil {
					t.Fatal(err)
				} else if _, err := f.Receive(b.Frames, commit.AnyEpoch); err != nil {
					t.Fatal(err)
				} else if _, err := f.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				f.LearnCommitted(last, commit.AnyEpoch)
				if f.Applied() != first || f.Visible() != first || !f.ApplyStopped() {
					t.Errorf("applied %d, %d are seen, and it is said that this is all: %v; want %d", f.Applied(), f.Visible(), f.ApplyStopped(), first)
				}
				f.ResumeApply()
				synctest.Wait()
				if f.Applied() != last || f.ApplyStopped() {
					t.Errorf("applied %d after the pause, want %d", f.Applied(), last)
				}
				closeAll(w)
				s.reader.Close()
				f.end()
				l.stop(true)
			})
		})
	}
}

// What cannot be applied is not passed over, whoever has tried.
func TestTheApplierHearsWhatWhoStoodInFailedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lead(t, t.TempDir(), "", commit.SyncConfig{})
		f := &follower{rig: idle(t, t.TempDir()), name: "f"}
		done := make(chan error, 1)
		go func() { done <- f.Follow(t.Context()) }()
		s := connect(t, l, f)
		w := l.conn()
		at := l.put(w, "CREATE TABLE t (a)")
		s.all()

		wrong := replog.Entry{Epoch: l.Leads(), Kind: replog.Transaction, Database: testDB, Pages: l.Store().DB(testDB).Head().Pages}
		lsn, err := l.Log().Append(&wrong, nil)
		if err == nil {
			err = l.Log().Wait(t.Context(), lsn)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.hand(lsn)()
		if err := <-done; !errors.Is(err, pagestore.ErrDiverged) || f.Applied() != at {
			t.Errorf("applied up to %d, not %d: %v", f.Applied(), at, err)
		}
		closeAll(w)
		f.stop(true)
		l.stop(true)
	})
}
