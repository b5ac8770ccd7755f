package router

import (
	"bytes"

	"skein/internal/dialect"
	"skein/internal/engine"
)

// send sends messages of a cycle, from one offset on. silent is up to which offset the client waits for no answer; -1 is as
// many messages as the client has been answered.
func (s *Session) send(raw []byte, from, silent int) {
	l := s.away
	for at, n := 0, 0; at < len(raw); {
		kind, body, end := next(raw, at)
		if at >= from {
			d := due{kind: kind, counts: silent < 0, silent: at < silent || silent < 0 && !s.cycle.long && n < s.cycle.answered}
			s.provide(kind, body, d.silent)
			l.up.Send(kind, body)
			if s.expect(&d, body) {
				l.due = append(l.due, d)
			}
		}
		n += told(kind)
		at = end
	}
}

// expect fills in what an answer will mean. It is false for a message that gets none.
func (s *Session) expect(d *due, body []byte) bool {
	switch d.kind {
	case 'H', 'd', 'c', 'f':
		return false
	case 'Q':
		delete(s.away.prepared, "")
	case 'P':
		name, rest := cut(body)
		sql, types := cut(rest)
		d.name, d.text, d.types = string(name), string(sql), bytes.Clone(types)
		s.away.prepared[d.name] = engine.Prepared{Text: d.text}
	case 'C', 'D':
		if len(body) > 0 && body[0] == 'S' {
			d.name = text(body[1:])
		}
	}
	return true
}

// provide has the leader know the prepared statements that a message is about.
func (s *Session) provide(kind byte, body []byte, silent bool) {
	switch kind {
	case 'P':
		if name, _ := cut(body); len(name) > 0 {
			if _, mine := s.here.Prepared(string(name)); mine && !silent {
				s.prepare(string(name)) // so that it refuses the name
			} else {
				s.away.forget(string(name))
			}
		}
		for _, st := range s.statements(kind, body) {
			s.prepareExecuted(st)
		}
	case 'B':
		_, rest := cut(body)
		name := text(rest)
		if !s.cycle.made[name] {
			s.prepareExecuted(s.named(name))
		}
		s.prepare(name)
	case 'D', 'C':
		if kind == 'D' && len(body) > 0 && body[0] == 'S' {
			s.prepare(text(body[1:]))
		}
	case 'Q':
		for _, st := range s.statements(kind, body) {
			if s.prepareExecuted(st) {
				s.away.due[len(s.away.due)-1].hidden = true
				s.away.up.Send('S', nil)
				s.away.due = append(s.away.due, due{kind: 'S', silent: true})
			}
		}
	}
}

// prepareExecuted has the leader prepare what a statement executes.
func (s *Session) prepareExecuted(st *dialect.Statement) (sent bool) {
	return st != nil && st.Kind == dialect.Execute && s.prepare(st.Prepare.Name)
}

// forget closes a statement of which the client has none any more.
func (l *link) forget(name string) {
	if _, has := l.prepared[name]; has {
		delete(l.prepared, name)
		l.up.Send('C', append(append([]byte{'S'}, name...), 0))
		l.due = append(l.due, due{kind: 'C', silent: true})
	}
}

// prepare has the leader prepare a statement of the client's that it does not have.
func (s *Session) prepare(name string) (sent bool) {
	l := s.away
	p, ok := s.here.Prepared(name)
	if has, there := l.prepared[name]; there && (has.Pending() || ok && has.Same(p)) || !ok {
		return false
	}
	if name != "" {
		l.forget(name)
	}
	l.prepared[name] = p
	l.up.Send('P', p.Message(name))
	l.due = append(l.due, due{kind: 'P', silent: true, name: name})
	return true
}
