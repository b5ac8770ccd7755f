package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
)

const (
	slotsFileName = "slots.json"

	// upkeep is how often slots are written down and looked at.
	upkeep = 5 * time.Second

	// maxStrangers bounds connections that have not proved who they are.
	maxStrangers = 64

	// stickyAwait is for how long followers are asked to ack at once after somebody has waited for it.
	// Whoever waits next would otherwise be noticed only after its entry has been sent.
	stickyAwait = time.Second
)

// Options of a Peer.
type Options struct {
	Link
	Dir      string // of the node: slots.json
	Pipeline *commit.Pipeline
	// ScrubEvery is how often all pages are read in the background; 0: DefaultScrubEvery, negative: never.
	ScrubEvery time.Duration
}

// Peer is a node's side of everything that travels between nodes. Its methods may be called from any
// goroutine; Serve, Run and Follow own the goroutines that they start.
type Peer struct {
	Link
	pipeline *commit.Pipeline
	slots    *slots
	times    timeline
	began    time.Time

	dir        string
	scrubEvery time.Duration

	strangers chan struct{} // one slot each
	damaged   chan damage

	receivedAwaited, appliedAwaited atomic.Int64 // when somebody last waited for it, ns of time.Now

	senders  atomic.Pointer[[]*sender] // those that stream, for progressed
	receiver atomic.Pointer[receiver]  // of the present Follow

	mu        sync.Mutex
	replicas  map[string]*replica  // by name: connected now, or once
	snapshots map[*shipment]uint32 // those under way, and their pids
	upstream  string               // where Follow copies from
	trouble   string               // why its last connection ended
	ends      map[string]string    // how each node's last connection ended, as logged
	pids      uint32
	scrubbed  Scrub
}

// replica is what is remembered of a follower.
type replica struct {
	who    Identity
	sender *sender       // nil while disconnected
	gone   chan struct{} // closed when sender has ended and is forgotten
	last   ack           // as of the last connection
	since  time.Time     // disconnected
}

// NewPeer makes a node's Peer and has the log kept for its slots. The pipeline must outlive it.
func NewPeer(o Options) (*Peer, error) {
	o.setDefaults()
	if o.ScrubEvery == 0 {
		o.ScrubEvery = DefaultScrubEvery
	}
	s, err := openSlots(filepath.Join(o.Dir, slotsFileName), Bounds{SlotBytes: DefaultSlotBytes})
	if err != nil {
		return nil, err
	}
	p := &Peer{
		Link: o.Link, pipeline: o.Pipeline, slots: s, began: time.Now(), dir: o.Dir, scrubEvery: o.ScrubEvery,
		strangers: make(chan struct{}, maxStrangers),
		damaged:   make(chan damage, maxDamaged),
		replicas:  map[string]*replica{}, snapshots: map[*shipment]uint32{}, ends: map[string]string{},
	}
	p.senders.Store(&[]*sender{})
	o.Pipeline.OnProgress(p.progressed)
	o.Pipeline.Retain(p.keep)
	return p, nil
}

// Configure bounds what followers that are away may cost. It takes effect at once.
func (p *Peer) Configure(b Bounds) { p.slots.configure(b) }

// CreateSlot makes a slot. With reserve it keeps the log from now on; the LSN is what it keeps it behind.
func (p *Peer) CreateSlot(name string, reserve bool) (history.LSN, error) {
	at := p.pipeline.Visible()
	return at, p.slots.create(name, at, reserve, time.Now())
}

// DropSlot lets the log go that was kept for a follower that is not connected.
func (p *Peer) DropSlot(name string) error {
	if err := p.slots.drop(name); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.replicas[name]; r != nil && r.sender == nil {
		delete(p.replicas, name)
	}
	return nil
}

// Serve answers other nodes until ctx is done; when it returns, every connection is gone. It closes the listener.
func (p *Peer) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer func() { _ = l.Close() }() // not after Serve has returned, which the other one may be
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of file descriptors, most likely: those who are connected must not suffer from who is not.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.Logger.Warn("cannot accept a node", "error", err)
			rest(ctx, pause)
			continue
		}
		pause = 0
		select {
		case p.strangers <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		serving.Go(func() { p.serve(ctx, conn) })
	}
}

// rest waits, or gives up with ctx.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// serve is one connection's life.
func (p *Peer) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	tune(conn, p.Timeout)
	w := newWire(conn, p.Timeout)

	// Whoever is slow to introduce itself is cut off, so that strangers cannot take the places of all.
	late := time.AfterFunc(p.Timeout, func() { _ = conn.Close() })
	var s *sender
	who, why, err := p.receive(w, func(who Identity, why purpose) error {
		if why != toStream {
			return nil
		}
		var err error
		s, err = p.admit(ctx, cancel, w, who)
		return err
	})
	late.Stop()
	<-p.strangers
	if err == nil {
		err = p.answer(ctx, w, who, why, s)
	}
	if s != nil {
		p.dismiss(s)
	}
	p.tellEnd(ctx, who, conn.RemoteAddr(), ended(ctx, err))
}

// tellEnd logs why a connection has ended, unless this node stops.
func (p *Peer) tellEnd(ctx context.Context, who Identity, from net.Addr, err error) {
	var refused *Refused // by this node: whoever dials refuses nobody
	switch {
	case err == nil:
	case errors.As(err, &refused):
		if p.isNews(who.Node, err) {
			p.Logger.Info("refused a node", "node", who.Name, "address", from.String(), "reason", refused.Text)
		}
	case ctx.Err() == nil && p.isNews(who.Node, err):
		p.Logger.Info("a node's connection ended", "node", who.Name, "address", from.String(), "error", err)
	}
}

// isNews says whether a node's connection has ended otherwise than its last one: a node that is refused comes
// again every few seconds.
func (p *Peer) isNews(node string, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ends[node] == err.Error() {
		return false
	}
	if len(p.ends) >= maxStrangers { // whoever makes up names must not fill the memory
		clear(p.ends)
	}
	p.ends[node] = err.Error()
	return true
}

func (p *Peer) answer(ctx context.Context, w *wire, who Identity, why purpose, s *sender) error {
	switch why {
	case toIdentify:
		return nil
	case toStream:
		return s.run(ctx)
	case toFetch:
		return p.ship(ctx, w, who)
	case toRepair:
		return p.givePages(w)
	case toVerify:
		return p.giveVerified(ctx, w)
	}
	return w.refuse(refuse(RefusedProtocol, "it does not know what you want (%d)", why))
}

// admit makes room for a follower. One node, and one name, streams once: a connection that the same process
// made before is half open and makes way; one of another process that has just spoken does not.
func (p *Peer) admit(ctx context.Context, cancel context.CancelCauseFunc, w *wire, who Identity) (*sender, error) {
	if who.Name == "" {
		return nil, refuse(RefusedProtocol, "you have no name")
	}
	for {
		s, wait, err := p.tryAdmit(cancel, w, who)
		if wait == nil {
			return s, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

var errReplaced = errors.New("the same follower has connected again")

// tryAdmit gives the sender, or what to wait for before trying again.
func (p *Peer) tryAdmit(cancel context.CancelCauseFunc, w *wire, who Identity) (*sender, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.replicas {
		if r.sender == nil || r.who.Node != who.Node && r.who.Name != who.Name {
			continue
		}
		old := r.sender
		same := r.who.Node == who.Node && r.who.Incarnation == who.Incarnation
		if alive := old.w.silence(time.Now()) < max(p.Timeout/4, 5*p.Heartbeat); alive && !same {
			what := "node id " + who.Node
			if r.who.Node != who.Node {
				what = "name " + who.Name
			}
			return nil, nil, refuse(RefusedDuplicate, "another process with your %s is connected, from %s", what, old.w.conn.RemoteAddr())
		}
		old.cancel(errReplaced)
		return nil, r.gone, nil
	}
	p.pids++
	s := &sender{
		peer: p, w: w, who: who, cancel: cancel, pid: p.pids, since: time.Now(), poke: make(chan struct{}, 1), state: StateStartup,
	}
	r := p.replicas[who.Name]
	if r == nil {
		r = &replica{}
		p.replicas[who.Name] = r
	}
	r.who, r.sender, r.gone = who, s, make(chan struct{})
	return s, nil, nil
}

// dismiss forgets a connection. Its acks count no more.
func (p *Peer) dismiss(s *sender) {
	p.pipeline.Forget(s.who.Name)
	p.slots.release(s.who.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.replicas[s.who.Name]
	r.sender, r.last, r.since = nil, s.progress(), time.Now()
	close(r.gone)
	p.list()
}

// pid numbers a connection, for views that have a column for it.
func (p *Peer) pid() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pids++
	return p.pids
}

// list tells progressed who streams; mu is held.
func (p *Peer) list() {
	var all []*sender
	for _, r := range p.replicas {
		if r.sender != nil && r.sender.started.Load() {
			all = append(all, r.sender)
		}
	}
	p.senders.Store(&all)
}

// progressed is called by the pipeline whenever something was flushed or became visible: by commits, so it
// only leaves notes.
func (p *Peer) progressed() {
	for _, s := range *p.senders.Load() {
		if s.news() {
			nudge(s.poke)
		}
	}
	if r := p.receiver.Load(); r != nil && r.news() {
		nudge(r.poke)
	}
}

// nudge fills a one-slot channel.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// awaits gives the flags for acks that somebody waits for, or did a moment ago.
func (p *Peer) awaits(now time.Time) (flags uint8) {
	received, applied := p.pipeline.Awaits()
	if sticky(&p.receivedAwaited, received, now) {
		flags |= flagAwaitsReceived
	}
	if sticky(&p.appliedAwaited, applied, now) {
		flags |= flagAwaitsApplied
	}
	return flags
}

func sticky(last *atomic.Int64, on bool, now time.Time) bool {
	if on {
		last.Store(now.UnixNano())
		return true
	}
	return now.UnixNano()-last.Load() < int64(stickyAwait)
}

// appliedIsAwaited says whether a client waits, or waited lately, until followers show its commit.
func (p *Peer) appliedIsAwaited() bool { return p.awaits(time.Now())&flagAwaitsApplied != 0 }

// keep is from where on the log is wanted by followers. The pipeline asks before it trims.
func (p *Peer) keep() history.LSN {
	oldest, lost := p.slots.keep(time.Now(), p.pipeline.Log().BytesSince, p.short())
	for _, slot := range lost {
		p.Logger.Warn("a replication slot has crossed its bound and keeps no log any more; its follower will take a snapshot if it comes back too late",
			"slot", slot.Name, "restart", slot.Restart, "reason", slot.Lost)
		p.disconnect(slot.Name, refuse(RefusedGone, "you are too far behind: the log that you need was given up"))
	}
	return oldest
}

// short says whether the disk has so little room left that no log should be kept for others.
func (p *Peer) short() bool {
	free, total, err := space(p.dir)
	return err == nil && free < min(total/20, 1<<30)
}

func (p *Peer) disconnect(name string, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.replicas[name]; r != nil && r.sender != nil {
		r.sender.cancel(why)
	}
}

// Run keeps slots in order, and reads all pages now and then and mends damaged ones, until ctx is done.
func (p *Peer) Run(ctx context.Context) error {
	var scrubbing sync.WaitGroup
	defer scrubbing.Wait()
	scrubbing.Go(func() { p.scrubs(ctx) })
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return p.slots.save()
		case d := <-p.damaged:
			p.mend(ctx, d)
		case <-tick.C:
			p.keep()
			if err := p.slots.save(); err != nil {
				p.Logger.Error("cannot write down how far followers are", "error", fmt.Errorf("save slots: %w", err))
			}
		}
	}
}
