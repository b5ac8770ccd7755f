package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"skein/internal/commit"
	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/replication"
)

// errBroken ends a node that would have to take back what it has shown although nobody has accepted such a loss (safety rule
// T6). It must not happen. If it does, somebody has to see what the node has before it is gone.
var errBroken = errors.New("this node has shown commits that the cluster does not have, and nobody has accepted such a loss")

// brokenPromise says whether going on with a new copy would take back commits that were acknowledged by followers, and that
// no epoch since is known to have begun without.
func (t *term) brokenPromise(why *replication.NeedSnapshot) bool {
	c := t.node.control.Load()
	if c == nil || !why.Diverged || why.Fork >= t.pipeline.Visible() {
		return false
	}
	return !explained(t.ruling.level(), t.pipeline.Log().Epochs().Of(why.Fork+1), c.State().Losses)
}

// explained says whether commits of an epoch may be missing: readers saw them before followers had them on disk, or an
// epoch since has begun without proof that it has everything.
func explained(level commit.Level, lost history.Epoch, losses []history.Epoch) bool {
	return level < commit.On || slices.ContainsFunc(losses, func(e history.Epoch) bool { return e > lost })
}

// stopBroken tells everybody who can be told, and gives the error to end with.
func (n *Node) stopBroken(ctx context.Context, why *replication.NeedSnapshot, seen history.LSN) error {
	text := fmt.Sprintf("ALARM: %s has shown entries %d to %d, which the cluster does not have although nobody has accepted such a loss; it has stopped, with its data",
		n.name(), why.Fork+1, seen)
	telling, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	_, err := n.control.Load().Do(telling, failover.Command{Kind: failover.TellCommand, Node: n.home.Node, Event: failover.AlarmEvent, Text: text})
	if err != nil {
		n.options.Logger.Warn("the cluster's history could not be told", "text", text, "error", err)
	}
	return fmt.Errorf("%w: entries %d to %d (%s). They are kept in the vault, and nothing else was touched. "+
		"Compare the other nodes with skein verify, keep this directory for whoever looks into it, and let a node with an empty one join in its place",
		errBroken, why.Fork+1, seen, why.Reason)
}
