package router

import (
	"context"
	"slices"

	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// A client that was told the columns of a prepared statement reads rows by them. Whoever prepares it anew, on another node, may find a
// table that has other columns by now, and would not know.

// errPlanChanged is what the engine says where it knows.
var errPlanChanged = sqlstate.New(sqlstate.FeatureNotSupported, "cached plan must not change result type")

// recheck has the other side prepare those statements of the cycle that it does not have and of which the client knows the columns,
// and sees that they are the same, before anything of the cycle runs. If not, told is what the client has to hear.
func (s *Session) recheck(ctx context.Context) (told, err error) {
	names := s.unchecked()
	if len(names) == 0 {
		return nil, nil
	}
	l := s.away
	stop := context.AfterFunc(ctx, func() { _ = l.up.Close() })
	defer stop()
	for _, name := range names {
		p, _ := s.here.Prepared(name)
		if s.prepareExecuted(p.Statement) {
			l.due[len(l.due)-1].hidden = true
		}
		if name != "" {
			l.forget(name)
		}
		l.prepared[name] = p
		l.up.Send('P', p.Message(name))
		l.up.Send('D', append(append([]byte{'S'}, name...), 0))
		l.up.Send('S', nil)
		l.due = append(l.due, due{kind: 'P', silent: true, hidden: true, name: name}, due{kind: 'D', silent: true, hidden: true, name: name},
			due{kind: 'S', silent: true, hidden: true})
		l.found = nil
		if err := l.up.Flush(); err != nil {
			return nil, errUnsent
		}
		if err := s.pump(l); err != nil {
			return nil, err
		}
		if l.found != nil {
			break
		}
	}
	if l.found != nil && l.status == 'T' { // there the block is good
		s.drop()
		s.here.Block()
	}
	return l.found, nil
}

// unchecked names these statements.
func (s *Session) unchecked() (names []string) {
	own := map[string]bool{} // what the cycle makes itself
	for at, c := 0, &s.cycle; at < len(c.raw); {
		kind, body, end := next(c.raw, at)
		if at >= c.sent {
			var name string
			switch {
			case kind == 'P':
				name, _ := cut(body)
				own[string(name)] = true
			case kind == 'Q':
				own[""] = true
			case kind == 'B':
				_, rest := cut(body)
				name = text(rest)
			}
			if kind == 'B' && !own[name] && !slices.Contains(names, name) && s.lacks(name) {
				if _, described := s.here.Described(name); described {
					names = append(names, name)
				}
			}
		}
		at = end
	}
	return names
}

// lacks says whether the other side has not prepared a statement that the client has.
func (s *Session) lacks(name string) bool {
	p, ok := s.here.Prepared(name)
	has, there := s.away.prepared[name]
	return ok && !(there && (has.Pending() || has.Same(p)))
}

// compare takes the columns that a statement has over there.
func (s *Session) compare(l *link, name string, now []pgwire.Field) {
	known, ok := s.here.Described(name)
	same := func(a, b pgwire.Field) bool { return a.Name == b.Name && a.Type == b.Type }
	if ok && ((known == nil) != (now == nil) || !slices.EqualFunc(known, now, same)) {
		l.found = errPlanChanged
		delete(l.prepared, name)
	}
}
