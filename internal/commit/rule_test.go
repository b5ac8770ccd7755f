package commit

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"skein/internal/history"
	"skein/internal/replog"
)

func named(t *testing.T, names string) SyncConfig {
	t.Helper()
	n, err := ParseStandbyNames(names)
	if err != nil {
		t.Fatal(err)
	}
	return SyncConfig{Names: n, Level: On, Degrade: true}
}

func at(lsn history.LSN) func() history.LSN { return func() history.LSN { return lsn } }

// A commit is let go by a leader that is alone, and before it has looked whether it was alone, the standbys are
// waited for again.
func TestACommitThatTheLeaderAcknowledgedAloneIsToldSoAlsoRightAfterIt(t *testing.T) {
	var r rule
	r.configure(named(t, "f"), at(0))
	r.acknowledge("f", Progress{Received: 8, Flushed: 8, Applied: 8})
	r.setAlone(true)
	if committed, _ := r.advance(10); committed != 10 {
		t.Fatalf("alone, committed is %d", committed)
	}
	r.setAlone(false)
	r.forget("f")
	for lsn, want := range map[history.LSN]bool{8: false, 9: true, 10: true, 11: false} {
		if got, _ := r.how(lsn, On); got != want {
			t.Errorf("entry %d acknowledged alone: %v, want %v", lsn, got, want)
		}
	}
	r.acknowledge("f", Progress{Received: 10, Flushed: 9, Applied: 9})
	if committed, _ := r.advance(12); committed != 10 {
		t.Errorf("committed went from 10 to %d", committed)
	}
	for _, q := range []struct {
		lsn           history.LSN
		level         Level
		alone, proved bool
	}{{9, On, false, true}, {10, On, true, false}, {10, RemoteWrite, false, true}, {11, On, false, false}} {
		if alone, proved := r.how(q.lsn, q.level); alone != q.alone || proved != q.proved {
			t.Errorf("entry %d at %v: alone %v, proved %v; what the standby has by now is not the leader's alone", q.lsn, q.level, alone, proved)
		}
	}
}

// Commits look whether anybody is named after they are flushed. Those that have seen the old answer must not wait
// for what the new rule never does.
func TestAChangeOfTheNamesLeavesNobodyWaiting(t *testing.T) {
	var r rule
	r.configure(named(t, "f"), at(0))
	r.advance(5)
	r.configure(named(t, ""), func() history.LSN { // flushed just now, by one who has seen that f is named
		if !r.asynchronous.Load() {
			t.Error("a commit that is flushed from here on would still wait for f")
		}
		return 6
	})
	for l := RemoteWrite; l <= RemoteApply; l++ {
		if got := r.marks[l].Load(); got != 6 {
			t.Errorf("level %v stands at %d, want 6", l, got)
		}
	}
	r.configure(named(t, "f"), func() history.LSN { // flushed just now, by one who has seen that nobody is named
		if r.asynchronous.Load() {
			t.Error("a commit that is flushed from here on would wait only to be visible")
		}
		return 7
	})
	if committed, ok := r.advance(9); committed != 7 || !ok {
		t.Errorf("committed %d, want 7: what was flushed while nobody was named", committed)
	}
}

func TestALeaderThatMayNotGoOnAloneAnyMoreDoesNot(t *testing.T) {
	var r rule
	c := named(t, "f")
	r.configure(c, at(0))
	r.setAlone(true)
	r.advance(3)
	c.Degrade = false
	r.configure(c, at(3))
	if committed, _ := r.advance(5); committed != 3 || r.isAlone() {
		t.Errorf("committed %d, alone %v, after leave to go on alone was taken back at 3", committed, r.isAlone())
	}
	r.setAlone(true)
	if r.isAlone() {
		t.Error("it went on alone without leave")
	}
}

// The leader went on alone, and a rule that others count on came into force before it had gone back.
func TestALeaderThatIsBoundDoesNotGoOnAlone(t *testing.T) {
	var r rule
	c := named(t, "f")
	r.configure(c, at(0))
	r.setAlone(true)
	r.advance(3)
	c.Bound = true
	r.configure(c, at(3))
	if committed, _ := r.advance(5); committed != 3 || r.isAlone() {
		t.Errorf("committed %d, alone %v, although it has been bound since 3", committed, r.isAlone())
	}
	r.setAlone(true)
	if committed, _ := r.advance(5); committed != 3 || r.isAlone() {
		t.Errorf("committed %d, alone %v, although it is bound", committed, r.isAlone())
	}
}

func TestWhatOthersSeeIsWhatTheClustersLevelAsksFor(t *testing.T) {
	for level, want := range map[Level]history.LSN{Local: 9, RemoteWrite: 8, On: 7, RemoteApply: 7} {
		var r rule
		c := named(t, "f")
		c.Level = level
		r.acknowledge("f", Progress{Received: 10, Flushed: 10, Applied: 10})
		if committed, ok := r.advance(9); ok {
			t.Errorf("%v: %d is committed before it is known whose word counts", level, committed)
		}
		r.forget("f")
		r.configure(c, at(0))
		r.acknowledge("f", Progress{Received: 8, Flushed: 7, Applied: 6})
		r.acknowledge("g", Progress{Received: 9, Flushed: 9, Applied: 9}) // not named
		if committed, ok := r.advance(9); committed != want || !ok {
			t.Errorf("%v: committed %d, want %d", level, committed, want)
		}
		for l, want := range map[Level]history.LSN{RemoteWrite: 8, On: 7, RemoteApply: 6} {
			if got := r.marks[l].Load(); got != want {
				t.Errorf("with the cluster at %v, level %v stands at %d, want %d", level, l, got, want)
			}
		}
		r.acknowledge("f", Progress{Received: 20, Flushed: 20, Applied: 20}) // the follower may be ahead of the leader's disk
		if committed, _ := r.advance(9); committed != 9 || r.marks[On].Load() != 9 {
			t.Errorf("%v: committed %d, level on stands at %d, of what the leader has flushed up to 9", level, committed, r.marks[On].Load())
		}
	}
}

// The marks of the levels move before what readers see does. A client that has heard of its commit must find it.
func TestACommitIsNotAnsweredBeforeOthersCanSeeIt(t *testing.T) {
	p, _, err := Open(t.TempDir(), Options{SegmentBytes: 4 * replog.MaxChunk, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	lsn := p.log.Received()
	if flushed := p.log.Flushed.Load(); flushed < lsn {
		t.Errorf("it leads, and the beginning of its epoch, entry %d, is not on its disk", lsn)
	}
	p.Configure(named(t, "f"))
	p.role.Load().rule.marks[On].Advance(lsn)
	p.role.Load().rule.marks[RemoteApply].Advance(lsn)
	for _, level := range []Level{On, RemoteApply} {
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := p.Wait(short, lsn, level); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at %v: %v, while readers see %d of %d", level, err, p.Visible(), lsn)
		}
		cancel()
	}
	p.visible.Advance(lsn)
	for _, level := range []Level{On, RemoteApply} {
		if _, err := p.Wait(t.Context(), lsn, level); err != nil {
			t.Errorf("at %v: %v", level, err)
		}
	}
	p.Configure(SyncConfig{})
	if lsn, err = p.log.Append(&replog.Entry{Epoch: 1, Kind: replog.EpochStart}, nil); err != nil {
		t.Fatal(err)
	}
	p.log.Flushed.Advance(lsn) // by another goroutine, which has not yet said so
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Wait(short, lsn, On); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nobody named: %v, while readers see %d of %d", err, p.Visible(), lsn)
	}
	if err := p.Close(false); err != nil {
		t.Fatal(err)
	}
}

// Entries go to the applier while they are flushed. What is shown and named in the hint must be on the disk: a log
// that ends before the hint would be taken for damaged.
func TestAFollowerShowsNothingThatIsNotOnItsDisk(t *testing.T) {
	p, _, err := Open(t.TempDir(), Options{SegmentBytes: 4 * replog.MaxChunk, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := p.log.Append(&replog.Entry{Epoch: 1, Kind: replog.EpochStart}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.applier.applied.Store(uint64(lsn))
	p.LearnCommitted(lsn, AnyEpoch)
	if p.Visible() != 0 {
		t.Errorf("entry %d is shown, and flushed up to %d", p.Visible(), p.log.Flushed.Load())
	}
	if err := p.log.Wait(t.Context(), lsn); err != nil {
		t.Fatal(err)
	}
	if p.Visible() != lsn {
		t.Errorf("entry %d is shown, want %d", p.Visible(), lsn)
	}
	if err := p.Close(true); err != nil {
		t.Fatal(err)
	}
}

// A promise may come while an epoch begins: between its first entry and the moment from when on this node leads.
func TestAnEpochThatIsPromisedAwayWhileItBeginsDoesNotBegin(t *testing.T) {
	p, _, err := Open(t.TempDir(), Options{SegmentBytes: 4 * replog.MaxChunk, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.bind(6); err != nil {
		t.Fatal(err)
	}
	if p.Promised() != 0 {
		t.Error("it says that it has promised what is not on its disk yet")
	}
	if err := p.begin(5, 1); !errors.Is(err, ErrPassed) || p.Leading() {
		t.Errorf("it leads: %v", err)
	}
	if err := p.begin(6, 1); err != nil || p.Leads() != 6 {
		t.Error(err)
	}
	if err := p.Close(false); err != nil {
		t.Fatal(err)
	}
}
