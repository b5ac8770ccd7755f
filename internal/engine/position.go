package engine

import (
	"errors"
	"strings"

	"skein/internal/history"
	"skein/internal/sqlstate"
)

// positionHint shows what parsePosition takes.
const positionHint = "It is a position as skein.last_commit shows it, as in 0/1A2B@7-5f3c9a1e, or an LSN alone, as in 0/1A2B."

// position is what a client asks to be reached: a bookmark or, if it is bare, an LSN alone.
type position struct {
	history.Bookmark
	bare bool
}

func parsePosition(s string) (p position, err error) {
	if strings.Contains(s, "@") {
		p.Bookmark, err = history.ParseBookmark(s)
		return p, err
	}
	p.bare = true
	p.LSN, err = history.ParseLSN(s)
	return p, err
}

// reachedBy says whether a log has come to p that goes up to an LSN: nil, history.ErrAhead, or why it never will.
func (p position) reachedBy(up history.LSN, storage Storage) error {
	switch {
	case !p.bare:
		return storage.Epochs().Locate(p.Bookmark, storage.Cluster(), up)
	case p.LSN > up:
		return history.ErrAhead
	}
	return nil
}

// PositionError is what a client is told of a position that cannot be waited for.
func PositionError(err error) error {
	var cut *history.CutError
	if errors.As(err, &cut) {
		return sqlstate.New(sqlstate.NotInRequiredState, "%v", cut).
			WithDetail("The leader that wrote it was replaced before enough nodes had it, or its loss was accepted.").
			WithHint("Look whether its changes are there, and go on from a newer position.")
	}
	var other *history.OtherClusterError
	if errors.As(err, &other) {
		return sqlstate.New(sqlstate.InvalidParameterValue, "%v", other).
			WithHint("A position holds in the cluster alone that has given it.")
	}
	return err
}

// lastSeen is the parameter that has a position of everything that a session has read or written.
const lastSeen = "skein.last_seen"

// lastSeen gives the newest that the node shows, and the session has seen no more of it.
func (s *Session) lastSeen() string {
	storage := s.engine.storage
	visible, floor := storage.Visible(), s.Floor()
	if s.following() && floor > visible { // the leader has shown it, in an epoch of which this node may not know yet
		return floor.PgLSN()
	}
	at := max(floor, visible)
	return history.Bookmark{Cluster: storage.Cluster(), Epoch: storage.Epochs().Of(at), LSN: at}.String()
}
