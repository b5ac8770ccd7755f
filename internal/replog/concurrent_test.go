package replog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"skein/internal/history"
)

// bodyOf says what entry lsn of an epoch holds, so that every reader can tell.
func bodyOf(epoch history.Epoch, lsn history.LSN) string {
	rng := rand.New(rand.NewPCG(uint64(epoch), uint64(lsn)))
	return fmt.Sprintf("entry %d of epoch %d %s", lsn, epoch, noise(rng, rng.IntN(40000)))
}

// Readers at all distances while a writer goes on and the log is trimmed: each gets every entry in order, or
// is told that they are gone, and begins anew.
func TestReader_TheLogIsTrimmedUnderItsFeet(t *testing.T) {
	options := testOptions
	options.ringBytes = 200 << 10
	o := mustOpenWith(t, t.TempDir(), 0, options)
	const last = 1500
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers sync.WaitGroup
	trimmed := make([]int, 4)
	for i := range trimmed {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(9, uint64(i)))
			r := o.reader(t, 0)
			next := history.LSN(1)
			var scratch []byte
			for next <= last {
				b, err := r.Next(ctx, 1+rng.IntN(300<<10))
				if errors.Is(err, ErrTrimmed) {
					trimmed[i]++
					for errors.Is(err, ErrTrimmed) {
						next = o.First() + 1
						r, err = o.NewReader(next - 1)
					}
				}
				if err == nil {
					err = EachFrame(b.Frames, &scratch, func(e *Entry) error {
						if e.LSN != next || string(e.Body) != bodyOf(1, next) {
							return fmt.Errorf("entry %d where %d should be, or not what was written", e.LSN, next)
						}
						next++
						return nil
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
				for range i * 3 { // some are slower
					_, _ = o.At(max(next-1, o.First()))
				}
			}
		})
	}
	for lsn := history.LSN(1); lsn <= last; lsn++ {
		o.put(t, 1, Transaction, bodyOf(1, lsn))
		if lsn%7 == 0 {
			o.flush(t)
		}
		if lsn%90 == 0 {
			if err := o.Trim(o.Flushed.Load()); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.flush(t)
	readers.Wait()
	t.Logf("trimmed under the feet of the readers: %v", trimmed)
	o.stop(true)
}

// Readers while the log is cut and goes on in another epoch: none is ever given an entry that does not follow what it
// was given before, without being told.
func TestReader_TheLogIsCutUnderItsFeet(t *testing.T) {
	for _, ringBytes := range []int{1, defaultRingBytes} {
		options := testOptions
		options.ringBytes = ringBytes
		o := mustOpenWith(t, t.TempDir(), 0, options)
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		var readers sync.WaitGroup
		cuts := make([]int, 3)
		for i := range cuts {
			readers.Go(func() {
				rng := rand.New(rand.NewPCG(10, uint64(i)))
				var r *Reader
				var head thread
				var scratch []byte
				for {
					if r == nil {
						after := history.LSN(rng.Uint64N(uint64(o.Received()) + 1))
						var err error
						if r, err = o.NewReader(after); errors.Is(err, ErrNotYet) {
							continue // cut meanwhile
						} else if err != nil {
							t.Error(err)
							return
						}
						head = r.thread
					}
					b, err := r.Next(ctx, 1+rng.IntN(100<<10))
					switch {
					case errors.Is(err, enough):
						return
					case errors.Is(err, ErrCut):
						cuts[i]++
						r = nil
						continue
					case err != nil:
						t.Error(err)
						return
					}
					for rest := b.Frames; len(rest) > 0; {
						f, ok := readFrame(rest)
						if !ok || !head.accepts(f) {
							t.Errorf("%+v does not follow %+v", f, head)
							return
						}
						head.take(f, headerHash(rest))
						rest = rest[f.size:]
					}
					if err := EachFrame(b.Frames, &scratch, func(e *Entry) error {
						if string(e.Body) != bodyOf(e.Epoch, e.LSN) {
							return fmt.Errorf("entry %d is not what was written", e.LSN)
						}
						return nil
					}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		rng := rand.New(rand.NewPCG(11, 1))
		for epoch := history.Epoch(1); epoch <= 15; epoch++ {
			for range 20 + rng.IntN(60) {
				o.put(t, epoch, Transaction, bodyOf(epoch, o.Received()+1))
				if rng.IntN(5) == 0 {
					o.FlushSoon()
				}
			}
			head := o.Received()
			if err := o.Cut(head - history.LSN(rng.Uint64N(uint64(min(head, 100))+1))); err != nil {
				t.Fatal(err)
			}
		}
		o.flush(t)
		cancel(enough)
		readers.Wait()
		t.Logf("cut under the feet of the readers: %v", cuts)
		o.stop(true)
	}
}
