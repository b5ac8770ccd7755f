package engine

import (
	"context"
	"sync"

	"skein/internal/sqlstate"
)

// errLocksElsewhere is for a follower: two clients that want the same lock may be on different nodes.
var errLocksElsewhere = sqlstate.New(sqlstate.ReadOnlyTransaction, "advisory locks are kept by the leader").
	WithHint("%s", toTheLeader)

// advisoryLocks are the locks that applications take by number. They live on the leader and end
// with their session.
type advisoryLocks struct {
	mu    sync.Mutex
	locks map[advisoryKey]*advisoryLock
}

type advisoryKey struct {
	database *Database
	key      int64
}

type advisoryLock struct {
	holders map[*Session]*hold
	freed   chan struct{} // closed, and made anew, whenever somebody lets go
}

// hold counts how often a session has the lock.
type hold struct{ exclusive, shared, exclusiveTxn, sharedTxn int }

func (h *hold) none() bool { return *h == hold{} }

func newAdvisoryLocks() *advisoryLocks { return &advisoryLocks{locks: map[advisoryKey]*advisoryLock{}} }

// take waits for a lock until ctx ends.
func (a *advisoryLocks) take(ctx context.Context, s *Session, key int64, shared, txn bool) error {
	for {
		freed := a.try(s, key, shared, txn)
		if freed == nil {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// try takes a lock and gives nil, or a channel that is closed when it is worth another try.
func (a *advisoryLocks) try(s *Session, key int64, shared, txn bool) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := advisoryKey{s.db, key}
	l := a.locks[k]
	if l == nil {
		l = &advisoryLock{holders: map[*Session]*hold{}, freed: make(chan struct{})}
		a.locks[k] = l
	}
	if !l.free(s, shared) {
		return l.freed
	}
	h := l.holders[s]
	if h == nil {
		h = &hold{}
		l.holders[s] = h
	}
	*h.counter(shared, txn)++
	return nil
}

func (l *advisoryLock) free(s *Session, shared bool) bool {
	for other, h := range l.holders {
		if other != s && (!shared || h.exclusive+h.exclusiveTxn > 0) {
			return false
		}
	}
	return true
}

func (h *hold) counter(shared, txn bool) *int {
	switch {
	case shared && txn:
		return &h.sharedTxn
	case shared:
		return &h.shared
	case txn:
		return &h.exclusiveTxn
	}
	return &h.exclusive
}

// release lets go of one session-level hold.
func (a *advisoryLocks) release(s *Session, key int64, shared bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := advisoryKey{s.db, key}
	l := a.locks[k]
	if l == nil || l.holders[s] == nil || *l.holders[s].counter(shared, false) == 0 {
		return false
	}
	*l.holders[s].counter(shared, false)--
	a.tidy(k, l, s)
	return true
}

// tidy forgets what is no longer held and wakes who waits. The lock is held.
func (a *advisoryLocks) tidy(k advisoryKey, l *advisoryLock, s *Session) {
	if h := l.holders[s]; h != nil && h.none() {
		delete(l.holders, s)
	}
	close(l.freed)
	l.freed = make(chan struct{})
	if len(l.holders) == 0 {
		delete(a.locks, k)
	}
}

// releaseTransaction lets go of what the session's transaction holds.
func (a *advisoryLocks) releaseTransaction(s *Session) {
	a.each(s, func(h *hold) { h.exclusiveTxn, h.sharedTxn = 0, 0 })
}

// releaseSession lets go of every session-level hold.
func (a *advisoryLocks) releaseSession(s *Session) {
	a.each(s, func(h *hold) { h.exclusive, h.shared = 0, 0 })
}

// releaseAll lets go of everything.
func (a *advisoryLocks) releaseAll(s *Session) { a.each(s, func(h *hold) { *h = hold{} }) }

func (a *advisoryLocks) each(s *Session, fn func(*hold)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, l := range a.locks {
		if h := l.holders[s]; h != nil {
			fn(h)
			a.tidy(k, l, s)
		}
	}
}

var errUnlockNotHeld = sqlstate.New(sqlstate.Warning, "you don't own a lock of type ExclusiveLock")
