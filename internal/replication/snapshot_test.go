package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
)

// noise commits a transaction that no compression makes smaller.
func (s *node) noise(seed uint64, pages ...pagestore.PageNo) history.LSN {
	s.t.Helper()
	lsn := s.commit(func(i int, b []byte) {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
	}, pages...)
	if _, err := s.Wait(context.Background(), lsn, commit.On); err != nil {
		s.t.Fatal(err)
	}
	return lsn
}

// trimmed makes a leader whose log no longer begins at its first entry.
func trimmed(t *testing.T, n *network) *node {
	t.Helper()
	a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
	for i := range uint64(10) {
		a.noise(i, pagesUpTo(60)...)
	}
	if err := a.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if a.Log().First() == 1 {
		t.Fatal("the log was not trimmed")
	}
	return a
}

// fetched copies a node into a new directory and has it follow.
func (n *network) fetched(name, from, dir string) (*node, error) {
	l := n.link(name)
	if _, err := l.Fetch(context.Background(), from, dir, FetchOptions{SegmentBytes: testSegment}); err != nil {
		return nil, err
	}
	return n.start(name, dir).follow(from), nil
}

func (n *network) mustFetch(name, from, dir string) *node {
	n.t.Helper()
	s, err := n.fetched(name, from, dir)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

func TestNewFollowerOfATrimmedLogTakesASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		b.needsSnapshot(false)
		b.stop(true)
		b = n.mustFetch("b", "a", b.dir)
		defer b.stop(true)
		a.write(1, 7)
		a.sameAs(b)
		if b.Log().First() == 1 {
			t.Error("it has the whole log")
		}

		c := n.mustFetch("c", "b", dirOf(t, "c")) // from a follower
		defer c.stop(true)
		a.write(2, 8)
		a.sameAs(c)
	})
}

// What has come is written while the next comes in: the two must not be in one place.
func TestSnapshotOfManyMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		a.noise(10, pagesUpTo(6*askPages)...)
		b := n.mustFetch("b", "a", dirOf(t, "b"))
		defer b.stop(true)
		a.sameAs(b)
	})
}

func TestSnapshotWhileWritesGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		stop := background(func(ctx context.Context) error {
			for i := uint64(100); ctx.Err() == nil; i++ {
				a.noise(i, pagesUpTo(20)...)
				if err := a.Checkpoint(); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		}, t)
		n.between("b", "a").delayBy(back, 5*time.Millisecond)
		b := n.mustFetch("b", "a", dirOf(t, "b"))
		defer b.stop(true)
		time.Sleep(20 * time.Millisecond)
		stop()
		a.sameAs(b)
	})
}

func TestOnlyPagesThatDifferTravel(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		b := n.mustFetch("b", "a", dirOf(t, "b"))
		b.stop(true)
		a.noise(77, 3, 4, 9)
		before := n.between("b", "a").passed(back)
		l := n.link("b")
		var last Progress
		at, err := l.Fetch(t.Context(), "a", b.dir, FetchOptions{SegmentBytes: testSegment, Progress: func(p Progress) { last = p }})
		if err != nil || at.LSN != a.Visible() {
			t.Fatal(at, err)
		}
		if last.Total != 60*pagestore.PageSize || last.Done != last.Total || last.Moved != 3*pagestore.PageSize {
			t.Errorf("%+v", last)
		}
		if moved := n.between("b", "a").passed(back) - before; moved > 5*pagestore.PageSize {
			t.Errorf("%d bytes travelled for 3 pages", moved)
		}
		b = n.start("b", b.dir).follow("a")
		defer b.stop(true)
		a.sameAs(b)
	})
}

func TestDatabaseThatShrankOrWentIsTheSameAfterwards(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		dir := dirOf(t, "b")
		if err := os.MkdirAll(filepath.Join(dir, "db"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, old := range []string{"0002.db", "0009.db"} { // of another time: longer, and one that is no more
			if err := os.WriteFile(filepath.Join(dir, "db", old), make([]byte, 100*pagestore.PageSize+17), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b := n.mustFetch("b", "a", dir)
		defer b.stop(true)
		a.sameAs(b)
	})
}

func TestSnapshotInterruptedAnywhereIsResumed(t *testing.T) { // C01, C03, C08
	for _, fault := range []struct {
		name string
		set  func(*faults, direction, int64)
	}{{"cut", (*faults).cutAfter}, {"flip", (*faults).flipAfter}} {
		for _, d := range []direction{there, back} {
			for _, at := range []int64{30, 200, 260, 320, 1000, 60_000, 240_000} {
				t.Run(fmt.Sprint(fault.name, d, at), func(t *testing.T) {
					inBubble(t, func(t *testing.T, n *network) {
						a := trimmed(t, n)
						defer a.stop(true)
						dir := dirOf(t, "b")
						fault.set(n.between("b", "a"), d, at)
						b, err := n.fetched("b", "a", dir)
						var refused *Refused
						if errors.As(err, &refused) && fault.name == "flip" { // a hello that says another cluster, say
							b, err = n.fetched("b", "a", dir)
						}
						if err != nil {
							t.Fatal(err)
						}
						defer b.stop(true)
						a.write(1, 7)
						a.sameAs(b)
					})
				})
			}
		}
	}
}

func TestUnfinishedSnapshotCannotBeOpened(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		dir := dirOf(t, "b")
		n.between("b", "a").cutAfter(back, 100_000)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Millisecond) // the connection is cut by then, and the next one not yet made
			cancel()
		}()
		l := n.link("b")
		if _, err := l.Fetch(ctx, "a", dir, FetchOptions{SegmentBytes: testSegment}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if !pagestore.Installing(filepath.Join(dir, "db")) {
			t.Error("the directory is not marked")
		}
		if _, _, err := commit.Open(dir, commit.Options{Cluster: testCluster, SegmentBytes: testSegment}); !errors.Is(err, pagestore.ErrInstalling) {
			t.Errorf("it was opened: %v", err)
		}
		b := n.mustFetch("b", "a", dir)
		defer b.stop(true)
		a.sameAs(b)
	})
}

func TestSnapshotThatDoesNotFitTouchesNothing(t *testing.T) { // C07
	inBubble(t, func(t *testing.T, n *network) {
		l := n.listen("huge")
		serving := background(func(context.Context) error {
			w, err := n.receiveAs("huge", l, kindSnapshotWanted)
			if err != nil {
				return err
			}
			head := snapshotHead{At: history.Position{Epoch: 1, LSN: 9}, Databases: []pagestore.ImageDB{{ID: 2, Pages: 1<<32 - 1}}}
			_ = w.write(kindSnapshot, 0, 1, head.encode())
			_, _ = w.read()
			return w.close()
		}, t)
		dir := dirOf(t, "b")
		me := n.link("b")
		if _, err := me.Fetch(t.Context(), "huge", dir, FetchOptions{}); !errors.Is(err, ErrNoRoom) {
			t.Error(err)
		}
		serving()
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("something was made: %v", left)
		}
	})
}

func TestSnapshotOlderThanWhatReadersSawWaits(t *testing.T) { // C05
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		old := n.mustFetch("old", "a", dirOf(t, "old"))
		defer old.stop(true)
		a.sameAs(old)
		old.PauseApply()
		a.write(1, 1)
		seen := must(t)(a.Log().At(a.Visible()))
		dir := dirOf(t, "b")
		var got history.Position
		stop := background(func(ctx context.Context) (err error) {
			l := n.link("b")
			got, err = l.Fetch(ctx, "old", dir, FetchOptions{NotBelow: seen, SegmentBytes: testSegment})
			return err
		}, t)
		time.Sleep(time.Minute)
		if got.LSN != 0 {
			t.Error("an older snapshot was taken")
		}
		old.ResumeApply()
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		if got != seen {
			t.Errorf("at %v, want %v", got, seen)
		}
	})
}

// A copy is taken from the node that the cluster has named, and once that has begun its epoch. What is at an address may be another node, the
// same with an old disk put in its place, or one that was replaced and does not know it.
func TestSnapshotIsOfTheNodeThatWasNamed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		l := n.link("b")
		l.setDefaults()
		own := n.link("a").Identity
		for name, one := range map[string]struct {
			o    FetchOptions
			want error
		}{
			"another node":  {FetchOptions{Node: "another", Disk: own.Disk}, errOther},
			"another disk":  {FetchOptions{Node: own.Node, Disk: "another"}, errOther},
			"an old epoch":  {FetchOptions{Node: own.Node, Disk: own.Disk, Under: a.Epoch() + 1}, errNotYet},
			"the right one": {FetchOptions{Node: own.Node, Disk: own.Disk, Under: a.Epoch(), SegmentBytes: testSegment}, nil},
		} {
			if _, err := l.fetchOnce(t.Context(), "a", dirOf(t, "b"), one.o); !errors.Is(err, one.want) || one.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", name, err, one.want)
			}
		}
	})
}

func TestSlotKeepsTheLogForAFollowerThatIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		b := n.start("b", dirOf(t, "b")).follow("a")
		a.write(1, 1)
		a.sameAs(b)
		time.Sleep(time.Second)
		b.stop(true)
		for i := range uint64(10) {
			a.noise(i, pagesUpTo(60)...)
		}
		if err := a.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(upkeep) // slots are written down
		a.stop(true)
		a = n.start("a", a.dir).lead("", commit.SyncConfig{}) // the slot outlives the process
		defer a.stop(true)
		if err := a.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		b = n.start("b", b.dir).follow("a")
		a.sameAs(b)

		b.stop(true)
		a.peer.Configure(Bounds{SlotBytes: 100_000})
		for i := range uint64(10) {
			a.noise(i, pagesUpTo(61)...)
		}
		if err := a.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if s := a.peer.Status().Slots; len(s) != 1 || s[0].Lost == "" {
			t.Errorf("%+v", s)
		}
		b = n.start("b", b.dir).follow("a")
		b.needsSnapshot(false)
		b.stop(true)
		b = n.mustFetch("b", "a", b.dir)
		defer b.stop(true)
		a.write(1, 7)
		a.sameAs(b)
		if s := a.peer.Status().Slots; len(s) != 1 || s[0].Lost != "" || !s[0].Active {
			t.Errorf("%+v", s)
		}
	})
}

func TestSlowFollowerIsGivenUpForItsSlotsBound(t *testing.T) { // D03, D04
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		a.sameAs(b)
		a.peer.Configure(Bounds{SlotBytes: 100_000})
		n.between("b", "a").hold(back)
		for i := range uint64(10) {
			a.noise(i, pagesUpTo(60)...)
		}
		if err := a.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if a.Log().First() == 1 {
			t.Error("the log was kept for a follower that does not take it")
		}
		synctest.Wait()
		if r := a.replica("b"); r.Connected {
			t.Errorf("%+v", r)
		}
		n.between("b", "a").release(back)
		b.needsSnapshot(false)
		b.stop(true)
	})
}

func TestDamagedPageIsMendedFromAnotherNode(t *testing.T) { // B06
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		b := n.mustFetch("b", "a", dirOf(t, "b"))
		defer b.stop(true)
		a.write(1, 7)
		a.sameAs(b)
		flip(t, b.dir, 17)
		rows, err := b.peer.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			switch {
			case r.Name == "b" && (r.Damaged != 1 || r.Repaired != 1 || r.Result != VerifiedRepaired):
				t.Errorf("%+v", r)
			case r.Name == "a" && (r.Damaged != 0 || r.Result != VerifiedOK):
				t.Errorf("%+v", r)
			}
			if r.Pages != 60 || r.LSN != a.Visible() {
				t.Errorf("%+v", r)
			}
		}
		if len(rows) != 2 {
			t.Errorf("%d rows", len(rows))
		}
		rows, err = b.peer.Verify(t.Context())
		if err != nil || len(rows) != 2 || rows[0].Result != VerifiedOK {
			t.Errorf("afterwards: %+v %v", rows, err)
		}
	})
}

func TestVerifyTellsAnotherPastAndWhoDoesNotAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		x := n.start("x", dirOf(t, "x")).lead("", commit.SyncConfig{})
		defer x.stop(true)
		a.write(1, 1)
		x.write(2, 1)
		rows, err := a.peer.Verify(t.Context(), "x", "nobody")
		if err != nil || len(rows) != 3 {
			t.Fatal(rows, err)
		}
		if rows[0].Result != VerifiedOK || rows[1].Result != VerifiedDifferent || rows[2].Result != VerifiedUnreachable {
			t.Errorf("%+v", rows)
		}
	})
}

// flip changes a bit of a page in a base file, behind the node's back.
func flip(t *testing.T, dir string, no int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "db", "0002.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, (no-1)*pagestore.PageSize+100); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b, (no-1)*pagestore.PageSize+100); err != nil {
		t.Fatal(err)
	}
}
