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
	"skein/internal/pgcatalog"
	"skein/internal/rest"
	"skein/internal/sqlstate"
)

// reads is what a session has to remember for its reads.
type reads struct {
	wrote     time.Time     // its last write that another node has made
	waitedFor string        // skein.wait_for, as far as it was done
	epoch     history.Epoch // in which its past was last looked for
	begun     bool          // it has read on a node that may have just started
}

// freshen waits until a read here keeps what the session was promised. It is false if this node does not get there in time:
// then the leader is asked.
func (s *Session) freshen(ctx context.Context, kind byte, body []byte) (bool, error) {
	if s.here.Standing() || s.here.Status() == 'E' || !s.readsData(kind, body) {
		return true, nil
	}
	want := s.wants(kind, body)
	if fresh, err := s.locate(ctx, want.position); !fresh {
		s.cycle.why = "this node has not reached skein.wait_for within skein.read_wait"
		return false, err
	}
	c, f, here := &s.cycle, s.router.options.Fresh, s.here
	leads := here.Leads()
	level, key := want.level, want.key
	if !leads {
		if s.within() {
			c.why = "skein.read_your_writes_window: this session has just written"
			return false, nil
		}
		if level != "eventual" {
			if fresh, err := s.reach(ctx, here.Floor()); !fresh {
				c.why = "this node has not caught up with the session within skein.read_wait"
				return false, err
			}
		}
		if level == "session" {
			if fresh, err := s.begun(ctx); !fresh {
				c.why = "this node has just started and has not caught up with the leader within skein.read_wait"
				return false, err
			}
		}
	}
	switch {
	case level == "eventual" || level == "session" && key == "":
		c.why = level + ": reads run where they arrive"
		return true, nil
	case level == "bounded" && key == "":
		if age, ok := f.Staleness(); ok && age <= want.staleness {
			c.why = "bounded: within skein.max_staleness"
			return true, nil
		}
	case level != "session":
		key = "" // all there is includes what is under the key
	}
	return s.confirmed(ctx, key)
}

// wanted is what a session's settings ask of its reads.
type wanted struct {
	level, key, position string
	staleness            time.Duration
}

// wants gives that for the first read of a message. What a text sets before it reads is not in force yet, and holds for the read.
func (s *Session) wants(kind byte, body []byte) wanted {
	here := s.here
	w := wanted{
		level: here.Setting("skein.read_consistency"), key: here.Setting("skein.causality_key"),
		position: here.Setting("skein.wait_for"), staleness: here.Duration("skein.max_staleness"),
	}
	if kind != 'Q' {
		return w
	}
	for _, st := range s.statements(kind, body) {
		if readsTables(st) && st.Kind != dialect.Begin {
			break
		}
		if st != nil && st.SetsConfig {
			w.level = "strong" // which includes whatever it sets
		}
		if st == nil || st.Set == nil || st.Kind != dialect.Set && st.Kind != dialect.Reset {
			continue
		}
		v := st.Set
		switch {
		case v.Default && (v.Name == "all" || strings.HasPrefix(v.Name, "skein.")):
			w.level = "strong" // which includes whatever it goes back to
		case v.Name == "skein.read_consistency":
			w.level = strings.ToLower(v.Value)
		case v.Name == "skein.causality_key":
			w.key = v.Value
		case v.Name == "skein.wait_for":
			w.position = v.Value
		case v.Name == "skein.max_staleness":
			w.staleness = 0 // which includes whatever it is
		}
	}
	return w
}

// readsData says whether a message does: a SET, or a question about this node, must not wait for anything.
func (s *Session) readsData(kind byte, body []byte) bool {
	if kind == 'E' {
		return s.cycle.reads || s.here.Status() == 'T' // its Bind may have been of a cycle before
	}
	return slices.ContainsFunc(s.statements(kind, body), readsTables)
}

// readsTables says whether a statement reads what clients have made: tables, and what the catalog says of them.
func readsTables(st *dialect.Statement) bool {
	switch {
	case st == nil:
		return false
	case st.Kind == dialect.DeclareCursor || st.Kind == dialect.Fetch: // the first of a block chooses its state
		return true
	case local(st.Kind):
		return false
	case st.Kind == dialect.Explain:
		return readsTables(st.Explain.Query) // whose tables it must know
	case st.Kind != dialect.Select || !st.FromKnown || st.NamesObjects:
		return true
	}
	return slices.ContainsFunc(st.From, func(name string) bool { return !pgcatalog.AboutNode(name) })
}

// within says whether the session's last write is so young that its reads go to the leader.
func (s *Session) within() bool {
	window := s.here.Duration("skein.read_your_writes_window")
	return window > 0 && time.Since(s.reads.wrote) < window
}

// knows says whether this node can say what tables are like: whether they are as the session has seen them last.
func (s *Session) knows(ctx context.Context) (bool, error) {
	if fresh, err := s.reach(ctx, s.here.Floor()); !fresh {
		return false, err
	}
	if s.here.Leads() || !s.cycle.reads {
		return true, nil
	}
	return s.begun(ctx)
}

// begun keeps the first read of a session from showing what is long past: a node that has just started may have to catch up. It is false if
// the leader has more and this node does not get there in time. Without a leader there is only what is here.
func (s *Session) begun(ctx context.Context) (bool, error) {
	r, f := s.router, s.router.options.Fresh
	if s.reads.begun || r.caughtUp.Load() || f.Delayed() {
		return true, nil
	}
	_, known := f.Staleness() // then it has once had all there was
	if !known {
		asking, done := s.interruptible(ctx)
		defer done()
		lsn, err := s.leaderAt(asking)
		switch {
		case asking.Err() != nil:
			return false, context.Cause(asking)
		case err != nil:
			s.reads.begun = true
			return true, nil
		}
		if known, err = s.reach(asking, lsn); err != nil {
			return false, err
		}
	}
	s.reads.begun = true
	if known {
		r.caughtUp.Store(true)
	}
	return known, nil
}

// leaderAt asks the leader what a read must see, for as long as a read may wait.
func (s *Session) leaderAt(ctx context.Context) (history.LSN, error) {
	ctx, stop := context.WithTimeout(ctx, s.here.Duration("skein.read_wait"))
	defer stop()
	return s.router.options.Fresh.ReadPosition(ctx, "")
}

// reach waits for an LSN to be visible here, for as long as a read may. It is false if that does not come to pass, with an error if it
// is not waited for any longer.
func (s *Session) reach(ctx context.Context, lsn history.LSN) (bool, error) {
	f := s.router.options.Fresh
	if f.Visible() >= lsn {
		return true, nil
	}
	ctx, done := s.interruptible(ctx)
	defer done()
	reading, stop := context.WithTimeout(ctx, s.here.Duration("skein.read_wait"))
	defer stop()
	if f.Await(reading, lsn) == nil {
		return true, nil
	}
	return false, context.Cause(ctx)
}

// confirmed has the leader say how far a read must see, and waits for that. Without a leader it waits for one.
func (s *Session) confirmed(ctx context.Context, key string) (bool, error) {
	ctx, done := s.interruptible(ctx)
	defer done()
	asking, stop := context.WithTimeout(ctx, s.patience())
	defer stop()
	for {
		lsn, err := s.router.options.Fresh.ReadPosition(asking, key)
		if err == nil {
			s.cycle.why = "the leader has confirmed that it leads, and what this read must see"
			fresh, err := s.reach(ctx, lsn)
			if !fresh {
				s.cycle.why = "this node has not caught up with the leader within skein.read_wait"
			}
			return fresh, err
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if asking.Err() != nil || !errors.Is(err, ErrUnconfirmed) {
			return false, sqlstate.New(sqlstate.CannotConnectNow, "no leader could confirm how new this read must be: %v", err).
				WithHint("Reads at skein.read_consistency = 'session' or 'eventual' go on.")
		}
		_ = rest.For(asking, retryPause)
	}
}

// locate sees to the positions that the client has named: what it waits for, and what it has committed itself.
func (s *Session) locate(ctx context.Context, named string) (fresh bool, err error) {
	if now := history.Epoch(s.router.epoch.Load()); now != s.reads.epoch {
		if err := s.findPast(now); err != nil {
			return false, err
		}
	}
	if named == s.reads.waitedFor {
		return true, nil
	}
	if named != "" {
		if fresh, err := s.awaitNamed(ctx, named); !fresh {
			return false, err
		}
	}
	s.reads.waitedFor = named
	return true, nil
}

// findPast looks whether the session's last commit is part of the history in which another leader goes on. If it was lost the
// session is told, once, and reads what there is.
func (s *Session) findPast(now history.Epoch) error {
	b, err := history.ParseBookmark(s.here.Setting(lastCommit))
	if err == nil {
		err = s.router.options.Fresh.Locate(b)
		if errors.Is(err, history.ErrAhead) {
			return nil
		}
		if cut := new(history.CutError); errors.As(err, &cut) {
			s.here.Told(lastCommit, "")
			s.here.Forget()
			return engine.PositionError(err)
		}
	}
	s.reads.epoch = now
	return nil
}

// awaitNamed waits for a position that the client brought. One that is not of this history it can never see. It is false if the leader
// is there, and this node does not get there in time.
func (s *Session) awaitNamed(ctx context.Context, named string) (bool, error) {
	b, err := history.ParseBookmark(named)
	bare := err != nil
	if bare {
		if b.LSN, err = history.ParseLSN(named); err != nil {
			return false, err
		}
	}
	ctx, done := s.interruptible(ctx)
	defer done()
	deadline := time.Now().Add(s.patience())
	for {
		err := s.awaitHere(ctx, b, bare)
		switch {
		case err == nil:
			s.here.Raise(b.LSN) // never before it is visible: above that, a leader shows what may still be cut
			return true, nil
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case !errors.Is(err, context.DeadlineExceeded) || !time.Now().Before(deadline):
			return false, positionError(err, named)
		case !s.here.Leads() && (bare || uint64(b.Epoch) == s.router.epoch.Load()) && s.leaderHas(ctx, b.LSN):
			return false, nil
		}
		_ = rest.For(ctx, retryPause)
	}
}

// awaitHere waits for a position on this node for as long as a read may.
func (s *Session) awaitHere(ctx context.Context, b history.Bookmark, bare bool) error {
	f := s.router.options.Fresh
	ctx, stop := context.WithTimeout(ctx, s.here.Duration("skein.read_wait"))
	defer stop()
	if bare {
		return f.Await(ctx, b.LSN)
	}
	return AwaitBookmark(ctx, f, b)
}

// leaderHas says whether everybody who reads at the leader sees an LSN. In the epoch of a bookmark there is no other entry of that
// number.
func (s *Session) leaderHas(ctx context.Context, lsn history.LSN) bool {
	at, err := s.leaderAt(ctx)
	return err == nil && at >= lsn
}

// positionError is what a client is told whose position cannot be waited for.
func positionError(err error, named string) error {
	if known := engine.PositionError(err); !errors.Is(known, err) {
		return known
	}
	return sqlstate.New(sqlstate.QueryCanceled, "position %s has not become visible on this node: %v", named, err).
		WithHint("The node lags, or is cut off; see skein status.")
}
