package commit_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/replog"
)

// waiting has a client wait for an entry, and gives what it hears once hang up is called, or before.
func (r *rig) waiting(lsn history.LSN, level commit.Level) (heard func() error, hangUp func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := r.Wait(ctx, lsn, level)
		done <- err
	}()
	return func() error { return <-done }, cancel
}

func (r *rig) run(ctx context.Context) (end func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Follow(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

// Two nodes change places, and back.
func TestALeaderBecomesAFollowerAndLeadsAgain(t *testing.T) { // I5, G22
	a := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	b := follow(t, t.TempDir(), "b")
	s := connect(t, a, b)
	w := a.conn()
	a.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	s.all()
	a.rule("b", commit.SyncConfig{Level: commit.On})
	s.ack()
	a.write(w, "INSERT INTO t (b) VALUES ('unacknowledged')")
	tail := a.Log().Received()
	shown := a.Visible()
	heard, hangUp := a.waiting(tail, commit.On)
	local, hangUpLocal := a.waiting(tail+1, commit.Local) // the next one, which is about to be written

	at, err := a.Promise(7)
	if err != nil || at.LSN != tail {
		t.Fatalf("promised at %v, %v; the log ends at %d", at, err, tail)
	}
	if a.Leading() || a.Visible() != shown || a.Applied() != tail || a.Committed() != shown {
		t.Fatalf("leading %v, shows %d, applied %d, committed %d", a.Leading(), a.Visible(), a.Applied(), a.Committed())
	}
	w.file.PinHead(true)
	if err := w.Exec("INSERT INTO t (b) VALUES ('too late')"); err == nil || !errors.Is(w.file.TakeError(), commit.ErrNotLeading) {
		t.Errorf("a node that has promised another epoch has committed: %v", err)
	}
	w.file.PinHead(false)
	closeAll(w) // its cache holds what is taken back

	// The other one never had the tail. It leads, and writes something else under the same numbers.
	s.reader.Close()
	b.end()
	b = &follower{rig: idle(t, b.dir), name: "b"}
	if _, err := b.Promise(7); err != nil {
		t.Fatal(err)
	}
	if err := b.Lead(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	b.rule("", commit.SyncConfig{Level: commit.On})
	w = b.conn()
	for range 3 {
		b.write(w, "INSERT INTO t (b) VALUES ('b')")
	}
	if err := a.CutBack(shown, 7); err != nil {
		t.Fatal(err)
	}
	stop := a.run(t.Context())
	back := connect(t, b.rig, &follower{rig: a, name: "a"})
	back.all()
	if a.Visible() <= tail+1 {
		t.Fatalf("it shows %d, not more than the %d that clients wait for", a.Visible(), tail+1)
	}
	hangUp()
	hangUpLocal()
	if err := errors.Join(heard(), local()); !errors.Is(err, context.Canceled) {
		t.Errorf("clients of the old leadership heard of success, by another history: %v", err)
	}
	same(t, a, b.rig)
	closeAll(w)

	// And back: the new leadership waits for its own followers alone.
	head := b.Log().Received()
	if _, err := b.Promise(9); err != nil || b.Leading() {
		t.Fatal(err)
	}
	back.reader.Close()
	stop()
	if _, err := a.Promise(9); err != nil {
		t.Fatal(err)
	}
	if err := a.Lead(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	a.rule("b", commit.SyncConfig{Level: commit.On})
	a.Acknowledge("b", commit.Progress{Received: head, Flushed: head, Applied: head})
	if a.Visible() > head {
		t.Errorf("it shows %d; only %d was acknowledged", a.Visible(), head)
	}
	end := b.run(t.Context())
	s = connect(t, a, b)
	s.all()
	r := a.conn()
	if got := r.query("SELECT group_concat(b) FROM t"); got != "b,b,b " {
		t.Error(got)
	}
	same(t, a, b.rig)
	closeAll(r)
	s.reader.Close()
	end()
	b.stop(true)
	a.stop(true)
}

// What followers confirm of what a leader has inherited proves nothing until they have its first own entry: another
// node may know of an epoch between.
func TestWhatWasInheritedIsCommittedWithTheFirstEntryOfTheEpoch(t *testing.T) { // P4
	dir := t.TempDir()
	a := lead(t, dir, "b", commit.SyncConfig{Level: commit.On})
	w := a.conn()
	a.put(w, "CREATE TABLE t (a)")
	inherited := a.put(w, "INSERT INTO t VALUES (1)")
	closeAll(w)
	a.stop(true)
	a = lead(t, dir, "b", commit.SyncConfig{Level: commit.On})
	a.Acknowledge("b", commit.Progress{Received: inherited, Flushed: inherited, Applied: inherited})
	if a.Visible() != 0 {
		t.Errorf("entries up to %d are shown by the word of a follower that does not know the epoch", a.Visible())
	}
	first := a.Log().Received()
	a.Acknowledge("b", commit.Progress{Received: first, Flushed: first, Applied: first})
	if a.Visible() != first {
		t.Errorf("shown %d, want %d", a.Visible(), first)
	}
	a.stop(true)
}

func TestEpochsOnlyGrow(t *testing.T) { // I2
	r := lead(t, t.TempDir(), "", commit.SyncConfig{})
	if err := r.Lead(t.Context(), 5); err == nil {
		t.Error("a leader leads once more")
	}
	r.StepDown()
	r.StepDown()
	if err := r.Lead(t.Context(), 1); !errors.Is(err, commit.ErrPassed) {
		t.Errorf("lead epoch 1 again: %v", err)
	}
	if _, err := r.Promise(4); err != nil {
		t.Fatal(err)
	}
	if err := r.Lead(t.Context(), 3); !errors.Is(err, commit.ErrPassed) {
		t.Errorf("lead epoch 3 with 4 promised: %v", err)
	}
	if _, err := r.Promise(3); !errors.Is(err, commit.ErrPromised) {
		t.Errorf("promise 3 after 4: %v", err)
	}
	if err := r.Lead(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if at, err := r.Promise(4); err != nil || !r.Leading() || at != r.Log().Head() {
		t.Errorf("the leader of epoch 4 promised it again: %v %v, leading %v", at, err, r.Leading())
	}
	r.StepDown()
	if _, err := r.Promise(6); err != nil {
		t.Fatal(err)
	}
	if err := r.Lead(t.Context(), 0); err != nil || r.Leads() != 6 {
		t.Errorf("the next epoch is %d, %v; 6 was promised", r.Leads(), err)
	}
	r.stop(true)
}

// A transaction that stands on what an earlier leadership of the same node wrote must not write over what has come
// since.
func TestATransactionDoesNotOutliveItsLeadership(t *testing.T) { // G22
	a := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	w, old := a.conn(), a.conn()
	a.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 0)")
	old.file.PinHead(true)
	old.exec("BEGIN IMMEDIATE")
	old.exec("UPDATE t SET b = b + 1")
	a.StepDown()

	l := lead(t, crash(t, a.dir), "", commit.SyncConfig{Level: commit.On})
	lw := l.conn()
	l.write(lw, "UPDATE t SET b = b + 10")
	end := a.run(t.Context())
	s := connect(t, l, &follower{rig: a, name: "a"})
	s.all()
	end()
	if err := a.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	a.rule("", commit.SyncConfig{Level: commit.On})
	head := a.Log().Received()
	if err := old.Exec("COMMIT"); err == nil || !errors.Is(old.file.TakeError(), commit.ErrNotLeading) {
		t.Errorf("it was committed over what has come since: %v", err)
	}
	if a.Log().Received() != head {
		t.Error("it is in the log")
	}
	_ = old.Exec("ROLLBACK")
	closeAll(w, old, lw)
	s.reader.Close()
	l.stop(true)
	a.stop(true)
}

func TestWhatNoFollowerBacksIsAcknowledgedOnlyWithLeave(t *testing.T) { // L5
	leave, refused := error(nil), errors.New("the lease is over")
	asked := 0
	o := testOptions
	o.MayAcknowledge = func(context.Context) error { asked++; return leave }
	r, err := open(t, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	w := r.conn()
	r.write(w, "CREATE TABLE t (a)")
	at := r.put(w, "INSERT INTO t VALUES (1)")
	for _, names := range []string{"", "f"} {
		r.rule(names, commit.SyncConfig{Level: commit.On})
		r.Acknowledge("f", commit.Progress{Received: at, Flushed: at, Applied: at})
		for level := commit.Off; level <= commit.RemoteApply; level++ {
			backed := names != "" && level > commit.Local
			asked, leave = 0, nil
			if _, err := r.Wait(t.Context(), at, level); err != nil || asked == 0 != backed {
				t.Errorf("%q at %v: %v, asked %d times", names, level, err, asked)
			}
			leave = refused
			if _, err := r.Wait(t.Context(), at, level); errors.Is(err, refused) == backed {
				t.Errorf("%q at %v without leave: %v", names, level, err)
			}
		}
	}
	closeAll(w)
	r.stop(true)
}

func TestLeaveThatComesAfterTheEndIsTooLate(t *testing.T) { // L5
	var r *rig
	o := testOptions
	o.MayAcknowledge = func(context.Context) error { r.StepDown(); return nil }
	r, err := open(t, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	w := r.conn()
	w.file.PinHead(true)
	w.exec("CREATE TABLE t (a)")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Wait(ctx, w.file.TakeCommit(), commit.On); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acknowledged by a node that does not lead any more: %v", err)
	}
	w.file.PinHead(false)
	closeAll(w)
	r.stop(true)
}

// A leader that goes on alone ceases to lead: nothing of that is left in its next leadership.
func TestAnEndedLeadershipTakesItsDegradationWithIt(t *testing.T) {
	r := lead(t, t.TempDir(), "f", commit.SyncConfig{Level: commit.On, Timeout: time.Millisecond, Degrade: true})
	rec := &recorder{wake: make(chan struct{}, 9)}
	r.RecordWith(rec)
	w := r.conn()
	if alone, err := r.Wait(t.Context(), r.put(w, "CREATE TABLE t (a)"), commit.On); !alone || err != nil {
		t.Fatal(alone, err)
	}
	closeAll(w)
	r.StepDown()
	if _, alone := r.Sync(); alone {
		t.Error("a follower is alone")
	}
	if err := r.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.rule("f", commit.SyncConfig{Level: commit.On, Degrade: true})
	time.Sleep(250 * time.Millisecond) // time enough for who would restore it
	if _, alone := r.Sync(); alone || strings.Contains(rec.String(), "restored") {
		t.Errorf("alone %v: %s", alone, rec)
	}
	if r.Visible() >= r.Log().Received() {
		t.Error("it shows what nobody has acknowledged")
	}
	r.stop(true)
}

func TestAPromiseOutlivesEverything(t *testing.T) { // P1
	dir := t.TempDir()
	r := lead(t, dir, "", commit.SyncConfig{Level: commit.On})
	w := r.conn()
	r.write(w, "CREATE TABLE t (a)")
	w.file.PinHead(true)
	w.exec("INSERT INTO t VALUES (1)") // nobody waits for its flush
	w.file.PinHead(false)
	at, err := r.Promise(3)
	if err != nil {
		t.Fatal(err)
	}
	if flushed := r.Log().Flushed.Load(); at != r.Log().Head() || flushed != at.LSN {
		t.Errorf("promised at %v, flushed %d, head %v", at, flushed, r.Log().Head())
	}
	killed := crash(t, dir)
	closeAll(w)
	r.stop(true)
	for _, d := range []string{dir, killed} {
		r = idle(t, d)
		if r.Promised() != 3 || r.Log().Head() != at {
			t.Errorf("after a restart %d is promised, and the log ends at %v", r.Promised(), r.Log().Head())
		}
		if err := r.Lead(t.Context(), 2); !errors.Is(err, commit.ErrPassed) {
			t.Errorf("lead epoch 2: %v", err)
		}
		if _, err := r.Receive(nil, 2); !errors.Is(err, commit.ErrPromised) {
			t.Errorf("receive under epoch 2: %v", err)
		}
		r.stop(true)
	}
	path := filepath.Join(dir, "promise")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 { // of both copies
		bad := append([]byte(nil), b...)
		bad[i] ^= 4
		bad[len(b)/2+i] ^= 4
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		p, _, err := commit.Open(dir, testOptions)
		if err == nil {
			_ = p.Close(false)
		}
		if !errors.Is(err, replog.ErrDamaged) {
			t.Errorf("with byte %d of the promise changed: %v", i, err)
		}
	}
}

// After a promise nothing in the name of a lower epoch has an effect.
func TestAPromiseIsAFence(t *testing.T) { // P1, G13
	l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
	f := follow(t, t.TempDir(), "f")
	s := connect(t, l, f)
	w := l.conn()
	l.write(w, "CREATE TABLE t (a)")
	s.all()
	l.write(w, "INSERT INTO t VALUES (1)")
	s.send(l.Log().Received())
	at, err := f.Promise(5)
	if err != nil {
		t.Fatal(err)
	}
	shown := f.Visible()
	l.write(w, "INSERT INTO t VALUES (2)")
	b, err := s.reader.Next(t.Context(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Receive(b.Frames, 4); !errors.Is(err, commit.ErrPromised) {
		t.Errorf("received under epoch 4: %v", err)
	}
	f.LearnCommitted(at.LSN, 4)
	if f.Visible() != shown || f.Committed() != shown {
		t.Errorf("shows %d, %d being committed, by the word of epoch 4", f.Visible(), f.Committed())
	}
	if err := f.CutBack(shown, 4); !errors.Is(err, commit.ErrPromised) {
		t.Errorf("cut back under epoch 4: %v", err)
	}
	if f.Log().Head() != at {
		t.Errorf("the log ends at %v, which was sealed at %v", f.Log().Head(), at)
	}
	if _, err := f.Receive(b.Frames, 5); err != nil {
		t.Errorf("received under epoch 5: %v", err)
	}
	f.LearnCommitted(at.LSN, 5)
	if err := f.VisibleMark().Wait(t.Context(), at.LSN); err != nil {
		t.Error(err)
	}
	closeAll(w)
	s.reader.Close()
	f.end()
	l.stop(true)
}

func TestTaint(t *testing.T) { // P5
	dir := t.TempDir()
	r := idle(t, dir)
	restart := func(d string) {
		r.stop(true)
		r = idle(t, d)
	}
	tainted := func(what string, want bool) {
		t.Helper()
		if got := r.Tainted(); got != "" != want {
			t.Errorf("%s: tainted %q, want %v", what, got, want)
		}
	}
	tainted("a new node", false)
	restart(crash(t, dir))
	tainted("killed, having acknowledged nothing early", false)
	if err := errors.Join(r.AcksReceived(), r.AcksReceived()); err != nil || !r.AcknowledgesReceived() {
		t.Fatal(err)
	}
	tainted("while it lives", false)
	killed := crash(t, r.dir)
	restart(r.dir)
	tainted("stopped in order", false)
	again := crash(t, r.dir)
	restart(again)
	tainted("stopped in order, and killed later", false)
	restart(killed)
	tainted("killed, having acknowledged what it had only received", true)
	restart(r.dir)
	tainted("and restarted in order", true)
	if _, err := r.Promise(8); err != nil {
		t.Fatal(err)
	}
	restart(r.dir)
	tainted("and having promised", true)

	if err := r.Lead(t.Context(), 0); err != nil { // its log grows
		t.Fatal(err)
	}
	r.StepDown()
	head := r.Log().Received()
	r.Regain(head + 1)
	tainted("with one entry missing", true)
	if err := r.CutBack(head, 8); err != nil {
		t.Fatal(err)
	}
	r.Regain(head)
	tainted("with everything there", false)
	for saved := true; saved; {
		time.Sleep(10 * time.Millisecond)
		b, err := os.ReadFile(filepath.Join(r.dir, "promise"))
		if err != nil {
			t.Fatal(err)
		}
		saved = strings.Contains(string(b), "without warning")
	}
	restart(crash(t, r.dir))
	tainted("restarted after that", false)
	if err := r.Taint("a copy is being installed"); err != nil {
		t.Fatal(err)
	}
	restart(crash(t, r.dir))
	tainted("by a copy under way", true)
	r.Regain(1)
	tainted("and everything there", false)
	r.stop(true)
	if err := commit.TaintDir(r.dir, "a copy is to be installed"); err != nil {
		t.Fatal(err)
	}
	r = idle(t, r.dir)
	tainted("by a copy installed while nobody had it open", true)
	if r.Promised() != 8 {
		t.Errorf("%d is promised", r.Promised())
	}
	r.stop(true)
}

func TestNothingIsStalledWhileNothingIsWritten(t *testing.T) {
	r := lead(t, t.TempDir(), "", commit.SyncConfig{})
	if _, err := r.Promise(3); err != nil {
		t.Fatal(err)
	}
	if d := r.Stalled(); d != 0 {
		t.Errorf("stalled for %v", d)
	}
	r.stop(true)
}

// Clients commit, a stream brings entries, and a promise comes: its position is the last of everything that is in the
// name of a lower epoch.
func TestNothingIsAppendedBehindASealedPosition(t *testing.T) { // G13
	for round := range 10 {
		l := lead(t, t.TempDir(), "", commit.SyncConfig{Level: commit.On})
		f := follow(t, t.TempDir(), "f")
		w := l.conn()
		l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
		s := connect(t, l, f)
		var sent, written sync.WaitGroup
		written.Go(func() {
			w.file.PinHead(true)
			for i := 0; ; i++ {
				if err := w.Exec("INSERT INTO t (b) VALUES (randomblob(300))"); err != nil {
					if !errors.Is(w.file.TakeError(), commit.ErrNotLeading) {
						t.Errorf("insert: %v", err)
					}
					return
				}
				l.FlushSoon()
			}
		})
		sent.Go(func() {
			for {
				b, err := s.reader.Next(t.Context(), 1<<12)
				if err == nil {
					_, err = f.Receive(b.Frames, 3)
				}
				if err != nil {
					if !errors.Is(err, commit.ErrPromised) {
						t.Errorf("receive: %v", err)
					}
					return
				}
				f.LearnCommitted(l.Committed(), 3)
			}
		})
		time.Sleep(time.Duration(round%5) * time.Millisecond)
		for _, r := range []*rig{f.rig, l} {
			at, err := r.Promise(4)
			if err != nil {
				t.Fatal(err)
			}
			shown := r.Visible()
			time.Sleep(time.Millisecond)
			if r.Log().Head() != at || r.Log().Flushed.Load() != at.LSN || r.Visible() > at.LSN || r == l && r.Visible() != shown {
				t.Errorf("sealed at %v; now the log ends at %v, of which %d is flushed and %d shown", at, r.Log().Head(), r.Log().Flushed.Load(), r.Visible())
			}
			if r == f.rig {
				sent.Wait()
			}
		}
		written.Wait()
		closeAll(w)
		s.reader.Close()
		f.end()
		l.stop(true)
	}
}
