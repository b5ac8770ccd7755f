package pagestore

import (
	"errors"
	"os"
	"testing"
)

// rotten is a directory with a database of three pages, closed, of whose second a bit has flipped since.
func rotten(t *testing.T) *bench {
	b := newSummed(t)
	b.spoil("0002.db", PageSize+2000)
	return b
}

func (b *bench) spoil(name string, at int64) {
	b.t.Helper()
	f, err := os.OpenFile(b.file(name), os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	page := make([]byte, 1)
	if _, err := f.ReadAt(page, at); err != nil {
		b.t.Fatal(err)
	}
	page[0] ^= 1
	if _, err := f.WriteAt(page, at); err != nil {
		b.t.Fatal(err)
	}
}

// reads says whether an install reads page 2 of the database, rather than rely on the sum beside it.
func (b *bench) reads(reread bool) bool {
	b.t.Helper()
	in, err := BeginInstall(b.file(""), reread)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	sums, err := in.Sums(2)
	if err != nil {
		b.t.Fatal(err)
	}
	return sums[1] != PageSum(2, filled(2))
}

func TestAnInstallReliesOnSumsOnlyWhereTheyAreCertain(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(b *bench) error
		reread bool
		want   bool
	}{
		"after a stop in order": {func(*bench) error { return nil }, false, false},
		"damage was found":      {func(*bench) error { return nil }, true, true},
		"another sum":           {func(b *bench) error { b.spoil("0002.sums", 3); return nil }, false, true},
		"no sums":               {func(b *bench) error { return os.Remove(b.file("0002.sums")) }, false, true},
		"no checkpoint file":    {func(b *bench) error { return os.Remove(b.file("checkpoint")) }, false, true},
		"another size": {func(b *bench) error {
			return os.Truncate(b.file("0002.db"), 4*PageSize) // what is behind counts as zeros
		}, false, true},
		"within a checkpoint": {func(b *bench) error {
			r, err := readRecord(b.file(""))
			r.reach++
			return errors.Join(err, r.write(b.file("")))
		}, false, true},
	} {
		b := rotten(t)
		if err := test.spoil(b); err != nil {
			t.Fatal(err)
		}
		if b.reads(test.reread) != test.want {
			t.Errorf("%s: reads %v", name, !test.want)
		}
	}
}

// interrupted is a directory in which an install was begun that was to write page 3 of three, and to add a fourth.
func interrupted(t *testing.T, spoil func(b *bench)) *bench {
	b := newSummed(t)
	spoil(b)
	in, err := BeginInstall(b.file(""), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Sums(2); err != nil {
		t.Fatal(err)
	}
	if err := in.Mark([]Run{{2, 3, 2}}); err != nil {
		t.Fatal(err)
	}
	for no := PageNo(3); no <= 4; no++ {
		if err := in.WriteRun(2, no, filled(33), []uint64{PageSum(no, filled(33))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnInterruptedInstallReadsWhatItMayHaveWritten(t *testing.T) {
	for name, test := range map[string]struct {
		before, after func(b *bench)
		reads         bool
	}{
		"sums known":          {func(*bench) {}, func(*bench) {}, false},
		"found by reading":    {func(b *bench) { b.spoil("0002.sums", 3) }, func(*bench) {}, false},
		"sums changed":        {func(*bench) {}, func(b *bench) { b.spoil("0002.sums", 3) }, true},
		"sums of page 3 torn": {func(*bench) {}, func(b *bench) { b.spoil("0002.sums", 17) }, false},
		"mark is damaged":     {func(*bench) {}, func(b *bench) { b.spoil(installFile, 30) }, true},
		"base file cut":       {func(*bench) {}, func(b *bench) { _ = os.Truncate(b.file("0002.db"), 2*PageSize) }, false},
	} {
		b := interrupted(t, test.before)
		b.spoil("0002.db", PageSize+2000)
		test.after(b)
		if b.reads(false) != test.reads {
			t.Errorf("%s: reads %v", name, !test.reads)
		}
		in, err := BeginInstall(b.file(""), false)
		if err != nil {
			t.Fatal(err)
		}
		sums, err := in.Sums(2)
		if err != nil {
			t.Fatal(err)
		}
		for i := 2; i < len(sums); i++ {
			if no := PageNo(i + 1); sums[i] != PageSum(no, filled(33)) {
				t.Errorf("%s: page %d has another sum than that of its content", name, no)
			}
		}
		_ = in.Close()
	}
}

// Whatever was wrong with what an install relied on, the next one does not meet it again.
func TestAnInstallThatDoesNotBecomeTheImageIsBegunAnewByReading(t *testing.T) {
	b := rotten(t)
	in, err := BeginInstall(b.file(""), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Sums(2); err != nil {
		t.Fatal(err)
	}
	if err := in.Mark(nil); err != nil {
		t.Fatal(err)
	}
	if err := in.Finish(9, []ImageDB{{2, 3, 1}}); !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v, want %v", err, ErrDamaged)
	}
	_ = in.Close()
	if !b.reads(false) || !Installing(b.file("")) {
		t.Error("it relies on the same sums again")
	}
}
