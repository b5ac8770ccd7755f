// Package proxy is a TCP proxy that tests put between two nodes to do to their connection what networks
// do: hold back one direction or both, delay, cut at a given byte, change a byte, refuse.
//
// What a Plan says holds for a connection from its first byte; Hold, Pass and Cut act on all present
// connections, and Hold on later ones too. Strand takes the present ones out of its control, so that later ones
// pass while these are stuck.
//
// A Network is the proxies of all nodes of a cluster. It knows from the first message of a connection which node has made
// it and what for, so that it can be told what gets lost between whom.
package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Direction of bytes, as seen by the side that dials.
type Direction int

// Up is towards the target, Down is back from it.
const (
	Up Direction = iota
	Down
)

func (d Direction) String() string { return [...]string{"up", "down"}[d] }

// Plan is what happens to the bytes of one direction of one connection. Offsets count from its first
// byte, at 0. The zero Plan passes everything on.
type Plan struct {
	Cut     bool          // reset both sides before the byte at CutAt is passed on
	CutAt   int64         //
	Flip    bool          // change one bit of the byte at FlipAt
	FlipAt  int64         //
	Delay   time.Duration // of every byte; their order stays
	HoldAt  int64         // from this byte on as if held, for this connection only; 0: never
	Trickle int           // at most so many bytes at a time; 0: as many as there are
}

const (
	pieceBytes = 32 << 10
	pieces     = 256 // read ahead of a delay or a hold
)

// Proxy is listening until the test ends.
type Proxy struct {
	listener net.Listener
	bytes    [2]atomic.Int64
	struck   atomic.Int64
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	plan   func(n int) (up, down Plan)
	held   [2]bool
	refuse bool
	closed bool
	count  int // connections so far
	conns  map[*link]struct{}
	stuck  []*link // stranded
}

// New gives a proxy to target. The test ends it.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target, conns: map[*link]struct{}{}}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Address is where to connect instead of at the target.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// To changes the target of later connections.
func (p *Proxy) To(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Each decides what happens to later connections, which are counted from 0 since the proxy was made; nil
// passes everything on.
func (p *Proxy) Each(plan func(n int) (up, down Plan)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = plan
}

// Connections is how many there have been.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Bytes is how many were passed on in a direction, over all connections.
func (p *Proxy) Bytes(d Direction) int64 { return p.bytes[d].Load() }

// Struck is how many cuts, flips and holds of plans have come about.
func (p *Proxy) Struck() int { return int(p.struck.Load()) }

// Hold lets nothing through in the directions, not even the end of a connection: like a network that
// drops every packet. What is sent is kept. Connections can still be made.
func (p *Proxy) Hold(directions ...Direction) { p.hold(true, directions) }

// Pass ends a Hold; what was kept is passed on.
func (p *Proxy) Pass(directions ...Direction) { p.hold(false, directions) }

func (p *Proxy) hold(on bool, directions []Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(directions) == 0 {
		directions = []Direction{Up, Down}
	}
	for _, d := range directions {
		p.held[d] = on
		for c := range p.conns {
			c.pipes[d].hold(on)
		}
	}
}

// Refuse has later connections reset as soon as they are made, or no longer.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Cut resets all present connections; what was kept is lost.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.reset()
	}
}

// Strand holds the present connections, whatever is done to later ones, until the function that it
// gives is called; they are then passed on, as packets that a network has kept for long.
func (p *Proxy) Strand() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var stranded []*link
	for c := range p.conns {
		stranded = append(stranded, c)
		for _, d := range []Direction{Up, Down} {
			c.pipes[d].hold(true)
		}
		delete(p.conns, c)
	}
	p.stuck = append(p.stuck, stranded...)
	return func() {
		for _, c := range stranded {
			c.pipes[Up].hold(false)
			c.pipes[Down].hold(false)
		}
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	for _, c := range p.stuck {
		c.reset()
	}
	p.mu.Unlock()
	p.Cut()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	target, plan, refuse, n := p.target, p.plan, p.refuse, p.count
	p.count++
	p.mu.Unlock()
	if refuse {
		reset(client)
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		reset(client)
		return
	}
	var plans [2]Plan
	if plan != nil {
		plans[Up], plans[Down] = plan(n)
	}
	c := newLink(client, server, plans, [2]*atomic.Int64{&p.bytes[Up], &p.bytes[Down]}, &p.struck)
	if !p.enlist(c) {
		c.reset()
		return
	}
	c.carry()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// enlist puts a new connection under control, unless the proxy is closing.
func (p *Proxy) enlist(c *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
	for _, d := range []Direction{Up, Down} {
		c.pipes[d].hold(p.held[d])
	}
	return !p.closed
}

// link is one connection through a proxy.
type link struct {
	client, server net.Conn
	pipes          [2]*pipe
	struck         *atomic.Int64
	gone           chan struct{} // closed when it was reset
	once           sync.Once
}

func newLink(client, server net.Conn, plans [2]Plan, bytes [2]*atomic.Int64, struck *atomic.Int64) *link {
	c := &link{client: client, server: server, struck: struck, gone: make(chan struct{})}
	c.pipes[Up] = newPipe(c, client, server, plans[Up], bytes[Up])
	c.pipes[Down] = newPipe(c, server, client, plans[Down], bytes[Down])
	return c
}

// carry passes bytes on until the link has ended.
func (c *link) carry() {
	var running sync.WaitGroup
	for _, f := range c.pipes {
		running.Go(f.read)
		running.Go(f.write)
	}
	running.Wait()
	c.close()
}

// close ends a link whose both directions have ended; what was passed on still arrives.
func (c *link) close() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}

// reset ends both sides at once, whatever is still on its way.
func (c *link) reset() {
	c.once.Do(func() {
		close(c.gone)
		reset(c.client)
		reset(c.server)
	})
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// pipe is one direction of a link.
type pipe struct {
	link     *link
	from, to net.Conn
	plan     Plan
	count    *atomic.Int64
	queue    chan piece
	late     atomic.Int64 // ns by which what is read now is passed on later

	mu   sync.Mutex
	gate chan struct{} // closed while bytes may pass
	open bool
}

type piece struct {
	bytes []byte // empty: the end
	due   time.Time
}

func newPipe(c *link, from, to net.Conn, plan Plan, count *atomic.Int64) *pipe {
	f := &pipe{link: c, from: from, to: to, plan: plan, count: count, queue: make(chan piece, pieces), gate: make(chan struct{}), open: true}
	f.late.Store(int64(plan.Delay))
	close(f.gate)
	return f
}

func (f *pipe) hold(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case on && f.open:
		f.gate, f.open = make(chan struct{}), false
	case !on && !f.open:
		close(f.gate)
		f.open = true
	}
}

// wait passes an open gate; it says whether the link is still there.
func (f *pipe) wait() bool {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	select {
	case <-gate:
		return true
	case <-f.link.gone:
		return false
	}
}

// read takes bytes in until the end, which is passed on in its turn.
func (f *pipe) read() {
	defer close(f.queue)
	size := pieceBytes
	if f.plan.Trickle > 0 {
		size = f.plan.Trickle
	}
	for {
		b := make([]byte, size)
		n, err := f.from.Read(b)
		if n > 0 && !f.enqueue(b[:n]) {
			return
		}
		if err != nil {
			f.enqueue(nil)
			return
		}
	}
}

func (f *pipe) enqueue(b []byte) bool {
	select {
	case f.queue <- piece{b, time.Now().Add(time.Duration(f.late.Load()))}:
		return true
	case <-f.link.gone:
		return false
	}
}

func (f *pipe) write() {
	var at int64
	for p := range f.queue {
		if !f.until(p.due) || !f.wait() {
			return
		}
		if len(p.bytes) == 0 {
			f.end()
			return
		}
		if !f.pass(p.bytes, at) {
			return
		}
		at += int64(len(p.bytes))
	}
}

func (f *pipe) until(due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-f.link.gone:
		return false
	}
}

// pass writes b, whose first byte has the offset at, as planned.
func (f *pipe) pass(b []byte, at int64) bool {
	if i := f.plan.FlipAt - at; f.plan.Flip && i >= 0 && i < int64(len(b)) {
		b[i] ^= 0x10
		f.link.struck.Add(1)
	}
	for _, stop := range []struct {
		on bool
		at int64
		do func()
	}{
		{f.plan.Cut, f.plan.CutAt, f.link.reset},
		{f.plan.HoldAt > 0, f.plan.HoldAt, func() { <-f.link.gone }},
	} {
		if i := stop.at - at; stop.on && i >= 0 && i < int64(len(b)) {
			f.send(b[:i])
			f.link.struck.Add(1)
			stop.do()
			return false
		}
	}
	return f.send(b)
}

func (f *pipe) send(b []byte) bool {
	n, err := f.to.Write(b)
	f.count.Add(int64(n))
	if err != nil {
		f.link.reset()
	}
	return err == nil
}

// end passes on that no more bytes come; both ends together end the link.
func (f *pipe) end() {
	if tcp, ok := f.to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
