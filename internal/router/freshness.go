package router

import (
	"context"
	"errors"
	"time"

	"skein/internal/history"
)

// Freshness is what the router asks its node: how far its readers see, and how far they must. It
// outlives leaderships and engines, and may be asked from any goroutine.
type Freshness interface {
	// Visible is the newest entry that this node's readers see.
	Visible() history.LSN

	// Await returns once Visible has reached lsn, or with the error of ctx.
	Await(ctx context.Context, lsn history.LSN) error

	// Staleness says that everything that had been acknowledged to anybody, anywhere in the cluster, so
	// long ago is visible here. It is false while that is not known: no leader has been heard that was
	// known to lead.
	Staleness() (time.Duration, bool)

	// ReadPosition gives the LSN that a read here must see to be linearizable: every commit whose client
	// was told of it before the call is at or below. The leader gives it and confirms, after it was asked,
	// that it still leads. With a causality key it gives the newest commit under that key instead, or
	// a later one. An error that is ErrUnconfirmed says that asking again may help.
	ReadPosition(ctx context.Context, key string) (history.LSN, error)

	// Delayed says that this node is to show what is past.
	Delayed() bool

	// Locate says where a bookmark stands: nil if this node's readers see it, or history.ErrAhead, or a
	// *history.CutError, or a *history.OtherClusterError.
	Locate(b history.Bookmark) error
}

// ErrUnconfirmed means that no node could confirm that it leads: there is no leader, or it has just
// changed, or it cannot reach enough of its followers.
var ErrUnconfirmed = errors.New("no leader has confirmed that it leads")

// AwaitBookmark returns once the readers of this node see b: nil, or the error of ctx, or the reason why
// they never will. An LSN alone is not enough to wait for: once b has been cut, the cluster reaches
// its LSN with something else.
func AwaitBookmark(ctx context.Context, f Freshness, b history.Bookmark) error {
	for {
		visible := f.Visible() // before Locate, so that what becomes visible after it is not missed
		err := f.Locate(b)
		if !errors.Is(err, history.ErrAhead) {
			return err
		}
		if err := f.Await(ctx, visible+1); err != nil {
			return err
		}
	}
}
