package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/router"
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

// In a cluster that is configured by hand a question goes up the chain, and what is known of freshness comes down.
func TestAChainOfFollowersPassesQuestionsOn(t *testing.T) { // L4
	a := runMember(t, t.TempDir(), "a", "")
	conn := a.connect(t)
	exec(t, conn, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	a.shows(t, "SELECT (skein_staleness() < 1000)::text", "true")
	b := runMember(t, t.TempDir(), "b", a.PeerAddr().String())
	c := runMember(t, t.TempDir(), "c", b.PeerAddr().String())
	b.caughtUp(t, conn)
	c.caughtUp(t, conn)
	exec(t, conn, "INSERT INTO t VALUES (1)")
	last := a.current.Load().pipeline.Visible()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := c.current.Load().fresh
	if at, err := f.ReadPosition(ctx, ""); err != nil || at < last {
		t.Errorf("a read must see %d, %v; %d had been acknowledged", at, err, last)
	}
	if err := f.Await(ctx, last); err != nil {
		t.Error(err)
	}
	c.shows(t, "SELECT (skein_staleness() < 1000)::text", "true")
}

// Reads are held up by a change of leader, and see everything all the same.
func TestReadsFindOutWhatTheyMustSeeAcrossAChangeOfLeader(t *testing.T) { // L2, P4, I7
	t.Parallel()
	c := elect(t, "a", "b", "c")
	first := c.leader()
	conn := first.connect(t)
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
	c.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 2 && !r.Lossy })
	exec(t, conn, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	var others []*member
	for _, m := range c.nodes {
		if m.Node != first.Node {
			others = append(others, m)
		}
	}
	writer := others[0].connect(t)
	name := first.name()
	for i := range 40 {
		if i == 20 {
			first.stop()
			delete(c.nodes, name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := writer.Exec(ctx, fmt.Sprintf("INSERT INTO t VALUES (%d)", i)); err != nil {
			t.Fatal(err)
		}
		last, err := history.ParseBookmark(writer.PgConn().ParameterStatus("skein.last_commit"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range others {
			f := m.current.Load().fresh
			at, err := f.ReadPosition(ctx, "")
			if err != nil || at < last.LSN {
				t.Errorf("%s: a read must see %d, %v; %v had been acknowledged", m.name(), at, err, last)
			}
			if err := router.AwaitBookmark(ctx, f, last); err != nil {
				t.Errorf("%s: %v: %v", m.name(), last, err)
			}
		}
		cancel()
	}
	if at := c.leader().current.Load().pipeline.Epochs().Last(); at < 2 {
		t.Errorf("the leader has not changed: epoch %d", at)
	}
}
