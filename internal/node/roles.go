package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"skein/internal/commit"
	"skein/internal/failover"
	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/replication"
	"skein/internal/rest"
)

// refusedPause is how long a node of a cluster lets an upstream be that has refused it for good: the
// cluster may soon name another.
const refusedPause = time.Second

// clearTime is how long following waits for clients of a leadership that is over to be gone.
const clearTime = time.Second

// errTainted keeps a node from leading that was honest when it was appointed. A leader whose disk has lost the end of the log, with
// all of its epoch, would begin that anew, and others would take back what it had acknowledged.
var errTainted = errors.New("this node may lack commits that it has acknowledged")

// errSlowPromotion gives a leadership up that no client could use: whoever has begun an epoch is taken for its leader.
var errSlowPromotion = errors.New("it took too long until clients could write")

// roles carries out one duty after the other until ctx is done, or the node's copy cannot be continued.
func (t *term) roles(ctx context.Context) error {
	r := &role{term: t}
	defer r.end()
	for {
		duty, version := t.node.cluster.duty()
		if err := r.assume(ctx, duty); err != nil || ctx.Err() != nil {
			return err
		}
		t.node.cluster.acts(version)
		t.delay()
		if err := r.await(ctx, version); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// role is what a node does under its present duty. It is used by roles alone.
type role struct {
	term *term
	duty failover.Duty

	stop     context.CancelFunc // ends copying; nil while this node copies from nobody
	copied   chan error         // how copying ended
	stopHold context.CancelFunc // lets writes go on; nil while they do
	held     chan struct{}      // closed when they do again

	leaving *departure // of the clients of the last leadership
}

// upstream is whom a duty says to copy from. A leader must have begun its epoch before anything is taken back for its sake.
func upstream(d failover.Duty) replication.Upstream {
	u := replication.Upstream{
		Address: d.Upstream.PeerAddr, Node: string(d.Upstream.ID), Disk: d.Upstream.Disk, Under: d.Epoch, Shows: d.Goal,
	}
	if u.Shows.Epoch == 0 {
		u.Shows.Epoch = d.Epoch
	}
	if d.Epoch == 0 {
		u.Under = commit.AnyEpoch
	}
	return u
}

// assume makes the node do what a duty asks. First it promises the duty's epoch: then nothing of what it did
// before under a lower one can go on.
func (r *role) assume(ctx context.Context, d failover.Duty) error {
	t := r.term
	if d.Epoch > t.pipeline.Promised() {
		if err := r.promise(ctx, d.Epoch); err != nil {
			return err
		}
	}
	if d.Epoch < t.pipeline.Promised() && d.Epoch != 0 {
		d.Role = failover.Wait // after a restart the cluster's past is learnt again, one state after the other
	}
	old := r.duty
	r.duty = d
	switch d.Role {
	case failover.Lead:
		if err := r.lead(ctx, d); err != nil {
			return err
		}
		// A State of before a restart may ask for a pause, where this node does not lead any more: it would be in its own way
		// when it leads next.
		r.hold(ctx, d.Pause && t.pipeline.Leading())
	case failover.Follow:
		r.stepDown()
		if same := old.Role == d.Role && old.Epoch == d.Epoch && old.Upstream.PeerAddr == d.Upstream.PeerAddr; !same || r.stop == nil {
			r.endCopying()
			r.follow(ctx, d)
		}
	case failover.Wait:
		r.stepDown()
		r.endCopying()
	}
	return nil
}

// promise answers an election. What is told from then on holds everything that this node has ever acknowledged.
func (r *role) promise(ctx context.Context, epoch history.Epoch) error {
	t := r.term
	led := t.pipeline.Leading()
	if led { // before: a disk that does not answer may hold the promise up
		r.leaving = t.sendAway()
		defer r.clear()
	}
	r.endCopying()
	at, err := t.pipeline.Promise(epoch)
	if err != nil {
		return fmt.Errorf("promise epoch %d: %w", epoch, err)
	}
	t.failed.Store(nil)
	t.node.options.Logger.Info("promised", "epoch", epoch, "position", at, "led", led)
	t.node.cluster.tell()
	return ctx.Err()
}

// stepDown ends a leadership that no duty asks for any more.
func (r *role) stepDown() {
	if r.term.pipeline.Leading() {
		r.leaving = r.term.sendAway()
		r.term.pipeline.StepDown()
		r.clear()
	}
}

// clear ends what belongs to a leadership, once this node has ceased to lead.
func (r *role) clear() {
	close(r.leaving.over)
	r.hold(context.Background(), false)
	r.term.ruling.forget()
}

// lead begins an epoch, unless this node has begun it already. One that began it and has been restarted since
// must not go on: it may have lost what followers have under the same numbers.
func (r *role) lead(ctx context.Context, d failover.Duty) error {
	t := r.term
	if !t.pipeline.Leading() {
		if t.failed.Load() != nil {
			return nil // said already; the cluster will elect anew
		}
		r.endCopying()
		if r.departing() != nil {
			return nil // await comes back when they are gone, or when there is another duty
		}
		if err := r.begin(ctx, d); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			t.node.options.Logger.Error("this node was appointed and cannot lead", "epoch", d.Epoch, "error", err)
			r.fail(err.Error())
			return nil
		}
	}
	t.ruling.enforce(d.Rule)
	return nil
}

// departing is closed when the clients of the last leadership are gone that this node has to lead without; nil if it
// waits for none.
func (r *role) departing() <-chan struct{} {
	if r.leaving == nil || r.duty.Role != failover.Lead || r.term.pipeline.Leading() {
		return nil
	}
	select {
	case <-r.leaving.gone:
		return nil
	default:
		return r.leaving.gone
	}
}

// fail ends a leadership, or the attempt at one, and has the cluster elect anew: an epoch does not begin twice.
func (r *role) fail(why string) {
	r.term.failed.Store(&why)
	r.stepDown()
	r.term.node.cluster.tell()
}

// begin is a promotion: everything in the log is applied, the epoch's first entry is on this disk, and
// clients may write. They are acknowledged once the followers have that entry, too.
func (r *role) begin(ctx context.Context, d failover.Duty) error {
	t, began := r.term, time.Now()
	if d.DespiteTaint {
		t.pipeline.Regain(0)
	}
	if why := t.pipeline.Tainted(); why != "" {
		return fmt.Errorf("%w: %s", errTainted, why)
	}
	if err := t.pipeline.Lead(ctx, d.Epoch); err != nil {
		return err
	}
	t.ruling.enforce(d.Rule)
	t.node.cluster.tell()
	if err := fault.Hit("promote.engine"); err != nil {
		return err
	}
	if err := t.promoteEngine(ctx); err != nil {
		return err
	}
	t.ruling.begin()
	_ = fault.Hit("promote.done") // nothing is done here that could fail
	t.node.options.Logger.Info("leading", "epoch", t.pipeline.Epoch(), "head", t.pipeline.Log().Head(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// promoteEngine lets clients write. In a cluster that can find another leader it takes no longer than a disk may.
func (t *term) promoteEngine(ctx context.Context) error {
	if c := t.node.control.Load(); c != nil {
		patience, stop := context.WithTimeoutCause(ctx, c.State().Settings.StallTimeout, errSlowPromotion)
		defer stop()
		ctx = patience
	}
	return t.engine.Load().Promote(ctx)
}

// follow copies from the duty's upstream until endCopying. Clients of a leadership that is over are gone by then, unless
// they need long: what they read may be cut.
func (r *role) follow(ctx context.Context, d failover.Duty) {
	t := r.term
	if r.leaving != nil {
		select {
		case <-r.leaving.gone:
		case <-ctx.Done():
		case <-time.After(clearTime):
		}
	}
	ctx, r.stop = context.WithCancel(ctx)
	r.copied = make(chan error, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.pipeline.Follow(ctx) })
	group.Go(func() error {
		for {
			err := t.peer.Follow(ctx, upstream(d))
			var refused *replication.Refused
			if d.Epoch == 0 || !errors.As(err, &refused) {
				return err
			}
			t.node.options.Logger.Warn("refused by the node to follow", "upstream", d.Upstream.Name, "reason", refused.Text)
			if rest.For(ctx, refusedPause) != nil {
				return nil
			}
		}
	})
	go func(copied chan<- error) { copied <- group.Wait() }(r.copied)
}

func (r *role) endCopying() {
	if r.stop == nil {
		return
	}
	r.stop()
	<-r.copied
	r.stop, r.copied = nil, nil
}

// hold has writes wait, until it is called again with false; when nothing is under way any more, and
// everything that was acknowledged is on this disk, the node's report says so.
func (r *role) hold(ctx context.Context, on bool) {
	t := r.term
	switch {
	case on && r.stopHold == nil:
		ctx, r.stopHold = context.WithCancel(ctx)
		r.held = make(chan struct{})
		go t.holdWrites(ctx, r.held)
	case !on && r.stopHold != nil:
		r.stopHold()
		<-r.held
		r.stopHold, r.held = nil, nil
	}
}

// holdWrites closes done when writes go on.
func (t *term) holdWrites(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	t.busy.Store(nil)
	trying, stop := context.WithTimeout(ctx, t.pauseTime())
	resume, err := t.engine.Load().PauseWrites(trying)
	stop()
	if err != nil {
		if ctx.Err() == nil {
			t.node.options.Logger.Warn("writes cannot be paused", "error", err)
			why := err.Error()
			t.busy.Store(&why)
			t.node.cluster.tell()
		}
		return
	}
	defer resume()
	if err := t.pipeline.VisibleMark().Wait(ctx, t.pipeline.Log().Received()); err != nil {
		return
	}
	t.paused.Store(true)
	defer t.paused.Store(false)
	t.node.cluster.tell()
	<-ctx.Done()
}

// pauseTime is how long open transactions may hold up a switchover. It is less than the cluster waits, so that their names
// are told in time.
func (t *term) pauseTime() time.Duration {
	return 3 * t.node.control.Load().State().Settings.FailoverTimeout
}

// await returns when there may be another duty, or copying has ended.
func (r *role) await(ctx context.Context, version uint64) error {
	var waits sync.WaitGroup
	defer waits.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	news := make(chan struct{})
	waits.Go(func() {
		defer close(news)
		_ = r.term.node.cluster.await(ctx, version)
	})
	if r.duty.Awaited {
		waits.Go(func() { r.term.tellGrowth(ctx) })
	}
	select {
	case <-news:
	case <-r.departing():
	case i := <-r.term.cutOff:
		if i.epoch != 0 && i.epoch == r.term.pipeline.Leads() {
			r.term.node.options.Logger.Warn("this node steps down: it is cut off from the cluster", "reason", i.why)
			r.fail(i.why)
		}
	case err := <-r.copied:
		r.stop()
		r.stop, r.copied = nil, nil
		return err
	}
	return nil
}

// tellGrowth has the cluster told whenever more of the log is on disk, until ctx is done.
func (t *term) tellGrowth(ctx context.Context) {
	for {
		at := t.pipeline.Log().Flushed.Load()
		t.node.cluster.tell()
		if t.pipeline.Log().Flushed.Wait(ctx, at+1) != nil {
			return
		}
	}
}

func (r *role) end() {
	r.hold(context.Background(), false)
	r.endCopying()
}
