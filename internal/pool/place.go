package pool

import (
	"context"
	"net"

	"skein/internal/replication"
)

// Place is a session's at a node that it reads on. It is used from the session's goroutine.
type Place struct {
	pool *Pool
	node *node
	up   context.Context
	name string
	seen int64 // Pool.judged when Stays looked last
	left bool
}

// Enter gives a place at the node that fits best; false if there is none. moving says that the session has
// another: not all of them move at once.
func (p *Pool) Enter(moving bool) (*Place, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	return p.enter(Choose(p.view(), p.rule(), p.turn, moving), moving)
}

// EnterAny does so too, and where nobody can be read gives one at the leader, or else wherever somebody answers: for a session that
// begins.
func (p *Pool) EnterAny() (*Place, bool) {
	if place, ok := p.Enter(false); ok {
		return place, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i, n := range p.view() {
		if n.Up && n.Data && !n.Suspect && (best < 0 || n.Leads) {
			best = i
		}
	}
	return p.enter(best, false)
}

func (p *Pool) enter(i int, moving bool) (*Place, bool) {
	if i < 0 {
		return nil, false
	}
	n := p.nodes[i]
	n.places++
	n.report.Sessions++ // until it says so itself
	if moving {
		n.extra--
	}
	return &Place{pool: p, node: n, up: n.up, name: n.report.Name}, true
}

// Name is the node's.
func (pl *Place) Name() string { return pl.name }

// Up is done once the node does not answer any more.
func (pl *Place) Up() context.Context { return pl.up }

// Stays says whether the session may read on there.
func (pl *Place) Stays() bool {
	p := pl.pool
	if !pl.Readable() {
		return false
	}
	judged := p.judged.Load()
	if judged == pl.seen {
		return true
	}
	pl.seen = judged
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, n := range p.nodes {
		if n == pl.node {
			return !Crowded(p.view(), p.rule(), i)
		}
	}
	return false
}

// Leave gives it back.
func (pl *Place) Leave() {
	if pl.left {
		return
	}
	pl.left = true
	pl.pool.mu.Lock()
	defer pl.pool.mu.Unlock()
	pl.node.places--
	pl.node.report.Sessions--
}

// Dial opens a connection to the node, for statements that read.
func (pl *Place) Dial(ctx context.Context) (net.Conn, error) {
	conn, _, err := pl.pool.options.Dial(ctx, pl.node.address, replication.ToRead)
	return conn, err
}

// Readable says whether the node may be read, be it more than others.
func (pl *Place) Readable() bool { return pl.node.readable.Load() && pl.up.Err() == nil }

// Check has the node asked soon whether it is there.
func (pl *Place) Check() {
	select {
	case pl.node.asks <- struct{}{}:
	default:
	}
}

// Failed does so too, and nobody else is sent there until it has answered: it could not be connected to.
func (pl *Place) Failed() {
	p := pl.pool
	p.mu.Lock()
	pl.node.suspect = pl.up == pl.node.up
	p.mu.Unlock()
	pl.Check()
}

// Lead waits until the leader takes one more read of a session that has no place. done ends it.
func (p *Pool) Lead(ctx context.Context) (done func(), err error) {
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
