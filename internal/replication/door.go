package replication

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"skein/internal/rest"
)

// maxStrangers bounds connections that have not proved who they are.
const maxStrangers = 64

// Door lets other nodes in, for as long as the process lives: storage may be closed and opened again behind
// it. Its methods may be called from any goroutine; Serve owns the goroutines that it starts.
type Door struct {
	Link
	strangers chan struct{} // one slot each

	mu       sync.Mutex
	host     *hosting // nil: nobody answers for this node's data now
	handlers map[Purpose]Handler
	ends     map[string]string // how each node's last connection ended, as logged
}

// Handler has a connection until it returns, or until ctx is done, which closes it.
type Handler func(ctx context.Context, conn net.Conn, from Identity)

// hosting is the time for which a Peer answers.
type hosting struct {
	peer   *Peer
	over   context.Context
	end    context.CancelFunc
	visits sync.WaitGroup // Add only while this is the Door's host
}

// NewDoor makes the Door of a node that belongs to a cluster.
func NewDoor(l Link) *Door {
	l.setDefaults()
	return &Door{
		Link: l, strangers: make(chan struct{}, maxStrangers), handlers: map[Purpose]Handler{}, ends: map[string]string{},
	}
}

// Admit sends those to p who come for this node's data. Release ends that; when it returns, their connections are
// gone. Without a Peer they are told to come later.
func (d *Door) Admit(p *Peer) (release func()) {
	h := &hosting{peer: p}
	h.over, h.end = context.WithCancel(context.Background())
	d.mu.Lock()
	d.host = h
	d.mu.Unlock()
	return func() {
		d.mu.Lock()
		if d.host == h {
			d.host = nil
		}
		d.mu.Unlock()
		h.end()
		h.visits.Wait()
	}
}

// Handle has fn answer connections of an exported purpose; nil ends that. Those who come when nobody answers are told to
// come later.
func (d *Door) Handle(why Purpose, fn Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handlers[why] = fn
}

// Serve answers other nodes until ctx is done; when it returns, every connection is gone. It closes the listener.
func (d *Door) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer func() { _ = l.Close() }() // not after Serve has returned, which the other one may be
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of file descriptors, most likely: those who are connected must not suffer from who is not.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			d.Logger.Warn("cannot accept a node", "error", err)
			_ = rest.For(ctx, pause)
			continue
		}
		pause = 0
		select {
		case d.strangers <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		serving.Go(func() { d.serve(ctx, conn) })
	}
}

// visit is how a connection is answered whose purpose is known.
type visit struct {
	answer func() error
	leave  func()      // may be nil
	good   func() bool // says afterwards whether it came as far as it should have; may be nil
}

// serve is one connection's life.
func (d *Door) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	tune(conn, d.Timeout)
	w := newWire(conn, d.Timeout)

	// Whoever is slow to introduce itself is cut off, so that strangers cannot take the places of all.
	late := time.AfterFunc(d.Timeout, func() { _ = conn.Close() })
	var v visit
	who, _, err := d.receive(w, func(who Identity, why Purpose) (err error) {
		v, err = d.enter(ctx, cancel, w, who, why)
		return err
	})
	late.Stop()
	<-d.strangers
	if err == nil {
		err = v.answer()
	}
	if v.good != nil && v.good() {
		d.forgetEnd(who)
	}
	if v.leave != nil {
		v.leave()
	}
	d.tellEnd(ctx, who, conn.RemoteAddr(), ended(ctx, err))
}

// enter finds who answers. On an error of its own there is nothing to leave.
func (d *Door) enter(ctx context.Context, cancel context.CancelCauseFunc, w *wire, who Identity, why Purpose) (visit, error) {
	switch {
	case why == toIdentify:
		return visit{answer: func() error { return nil }}, nil
	case why.carriesBytes():
		return d.hand(ctx, w, who, why)
	}
	h := d.visit()
	if h == nil {
		return visit{}, refuse(RefusedBusy, "it is not ready: its data are being opened")
	}
	stop := context.AfterFunc(h.over, func() { cancel(context.Cause(h.over)) })
	v, err := h.peer.answer(ctx, cancel, w, who, why)
	leave := v.leave
	v.leave = func() {
		if leave != nil {
			leave()
		}
		stop()
		h.visits.Done()
	}
	if err != nil {
		v.leave()
		return visit{}, err
	}
	return v, nil
}

// visit gives the present host, who waits for the visitor to be done.
func (d *Door) visit() *hosting {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.host != nil {
		d.host.visits.Add(1)
	}
	return d.host
}

// hand gives the connection to the handler of its purpose.
func (d *Door) hand(ctx context.Context, w *wire, who Identity, why Purpose) (visit, error) {
	d.mu.Lock()
	fn := d.handlers[why]
	d.mu.Unlock()
	if fn == nil {
		return visit{}, refuse(RefusedBusy, "it is not ready: it takes no part in the cluster's decisions yet")
	}
	return visit{answer: func() error {
		c, err := newByteConn(w)
		if err != nil {
			return err
		}
		fn(ctx, c, who)
		return nil
	}}, nil
}

// tellEnd logs why a connection has ended, unless this node stops.
func (d *Door) tellEnd(ctx context.Context, who Identity, from net.Addr, err error) {
	var refused *Refused // by this node: whoever dials refuses nobody
	switch {
	case err == nil:
	case errors.As(err, &refused):
		if d.isNews(who.Node, err) {
			d.Logger.Info("refused a node", "node", who.Name, "address", from.String(), "reason", refused.Text)
		}
	case ctx.Err() == nil && d.isNews(who.Node, err):
		d.Logger.Info("a node's connection ended", "node", who.Name, "address", from.String(), "error", err)
	}
}

// forgetEnd has the next end told, even if it is like the last one: something went well in between.
func (d *Door) forgetEnd(who Identity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ends, who.Node)
}

// isNews says whether a node's connection has ended otherwise than its last one: a node that is refused comes
// again every few seconds.
func (d *Door) isNews(node string, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ends[node] == err.Error() {
		return false
	}
	if len(d.ends) >= maxStrangers { // whoever makes up names must not fill the memory
		clear(d.ends)
	}
	d.ends[node] = err.Error()
	return true
}
