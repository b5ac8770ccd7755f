package replication

import (
	"sync"
	"time"
)

// maxReadings bounds what is remembered of a follower's clock. With more, every other one goes.
const maxReadings = 64

// readings are what a follower's clock showed, by when it was heard here. Only the order of events joins the two clocks: the follower read
// its own before this node heard of it.
type readings struct {
	mu   sync.Mutex
	list []reading // ascending in both
}

type reading struct {
	heard  time.Duration // by this node's clock
	theirs time.Duration // by the follower's
}

func (r *readings) note(heard, theirs time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.list); theirs == 0 || n > 0 && theirs <= r.list[n-1].theirs {
		return
	}
	if len(r.list) == maxReadings {
		half := r.list[:0]
		for i := 0; i < maxReadings; i += 2 {
			half = append(half, r.list[i])
		}
		r.list = half
	}
	r.list = append(r.list, reading{heard, theirs})
}

// by gives the newest reading that had been heard by then, 0 if there is none. Those before it are forgotten: then only grows.
func (r *readings) by(then time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.list) && r.list[n].heard <= then {
		n++
	}
	if n == 0 {
		return 0
	}
	r.list = append(r.list[:0], r.list[n-1:]...)
	return r.list[0].theirs
}
