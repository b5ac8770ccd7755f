package node

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"skein/internal/commit"
	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/replication"
	"skein/internal/rest"
	"skein/internal/router"
)

// askAgain is how long somebody who has not found out what a read must see waits before he asks again.
const askAgain = 20 * time.Millisecond

// freshness is what a term's router asks about how new reads are here.
type freshness struct {
	*commit.Pipeline
	term  *term
	asker *replication.Asker
}

func newFreshness(t *term) *freshness {
	return &freshness{t.pipeline, t, replication.NewAsker(t.node.link())}
}

func (t *term) freshness() router.Freshness { return t.fresh }

// Delayed says whether this node applies what arrives later.
func (f *freshness) Delayed() bool { return f.ApplyDelay() > 0 }

// run asks whom the cluster names as its leader, and answers who asks this node, until ctx is done.
func (f *freshness) run(ctx context.Context) error {
	door := f.term.node.door
	door.Handle(replication.ToAsk, replication.Answering(f.answer))
	defer door.Handle(replication.ToAsk, nil)
	var group errgroup.Group
	group.Go(func() error { return f.asker.Run(ctx) })
	f.aim(ctx)
	return group.Wait()
}

// aim follows the leader. In a cluster that is configured by hand everybody asks whom he copies from, who passes it on.
func (f *freshness) aim(ctx context.Context) {
	for ctx.Err() == nil {
		leader, version := f.leader()
		if leader.ID != "" && leader.ID == failover.NodeID(f.term.node.home.Node) {
			leader = failover.Member{}
		}
		f.asker.Aim(leader.PeerAddr, string(leader.ID))
		_ = f.term.node.cluster.await(ctx, version)
	}
}

func (f *freshness) leader() (failover.Member, uint64) {
	if c := f.term.node.control.Load(); c != nil {
		s := c.State()
		leader, _ := memberOf(s, s.Leader)
		return leader, s.Version
	}
	duty, version := f.term.node.cluster.duty()
	return duty.Upstream, version
}

// answer is for other nodes that ask.
func (f *freshness) answer(ctx context.Context, key string) (history.LSN, history.Epoch, error) {
	if f.term.node.control.Load() == nil && !f.Leading() {
		return f.asker.Ask(ctx, key)
	}
	return f.Pipeline.ReadPosition(ctx, key)
}

// Locate says where a bookmark stands in what readers here see.
func (f *freshness) Locate(b history.Bookmark) error {
	visible := f.Visible() // first: epochs that begin above it decide nothing
	return f.Epochs().Locate(b, f.Cluster(), visible)
}

// ReadPosition asks until somebody leads, or ctx is done.
func (f *freshness) ReadPosition(ctx context.Context, key string) (history.LSN, error) {
	for {
		at, err := f.position(ctx, key)
		if err == nil {
			return at, nil
		}
		if rest.For(ctx, askAgain) != nil {
			return 0, fmt.Errorf("%w (%w): %w", router.ErrUnconfirmed, err, context.Cause(ctx))
		}
	}
}

// position asks once.
func (f *freshness) position(ctx context.Context, key string) (history.LSN, error) {
	if f.Leading() {
		at, _, err := f.Pipeline.ReadPosition(ctx, key)
		return at, err
	}
	asked := f.Now()
	at, epoch, err := f.asker.Ask(ctx, key)
	if err != nil {
		return 0, err
	}
	if err := f.reach(ctx, epoch); err != nil {
		return 0, err
	}
	if key == "" {
		f.Vouch(commit.SafeTime{LSN: at, At: asked})
	}
	return at, nil
}

// reach waits until this node's log has come to an epoch. Before, it may have under the same LSNs what another leader wrote, of whom the
// cluster knows no more.
func (f *freshness) reach(ctx context.Context, epoch history.Epoch) error {
	for {
		visible := f.Visible() // first: the epoch becomes visible after it is in the log
		if f.Epochs().Last() >= epoch {
			return nil
		}
		if err := f.Await(ctx, visible+1); err != nil {
			return err
		}
	}
}
