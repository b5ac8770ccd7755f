package demo

import (
	"context"
	"os"
	"strings"
	"time"
)

// parentPace is how often the demo looks whether `go run` still lives.
const parentPace = 200 * time.Millisecond

// startedByGoRun tells by the place where the go command puts what it only runs.
func startedByGoRun(executable string) bool { return strings.Contains(executable, "/go-build") }

// endWithParent gives a context that is done when the process that started this one ends. The go
// command passes Ctrl-C on but no other signal: without this, ending `go run` in another way would
// leave a cluster behind that nobody knows of.
func endWithParent(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	parent, ended := os.Getppid(), make(chan struct{})
	go func() {
		defer close(ended)
		for os.Getppid() == parent {
			select {
			case <-time.After(parentPace):
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	return ctx, func() { cancel(); <-ended }
}
