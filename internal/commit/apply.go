package commit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"skein/internal/history"
	"skein/internal/replog"
	"skein/internal/rest"
)

const (
	applyBatch   = 1 << 20                // bytes of log that the applier takes at a time
	standInBatch = 4 << 10                // and whoever stands in for it, whose sender waits
	applyShow    = 64                     // entries that are applied before readers see them, where more follow
	roomPace     = 200 * time.Millisecond // between two looks whether a full disk has room again

	// schemaCookie is where SQLite counts changes of the schema on page 1.
	schemaCookieAt, schemaCookieEnd = 40, 44
)

// ErrCommittedTail means that a cut would take back what readers have been shown, or may be at any moment.
var ErrCommittedTail = errors.New("the log would have to be cut below what is committed")

var (
	errLeading = errors.New("this node is the leader")
	errPaused  = errors.New("applying is paused")
)

// applier is a follower's way from its log to its pages.
type applier struct {
	applied atomic.Uint64 // newest entry whose page versions are in the store
	delay   atomic.Int64  // skein.min_apply_delay, ns
	hook    atomic.Pointer[func(db history.DatabaseID, lsn history.LSN, schema bool)]
	last    atomic.Int64 // commit time of the newest applied transaction, µs

	paused  atomic.Pointer[chan struct{}] // closed to go on; nil while not paused
	changed chan struct{}                 // one slot: the delay was changed

	applying sync.Mutex // held over a frame, and over a cut with its I/O: no frame is applied meanwhile

	feeding chan struct{} // one slot, for whoever uses feed: the applier, but while it sleeps
	feed    feed
}

// feed is what comes to be applied.
type feed struct {
	reader  *replog.Reader // nil: nothing does
	cuts    int64          // see stands
	scratch []byte
	err     error // of who stood in
}

func (a *applier) at() history.LSN { return history.LSN(a.applied.Load()) }

func (a *applier) init() {
	a.changed = make(chan struct{}, 1)
	a.feeding = make(chan struct{}, 1)
}

// Applied is the newest entry whose pages are in the page store; readers may not see it yet.
func (p *Pipeline) Applied() history.LSN {
	if p.Leading() {
		return p.log.Received()
	}
	return p.applier.at()
}

// AppliedAt is the commit time of the newest applied transaction, zero before the first.
func (p *Pipeline) AppliedAt() time.Time {
	if us := p.applier.last.Load(); us != 0 {
		return time.UnixMicro(us)
	}
	return time.Time{}
}

// OnApply has fn called for every transaction that was applied, before any reader sees it; schema says that
// it changes the schema of its database.
func (p *Pipeline) OnApply(fn func(db history.DatabaseID, lsn history.LSN, schema bool)) {
	p.applier.hook.Store(&fn)
}

// Receive appends frames that came in the name of epoch under, whole and in order, and gives the log's new head.
// Followers of this node may have them from then on. It fails with ErrPromised if a later epoch was promised.
func (p *Pipeline) Receive(frames []byte, under history.Epoch) (history.Position, error) {
	if err := p.mayHear(under); err != nil {
		return history.Position{}, err
	}
	if p.Leading() || p.ending.Load() { // in this order
		return history.Position{}, errLeading
	}
	head, err := p.log.AppendFrames(frames, under)
	if errors.Is(err, replog.ErrFenced) {
		return head, fmt.Errorf("%w: %w", ErrPromised, err)
	}
	p.newest.Store(uint64(head.Epoch))
	return head, err
}

// Flush makes everything received durable and gives the LSN up to which it is.
func (p *Pipeline) Flush(ctx context.Context) (history.LSN, error) {
	head := p.log.Received()
	return head, p.log.Wait(ctx, head)
}

// LearnCommitted notes what is said to be committed in the name of epoch under. Of that only what is here counts: what
// comes later may come from another leader, with another history. After a later promise it is not heard.
func (p *Pipeline) LearnCommitted(lsn history.LSN, under history.Epoch) {
	if p.learn(lsn, under) {
		p.advance()
	}
}

func (p *Pipeline) learn(lsn history.LSN, under history.Epoch) bool {
	p.roles.RLock()
	defer p.roles.RUnlock()
	if p.mayHear(under) != nil || p.Leading() {
		return false
	}
	lsn = min(lsn, p.log.Received())
	for {
		now := p.learnt.Load()
		if uint64(lsn) <= now {
			return false
		}
		if p.learnt.CompareAndSwap(now, uint64(lsn)) {
			return true
		}
	}
}

// Follow applies what is received until ctx is done. It ends with pagestore.ErrDiverged when this node's
// pages turn out not to be the leader's. While the disk is full it stands still; readers go on.
func (p *Pipeline) Follow(ctx context.Context) error {
	told := history.LSN(0) // entry that it last said there was no room for
	for {
		at, cuts := p.applier.stands(p.log)
		err := p.applyAfter(ctx, at, cuts)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.ENOSPC):
			if told != at+1 {
				p.options.Logger.Error("the disk is full: what the leader commits is not shown here until there is room", "after", at, "error", err)
			}
			told = at + 1
			p.advance()
			_ = rest.For(ctx, roomPace)
		case errors.Is(err, errPaused): // it goes on with the same frame, after the pause
		case p.log.Cuts() == cuts && !errors.Is(err, replog.ErrCut):
			return fmt.Errorf("apply: %w", err)
		}
	}
}

// stands gives the entry to go on behind, and the number of cuts as of which it is one.
func (a *applier) stands(log *replog.Log) (at history.LSN, cuts int64) {
	a.applying.Lock()
	defer a.applying.Unlock()
	return a.at(), log.Cuts()
}

// applyAfter applies what comes after an entry until it fails; whatever it says may be for a cut that has come.
func (p *Pipeline) applyAfter(ctx context.Context, at history.LSN, cuts int64) error {
	r, err := p.log.NewReader(at)
	if err != nil {
		return err
	}
	defer r.Close()
	p.applier.take(feed{reader: r, cuts: cuts})
	defer p.applier.take(feed{})
	for {
		asleep, err := p.applyReleased(ctx)
		if err == nil && asleep {
			err = r.Wait(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (a *applier) take(f feed) {
	a.feeding <- struct{}{}
	a.feed = f
	<-a.feeding
}

// applyReleased applies until there is nothing left. asleep says that the reader will be woken.
func (p *Pipeline) applyReleased(ctx context.Context) (asleep bool, err error) {
	a := &p.applier
	a.feeding <- struct{}{}
	defer func() { <-a.feeding }()
	f := &a.feed
	if f.err != nil {
		return false, f.err
	}
	for {
		b, ok, err := f.reader.TryNext(applyBatch)
		if err != nil {
			return false, err
		}
		if !ok {
			return f.reader.Sleep(), nil
		}
		err = p.applyFed(b, func(e *replog.Entry) error {
			if err := p.mayApply(ctx, e); err != nil {
				return err
			}
			return p.makeRoom()
		})
		if err != nil {
			return false, err
		}
	}
}

// applyFed applies a batch of the feed, whose turn the caller has. before is asked for each entry.
func (p *Pipeline) applyFed(b replog.Batch, before func(e *replog.Entry) error) error {
	f := &p.applier.feed
	err := b.Each(&f.scratch, func(e *replog.Entry) error {
		if err := before(e); err != nil {
			return err
		}
		if err := p.applyUnlessPaused(e, f.cuts); err != nil {
			return err
		}
		// What becomes visible soon lets what it replaces go soon; see pagestore.DB.settle.
		if e.LSN%applyShow == 0 {
			p.advance()
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.advance()
	if p.due() {
		p.Kick()
	}
	return nil
}

// StandIn keeps the applier asleep for what is received next, if it sleeps and others have not stood in for it. apply then does its work, as far
// as that is little and takes no wait: to wake a goroutine for it costs more. It must be called.
func (p *Pipeline) StandIn() (apply func()) {
	a := &p.applier
	select {
	case a.feeding <- struct{}{}:
	default:
		return func() {}
	}
	if r := a.feed.reader; r == nil || !r.Rise() {
		<-a.feeding
		return func() {}
	}
	return p.applyInstead
}

// applyInstead ends standing in. What it has not done, or has failed to, is for the applier.
func (p *Pipeline) applyInstead() {
	a := &p.applier
	defer func() { <-a.feeding }()
	f := &a.feed
	if !p.full.Load() && a.delay.Load() == 0 && !p.ApplyPaused() {
		b, ok, err := f.reader.Rest(standInBatch)
		if err == nil && ok {
			err = p.applyFed(b, func(*replog.Entry) error { return nil })
		}
		f.err = err
	}
	if f.err != nil || !f.reader.Sleep() {
		f.reader.Wake()
	}
}

// applyTail applies everything in the log, without a delay.
func (p *Pipeline) applyTail() error {
	at, cuts := p.applier.stands(p.log)
	r, err := p.log.NewReader(at)
	if err != nil {
		return err
	}
	defer r.Close()
	var scratch []byte
	for p.applier.at() < p.log.Received() {
		b, ok, err := r.TryNext(applyBatch)
		if err == nil && !ok {
			err = fmt.Errorf("%w: entry %d", replog.ErrNotYet, p.log.Received())
		}
		if err == nil {
			err = b.Each(&scratch, func(e *replog.Entry) error { return p.applyOne(e, cuts) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// applyUnlessPaused is applyOne for who has to look for a pause: one that begins before the frame is applied leaves it out.
func (p *Pipeline) applyUnlessPaused(e *replog.Entry, cuts int64) error {
	a := &p.applier
	a.applying.Lock()
	defer a.applying.Unlock()
	if p.ApplyPaused() {
		return errPaused
	}
	return p.applyFrame(e, cuts)
}

// applyOne makes pages of one frame.
func (p *Pipeline) applyOne(e *replog.Entry, cuts int64) error {
	a := &p.applier
	a.applying.Lock()
	defer a.applying.Unlock()
	return p.applyFrame(e, cuts)
}

// applyFrame does, unless the log was cut since the frame was read: another leader's entries may be there by now, under the
// same LSNs. The caller holds applying.
func (p *Pipeline) applyFrame(e *replog.Entry, cuts int64) error {
	a := &p.applier
	if p.log.Cuts() != cuts {
		return replog.ErrCut
	}
	if err := p.store.Apply(e, p.visible.Load()); err != nil {
		return err
	}
	if fn := a.hook.Load(); fn != nil && e.Kind == replog.Transaction {
		(*fn)(e.Database, e.LSN, changesSchema(e))
	}
	if e.More {
		return nil
	}
	if e.Kind == replog.Transaction {
		a.last.Store(e.Time)
	}
	a.applied.Store(uint64(e.LSN))
	return nil
}

// changesSchema says whether an entry, or the first piece of one, writes SQLite's schema cookie.
func changesSchema(e *replog.Entry) bool {
	if no, n := binary.Uvarint(e.Body); n <= 0 || no != 1 {
		return false
	}
	changed := false
	_ = replog.EachRange(e.Body, func(no uint32, off int, data []byte) error {
		if no > 1 {
			return errStop
		}
		changed = changed || off < schemaCookieEnd && off+len(data) > schemaCookieAt
		return nil
	})
	return changed
}

var errStop = errors.New("seen enough")

// SetApplyDelay has every transaction applied so long after its commit, by this node's clock.
func (p *Pipeline) SetApplyDelay(d time.Duration) {
	p.applier.delay.Store(int64(d))
	p.applier.wake()
}

// ApplyDelay is what SetApplyDelay has set.
func (p *Pipeline) ApplyDelay() time.Duration { return time.Duration(p.applier.delay.Load()) }

// PauseApply stops applying; what is received is still made durable and acknowledged. It does not wait for the frame that is being
// applied: see ApplyStopped.
func (p *Pipeline) PauseApply() {
	goOn := make(chan struct{})
	p.applier.paused.CompareAndSwap(nil, &goOn)
}

// ResumeApply goes on after PauseApply.
func (p *Pipeline) ResumeApply() {
	if goOn := p.applier.paused.Swap(nil); goOn != nil {
		close(*goOn)
	}
}

// ApplyPaused says whether PauseApply is in force.
func (p *Pipeline) ApplyPaused() bool { return p.applier.paused.Load() != nil }

// ApplyStopped says that nothing is applied any more, because of PauseApply, and that readers see all that was: nothing changes for
// them until ResumeApply.
func (p *Pipeline) ApplyStopped() bool {
	a := &p.applier
	if !a.applying.TryLock() {
		return false
	}
	defer a.applying.Unlock()
	return p.ApplyPaused() && p.visible.Load() >= a.at()
}

func (a *applier) wake() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// mayApply returns once the entry may be applied: applying is not paused and its delay is over.
func (p *Pipeline) mayApply(ctx context.Context, e *replog.Entry) error {
	a := &p.applier
	for {
		if paused := a.paused.Load(); paused != nil {
			p.advance() // show what was applied before the pause
			select {
			case <-*paused:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		delay := time.Duration(a.delay.Load())
		if delay == 0 {
			return nil
		}
		wait := time.Until(time.UnixMicro(e.Time).Add(delay))
		if wait <= 0 {
			return nil
		}
		p.advance()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-a.changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// CutBack takes back everything above to, which the history of the leader of epoch under does not have; nobody has
// been shown any of it. It is kept in the vault. Nothing is received meanwhile. What was promised to a later leader to be
// here is not cut: ErrPromised.
func (p *Pipeline) CutBack(to history.LSN, under history.Epoch) error {
	a := &p.applier
	a.applying.Lock()
	defer a.applying.Unlock()
	if err := p.mayHear(under); err != nil {
		return err
	}
	if p.Leading() {
		return errLeading
	}
	p.promise.regain.Store(0) // what it was to regain was of another history
	if committed := max(p.visible.Load(), history.LSN(p.learnt.Load())); to < committed {
		return fmt.Errorf("%w: to entry %d, where %d is committed", ErrCommittedTail, to, committed)
	}
	head := p.log.Head()
	if head.LSN <= to {
		return nil
	}
	if _, err := p.Flush(context.Background()); err != nil {
		return err
	}
	name, err := p.SaveTail(to)
	if err != nil {
		return err
	}
	// The log first: on a full disk it may refuse, and then nothing has happened.
	if err := p.log.Cut(to); err != nil {
		return err
	}
	if a.at() > to {
		if err := p.store.CutAbove(to); err != nil {
			return err
		}
		a.applied.Store(uint64(to))
	}
	p.newest.Store(uint64(p.log.Head().Epoch))
	p.options.Logger.Warn("cut a tail that the leader does not have; it was never visible", "after", to, "head was", head, "kept in", name)
	return nil
}
