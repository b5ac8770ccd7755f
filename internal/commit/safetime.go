package commit

import (
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/history"
)

const (
	// maxSafeTimes bounds what is remembered for readers that are behind. When it is full every other one goes, and the next ones are
	// taken at a larger distance.
	maxSafeTimes = 256
	safeTimeStep = time.Millisecond
)

// SafeTime says that everything which had been acknowledged to anybody in the cluster before At, by this node's clock, is at or below
// LSN. It stays true for ever, whoever leads later.
type SafeTime struct {
	LSN history.LSN
	At  time.Duration
}

// safeTimes is what a node knows about how fresh it is. Clocks of two nodes are never compared: a leader gives a follower's own reading
// back, the newest that it had when it began to make sure that it leads.
//
// Invariants: ahead ascends in both; its LSNs are above what readers saw when it was last looked at; At of newest never goes down.
type safeTimes struct {
	at atomic.Int64 // newest.At, for those who only want to know whether there is news

	mu     sync.Mutex
	newest SafeTime
	seen   time.Duration // newest At whose LSN readers see; 0: none is known
	ahead  []SafeTime
	step   time.Duration // between two of ahead, but for the last
}

// Now is this node's clock for how old is what it knows. It is of this machine alone.
func (p *Pipeline) Now() time.Duration { return p.options.Clock() }

// Vouch takes note of a SafeTime.
func (p *Pipeline) Vouch(t SafeTime) {
	s := &p.safe
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.At <= s.newest.At {
		return
	}
	s.newest = t
	s.at.Store(int64(t.At))
	s.look(p.visible.Load())
	n := len(s.ahead)
	for n > 0 && s.ahead[n-1].LSN >= t.LSN { // the new one says more
		n--
	}
	switch {
	case n == 0:
		s.step = safeTimeStep
	case n > 1 && s.ahead[n-1].At-s.ahead[n-2].At < s.step:
		n--
	case n == maxSafeTimes:
		n /= 2
		for i := range n {
			s.ahead[i] = s.ahead[2*i+1]
		}
		s.step *= 2
	}
	s.ahead = append(s.ahead[:n], t)
}

// look forgets what readers have reached, but for the newest. The lock is held.
func (s *safeTimes) look(visible history.LSN) {
	n := 0
	for n < len(s.ahead) && s.ahead[n].LSN <= visible {
		s.seen = s.ahead[n].At
		n++
	}
	s.ahead = append(s.ahead[:0], s.ahead[n:]...)
}

// SafeTime is the newest that this node knows of, which readers here may not have reached; its At is 0 if there is none.
func (p *Pipeline) SafeTime() SafeTime {
	s := &p.safe
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// SafeAt is the time of SafeTime.
func (p *Pipeline) SafeAt() time.Duration { return time.Duration(p.safe.at.Load()) }

// Staleness says how long ago it was that everything which had been acknowledged to anybody by then is visible here; false if that is not
// known. A leader tells for how long it has not made sure that it leads.
func (p *Pipeline) Staleness() (time.Duration, bool) {
	if role := p.role.Load(); role.leads() && !role.rule.current().Bound && p.visible.Load() >= role.rule.first {
		p.vouchSelf(role)
	}
	s := &p.safe
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(p.visible.Load())
	if s.seen == 0 {
		return 0, false
	}
	return max(p.Now()-s.seen, 0), true
}
