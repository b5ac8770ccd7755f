package pagestore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"skein/internal/replog"
)

// newSummed is a bench with a database of three pages in its base file, of the bytes 1 to 3, that was closed.
func newSummed(t *testing.T) *bench {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 3, map[PageNo]byte{1: 1, 2: 2, 3: 3})
	b.checkpoint()
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, "db", name) }

func TestAStartReadsNoPagesUnlessTheirSumsAreMissing(t *testing.T) {
	b := newSummed(t)
	b.open()
	if n := b.store.Reread(); n != 0 {
		t.Errorf("%d pages read", n)
	}
	b.want(b.snapshot(b.db(2)), 3, 3)
	for name, spoil := range map[string]func(path string) error{
		"removed": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 16) },
		"changed": func(path string) error { return os.WriteFile(path, make([]byte, 24), 0o600) },
	} {
		if err := b.store.Close(); err != nil {
			t.Fatal(err)
		}
		if err := spoil(b.file("0002.sums")); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int64{3, 0} { // once
			b.open()
			if n := b.store.Reread(); n != want {
				t.Errorf("with sums %s: %d pages read, want %d", name, n, want)
			}
			b.want(b.snapshot(b.db(2)), 3, 3)
			if want > 0 {
				if err := b.store.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// The first start with this version finds base files without sums; it may have entries to redo as well.
func TestSumsThatAreMissingAreMadeInTheMiddleOfAReplay(t *testing.T) {
	b := newSummed(t)
	b.open()
	b.commit(b.db(2), 4, map[PageNo]byte{2: 12, 4: 14})
	if err := errors.Join(b.store.Close(), os.Remove(b.file("0002.sums"))); err != nil {
		t.Fatal(err)
	}
	b.open()
	if n := b.store.Reread(); n != 3 {
		t.Errorf("%d pages read", n)
	}
	b.checkpoint()
	b.reopen()
	if n := b.store.Reread(); n != 0 {
		t.Errorf("%d pages read after the next checkpoint", n)
	}
	b.want(b.snapshot(b.db(2)), 2, 12)
	b.want(b.snapshot(b.db(2)), 3, 3)
}

func TestABaseFileThatWasCutIsFoundAtTheStart(t *testing.T) {
	b := newSummed(t)
	if err := os.Truncate(b.file("0002.db"), 2*PageSize); err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(b.dir, "db"), b.options)
	if err != nil {
		t.Fatal(err)
	}
	b.store = s
	if err := s.Verify(); !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v, want %v", err, ErrDamaged)
	}
}

// Redo writes over part of a page that has been damaged elsewhere: what comes of it must not pass.
func TestADamagedPageThatRedoChangesIsFoundAtTheStart(t *testing.T) {
	b := newSummed(t)
	page := filled(2)
	copy(page, filled(12)[:100])
	e := b.entries[0]
	e.LSN, e.Body = 2, replog.AppendPage(nil, 2, filled(2), page)
	e.Checksum ^= PageSum(2, filled(2)) ^ PageSum(2, page)
	for _, rotten := range []bool{false, true} {
		if rotten {
			f, err := os.OpenFile(b.file("0002.db"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{77}, PageSize+2000); err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}
		s, err := Open(b.file(""), b.options)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Redo(&e); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(); errors.Is(err, ErrDamaged) != rotten {
			t.Errorf("rotten %v: error %v", rotten, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedPageIsFoundAtTheStartOrByWhoReadsIt(t *testing.T) {
	b := newSummed(t)
	f, err := os.OpenFile(b.file("0002.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt([]byte{77}, PageSize+2000); err != nil {
		t.Fatal(err)
	}
	b.open()
	s := b.snapshot(b.db(2))
	b.want(s, 1, 1)
	if err := s.ReadPage(2, make([]byte, PageSize)); !errors.Is(err, ErrDamaged) {
		t.Errorf("read with error %v, want %v", err, ErrDamaged)
	}
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]error{3*PageSize - 1: nil, 3 * PageSize: ErrDamaged} {
		s, err := Open(b.file(""), Options{ReadAtStart: size})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(); !errors.Is(err, want) {
			t.Errorf("%d bytes are read at the start: error %v, want %v", size, err, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A node is killed in a checkpoint, and again in the recovery from that, which has checkpointed less. The base file
// still has what the first has written.
func TestARecoveryThatCheckpointsDoesNotForgetHowFarAnInterruptedCheckpointReached(t *testing.T) {
	b := newBench(t)
	b.options.MaxBytes = 2 * PageSize
	db := b.db(2)
	b.commit(db, 4, map[PageNo]byte{1: 1, 2: 2, 3: 3, 4: 4})
	b.commit(db, 4, map[PageNo]byte{1: 11})
	b.commit(db, 4, map[PageNo]byte{4: 44})
	p := b.store.plan(3)
	if _, _, err := b.store.writeAll(p); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(b.file(""), b.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Redo(&b.entries[0]); err != nil {
		t.Fatal(err)
	}
	if s.CheckpointLSN() != 1 {
		t.Fatal("it has not checkpointed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(b.file(""), b.options); err != nil {
		t.Fatal(err)
	}
	if s.Reach() != 3 {
		t.Errorf("base files reach to %d, want 3", s.Reach())
	}
	b.store = s
}

func TestTheSumsOfADroppedDatabaseGoWithIt(t *testing.T) {
	b := newBench(t)
	b.commit(b.db(2), 1, map[PageNo]byte{1: 1})
	b.commit(b.db(3), 1, map[PageNo]byte{1: 1})
	b.checkpoint()
	b.store.Drop(2)
	b.checkpoint()
	wantOne := func() {
		t.Helper()
		left, err := filepath.Glob(b.file("*.sums"))
		if err != nil || len(left) != 1 || filepath.Base(left[0]) != "0003.sums" {
			t.Errorf("there are %v, %v", left, err)
		}
	}
	wantOne()
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.file("0007.sums"), nil, 0o600); err != nil { // of one that was never checkpointed
		t.Fatal(err)
	}
	b.open()
	wantOne()
}

func TestPagesThatWereCutAndCameBackEmptyAreNotReadAtTheStart(t *testing.T) {
	b := newSummed(t)
	b.open()
	b.commit(b.db(2), 1, map[PageNo]byte{1: 11})
	b.commit(b.db(2), 3, map[PageNo]byte{3: 13})
	b.reopen()
	if n := b.store.Reread(); n != 0 {
		t.Errorf("%d pages read", n)
	}
	b.want(b.snapshot(b.db(2)), 2, 0)
}
