package router

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pgwire"
	"skein/internal/pool"
	"skein/internal/sqlstate"
)

// Leader is the node that takes writes, as far as this one knows.
type Leader struct {
	Name    string // as people know it
	Address string // of its peer port
	Epoch   history.Epoch
	Here    bool // it is this node, which may not have begun yet
}

// Cluster is what a Router needs of the nodes together. Its methods may be called from any goroutine.
type Cluster interface {
	// Leader is false while there is none.
	Leader() (Leader, bool)
	// Changed gives a channel that is closed once Leader may answer otherwise than before the call.
	Changed() <-chan struct{}
	// Dial opens a connection to the engine of a leader, which takes any name of a client for true.
	Dial(ctx context.Context, l Leader) (net.Conn, error)
}

// Options of a Router.
type Options struct {
	Cluster Cluster
	Fresh   Freshness
	Name    string       // of this node, for people
	Logger  *slog.Logger // nil: nothing is logged
	// Pool is that of a router without data, whose engine is a hollow one: reads go to its nodes. nil: this is a node.
	Pool *pool.Pool
}

// Router is the pgwire.Handler of a node.
type Router struct {
	options Options

	engine atomic.Pointer[engine.Engine] // nil between two engines
	epoch  atomic.Uint64                 // of the newest leader that is known

	caughtUp atomic.Bool // this node has once had, since it started, all that was acknowledged

	mu       sync.Mutex
	entered  chan struct{}         // closed while there is an engine
	attached map[*Session]struct{} // sessions that have one of its
	left     chan struct{}         // one slot: a session has given its own back
	links    map[*link]struct{}
	spare    []*pgwire.Upstream // connections to spareTo without a session
	spareTo  Leader
	over     bool // Run has ended
}

// New makes a Router without an engine: clients wait for Enter.
func New(o Options) *Router {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Router{
		options: o, entered: make(chan struct{}), attached: map[*Session]struct{}{}, left: make(chan struct{}, 1), links: map[*link]struct{}{},
	}
}

// connectTime is how long a client that connects waits for the node to have an engine.
const connectTime = 10 * time.Second

var errNoEngine = sqlstate.New(sqlstate.CannotConnectNow, "the node is changing its role").
	WithHint("Try again in a moment.")

// Enter has statements run in e from now on.
func (r *Router) Enter(e *engine.Engine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engine.Store(e)
	close(r.entered)
}

// errLeaving interrupts what runs in an engine that is about to close. What only waits goes on in the next.
var errLeaving = sqlstate.New(sqlstate.SerializationFailure, "the statement was interrupted: this node has ceased to lead").
	WithHint("Repeat it.")

// Leave has no session use the engine any more when it returns. Clients stay, and what they send waits for the next Enter, but for
// those with something that cannot be taken along: they get why. Statements that run have until grace is over; after that they
// are interrupted, and clients who do not take their answers are sent away.
func (r *Router) Leave(grace time.Duration, why *sqlstate.Error) {
	r.mu.Lock()
	r.engine.Store(nil)
	r.entered = make(chan struct{})
	for s := range r.attached {
		s.out.Between(func() { s.detach(why) })
	}
	r.mu.Unlock()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for rounds := 0; ; {
		attached := r.remaining()
		if len(attached) == 0 {
			return
		}
		select {
		case <-r.left:
			continue
		case <-timer.C:
		}
		for _, s := range attached {
			if rounds++; rounds <= len(attached) {
				s.interrupt(errLeaving)
			} else {
				s.out.Terminate(why)
			}
		}
		timer.Reset(grace)
	}
}

func (r *Router) remaining() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Session
	for s := range r.attached {
		all = append(all, s)
	}
	return all
}

// current waits for an engine until ctx is done, or for as long as a client is let wait.
func (r *Router) current(ctx context.Context, patience time.Duration) (*engine.Engine, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		r.mu.Lock()
		e, entered := r.engine.Load(), r.entered
		r.mu.Unlock()
		if e != nil {
			return e, nil
		}
		select {
		case <-entered:
		case <-timer.C:
			return nil, errNoEngine
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// attach counts a session to e's; it is false if that has left meanwhile.
func (r *Router) attach(s *Session, e *engine.Engine) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.engine.Load() != e {
		return false
	}
	r.attached[s] = struct{}{}
	return true
}

func (r *Router) detach(s *Session) {
	r.mu.Lock()
	delete(r.attached, s)
	r.mu.Unlock()
	select {
	case r.left <- struct{}{}:
	default:
	}
}

// Verifier is the engine's.
func (r *Router) Verifier(role string) (string, bool) {
	e, err := r.current(context.Background(), connectTime)
	if err != nil {
		return "", false
	}
	return e.Verifier(role)
}

// MockSecret is the engine's.
func (r *Router) MockSecret() []byte {
	e, err := r.current(context.Background(), connectTime)
	if err != nil {
		return nil
	}
	return e.MockSecret()
}

// Trusts is the engine's; while there is none, nobody is trusted.
func (r *Router) Trusts(remote net.Addr) bool {
	e, err := r.current(context.Background(), connectTime)
	return err == nil && e.Trusts(remote)
}

// Connect opens a client's session.
func (r *Router) Connect(ctx context.Context, out *pgwire.Conn, st pgwire.Startup) (pgwire.Session, error) {
	s := &Session{router: r, out: out, start: st}
	if err := s.connectHere(ctx); err != nil {
		return nil, err
	}
	if r.options.Pool == nil {
		return s, nil
	}
	if err := s.greet(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// connectHere opens the engine's session.
func (s *Session) connectHere(ctx context.Context) error {
	r, patience := s.router, connectTime
	if s.remote {
		patience = 0
	}
	looked := false
	for {
		e, err := r.current(ctx, patience)
		if err != nil {
			return err
		}
		if !r.attach(s, e) {
			continue
		}
		here, err := e.Open(s.out, s.start)
		if err != nil {
			r.detach(s)
			if !looked && !e.Leads() && missing(err) && r.catchUp(ctx) {
				looked = true
				continue
			}
			return err
		}
		if s.remote {
			here.Report()
		}
		s.adopt(here)
		return nil
	}
}

// missing says whether a client that connects has named a database or a role that there is not, or not yet.
func missing(err error) bool {
	var told *sqlstate.Error
	return errors.As(err, &told) && (told.Code == sqlstate.InvalidDatabaseName || told.Code == sqlstate.InvalidAuthorization)
}

// lookTime is how long the leader has to be asked, and this node to catch up, before what is not here does not exist.
const lookTime = 2 * time.Second

// catchUp has this node's readers see the databases and roles that there were at the leader at the call. It is false if that did not come to pass.
func (r *Router) catchUp(ctx context.Context) bool {
	ctx, stop := context.WithTimeout(ctx, lookTime)
	defer stop()
	lsn, err := r.options.Fresh.ReadPosition(ctx, "")
	return err == nil && r.options.Fresh.Await(ctx, lsn) == nil
}

// Readers is the pgwire.Handler for the reads of router processes, who have seen to it that their clients are who they say.
type Readers struct{ *Router }

// Connect opens a session that reads here. What it cannot do here it refuses with engine.ErrNotLeader, before that had an effect.
func (r Readers) Connect(ctx context.Context, out *pgwire.Conn, st pgwire.Startup) (pgwire.Session, error) {
	s := &Session{router: r.Router, out: out, start: st, remote: true}
	if err := s.connectHere(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Serves says whether there is an engine.
func (r *Router) Serves() bool { return r.engine.Load() != nil }

// Sessions counts those of the router.
func (r *Router) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.attached)
}

// Run ends links to leaders that are leaders no more, until ctx is done: an answer from there may never come.
func (r *Router) Run(ctx context.Context) error {
	if r.options.Cluster == nil {
		<-ctx.Done()
		return nil
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closeSpare()
		r.over = true
	}()
	tick := time.NewTicker(silence / 5)
	defer tick.Stop()
	heard := time.Now()
	for {
		changed := r.options.Cluster.Changed()
		if now, ok := r.options.Cluster.Leader(); ok {
			r.epoch.Store(uint64(now.Epoch))
			r.expire(ctx, now)
		}
		select {
		case <-changed:
		case <-tick.C:
			heard = r.listen(heard)
		case <-ctx.Done():
			return nil
		}
	}
}

// silence is for how long a node may hear nothing of its leader before what it has sent there is given up: the answers may
// never come, and of another leader it would not hear either.
const silence = 5 * time.Second

// hearing is a Cluster that knows when this node last heard the one that it copies from.
type hearing interface{ HeardAt() time.Time }

// listen ends every link if nothing was heard for too long. It gives when something was.
func (r *Router) listen(heard time.Time) time.Time {
	c, ok := r.options.Cluster.(hearing)
	if !ok {
		return heard
	}
	if now := c.HeardAt(); now.After(heard) {
		heard = now
	}
	if to, ok := r.options.Cluster.Leader(); ok && to.Here {
		return time.Now()
	}
	if time.Since(heard) > silence {
		r.mu.Lock()
		defer r.mu.Unlock()
		for l := range r.links {
			_ = l.up.Close()
		}
	}
	return heard
}

// lastWords is how long a leader that has been replaced may still answer.
const lastWords = 500 * time.Millisecond

func (r *Router) expire(ctx context.Context, now Leader) {
	var old []*link
	r.mu.Lock()
	for l := range r.links {
		if l.place == nil && l.leader.Epoch < now.Epoch {
			old = append(old, l)
		}
	}
	r.mu.Unlock()
	if len(old) == 0 {
		return
	}
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	for _, l := range old {
		_ = l.up.Close()
	}
}

func (r *Router) keep(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links[l] = struct{}{}
}

func (r *Router) drop(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, l)
}
