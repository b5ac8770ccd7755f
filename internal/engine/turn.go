package engine

import (
	"context"
	"slices"
	"sync"
)

// turn is the right to write to one database. It goes round in the order of asking; its holder hands it
// straight to the next, so that nobody can overtake.
type turn struct {
	mu    sync.Mutex
	held  bool
	queue []chan struct{}
}

// take waits for the turn until ctx ends.
func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.queue = append(t.queue, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(t.queue, mine)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 { // it was handed over in the same moment
		t.give()
	}
	return context.Cause(ctx)
}

// try takes the turn if nobody has it.
func (t *turn) try() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	free := !t.held
	t.held = true
	return free
}

// give hands the turn to whoever has waited longest.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.held = false
		return
	}
	close(t.queue[0])
	t.queue = slices.Delete(t.queue, 0, 1)
}
