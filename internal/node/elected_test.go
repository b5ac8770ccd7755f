package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skein/internal/commit"
	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/rest"
)

// elected is a cluster in this process that appoints its leader.
type elected struct {
	t     *testing.T
	dir   string
	nodes map[string]*member
}

func elect(t *testing.T, names ...string) *elected {
	c := &elected{t: t, dir: t.TempDir(), nodes: map[string]*member{}}
	for _, name := range names {
		c.start(name)
	}
	c.await("everybody is a member, and follows", func() error {
		s := c.state()
		if len(s.Members) != len(names) || s.Phase != failover.Leading {
			return fmt.Errorf("%+v", s)
		}
		for name, m := range c.nodes {
			if m.current.Load() == nil && !m.options.Witness {
				return fmt.Errorf("%s has no data yet", name)
			}
			if p := m.control.Load(); p == nil || len(p.Voters()) < len(names) {
				return fmt.Errorf("%s does not know all voters yet", name)
			}
		}
		return nil
	})
	return c
}

// start runs a node: the first one begins the cluster, the others join it.
func (c *elected) start(name string) *member {
	c.t.Helper()
	o := Options{
		Dir: filepath.Join(c.dir, name), Name: name, PGAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", SegmentBytes: 2 << 20,
		Logger: slog.New(slog.NewTextHandler(c.t.Output(), nil)).With("node", name), Bootstrap: len(c.nodes) == 0, Witness: name == "witness",
	}
	for _, m := range c.nodes {
		o.Join = append(o.Join, m.PeerAddr().String())
		o.Bootstrap = false
	}
	n, err := Open(o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	m := &member{Node: n, dsn: "postgres://skein@" + n.PGAddr().String() + "/skein"}
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(m.stop)
	c.nodes[name] = m
	return m
}

func (c *elected) await(what string, is func() error) {
	c.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); _ = rest.For(c.t.Context(), askPace) {
		if err = is(); err == nil {
			return
		}
	}
	c.t.Fatalf("%s: %v", what, err)
}

// state is the newest that any node knows.
func (c *elected) state() failover.State {
	var newest failover.State
	for _, m := range c.nodes {
		if p := m.control.Load(); p != nil {
			if s := p.State(); s.Version > newest.Version {
				newest = s
			}
		}
	}
	return newest
}

// leader is the node that leads; it waits for one.
func (c *elected) leader() *member {
	c.t.Helper()
	var l *member
	c.await("somebody leads", func() error {
		for _, m := range c.nodes {
			if t := m.current.Load(); t != nil && t.pipeline.Leading() {
				l = m
				return nil
			}
		}
		return errors.New("nobody does")
	})
	return l
}

// rules waits until commits are acknowledged by one rule alone, and is it.
func (c *elected) rule(is func(failover.Rule) bool) {
	c.t.Helper()
	c.await("commits are acknowledged by the rule", func() error {
		if s := c.state(); len(s.Rules) != 1 || !is(s.Rules[0]) {
			return fmt.Errorf("%+v", s.Rules)
		}
		return nil
	})
}

// E12: a leader that is asked to stop hands over first; who was named before leads with the same rule, and the one that
// comes back follows. Nothing is lost.
func TestALeaderThatStopsHandsOver(t *testing.T) {
	t.Parallel()
	c := elect(t, "a", "b", "c")
	first := c.leader()
	conn := first.connect(t)
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
	c.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 2 && !r.Lossy })
	exec(t, conn, "CREATE TABLE t (id integer PRIMARY KEY)")
	exec(t, conn, "INSERT INTO t VALUES (1)")
	epoch := c.state().Epoch
	name := first.name()
	first.stop()
	delete(c.nodes, name)

	second := c.leader()
	c.await("the first election has given a leader", func() error {
		history := second.control.Load().History()
		if !slices.ContainsFunc(history, func(e failover.Event) bool { return e.Kind == failover.PromotionEvent && e.Epoch == epoch+1 }) {
			return fmt.Errorf("after epoch %d: %+v", epoch, history)
		}
		return nil
	})
	conn = second.connect(t)
	c.await("the new leader takes writes", func() error {
		_, err := conn.Exec(t.Context(), "INSERT INTO t VALUES (2) ON CONFLICT DO NOTHING") // an answer may get lost
		return err
	})
	c.start(name)
	c.await("the old leader follows", func() error {
		conn, err := pgx.Connect(t.Context(), c.nodes[name].dsn)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		var n int
		var follows bool
		if err := conn.QueryRow(t.Context(), "SELECT count(*), pg_is_in_recovery() FROM t").Scan(&n, &follows); err != nil || n != 2 || !follows {
			return fmt.Errorf("%d rows, follows: %v, %w", n, follows, err)
		}
		return nil
	})
	c.rule(func(r failover.Rule) bool {
		return r.K == 1 && len(r.Members) == 2 && !slices.Contains(r.Members, failover.NodeID(second.home.Node))
	})
}

// Q3, Q4: the cluster knows that its leader goes on alone before the first commit is acknowledged so, and that it does not any
// more once its followers have everything.
func TestTheClusterKnowsThatItsLeaderGoesOnAlone(t *testing.T) {
	t.Parallel()
	c := elect(t, "a", "b", "witness")
	leader := c.leader()
	conn := leader.connect(t)
	exec(t, conn, "ALTER SYSTEM SET skein.sync_timeout = '200ms'")
	exec(t, conn, "ALTER SYSTEM SET skein.on_sync_timeout = 'degrade'")
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
	c.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 1 })
	exec(t, conn, "CREATE TABLE t (id integer PRIMARY KEY)")
	c.nodes["b"].stop()
	delete(c.nodes, "b")
	exec(t, conn, "INSERT INTO t VALUES (1)")
	c.rule(isAlone)
	c.start("b")
	c.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 1 })
	var kinds []string
	for _, e := range leader.control.Load().History() {
		kinds = append(kinds, string(e.Kind))
	}
	if all := strings.Join(kinds, " "); !strings.Contains(all, string(failover.DegradeEvent)) || !strings.Contains(all, string(failover.ReturnEvent)) {
		t.Errorf("the history does not say so: %s", all)
	}
}

// A member that was asked to leave goes once no commit depends on it.
func TestAMemberLeaves(t *testing.T) {
	t.Parallel()
	c := elect(t, "a", "b", "c")
	leader := c.leader()
	conn := leader.connect(t)
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
	c.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 2 })
	if _, err := leader.control.Load().Do(t.Context(), failover.Command{Kind: failover.RemoveCommand, Node: "c"}); err != nil {
		t.Fatal(err)
	}
	c.rule(func(r failover.Rule) bool { return r.K == 1 && len(r.Members) == 1 })
	c.await("it is no member", func() error {
		if s := c.state(); len(s.Members) != 2 {
			return fmt.Errorf("%+v", s.Members)
		}
		return nil
	})
	exec(t, conn, "CREATE TABLE t (id integer PRIMARY KEY)")
	c.nodes["c"].stop()
	delete(c.nodes, "c")
	c.await("no log is kept for it", func() error {
		for _, slot := range leader.current.Load().Slots() {
			if slot.Name == "c" {
				return fmt.Errorf("%+v", slot)
			}
		}
		return nil
	})
}

// H06: the first node is wiped, and started as it was the first time. It does not begin another cluster.
func TestAWipedFirstNodeDoesNotBeginAnotherCluster(t *testing.T) {
	t.Parallel()
	c := elect(t, "a", "b", "witness")
	var others []string
	for _, name := range []string{"b", "witness"} {
		others = append(others, c.nodes[name].PeerAddr().String())
	}
	n, err := Open(Options{
		Dir: t.TempDir(), Name: "again", PGAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Bootstrap: true, Join: others,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	c.await("it is a member", func() error {
		if s := c.state(); len(s.Members) != 4 {
			return fmt.Errorf("%+v", s.Members)
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil || n.home.Cluster != c.nodes["a"].home.Cluster {
		t.Error(err, "or another cluster")
	}
}

// G20: what a leader acknowledged alone and the next one does not have is kept, and the history says how much that was.
func TestTheHistoryTellsWhatANodeGaveUp(t *testing.T) {
	t.Parallel()
	c := elect(t, "a", "b", "witness")
	leader := c.leader()
	exec(t, leader.connect(t), "CREATE TABLE t (id integer PRIMARY KEY)")
	leader.tailKept(commit.Tail{After: 4, Head: history.Position{Epoch: 1, LSN: 9}, Shown: 7, File: "x/vault/1-5-9.log"})
	c.await("the history says so", func() error {
		for _, e := range c.nodes["b"].control.Load().History() {
			if e.Kind == failover.RejoinEvent && e.Node == "a" && strings.Contains(e.Text, "entries 5 to 9 of epoch 1") && strings.Contains(e.Text, "up to 7") {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

// What is damaged here is all that there is: it stays where it is, and somebody is told.
func TestTheOnlyCopyIsNotSetAside(t *testing.T) {
	t.Parallel()
	c := elect(t, "a")
	a := c.leader()
	a.stop()
	delete(c.nodes, "a")
	segments, err := filepath.Glob(filepath.Join(a.options.Dir, "log", "*.log"))
	if err != nil || len(segments) == 0 {
		t.Fatal(err, "or no log")
	}
	if err := os.Remove(segments[0]); err != nil {
		t.Fatal(err)
	}
	n, err := Open(Options{Dir: a.options.Dir, Name: "a", PGAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Bootstrap: true})
	if err == nil {
		_ = n.closeListeners()
		t.Fatal("it waits for a copy that nobody has")
	}
	if _, err := os.Stat(filepath.Join(a.options.Dir, "log")); err != nil {
		t.Error(err)
	}
}

// P5: the appointed leader has lost the end of its log, and with it all of its epoch, before anybody has noticed.
func TestATaintedNodeDoesNotBeginItsEpoch(t *testing.T) {
	t.Parallel()
	c := elect(t, "a")
	a := c.leader().current.Load()
	a.pipeline.StepDown()
	if err := a.pipeline.Taint("the end of its log is gone"); err != nil {
		t.Fatal(err)
	}
	d := failover.Duty{Epoch: a.pipeline.Promised() + 1, Role: failover.Lead}
	if err := (&role{term: a}).begin(t.Context(), d); !errors.Is(err, errTainted) || a.pipeline.Leading() {
		t.Errorf("%v; it leads: %v", err, a.pipeline.Leading())
	}
}

// A node that comes back under a State which has it pause writes for a switchover does not hold them, since it does not lead: it would wait
// for itself when it leads next.
func TestWhoDoesNotLeadHoldsNoWrites(t *testing.T) {
	t.Parallel()
	c := elect(t, "a")
	a := c.leader().current.Load()
	a.pipeline.StepDown()
	r := &role{term: a}
	defer r.end()
	if err := r.assume(t.Context(), failover.Duty{Epoch: a.pipeline.Promised(), Role: failover.Lead, Pause: true}); err != nil || a.pipeline.Leading() {
		t.Fatalf("%v; it leads: %v", err, a.pipeline.Leading())
	}
	if r.stopHold != nil {
		t.Error("writes are held")
	}
}

// told is a cluster that hears when a node tells something.
type told struct {
	cluster
	each chan struct{}
}

func (t *told) tell() { t.each <- struct{}{} }

// While a switchover waits for a node to have everything, its report is not left to the next turn of a clock.
func TestAnAwaitedNodeTellsWhatItHas(t *testing.T) {
	t.Parallel()
	c := elect(t, "a")
	a := c.leader()
	s := a.connect(t)
	exec(t, s, "CREATE TABLE t (id integer PRIMARY KEY)")
	heard := &told{each: make(chan struct{})}
	awaited := &term{node: &Node{cluster: heard}, pipeline: a.current.Load().pipeline}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		awaited.tellGrowth(ctx)
	}()
	<-heard.each // as far as it is now
	for i := range 3 {
		exec(t, s, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
		<-heard.each
	}
	stop()
	<-done
}

// Whoever has begun an epoch is taken for its leader. If its engine then does not come to let clients write, it has to say so.
func TestAPromotionThatDoesNotEndIsGivenUp(t *testing.T) {
	t.Parallel()
	c := elect(t, "a")
	a := c.leader().current.Load()
	if _, err := a.node.control.Load().Do(t.Context(), failover.Command{Kind: failover.SettingsCommand, Values: map[string]string{"stall_timeout": "1s"}}); err != nil {
		t.Fatal(err)
	}
	resume, err := a.engine.Load().PauseWrites(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer resume()
	a.pipeline.StepDown()
	if err := (&role{term: a}).begin(t.Context(), failover.Duty{Epoch: a.pipeline.Promised() + 1, Role: failover.Lead}); !errors.Is(err, errSlowPromotion) {
		t.Error(err)
	}
}

// P5: a member's directory is restored from a backup. The node has promised and acknowledged since what it does not know any more, and
// must not speak for itself. One that was moved as a whole is the newest, as only a person can know.
func TestACopyOfAMemberDoesNotSpeakForIt(t *testing.T) {
	t.Parallel()
	c := elect(t, "a")
	a := c.leader()
	if madeAt(a.home.lock) == 0 {
		t.Skip("this file system does not say when it made a file")
	}
	exec(t, a.connect(t), "CREATE TABLE t (id integer PRIMARY KEY)")
	a.stop()
	moved := filepath.Join(c.dir, "moved")
	copyDir(t, moved, a.options.Dir)
	renamed := filepath.Join(c.dir, "renamed")
	if err := os.Rename(a.options.Dir, renamed); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(c.dir, "older")
	copyDir(t, older, renamed)
	o := Options{Dir: moved, Name: "a", PGAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Bootstrap: true}
	if n, err := Open(o); !errors.Is(err, errCopied) {
		t.Errorf("a copy is opened: %v, %v", n, err)
	}
	for _, dir := range []string{renamed, moved, moved} { // the second time nobody needs to say so any more
		o.Dir, o.Moved = dir, dir == moved && !o.Moved
		n, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		c.await("it leads", func() error {
			if t := n.current.Load(); t == nil || !t.pipeline.Leading() {
				return errors.New("it does not")
			}
			return nil
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	overwrite(t, renamed, older)
	o.Dir, o.Moved = renamed, false
	if n, err := Open(o); !errors.Is(err, errCopied) {
		t.Errorf("a directory is opened over whose files older ones were copied: %v, %v", n, err)
	}
}

// overwrite copies files over those of a directory.
func overwrite(t *testing.T, to, from string) {
	t.Helper()
	if err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(filepath.Join(to, strings.TrimPrefix(path, from)), b, 0o600))
	}); err != nil {
		t.Fatal(err)
	}
}
