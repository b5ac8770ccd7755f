package router

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"skein/internal/dialect"
	"skein/internal/rest"
	"skein/internal/sqlstate"
)

// tokenParameter names the client's next transaction that writes, so that it can be found again.
const tokenParameter = "skein.transaction_token"

// learn finds out what has become of a cycle whose answer from a leader was lost, if its transaction has a name. It is false if that
// could not be learnt.
func (s *Session) learn(ctx context.Context, from Leader, deadline time.Time) (committed, ok bool) {
	token := s.here.Setting(tokenParameter)
	c := &s.cycle
	if token == "" || c.ran || c.long || c.began != 'I' && !c.commits {
		return false, false
	}
	for time.Now().Before(deadline) {
		committed, err := s.status(ctx, deadline, token)
		if err == nil {
			// A leader that still leads may come to the COMMIT of a block later: who has not written does not hold the turn that the question
			// has waited for. What is not in a block is sent again, and done once.
			still := s.away != nil && s.away.leader == from
			return committed, committed || !still || c.began == 'I'
		}
		if ctx.Err() != nil || s.out.Ended() != nil {
			return false, false
		}
		_ = rest.For(ctx, retryPause)
	}
	return false, false
}

// status asks the leader whether a token is committed. It asks as a transaction that writes: that waits for its turn, so whatever
// was sent before has ended, and until what it has seen is acknowledged.
func (s *Session) status(ctx context.Context, deadline time.Time, token string) (bool, error) {
	if err := s.connect(ctx, deadline); err != nil {
		return false, err
	}
	if s.away == nil { // this node leads by now
		return s.here.Committed(ctx, token)
	}
	l, err := s.dial(ctx, s.away.leader, false) // the question is not that transaction
	if err != nil {
		s.drop()
		return false, err
	}
	defer l.close(s.router)
	stop := context.AfterFunc(ctx, func() { _ = l.up.Close() })
	defer stop()
	value, err := l.ask("SELECT pg_catalog.skein_transaction_status("+literal(token)+") FOR UPDATE", s)
	if err != nil {
		s.drop()
	}
	return value == "committed", err
}

// ask has the leader answer one question of the router's own: the first value of the first row.
func (l *link) ask(sql string, s *Session) (value string, err error) {
	l.query(sql)
	if err := l.up.Flush(); err != nil {
		return "", err
	}
	for len(l.due) > 0 {
		kind, body, err := l.up.Next()
		switch {
		case err != nil:
			return "", err
		case s.aside(l, kind, body):
		case kind == 'E':
			return "", &errorFields(body).Error
		case kind == 'D':
			value = firstValue(body)
		case kind == 'Z':
			l.due = l.due[1:]
		}
	}
	return value, nil
}

func firstValue(row []byte) string {
	if len(row) < 6 {
		return ""
	}
	n := int(int32(binary.BigEndian.Uint32(row[2:])))
	if n < 0 || 6+n > len(row) {
		return ""
	}
	return string(row[6 : 6+n])
}

// errHowMany is the notice with an answer that was lost.
var errHowMany = sqlstate.New(sqlstate.Warning, "the transaction was committed, and its answer was lost").
	WithDetail("How many rows it has changed is not known any more.")

// errRowsLost is for a statement whose rows the client waits for.
var errRowsLost = sqlstate.New(sqlstate.UniqueViolation, "the transaction was committed, and its answer was lost").
	WithDetail("It cannot be repeated, and the rows that it returned are not known any more.").
	WithHint("Read them.")

// affirm answers a cycle that has been committed.
func (s *Session) affirm(ctx context.Context) error {
	c := &s.cycle
	s.here.Told(tokenParameter, "")
	s.before = nil
	rows := false
	var tags []string // of what the message runs, or the one before it has bound
	for at, n := 0, 0; at < len(c.raw); {
		kind, body, end := next(c.raw, at)
		at = end
		if list := s.statements(kind, body); len(list) > 0 {
			tags = nil
			for _, st := range list {
				if st != nil {
					tags, rows = append(tags, st.Tag), rows || st.Returning || st.Kind == dialect.Select
				}
			}
		}
		if n += told(kind); n <= c.answered {
			continue
		}
		switch kind {
		case 'P', 'B', 'C':
			_ = s.out.Pass(map[byte]byte{'P': '1', 'B': '2', 'C': '3'}[kind], nil)
		case 'D':
			rows = rows || len(body) > 0 && body[0] == 'S'
			s.out.NoData()
		case 'E', 'Q':
			if rows {
				return s.fail(c.last, errRowsLost)
			}
			s.out.Notice(errHowMany)
			for _, tag := range tags {
				s.out.CommandComplete(tag)
			}
		}
	}
	c.away = false
	return s.ready(ctx)
}

// resolve settles a cycle whose answer from a leader was lost, if its transaction has a name: it is affirmed, or may be sent again.
func (s *Session) resolve(ctx context.Context, err error, from Leader, deadline time.Time) (settled, repeat bool, failed error) {
	var lost *lostError
	if !errors.As(err, &lost) || !s.cycle.lasting() || s.front.reads {
		return false, false, nil
	}
	switch committed, ok := s.learn(ctx, from, deadline); {
	case !ok:
		return false, false, nil
	case committed:
		return true, false, s.affirm(ctx)
	case s.cycle.began != 'I':
		return true, false, s.fail(s.cycle.last, errLostBlock)
	}
	return false, true, nil
}
