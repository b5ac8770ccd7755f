package node

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"skein/internal/engine"
	"skein/internal/failover"
	"skein/internal/pgwire"
	"skein/internal/replication"
	"skein/internal/router"
)

const (
	// leaveTime is how long statements have to end that run on a node which has ceased to lead.
	leaveTime = 300 * time.Millisecond

	// forwardedPIDs begin here, where those of clients do not reach.
	forwardedPIDs = 1 << 30

	// forwardedSessions is how many clients of other nodes a leader serves for each of its own.
	forwardedSessions = 8
)

// leaders is what this node's router knows of the others: nil where this node leads for ever.
func (t *term) leaders() router.Cluster {
	switch c := t.node.cluster.(type) {
	case *appointed:
		return appointedLeaders{c}
	case byHand:
		if c.follow != "" {
			return fixedLeader{t.node, c.follow}
		}
	}
	return nil
}

// appointedLeaders follow the cluster's state.
type appointedLeaders struct{ *appointed }

func (a appointedLeaders) Leader() (router.Leader, bool) {
	s := a.node.control.Load().State()
	m, ok := memberOf(s, s.Leader)
	if !ok || s.Phase != failover.Leading {
		return router.Leader{}, false
	}
	return router.Leader{Name: m.Name, Address: m.PeerAddr, Epoch: s.Epoch, Here: m.ID == a.self()}, true
}

func (a appointedLeaders) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func (a appointedLeaders) Dial(ctx context.Context, l router.Leader) (net.Conn, error) {
	return a.node.forward(ctx, l.Address)
}

// fixedLeader is the node that this one is configured to follow. It may be a follower itself, and refuse.
type fixedLeader struct {
	node    *Node
	address string
}

func (f fixedLeader) Leader() (router.Leader, bool) {
	return router.Leader{Name: f.address, Address: f.address}, true
}

func (fixedLeader) Changed() <-chan struct{} { return nil }

func (f fixedLeader) Dial(ctx context.Context, l router.Leader) (net.Conn, error) {
	return f.node.forward(ctx, l.Address)
}

// pass connects a node that follows this one with the node that this one follows.
func (f fixedLeader) pass(ctx context.Context, conn net.Conn, _ replication.Identity) {
	up, err := f.node.forward(ctx, f.address)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = up.Close() })
	defer stop()
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(up, conn)
		_ = up.Close()
	})
	_, _ = io.Copy(conn, up)
	_, _ = up.Close(), conn.Close()
	copying.Wait()
}

// HeardAt is when this node last heard the one that it copies from; zero while it is not connected with any.
func (a appointedLeaders) HeardAt() time.Time { return a.node.heardAt() }

// HeardAt is as that of a cluster that appoints its leader.
func (f fixedLeader) HeardAt() time.Time { return f.node.heardAt() }

func (n *Node) heardAt() time.Time {
	t := n.current.Load()
	if t == nil {
		return time.Time{}
	}
	_, upstream := t.peer.Connections()
	if upstream == nil {
		return time.Time{}
	}
	return upstream.HeardAt
}

// forward connects to another node's engine.
func (n *Node) forward(ctx context.Context, address string) (net.Conn, error) {
	l := n.link()
	conn, _, err := l.Open(ctx, address, replication.ToForward)
	return conn, err
}

// handoff is a listener for connections that a Door has accepted.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff() *handoff { return &handoff{conns: make(chan net.Conn), closed: make(chan struct{})} }

// take is the Door's handler: the connection is somebody's until that closes it.
func (h *handoff) take(ctx context.Context, conn net.Conn, _ replication.Identity) {
	c := &handed{Conn: conn, done: make(chan struct{})}
	select {
	case h.conns <- c:
	case <-h.closed:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

// Accept gives the next one.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr names no address: nobody can connect to it.
func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Name: "forwarded", Net: "unix"} }

// handed is a connection that says when it is closed.
type handed struct {
	net.Conn
	done chan struct{}
	once sync.Once
}

// Buffered is what the connection has read already.
func (c *handed) Buffered() int {
	if b, ok := c.Conn.(interface{ Buffered() int }); ok {
		return b.Buffered()
	}
	return 0
}

// NetConn is the connection below.
func (c *handed) NetConn() net.Conn {
	if below, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return below.NetConn()
	}
	return c.Conn
}

// Close ends it.
func (c *handed) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// serveForwarded lets other nodes' routers use an engine until ctx is done: ctx's cause is what they are told then.
func (t *term) serveForwarded(ctx context.Context, e *engine.Engine) error {
	h := newHandoff()
	t.node.door.Handle(replication.ToForward, h.take)
	if f, ok := t.leaders().(fixedLeader); ok {
		t.node.door.Handle(replication.ToForward, f.pass)
	}
	defer t.node.door.Handle(replication.ToForward, nil)
	server := pgwire.NewServer(router.Lent{Router: t.router, Engine: e}, pgwire.Options{
		MaxConnections: forwardedSessions * max(t.node.options.MaxConnections, 100), FirstPID: forwardedPIDs, Trust: true, Reuse: true, Logger: t.node.options.Logger,
	})
	err := server.Serve(ctx, h)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
