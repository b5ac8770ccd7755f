package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skein/internal/claims"
	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// elected is a cluster that appoints its leader. Its nodes speak with each other through a network that can be broken.
// From its beginning to its end it is watched: epochs only grow, and none has two leaders.
type elected struct {
	*cluster
	network *proxy.Network
	wires   *wires             // instead of network, where every node has a machine of its own
	addr    map[*member]string // in the network; of witnesses too, which are no members of cluster

	hosts  atomic.Pointer[string] // url
	claims *claims.Writers
	series *series
	watch  *watch
}

// newElected runs a cluster of so many nodes, in which every commit waits for the followers that names says; "" is none. Faults are
// for the nodes' first processes; * stands for a node's name.
func newElected(t *testing.T, nodes int, names string, faults ...string) *elected {
	t.Helper()
	return newElectedOf(t, "", nodes, names, faults...)
}

// newElectedOf is newElected for processes of another binary.
func newElectedOf(t *testing.T, binary string, nodes int, names string, faults ...string) *elected {
	t.Helper()
	e := &elected{cluster: &cluster{t: t, binary: binary}, network: proxy.NewNetwork(t), addr: map[*member]string{}}
	return e.boot(nodes, names, faults...)
}

// boot runs the nodes, one after the other.
func (e *elected) boot(nodes int, names string, faults ...string) *elected {
	t := e.t
	t.Helper()
	e.watch = newWatch(t)
	begin := func(m *member) *member {
		m.launch(strings.ReplaceAll(strings.Join(faults, ","), "*", m.name))
		m.serves()
		return m
	}
	e.leader = begin(e.node("--bootstrap"))
	for range nodes - 1 {
		begin(e.join())
	}
	e.lead()
	e.caughtUp()
	if nodes > 2 {
		e.apart()
	}
	if names != "" {
		e.synchronous(names)
		e.mode("synchronous")
	}
	return e
}

// node adds one that does not run yet.
func (e *elected) node(args ...string) *member {
	e.t.Helper()
	m := e.add(fmt.Sprintf("n%d", len(e.addr)+1), nil)
	if e.wires != nil {
		e.addr[m] = e.wires.place(m, len(e.addr)+1)
	} else {
		e.addr[m] = e.network.Node(m.name, m.peer)
	}
	m.args = append([]string{"--advertise-peer-addr", e.addr[m]}, args...)
	e.publish()
	if !slices.Contains(args, "--witness") {
		e.watch.look(m)
	}
	return m
}

// join adds a node that knows the addresses of all others, and does not run yet.
func (e *elected) join(args ...string) *member {
	e.t.Helper()
	for _, m := range e.members {
		args = append(args, "--join", e.addr[m])
	}
	return e.node(args...)
}

// url is for clients that look for the leader by themselves.
func (e *elected) url() string { return *e.hosts.Load() }

// publish has clients know the present members.
func (e *elected) publish() {
	var addresses []string
	for _, m := range e.members {
		addresses = append(addresses, m.address)
	}
	url := claims.URL("skein", addresses...) + "&connect_timeout=1"
	e.hosts.Store(&url)
}

// remove takes a node out of what clients know, and of what is compared in the end.
func (e *elected) remove(m *member) {
	e.cluster.remove(m)
	e.publish()
}

// running are the nodes with data whose processes have not ended.
func (e *elected) running() []*member {
	var up []*member
	for _, m := range e.members {
		if m.Node != nil && !m.ended() {
			up = append(up, m)
		}
	}
	return up
}

func (m *member) ended() bool {
	select {
	case <-m.Ended:
		return true
	default:
		return false
	}
}

// all are the nodes, witnesses too.
func (e *elected) all() []*member {
	return slices.SortedFunc(maps.Keys(e.addr), func(a, b *member) int { return strings.Compare(a.name, b.name) })
}

// lead waits until a node takes writes, and gives it.
func (e *elected) lead() *member {
	e.t.Helper()
	nodetest.Await(e.t, "somebody leads", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		conn, err := claims.Connect(ctx, claims.Options{URL: e.url})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, e.logs(4))
		}
		defer func() { _ = conn.Close(ctx) }()
		var name, role string
		if err := conn.QueryRow(ctx, "SELECT node, role FROM skein_status").Scan(&name, &role); err != nil {
			return err
		}
		if role != "leader" {
			return fmt.Errorf("%s lets clients write and says that it is a %s", name, role)
		}
		e.leads(name)
		return nil
	})
	return e.leader
}

// leads notes who the leader is, as the checks of cluster need to know it.
func (e *elected) leads(name string) {
	for _, m := range e.members {
		if m.name == name {
			e.leader = m
		}
	}
	for _, m := range e.members {
		if m.upstream = e.leader; m == e.leader {
			m.upstream = nil
		}
	}
}

func (e *elected) logs(lines int) string {
	var b strings.Builder
	for _, m := range e.all() {
		if m.Node != nil {
			fmt.Fprintf(&b, "%s:\n%s\n", m.name, tail(m.Log(), lines))
		}
	}
	return b.String()
}

// stuck ends a test whose cluster does not go on: with what has happened in it, with what its nodes said, and, where
// CLUSTERTEST_LOG asks for much of that, with what each of their goroutines is doing.
func (e *elected) stuck(err error) {
	e.t.Helper()
	var events string
	for _, m := range e.running() {
		asking, stop := context.WithTimeout(context.Background(), 2*time.Second)
		conn, err := pgx.Connect(asking, m.URL("skein"))
		if err == nil {
			var rows pgx.Rows
			if rows, err = conn.Query(asking, "SELECT at::text || ' ' || kind || ' ' || event FROM skein_history ORDER BY at DESC LIMIT 20"); err == nil {
				var all []string
				all, err = pgx.CollectRows(rows, pgx.RowTo[string])
				events = strings.Join(all, "\n")
			}
			_ = conn.Close(asking)
		}
		stop()
		if err == nil && events != "" {
			break
		}
	}
	said := e.logs(12)
	if logLines() > 20 {
		for _, m := range e.running() {
			_ = m.Process.Signal(syscall.SIGCONT)
			_ = m.Process.Signal(syscall.SIGQUIT)
			_ = m.AwaitEnd(e.t)
		}
	}
	e.t.Fatalf("%v\n%s\n%s", err, events, said)
}

// caughtUp waits until every running follower streams from the leader.
func (e *elected) caughtUp() {
	e.t.Helper()
	nodetest.Await(e.t, "all followers stream", func() error {
		e.lead()
		for _, m := range e.running() {
			if m == e.leader {
				continue
			}
			rows, err := e.leader.ask("SELECT state FROM pg_stat_replication WHERE application_name = '" + m.name + "'")
			if err != nil {
				return err
			}
			if len(rows) != 1 || rows[0][0] != "streaming" {
				return fmt.Errorf("%s: %v\n%s", m.name, rows, e.logs(6))
			}
		}
		return nil
	})
}

// mode waits until the leader acknowledges in a way that its status calls so.
func (e *elected) mode(name string) {
	e.t.Helper()
	nodetest.Await(e.t, "the mode is "+name, func() error {
		rows, err := e.leader.ask("SELECT mode FROM skein_status")
		if err == nil && !strings.HasPrefix(rows[0][0], name) {
			err = fmt.Errorf("it is %s", rows[0][0])
		}
		return err
	})
}

// load has clients write and readers read until end or settle.
func (e *elected) load() {
	e.t.Helper()
	e.loadClaims()
	e.series = (&series{c: e.cluster, anyone: true}).begin(1, e.url)
}

// loadClaims has clients write claims, and nothing else.
func (e *elected) loadClaims() {
	e.t.Helper()
	var err error
	if e.claims, err = claims.Start(e.t.Context(), claims.Options{URL: e.url, Clients: 2, Pause: time.Millisecond}); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(e.claims.Stop)
	e.progress(20)
}

// progress waits for so many more acknowledgements from now on.
func (e *elected) progress(more int) {
	e.t.Helper()
	ctx, cancel := context.WithTimeoutCause(e.t.Context(), progressWait, errors.New("the cluster does not go on"))
	defer cancel()
	if _, err := e.claims.AwaitFrom(ctx, e.claims.Since()); err != nil {
		e.stuck(err)
	}
	if err := e.claims.AwaitMore(ctx, more); err != nil {
		e.stuck(err)
	}
}

// progressWait is how long the slowest failover may take on a machine that does much else.
const progressWait = time.Minute

// takesOver waits until another one than before leads and acknowledges, and gives it. It tells how long that took.
func (e *elected) takesOver(before *member, since time.Duration) *member {
	e.t.Helper()
	ctx, cancel := context.WithTimeoutCause(e.t.Context(), progressWait, errors.New("nobody takes over"))
	defer cancel()
	for {
		w, err := e.claims.AwaitFrom(ctx, since)
		if err != nil {
			e.stuck(err)
		}
		if w.Leader.Address != before.address {
			e.t.Logf("%s leads in epoch %d, %.0f ms later", w.Leader.Address, w.Leader.Epoch, float64((w.Told-since).Microseconds())/1000)
			break
		}
		since = e.claims.Since()
	}
	return e.lead()
}

// stays fails if anything but what the present leader does happens while fn runs.
func (e *elected) stays(fn func()) {
	e.t.Helper()
	leader := e.lead()
	before := leader.value("SELECT epoch FROM skein_status")
	fn()
	if now := e.lead(); now != leader || now.value("SELECT epoch FROM skein_status") != before {
		e.t.Errorf("%s led in epoch %s; now %s does in epoch %s\n%s\n%s", leader.name, before, now.name, now.value("SELECT epoch FROM skein_status"),
			strings.Join(e.history(), "\n"), e.logs(12))
	}
}

// end heals the network, starts what does not run, and checks everything: that there is a leader which takes writes,
// that all nodes are identical, that what was acknowledged is there once and what was refused is not, and that what was seen is
// part of one history. It gives what became of the clients' writes.
func (e *elected) end(lossless bool) claims.Verdict {
	t := e.t
	t.Helper()
	if e.network != nil {
		e.network.Heal()
	}
	for _, m := range e.members {
		if !slices.Contains(e.running(), m) {
			m.launch("")
		}
	}
	for _, m := range e.members {
		m.serves()
	}
	e.lead()
	e.progress(5)
	e.claims.Stop()
	if e.series != nil {
		e.series.end()
	}
	e.caughtUp()
	var v claims.Verdict
	if e.series != nil && lossless {
		e.series.check()
	}
	e.verify()
	e.verifyFrom(e.members[len(e.members)-1])
	for _, m := range e.members {
		conn := nodetest.Connect(t, m.Node, "skein")
		have, err := claims.Read(t.Context(), conn, "claims")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
		v = claims.Hold(e.claims.Writes(), have)
		for _, p := range v.Problems(lossless) {
			t.Errorf("%s: %s", m.name, p)
		}
	}
	for _, p := range claims.Leaders(e.claims.Writes()) {
		t.Error(p)
	}
	e.watch.end()
	t.Logf("%d acknowledged, %d lost, %d unknown of which %d arrived", v.Acknowledged, len(v.Lost), v.Unknown, v.Arrived)
	return v
}

// verifyFrom has any node compare all of them.
func (e *elected) verifyFrom(m *member) {
	e.t.Helper()
	var names []string
	for _, r := range m.query("SELECT DISTINCT node, result FROM skein_verify() ORDER BY node") {
		names = append(names, r[0])
		if r[1] != "ok" {
			e.t.Errorf("skein_verify on %s: %v", m.name, r)
		}
	}
	var want []string
	for _, o := range e.members {
		want = append(want, o.name)
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		e.t.Errorf("skein_verify on %s has compared %v, want %v", m.name, names, want)
	}
}

// watch asks nodes all the time what they are: whoever leads leads a later epoch than it did before (I2), and no epoch has two
// leaders.
type watch struct {
	t       *testing.T
	stop    context.CancelFunc
	ctx     context.Context
	running sync.WaitGroup

	mu      sync.Mutex
	led     map[string]uint64 // newest epoch of each node that has led
	leaders map[uint64]string
	wrong   []string
}

// watchPace is how often.
const watchPace = 20 * time.Millisecond

func newWatch(t *testing.T) *watch {
	w := &watch{t: t, led: map[string]uint64{}, leaders: map[uint64]string{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { w.stop(); w.running.Wait() })
	return w
}

func (w *watch) look(m *member) {
	w.running.Go(func() {
		each(w.ctx, claims.To("postgres://skein@"+m.address+"/skein?connect_timeout=1"), func(conn *pgx.Conn) error {
			for {
				var role string
				var epoch int64
				if err := conn.QueryRow(w.ctx, "SELECT role, epoch FROM skein_status").Scan(&role, &epoch); err != nil {
					return err
				}
				w.saw(m.name, role, uint64(epoch))
				select {
				case <-time.After(watchPace):
				case <-w.ctx.Done():
					return w.ctx.Err()
				}
			}
		})
	})
}

func (w *watch) saw(node, role string, epoch uint64) {
	if role != "leader" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if epoch < w.led[node] {
		w.wrong = append(w.wrong, fmt.Sprintf("%s led epoch %d and now leads %d", node, w.led[node], epoch))
	}
	w.led[node] = epoch
	if other, known := w.leaders[epoch]; known && other != node {
		w.wrong = append(w.wrong, fmt.Sprintf("%s and %s both lead epoch %d", other, node, epoch))
	}
	w.leaders[epoch] = node
}

// newest is the highest epoch that has been seen to have a leader.
func (w *watch) newest() (epoch uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.led {
		epoch = max(epoch, e)
	}
	return epoch
}

func (w *watch) end() {
	w.t.Helper()
	w.stop()
	w.running.Wait()
	for _, wrong := range w.wrong {
		w.t.Error(wrong)
	}
	var all []string
	for _, epoch := range slices.Sorted(maps.Keys(w.leaders)) {
		all = append(all, strconv.FormatUint(epoch, 10)+" "+w.leaders[epoch])
	}
	w.t.Logf("epochs and their leaders: %s", strings.Join(all, ", "))
}

// others are the nodes with data but m.
func (e *elected) others(m *member) []*member {
	return slices.DeleteFunc(slices.Clone(e.members), func(o *member) bool { return o == m })
}

// other is one that is neither m nor leads.
func (e *elected) other(m *member) *member {
	e.t.Helper()
	for _, o := range e.others(m) {
		if o != e.leader {
			return o
		}
	}
	e.t.Fatal("there is no other node")
	return nil
}

// coordinator is the node that decides, as the nodes say in their logs.
func (e *elected) coordinator() *member {
	e.t.Helper()
	var found *member
	nodetest.Await(e.t, "somebody coordinates the cluster", func() error {
		var newest string
		found = nil
		for _, m := range e.all() {
			if m.Node == nil || m.ended() {
				continue
			}
			for line := range strings.Lines(m.Log()) {
				begins, ends := strings.Contains(line, "this node coordinates the cluster"), strings.Contains(line, "does not coordinate the cluster any more")
				at, _, _ := strings.Cut(line, " ")
				switch {
				case begins && at > newest:
					newest, found = at, m
				case ends && found == m:
					found = nil
				}
			}
		}
		if found == nil {
			return errors.New(e.logs(8))
		}
		return nil
	})
	return found
}

// progressFrom waits for an acknowledgement of something sent at since or later.
func (e *elected) progressFrom(since time.Duration) {
	e.t.Helper()
	ctx, cancel := context.WithTimeoutCause(e.t.Context(), progressWait, errors.New("the cluster does not go on"))
	defer cancel()
	w, err := e.claims.AwaitFrom(ctx, since)
	if err != nil {
		e.stuck(err)
	}
	e.t.Logf("%v acknowledges %.0f ms later", w.Leader, float64((w.Told-since).Microseconds())/1000)
}

// forLonger has clients go on for so long: what should not happen has the time to.
func (e *elected) forLonger(d time.Duration) {
	e.t.Helper()
	time.Sleep(d)
	e.progress(1)
}

// silence is for how long nothing must have been acknowledged to say that nothing will be.
const silence = 1500 * time.Millisecond

// stops waits until clients are acknowledged nothing any more.
func (e *elected) stops(m *member) {
	e.t.Helper()
	nodetest.Await(e.t, m.name+" acknowledges nothing", func() error {
		before := e.claims.Acknowledged()
		time.Sleep(silence)
		if now := e.claims.Acknowledged(); now > before {
			return fmt.Errorf("%d more in %v", now-before, silence)
		}
		return nil
	})
}

// apart waits until another node than the leader's coordinates: then a cluster has arranged itself.
func (e *elected) apart() {
	e.t.Helper()
	nodetest.Await(e.t, "another node than the leader coordinates", func() error {
		if e.coordinator() == e.leader {
			return errors.New(e.logs(8))
		}
		return nil
	})
}

// runs says whether a node's process has not ended.
func (e *elected) runs(m *member) bool { return slices.Contains(e.running(), m) }

// switchover has the leader hand over, to whoever fits best if to is "". The session may end with the leadership that it is part of.
func (e *elected) switchover(to string) {
	e.t.Helper()
	arg := "NULL"
	if to != "" {
		arg = "'" + to + "'"
	}
	if rows, err := e.others(e.lead())[0].ask("SELECT skein_switchover(" + arg + ")"); err != nil {
		e.t.Fatalf("switchover: %v\n%s", err, e.logs(12))
	} else {
		e.t.Log(rows[0][0])
	}
}

// begin sends a statement to a follower, whose session outlives a change of leader.
func (e *elected) begin(sql string) *pending {
	e.t.Helper()
	return e.others(e.lead())[1].begin(sql)
}

// history is what has happened: when, of which kind, and what.
func (e *elected) history() (events []string) {
	e.t.Helper()
	for _, row := range e.lead().query("SELECT at, kind, event FROM skein_history ORDER BY at") {
		events = append(events, strings.Join(row, " "))
	}
	return events
}

// overviewed is what these tests read of a node's overview of its cluster.
type overviewed struct {
	Health      string
	Coordinator string
	Problems    []struct{ What, Do string }
	Members     []struct {
		Name  string
		Votes *bool // now; nil: the node that was asked cannot know
		Voter bool  // it should
	}
}

func (e *elected) awaitOverview(m *member, what string, is func(overviewed) error) {
	e.t.Helper()
	nodetest.Await(e.t, m.name+" "+what, func() error {
		rows, err := m.ask("SELECT skein_overview()")
		if err != nil {
			return err
		}
		var o overviewed
		if err := json.Unmarshal([]byte(rows[0][0]), &o); err != nil {
			return err
		}
		return is(o)
	})
}

// healthy waits until the cluster has nothing to complain of.
func (e *elected) healthy() {
	e.t.Helper()
	e.awaitOverview(e.lead(), "says that all is well", func(o overviewed) error {
		if o.Health != "healthy" {
			return fmt.Errorf("%+v", o)
		}
		return nil
	})
}
