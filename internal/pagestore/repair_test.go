package pagestore

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"skein/internal/history"
)

// told is what OnDamage was told.
type told struct {
	no   PageNo
	want uint64
}

func newDamaged(t *testing.T, list *[]told) *bench {
	b := &bench{t: t, dir: t.TempDir()}
	b.options.OnDamage = func(_ history.DatabaseID, no PageNo, want uint64) { *list = append(*list, told{no, want}) }
	b.open()
	t.Cleanup(func() { _ = b.store.Close() })
	b.commit(b.db(2), 5, map[PageNo]byte{1: 1, 2: 2, 3: 3})
	b.checkpoint()
	return b
}

func (b *bench) rot(no PageNo) {
	b.t.Helper()
	if _, err := b.db(2).base.WriteAt([]byte("rotten"), int64(no-1)*PageSize+100); err != nil {
		b.t.Fatal(err)
	}
}

func TestADamagedPageIsToldOfOnceAndMended(t *testing.T) {
	var got []told
	b := newDamaged(t, &got)
	b.rot(2)
	s := b.snapshot(b.db(2))
	defer s.Close()
	page := make([]byte, PageSize)
	for range 3 {
		if err := s.ReadPage(2, page); !errors.Is(err, ErrDamaged) {
			t.Fatalf("error %v, want %v", err, ErrDamaged)
		}
	}
	if _, err := b.db(2).ReadHead(2, page); !errors.Is(err, ErrDamaged) {
		t.Fatalf("the writer gets %v, want %v", err, ErrDamaged)
	}
	want := []told{{2, PageSum(2, filled(2))}}
	if !slices.Equal(got, want) {
		t.Fatalf("told %v, want %v", got, want)
	}
	if b.store.Find(2, 2, want[0].want, page) {
		t.Error("the damaged page was found")
	}
	if err := b.store.Repair(2, 2, want[0].want, filled(2)); err != nil {
		t.Fatal(err)
	}
	b.want(s, 2, 2)
	if !b.store.Find(2, 2, want[0].want, page) || !bytes.Equal(page, filled(2)) {
		t.Error("the repaired page was not found")
	}
	b.rot(2)
	if err := s.ReadPage(2, page); !errors.Is(err, ErrDamaged) || len(got) != 2 {
		t.Errorf("damaged again: error %v, told %v", err, got)
	}
}

// A page that has been written since wants no repair: the old content would be the damage.
func TestARepairThatComesTooLateChangesNothing(t *testing.T) {
	var got []told
	b := newDamaged(t, &got)
	b.commit(b.db(2), 5, map[PageNo]byte{2: 7})
	b.rot(2)
	for range 2 { // as a version, then in the base file
		if err := b.store.Repair(2, 2, PageSum(2, filled(2)), filled(2)); err != nil {
			t.Fatal(err)
		}
		b.want(b.snapshot(b.db(2)), 2, 7)
		b.checkpoint()
	}
	b.want(b.snapshot(b.db(2)), 2, 7)
	b.reopen()
	b.want(b.snapshot(b.db(2)), 2, 7)
}

// A checkpoint mends a damaged page by writing over it. Only the snapshots that need what was there
// cannot go on.
func TestACheckpointOverADamagedPageEndsThoseWhoNeedItOnly(t *testing.T) {
	var got []told
	b := newDamaged(t, &got)
	old := b.snapshot(b.db(2))
	defer old.Close()
	b.commit(b.db(2), 5, map[PageNo]byte{1: 8})
	b.commit(b.db(2), 5, map[PageNo]byte{2: 9})
	b.rot(2)
	b.checkpoint()
	if err := old.ReadPage(2, make([]byte, PageSize)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a snapshot that needs the damaged page: %v, want %v", err, ErrDamaged)
	}
	b.want(b.snapshot(b.db(2)), 2, 9)
	if want := []told{{2, PageSum(2, filled(2))}}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	old.Close()
	b.reopen()
	b.want(b.snapshot(b.db(2)), 2, 9)
}

func TestAScrubFindsWhatNobodyReads(t *testing.T) {
	var got []told
	b := newDamaged(t, &got)
	b.rot(3)
	b.rot(5) // never written: zeros
	var bad []told
	read := 0
	err := b.store.Scrub(t.Context(), 2, func(n int) error { read += n; return nil }, func(no PageNo, want uint64) {
		bad = append(bad, told{no, want})
	})
	if want := []told{{3, PageSum(3, filled(3))}, {5, 0}}; err != nil || !slices.Equal(bad, want) {
		t.Errorf("found %v (%v), want %v", bad, err, want)
	}
	if read != 5*PageSize {
		t.Errorf("%d bytes were read", read)
	}
	stop := errors.New("enough")
	if err := b.store.Scrub(t.Context(), 2, func(int) error { return stop }, func(PageNo, uint64) {}); !errors.Is(err, stop) {
		t.Errorf("error %v, want %v", err, stop)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.store.Scrub(ctx, 2, func(int) error { return nil }, func(PageNo, uint64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if err := b.store.Scrub(t.Context(), 9, nil, nil); !errors.Is(err, errUnknownDatabase) {
		t.Errorf("error %v, want %v", err, errUnknownDatabase)
	}
}

// What the scrub has found wanting is written by a checkpoint before the scrub looks again.
func TestAScrubDoesNotTakeAPageForBadThatACheckpointWrites(t *testing.T) {
	var got []told
	b := newDamaged(t, &got)
	looks := 0
	_, bad := b.db(2).confirm(func(dst []byte, no PageNo) error {
		if looks++; looks == 1 {
			copy(dst, filled(7)) // the page as it is on its way
			b.commit(b.db(2), 5, map[PageNo]byte{2: 7})
			b.checkpoint()
			return nil
		}
		_, err := b.db(2).base.ReadAt(dst, int64(no-1)*PageSize)
		return err
	}, 2)
	if bad || looks != 2 {
		t.Errorf("bad: %v, after %d looks", bad, looks)
	}
}

// A file that lost its end, through no doing of ours, has bad pages there, not fewer pages.
func TestAScrubMissesTheEndOfAFile(t *testing.T) {
	var got []told
	b := newDamaged(t, &got)
	if err := b.db(2).base.Truncate(2*PageSize + 10); err != nil {
		t.Fatal(err)
	}
	var bad []PageNo
	err := b.store.Scrub(t.Context(), 2, func(int) error { return nil }, func(no PageNo, _ uint64) { bad = append(bad, no) })
	if err != nil || !slices.Equal(bad, []PageNo{3, 4, 5}) {
		t.Errorf("found %v (%v), want 3, 4 and 5", bad, err)
	}
}

func TestAPageIsFoundByWhatIsInIt(t *testing.T) {
	b := newBench(t)
	b.commit(b.db(2), 2, map[PageNo]byte{1: 1, 2: 2})
	b.checkpoint()
	s := b.snapshot(b.db(2)) // keeps the old content
	defer s.Close()
	b.commit(b.db(2), 2, map[PageNo]byte{1: 3})
	page := make([]byte, PageSize)
	for _, value := range []byte{1, 3} {
		if !b.store.Find(2, 1, PageSum(1, filled(value)), page) || !bytes.Equal(page, filled(value)) {
			t.Errorf("page 1 with content %d is not found", value)
		}
	}
	if !b.store.Find(2, 1, 0, page) || !allZero(page) {
		t.Error("a page of zeros is not found")
	}
	for name, found := range map[string]bool{
		"the content of another page": b.store.Find(2, 1, PageSum(2, filled(2)), page),
		"an unknown database":         b.store.Find(7, 1, PageSum(1, filled(1)), page),
		"page 0":                      b.store.Find(2, 0, 1, page),
		"a page behind the end":       b.store.Find(2, 99, 1, page),
	} {
		if found {
			t.Errorf("%s was found", name)
		}
	}
	if err := b.store.Repair(2, 99, PageSum(99, filled(1)), filled(1)); err != nil {
		t.Error(err)
	}
	if err := b.store.Repair(2, 0, PageSum(0, filled(1)), filled(1)); err != nil {
		t.Error(err)
	}
	if names, err := filepath.Glob(filepath.Join(b.dir, "db", "*.db")); err != nil || len(names) != 1 {
		t.Errorf("there are %v (%v)", names, err)
	}
}
