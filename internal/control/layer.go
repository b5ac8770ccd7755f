package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
)

// server is a voter or follower of Raft: a node, and the store that it votes by. A node that has lost its store, and
// with it what it has promised, is another server.
type server struct {
	node  failover.NodeID
	store string
}

func (s server) id() raft.ServerID { return raft.ServerID(string(s.node) + "/" + s.store) }

// at is the server's address as Raft knows it. It names the server too: at an address there may be another one today.
func (s server) at(address string) raft.ServerAddress {
	return raft.ServerAddress(string(s.id()) + "@" + address)
}

func parseServer(id string) (server, bool) {
	node, store, ok := strings.Cut(id, "/")
	return server{failover.NodeID(node), store}, ok
}

func parseAddress(at raft.ServerAddress) (s server, address string, ok bool) {
	id, address, ok := strings.Cut(string(at), "@")
	if !ok {
		return server{}, "", false
	}
	s, ok = parseServer(id)
	return s, address, ok
}

// layer carries Raft's connections. It is a raft.StreamLayer.
type layer struct {
	self    server
	address string
	dial    func(ctx context.Context, address string) (net.Conn, error)

	accepted chan net.Conn
	open     context.Context // until Close
	close    context.CancelFunc

	mu    sync.Mutex
	shut  error // why Raft speaks with nobody now
	conns map[*raftConn]struct{}
}

func newLayer(self server, address string) *layer {
	l := &layer{self: self, address: address, accepted: make(chan net.Conn), conns: map[*raftConn]struct{}{}}
	l.open, l.close = context.WithCancel(context.Background())
	return l
}

// helloTimeout is how long the first messages of a connection may take.
const helloTimeout = 2 * time.Second

// Dial is of raft.StreamLayer.
func (l *layer) Dial(at raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to, address, ok := parseAddress(at)
	if !ok {
		return nil, fmt.Errorf("%q is no address of a server", at)
	}
	ctx, cancel := context.WithTimeout(l.open, timeout)
	defer cancel()
	if to == l.self {
		return l.dialSelf(ctx)
	}
	conn, err := l.dial(ctx, address)
	if err != nil {
		return nil, errUnreached{err}
	}
	m := newMessages(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := l.greet(m, to); err != nil {
		return nil, errUnreached{errors.Join(err, conn.Close())}
	}
	return l.track(m)
}

func (l *layer) greet(m *messages, to server) error {
	if err := m.send(raftHello{From: string(l.self.id()), To: string(to.id())}, helloTimeout); err != nil {
		return err
	}
	var w raftWelcome
	if err := m.receive(&w, helloTimeout); err != nil {
		return err
	}
	if w.Refused != "" {
		return errors.New(w.Refused)
	}
	return m.SetDeadline(time.Time{})
}

// dialSelf connects Raft with itself.
func (l *layer) dialSelf(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.accepted <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve hands a connection to Raft that another server has made, and returns when it is over.
func (l *layer) serve(ctx context.Context, conn net.Conn) error {
	m := newMessages(conn)
	var h raftHello
	if err := m.receive(&h, helloTimeout); err != nil {
		return err
	}
	var w raftWelcome
	if h.To != string(l.self.id()) {
		w.Refused = fmt.Sprintf("here is server %s, not %s", l.self.id(), h.To)
	}
	if err := m.send(w, helloTimeout); err != nil || w.Refused != "" {
		return err
	}
	if err := m.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c, err := l.track(m)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	select {
	case l.accepted <- c:
	case <-l.open.Done():
		return nil
	case <-ctx.Done():
		return nil
	}
	select {
	case <-c.over:
	case <-l.open.Done():
	case <-ctx.Done():
	}
	return nil
}

// cut ends all connections, and lets none begin until why is nil.
func (l *layer) cut(why error) {
	l.mu.Lock()
	l.shut = why
	var all []*raftConn
	if why != nil {
		for c := range l.conns {
			all = append(all, c)
		}
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

func (l *layer) track(m *messages) (*raftConn, error) {
	c := &raftConn{messages: m, layer: l, over: make(chan struct{})}
	l.mu.Lock()
	err := l.shut
	if err == nil {
		l.conns[c] = struct{}{}
	}
	l.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return c, nil
}

// Accept is of raft.StreamLayer, as are the next methods.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.open.Done():
		return nil, net.ErrClosed
	}
}

func (l *layer) Close() error {
	l.close()
	l.cut(net.ErrClosed)
	return nil
}

func (l *layer) Addr() net.Addr { return layerAddr(l.self.at(l.address)) }

type layerAddr string

func (layerAddr) Network() string  { return "skein" }
func (a layerAddr) String() string { return string(a) }

// raftConn is a connection of Raft's.
type raftConn struct {
	*messages
	layer *layer
	once  sync.Once
	over  chan struct{}
}

func (c *raftConn) Read(b []byte) (int, error) { return c.in.Read(b) } // the handshake may have read too far

func (c *raftConn) Close() error {
	c.once.Do(func() {
		c.layer.mu.Lock()
		delete(c.layer.conns, c)
		c.layer.mu.Unlock()
		close(c.over)
	})
	return c.Conn.Close()
}
