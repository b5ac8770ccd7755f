package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
)

// cluster is some nodes within one process and one test, in virtual time.
type cluster struct {
	t     *testing.T
	began time.Time
	dir   string

	mu    sync.Mutex
	nodes map[string]*node       // by address
	cuts  map[[2]string]struct{} // who cannot be heard by whom
	conns map[*pipeEnd]struct{}
	lose  func(p *pipeEnd) bool // what is written now
	dials map[Channel]int
	// refusals counts attempts to connect to where nobody listens.
	refusals int

	states map[uint64]failover.State // that nodes have seen
}

func inBubble(t *testing.T, fn func(t *testing.T, c *cluster)) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{
			t: t, began: time.Now(), dir: dir,
			nodes: map[string]*node{}, cuts: map[[2]string]struct{}{}, conns: map[*pipeEnd]struct{}{},
			dials: map[Channel]int{}, states: map[uint64]failover.State{},
		}
		defer c.stopAll()
		fn(t, c)
	})
}

// inBubbles is inBubble as a subtest.
func inBubbles(t *testing.T, name string, fn func(t *testing.T, c *cluster)) {
	t.Run(name, func(t *testing.T) { inBubble(t, fn) })
}

func (c *cluster) boottime() time.Duration { return time.Since(c.began) + time.Hour }

// pipeEnd is one side of a connection. What is sent to where it cannot be heard is lost, and the connection with it.
type pipeEnd struct {
	net.Conn
	c        *cluster
	from, to string
	what     Channel
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	p.c.mu.Lock()
	_, lost := p.c.cuts[[2]string{p.from, p.to}]
	lost = lost || p.c.lose != nil && p.c.lose(p)
	p.c.mu.Unlock()
	if lost {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

func (p *pipeEnd) Close() error {
	p.c.mu.Lock()
	delete(p.c.conns, p)
	p.c.mu.Unlock()
	return p.Conn.Close()
}

func (c *cluster) cutOff(from, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, cut := c.cuts[[2]string{from, to}]
	return cut
}

// cut keeps each of some nodes from being heard by each of the others, and the other way round.
func (c *cluster) cut(some []*node, others ...*node) {
	for _, a := range some {
		for _, b := range others {
			c.deafen(a, b)
			c.deafen(b, a)
		}
	}
}

// deafen keeps what a says from b.
func (c *cluster) deafen(a, b *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts[[2]string{a.address, b.address}] = struct{}{}
}

// losing has what is written lost where fn says so, until it is called with nil.
func (c *cluster) losing(fn func(p *pipeEnd) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose = fn
}

// heal ends all cuts. Connections that were cut are gone.
func (c *cluster) heal() {
	c.mu.Lock()
	var broken []*pipeEnd
	for p := range c.conns {
		_, there := c.cuts[[2]string{p.from, p.to}]
		_, back := c.cuts[[2]string{p.to, p.from}]
		if there || back {
			broken = append(broken, p)
		}
	}
	clear(c.cuts)
	c.mu.Unlock()
	for _, p := range broken {
		_ = p.Close()
	}
}

func (c *cluster) dialer(from string) func(context.Context, string, Channel) (net.Conn, error) {
	return func(ctx context.Context, address string, what Channel) (net.Conn, error) {
		c.mu.Lock()
		if n := c.nodes[from]; n != nil && n.killed {
			c.mu.Unlock()
			return nil, errors.New("killed")
		}
		c.mu.Unlock()
		if c.cutOff(from, address) || c.cutOff(address, from) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		n := c.nodes[address]
		if n == nil || n.control == nil {
			c.refusals++
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		near, far := net.Pipe()
		a := &pipeEnd{near, c, from, address, what}
		b := &pipeEnd{far, c, address, from, what}
		c.dials[what]++
		c.conns[a], c.conns[b] = struct{}{}, struct{}{}
		serve, ctl, serving := n.ctx, n.control, n.serving
		serving.Go(func() { ctl.Serve(serve, what, b) })
		return a, nil
	}
}

// node is one node. What it reports is what its duty makes of it, at once and without any data.
type node struct {
	c       *cluster
	id      failover.NodeID
	address string
	dir     string
	change  []func(*Options)
	alone   bool // it asks for one by which no follower has to have anything
	lossy   bool // it asks for a rule by which it acknowledges alone

	control *Control
	killed  bool
	ctx     context.Context
	stop    func()
	serving *sync.WaitGroup

	mu     sync.Mutex
	report failover.Report
}

func (c *cluster) node(name string) *node {
	n := &node{
		c: c, id: failover.NodeID("id-" + name), address: name + ":1", dir: filepath.Join(c.dir, name),
		report: failover.Report{Node: failover.NodeID("id-" + name), Disk: "disk-" + name, Incarnation: 1, Ready: true, Heard: -1},
	}
	return n
}

func (n *node) member() failover.Member {
	return failover.Member{ID: n.id, Disk: n.report.Disk, Name: string(n.id[3:]), PeerAddr: n.address}
}

// begin makes a cluster of this node.
func (c *cluster) begin(name string, change ...func(*Options)) *node {
	c.t.Helper()
	n := c.node(name)
	n.change = change
	if err := Bootstrap(n.dir, n.id, n.address, failover.NewCluster(n.member())); err != nil {
		c.t.Fatal(err)
	}
	return n.start()
}

// join makes a node a member, by way of another one.
func (c *cluster) join(name string, by *node, change ...func(*Options)) *node {
	c.t.Helper()
	n := c.node(name)
	n.change = change
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	s, err := Join(ctx, c.dialer(n.address), by.address, n.member())
	if err != nil {
		c.t.Fatal(err)
	}
	if _, is := member(s, n.id); !is {
		c.t.Fatalf("after it has joined, the members are %v", s.Members)
	}
	return n.start()
}

// three gives a cluster of three nodes, the first of which leads.
func (c *cluster) three(change ...func(*Options)) (all []*node) {
	c.t.Helper()
	a := c.begin("a", change...)
	c.until("a leads", func() bool { return a.leads() })
	all = []*node{a, c.join("b", a, change...), c.join("c", a, change...)}
	c.until("all are followed", func() bool { return c.followed(all) && len(a.control.State().Rules) == 1 })
	c.until("all vote", func() bool { return len(c.voters(a)) == 3 })
	c.until("another node coordinates", func() bool { return a.control.Coordinator() != a.id && c.coordinator(all...) != nil })
	return all
}

func (n *node) start() *node {
	n.c.t.Helper()
	o := Options{
		Dir: n.dir, Self: n.id, Address: n.address, Dial: n.c.dialer(n.address), Report: n.says,
		Logger: testLogger(n.c.t, string(n.id)), boottime: n.c.boottime, Next: n.c.next,
	}
	for _, change := range n.change {
		change(&o)
	}
	ctl, err := Open(o)
	if err != nil {
		n.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := ctl.Run(ctx); err != nil {
			n.c.t.Errorf("%s: run: %v", n.id, err)
		}
	})
	running.Go(func() { n.obey(ctx, ctl) })
	serving := &sync.WaitGroup{}
	n.c.mu.Lock()
	n.control, n.ctx, n.serving, n.killed = ctl, ctx, serving, false
	n.c.nodes[n.address] = n
	n.c.mu.Unlock()
	n.stop = sync.OnceFunc(func() {
		n.c.mu.Lock()
		n.control = nil
		n.c.mu.Unlock()
		cancel()
		running.Wait()
		serving.Wait()
	})
	return n
}

func (c *cluster) stopAll() {
	c.heal()
	c.mu.Lock()
	all := c.nodes
	c.mu.Unlock()
	for _, n := range all {
		n.stop()
	}
}

// restart is a process that ends and another that begins.
func (n *node) restart() *node {
	n.stop()
	n.mu.Lock()
	n.report.Incarnation++
	n.report.Leading, n.report.Streaming, n.report.Upstream, n.report.Seen = 0, false, "", 0
	n.mu.Unlock()
	return n.start()
}

// next is failover's, and sees to it that what it is told of leases is so.
func (c *cluster) next(s failover.State, f failover.Facts) (failover.State, []failover.Event, bool) {
	c.mu.Lock()
	var all []*Control
	for _, n := range c.nodes {
		if n.control != nil {
			all = append(all, n.control)
		}
	}
	c.mu.Unlock()
	for _, v := range f.Voters {
		if _, is := member(s, v); !is {
			c.t.Errorf("%s votes and is no member", v)
		}
	}
	for _, ctl := range all {
		// One that was replaced by answers of its followers may have a lease still: nobody relies on that being over.
		if newest := s.Rules[max(0, len(s.Rules)-1):]; len(newest) == 0 || newest[0].Leader != ctl.o.Self || newest[0].Epoch != ctl.State().Epoch {
			continue
		}
		if left := ctl.LeaseUntil() - c.boottime(); f.LeaseOver && left > 0 {
			c.t.Errorf("%s takes leases to be over, but that of %s lasts for another %v", f.Self, ctl.o.Self, left)
		}
	}
	return failover.Next(s, f)
}

// kill ends the node without a word from it.
func (n *node) kill() {
	n.c.mu.Lock()
	ctl := n.control
	n.control, n.killed = nil, true
	var all []*pipeEnd
	for p := range n.c.conns {
		if p.from == n.address || p.to == n.address {
			all = append(all, p)
		}
	}
	n.c.mu.Unlock()
	ctl.layer.cut(errors.New("killed"))
	for _, p := range all {
		_ = p.Close()
	}
	n.stop()
}

func (c *cluster) refused() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusals
}

// obey does what the State asks of the node.
func (n *node) obey(ctx context.Context, ctl *Control) {
	for {
		select {
		case <-ctl.Changed():
		case <-ctx.Done():
			return
		}
		n.take(ctl.State())
		ctl.Nudge()
	}
}

func (n *node) take(s failover.State) {
	d := failover.DutyOf(s, n.id)
	n.mu.Lock()
	defer n.mu.Unlock()
	r := &n.report
	n.c.mu.Lock()
	if other, ok := n.c.states[s.Version]; ok && !reflect.DeepEqual(other, s) {
		n.c.t.Errorf("%s: there are two states %d: %+v and %+v", n.id, s.Version, s, other)
	}
	n.c.states[s.Version] = s
	n.c.mu.Unlock()
	if s.Version < r.Seen {
		n.c.t.Errorf("%s: state %d came after %d", n.id, s.Version, r.Seen)
	}
	r.Seen, r.Promise, r.Upstream, r.Streaming = s.Version, d.Epoch, d.Upstream.ID, d.Role == failover.Follow
	switch {
	case d.Role != failover.Lead:
		r.Leading = 0
	case r.Leading != d.Epoch && r.Position.Epoch == d.Epoch: // an epoch never begins twice
	case r.Leading != d.Epoch:
		r.Leading = d.Epoch
		r.Position = history.Position{Epoch: d.Epoch, LSN: r.Position.LSN + 1, Chain: 1}
		fallthrough
	default:
		r.Settled, r.Want = d.Rule.ID, nil
		want := failover.Rule{Leader: n.id, Members: others(s, n.id), K: 1, Lossy: n.lossy}
		if n.alone || len(want.Members) == 0 {
			want.Members, want.K = nil, 0
		}
		if !slices.Equal(want.Members, d.Rule.Members) {
			r.Want = &want
		}
	}
}

// leadAlone has a leader acknowledge without its followers.
func (n *node) leadAlone() {
	n.mu.Lock()
	n.alone = true
	n.mu.Unlock()
	n.take(n.control.State())
	n.control.Nudge()
	n.c.until("no rule counts a follower", func() bool {
		r := n.control.State().Rules
		return len(r) == 1 && r[0].K == 0
	})
}

func others(s failover.State, not failover.NodeID) (all []failover.NodeID) {
	for _, m := range s.Members {
		if m.ID != not && !m.Leaving {
			all = append(all, m.ID)
		}
	}
	return all
}

func (c *cluster) find(id failover.NodeID) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// says is the report. A follower hears its leader, and has what that has, if the network lets it.
func (n *node) says() failover.Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := &n.report
	if !r.Streaming {
		return *r
	}
	up := n.c.find(r.Upstream)
	if up == nil || up.gone() || n.c.cutOff(up.address, n.address) {
		deaf := *r
		deaf.Heard, deaf.Streaming = time.Hour, false
		return deaf
	}
	r.Heard, r.Position = 0, up.position()
	r.Flushed = r.Position.LSN
	return *r
}

func (n *node) position() history.Position {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.report.Position
}

func (n *node) gone() bool {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.control == nil
}

func (n *node) leads() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.report.Leading != 0 && n.report.Leading == n.report.Promise
}

// coordinator gives the node that coordinates, nil if there is not exactly one.
func (c *cluster) coordinator(among ...*node) (one *node) {
	for _, n := range among {
		if n.gone() || n.control.present.Load() == nil {
			continue
		}
		if one != nil {
			return nil
		}
		one = n
	}
	return one
}

// voters gives those who vote, as a node knows it.
func (c *cluster) voters(n *node) (all []failover.NodeID) {
	for _, s := range n.control.raft.GetConfiguration().Configuration().Servers {
		if id, _ := parseServer(string(s.ID)); s.Suffrage == 0 {
			all = append(all, id.node)
		}
	}
	slices.Sort(all)
	return all
}

// until waits for something that has to happen within a minute.
func (c *cluster) until(what string, is func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > time.Minute {
			c.t.Fatalf("after a minute it is not so: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// do has a command carried out that a node is given.
func (n *node) do(cmd failover.Command) failover.State {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(n.c.t.Context(), time.Minute)
	defer cancel()
	s, err := n.control.Do(ctx, cmd)
	if err != nil {
		n.c.t.Fatal(err)
	}
	return s
}

func setting(name, value string) failover.Command {
	return failover.Command{Kind: failover.SettingsCommand, Values: map[string]string{name: value}}
}

// leader gives the node that leads, nil if there is not exactly one.
func (c *cluster) leader(among ...*node) (one *node) {
	for _, n := range among {
		if n.gone() || !n.leads() {
			continue
		}
		if one != nil {
			return nil
		}
		one = n
	}
	return one
}

func without(all []*node, not ...*node) (rest []*node) {
	for _, n := range all {
		if !slices.Contains(not, n) {
			rest = append(rest, n)
		}
	}
	return rest
}

func testLogger(t *testing.T, name string) *slog.Logger {
	if os.Getenv("SKEIN_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	level := slog.LevelInfo
	if os.Getenv("SKEIN_TEST_LOG") == "debug" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})).With("on", name)
}

func TestOneNodeLeadsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.begin("a")
		if took := c.until("it leads", a.leads); took > raftTimeout {
			t.Errorf("it leads after %v", took)
		}
		if s := a.do(setting("stall_timeout", "2s")); s.Settings.StallTimeout != 2*time.Second {
			t.Errorf("the settings are %+v", s.Settings)
		}
		before := a.control.State()
		a.restart()
		if took := c.until("it leads again", func() bool { return a.leads() && a.control.State().Epoch > before.Epoch }); took > 2*raftTimeout {
			t.Errorf("it leads again after %v", took)
		}
		if h := a.control.History(); len(h) == 0 {
			t.Error("it has no history")
		}
	})
}

func TestNodesJoinAndVote(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		for _, n := range all {
			c.until(fmt.Sprintf("%s knows everybody", n.id), func() bool { return len(n.control.State().Members) == 3 })
			c.until(fmt.Sprintf("%s knows who votes", n.id), func() bool { return len(c.voters(n)) == 3 })
		}
		if who := c.coordinator(all...); who == all[0] {
			t.Error("the leader's node coordinates")
		}
		s := all[2].do(setting("stall_timeout", "7s")) // wherever it is asked
		for _, n := range all {
			c.until(fmt.Sprintf("%s knows it", n.id), func() bool { return n.control.State().Version >= s.Version })
		}
		_, err := all[1].control.Do(t.Context(), failover.Command{Kind: failover.RemoveCommand, Node: "nobody"})
		var refused *Refused
		if !errors.As(err, &refused) {
			t.Errorf("a command that cannot be carried out gives %v", err)
		}
		_, f, err := all[0].control.Observe(t.Context())
		if err != nil || len(f.Nodes) != 3 {
			t.Errorf("the facts are %+v, %v", f, err)
		}
	})
}

func TestAnotherNodeLeadsAndAnotherCoordinates(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		all := c.three()
		for range 4 {
			leader, coordinator := c.leader(all...), c.coordinator(all...)
			if leader == nil || coordinator == nil {
				t.Fatalf("%v leads and %v coordinates", leader, coordinator)
			}
			victim := leader
			if leader == coordinator {
				t.Fatal("one node leads and coordinates")
			}
			victim.stop()
			rest := without(all, victim)
			took := c.until("another node leads", func() bool { return c.leader(rest...) != nil })
			t.Logf("after %v %s leads instead of %s", took, c.leader(rest...).id, victim.id)
			if took > 100*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			victim.restart()
			c.until("all is well again", func() bool {
				l, k := c.leader(all...), c.coordinator(all...)
				return l != nil && k != nil && l != k && len(c.voters(k)) == 3 && c.followed(all)
			})
		}
	})
}

// followed says whether everybody but the leader follows.
func (c *cluster) followed(all []*node) bool {
	n := 0
	for _, a := range all {
		if a.says().Streaming {
			n++
		}
	}
	return n == len(all)-1
}
