package router

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"skein/internal/dialect"
	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pgwire"
	"skein/internal/pool"
	"skein/internal/rest"
	"skein/internal/sqlstate"
)

// A router process stands in front of a cluster and has no data: here is a session of a hollow engine, and everything that reads
// or writes is away, on one of two links. One is to the leader, as a follower has it. The other is to a node that the
// session reads on, where a Router answers that does not pass on what it cannot do, but says so: then the cycle goes to the
// leader, on this process's own link, so that what a session holds there it holds once.

// front is what a session has in such a process.
type front struct {
	reads  bool              // away is the link for reads
	parked *link             // the other one
	led    bool              // its last read was the leader's, for want of others
	untidy bool              // the links may have prepared statements of which here there are none any more
	began  map[string]string // settings
}

var (
	// errTurnedDown is the answer of a node that is read: it cannot do this, nothing has been done, and its link is ready again.
	errTurnedDown = errors.New("the node that is read cannot do this")

	errLostReader = sqlstate.New(sqlstate.SerializationFailure, "the node that was read has gone").
			WithDetail("A part of the answer, or an earlier one of the same transaction, came from there.").
			WithHint("Repeat the transaction: another node is there.")

	errCrowd = sqlstate.New(sqlstate.TooManyConnections, "no node can be read but the leader, which takes no more reads now").
			WithHint("See skein status for why the followers lag or do not answer.")
)

// dialTime is how long a node may take to be connected to that is not the only one.
const dialTime = time.Second

// raisePrefix is what a router process tells the node that it reads on, as a query that is no SQL; an LSN follows, which that session's
// reads are to see, and its last commit, if there is one.
const raisePrefix = "\x01see "

// raise has the reads there see what the session has seen and committed.
func (l *link) raise(here *engine.Session) {
	if l.place == nil {
		return
	}
	floor, commit := here.Floor(), here.Setting(lastCommit)
	if floor > l.floor || commit != l.commit {
		l.floor, l.commit = max(floor, l.floor), commit
		l.query(raisePrefix + floor.PgLSN() + " " + commit)
	}
}

// raised takes such a query.
func (s *Session) raised(body []byte) bool {
	said, ok := strings.CutPrefix(text(body), raisePrefix)
	if !ok || s.Status() != 'I' {
		return false
	}
	lsn, commit, _ := strings.Cut(said, " ")
	if lsn, err := history.ParseLSN(lsn); err == nil {
		s.here.Raise(lsn)
	}
	s.here.Told(lastCommit, commit)
	return true
}

// forgets notices that the node which is read has looked for the session's last commit and not found it.
func (s *Session) forgets(l *link, commit string) bool {
	if l.place == nil {
		return false
	}
	if l.commit = commit; commit == "" {
		l.floor = 0
		s.here.Forget()
		s.here.Told(lastCommit, "")
	}
	return true
}

// greet opens the first link of a session: what it begins with there, it begins with here.
func (s *Session) greet(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, connectTime)
	defer stop()
	var last error = pool.ErrNobody
	for ctx.Err() == nil {
		place, ok := s.router.options.Pool.EnterAny()
		if !ok {
			_ = rest.For(ctx, retryPause)
			continue
		}
		l, err := s.enter(ctx, place)
		if err == nil {
			s.away, s.front.reads = l, true
			if err = s.begin(ctx, l); err == nil {
				s.front.began = s.here.Own()
				return nil
			}
			s.drop()
		}
		var told *sqlstate.Error
		if errors.As(err, &told) && told.Code != sqlstate.CannotConnectNow && told.Code != sqlstate.AdminShutdown {
			return told
		}
		last = err
		_ = rest.For(ctx, retryPause)
	}
	return sqlstate.New(sqlstate.CannotConnectNow, "no node of the cluster takes clients: %v", last).
		WithHint("Try again in a moment; skein status on a node says what is wrong.")
}

// begin reads how a session begins there.
func (s *Session) begin(ctx context.Context, l *link) error {
	if err := l.up.Flush(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.up.Close() })()
	for {
		kind, body, err := l.up.Next()
		if err != nil {
			l.place.Failed()
			return err
		}
		switch kind {
		case 'S':
			name, rest := cut(body)
			if name := strings.ToLower(string(name)); name != engine.SeenParameter && name != engine.HeldParameter {
				s.here.Begin(name, text(rest))
			}
		case 'K':
			l.cancel = slices.Clone(body)
		case 'E':
			return &errorFields(body).Error
		case 'Z':
			l.due = l.due[1:]
			return nil
		}
	}
}

// enter opens a link to a place, which it has from now on.
func (s *Session) enter(ctx context.Context, place *pool.Place) (*link, error) {
	dialing, stop := context.WithTimeout(ctx, dialTime)
	defer stop()
	conn, err := place.Dial(dialing)
	if err != nil {
		if ctx.Err() == nil { // else nobody has waited for it
			place.Failed()
		}
		place.Leave()
		return nil, err
	}
	l := &link{leader: Leader{Name: place.Name()}, place: place, dial: place.Dial}
	l.alone = context.AfterFunc(place.Up(), func() { _ = conn.Close() })
	s.open(l, pgwire.NewUpstream(conn), true)
	return l, nil
}

// leaves says whether a message belongs to another node. What only concerns the session, or is not understood, is answered here.
func (s *Session) leaves(kind byte, body []byte) bool {
	if l := s.away; l != nil && l.status != 'I' {
		s.notes(kind, body)
		return true
	}
	if s.here.Status() != 'I' {
		return false // a block that has failed
	}
	s.notes(kind, body)
	return slices.ContainsFunc(s.statements(kind, body), func(st *dialect.Statement) bool { return st != nil && !s.keeps(kind, st) })
}

// keeps says whether a statement concerns only what is here. In a pipeline a SET may have to come after what is away.
func (s *Session) keeps(kind byte, st *dialect.Statement) bool {
	switch st.Kind {
	case dialect.Deallocate:
		s.front.untidy = true
		return true
	case dialect.Discard:
		s.front.untidy = true
		l := s.leaderLink()
		s.cycle.refused = s.cycle.refused || l != nil && l.held != "" // it is for the leader
		return !s.cycle.refused
	case dialect.Set, dialect.Reset, dialect.SetTransaction, dialect.Commit, dialect.Rollback, dialect.Listen, dialect.Unlisten, dialect.Notify:
		return kind == 'Q'
	case dialect.Show:
		if st.Set.Name == "skein.provenance" && s.came.reason == "" {
			return false
		}
		return kind == 'Q' && s.here.Shows(st.Set.Name)
	}
	return false
}

// tidy has the links forget what was prepared and is not any more.
func (s *Session) tidy() {
	if !s.front.untidy {
		return
	}
	s.front.untidy = false
	for _, l := range []*link{s.away, s.front.parked} {
		if l == nil {
			continue
		}
		for name := range l.prepared {
			if _, has := s.here.Prepared(name); !has && name != "" {
				l.forget(name)
			}
		}
	}
}

// leaderLink is the link to the leader, or nil.
func (s *Session) leaderLink() *link {
	if s.front.reads {
		return s.front.parked
	}
	return s.away
}

// turn has the session go on at the node that it reads on, or at the leader.
func (s *Session) turn(reads bool) {
	if s.front.reads != reads {
		s.front.reads = reads
		s.away, s.front.parked = s.front.parked, s.away
	}
}

// settle decides where the cycle runs that is about to be sent. done is called after it.
func (s *Session) settle(ctx context.Context, deadline time.Time) (done func(), err error) {
	done = func() {}
	c := &s.cycle
	if s.router.options.Pool == nil || c.sent > 0 || c.long || s.away != nil && s.away.status != 'I' {
		return done, nil
	}
	reads := !c.writes && !s.within()
	if s.reopen {
		reads = s.front.reads
	}
	if l := s.leaderLink(); reads && (c.refused || l != nil && l.held == engine.HeldTables || !s.seated(ctx)) {
		s.turn(false)
		leading, stop := context.WithDeadline(ctx, deadline)
		defer stop()
		if done, err = s.router.options.Pool.Lead(leading); err != nil {
			return func() {}, errCrowd
		}
		return done, nil
	}
	s.turn(reads)
	return done, nil
}

// seated sees that there is a link to a node to read on: the one that there was, if it will do.
func (s *Session) seated(ctx context.Context) bool {
	p, l := s.router.options.Pool, s.readLink()
	if l != nil && l.place.Stays() {
		return true
	}
	crowded := l != nil && l.place.Readable()
	_, led := p.Leader()
	for ctx.Err() == nil {
		place, ok := p.Enter(crowded || s.front.led && led)
		if !ok {
			if !crowded {
				s.setReadLink(nil)
			}
			s.front.led = !crowded
			return crowded
		}
		next, err := s.enter(ctx, place)
		if err == nil {
			s.setReadLink(next)
			s.front.led = false
			return true
		}
	}
	return false
}

// readLink is the link to the node that is read, or nil.
func (s *Session) readLink() *link {
	if s.front.reads {
		return s.away
	}
	return s.front.parked
}

// setReadLink replaces it.
func (s *Session) setReadLink(l *link) {
	at := &s.front.parked
	if s.front.reads {
		at = &s.away
	}
	if *at != nil {
		(*at).close(s.router)
	}
	*at = l
}

// turnedDown ends a cycle that a node has refused to read: the link is ready for the next.
func (s *Session) turnedDown(l *link) error {
	s.cycle.refused = true
	i := slices.IndexFunc(l.due, func(d due) bool { return d.kind == 'S' || d.kind == 'Q' })
	for _, skipped := range l.due[:max(i, 0)] {
		if skipped.kind == 'P' {
			delete(l.prepared, skipped.name)
		}
	}
	if i < 0 { // after a Flush: it waits for the Sync
		clear(l.prepared)
		l.due, i = []due{{kind: 'S'}}, 0
		l.up.Send('S', nil)
		if err := l.up.Flush(); err != nil {
			return &lostError{err}
		}
	}
	l.due = slices.Delete(l.due, 0, i)
	for j := range l.due {
		l.due[j].silent, l.due[j].hidden, l.due[j].counts = true, true, false
	}
	if err := s.pump(l); err != nil {
		return err
	}
	return errTurnedDown
}

// failed has the node looked at of which a link has failed.
func (s *Session) failed(err error) {
	var lost *lostError
	if l := s.away; l.place != nil && l.cancel == nil {
		l.place.Failed()
	} else if l.place != nil && errors.As(err, &lost) {
		l.place.Check()
	} else if p := s.router.options.Pool; p != nil {
		p.Refresh()
	}
}
