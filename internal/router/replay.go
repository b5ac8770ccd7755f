package router

import (
	"context"

	"skein/internal/dialect"
	"skein/internal/pgwire"
)

// finish ends a cycle that was away.
func (s *Session) finish(ctx context.Context) error {
	c, l := &s.cycle, s.away
	switch {
	case l.status == 'I':
		s.opening, s.before = s.opening[:0], nil
	case c.began == 'I' && c.opening && !c.long:
		s.opening = append(s.opening[:0], c.raw...)
	case c.ran:
		s.opening = s.opening[:0]
	}
	s.repeatHere()
	s.answeredAway(l)
	if err := s.here.Sync(ctx); err != nil { // portals that were made here before
		return err
	}
	s.end()
	s.here.Rest(l.status != 'I')
	return nil
}

// repeatHere does here what the cycle has done away to the session's own things.
func (s *Session) repeatHere() {
	for at := 0; at < len(s.cycle.raw); {
		kind, body, end := next(s.cycle.raw, at)
		if kind == 'Q' {
			_ = s.here.CloseStatement("")
			for _, st := range s.statements(kind, body) {
				s.here.Repeat(st)
				s.hasPrepared(st)
			}
		}
		at = end
	}
}

// hasPrepared notes that the leader has what SQL's PREPARE has made.
func (s *Session) hasPrepared(st *dialect.Statement) {
	if st.Kind != dialect.Prepare {
		return
	}
	if p, ok := s.here.Prepared(st.Prepare.Name); ok {
		s.away.prepared[st.Prepare.Name] = p
	}
}

// rerun runs the cycle here, from its beginning, as new as its reads must be by now.
func (s *Session) rerun(ctx context.Context) error {
	fresh, err := s.freshen(ctx, 'E', nil)
	if err != nil {
		return err
	}
	if !fresh {
		s.cycle.again = false
		return errUnsent
	}
	return s.replay(ctx)
}

// replay runs the cycle here: this node has become the leader. It is errMoved if it has ceased to be one before anything was done.
func (s *Session) replay(ctx context.Context) error {
	c := &s.cycle
	c.away, c.again = false, false
	h := pgwire.NewReplayer(s.out, s.here, func(err error) bool { return refused(err) && s.moves() })
	message := func(kind byte, body []byte, silent bool) error {
		err := h.Message(kind, body, silent)
		if refused(err) {
			return errMoved
		}
		return err
	}
	if s.reopen {
		s.reopen = false
		for at := 0; at < len(s.opening); {
			kind, body, end := next(s.opening, at)
			if err := message(kind, body, true); err != nil {
				return err
			}
			at = end
		}
	}
	kind, answered := byte(0), c.answered
	for at, n := 0, 0; at < len(c.raw); {
		var body []byte
		var end int
		kind, body, end = next(c.raw, at)
		if err := message(kind, body, n < answered); err != nil {
			return err
		}
		if n += told(kind); n > c.answered {
			c.answered, c.ran = n, c.ran || kind == 'E' || kind == 'Q'
		}
		at = end
	}
	if kind == 'S' || kind == 'Q' {
		s.endHere()
		return nil
	}
	c.failed = h.Skipping()
	return nil
}
