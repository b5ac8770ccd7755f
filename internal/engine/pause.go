package engine

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pause keeps everybody from writing: it has the turn of every database.
type pause struct{ databases []*Database } // guarded by Engine.mu

// place is one in the queue for a database's turn.
type place struct {
	database *Database
	mine     chan struct{} // closed when the turn has come; nil if it was there at once
}

// PauseWrites waits until no transaction that writes is open, in any database or in the system database, and keeps
// new ones waiting in the queue until resume is called; timeouts go on for them. What was committed by then is in
// the log, and may still wait for acknowledgements. It queues for every database at once, behind those who wait
// already. Blocks that write a draft end before that, while all others go on. When ctx ends before, it has no effect, and the
// error says who stands in the way.
func (e *Engine) PauseWrites(ctx context.Context) (resume func(), err error) {
	if err := e.pausing.take(ctx); err != nil {
		return nil, fmt.Errorf("writes are paused already: %w", err)
	}
	p := &pause{}
	if err := e.drafts.drain(ctx); err != nil {
		e.resume(p)
		return nil, err
	}
	waiting := e.line(p)
	for i, w := range waiting {
		select {
		case <-w.mine:
			e.hold(p, w.database)
			continue
		case <-ctx.Done():
		}
		err := newBusy(ctx, waiting[i:])
		for _, w := range waiting[i:] {
			w.database.writer.leave(w.mine)
			w.database.closeGone()
		}
		e.resume(p)
		return nil, err
	}
	return sync.OnceFunc(func() { e.resume(p) }), nil
}

// line queues for the turn of every database. Databases that appear from now on are paused from the start.
func (e *Engine) line(p *pause) (waiting []place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.paused = p
	all := []*Database{e.system}
	for _, d := range e.databases {
		all = append(all, d)
	}
	for _, d := range all {
		if mine := d.writer.line(); mine != nil {
			waiting = append(waiting, place{d, mine})
		} else {
			p.databases = append(p.databases, d)
		}
	}
	return waiting
}

func (e *Engine) hold(p *pause, d *Database) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.databases = append(p.databases, d)
}

// resume gives every turn on.
func (e *Engine) resume(p *pause) {
	e.mu.Lock()
	e.paused = nil
	e.mu.Unlock()
	for _, d := range p.databases {
		d.writer.give()
		d.closeGone()
	}
	e.drafts.admit()
	e.pausing.give()
}

// closeGone closes what is left of a database that was dropped while somebody who had not written had the turn.
func (d *Database) closeGone() {
	if d.ended() && d.writer.try() {
		d.closeWarm()
	}
}

// drafts are the sessions with a block that has written without the turn, each since when.
type drafts struct {
	mu     sync.Mutex
	open   map[*Session]time.Time
	closed bool          // no more of them
	ended  chan struct{} // closed when there is none any more; nil unless somebody waits for that
}

// enter has a session write a draft, unless they are to end.
func (d *drafts) enter(s *Session) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, has := d.open[s]; has {
		return true
	}
	if d.closed {
		return false
	}
	if d.open == nil {
		d.open = map[*Session]time.Time{}
	}
	d.open[s] = s.began
	return true
}

// leave says that its draft has ended or come to its turn.
func (d *drafts) leave(s *Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, s)
	if d.ended != nil && len(d.open) == 0 {
		close(d.ended)
		d.ended = nil
	}
}

// drain waits until there are none, and has no others begin until admit is called. The error says who is left when ctx ends.
func (d *drafts) drain(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	if len(d.open) == 0 {
		d.mu.Unlock()
		return nil
	}
	ended := make(chan struct{})
	d.ended = ended
	d.mu.Unlock()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = nil
	b := &busy{cause: context.Cause(ctx)}
	for s, since := range d.open {
		b.add(s.db, s.out.PID(), since)
	}
	return b
}

func (d *drafts) admit() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = false
}

// busy is who stands in the way of a pause.
type busy struct {
	transactions int // that write and are open
	oldest       *Database
	pid          uint32 // of its session, 0 for the node itself
	since        time.Time
	cause        error // why they are not waited for any longer
}

// add counts in a transaction.
func (b *busy) add(d *Database, pid uint32, since time.Time) {
	b.transactions++
	if b.oldest == nil || since.Before(b.since) {
		b.oldest, b.pid, b.since = d, pid, since
	}
}

func newBusy(ctx context.Context, waiting []place) *busy {
	b := &busy{cause: context.Cause(ctx)}
	for _, w := range waiting {
		select {
		case <-w.mine:
			continue
		default:
		}
		b.add(w.database, w.database.writing.Load(), w.database.writer.heldSince())
	}
	return b
}

func (b *busy) Error() string {
	if b.oldest == nil {
		return "writes cannot be paused: there was no time"
	}
	what := "a transaction that has written is still open"
	if b.transactions > 1 {
		what = fmt.Sprintf("%d transactions that have written are still open, the oldest", b.transactions)
	}
	who := "of the node itself"
	if b.pid != 0 {
		who = fmt.Sprintf("in database %q, of the session with pid %d", b.oldest.Name, b.pid)
	}
	return fmt.Sprintf("writes cannot be paused: %s %s, since %s (for %v)",
		what, who, b.since.Format(time.TimeOnly), time.Since(b.since).Round(time.Millisecond))
}

func (b *busy) Unwrap() error { return b.cause }
