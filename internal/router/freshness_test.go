package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/history"
	"skein/internal/watermark"
)

// prefix is a node whose history and view of it a test moves along.
type prefix struct {
	Freshness
	epochs  history.Epochs
	visible watermark.Watermark
}

func (p *prefix) Visible() history.LSN { return p.visible.Load() }

func (p *prefix) Await(ctx context.Context, lsn history.LSN) error { return p.visible.Wait(ctx, lsn) }

func (p *prefix) Locate(b history.Bookmark) error {
	return p.epochs.Locate(b, [4]byte{}, p.visible.Load())
}

func TestABookmarkIsAwaitedByItsEpochToo(t *testing.T) {
	for _, test := range []struct {
		name string
		b    history.Bookmark
		then history.LSN
		cut  bool
	}{
		{"it arrives", history.Bookmark{Epoch: 1, LSN: 8}, 8, false},
		{"the cluster goes on without it", history.Bookmark{Epoch: 1, LSN: 12}, 9, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &prefix{epochs: history.Epochs{{Epoch: 1, LSN: 1}, {Epoch: 2, LSN: 9}}}
				p.visible.Advance(7)
				go func() {
					time.Sleep(time.Second)
					p.visible.Advance(test.then)
				}()
				err := AwaitBookmark(t.Context(), p, test.b)
				var cut *history.CutError
				if errors.As(err, &cut) != test.cut || !test.cut && err != nil {
					t.Errorf("awaited: %v", err)
				}
			})
		})
	}
}

func TestWaitingForABookmarkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &prefix{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := AwaitBookmark(ctx, p, history.Bookmark{Epoch: 9, LSN: 1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("awaited: %v", err)
		}
	})
}
