package replication

import (
	"context"
	"sync"
	"time"

	"skein/internal/rest"
)

const (
	// messagePace is how often a follower is told anything while no client waits for it. With one message for every
	// commit, a single client's commits would cost the leader twice: what comes within the pace goes together.
	messagePace = time.Millisecond

	// messageBurst goes out at once after a rest, so that a commit on an idle cluster is visible at once.
	messageBurst = 8
)

// pace spreads messages evenly, after a burst. (It is the virtual scheduling form of a leaky bucket, as ATM's
// generic cell rate algorithm has it.) The zero value is ready.
type pace struct {
	mu   sync.Mutex
	next time.Time // when a message is due if all before it had been evenly spread
}

// take counts a message in and says how long it should wait.
func (p *pace) take(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.push(now)
	return p.next.Sub(now)
}

func (p *pace) push(now time.Time) {
	if earliest := now.Add(-messageBurst * messagePace); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(messagePace)
}

// free counts a message in if it need not wait.
func (p *pace) free(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Add(messagePace).After(now) {
		return false
	}
	p.push(now)
	return true
}

// count counts a message in that goes out in any case: those after it wait for no more than themselves.
func (p *pace) count(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.push(now)
	}
}

// hold waits until the next message is due, or ctx is done.
func (p *pace) hold(ctx context.Context) {
	if wait := p.take(time.Now()); wait > 0 {
		_ = rest.For(ctx, wait)
	}
}
