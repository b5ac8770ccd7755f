package replog

import (
	"slices"
	"sync"
	"time"

	"skein/internal/history"
)

// Fence has the log take nothing more in the name of an epoch below: neither entries of this node's own nor what
// is received from another. It waits for the append that is under way, and gives the head, which from then on moves
// in the name of epoch or a later one alone.
func (l *Log) Fence(epoch history.Epoch) history.Position {
	l.order.Lock()
	defer l.order.Unlock()
	l.fence = max(l.fence, epoch)
	return l.head
}

// Stalled is for how long the oldest write to disk that somebody waits for has not returned; 0 if there is none.
func (l *Log) Stalled() time.Duration { return l.busy.oldest() }

// outstanding are writes that have not returned.
type outstanding struct {
	mu    sync.Mutex
	began []*time.Time // oldest first; at most a few at a time
}

// begin notes a write, until done is called.
func (o *outstanding) begin() (done func()) {
	now := time.Now()
	o.mu.Lock()
	o.began = append(o.began, &now)
	o.mu.Unlock()
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.began = slices.DeleteFunc(o.began, func(at *time.Time) bool { return at == &now })
	}
}

func (o *outstanding) oldest() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.began) == 0 {
		return 0
	}
	return time.Since(*o.began[0])
}
