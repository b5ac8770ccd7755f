package commit

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/history"
)

// restorePace is how often a leader that goes on alone looks whether its standbys have caught up.
const restorePace = 100 * time.Millisecond

// ErrTooMuchPending refuses a transaction while what standbys have not acknowledged fills the memory.
var ErrTooMuchPending = errors.New("too much is waiting for the acknowledgement of standbys: the memory for page versions is used up")

// degrading is what happens when standbys do not acknowledge in time.
type degrading struct {
	ask     chan overdue // one slot
	enabled atomic.Pointer[Recorder]

	mu    sync.Mutex
	first history.LSN // acknowledged by the leader alone since it is on its own
	last  history.LSN
	count int64
	total int64 // since Open
}

// overdue is a commit that has waited too long for standbys.
type overdue struct {
	role *leadership
	lsn  history.LSN
}

// Recorder writes down, before the first weaker acknowledgement and after the last, that the leader goes on
// without its standbys. What it writes is durable on the leader when it returns.
type Recorder interface {
	RecordDegraded(ctx context.Context, from history.LSN, reason string) error
	RecordRestored(ctx context.Context, first, last history.LSN, commits int64) error
}

// forget begins to count anew. The lock is held.
func (d *degrading) forget() { d.first, d.last, d.count = 0, 0, 0 }

// RecordWith sets who records. Without, the leader never goes on alone.
func (p *Pipeline) RecordWith(r Recorder) { p.degrading.enabled.Store(&r) }

// Configure sets whose acknowledgement counts, at once.
func (p *Pipeline) Configure(c SyncConfig) {
	role := p.role.Load()
	role.rule.configure(c, p.log.Flushed.Load)
	role.rounds.reset()
	p.advance()
}

// Sync is the rule in force, and whether the leader goes on without the standbys that it names.
func (p *Pipeline) Sync() (c SyncConfig, alone bool) {
	r := &p.role.Load().rule
	return r.current(), r.isAlone()
}

// Backed is the LSN that enough of the named standbys have on their disks, whether they are waited for or not.
func (p *Pipeline) Backed() history.LSN { return p.role.Load().rule.reached(On) }

// Synchronous says whether standbys are named: then a client may wait for any of them.
func (p *Pipeline) Synchronous() bool { return p.role.Load().rule.synchronous.Load() }

// AcknowledgedAlone counts the commits since Open that a client heard of before enough standbys had them.
func (p *Pipeline) AcknowledgedAlone() int64 {
	d := &p.degrading
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total
}

// Acknowledge notes how far a follower is that streams. name is as in synchronous_standby_names.
func (p *Pipeline) Acknowledge(name string, at Progress) {
	p.role.Load().rule.acknowledge(name, at)
	p.advance()
}

// Forget stops counting a follower. What it has acknowledged stays acknowledged.
func (p *Pipeline) Forget(name string) {
	role := p.role.Load()
	role.rule.forget(name)
	role.rounds.forget(name)
	p.advance() // with FIRST, another may take its place
}

// SyncStateOf gives what pg_stat_replication shows as sync_priority and sync_state.
func (p *Pipeline) SyncStateOf(name string) (priority int, state string) {
	return p.role.Load().rule.state(name)
}

// Wait returns once lsn, an entry of this leadership, is acknowledged at a level. alone says that it was by the leader
// alone, which goes on without its standbys. With an error the outcome is unknown: the transaction stays what it
// is, and may be committed later. When this node ceases to lead meanwhile it waits until ctx ends: what
// becomes of the entry, the next leader decides.
func (p *Pipeline) Wait(ctx context.Context, lsn history.LSN, level Level) (alone bool, err error) {
	role := p.role.Load()
	if !role.leads() {
		return false, p.outlive(ctx)
	}
	proved := false
	alone, proved, err = p.await(ctx, role, lsn, level)
	if err == nil && !proved && p.options.MayAcknowledge != nil {
		err = p.options.MayAcknowledge(ctx)
	}
	if errors.Is(err, errLapsed) || err == nil && p.role.Load() != role {
		return false, p.outlive(ctx)
	}
	if err == nil && alone {
		p.countAlone(lsn)
	}
	return alone, err
}

// outlive waits for the end of ctx, or of the node.
func (p *Pipeline) outlive(ctx context.Context) error { return p.visible.Wait(ctx, math.MaxUint64) }

// await returns once lsn has come to a level; proved says that followers are known to have it.
func (p *Pipeline) await(ctx context.Context, role *leadership, lsn history.LSN, level Level) (alone, proved bool, err error) {
	if level == Off {
		p.FlushSoon()
		return false, false, nil
	}
	p.awaited[level].Add(1) // first: the flush sends the entry, and followers learn with it what is waited for
	defer p.awaited[level].Add(-1)
	if err := p.log.Wait(ctx, lsn); err != nil {
		return false, false, err
	}
	if role.rule.asynchronous.Load() {
		return false, false, p.waitVisible(ctx, lsn)
	}
	if level == Local {
		return false, false, nil
	}
	if err := p.waitStandbys(ctx, role, lsn, level); err != nil {
		return false, false, err
	}
	if level >= On { // whoever connects next must see it
		if err := p.waitVisible(ctx, lsn); err != nil {
			return false, false, err
		}
	}
	alone, proved = role.rule.how(lsn, level)
	return alone, proved, nil
}

// waitVisible waits for the one who flushed to say so.
func (p *Pipeline) waitVisible(ctx context.Context, lsn history.LSN) error {
	if p.visible.Load() >= lsn {
		return nil
	}
	return p.visible.Wait(ctx, lsn)
}

// Awaits says whether a client waits just now for followers to have received, or to show, its commit: then
// they should say so at once.
func (p *Pipeline) Awaits() (received, applied bool) {
	if role := p.role.Load(); role.leads() && role.rule.asynchronous.Load() {
		return false, false // they wait for this node's disk alone
	}
	return p.awaited[RemoteWrite].Load() > 0, p.awaited[RemoteApply].Load() > 0
}

// waitStandbys waits until enough standbys have come to lsn, and after the configured time asks to go on
// without them.
func (p *Pipeline) waitStandbys(ctx context.Context, role *leadership, lsn history.LSN, level Level) error {
	mark := &role.rule.marks[level]
	for {
		c := role.rule.current()
		if c.Timeout == 0 || !c.Degrade || mark.Load() >= lsn {
			return mark.Wait(ctx, lsn)
		}
		limited, cancel := context.WithTimeoutCause(ctx, c.Timeout, errSyncTimeout)
		err := mark.Wait(limited, lsn)
		cancel()
		if !errors.Is(err, errSyncTimeout) || ctx.Err() != nil {
			return err
		}
		select { // again after each timeout: it may not have been possible to write that down
		case p.degrading.ask <- overdue{role, lsn}:
		default:
		}
	}
}

var errSyncTimeout = errors.New("the standbys have not acknowledged within skein.sync_timeout")

// countAlone counts a commit that the leader alone has acknowledged.
func (p *Pipeline) countAlone(lsn history.LSN) {
	d := &p.degrading
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first == 0 {
		d.first = lsn
	}
	d.first, d.last = min(d.first, lsn), max(d.last, lsn)
	d.count++
	d.total++
}

// watchStandbys goes on alone when a commit asks for that, and goes back when the standbys have caught up.
func (p *Pipeline) watchStandbys(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case late := <-p.degrading.ask:
			if p.degrade(ctx, late) {
				p.awaitStandbys(ctx, late.role)
			}
		}
	}
}

// degrade goes on without standbys, once that is written down. It says whether it did.
func (p *Pipeline) degrade(ctx context.Context, late overdue) bool {
	rule := &late.role.rule
	c, recorder := rule.current(), p.degrading.enabled.Load()
	if p.role.Load() != late.role || c.Names.Empty() || !c.Degrade || recorder == nil || rule.reached(max(c.Level, On)) >= late.lsn {
		return false
	}
	from := rule.reached(On) + 1
	if err := (*recorder).RecordDegraded(ctx, max(from, p.visible.Load()+1), errSyncTimeout.Error()); err != nil {
		p.options.Logger.Error("cannot record that standbys are not waited for any more; commits go on waiting", "error", err)
		return false
	}
	p.options.Logger.Warn("degraded: commits are acknowledged without standbys from here on", "after", p.visible.Load(), "names", c.Names.String())
	rule.setAlone(true)
	p.advance()
	return true
}

// awaitStandbys returns once standbys are waited for again: when enough of them have what was the head a
// moment before, so that the next commits wait for no more than usual. Or once this node does not lead any more.
func (p *Pipeline) awaitStandbys(ctx context.Context, role *leadership) {
	tick := time.NewTicker(restorePace)
	defer tick.Stop()
	var head history.LSN
	rule := &role.rule
	for rule.isAlone() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.role.Load() != role {
			return
		}
		if c := rule.current(); head > 0 && rule.reached(max(c.Level, On)) >= head {
			rule.setAlone(false)
			break
		}
		head = p.log.Received()
	}
	select { // those whose commit was let go just before have counted it by then
	case <-ctx.Done():
	case <-tick.C:
	}
	d := &p.degrading
	d.mu.Lock()
	first, last, count := d.first, d.last, d.count
	d.forget()
	d.mu.Unlock()
	p.options.Logger.Info("standbys are waited for again", "commits acknowledged alone", count, "first", first, "last", last)
	if err := (*p.degrading.enabled.Load()).RecordRestored(ctx, first, last, count); err != nil {
		p.options.Logger.Error("cannot record that standbys are waited for again", "error", err)
	}
}
