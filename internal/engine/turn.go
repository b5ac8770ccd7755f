package engine

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turn is the right to write to one database. It goes round in the order of asking; its holder hands it
// straight to the next, so that nobody can overtake.
type turn struct {
	mu    sync.Mutex
	held  bool
	since time.Time // held by the same one
	queue []chan struct{}
}

// take waits for the turn until ctx ends.
func (t *turn) take(ctx context.Context) error {
	mine := t.line()
	if mine == nil {
		return nil
	}
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.leave(mine)
	return context.Cause(ctx)
}

// line takes the turn, or else the last place in the queue: the turn is the caller's once mine is closed.
func (t *turn) line() (mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.held {
		t.held, t.since = true, time.Now()
		return nil
	}
	mine = make(chan struct{})
	t.queue = append(t.queue, mine)
	return mine
}

// leave gives up a place in the queue, or what has come of it.
func (t *turn) leave(mine chan struct{}) {
	t.mu.Lock()
	i := slices.Index(t.queue, mine)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 { // it was handed over in the same moment
		t.give()
	}
}

// try takes the turn if nobody has it.
func (t *turn) try() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		return false
	}
	t.held, t.since = true, time.Now()
	return true
}

// give hands the turn to whoever has waited longest.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.held = false
		return
	}
	t.since = time.Now()
	close(t.queue[0])
	t.queue = slices.Delete(t.queue, 0, 1)
}

// heldSince says since when its holder has had the turn.
func (t *turn) heldSince() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since
}
