// Package watermark lets many goroutines wait until a number that only grows has passed theirs.
// The flusher advances one after each fdatasync; every commit waits on it.
package watermark

import (
	"context"
	"sync"
	"sync/atomic"

	"skein/internal/history"
)

// Watermark is an LSN that only grows, but for Lower, or that has failed for good. The zero value stands at zero.
type Watermark struct {
	at atomic.Uint64

	mu      sync.Mutex
	waiters []waiter // in no order: a commit's LSN is near the mark, so a batch empties the list
	err     error    // set once by Fail; whoever waits beyond `at` gets it
}

type waiter struct {
	lsn  history.LSN
	wake chan error // one slot, so that Advance never blocks
}

// Load gives the present mark.
func (w *Watermark) Load() history.LSN { return history.LSN(w.at.Load()) }

// Advance raises the mark to lsn, if that is higher, and wakes whoever waited for no more.
func (w *Watermark) Advance(lsn history.LSN) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if uint64(lsn) <= w.at.Load() {
		return
	}
	w.at.Store(uint64(lsn))
	kept := w.waiters[:0]
	for _, wt := range w.waiters {
		if wt.lsn <= lsn {
			wt.wake <- nil
		} else {
			kept = append(kept, wt)
		}
	}
	clear(w.waiters[len(kept):])
	w.waiters = kept
}

// Lower takes the mark back to lsn, if that is lower: what lies above was taken back, and has to be reached
// anew. Whoever was told of it before must be told otherwise.
func (w *Watermark) Lower(lsn history.LSN) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if uint64(lsn) < w.at.Load() {
		w.at.Store(uint64(lsn))
	}
}

// Fail ends every wait beyond the present mark with err, now and later. The first error stays.
func (w *Watermark) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	w.err = err
	for _, wt := range w.waiters {
		wt.wake <- err
	}
	w.waiters = nil
}

// Wait returns nil once the mark has reached lsn, Fail's error if it never will, or the context's.
func (w *Watermark) Wait(ctx context.Context, lsn history.LSN) error {
	if w.Load() >= lsn {
		return nil
	}
	w.mu.Lock()
	if w.Load() >= lsn {
		w.mu.Unlock()
		return nil
	}
	if w.err != nil {
		w.mu.Unlock()
		return w.err
	}
	wake := make(chan error, 1)
	w.waiters = append(w.waiters, waiter{lsn, wake})
	w.mu.Unlock()

	select {
	case err := <-wake:
		return err
	case <-ctx.Done():
		w.forget(wake)
		return context.Cause(ctx)
	}
}

func (w *Watermark) forget(wake chan error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.waiters {
		if w.waiters[i].wake == wake {
			w.waiters = append(w.waiters[:i], w.waiters[i+1:]...)
			return
		}
	}
}
