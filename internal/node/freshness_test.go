package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
)

// Three nodes: each finds out what a read must see, also under a causality key, and how fresh it is.
func TestEveryNodeFindsOutWhatAReadMustSee(t *testing.T) { // L2, I7
	c := elect(t, "a", "b", "c")
	l := c.leader()
	conn := l.connect(t)
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
	c.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 2 && !r.Lossy })
	exec(t, conn, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	var last, keyed history.LSN
	for i := range 5 {
		if i == 2 {
			exec(t, conn, fmt.Sprintf("BEGIN; SET LOCAL skein.causality_key = 'user:1'; INSERT INTO t VALUES (%d); COMMIT", i))
			keyed = l.current.Load().pipeline.Visible()
			continue
		}
		exec(t, conn, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
	}
	last = l.current.Load().pipeline.Visible()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, m := range c.nodes {
		f := m.current.Load().fresh
		at, err := f.ReadPosition(ctx, "")
		if err != nil || at < last {
			t.Errorf("%s: a read must see %d, %v; %d had been acknowledged", name, at, err, last)
		}
		if at, err = f.ReadPosition(ctx, "user:1"); err != nil || at != keyed {
			t.Errorf("%s: a read under the key must see %d, %v; its newest commit is %d", name, at, err, keyed)
		}
		if err := f.Await(ctx, last); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.await("it knows how fresh it is", func() error {
			if d, ok := f.Staleness(); !ok || d > time.Second {
				return fmt.Errorf("%v, %v", d, ok)
			}
			return nil
		})
		b := history.Bookmark{Cluster: f.Cluster(), Epoch: f.Epochs().Of(last), LSN: last}
		if err := f.Locate(b); err != nil {
			t.Errorf("%s: %v: %v", name, b, err)
		}
	}
}
