package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"skein/internal/history"
	"skein/internal/rest"
)

const (
	// reportEvery is how often a node reports. It does so at once when something has changed, but not more often than
	// reportPause.
	reportEvery = 100 * time.Millisecond
	reportPause = time.Millisecond

	// watchTimeout is how long either side of a stream may be silent, or slow to take what it is sent.
	watchTimeout = 2 * time.Second

	// maxSent bounds the reports that a lease may still be counted from.
	maxSent = 64
)

// serveWatch reports to a coordinator, and takes States and leases from it.
func (c *Control) serveWatch(ctx context.Context, m *messages) error {
	var h watchHello
	if err := m.receive(&h, watchTimeout); err != nil {
		return err
	}
	err := c.attend(ctx, m, h)
	c.succeed(ctx, h.From)
	return err
}

func (c *Control) attend(ctx context.Context, m *messages, h watchHello) error {
	w := watchWelcome{Node: c.o.Self, Store: c.self.store}
	if h.To != c.o.Self {
		w.Refused = fmt.Sprintf("here is node %s, not %s", c.o.Self, h.To)
	}
	if err := m.send(w, watchTimeout); err != nil || w.Refused != "" {
		return err
	}
	c.watchedBy(h)
	r := &reporter{control: c, m: m, poke: make(chan struct{}, 1), number: rand.Uint64() >> 1, sent: map[uint64]sent{}}
	c.addWatcher(r.poke)
	defer c.removeWatcher(r.poke)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer func() { _ = m.Close() }()
	reporting.Go(func() {
		cancel(r.report(ctx))
		_ = m.Close()
	})
	for {
		var p push
		if err := m.receive(&p, watchTimeout); err != nil {
			cancel(err)
			return context.Cause(ctx)
		}
		r.take(p)
	}
}

// watchedBy remembers the newest coordinator, for commands.
func (c *Control) watchedBy(h watchHello) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Term >= c.term {
		c.term, c.watched = h.Term, h.From
	}
}

func (c *Control) addWatcher(poke chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[poke] = struct{}{}
}

func (c *Control) removeWatcher(poke chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchers, poke)
}

// reporter is a node's side of one stream.
type reporter struct {
	control *Control
	m       *messages
	poke    chan struct{} // one slot

	mu     sync.Mutex
	number uint64          // of the newest report
	sent   map[uint64]sent // of the newest ones
}

// sent is what a lease counts from that a report leads to.
type sent struct {
	at      time.Duration // Boottime, before the report was made
	leading history.Epoch // that it said
}

func (r *reporter) report(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if err := r.m.send(r.next(), watchTimeout); err != nil {
			return err
		}
		if err := rest.For(ctx, reportPause); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-r.poke:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next makes a report, and notes what it said and when.
func (r *reporter) next() numbered {
	at := r.control.o.boottime()
	report := r.control.o.Report()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
	r.sent[r.number] = sent{at, report.Leading}
	delete(r.sent, r.number-maxSent)
	return numbered{r.number, report}
}

func (r *reporter) take(p push) {
	if p.State != nil {
		r.control.learn(*p.State)
	}
	if p.Grant == 0 {
		return
	}
	r.mu.Lock()
	s, known := r.sent[p.Grant]
	r.mu.Unlock()
	if known && s.leading != 0 {
		r.control.extend(s.leading, s.at+p.Lease)
	}
}
