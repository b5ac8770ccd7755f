package node

import (
	"context"
	"sort"
	"sync"

	"skein/internal/history"
)

// changes are the applied changes of the system database that the engine has not read again since.
type changes struct {
	more chan struct{} // one slot: there is a new one

	mu  sync.Mutex
	all []history.LSN // ascending
}

func newChanges() changes { return changes{more: make(chan struct{}, 1)} }

// add notes a change. Entries are applied in order: those at or above were of a tail that has been cut.
func (c *changes) add(lsn history.LSN) {
	c.mu.Lock()
	c.all = append(c.upTo(lsn-1), lsn)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// oldest is the first to wait for, 0 if there is none.
func (c *changes) oldest() history.LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 {
		return 0
	}
	return c.all[0]
}

// read forgets those up to an entry.
func (c *changes) read(lsn history.LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = c.all[len(c.upTo(lsn)):]
}

func (c *changes) upTo(lsn history.LSN) []history.LSN {
	return c.all[:sort.Search(len(c.all), func(i int) bool { return c.all[i] > lsn })]
}

// followSystem has the engine read the system database again whenever a change of it has become visible.
func (t *term) followSystem(ctx context.Context) error {
	for {
		lsn := t.system.oldest()
		if lsn == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-t.system.more:
			}
			continue
		}
		switch shown, err := t.shows(ctx, lsn); {
		case err != nil:
			return nil // stopping, or the disk has failed and Run says so
		case shown:
			visible := t.pipeline.Visible()
			t.engine.Load().Replicated(history.SystemDatabase, visible)
			t.system.read(visible)
		}
	}
}

// shows waits until readers see an entry, or there is a new change: then the entry may have been cut.
func (t *term) shows(ctx context.Context, lsn history.LSN) (bool, error) {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan error, 1)
	go func() { seen <- t.pipeline.VisibleMark().Wait(waiting, lsn) }()
	select {
	case err := <-seen:
		return err == nil, err
	case <-t.system.more:
		stop()
		<-seen
		return false, ctx.Err()
	}
}
