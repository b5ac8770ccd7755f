package replog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"skein/internal/history"
)

// Frames whose CRC is right, but that no leader's log holds.
func TestFollower_RefusesFramesThatFitButForOneThing(t *testing.T) {
	o := mustOpen(t, t.TempDir())
	defer o.stop(true)
	o.put(t, 2, EpochStart, "")
	o.flush(t)
	head := o.Head()
	frameOf := func(e Entry) ([]byte, history.Hash) {
		e.LSN, e.Kind = head.LSN+1, Transaction
		b, sum, err := appendFrame(nil, &e, 1)
		if err != nil {
			t.Fatal(err)
		}
		return b, sum
	}
	first, link := frameOf(Entry{Epoch: 2, Chain: head.Chain, More: true, Body: []byte("first")})
	for _, test := range []struct {
		name string
		e    Entry
	}{
		{"an epoch that is over", Entry{Epoch: 1, Chain: head.Chain}},
		{"another past", Entry{Epoch: 2, Chain: head.Chain + 1}},
		{"a piece of another epoch", Entry{Epoch: 3, Chain: link, Chunk: 1}},
		{"a piece behind another one", Entry{Epoch: 2, Chain: link + 1, Chunk: 1}},
		{"a piece too far", Entry{Epoch: 2, Chain: link, Chunk: 2}},
	} {
		b, _ := frameOf(test.e)
		if _, err := o.AppendFrames(slices.Concat(first, b), 0); !errors.Is(err, ErrNotNext) {
			if test.e.Chunk == 0 {
				_, err = o.AppendFrames(b, 0)
			}
			if !errors.Is(err, ErrNotNext) {
				t.Errorf("%s: error %v, want %v", test.name, err, ErrNotNext)
			}
		}
	}
	// What is behind a body is no part of the entry: on disk it is zeros.
	b, _ := frameOf(Entry{Epoch: 2, Chain: head.Chain, Body: []byte("x")})
	for i := frameHeader + 1; i < len(b); i++ {
		b[i] = 0xff
	}
	r := o.reader(t, head.LSN)
	if _, err := o.AppendFrames(b, 0); err != nil {
		t.Fatal(err)
	}
	o.flush(t)
	got, _ := drain(t, r, 1<<20)
	if end := got[len(got)-7:]; !slices.Equal(end, []byte{0, 0, 0, 0, 0, 0, 0}) {
		t.Fatalf("padding %x", end)
	}
}

func TestAnEpochWhoseFirstEntryWasGivenUpNeverWas(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.put(t, 1, EpochStart, "")
	giveUp := func(epoch history.Epoch) {
		t.Helper()
		_, err := o.AppendChunks(&Entry{Epoch: epoch, Kind: Transaction}, 10, func(emit func([]byte) error) error {
			return errors.Join(emit([]byte("a")), emit([]byte("b")), errGivenUp)
		}, nil)
		if !errors.Is(err, errGivenUp) {
			t.Fatal(err)
		}
	}
	want := history.Epochs{{Epoch: 1, LSN: 1}}
	check := func() {
		t.Helper()
		if got := o.Epochs(); !slices.Equal(got, want) {
			t.Fatalf("epochs %v, want %v", got, want)
		}
	}
	giveUp(2)
	check()
	o.put(t, 1, Transaction, "of the old epoch")
	check()
	giveUp(2)
	want = append(want, history.Start{Epoch: 3, LSN: o.put(t, 3, EpochStart, "")})
	check()
	o.flush(t)
	o.stop(false)
	o = mustOpen(t, dir)
	check()
	o.stop(true)
}

// A reader that has everything of a segment goes on when that is trimmed.
func TestReader_GoesOnBehindATrimmedSegment(t *testing.T) {
	options := testOptions
	options.ringBytes = 1
	o := mustOpenWith(t, t.TempDir(), 0, options)
	defer o.stop(true)
	rng := rand.New(rand.NewPCG(7, 7))
	r := o.reader(t, 0)
	for moved := 0; moved < 3; {
		number := o.tail.number
		o.put(t, 1, Transaction, string(noise(rng, 200<<10)))
		o.flush(t)
		if o.tail.number == number {
			drain(t, r, 1<<20)
			continue
		}
		head := o.Received()
		o.put(t, 1, Transaction, "x")
		o.put(t, 1, Transaction, "y")
		o.flush(t)
		if err := o.Trim(head + 1); err != nil {
			t.Fatal(err)
		}
		if o.First() != head {
			t.Fatalf("the log begins at %d, not at %d", o.First(), head)
		}
		if _, got := drain(t, r, 1<<20); len(got) != 3 || got[2] != fmt.Sprintf("%d y", head+2) {
			t.Fatalf("read %v", got)
		}
		moved++
	}
}
