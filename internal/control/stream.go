package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"skein/internal/failover"
	"skein/internal/rest"
)

const (
	// keepalive is how often a node hears something on a stream.
	keepalive = 500 * time.Millisecond

	// dialTimeout bounds an attempt to reach a member; redialFirst and redialLast the pause between two.
	dialTimeout             = time.Second
	redialFirst, redialLast = 10 * time.Millisecond, 250 * time.Millisecond

	// farewell is how long a member that has been removed is tried to be told so.
	farewell = 2 * time.Second
)

var errElsewhere = errors.New("another node is at this member's address")

// stream is the coordinator's connection to one member, made again whenever it ends.
type stream struct {
	k       *coordinator
	id      failover.NodeID
	address string
	cancel  context.CancelFunc
	poke    chan struct{} // one slot: there is something to send

	mu    sync.Mutex
	state failover.State
	grants
	dismissed bool
}

// grants is the newest lease that has not been sent.
type grants struct {
	number uint64
	lease  time.Duration
}

// open begins a stream.
func (k *coordinator) open(ctx context.Context, m failover.Member) *stream {
	s := &stream{k: k, id: m.ID, address: m.PeerAddr, poke: make(chan struct{}, 1)}
	ctx, s.cancel = context.WithCancel(ctx)
	k.streams.Go(func() {
		defer s.cancel()
		s.run(ctx)
	})
	return s
}

// show has the member told a State.
func (s *stream) show(state failover.State) {
	s.mu.Lock()
	s.state = state
	s.mu.Unlock()
	nudge(s.poke)
}

// grant has the member told of a lease.
func (s *stream) grant(number uint64, lease time.Duration) {
	s.mu.Lock()
	s.grants = grants{number, lease}
	s.mu.Unlock()
	nudge(s.poke)
}

// dismiss ends the stream when the member has been told its last State.
func (s *stream) dismiss(last failover.State) {
	s.mu.Lock()
	s.state, s.dismissed = last, true
	s.mu.Unlock()
	nudge(s.poke)
	time.AfterFunc(farewell, s.cancel)
}

func (s *stream) run(ctx context.Context) {
	pause := redialFirst
	for {
		began := time.Now()
		err := s.once(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		refused := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errElsewhere)
		if !s.k.tell(ctx, func() { s.k.refusedBy(s, refused) }) {
			return
		}
		if time.Since(began) > watchTimeout {
			pause = redialFirst
		}
		if rest.For(ctx, pause) != nil {
			return
		}
		pause = min(2*pause, redialLast)
	}
}

// once is one connection. It ends without an error when the member has been dismissed.
func (s *stream) once(ctx context.Context) error {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := s.dial(dialing)
	if err != nil {
		return err
	}
	m := newMessages(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer func() { _ = conn.Close() }()
	store, err := s.greet(m)
	if err != nil {
		return err
	}
	lost := make(chan error, 1)
	reading.Go(func() { lost <- s.read(ctx, m, store) })
	return s.write(ctx, m, lost)
}

// dial connects. The coordinator's own node is reached without a network.
func (s *stream) dial(ctx context.Context) (net.Conn, error) {
	if s.id != s.k.o.Self {
		return s.k.o.Dial(ctx, s.address, Watch)
	}
	a, b := net.Pipe()
	s.k.streams.Go(func() { s.k.Serve(context.Background(), Watch, b) }) // until a is closed
	return a, nil
}

// greet finds out who is there, and by which store it votes.
func (s *stream) greet(m *messages) (store string, err error) {
	if err := m.send(watchHello{From: s.k.o.Self, To: s.id, Term: s.k.term}, watchTimeout); err != nil {
		return "", err
	}
	var w watchWelcome
	if err := m.receive(&w, watchTimeout); err != nil {
		return "", err
	}
	if w.Node != s.id {
		return "", fmt.Errorf("%w: %s", errElsewhere, w.Node)
	}
	if w.Refused != "" {
		return "", errors.New(w.Refused)
	}
	return w.Store, nil
}

func (s *stream) read(ctx context.Context, m *messages, store string) error {
	for {
		var n numbered
		if err := m.receive(&n, watchTimeout); err != nil {
			return err
		}
		if n.Report.Node != s.id {
			return fmt.Errorf("a report of node %q came from %q", n.Report.Node, s.id)
		}
		if !s.k.tell(ctx, func() { s.k.heardFrom(s, n, store) }) {
			return context.Cause(ctx)
		}
	}
}

func (s *stream) write(ctx context.Context, m *messages, lost <-chan error) error {
	tick := time.NewTicker(keepalive)
	defer tick.Stop()
	for told := uint64(0); ; {
		p, dismissed := s.due(told)
		if err := m.send(p, watchTimeout); err != nil {
			return err
		}
		if p.State != nil {
			told = p.State.Version
		}
		if dismissed {
			return nil
		}
		select {
		case <-s.poke:
		case <-tick.C:
		case err := <-lost:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// due gives what there is to send.
func (s *stream) due(told uint64) (p push, dismissed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Version > told {
		state := s.state
		p.State = &state
	}
	p.Grant, p.Lease = s.number, s.lease
	s.grants = grants{}
	return p, s.dismissed
}
