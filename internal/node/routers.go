package node

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"skein/internal/failover"
	"skein/internal/pgwire"
	"skein/internal/pool"
	"skein/internal/replication"
	"skein/internal/router"
)

// readerPIDs begin here: the sessions of router processes that read.
const readerPIDs = forwardedPIDs + 1<<29

// serveRouters lets router processes ask how this node is, and read on it, until ctx is done.
func (t *term) serveRouters(ctx context.Context) error {
	door := t.node.door
	door.Handle(replication.ToRoute, func(ctx context.Context, conn net.Conn, _ replication.Identity) {
		if err := pool.Answer(ctx, conn, t); err != nil && ctx.Err() == nil {
			t.node.options.Logger.Debug("a router's questions ended", "error", err)
		}
	})
	defer door.Handle(replication.ToRoute, nil)
	h := newHandoff()
	door.Handle(replication.ToRead, h.take)
	defer door.Handle(replication.ToRead, nil)
	server := pgwire.NewServer(router.Readers{Router: t.router}, pgwire.Options{
		MaxConnections: t.node.options.MaxConnections, FirstPID: readerPIDs, Trust: true, Logger: t.node.options.Logger,
	})
	err := server.Serve(ctx, h)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// RouterReport is what this node tells router processes.
func (t *term) RouterReport() pool.Report {
	n := t.node
	e := t.engine.Load()
	r := pool.Report{
		ID: n.home.Node, Name: n.name(), Serves: t.router.Serves(), Visible: t.pipeline.Visible(), Lag: -time.Nanosecond,
		Sessions: t.router.Sessions(), Open: e.MockSecret() != nil && e.Trusts(&net.TCPAddr{IP: net.IPv6loopback}),
	}
	if e.Leads() {
		r.Leads, r.Lag, r.Epoch = true, 0, t.pipeline.Epoch()
	} else if age, ok := t.freshness().Staleness(); ok {
		r.Lag = age
	}
	c := n.control.Load()
	if c == nil {
		return r
	}
	s := c.State()
	if !r.Leads {
		r.Epoch = s.Epoch
		if leader, ok := memberOf(s, s.Leader); ok && s.Phase == failover.Leading {
			r.Leader = leader.PeerAddr
		}
	}
	for _, m := range s.Members {
		r.Members = append(r.Members, pool.Member{
			ID: string(m.ID), Name: m.Name, Address: m.PeerAddr, Witness: m.Witness, Hidden: m.Hidden, Delayed: m.Delay > 0,
		})
	}
	return r
}

// RouterCredentials are for router processes, who know the cluster's secret.
func (t *term) RouterCredentials(role string) pool.Credentials {
	e := t.engine.Load()
	verifier, ok := e.Verifier(role)
	return pool.Credentials{Verifier: verifier, Known: ok, Mock: e.MockSecret()}
}
