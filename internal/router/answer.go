package router

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"skein/internal/dialect"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// pump passes answers on until none is due.
func (s *Session) pump(l *link) error {
	for len(l.due) > 0 {
		kind, body, err := l.up.Next()
		if err != nil {
			return &lostError{err}
		}
		if err := s.answer(l, kind, body); err != nil {
			return err
		}
	}
	return nil
}

// answer takes one message of the leader.
func (s *Session) answer(l *link, kind byte, body []byte) error {
	if s.aside(l, kind, body) {
		return nil
	}
	d := &l.due[0]
	switch kind {
	case 'E':
		return s.refusal(l, d, body)
	case 'G':
		return s.copyIn(l, body)
	case 'Z':
		if len(body) > 0 {
			l.status = body[0]
		}
	}
	if !d.silent && kind != 'Z' {
		if d.kind == 'E' || d.kind == 'Q' {
			s.cycle.ran = true
		}
		if err := s.out.Pass(kind, body); err != nil {
			return err
		}
	}
	if !d.ends(kind) {
		return nil
	}
	if d.kind == 'D' && d.hidden {
		s.compare(l, d.name, fields(kind, body))
	} else if d.kind == 'D' && d.name != "" {
		s.here.Describe(d.name, fields(kind, body))
	}
	s.done(l, d, kind)
	return nil
}

// done ends an answer.
func (s *Session) done(l *link, d *due, kind byte) {
	if d.counts && !d.silent {
		s.cycle.answered++
		s.cycle.synced = s.cycle.synced || kind == 'Z'
	}
	switch {
	case d.kind == 'P' && d.text != "":
		s.noted(l, d)
	case d.kind == 'C' && d.name != "" && d.counts:
		_ = s.here.CloseStatement(d.name)
		delete(l.prepared, d.name)
	}
	l.due = slices.Delete(l.due, 0, 1)
}

// noted keeps here what the client has prepared there.
func (s *Session) noted(l *link, d *due) {
	if !d.silent {
		list, err := s.here.Engine().Parse(d.text)
		if err != nil || len(list) > 1 {
			return
		}
		var st *dialect.Statement
		if len(list) == 1 {
			st = list[0]
		}
		s.here.Note(d.name, d.text, st, oids(d.types))
		s.cycle.noted = append(s.cycle.noted, d.name)
	}
	if p, ok := s.here.Prepared(d.name); ok {
		l.prepared[d.name] = p
	}
}

// aside takes what may come at any time. It is false for everything else.
func (s *Session) aside(l *link, kind byte, body []byte) bool {
	switch kind {
	case 'S':
		name, rest := cut(body)
		s.parameter(l, string(name), text(rest))
	case 'N':
		if len(l.due) > 0 && !l.due[0].silent {
			_ = s.out.Pass(kind, body)
		}
	case 'A':
		_ = s.out.Pass(kind, body)
	case 'K':
		s.mu.Lock()
		l.cancel = bytes.Clone(body)
		canceled := s.canceled
		s.canceled = false
		s.mu.Unlock()
		if canceled {
			cancel(l.dial, l.cancel)
		}
	case 'R', 'v':
	default:
		return false
	}
	return true
}

// parameter takes a setting that a statement has changed there. What a new session begins with is known.
func (s *Session) parameter(l *link, name, value string) {
	if l.cancel == nil || l.told(s, name, value) {
		return
	}
	if name == lastCommit {
		if !s.forgets(l, value) {
			s.reads.wrote = time.Now()
			s.here.Told(name, value)
		}
		return
	}
	same := l.changes == s.here.Changes()
	name = strings.ToLower(name)
	if s.before == nil {
		s.before = s.here.Own()
	}
	s.here.Adopt(name, value)
	l.settings[name] = s.here.Setting(name)
	if same {
		l.changes = s.here.Changes()
	}
}

// refusal takes an ErrorResponse.
func (s *Session) refusal(l *link, d *due, body []byte) error {
	switch e := errorFields(body); {
	case e.Code == sqlstate.NotLeader && l.place != nil && !e.fatal:
		return s.turnedDown(l)
	case e.Code == sqlstate.NotLeader:
		return errMoved
	case e.fatal && l.place != nil && (e.Code == sqlstate.AdminShutdown || e.Code == sqlstate.CannotConnectNow): // the node's end, not the client's
		return &lostError{errors.New(e.Message)} // nothing to be told
	case e.fatal && l.cancel == nil: // there is no session yet: the client's own may go on
		return &e.Error
	case e.fatal:
		return &fatalError{&e.Error}
	}
	if !d.hidden {
		s.cycle.ran, s.cycle.erred = true, true
		if err := s.out.Pass('E', body); err != nil {
			return err
		}
	}
	if d.kind == 'Q' || d.kind == 'S' {
		return nil
	}
	// The leader skips what comes before the next Sync, and so does the client.
	i := slices.IndexFunc(l.due, func(d due) bool { return d.kind == 'S' || d.kind == 'Q' })
	if i < 0 {
		i = len(l.due)
		s.cycle.skips = true
	}
	for _, skipped := range l.due[:i] {
		if skipped.kind == 'P' {
			delete(l.prepared, skipped.name)
		}
	}
	l.due = slices.Delete(l.due, 0, i)
	return nil
}

// copyIn passes the client's data on until it says that this was all.
func (s *Session) copyIn(l *link, body []byte) error {
	s.cycle.ran = true
	if err := s.out.Pass('G', body); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	s.cycle.copying = true
	// What was sent along behind it the leader takes for a part of the data and passes over.
	l.due = l.due[:1]
	over, woken := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(woken)
		l.up.Await()
		close(over) // first: Receive looks at it when it has been woken, and then never again
		s.out.Wake()
	}()
	defer func() { <-woken }()
	for {
		kind, body, err := s.out.Receive(over)
		if errors.Is(err, pgwire.ErrWoken) {
			return nil // the leader has something to say: an error, most likely
		}
		if err != nil {
			_ = l.up.Close() // or what came might pass for all of it
			return err
		}
		if kind == 'X' {
			_ = l.up.Close()
			return &lostError{errors.New("the client has gone")}
		}
		s.cycle.copying = kind != 'c'
		l.up.Send(kind, body)
		if (kind == 'c' || kind == 'f') && l.due[0].kind == 'E' {
			l.up.Send('H', nil) // the client's Sync may be a long time in coming
		}
		if kind == 'c' || kind == 'f' || !s.out.More() || l.up.Buffered() >= window/2 {
			if err := l.up.Flush(); err != nil {
				return &lostError{err}
			}
		}
		if kind == 'c' || kind == 'f' {
			return nil
		}
	}
}
