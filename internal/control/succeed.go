package control

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
	"skein/internal/rest"
)

// successionPause is the head start that each voter has over the next when the coordinator is gone.
const successionPause = 100 * time.Millisecond

// succeed begins an election in Raft when a stream has ended because its coordinator's process is gone: its machine says that
// nobody listens. Raft alone would go by the coordinator's silence, which takes a second and more, and who dies with the
// coordinator may be the leader. An election that was not needed does no harm.
func (c *Control) succeed(ctx context.Context, gone failover.NodeID) {
	rank, ok := c.rank(gone)
	if !ok || !c.hasGone(ctx, gone) {
		return
	}
	if rest.For(ctx, time.Duration(rank)*successionPause) != nil || !c.led(gone) {
		return
	}
	c.o.Logger.Info("the coordinator is gone; this node offers to coordinate", "coordinator", gone)
	c.runForLeader()
}

// rank gives this node's place among those that could follow a coordinator: the leader's node comes last.
func (c *Control) rank(gone failover.NodeID) (int, bool) {
	leader := c.State().Leader
	var heirs []failover.NodeID
	for _, id := range c.Voters() {
		if id != gone && id != leader {
			heirs = append(heirs, id)
		}
	}
	slices.Sort(heirs)
	if slices.Contains(c.Voters(), leader) && leader != gone {
		heirs = append(heirs, leader)
	}
	i := slices.Index(heirs, c.o.Self)
	return i, i >= 0 && gone != c.o.Self
}

// led says whether Raft still takes a node for the coordinator.
func (c *Control) led(by failover.NodeID) bool {
	at, _ := c.raft.LeaderWithID()
	s, _, ok := parseAddress(at)
	return ok && s.node == by
}

// hasGone says whether nobody listens at a node's address.
func (c *Control) hasGone(ctx context.Context, id failover.NodeID) bool {
	address := c.addressOf(id)
	if address == "" || !c.led(id) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := c.o.Dial(ctx, address, Watch)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// runForLeader has Raft hold an election with this node as the candidate, without waiting for anybody's silence.
func (c *Control) runForLeader() {
	err := c.transport.TimeoutNow(c.self.id(), c.self.at(c.o.Address), &raft.TimeoutNowRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax},
	}, &raft.TimeoutNowResponse{})
	if err != nil { // it goes by silence, then
		c.o.Logger.Debug("raft does not hold an election", "error", err)
	}
}
