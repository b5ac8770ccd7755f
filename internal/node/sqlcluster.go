package node

import (
	"context"
	"errors"

	"skein/internal/control"
	"skein/internal/failover"
	"skein/internal/pgcatalog"
)

// sqlCluster is what SQL may ask of, and do to, a cluster that appoints its leader.
type sqlCluster struct{ *appointed }

var errNoControl = errors.New("the cluster is being made")

// sqlCluster gives nil where the leader is set by configuration.
func (n *Node) sqlCluster() pgcatalog.Failover {
	a, ok := n.cluster.(*appointed)
	if !ok {
		return nil
	}
	return sqlCluster{a}
}

func (c sqlCluster) Self() failover.NodeID { return c.self() }

func (c sqlCluster) Report() failover.Report { return c.report() }

func (c sqlCluster) State() failover.State {
	if c.node.control.Load() == nil {
		return failover.State{}
	}
	return c.node.control.Load().State()
}

func (c sqlCluster) History() []failover.Event {
	if c.node.control.Load() == nil {
		return nil
	}
	return c.node.control.Load().History()
}

// Observe says in its error why this node takes no part in decisions, if it knows.
func (c sqlCluster) Observe(ctx context.Context) (failover.State, failover.Facts, error) {
	if c.node.control.Load() == nil {
		return failover.State{}, failover.Facts{}, errNoControl
	}
	s, f, err := c.node.control.Load().Observe(ctx)
	if trouble := c.node.control.Load().Trouble(); err != nil && trouble != "" {
		err = errors.New(trouble)
	}
	return s, f, err
}

func (c sqlCluster) Do(ctx context.Context, cmd failover.Command) (failover.State, error) {
	if c.node.control.Load() == nil {
		return failover.State{}, errNoControl
	}
	s, err := c.node.control.Load().Do(ctx, cmd)
	var refused *control.Refused
	if errors.As(err, &refused) {
		err = &pgcatalog.Refused{Reason: refused.Text}
	}
	return s, err
}
