package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"

	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pgwire"
	"skein/internal/pool"
	"skein/internal/sqlstate"
)

// link is a session at a leader, or at the node on which a router process has it read.
type link struct {
	leader Leader
	place  *pool.Place // of a link that is for reads; nil for one to a leader
	alone  func() bool // has it outlive the place's node
	dial   func(context.Context) (net.Conn, error)
	up     *pgwire.Upstream
	status byte   // its last ReadyForQuery
	held   string // what it has that another could not have
	cancel []byte // its pid and key

	prepared map[string]engine.Prepared // statements that it has, by name, and of which of the client's they were
	settings map[string]string          // as they were sent or told
	changes  int                        // engine.Session.Changes of that
	due      []due                      // answers, in order
	found    error                      // what recheck has found
	floor    history.LSN                // that the other side keeps to
	commit   string                     // the last that the other side knows of
	plain    bool                       // it began as the client did, so RESET means the same there
}

// due is an answer that is awaited.
type due struct {
	kind   byte // of the message
	silent bool // the client does not wait for it
	hidden bool // and is not told either when it fails
	counts bool // the message is one of the cycle's
	name   string
	text   string
	types  []byte
}

// ends says whether a message is the last one of the answer.
func (d *due) ends(kind byte) bool {
	switch d.kind {
	case 'P':
		return kind == '1'
	case 'B':
		return kind == '2'
	case 'C':
		return kind == '3'
	case 'D':
		return kind == 'T' || kind == 'n'
	case 'E':
		return kind == 'C' || kind == 'I' || kind == 's'
	}
	return kind == 'Z'
}

var (
	// errMoved is the answer of a node that does not lead: nothing has been done.
	errMoved = errors.New("that node does not lead")
	// errUnsent means that not all of a cycle has left this node.
	errUnsent = errors.New("the leader was not reached")
)

// lostError is a connection that ended before the answer came.
type lostError struct{ err error }

func (e *lostError) Error() string {
	return fmt.Sprintf("the connection to the leader ended: %v", e.err)
}
func (e *lostError) Unwrap() error { return e.err }

// fatalError is the leader's last word to a client that it sends away.
type fatalError struct{ last *sqlstate.Error }

func (e *fatalError) Error() string { return e.last.Error() }

// dial opens a session like s at a leader. The startup is on its way; nothing of the answer has been read.
func (s *Session) dial(ctx context.Context, to Leader, named bool) (*link, error) {
	up := s.router.idle(to)
	if up == nil {
		conn, err := s.router.options.Cluster.Dial(ctx, to)
		if err != nil {
			return nil, err
		}
		up = pgwire.NewUpstream(conn)
	}
	l := &link{leader: to, dial: func(ctx context.Context) (net.Conn, error) { return s.router.options.Cluster.Dial(ctx, to) }}
	s.open(l, up, named)
	return l, nil
}

// maxStartup bounds the settings that a session begins with: a server takes no larger first message than 10 000 bytes.
const maxStartup = 8000

func size(settings map[string]string) (n int) {
	for name, value := range settings {
		n += len(name) + len(value) + 2
	}
	return n
}

// open begins a session on a new connection. One that is not named does not carry the transaction token.
func (s *Session) open(l *link, up *pgwire.Upstream, named bool) {
	l.up, l.status, l.prepared = up, 'I', map[string]engine.Prepared{}
	own := s.here.Own()
	l.settings, l.changes = own, s.here.Changes()
	if s.router.options.Pool != nil {
		own = maps.Clone(s.start.Params) // what they mean, and what the client has set since, is kept apart: RESET asks for it
		l.settings, l.changes, l.plain = s.front.began, -1, true
	}
	if !named {
		delete(own, tokenParameter)
	}
	if size(own) > maxStartup { // they come one by one
		own, l.settings, l.changes = nil, map[string]string{}, -1
	}
	l.up.Startup(s.start.User, s.start.Database, own)
	l.due = append(l.due, due{kind: 'Z', silent: true})
	s.router.keep(l)
}

func (l *link) close(r *Router) {
	r.drop(l)
	_ = l.up.Close()
	l.leave()
}

// leave gives the place back.
func (l *link) leave() {
	if l.place != nil {
		l.alone()
		l.place.Leave()
	}
}

// give ends the link's session in order, so that another client may use the connection.
func (l *link) give(r *Router) {
	r.drop(l)
	if l.status != 'I' || len(l.due) > 0 || l.cancel == nil {
		_ = l.up.Close()
		return
	}
	l.up.Send('X', nil)
	if l.up.Flush() != nil {
		_ = l.up.Close()
		return
	}
	r.lay(l.leader, l.up)
}

// maxIdle bounds the connections that are kept for clients to come.
const maxIdle = 16

// lay keeps a connection on which no session is open.
func (r *Router) lay(to Leader, up *pgwire.Upstream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spareTo != to {
		r.closeSpare()
		r.spareTo = to
	}
	if r.over || len(r.spare) >= maxIdle {
		_ = up.Close()
		return
	}
	r.spare = append(r.spare, up)
}

// idle gives a connection that is kept for a leader, nil if there is none.
func (r *Router) idle(to Leader) *pgwire.Upstream {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spareTo != to {
		r.closeSpare()
	}
	for n := len(r.spare); n > 0; n = len(r.spare) {
		up := r.spare[n-1]
		r.spare = r.spare[:n-1]
		if !up.Pending() {
			return up
		}
		_ = up.Close()
	}
	return nil
}

// closeSpare closes them all. The lock is held.
func (r *Router) closeSpare() {
	for _, up := range r.spare {
		_ = up.Close()
	}
	r.spare = nil
}

// set has the link's session get the settings that have changed here.
func (l *link) set(here *engine.Session) {
	if l.changes == here.Changes() {
		return
	}
	l.changes = here.Changes()
	now := here.Own()
	for name, value := range now {
		if old, ok := l.settings[name]; ok && old == value {
			continue
		}
		l.query("SELECT pg_catalog.set_config(" + literal(name) + ", " + literal(value) + ", false)")
	}
	for name := range l.settings {
		switch _, ok := now[name]; {
		case ok:
		case l.plain:
			l.query(`RESET "` + strings.ReplaceAll(name, `"`, `""`) + `"`)
		default:
			l.query("SELECT pg_catalog.set_config(" + literal(name) + ", " + literal(here.Setting(name)) + ", false)")
		}
	}
	l.settings = now
}

// query sends a text whose answer nobody waits for.
func (l *link) query(sql string) {
	l.up.Send('Q', append([]byte(sql), 0))
	l.due = append(l.due, due{kind: 'Q', silent: true, hidden: true})
	delete(l.prepared, "")
}

func literal(s string) string {
	quoted := []byte{'\''}
	for i := range len(s) {
		if s[i] == '\'' {
			quoted = append(quoted, '\'')
		}
		quoted = append(quoted, s[i])
	}
	return string(append(quoted, '\''))
}

// told takes a ParameterStatus that is for the router. It is false for one that is the client's.
func (l *link) told(s *Session, name, value string) bool {
	switch name {
	case engine.SeenParameter:
		if lsn, err := history.ParseLSN(value); err == nil {
			s.here.Raise(lsn)
			l.floor = max(l.floor, lsn)
		}
	case engine.HeldParameter:
		l.held = value
	default:
		return false
	}
	return true
}
