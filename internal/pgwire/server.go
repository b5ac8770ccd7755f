package pgwire

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"skein/internal/rest"
	"skein/internal/sqlstate"
)

// wrongKeyDelay is how long a CancelRequest with a wrong key occupies its connection: a cancel key of
// protocol 3.0 has only 32 bits, and the number of such connections is limited.
const wrongKeyDelay = 100 * time.Millisecond

// Options of a Server. The zero value of each field means the default named with it.
type Options struct {
	MaxConnections     int           // sessions at a time; 100
	MaxUnauthenticated int           // connections that have not proved who they are; 1000
	AuthTimeout        time.Duration // from accept to the end of authentication; 10 s
	WriteTimeout       time.Duration // for one write of up to 32 KB to a client that does not read; 60 s
	MaxMessageBytes    int           // of an authenticated client; 64 MiB
	ScramIterations    int           // shown for unknown roles: those of new passwords; 4096
	FirstPID           uint32        // connections are numbered from the one after it on; 0
	Reuse              bool          // after Terminate a connection may begin another session
	Trust              bool          // anyone is who they say they are: no password
	Logger             *slog.Logger  // discards

	// Trusts is asked, where Trust is not set, whether a client needs no password; nil never trusts.
	Trusts func(remote net.Addr) bool

	// Ready is waited for before a client is asked for its password; its error refuses the client. nil is always ready.
	Ready func(context.Context) error
}

func (o *Options) trusts(remote net.Addr) bool { return o.Trust || o.Trusts != nil && o.Trusts(remote) }

func (o Options) withDefaults() Options {
	setDefault(&o.MaxConnections, 100)
	setDefault(&o.MaxUnauthenticated, 1000)
	setDefault(&o.AuthTimeout, 10*time.Second)
	setDefault(&o.WriteTimeout, time.Minute)
	setDefault(&o.MaxMessageBytes, 64<<20)
	setDefault(&o.ScramIterations, 4096)
	setDefault(&o.Logger, slog.New(slog.DiscardHandler))
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Server accepts PostgreSQL connections and runs their sessions.
type Server struct {
	handler Handler
	options Options
	large   sync.Pool // of *[]byte, see Conn.large

	mu              sync.Mutex
	unauthenticated int
	lastPID         uint32
	sessions        map[uint32]*registration // by PID
}

// registration is what a CancelRequest finds.
type registration struct {
	key     []byte
	mu      sync.Mutex
	session Session // nil once it is closed
}

// NewServer makes a server that asks h for sessions.
func NewServer(h Handler, o Options) *Server {
	s := &Server{handler: h, options: o.withDefaults(), sessions: map[uint32]*registration{}}
	s.large.New = func() any {
		b := make([]byte, 0, flushAt+smallBuffer)
		return &b
	}
	return s
}

// Serve accepts connections from l until ctx is done. Then every session gets 57P01, and Serve
// returns when all of them have ended. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var running sync.WaitGroup
	defer running.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer func() { _ = l.Close() }()
	for {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = nc.Close()
			}
			return nil
		}
		if err != nil {
			if !temporary(err) {
				return err
			}
			s.options.Logger.Warn("accept", "err", err)
			_ = rest.For(ctx, 50*time.Millisecond)
			continue
		}
		if !s.enter() {
			_ = nc.Close()
			continue
		}
		running.Go(func() { s.serve(ctx, nc) })
	}
}

// temporary errors, such as having no file descriptor left, pass when connections end.
func temporary(err error) bool {
	var e interface{ Temporary() bool }
	return errors.As(err, &e) && e.Temporary()
}

// enter counts a connection that is not authenticated yet. From half of the limit on, connections
// are dropped at random, ever more likely: someone who opens connections and says nothing can then
// not keep everybody else out.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.options.MaxUnauthenticated
	if half := limit / 2; s.unauthenticated > half && rand.IntN(limit-half) < s.unauthenticated-half {
		return false
	}
	s.unauthenticated++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unauthenticated--
}

// Answer serves one connection that somebody else has accepted, until it or ctx ends; then the session gets 57P01, or
// what ctx's cause says. It closes the connection.
func (s *Server) Answer(ctx context.Context, nc net.Conn) {
	if !s.enter() {
		_ = nc.Close()
		return
	}
	s.serve(ctx, nc)
}

// serve runs one connection to its end.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	defer func() { _ = nc.Close() }()
	c := newConn(ctx, nc, s.options.WriteTimeout, &s.large)
	for s.one(c) && s.options.Reuse {
		c = c.another(ctx)
		if !c.wanted() || !s.enter() {
			return
		}
	}
}

// another takes the connection over for the client's next session.
func (c *Conn) another(ctx context.Context) *Conn {
	next := newConn(ctx, c.net, c.writeTimeout, c.large)
	c.in.release()
	next.in = c.in
	next.in.max = maxUnauthenticatedMessage
	return next
}

// wanted waits for the client to begin another session.
func (c *Conn) wanted() bool {
	stop := context.AfterFunc(c.ctx, c.unblock)
	defer stop()
	return c.in.need(1) == nil && c.ctx.Err() == nil
}

// one runs one session. It is true if the client has ended it in order.
func (s *Server) one(c *Conn) bool {
	defer c.terminate(nil)
	stop := context.AfterFunc(c.ctx, c.unblock)
	defer stop()

	err := s.converse(c)
	var last *sqlstate.Error
	if c.err == nil && errors.As(err, &last) { // other errors are the network's
		c.fail("FATAL", last)
		_ = c.flush()
	}
	return err == nil && c.err == nil && c.ctx.Err() == nil
}

// converse is the life of a connection. Its error is the connection's last word to the client. A
// panic ends this connection and no other.
func (s *Server) converse(c *Conn) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.out, c.row = c.out[:0], -1 // the last message in it may be half made
			s.options.Logger.Error("panic in a session", "pid", c.pid, "panic", r, "stack", string(debug.Stack()))
			err = sqlstate.New(sqlstate.InternalError, "internal error: the session has ended")
		}
	}()
	start, err := s.admit(c)
	if err != nil {
		return err
	}
	defer s.remove(c.pid)
	session, err := s.handler.Connect(c.ctx, c, start)
	if err != nil {
		return state(err)
	}
	r := &registration{key: c.newCancelKey(), session: session}
	s.mu.Lock()
	s.sessions[c.pid] = r
	s.mu.Unlock()
	defer r.end()

	c.in.max = s.options.MaxMessageBytes
	for _, p := range session.Parameters() {
		c.ParameterStatus(p[0], p[1])
	}
	c.backendKeyData(r.key)
	c.readyForQuery(session.Status())
	l := loop{conn: c, session: session, flushing: true}
	l.relay, _ = session.(Relay)
	return l.run()
}

// admit does everything up to the end of authentication. When it succeeds the connection has a
// place among the sessions.
func (s *Server) admit(c *Conn) (Startup, error) {
	defer s.leave()
	timer := time.AfterFunc(s.options.AuthTimeout, func() {
		c.Terminate(sqlstate.New(sqlstate.QueryCanceled, "canceling authentication due to timeout"))
	})
	defer timer.Stop()

	start, err := s.startup(c)
	if err != nil {
		return start, err
	}
	if s.full() { // a cheap refusal: a storm of clients costs no password checks
		return start, tooMany()
	}
	if s.options.Ready != nil {
		if err := s.options.Ready(c.ctx); err != nil {
			return start, err
		}
	}
	if err := s.authenticate(c, start.User); err != nil {
		s.options.Logger.Info("authentication failed", "role", start.User, "remote", start.RemoteAddr, "err", err)
		return start, err
	}
	if start.PID = s.place(); start.PID == 0 {
		return start, tooMany()
	}
	c.pid = start.PID
	return start, nil
}

func tooMany() *sqlstate.Error {
	return sqlstate.New(sqlstate.TooManyConnections, "sorry, too many clients already")
}

func (s *Server) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions) >= s.options.MaxConnections
}

// place takes a place among the sessions and gives its PID, or 0 when all are taken.
func (s *Server) place() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= s.options.MaxConnections {
		return 0
	}
	for {
		s.lastPID = s.lastPID%(1<<30-1) + 1
		pid := s.options.FirstPID + s.lastPID
		if _, taken := s.sessions[pid]; !taken {
			s.sessions[pid] = nil // until it is connected, there is nothing to cancel
			return pid
		}
	}
}

// end closes the session, after which it is not cancelled any more.
func (r *registration) end() {
	r.mu.Lock()
	session := r.session
	r.session = nil
	r.mu.Unlock()
	session.Close()
}

func (s *Server) remove(pid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, pid)
}

// cancel serves a CancelRequest. The client never learns whether it had an effect.
func (s *Server) cancel(c *Conn, body []byte) {
	if len(body) < 8 || len(body) > 4+maxCancelKey {
		return
	}
	pid, key := binary.BigEndian.Uint32(body), body[4:]
	s.mu.Lock()
	r := s.sessions[pid]
	s.mu.Unlock()
	if r == nil || subtle.ConstantTimeCompare(r.key, key) != 1 {
		_ = rest.For(c.ctx, wrongKeyDelay)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != nil {
		r.session.Cancel()
	}
}
