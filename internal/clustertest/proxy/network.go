package proxy

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Matter is what a connection is for.
type Matter int

// The purposes of a hello fall in two: one side's data, and what nodes agree on about their leadership.
const (
	Everything Matter = iota
	Replication
	Control
)

const (
	headerBytes = 28
	maxHello    = 4 << 10
	helloWait   = 10 * time.Second

	lastOfReplication = 5 // of the purposes that docs/FORMAT.md lists
)

// Route is what travels from one node to another, on connections that either of them has made. An empty name stands for every node.
type Route struct {
	From, To string
	Of       Matter
}

// Between is both ways between two nodes.
func Between(a, b string, of Matter) []Route { return []Route{{a, b, of}, {b, a, of}} }

// Around is everything from and to a node.
func Around(node string, of Matter) []Route { return Between(node, "", of) }

// Network stands between all nodes of a cluster until the test ends.
type Network struct {
	t       testing.TB
	running sync.WaitGroup

	mu        sync.Mutex
	listeners []net.Listener
	closed    bool
	strangers map[net.Conn]struct{} // which have said nothing yet
	conns     map[*passage]struct{}
	faults    map[*fault]struct{}
	count     int // connections so far
}

// fault is something that is wrong with routes.
type fault struct {
	routes  []Route
	drop    bool
	refuse  bool
	atLeast time.Duration // later
	jitter  time.Duration // and up to so much more, anew for every connection
}

// passage is one connection: who has made it, to whom, and what for.
type passage struct {
	*link
	from, to string
	of       Matter
}

// NewNetwork gives a network without nodes.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	n := &Network{t: t, strangers: map[net.Conn]struct{}{}, conns: map[*passage]struct{}{}, faults: map[*fault]struct{}{}}
	t.Cleanup(n.close)
	return n
}

// Node gives the address at which others find a node that listens at target.
func (n *Network) Node(name, target string) (address string) {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.listeners = append(n.listeners, l)
	n.mu.Unlock()
	n.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			n.running.Go(func() { n.serve(client, name, target) })
		}
	})
	return l.Addr().String()
}

// Drop has everything on the routes get lost, not even the end of a connection arrives: what is sent is kept until undo is called.
// Connections can still be made, but nothing comes through.
func (n *Network) Drop(routes ...Route) (undo func()) {
	return n.add(&fault{routes: routes, drop: true})
}

// Sever resets the connections that use one of the routes, and all later ones.
func (n *Network) Sever(routes ...Route) (undo func()) {
	undo = n.add(&fault{routes: routes, refuse: true})
	n.Cut(routes...)
	return undo
}

// Delay has everything on the routes arrive later, each connection by its own time of at least and jitter more at most.
func (n *Network) Delay(atLeast, jitter time.Duration, routes ...Route) (undo func()) {
	return n.add(&fault{routes: routes, atLeast: atLeast, jitter: jitter})
}

// Cut resets the present connections that use one of the routes.
func (n *Network) Cut(routes ...Route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.conns {
		if p.uses(routes, Up) || p.uses(routes, Down) {
			p.reset()
		}
	}
}

// Heal undoes every fault.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.faults)
	n.apply()
}

// Connections is how many there have been.
func (n *Network) Connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

func (n *Network) add(f *fault) (undo func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults[f] = struct{}{}
	n.apply()
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.faults, f)
		n.apply()
	}
}

// apply has every connection meet with the present faults; mu is held.
func (n *Network) apply() {
	for p := range n.conns {
		n.meet(p)
	}
}

func (n *Network) meet(p *passage) {
	for _, d := range []Direction{Up, Down} {
		drop, late := false, time.Duration(0)
		for f := range n.faults {
			if p.uses(f.routes, d) {
				drop = drop || f.drop
				late += f.atLeast
				if f.jitter > 0 {
					late += rand.N(f.jitter)
				}
			}
		}
		p.pipes[d].late.Store(int64(late))
		p.pipes[d].hold(drop)
	}
}

// refuses says whether a new connection is reset; mu is held.
func (n *Network) refuses(p *passage) bool {
	for f := range n.faults {
		if f.refuse && (p.uses(f.routes, Up) || p.uses(f.routes, Down)) {
			return true
		}
	}
	return false
}

// uses says whether the bytes of a direction travel on one of the routes.
func (p *passage) uses(routes []Route, d Direction) bool {
	from, to := p.from, p.to
	if d == Down {
		from, to = to, from
	}
	return slices.ContainsFunc(routes, func(r Route) bool {
		return (r.From == "" || r.From == from) && (r.To == "" || r.To == to) && (r.Of == Everything || r.Of == p.of)
	})
}

func (n *Network) serve(client net.Conn, to, target string) {
	p := &passage{to: to}
	n.mu.Lock()
	n.strangers[client] = struct{}{}
	refused := n.closed
	n.mu.Unlock()
	if refused {
		reset(client)
		return
	}
	hello := p.introduce(client)
	n.mu.Lock()
	delete(n.strangers, client)
	n.count++
	refused = n.closed || n.refuses(p)
	n.mu.Unlock()
	if refused {
		reset(client)
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		reset(client)
		return
	}
	var bytes [2]atomic.Int64
	var struck atomic.Int64
	p.link = newLink(client, server, [2]Plan{}, [2]*atomic.Int64{&bytes[Up], &bytes[Down]}, &struck)
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		p.reset()
		return
	}
	n.conns[p] = struct{}{}
	n.meet(p)
	n.mu.Unlock()
	if len(hello) > 0 {
		p.pipes[Up].enqueue(hello)
	}
	p.carry()
	n.mu.Lock()
	delete(n.conns, p)
	n.mu.Unlock()
}

// introduce reads the first message of a connection, which it gives. Whoever says anything else is a node without a name.
func (p *passage) introduce(client net.Conn) []byte {
	_ = client.SetReadDeadline(time.Now().Add(helloWait))
	defer func() { _ = client.SetReadDeadline(time.Time{}) }()
	b := make([]byte, headerBytes, headerBytes+maxHello)
	got, err := io.ReadFull(client, b)
	length := binary.LittleEndian.Uint32(b)
	if err != nil || length > maxHello {
		return b[:got]
	}
	b = b[:headerBytes+length]
	if got, err = io.ReadFull(client, b[headerBytes:]); err != nil {
		return b[:headerBytes+got]
	}
	p.read(b[headerBytes:])
	return b
}

// read takes purpose and name out of a hello.
func (p *passage) read(hello []byte) {
	const purposeAt, textsAt = 2, 2 + 1 + 32 + 16
	if len(hello) < textsAt {
		return
	}
	rest := hello[textsAt:]
	text := func() string {
		if len(rest) < 2 {
			return ""
		}
		length := min(int(binary.LittleEndian.Uint16(rest)), len(rest)-2)
		s := string(rest[2 : 2+length])
		rest = rest[2+length:]
		return s
	}
	text() // node id
	text() // disk id
	rest = rest[min(8, len(rest)):]
	p.from, p.of = text(), Replication
	if hello[purposeAt] > lastOfReplication {
		p.of = Control
	}
}

func (n *Network) close() {
	n.mu.Lock()
	n.closed = true
	for _, l := range n.listeners {
		_ = l.Close()
	}
	for c := range n.strangers {
		reset(c)
	}
	for p := range n.conns {
		p.reset()
	}
	n.mu.Unlock()
	n.running.Wait()
}
