package commit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
)

// reading is somebody who has asked what a read must see.
type reading struct {
	t     *testing.T
	at    history.LSN
	epoch history.Epoch
	err   error
	over  chan struct{}
}

func (r *rig) read(ctx context.Context, key string) *reading {
	f := &reading{t: r.t.(*testing.T), over: make(chan struct{})}
	go func() {
		defer close(f.over)
		f.at, f.epoch, f.err = r.ReadPosition(ctx, key)
	}()
	synctest.Wait()
	return f
}

// waits says that there is no answer yet.
func (f *reading) waits(why string) {
	f.t.Helper()
	synctest.Wait()
	select {
	case <-f.over:
		f.t.Fatalf("it is answered %d, %v, %s", f.at, f.err, why)
	default:
	}
}

func (f *reading) gets(want history.LSN) {
	f.t.Helper()
	synctest.Wait()
	select {
	case <-f.over:
	default:
		f.t.Fatal("there is no answer")
	}
	if f.err != nil || f.at != want {
		f.t.Fatalf("it must see %d, %v; want %d", f.at, f.err, want)
	}
}

// bound has a node lead whose followers have everything, under a rule that the cluster counts on.
func bound(t *testing.T, names string, o commit.Options) *rig {
	t.Helper()
	r, err := bare(t, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.rule(names, commit.SyncConfig{Level: commit.On, Bound: true})
	r.acked("b", "c", "d")
	return r
}

// acked has followers acknowledge everything.
func (r *rig) acked(names ...string) {
	head := r.Log().Received()
	for _, name := range names {
		r.Acknowledge(name, commit.Progress{Received: head, Flushed: head, Applied: head})
	}
}

func TestALeaderAnswersOnceFollowersHaveConfirmedSinceItWasAsked(t *testing.T) { // L2
	synctest.Test(t, func(t *testing.T) {
		a := bound(t, "ANY 1 (b, c)", testOptions)
		defer a.stop(true)
		at := a.Visible()
		before := a.Question() // goes out with the entries, and nobody waits for it
		if before.Round == 0 || before.Epoch != a.Leads() || before.Hurry {
			t.Fatalf("%+v", before)
		}
		first := a.read(t.Context(), "")
		first.waits("and nobody has confirmed anything")
		a.Confirm("b", before.Round)
		first.waits("by a question that was under way when it came")
		q := a.Question()
		if q.Round <= before.Round || !q.Hurry || a.Asking() != q.Round {
			t.Fatalf("%+v after %+v, %d is asked", q, before, a.Asking())
		}
		second := a.read(t.Context(), "")
		third := a.read(t.Context(), "")
		a.Confirm("x", q.Round)
		first.waits("by somebody who is not named")
		a.Confirm("c", q.Round)
		first.gets(at)
		second.waits("by a question that was under way when it came")
		again := a.Question()
		if again.Round <= q.Round || !again.Hurry {
			t.Fatalf("%+v after %+v", again, q)
		}
		a.Confirm("b", again.Round)
		second.gets(at)
		third.gets(at) // one question for both
		if a.Asking() != 0 {
			t.Error("somebody is still waited for")
		}
	})
}

func TestAsManyConfirmAsTheRuleNeeds(t *testing.T) { // L2
	for _, names := range []string{"ANY 2 (b, c, d)", "FIRST 2 (b, c, d)"} {
		t.Run(names, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := bound(t, names, testOptions)
				defer a.stop(true)
				r := a.read(t.Context(), "")
				q := a.Question()
				a.Confirm("c", q.Round)
				a.Confirm("c", q.Round)
				r.waits("by one of two")
				a.Forget("c")
				a.Confirm("b", q.Round)
				r.waits("by one of two, the other being gone")
				a.Confirm("d", q.Round)
				r.gets(a.Visible())
			})
		})
	}
}

func TestALeaderThatHasPromisedAnotherEpochDoesNotAnswer(t *testing.T) { // L2, P1
	synctest.Test(t, func(t *testing.T) {
		a := bound(t, "ANY 1 (b)", testOptions)
		defer a.stop(true)
		r := a.read(t.Context(), "")
		q := a.Question()
		if _, err := a.Promise(a.Leads() + 1); err != nil {
			t.Fatal(err)
		}
		a.Confirm("b", q.Round)
		<-r.over
		if !errors.Is(r.err, commit.ErrNotLeading) {
			t.Errorf("it is answered %d, %v", r.at, r.err)
		}
		if _, _, err := a.ReadPosition(t.Context(), ""); !errors.Is(err, commit.ErrNotLeading) {
			t.Errorf("asked afterwards: %v", err)
		}
		if a.Accepts(q.Epoch) || !a.Accepts(q.Epoch+1) {
			t.Error("it accepts the epoch that it has promised away")
		}
	})
}

func TestANewLeaderAnswersOnceItsEpochHasBegun(t *testing.T) { // P4
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a := lead(t, dir, "", commit.SyncConfig{Level: commit.On})
		a.stop(true)
		a = idle(t, dir)
		defer a.stop(true)
		if err := a.Lead(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		early := a.read(t.Context(), "")
		early.waits("and it does not know by which rule it leads")
		a.rule("ANY 1 (b)", commit.SyncConfig{Level: commit.On, Bound: true})
		if q := a.Question(); q.Round != 0 {
			t.Errorf("%+v is asked before the epoch has begun", q)
		}
		early.waits("before its epoch's first entry is acknowledged")
		head := a.Log().Received()
		a.acked("b")
		early.waits("and nobody has confirmed anything")
		keyed := a.read(t.Context(), "k")
		for range 2 {
			a.Confirm("b", a.Question().Round)
			synctest.Wait()
		}
		early.gets(head)
		keyed.gets(head) // what was committed under the key before, this leader does not know
	})
}

func TestWhoAnswersChangesWhileSomebodyWaits(t *testing.T) { // Q1
	synctest.Test(t, func(t *testing.T) {
		a := bound(t, "ANY 1 (b)", testOptions)
		defer a.stop(true)
		r := a.read(t.Context(), "")
		old := a.Question()
		a.rule("ANY 1 (c)", commit.SyncConfig{Level: commit.On, Bound: true})
		synctest.Wait()
		a.Confirm("b", old.Round)
		a.Confirm("b", a.Question().Round)
		r.waits("by a follower that is not asked any more")
		a.Confirm("c", a.Question().Round)
		r.gets(a.Visible())

		r = a.read(t.Context(), "")
		r.waits("and nobody has confirmed anything")
		a.rule("", commit.SyncConfig{Level: commit.On})
		r.gets(a.Visible())
	})
}

func TestALeaderWithoutFollowersAnswersByItsLease(t *testing.T) { // L4
	synctest.Test(t, func(t *testing.T) {
		var leased atomic.Bool
		o := testOptions
		o.MayAcknowledge = func(ctx context.Context) error {
			for !leased.Load() {
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		}
		a, err := bare(t, t.TempDir(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer a.stop(true)
		leased.Store(true)
		if err := a.Lead(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		a.rule("", commit.SyncConfig{})
		if d, ok := a.Staleness(); !ok || d != 0 {
			t.Errorf("with a lease, staleness %v, %v", d, ok)
		}
		a.read(t.Context(), "").gets(a.Visible())
		leased.Store(false)
		time.Sleep(time.Minute)
		if d, ok := a.Staleness(); !ok || d != time.Minute {
			t.Errorf("a minute after its lease, staleness %v, %v", d, ok)
		}
		limited, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		r := a.read(limited, "")
		r.waits("without a lease")
		<-r.over
		if !errors.Is(r.err, context.DeadlineExceeded) {
			t.Errorf("it is answered %d, %v", r.at, r.err)
		}
	})
}

// A round says something about the time when it began, not about when it was answered: between, somebody else may have come to lead.
func TestAConfirmationIsAsOldAsItsQuestion(t *testing.T) { // I7
	synctest.Test(t, func(t *testing.T) {
		a := bound(t, "ANY 1 (b)", testOptions)
		defer a.stop(true)
		if d, ok := a.Staleness(); ok {
			t.Errorf("before anybody has confirmed that it leads, staleness %v", d)
		}
		q := a.Question()
		time.Sleep(time.Second)
		a.Confirm("b", q.Round)
		if d, ok := a.Staleness(); !ok || d != time.Second {
			t.Errorf("staleness %v, %v", d, ok)
		}
		time.Sleep(time.Second)
		if d, ok := a.Staleness(); !ok || d != 2*time.Second {
			t.Errorf("staleness %v, %v", d, ok)
		}
	})
}

func TestANodeIsAsFreshAsWhatItsReadersSee(t *testing.T) { // I7
	synctest.Test(t, func(t *testing.T) {
		a := lead(t, t.TempDir(), "", commit.SyncConfig{})
		f := follow(t, t.TempDir(), "f")
		s := connect(t, a, f)
		w := a.conn()
		a.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
		s.all()
		is := func(want time.Duration, known bool) {
			t.Helper()
			if d, ok := f.Staleness(); ok != known || d != want {
				t.Errorf("staleness %v, %v; want %v, %v", d, ok, want, known)
			}
		}
		is(0, false)
		f.Vouch(commit.SafeTime{LSN: f.Visible(), At: f.Now()})
		time.Sleep(time.Second)
		is(time.Second, true)
		for range 800 { // more than is remembered
			at := a.put(w, "INSERT INTO t DEFAULT VALUES")
			f.Vouch(commit.SafeTime{LSN: at, At: f.Now()})
			time.Sleep(time.Millisecond)
		}
		is(1800*time.Millisecond, true) // nothing of that is visible
		f.Vouch(commit.SafeTime{LSN: f.Visible() + 1000, At: f.Now() - time.Minute})
		is(1800*time.Millisecond, true) // what it has known for a minute is no news
		head := a.Log().Received()
		s.send(head)
		s.to.LearnCommitted(head-400, commit.AnyEpoch)
		if err := f.Await(t.Context(), head-400); err != nil {
			t.Fatal(err)
		}
		if d, ok := f.Staleness(); !ok || d < 400*time.Millisecond || d > 420*time.Millisecond {
			t.Errorf("with half of it, staleness %v, %v", d, ok)
		}
		f.Vouch(commit.SafeTime{LSN: f.Visible(), At: f.Now()}) // by another leader, that knows nothing of what comes next
		is(0, true)
		closeAll(w)
		s.reader.Close()
		f.end()
		a.stop(true)
	})
}

// heap is how much memory is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAMillionCausalityKeysTakeBoundedMemory(t *testing.T) {
	a := lead(t, t.TempDir(), "", commit.SyncConfig{})
	defer a.stop(true)
	first := a.Visible()
	position := func(key string) history.LSN {
		at, _, err := a.ReadPosition(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := position("nobody's"); at != first {
		t.Errorf("a key that was never used counts as %d, want %d, with which the epoch began", at, first)
	}
	before := heap()
	const keys = 1_000_000
	for i := range keys {
		a.NoteCommit(fmt.Sprintf("user:%d", i), first+1+history.LSN(i))
	}
	if used := heap() - before; used > 16<<20 && used < 1<<40 {
		t.Errorf("a million keys take %d bytes", used)
	}
	for i := 0; i < keys; i += 997 {
		at, is := position(fmt.Sprintf("user:%d", i)), first+1+history.LSN(i)
		if at < is || i > keys-50_000 && at != is {
			t.Fatalf("key %d counts as %d; its newest commit is %d", i, at, is)
		}
	}
	if at := position("user:0"); at >= first+keys-60_000 {
		t.Errorf("what is forgotten counts as %d, the newest there is", at)
	}
	a.NoteCommit("user:0", 5*keys)
	a.NoteCommit("user:0", 4*keys) // whose client has heard of it later
	if at := position("user:0"); at != 5*keys {
		t.Errorf("a key that is used again counts as %d", at)
	}
}
