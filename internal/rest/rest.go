// Package rest waits, for loops that try again later.
package rest

import (
	"context"
	"time"
)

// For waits so long, or gives the reason why ctx is done.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
