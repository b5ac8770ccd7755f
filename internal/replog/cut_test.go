package replog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"skein/internal/history"
)

func TestACutLogEndsThereAndGoesOn(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(6, seed))
		dir := t.TempDir()
		o := mustOpen(t, dir)
		o.fill(t, rng, 1, 25)
		o.fill(t, rng, 2, 25)
		_, want := drain(t, o.reader(t, 0), 1<<20)
		to := history.LSN(rng.Uint64N(uint64(o.Received()) + 1))
		position, err := o.At(to)
		if err != nil {
			t.Fatal(err)
		}
		epochs := o.Epochs().Until(to)
		var saved bytes.Buffer
		if to < o.Received() {
			if err := o.Save(&saved, to+1, o.Received()); err != nil {
				t.Fatal(err)
			}
		}
		behind := o.reader(t, to)
		beyond := o.reader(t, to)
		_, tail := drain(t, beyond, 1<<20)
		var scratch []byte
		n := 0
		if err := EachFrame(saved.Bytes(), &scratch, func(e *Entry) error {
			if !e.More {
				n++
			}
			return nil
		}); err != nil || n != len(tail) {
			t.Fatalf("%d entries saved, %d cut, %v", n, len(tail), err)
		}
		o.put(t, 2, Transaction, "not even flushed")
		if err := o.Cut(to); err != nil {
			t.Fatal(err)
		}
		check := func() {
			t.Helper()
			if o.Head() != position || o.Flushed.Load() != to || o.Received() != to || !slices.Equal(o.Epochs(), epochs) || o.BytesSince(to) != 0 {
				t.Fatalf("cut to %v: head %v, flushed %d, epochs %v", position, o.Head(), o.Flushed.Load(), o.Epochs())
			}
			if _, got := drain(t, o.reader(t, 0), 1<<20); !slices.Equal(got, want[:to]) {
				t.Fatalf("cut to %d: %v", to, got)
			}
		}
		check()
		if len(tail) > 0 {
			if _, _, err := beyond.TryNext(1 << 20); !errors.Is(err, ErrCut) {
				t.Fatalf("error %v, want %v", err, ErrCut)
			}
		}
		if rng.IntN(2) == 0 {
			o.stop(rng.IntN(2) == 0)
			o = mustOpen(t, dir)
			check()
			behind = o.reader(t, to)
		}
		want = want[:to]
		for i := range 30 {
			body := fmt.Sprint("another history ", i, string(noise(rng, rng.IntN(9000))))
			want = append(want, fmt.Sprintf("%d %s", o.put(t, 3, Transaction, body), short([]byte(body))))
		}
		o.flush(t)
		if _, got := drain(t, behind, 1<<20); !slices.Equal(got, want[to:]) {
			t.Fatalf("cut to %d, then read %v", to, got)
		}
		o.stop(false)
		o = mustOpen(t, dir)
		if !slices.Equal(o.got, want) {
			t.Fatalf("cut to %d, then replayed %v", to, o.got)
		}
		o.stop(true)
	}
}

func TestACutBelowTheLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := Create(dir, testOptions, history.Position{Epoch: 1, LSN: 9, Chain: 3}, history.Epochs{{Epoch: 1, LSN: 1}}); err != nil {
		t.Fatal(err)
	}
	o := mustOpenWith(t, dir, 9, testOptions)
	defer o.stop(true)
	o.add(t, "ten")
	head := o.Head()
	if err := o.Cut(8); !errors.Is(err, ErrTrimmed) {
		t.Fatalf("error %v, want %v", err, ErrTrimmed)
	}
	if err := o.Cut(11); !errors.Is(err, ErrNotYet) {
		t.Fatalf("error %v, want %v", err, ErrNotYet)
	}
	if o.Head() != head {
		t.Fatalf("head %v, want %v", o.Head(), head)
	}
	if err := o.Cut(9); err != nil || o.Received() != 9 {
		t.Fatalf("received %d, %v", o.Received(), err)
	}
}

func TestAReaderThatHasHalfOfACutEntryIsTold(t *testing.T) {
	o := mustOpen(t, t.TempDir())
	defer o.stop(true)
	o.add(t, "a")
	r := o.reader(t, 1)
	o.appendLarge(t, rand.New(rand.NewPCG(6, 9)), 3)
	o.flush(t)
	if b, ok, err := r.TryNext(1); err != nil || !ok || b.Last != 0 {
		t.Fatalf("the first piece: last %d, %v, %v", b.Last, ok, err)
	}
	if err := o.Cut(1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.TryNext(1); !errors.Is(err, ErrCut) {
		t.Fatalf("error %v, want %v", err, ErrCut)
	}
}

// Whoever has asked for an entry that is not on disk yet is told when it is cut instead. It does not wait until the log has
// grown as far again, which may be never.
func TestACutEndsTheWaitForWhatItTakesBack(t *testing.T) {
	for name, ask := range map[string]func(*Log, history.LSN) error{
		"At":        func(l *Log, lsn history.LSN) error { _, err := l.At(lsn); return err },
		"NewReader": func(l *Log, lsn history.LSN) error { _, err := l.NewReader(lsn); return err },
	} {
		var o *opened
		options := testOptions
		options.OnFlush = func() {
			if o.Received() != 3 {
				return
			}
			if err := o.Cut(1); err != nil { // between the flush that was asked for and the answer
				t.Error(err)
			}
		}
		o = mustOpenWith(t, t.TempDir(), 0, options)
		for range 3 {
			o.put(t, 1, Transaction, "x")
		}
		answer := make(chan error, 1)
		go func() { answer <- ask(o.Log, 2) }()
		select {
		case err := <-answer:
			if !errors.Is(err, ErrNotYet) {
				t.Errorf("%s: error %v, want %v", name, err, ErrNotYet)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: it still waits for an entry that was cut", name)
		}
		o.stop(true)
	}
}
