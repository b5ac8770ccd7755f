package replication

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
)

const (
	slotsFileName = "slots.json"

	// upkeep is how often slots are written down and looked at.
	upkeep = 5 * time.Second

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
	// Mended, if any, hears of every damaged page that a read or a scrub has found: where the good copy came from, or why there is none.
	// It must not wait.
	Mended func(database history.DatabaseID, page pagestore.PageNo, from string, err error)
	// CountAs gives what a follower is called in the rule that commits are acknowledged by; nil: its name.
	CountAs func(Identity) string
	// Members gives the ids of the cluster's nodes, nil while they are not known. Without it nobody keeps a list.
	Members func() []string
}

// Peer is a node's side of everything that travels between nodes. Its methods may be called from any
// goroutine; Run and Follow own the goroutines that they start. Other nodes come to it through a Door.
type Peer struct {
	Link
	pipeline *commit.Pipeline
	slots    *slots
	times    timeline
	began    time.Time

	dir        string
	scrubEvery time.Duration
	mended     func(history.DatabaseID, pagestore.PageNo, string, error)
	countAs    func(Identity) string

	damaged chan damage

	receivedAwaited, appliedAwaited atomic.Int64 // until when it counts as waited for, ns since began; 0: nobody has

	senders  atomic.Pointer[[]*sender] // those that stream, for progressed
	receiver atomic.Pointer[receiver]  // of the present Follow

	mu        sync.Mutex
	replicas  map[string]*replica  // by name: connected now, or once
	snapshots map[*shipment]uint32 // those under way, and their pids
	upstream  string               // where Follow copies from
	trouble   string               // why its last connection ended
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
	if o.CountAs == nil {
		o.CountAs = func(who Identity) string { return who.Name }
	}
	s, err := openSlots(filepath.Join(o.Dir, slotsFileName), Bounds{SlotBytes: DefaultSlotBytes})
	if err != nil {
		return nil, err
	}
	if o.Members != nil {
		s.members = o.Members
	}
	p := &Peer{
		Link: o.Link, pipeline: o.Pipeline, slots: s, began: time.Now(), dir: o.Dir, scrubEvery: o.ScrubEvery, mended: o.Mended, countAs: o.CountAs,
		damaged:  make(chan damage, maxDamaged),
		replicas: map[string]*replica{}, snapshots: map[*shipment]uint32{},
	}
	p.senders.Store(&[]*sender{})
	o.Pipeline.OnProgress(p.progressed)
	o.Pipeline.OnRelease(p.released)
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

// answer says how a node is answered that has come through the Door.
func (p *Peer) answer(ctx context.Context, cancel context.CancelCauseFunc, w *wire, who Identity, why Purpose) (visit, error) {
	switch why {
	case toStream:
		s, err := p.admit(ctx, cancel, w, who)
		if err != nil {
			return visit{}, err
		}
		return visit{func() error { return s.run(ctx) }, func() { p.dismiss(s) }, s.started.Load}, nil
	case toFetch:
		return visit{answer: func() error { return p.ship(ctx, w, who) }}, nil
	case toRepair:
		return visit{answer: func() error { return p.givePages(w) }}, nil
	case toVerify:
		return visit{answer: func() error { return p.giveVerified(ctx, w) }}, nil
	}
	return visit{}, refuse(RefusedProtocol, "it does not know what you want (%d)", why)
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
		peer: p, w: w, who: who, cancel: cancel, pid: p.pids, since: time.Now(), state: StateStartup,
		feeding: make(chan struct{}, 1), poke: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
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
	p.pipeline.Forget(p.countAs(s.who))
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

// released is called by the pipeline when followers may have what is about to be flushed, by whoever flushes: a client
// waits for it and, if standbys are named, for them too.
func (p *Peer) released() {
	if !p.pipeline.Synchronous() {
		return // pump has its time
	}
	for _, s := range *p.senders.Load() {
		s.sendNow()
	}
}

// progressed is called by the pipeline whenever something was flushed or became visible: by commits, so it
// does what takes no wait, and leaves notes for the rest.
func (p *Peer) progressed() {
	synchronous := p.pipeline.Synchronous()
	for _, s := range *p.senders.Load() {
		if s.news() && !(synchronous && s.tellNow()) {
			nudge(s.poke)
		}
		if s.hasToAsk() {
			nudge(s.hurry)
		}
	}
	if r := p.receiver.Load(); r != nil && r.news() && !r.takes.Load() {
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
	if sticky(&p.receivedAwaited, received, now.Sub(p.began)) {
		flags |= flagAwaitsReceived
	}
	if sticky(&p.appliedAwaited, applied, now.Sub(p.began)) {
		flags |= flagAwaitsApplied
	}
	return flags
}

func sticky(till *atomic.Int64, on bool, now time.Duration) bool {
	if on {
		till.Store(int64(now + stickyAwait))
		return true
	}
	return int64(now) < till.Load()
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

// forget lets the log go that was kept for nodes which have been removed from the cluster.
func (p *Peer) forget() {
	for _, name := range p.slots.former() {
		_ = p.DropSlot(name) // one that is in use goes when its node has hung up
	}
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
			p.forget()
			p.keep()
			if err := p.slots.save(); err != nil {
				p.Logger.Error("cannot write down how far followers are", "error", fmt.Errorf("save slots: %w", err))
			}
		}
	}
}
