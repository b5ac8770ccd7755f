package router

import (
	"context"
	"errors"
	"slices"
	"time"

	"skein/internal/dialect"
	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// reads is what a session has to remember for its reads.
type reads struct {
	wrote     time.Time // its last write
	waitedFor string    // skein.wait_for, as far as it was done
	committed string    // skein.last_commit, as far as it is known to stand
}

// freshen waits until a read here keeps what the session was promised. It is false if this node does not get there in time:
// then the leader is asked.
func (s *Session) freshen(ctx context.Context, kind byte, body []byte) (bool, error) {
	if s.here.Standing() || !s.readsData(kind, body) {
		return true, nil
	}
	if err := s.locate(ctx); err != nil {
		return false, err
	}
	f, here := s.router.options.Fresh, s.here
	leads := here.Leads()
	level := here.Setting("skein.read_consistency")
	if !leads && s.within() {
		return false, nil
	}
	if !leads && level != "eventual" && !s.reach(ctx, here.Floor()) {
		return false, nil
	}
	key := here.Setting("skein.causality_key")
	switch {
	case level == "strong":
		key = ""
	case level == "bounded":
		if age, ok := f.Staleness(); ok && age <= here.Duration("skein.max_staleness") && key == "" {
			return true, nil
		}
	case key == "" || level == "eventual":
		return true, nil
	}
	return s.confirmed(ctx, key)
}

// readsData says whether a message does: a SET, or a question about this node, must not wait for anything.
func (s *Session) readsData(kind byte, body []byte) bool {
	if kind == 'E' {
		return s.cycle.reads
	}
	return slices.ContainsFunc(s.statements(kind, body), readsTables)
}

// readsTables says whether a statement reads more than the catalog.
func readsTables(st *dialect.Statement) bool {
	switch {
	case st == nil || local(st.Kind):
		return false
	case st.Kind == dialect.Explain:
		return st.Explain.Analyze && readsTables(st.Explain.Query)
	case st.Kind != dialect.Select || !st.FromKnown:
		return true
	}
	return slices.ContainsFunc(st.From, func(name string) bool { return !pgcatalog.IsRelation(name) })
}

// within says whether the session's last write is so young that its reads go to the leader.
func (s *Session) within() bool {
	window := s.here.Duration("skein.read_your_writes_window")
	return window > 0 && time.Since(s.reads.wrote) < window
}

// reach waits for an LSN to be visible here, for as long as a read may.
func (s *Session) reach(ctx context.Context, lsn history.LSN) bool {
	f := s.router.options.Fresh
	if f.Visible() >= lsn {
		return true
	}
	ctx, stop := context.WithTimeout(ctx, s.here.Duration("skein.read_wait"))
	defer stop()
	return f.Await(ctx, lsn) == nil
}

// confirmed has the leader say how far a read must see, and waits for that. Without a leader it waits for one.
func (s *Session) confirmed(ctx context.Context, key string) (bool, error) {
	asking, stop := context.WithTimeout(ctx, s.patience())
	defer stop()
	for {
		lsn, err := s.router.options.Fresh.ReadPosition(asking, key)
		if err == nil {
			return s.reach(ctx, lsn), nil
		}
		if asking.Err() != nil || !errors.Is(err, ErrUnconfirmed) {
			return false, sqlstate.New(sqlstate.CannotConnectNow, "no leader could confirm how new this read must be: %v", err).
				WithHint("Reads at skein.read_consistency = 'session' or 'eventual' go on.")
		}
		rest(asking, retryPause)
	}
}

// locate sees to the positions that the client has named: what it waits for, and what it has committed itself.
func (s *Session) locate(ctx context.Context) error {
	r := &s.reads
	if last := s.here.Setting(lastCommit); last != r.committed {
		r.committed, r.wrote = last, time.Now()
	}
	named := s.here.Setting("skein.wait_for")
	if named == r.waitedFor {
		return nil
	}
	if named != "" {
		if err := s.awaitNamed(ctx, named); err != nil {
			return err
		}
	}
	r.waitedFor = named
	return nil
}

// awaitNamed waits for a position that the client brought. One that is not of this history it can never see.
func (s *Session) awaitNamed(ctx context.Context, named string) error {
	b, err := history.ParseBookmark(named)
	if err != nil {
		lsn, err := history.ParseLSN(named)
		if err == nil {
			s.here.Raise(lsn)
		}
		return err
	}
	waiting, stop := context.WithTimeout(ctx, s.patience())
	defer stop()
	if err := AwaitBookmark(waiting, s.router.options.Fresh, b); err != nil {
		return positionError(err, named)
	}
	s.here.Raise(b.LSN)
	return nil
}

// positionError is what a client is told whose position cannot be waited for.
func positionError(err error, named string) error {
	if known := engine.PositionError(err); !errors.Is(known, err) {
		return known
	}
	return sqlstate.New(sqlstate.QueryCanceled, "position %s has not become visible on this node: %v", named, err).
		WithHint("The node lags, or is cut off; see skein status.")
}
