package replog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"skein/internal/history"
)

// appendLarge appends an entry of so many pieces that do not compress, so that all have one size.
func (o *opened) appendLarge(t *testing.T, rng *rand.Rand, pieces int) (history.LSN, []byte) {
	t.Helper()
	var whole []byte
	lsn, err := o.AppendChunks(&Entry{Epoch: max(o.Head().Epoch, 1), Kind: Transaction}, int64(pieces)*MaxChunk, func(emit func([]byte) error) error {
		for range pieces {
			piece := make([]byte, MaxChunk)
			for i := range piece {
				piece[i] = byte('a' + rng.IntN(16))
			}
			whole = append(whole, piece...)
			if err := emit(piece); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lsn, whole
}

// A bulk load is cut off by a crash, repeated, and cut off again: behind the pieces of the second lie those
// of the first, with the same LSN and at the same places.
func TestLog_A08_PiecesOfAnEarlierAttemptAreNeverReadOn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 8))
	for _, pieces := range []int{2, 3, 4, 6} { // in one segment, and over several
		dir := t.TempDir()
		o := mustOpen(t, dir)
		o.add(t, "before")
		o.appendLarge(t, rng, pieces)
		o.tearLastPiece(t)
		o = mustOpen(t, dir)
		if want := "[1 before]"; fmt.Sprint(o.got) != want {
			t.Fatalf("%d pieces: replayed %v, want %v", pieces, o.got, want)
		}
		tail, at := o.tail, o.at
		o.appendLarge(t, rng, pieces)
		// Only the first piece of the second attempt has reached the disk.
		taken, _ := o.take()
		first := taken[0]
		if first.segment != tail || first.at != at {
			t.Fatalf("the second attempt begins at %d of segment %d, want %d of %d", first.at, first.segment.number, at, tail.number)
		}
		var e Entry
		size, _, err := decodeFrame(first.data, &e, new([]byte))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tail.file.WriteAt(first.data[:size], at); err != nil {
			t.Fatal(err)
		}
		o.stop(false)
		o, err = open(t, dir)
		if err != nil {
			t.Fatalf("%d pieces: %v", pieces, err)
		}
		if want := "[1 before]"; fmt.Sprint(o.got) != want {
			t.Fatalf("%d pieces: replayed %v, want %v", pieces, o.got, want)
		}
		o.stop(true)
	}
}

// tearLastPiece flushes what was appended and damages the end of it, as if its sync had not been done.
func (o *opened) tearLastPiece(t *testing.T) {
	t.Helper()
	if err := o.Wait(t.Context(), o.Head().LSN); err != nil {
		t.Fatal(err)
	}
	if _, err := o.tail.file.WriteAt([]byte("torn"), o.at-100); err != nil {
		t.Fatal(err)
	}
	o.stop(false)
}

func TestLog_A10_DamagedHeaderOfTheLastSegmentIsNotAnUnbornOne(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	rng := rand.New(rand.NewPCG(1, 10))
	for o.tail.number == 1 {
		lsn, _ := o.appendLarge(t, rng, 1)
		if err := o.Wait(t.Context(), lsn); err != nil {
			t.Fatal(err)
		}
	}
	o.add(t, "a")
	o.add(t, "b")
	o.stop(false)
	path := lastSegment(t, dir)
	flip(t, path, 40)
	if _, err := open(t, dir); !errors.Is(err, ErrDamaged) {
		t.Fatalf("error %v, want %v", err, ErrDamaged)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("what could be repaired is gone: %v", err)
	}
	flip(t, path, 40)
	o = mustOpen(t, dir)
	if o.got[len(o.got)-1][len(o.got[len(o.got)-1])-1] != 'b' {
		t.Fatalf("the last entry is %q", o.got[len(o.got)-1])
	}
	o.stop(true)
}

// The pages are the head's by then: to give them back to the caller would be to free them twice.
func TestLog_A11_AnEntryThatIsTheHeadIsNotRefusedWhenTheLogFails(t *testing.T) {
	o := mustOpen(t, t.TempDir())
	bad := errors.New("disk failed")
	lsn, err := o.Append(&Entry{Epoch: 1, Kind: Transaction}, func(history.LSN) { o.fail(bad) })
	if err != nil || lsn != o.Head().LSN {
		t.Fatalf("entry %d, error %v; head %v", lsn, err, o.Head())
	}
	if err := o.Wait(t.Context(), lsn); !errors.Is(err, bad) {
		t.Fatalf("error %v, want %v", err, bad)
	}
	if _, err := o.Append(&Entry{Epoch: 1}, nil); !errors.Is(err, bad) {
		t.Fatalf("error %v, want %v", err, bad)
	}
	_ = o.Close(true)
}
