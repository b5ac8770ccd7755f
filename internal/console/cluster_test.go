package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/nodetest"
	"skein/internal/overview"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// rig is a cluster of processes, asked as an operator asks it.
type rig struct {
	t     *testing.T
	dir   string
	nodes map[string]*nodetest.Node
	names []string
}

// newRig starts a cluster of n nodes whose commits wait for one other.
func newRig(t *testing.T, n int) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), nodes: map[string]*nodetest.Node{}}
	for i := range n {
		o := nodetest.Options{Name: fmt.Sprintf("node%d", i+1), PeerAddress: nodetest.Address(), Args: []string{"--bootstrap"}}
		if i > 0 {
			o.Args = []string{"--join", r.nodes["node1"].PeerAddress}
		}
		r.names = append(r.names, o.Name)
		r.launch(o)
	}
	r.await("every node is a member and follows", func(o overview.Overview) error {
		if len(o.Members) != n || slices.ContainsFunc(o.Members, func(m overview.Member) bool { return m.State != "streaming" && m.State != "leading" }) {
			return fmt.Errorf("members %+v", o.Members)
		}
		return nil
	})
	if n > 1 {
		r.must(SetConfig(t.Context(), r.options(&bytes.Buffer{}), "synchronous_standby_names", "ANY 1 (*)", ""))
	}
	if n == 2 {
		r.healthyOr("two nodes vote: if either is down nobody can be promoted")
	} else {
		r.healthy()
	}
	return r
}

func (r *rig) launch(o nodetest.Options) {
	r.t.Helper()
	o.Dir = filepath.Join(r.dir, o.Name)
	n, err := nodetest.Start(r.t, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.nodes[o.Name] = n
}

// again starts a node that has ended.
func (r *rig) again(name string) { r.launch(r.nodes[name].Options) }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// options ask the nodes in order of their names.
func (r *rig) options(out *bytes.Buffer) Options {
	return Options{ConnString: r.url(r.names...), In: strings.NewReader(""), Out: out}
}

func (r *rig) url(names ...string) string {
	var addresses []string
	for _, name := range names {
		addresses = append(addresses, r.nodes[name].Address)
	}
	return "postgres://skein@" + strings.Join(addresses, ",") + "/skein?sslmode=disable"
}

// status is what the command says as JSON.
func (r *rig) status() (overview.Overview, error) {
	var out bytes.Buffer
	options := r.options(&out)
	options.JSON = true
	err := Status(r.t.Context(), options)
	var o overview.Overview
	if json.Unmarshal(out.Bytes(), &o) != nil {
		r.t.Fatalf("not JSON: %s", &out)
	}
	return o, err
}

func (r *rig) await(what string, is func(o overview.Overview) error) overview.Overview {
	r.t.Helper()
	var last overview.Overview
	nodetest.Await(r.t, what, func() error {
		o, _ := r.status()
		last = o
		if err := is(o); err != nil {
			return fmt.Errorf("%w; health %s, problems %v", err, o.Health, o.Problems)
		}
		return nil
	})
	return last
}

// healthy waits until any one node may die, and another node than the leader coordinates.
func (r *rig) healthy() overview.Overview {
	r.t.Helper()
	return r.await("all is well", func(o overview.Overview) error {
		if o.Health != overview.Healthy || len(r.names) > 2 && (*o.Survives < 1 || o.Coordinator == o.Leader) {
			return fmt.Errorf("%s leads, %s coordinates", o.Leader, o.Coordinator)
		}
		return nil
	})
}

// run gives what a command has printed, and its error.
func (r *rig) run(command func(context.Context, Options) error) (string, error) {
	var out bytes.Buffer
	err := command(r.t.Context(), r.options(&out))
	return out.String(), err
}

// exec runs SQL on the node that leads.
func (r *rig) exec(sql string) error {
	conn, err := pgconn.Connect(r.t.Context(), r.url(r.names...)+"&target_session_attrs=read-write")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	return conn.Exec(r.t.Context(), sql).Close()
}

// writer inserts without pause, through whatever node leads, until it is stopped.
type writer struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	acked   int
	failed  []error       // that are not those of a broken connection
	longest time.Duration // between two acknowledged ones
}

func (r *rig) write() *writer {
	r.t.Helper()
	r.must(r.exec("CREATE TABLE IF NOT EXISTS flight (id serial PRIMARY KEY)"))
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{stop: cancel}
	w.done.Go(func() {
		var conn *pgconn.PgConn
		last := time.Now()
		for ctx.Err() == nil {
			if conn == nil {
				c, err := pgconn.Connect(ctx, r.url(r.names...)+"&target_session_attrs=read-write")
				if err != nil {
					time.Sleep(time.Millisecond) // nobody leads
					continue
				}
				conn = c
			}
			if err := conn.Exec(ctx, "INSERT INTO flight DEFAULT VALUES").Close(); err != nil {
				var answer *pgconn.PgError
				if errors.As(err, &answer) && ctx.Err() == nil && answer.Code != "57P01" {
					w.failed = append(w.failed, err)
				}
				_ = conn.Close(context.Background())
				conn = nil
				continue
			}
			w.acked++
			w.longest, last = max(w.longest, time.Since(last)), time.Now()
		}
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	})
	return w
}

func (w *writer) end() {
	w.stop()
	w.done.Wait()
}

func (r *rig) count() int {
	r.t.Helper()
	conn, err := pgconn.Connect(r.t.Context(), r.url(r.names...)+"&target_session_attrs=read-write")
	r.must(err)
	defer func() { _ = conn.Close(context.Background()) }()
	results, err := conn.Exec(r.t.Context(), "SELECT count(*) FROM flight").ReadAll()
	r.must(err)
	n := 0
	_, err = fmt.Sscan(string(results[0].Rows[0][0]), &n)
	r.must(err)
	return n
}

// history waits until the node that is asked first has heard of all of these.
func (r *rig) history(texts ...string) {
	r.t.Helper()
	nodetest.Await(r.t, "it is in the history", func() error {
		history, err := r.run(History)
		for _, text := range texts {
			if err == nil && !strings.Contains(history, text) {
				err = fmt.Errorf("%q is not in\n%s", text, history)
			}
		}
		return err
	})
}

// Switchovers, on any node's word, under load.
func TestSwitchoverByCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	w := r.write()
	for _, to := range []string{"node2", "node3", "node1"} {
		text, err := r.run(func(ctx context.Context, o Options) error { return Switchover(ctx, o, to, "") })
		if err != nil || !strings.HasPrefix(text, to+" leads epoch ") {
			t.Fatalf("to %s: %q, %v", to, text, err)
		}
		r.healthy()
	}
	w.end()
	t.Logf("%d acknowledged, longest pause %s, errors %v", w.acked, w.longest, w.failed)
	if got := r.count(); got < w.acked {
		t.Errorf("%d of %d acknowledged rows are there", got, w.acked)
	}

	if _, err := r.run(func(ctx context.Context, o Options) error { return Switchover(ctx, o, "node1", "") }); err == nil || !strings.Contains(err.Error(), "leads already") {
		t.Errorf("to the leader: %v", err)
	}
	text, err := r.run(func(ctx context.Context, o Options) error { return Switchover(ctx, o, "node2", "+2h") })
	if err != nil || !strings.Contains(text, "is to begin in 1 h 59 min") {
		t.Errorf("later: %q, %v", text, err)
	}
	if o, err := r.status(); err != nil || o.Switchover == nil || o.Switchover.To != "node2" {
		t.Errorf("it is not shown: %+v, %v", o.Switchover, err)
	}
	if text, err := r.run(CancelSwitchover); err != nil || text != "no switchover is under way\n" {
		t.Errorf("cancel: %q, %v", text, err)
	}
	r.history("switched over to node3", "cancelled")
}

// The leader is killed: status says so while it is gone and is content when it is back, and nothing acknowledged is lost.
func TestLeaderIsKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	w := r.write()
	before := r.healthy()
	r.nodes["node1"].Kill()
	after := r.await("another node leads", func(o overview.Overview) error {
		if !o.Leads || o.Leader == "node1" || o.Epoch <= before.Epoch {
			return fmt.Errorf("%s leads %t", o.Leader, o.Leads)
		}
		return nil
	})
	if after.Health != overview.Sick || !slices.ContainsFunc(after.Problems, func(p overview.Problem) bool { return p.What == "node1 is down" }) {
		t.Errorf("health %s, problems %v", after.Health, after.Problems)
	}
	text, err := r.run(Status)
	if !errors.Is(err, ErrProblem) || !strings.Contains(text, "● problem   "+after.Leader+" leads epoch") || !strings.Contains(text, "! node1 is down") {
		t.Errorf("status: %v\n%s", err, text)
	}
	r.again("node1")
	r.healthy()
	w.end()
	t.Logf("%d acknowledged, longest pause %s, errors %v", w.acked, w.longest, w.failed)
	if got := r.count(); got < w.acked {
		t.Errorf("%d of %d acknowledged rows are there", got, w.acked)
	}
	r.history(after.Leader + " leads epoch")
}

// With two of three gone a node that is left does not know, and says so; with one of them back an operator can decide.
func TestWithoutAMajority(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.must(r.exec("CREATE TABLE kept (a); INSERT INTO kept VALUES (1)"))
	r.nodes["node1"].Kill()
	r.nodes["node2"].Kill()
	o := r.await("the last one is alone", func(o overview.Overview) error {
		if o.Health != overview.Unclear || o.Asked != "node3" {
			return fmt.Errorf("asked %s", o.Asked)
		}
		return nil
	})
	if o.Survives != nil || o.WouldLose != nil || o.Blind == "" || o.Leads {
		t.Errorf("it claims to know: %+v", o)
	}
	if text, err := r.run(Status); !errors.Is(err, ErrUnknown) || !strings.Contains(text, "● unknown") {
		t.Errorf("status: %v\n%s", err, text)
	}
	if text, err := r.run(func(ctx context.Context, o Options) error { return Failover(ctx, o, FailoverOptions{DryRun: true}) }); err != nil || !strings.HasPrefix(text, "Unknown") {
		t.Errorf("dry run: %q, %v", text, err)
	}
	r.again("node2")
	r.healthyOr("node1 is down")
	nodetest.Await(t, "writes go on", func() error { return r.exec("INSERT INTO kept VALUES (2)") })
}

// healthyOr waits until somebody leads and nothing is wrong but this.
func (r *rig) healthyOr(problem string) overview.Overview {
	r.t.Helper()
	return r.await("somebody leads", func(o overview.Overview) error {
		if !o.Leads || len(o.Problems) == 0 || o.Problems[0].What != problem {
			return fmt.Errorf("%s leads: %t", o.Leader, o.Leads)
		}
		return nil
	})
}

// A leader that went on alone is gone for good. Nobody takes its place by itself; an operator may, who has seen what that
// costs, and it is recorded.
func TestFailoverAcceptingLoss(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	witness := nodetest.Launch(t, nodetest.Options{
		Name: "witness", Dir: filepath.Join(r.dir, "witness"), PeerAddress: nodetest.Address(), Args: []string{"--join", r.nodes["node1"].PeerAddress, "--witness"},
	})
	defer witness.Stop(t)
	r.await("the witness votes", func(o overview.Overview) error {
		if len(o.Members) != 3 || o.Members[2].Role != overview.Witness || o.Coordinator == o.Leader {
			return fmt.Errorf("%d members, %s coordinates", len(o.Members), o.Coordinator)
		}
		return nil
	})
	r.must(r.exec("ALTER SYSTEM SET skein.sync_timeout = '100ms'"))
	r.must(r.exec("ALTER SYSTEM SET skein.on_sync_timeout = degrade"))
	r.must(r.exec("CREATE TABLE t (a)"))
	r.nodes["node2"].Kill()
	// Where it has become unknown what has become of the row it may be there, or come.
	nodetest.Await(t, "the leader goes on alone", func() error { return r.exec("INSERT INTO t SELECT 'lost' WHERE NOT EXISTS (SELECT * FROM t)") })
	o := r.await("it is said", func(o overview.Overview) error {
		if o.Mode != "on its own" {
			return fmt.Errorf("mode %s", o.Mode)
		}
		return nil
	})
	if o.Health != overview.Sick || *o.Survives != 0 || o.Heir != "" {
		t.Errorf("health %s, survives %d, heir %q", o.Health, *o.Survives, o.Heir)
	}
	r.nodes["node1"].Kill()
	r.again("node2")
	r.await("nobody takes its place", func(o overview.Overview) error {
		if o.Leads || len(o.Problems) == 0 || !strings.Contains(o.Problems[0].What, "nobody can take over without loss: only node1 has everything") {
			return errors.New("that is not what is said")
		}
		return nil
	})

	promote := func(f FailoverOptions) (string, error) {
		f.To = "node2"
		return r.run(func(ctx context.Context, o Options) error { return Failover(ctx, o, f) })
	}
	if text, err := promote(FailoverOptions{DryRun: true}); err != nil || !strings.Contains(text, "Nobody would lead by itself: only node1 has everything") ||
		!strings.Contains(text, "At stake: node1 acknowledged commits alone") {
		t.Errorf("dry run: %v\n%s", err, text)
	}
	if text, err := promote(FailoverOptions{}); !errors.Is(err, errNotAgreed) || !strings.Contains(text, "Without --accept-data-loss nothing is done") {
		t.Errorf("without --yes: %v\n%s", err, text)
	}
	if _, err := promote(FailoverOptions{Yes: true}); err == nil || !strings.Contains(err.Error(), "it cannot be shown that nothing would be lost") {
		t.Errorf("without --accept-data-loss: %v", err)
	}
	text, err := promote(FailoverOptions{Yes: true, AcceptDataLoss: true})
	if err != nil || !strings.Contains(text, "this is recorded") || !strings.Contains(text, "node2 leads epoch ") {
		t.Fatalf("%v\n%s", err, text)
	}
	r.history("accepting that commits may be lost")

	r.again("node1")
	r.await("node1 follows", func(o overview.Overview) error {
		if i := slices.IndexFunc(o.Members, func(m overview.Member) bool { return m.Name == "node1" }); o.Leader != "node2" || o.Members[i].State != "streaming" {
			return fmt.Errorf("%+v", o.Members)
		}
		return nil
	})
	if o, _ := r.status(); len(o.Losses) != 1 {
		t.Errorf("losses %v", o.Losses)
	}
	r.must(r.exec("INSERT INTO t VALUES ('kept')"))
	r.vault("node1")
}

// vault finds what the node gave up, and brings it back.
func (r *rig) vault(node string) {
	r.t.Helper()
	ctx, v := r.t.Context(), VaultOptions{Dir: r.nodes[node].Dir}
	list, err := r.run(func(_ context.Context, o Options) error { return ListVault(o, v) })
	if err != nil || !strings.Contains(list, "TRANSACTIONS") {
		r.t.Fatalf("%v\n%s", err, list)
	}
	show, err := r.run(func(_ context.Context, o Options) error { return ShowVault(ctx, o, v) })
	if err != nil || !strings.Contains(show, "database skein\n") || !strings.Contains(show, "INSERT INTO \"t\" (\"a\") VALUES ('lost');\n") {
		r.t.Errorf("%v\n%s", err, show)
	}
	apply := func(v VaultOptions) string {
		text, err := r.run(func(_ context.Context, o Options) error { return ApplyVault(ctx, o, v) })
		if err != nil && !errors.Is(err, errNotAgreed) {
			r.t.Errorf("%+v: %v\n%s", v, err, text)
		}
		return text
	}
	lost := func(want string) {
		r.t.Helper()
		s, err := connectLeader(ctx, r.url(r.names...), "skein")
		r.must(err)
		defer func() { _ = s.conn.Close(ctx) }()
		rows, err := s.Query(ctx, "SELECT count(*) FROM t WHERE a = 'lost'")
		r.must(err)
		if *rows[0][0] != want {
			r.t.Errorf("%s lost rows are there, want %s", *rows[0][0], want)
		}
	}
	if text := apply(VaultOptions{Dir: v.Dir, DryRun: true}); !strings.Contains(text, "Database skein: 1 changes would be applied, 0 are there already, 0 conflict.\n") {
		r.t.Errorf("dry run: %s", text)
	}
	apply(v) // nobody to be asked
	lost("0")
	v.Yes = true
	if text := apply(v); !strings.Contains(text, "Done: 1 changes applied") {
		r.t.Errorf("applied: %s", text)
	}
	lost("1")
	if _, err := r.run(func(_ context.Context, o Options) error {
		return ApplyVault(ctx, o, VaultOptions{Dir: v.Dir, Database: "other", Yes: true})
	}); err == nil {
		r.t.Error("nothing was asked for and nothing said")
	}
}

// Settings and attributes are set on whichever node is named, and members leave.
func TestConfigurationByCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	set := func(name, value, node string) (string, error) {
		return r.run(func(ctx context.Context, o Options) error { return SetConfig(ctx, o, name, value, node) })
	}
	for _, c := range []struct{ name, value, node, want string }{
		{"failover_timeout", "2s", "", "failover_timeout = 2s\n"},
		{"skein.automatic_failover", "off", "", "skein.automatic_failover = off\n"},
		{"priority", "7", "node3", "node3: priority 7\n"},
	} {
		if got, err := set(c.name, c.value, c.node); err != nil || got != c.want {
			t.Errorf("%s = %s: %q, %v", c.name, c.value, got, err)
		}
	}
	for _, c := range []struct{ name, value, node, want string }{
		{"failover_timeout", "1ms", "", "want one from 200ms"},
		{"colour", "grey", "", `"colour"`},
		{"delay", "1h", "node3", "--min-apply-delay"},
		{"priority", "high", "node3", "whole number"},
		{"priority", "1", "node9", "node9"},
	} {
		if _, err := set(c.name, c.value, c.node); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %s: error %v, want one with %q", c.name, c.value, err, c.want)
		}
	}
	text, err := r.run(func(ctx context.Context, o Options) error { return ShowConfig(ctx, o, "") })
	for _, want := range []string{"skein.failover_timeout 2s set", "synchronous_standby_names ANY 1 (*) set", "skein.stall_timeout 5s default"} {
		if err != nil || !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("%q is not in\n%s%v", want, text, err)
		}
	}
	if text, err := r.run(func(ctx context.Context, o Options) error { return ShowConfig(ctx, o, "node3") }); err != nil || !strings.Contains(text, "priority      7") {
		t.Errorf("attributes: %v\n%s", err, text)
	}

	if text, err := r.run(func(ctx context.Context, o Options) error { return Remove(ctx, o, "node3") }); err != nil || !strings.HasPrefix(text, "node3 is ") {
		t.Errorf("remove: %q, %v", text, err)
	}
	r.nodes["node3"].Kill()
	r.await("it is gone", func(o overview.Overview) error {
		if len(o.Members) != 2 {
			return errors.New("it is still a member")
		}
		return nil
	})
	if _, err := r.run(func(ctx context.Context, o Options) error { return Remove(ctx, o, "node1") }); err == nil || !strings.Contains(err.Error(), "leads") {
		t.Errorf("the leader is removed: %v", err)
	}
}

// A node whose leader is set by configuration has a status too, and nothing to appoint.
func TestStatusOfALeaderByHand(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, dir: t.TempDir(), nodes: map[string]*nodetest.Node{}, names: []string{"node1"}}
	r.launch(nodetest.Options{Name: "node1", PeerAddress: nodetest.Address()})
	text, err := r.run(Status)
	if err != nil || !strings.Contains(text, "● healthy   node1 leads epoch 1 · asynchronous") {
		t.Errorf("%v\n%s", err, text)
	}
	follower := nodetest.Options{Name: "node2", PeerAddress: nodetest.Address(), Follow: r.nodes["node1"].PeerAddress}
	r.launch(follower)
	r.await("the follower is shown", func(o overview.Overview) error {
		if len(o.Members) != 2 || o.Members[1].State != "streaming" {
			return fmt.Errorf("%+v", o.Members)
		}
		return nil
	})
	r.nodes["node2"].Kill()
	r.await("the follower is missed", func(o overview.Overview) error {
		if o.Health != overview.Sick || o.Members[1].Role != overview.Away {
			return fmt.Errorf("%+v", o.Members)
		}
		return nil
	})
	for name, command := range map[string]func(context.Context, Options) error{
		"switchover": func(ctx context.Context, o Options) error { return Switchover(ctx, o, "", "") },
		"history":    History,
		"remove":     func(ctx context.Context, o Options) error { return Remove(ctx, o, "node2") },
	} {
		if _, err := r.run(command); !errors.Is(err, errNotAppointed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
