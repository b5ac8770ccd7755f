package router

import (
	"context"

	"skein/internal/engine"
	"skein/internal/pgwire"
)

// Lent is the pgwire.Handler of a leader for the routers of other nodes, who have seen to it that their clients are who they say. What they
// are promised of their reads only the leader can see to: it knows when a block reads for the first time, and which settings hold then.
type Lent struct {
	*Router
	Engine *engine.Engine
}

// Connect opens a session that ends with the engine.
func (l Lent) Connect(_ context.Context, out *pgwire.Conn, st pgwire.Startup) (pgwire.Session, error) {
	here, err := l.Engine.OpenForwarded(out, st)
	if err != nil {
		return nil, err
	}
	s := &Session{router: l.Router, out: out, start: st, remote: true, lent: true}
	s.adopt(here)
	return s, nil
}

// takeLent has a message wait until what it reads is as new as it must be.
func (s *Session) takeLent(ctx context.Context, kind byte, body []byte) (bool, error) {
	if s.cycle.failed {
		return true, s.skip(ctx, kind)
	}
	s.notes(kind, body)
	begins := s.cycle.opening && (kind == 'Q' || s.cycle.began == 'I') // and does no more
	if kind != 'Q' && kind != 'E' || begins {
		return false, nil
	}
	switch fresh, err := s.freshen(ctx, kind, body); {
	case err != nil:
		return true, s.fail(kind, err)
	case !fresh && s.here.Leads():
		return true, s.fail(kind, errFallenBehind)
	}
	return false, nil // one that does not lead any more refuses it
}
