package node

import (
	"context"
	"time"

	"skein/internal/history"
	"skein/internal/router"
)

type interim struct{ t *term }

func (t *term) freshness() router.Freshness { return interim{t} }

func (f interim) Visible() history.LSN { return f.t.pipeline.Visible() }
func (f interim) Await(ctx context.Context, lsn history.LSN) error {
	return f.t.pipeline.VisibleMark().Wait(ctx, lsn)
}
func (f interim) Staleness() (time.Duration, bool) { return 0, false }
func (f interim) ReadPosition(context.Context, string) (history.LSN, error) {
	return 0, router.ErrUnconfirmed
}

func (f interim) Locate(b history.Bookmark) error {
	return f.t.pipeline.Log().Epochs().Locate(b, f.t.pipeline.Cluster(), f.Visible())
}
