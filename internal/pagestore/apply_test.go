package pagestore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"skein/internal/history"
	"skein/internal/replog"
)

// oneRow makes entries as one-row updates do: a few bytes in page 1 and in one other page each.
type oneRow struct {
	pages [][]byte
	rng   *rand.Rand
	total uint64
	lsn   history.LSN
	body  []byte
}

func newOneRow(pages int) *oneRow {
	o := &oneRow{rng: rand.New(rand.NewPCG(1, 2)), pages: make([][]byte, pages)}
	for i := range o.pages {
		o.pages[i] = filled(byte(i + 1))
	}
	return o
}

// load gives the entry that fills the database.
func (o *oneRow) load() replog.Entry {
	var body []byte
	for i, p := range o.pages {
		body = replog.AppendPage(body, uint32(i+1), zeroPage, p)
		o.total ^= sum(PageNo(i+1), p)
	}
	return o.entry(body)
}

func (o *oneRow) next() replog.Entry {
	o.body = o.change(o.body[:0], 1, 24, 16)
	no := 2 + o.rng.IntN(len(o.pages)-1)
	o.body = o.change(o.body, no, 100*o.rng.IntN(39), 20)
	return o.entry(o.body)
}

func (o *oneRow) change(body []byte, no, at, n int) []byte {
	page := o.pages[no-1]
	old := append(make([]byte, 0, PageSize), page...)
	for i := range n {
		page[at+i] = byte(o.rng.Uint32()) | 1
	}
	o.total ^= sum(PageNo(no), old) ^ sum(PageNo(no), page)
	return replog.AppendPage(body, uint32(no), old, page)
}

func (o *oneRow) entry(body []byte) replog.Entry {
	o.lsn++
	return replog.Entry{
		Kind: replog.Transaction, Database: 2, LSN: o.lsn, Pages: uint32(len(o.pages)), Checksum: o.total, Body: body,
	}
}

// BenchmarkApply applies one-row updates of a database of 64 MB that is in memory (versions), and of one
// that is in its base file.
func BenchmarkApply(b *testing.B) {
	for name, spread := range map[string]int{"of few pages": 100, "of many pages": 16384} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s, err := Open(filepath.Join(dir, "db"), Options{TempDir: dir})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			o := newOneRow(spread)
			e := o.load()
			if err := s.Apply(&e, 0); err != nil {
				b.Fatal(err)
			}
			if err := s.Checkpoint(e.LSN); err != nil {
				b.Fatal(err)
			}
			const batch = 1000
			entries := make([]replog.Entry, batch)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range entries {
					entries[i] = o.next()
					entries[i].Body = append([]byte(nil), entries[i].Body...)
				}
				if s.HeldBytes() > s.MaxBytes()/2 {
					if err := s.Checkpoint(o.lsn - batch); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				for i := range entries {
					if err := s.Apply(&entries[i], entries[i].LSN-1); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkApplyBehind applies one-row updates that nobody may see for a while: so many are above visible.
func BenchmarkApplyBehind(b *testing.B) {
	for _, behind := range []history.LSN{1, 64, 1000, 30000} {
		b.Run(fmt.Sprint(behind), func(b *testing.B) {
			dir := b.TempDir()
			s, err := Open(filepath.Join(dir, "db"), Options{TempDir: dir})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			o := newOneRow(1000)
			e := o.load()
			if err := s.Apply(&e, 0); err != nil {
				b.Fatal(err)
			}
			for range behind {
				e := o.next()
				if err := s.Apply(&e, 0); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				e := o.next()
				if err := s.Apply(&e, e.LSN-behind); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// follower is a store that is given entries, and what they make of one database.
type follower struct {
	t     *testing.T
	dir   string
	store *Store
	lsn   history.LSN
	image image // of database 2
}

func newFollower(t *testing.T, o Options) *follower {
	dir := t.TempDir()
	if o.TempDir == "" {
		o.TempDir = dir
	}
	s, err := Open(filepath.Join(dir, "db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &follower{t: t, dir: dir, store: s, image: image{content: map[PageNo][]byte{}}}
}

// entry is the next one: it leaves the database with so many pages, and gives some their byte.
func (f *follower) entry(pages uint32, writes map[PageNo]byte) *replog.Entry {
	after := image{pages, map[PageNo][]byte{}}
	for no := PageNo(1); uint32(no) <= pages; no++ {
		after.content[no] = f.image.page(no)
	}
	var body []byte
	for _, no := range slices.Sorted(maps.Keys(writes)) {
		after.content[no] = filled(writes[no])
		body = replog.AppendPage(body, uint32(no), f.image.page(no), after.content[no])
	}
	f.lsn++
	f.image = after
	return &replog.Entry{
		Kind: replog.Transaction, Database: 2, LSN: f.lsn, Pages: pages, Checksum: after.checksum(), Body: body,
	}
}

func (f *follower) apply(e *replog.Entry, visible history.LSN) {
	f.t.Helper()
	if err := f.store.Apply(e, visible); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) want(lsn history.LSN, no PageNo, value byte) {
	f.t.Helper()
	s := f.store.DB(2).Snapshot(lsn)
	defer s.Close()
	wantPage(f.t, s, no, value)
}

func wantPage(t *testing.T, s *Snapshot, no PageNo, value byte) {
	t.Helper()
	got := make([]byte, PageSize)
	if err := s.ReadPage(no, got); err != nil || !bytes.Equal(got, filled(value)) {
		t.Errorf("page %d at %d: %d… (%v), want %d", no, s.State().LSN, got[0], err, value)
	}
}

func TestAppliedEntriesAreSeenOnceTheyAreVisible(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(3, map[PageNo]byte{1: 1, 2: 2}), 0)
	f.apply(f.entry(3, map[PageNo]byte{2: 3}), 5) // said to be visible before it is there
	f.want(1, 2, 2)
	f.want(2, 2, 3)
	f.want(2, 3, 0)
}

// What is replaced is given back with the first entry after readers have come past it, whichever pages that has.
func TestReplacedVersionsGoOnceTheirSuccessorsAreVisible(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(9, map[PageNo]byte{1: 1, 2: 2, 3: 3}), 0)
	f.apply(f.entry(9, map[PageNo]byte{1: 4, 2: 5}), 1)
	f.apply(f.entry(9, map[PageNo]byte{1: 6}), 1)
	reader := f.store.DB(2).Snapshot(1)
	f.apply(f.entry(9, map[PageNo]byte{9: 9}), 3)
	if held := f.store.HeldBytes(); held != (4+2)*PageSize {
		t.Errorf("%d pages are held, want the 4 newest and the 2 that a reader needs", held/PageSize)
	}
	wantPage(t, reader, 1, 1)
	wantPage(t, reader, 2, 2)
	reader.Close()
	f.apply(f.entry(9, map[PageNo]byte{1: 7, 2: 8}), 3)
	f.apply(f.entry(9, map[PageNo]byte{9: 10}), 5)
	f.apply(f.entry(9, map[PageNo]byte{8: 8}), 6)
	if held := f.store.HeldBytes(); held != 5*PageSize {
		t.Errorf("%d pages are held once nobody reads old ones, want 5", held/PageSize)
	}
	f.want(7, 1, 7)
}

// After a cut the same LSNs come again, with other pages.
func TestReplacedVersionsGoAfterACut(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(3, map[PageNo]byte{1: 1, 2: 2}), 0)
	before := f.image
	f.apply(f.entry(3, map[PageNo]byte{1: 3}), 1)
	f.apply(f.entry(3, map[PageNo]byte{1: 4, 2: 4}), 1)
	if err := f.store.CutAbove(1); err != nil {
		t.Fatal(err)
	}
	f.lsn, f.image = 1, before
	f.apply(f.entry(3, map[PageNo]byte{2: 5}), 1)
	f.apply(f.entry(3, map[PageNo]byte{3: 6}), 2)
	if held := f.store.HeldBytes(); held != 3*PageSize {
		t.Errorf("%d pages are held, want 3", held/PageSize)
	}
	f.want(3, 1, 1)
	f.want(3, 2, 5)
}

func TestAnEntryThatLeadsElsewhereChangesNothing(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(3, map[PageNo]byte{1: 1, 2: 2}), 0)
	before, held := f.store.DB(2).Head(), f.store.HeldBytes()
	e := f.entry(3, map[PageNo]byte{1: 7})
	e.Checksum++
	if err := f.store.Apply(e, 1); !errors.Is(err, ErrDiverged) {
		t.Fatalf("error %v, want %v", err, ErrDiverged)
	}
	if head := f.store.DB(2).Head(); head != before || f.store.HeldBytes() != held {
		t.Errorf("the head is %+v, was %+v; %d bytes are held, were %d", head, before, f.store.HeldBytes(), held)
	}
	e.Checksum--
	f.apply(e, 1)
	f.want(2, 1, 7)
}

func TestEntriesThatCannotBeAreRefused(t *testing.T) {
	f := newFollower(t, Options{})
	first := f.entry(3, map[PageNo]byte{1: 1, 2: 2, 3: 3})
	f.apply(first, 0)
	page := func(no uint32, value byte) []byte { return replog.AppendPage(nil, no, zeroPage, filled(value)) }
	for name, test := range map[string]struct {
		change func(*replog.Entry)
		want   error
	}{
		"one that was applied":       {func(e *replog.Entry) { *e = *first }, errOldEntry},
		"a piece without its first":  {func(e *replog.Entry) { e.Chunk = 1 }, errMissingPiece},
		"pages that go back":         {func(e *replog.Entry) { e.Body = append(page(2, 1), page(1, 1)...) }, errPageOrder},
		"a page twice":               {func(e *replog.Entry) { e.Body = append(page(2, 1), append(page(3, 1), page(2, 1)...)...) }, errPageOrder},
		"a page behind the end":      {func(e *replog.Entry) { e.Body = page(4, 1) }, errPageOrder},
		"a body that does not parse": {func(e *replog.Entry) { e.Body = []byte{1, 1, 5} }, nil},
	} {
		e := replog.Entry{Kind: replog.Transaction, Database: 2, LSN: 2, Pages: 3}
		test.change(&e)
		if err := f.store.Apply(&e, 1); err == nil || (test.want != nil && !errors.Is(err, test.want)) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
	f.apply(f.entry(3, map[PageNo]byte{2: 9}), 1)
	f.want(2, 2, 9)
	f.want(2, 3, 3)
}

func TestOtherKindsOfEntriesChangeNoDatabase(t *testing.T) {
	f := newFollower(t, Options{})
	for _, kind := range []replog.Kind{replog.EpochStart, replog.Configuration, replog.NoOp} {
		f.apply(&replog.Entry{Kind: kind, Database: 2, LSN: 1, Body: []byte("anything")}, 0)
	}
	if f.store.DB(2) != nil {
		t.Error("a database was made")
	}
}

// pieces cuts e into pieces of n pages each.
func pieces(t *testing.T, e *replog.Entry, n int) []replog.Entry {
	t.Helper()
	var list []replog.Entry
	pages := 0
	err := replog.EachRange(e.Body, func(no uint32, off int, data []byte) error {
		if off != 0 || len(data) != PageSize {
			t.Fatal("a page that is not changed as a whole")
		}
		if pages%n == 0 {
			p := *e
			p.Chunk, p.More, p.Body = uint16(len(list)), true, nil
			list = append(list, p)
		}
		pages++
		last := &list[len(list)-1]
		last.Body = replog.AppendPage(last.Body, no, zeroPage, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list[len(list)-1].More = false
	return list
}

func TestALargeEntryIsSeenWithItsLastPieceOnly(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(3, map[PageNo]byte{1: 1, 2: 1, 3: 1}), 0)
	list := pieces(t, f.entry(4, map[PageNo]byte{1: 2, 2: 2, 3: 2, 4: 2}), 1)
	for _, p := range list[:2] { // its sender died
		f.apply(&p, 1)
	}
	for _, p := range list[:3] {
		f.apply(&p, 1)
	}
	if head := f.store.DB(2).Head(); head.LSN != 1 {
		t.Fatalf("the head is at %d before the last piece", head.LSN)
	}
	if err := f.store.Apply(&list[1], 1); !errors.Is(err, errMissingPiece) {
		t.Fatalf("a piece out of order: %v, want %v", err, errMissingPiece)
	}
	twice := list[2]
	twice.Chunk, twice.More = 3, false
	if err := f.store.Apply(&twice, 1); !errors.Is(err, errPageOrder) {
		t.Fatalf("a page that comes again in the next piece: %v, want %v", err, errPageOrder)
	}
	f.apply(&list[3], 1)
	f.want(1, 3, 1)
	f.want(2, 4, 2)
}

// The pages of a bulk load find no room in memory, and then none on the disk. The piece that failed is
// applied again when there is room.
func TestALargeEntryThatFillsMemoryAndDiskGoesOnWhenThereIsRoom(t *testing.T) {
	const pages = maxApplyPages + 100
	tmp := filepath.Join(t.TempDir(), "tmp") // not there: as good as full
	f := newFollower(t, Options{TempDir: tmp})
	writes := map[PageNo]byte{}
	for no := PageNo(1); no <= pages; no++ {
		writes[no] = byte(no%250) + 1
	}
	failed := 0
	for _, p := range pieces(t, f.entry(pages, writes), 30) {
		if err := f.store.Apply(&p, 0); err != nil {
			failed++
			if err := os.Mkdir(tmp, 0o700); err != nil {
				t.Fatal(err)
			}
			f.apply(&p, 0)
		}
	}
	if failed != 1 {
		t.Fatalf("%d pieces have failed, want the one that found memory full", failed)
	}
	if held := f.store.HeldBytes(); held != maxApplyPages*PageSize {
		t.Errorf("%d bytes are held in memory", held)
	}
	if spilled := f.store.SpilledBytes(); spilled != 100*PageSize {
		t.Errorf("%d bytes are spilled", spilled)
	}
	for _, no := range []PageNo{1, maxApplyPages, maxApplyPages + 1, pages} {
		f.want(1, no, writes[no])
	}
	if err := f.store.Checkpoint(1); err != nil {
		t.Fatal(err)
	}
	f.want(1, pages, writes[pages])
	if held := f.store.HeldBytes() + f.store.SpilledBytes(); held != 0 {
		t.Errorf("%d bytes are held after the checkpoint", held)
	}
	if f.store.apply.spill != nil {
		t.Error("the spill file is still open")
	}
}

// Entries that are not committed yet cannot go to the base file. Past the bound they wait on the disk.
func TestManyEntriesThatAreNotVisibleStayWithinTheBoundOfMemory(t *testing.T) {
	f := newFollower(t, Options{MaxBytes: 20 * PageSize})
	for range 100 {
		f.apply(f.entry(3, map[PageNo]byte{1: byte(f.lsn + 1), 3: byte(f.lsn + 1)}), 0)
	}
	if held := f.store.HeldBytes(); held > 22*PageSize {
		t.Errorf("%d pages are held in memory", held/PageSize)
	}
	f.want(100, 3, 100)
	f.want(50, 3, 50)
	if err := f.store.CutAbove(60); err != nil {
		t.Fatal(err)
	}
	f.want(100, 3, 60)
	if err := f.store.Checkpoint(60); err != nil {
		t.Fatal(err)
	}
	if held := f.store.HeldBytes() + f.store.SpilledBytes(); held != 0 {
		t.Errorf("%d bytes are held after the checkpoint", held)
	}
}

func TestWhatWasNotSeenIsTakenBack(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(5, map[PageNo]byte{1: 1, 4: 1}), 0)
	seen := f.image
	f.apply(f.entry(3, map[PageNo]byte{1: 2}), 1) // cuts pages 4 and 5 off
	f.apply(f.entry(6, map[PageNo]byte{4: 3, 6: 3}), 1)
	other := *f.entry(1, map[PageNo]byte{1: 9})
	other.Database = 3
	f.apply(&other, 1)
	list := pieces(t, f.entry(6, map[PageNo]byte{1: 4, 2: 4}), 1)
	f.apply(&list[0], 1)

	reader, writer := f.store.DB(2).Snapshot(1), f.store.DB(2).SnapshotHead()
	defer writer.Close()
	if err := f.store.CutAbove(0); !errors.Is(err, ErrNotAbove) {
		t.Fatalf("cut below what was seen: %v, want %v", err, ErrNotAbove)
	}
	wantPage(t, writer, 4, 3)
	if err := f.store.CutAbove(1); err != nil {
		t.Fatal(err)
	}
	wantPage(t, reader, 4, 1)
	if err := writer.ReadPage(1, make([]byte, PageSize)); !errors.Is(err, ErrTakenBack) {
		t.Errorf("a snapshot of what was taken back: %v, want %v", err, ErrTakenBack)
	}
	if head := f.store.DB(3).Head(); head.Pages != 0 {
		t.Errorf("the database of a later entry is %+v", head)
	}
	f.lsn, f.image = 1, seen
	if err := f.store.Apply(&list[1], 1); !errors.Is(err, errMissingPiece) {
		t.Errorf("the rest of a large entry that was taken back: %v, want %v", err, errMissingPiece)
	}
	f.apply(f.entry(6, map[PageNo]byte{1: 7, 6: 7}), 1)
	f.lsn, f.image = 2, image{}
	again := f.entry(2, map[PageNo]byte{2: 8})
	again.Database = 3
	f.apply(again, 2)
	f.want(2, 1, 7)
	f.want(2, 4, 1)
	f.want(2, 5, 0)
	reader.Close()
	last := *again
	last.Database, last.LSN, last.Pages, last.Body, last.Checksum = 2, 4, 6, nil, f.store.DB(2).Head().Checksum
	f.apply(&last, 3)
	late := f.store.DB(2).SnapshotHead()
	defer late.Close()
	wantPage(t, late, 6, 7)
	if err := f.store.Checkpoint(4); err != nil {
		t.Fatal(err)
	}
	late.Close()
	if held := f.store.HeldBytes(); held != 0 {
		t.Errorf("%d bytes are held that nobody needs", held)
	}
	if at := f.store.DB(3).Head(); at.LSN != 3 || at.Pages != 2 {
		t.Errorf("the other database is %+v", at)
	}
}

// What a checkpoint has begun to write into a base file cannot be taken back, although nobody has seen
// it as complete.
func TestWhatACheckpointUnderWayWritesIsNotTakenBack(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(2, map[PageNo]byte{1: 1}), 0)
	f.apply(f.entry(2, map[PageNo]byte{2: 2}), 1)
	f.apply(f.entry(2, map[PageNo]byte{2: 3}), 1)
	p := f.store.plan(2)
	targets, numbers, err := f.store.writeAll(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.CutAbove(1); !errors.Is(err, ErrNotAbove) {
		t.Fatalf("error %v, want %v", err, ErrNotAbove)
	}
	if err := f.store.CutAbove(2); err != nil {
		t.Fatal(err)
	}
	if err := p.write[0].adopt(targets[0], p.to, numbers[0]); err != nil {
		t.Fatal(err)
	}
	f.want(2, 2, 2)
	if held := f.store.HeldBytes(); held != 0 {
		t.Errorf("%d bytes are held that nobody needs", held)
	}
}

// The head's LSN can be given to another transaction while the old one's writer still looks at it.
func TestASnapshotOfWhatWasTakenBackEndsAloneAtItsLSN(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(1, map[PageNo]byte{1: 1}), 0)
	seen := f.image
	f.apply(f.entry(1, map[PageNo]byte{1: 2}), 1)
	old := f.store.DB(2).SnapshotHead()
	defer old.Close()
	if err := f.store.CutAbove(1); err != nil {
		t.Fatal(err)
	}
	f.lsn, f.image = 1, seen
	f.apply(f.entry(1, map[PageNo]byte{1: 3}), 1)
	s := f.store.DB(2).SnapshotHead()
	wantPage(t, s, 1, 3)
	old.Close()
	f.apply(f.entry(1, map[PageNo]byte{1: 4}), 3)
	f.apply(f.entry(1, map[PageNo]byte{1: 5}), 3)
	wantPage(t, s, 1, 3)
	s.Close()
}

// A drop is carried out while entries from before it may still come, or go.
func TestEntriesOfADroppedDatabaseGoToItsFileUntilItIsRemoved(t *testing.T) {
	f := newFollower(t, Options{})
	f.apply(f.entry(1, map[PageNo]byte{1: 1}), 0)
	db := f.store.DB(2)
	f.store.Drop(2)
	f.apply(f.entry(1, map[PageNo]byte{1: 2}), 1)
	if f.store.DB(2) != nil || db.Head().LSN != 2 {
		t.Fatalf("the dropped database is at %+v", db.Head())
	}
	if err := f.store.CutAbove(1); err != nil {
		t.Fatal(err)
	}
	if db.Head().LSN != 1 || f.store.HeldBytes() != PageSize {
		t.Errorf("after the cut it is at %+v, with %d bytes held", db.Head(), f.store.HeldBytes())
	}
}

// A follower applies, is cut back and goes on with another history, again and again, while it is read,
// checkpointed and copied. What is visible is never cut, and what is cut never
// read.
func TestAFollowerIsReadWhileItAppliesAndIsCutBack(t *testing.T) {
	const pages, rounds, tail = 12, 250, 5
	f := newFollower(t, Options{})
	var visible atomic.Uint64
	f.apply(f.entry(pages, map[PageNo]byte{1: 1, 2: 1}), 0)
	visible.Store(1)
	stop := make(chan struct{})
	var others sync.WaitGroup
	loop := func(step func() error) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := step(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		first, second := make([]byte, PageSize), make([]byte, PageSize)
		loop(func() error { // pages 1 and 2 always change together
			s := f.store.DB(2).Snapshot(history.LSN(visible.Load()))
			defer s.Close()
			if err := errors.Join(s.ReadPage(1, first), s.ReadPage(2, second)); err != nil {
				return err
			}
			if !bytes.Equal(first, second) || !bytes.Equal(first, filled(first[0])) || first[0] == 251 {
				return fmt.Errorf("at %d page 1 has %d and page 2 %d", s.State().LSN, first[0], second[0])
			}
			return nil
		})
	}
	loop(func() error { return f.store.Checkpoint(history.LSN(visible.Load())) })
	b := &bench{t: t, store: f.store}
	loop(func() error {
		b.visible.Store(visible.Load())
		b.checkImage()
		return nil
	})
	for round := range rounds {
		if t.Failed() {
			break
		}
		from, before := f.lsn, f.image
		for range tail { // never committed
			f.apply(f.entry(pages-uint32(f.lsn%3), map[PageNo]byte{1: 251, 2: 251, 3: 251, 9: 251}), history.LSN(visible.Load()))
		}
		if err := f.store.CutAbove(from); err != nil {
			t.Fatal(err)
		}
		f.lsn, f.image = from, before
		value := byte(round%250) + 1
		f.apply(f.entry(pages-uint32(round%3), map[PageNo]byte{1: value, 2: value, PageNo(3 + round%6): value}), history.LSN(visible.Load()))
		visible.Store(uint64(f.lsn))
	}
	close(stop)
	others.Wait()
	if err := f.store.Checkpoint(f.lsn); err != nil {
		t.Fatal(err)
	}
	for no := PageNo(1); uint32(no) <= f.image.pages; no++ {
		f.want(f.lsn, no, f.image.page(no)[0])
	}
	if held := f.store.HeldBytes(); held != 0 {
		t.Errorf("%d bytes are held that nobody needs", held)
	}
}

// With every write the versions that nobody needs any more go, however far behind it what is visible stays.
func TestVersionsThatNobodyNeedsDoNotGather(t *testing.T) {
	for _, behind := range []int64{1, 2, 40} {
		f := newFollower(t, Options{})
		most := int64(0)
		for range 400 {
			f.apply(f.entry(1, map[PageNo]byte{1: byte(f.lsn%250) + 1}), history.LSN(max(int64(f.lsn)-behind, 0)))
			most = max(most, f.store.HeldBytes()/PageSize)
		}
		if most < behind || most > behind+behind/2+2 {
			t.Errorf("%d behind: %d versions are held", behind, most)
		}
		if states := len(f.store.DB(2).states); int64(states) > behind+2 {
			t.Errorf("%d behind: %d states are held", behind, states)
		}
	}
}
