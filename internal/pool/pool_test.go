package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/history"
	"skein/internal/replication"
)

// cluster is what a Pool under test sees: nodes that answer as they are told.
type cluster struct {
	t    *testing.T
	pool *Pool

	mu      sync.Mutex
	reports map[string]Report // by address; who is not there refuses connections
	dumb    map[string]bool   // these take connections and say nothing
	dialed  map[string]int
	conns   map[string][]net.Conn
}

// answering is one of its nodes.
type answering struct {
	c       *cluster
	address string
}

func (a answering) RouterReport() Report {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	return a.c.reports[a.address]
}

func (a answering) RouterCredentials(role string) Credentials {
	return Credentials{Verifier: a.address + " " + role, Known: true}
}

// run gives a Pool of nodes a, b and c, of which a leads in epoch 1, to a test in virtual time.
func run(t *testing.T, rule Rule, test func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, reports: map[string]Report{}, dumb: map[string]bool{}, dialed: map[string]int{}, conns: map[string][]net.Conn{}}
		c.pool = New(Options{Addresses: []string{"a:1"}, Rule: rule, Leading: 1, Dial: c.dial})
		c.lead("a", 1, "a", "b", "c")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.pool.Run(ctx) }()
		c.pass(time.Second)
		test(c)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// pass lets time pass.
func (c *cluster) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// lead has these nodes say that one of them leads.
func (c *cluster) lead(leader string, epoch history.Epoch, names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var members []Member
	for _, name := range []string{"a", "b", "c"} {
		members = append(members, Member{ID: name, Name: name, Address: name + ":1"})
	}
	for _, name := range names {
		r := Report{ID: name, Name: name, Serves: true, Epoch: epoch, Leader: leader + ":1", Leads: name == leader, Members: members}
		c.reports[name+":1"] = r
	}
}

func (c *cluster) change(name string, fn func(*Report)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.reports[name+":1"]
	r.Members = slices.Clone(r.Members)
	fn(&r)
	c.reports[name+":1"] = r
}

// kill has a node vanish, with its connections.
func (c *cluster) kill(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reports, name+":1")
	for _, conn := range c.conns[name+":1"] {
		_ = conn.Close()
	}
}

func (c *cluster) dial(ctx context.Context, address string, why replication.Purpose) (net.Conn, replication.Identity, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialed[address]++
	r, ok := c.reports[address]
	if !ok {
		return nil, replication.Identity{}, errors.New("connection refused")
	}
	near, far := net.Pipe()
	c.conns[address] = append(c.conns[address], far)
	if !c.dumb[address] && why == replication.ToRoute {
		go func() {
			_ = Answer(context.WithoutCancel(ctx), far, answering{c, address})
			_ = far.Close()
		}()
	}
	return near, replication.Identity{Node: r.ID}, nil
}

// reads gives who can be read.
func (c *cluster) reads() string {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	var names []string
	for _, n := range c.pool.nodes {
		if n.reads {
			names = append(names, n.report.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (c *cluster) expect(what, want string) {
	c.t.Helper()
	if got := c.reads(); got != want {
		c.t.Errorf("%s: %q is read, not %q", what, got, want)
	}
}

var usual = Rule{Prefer: LeastLoad, MaxLag: 10 * time.Second}

func TestNodesAreFoundThroughOneOfThem(t *testing.T) {
	run(t, usual, func(c *cluster) {
		c.expect("of three", "b c")
		if l, ok := c.pool.Leader(); !ok || l != (Leader{"a", "a:1", 1}) {
			t.Errorf("%v leads, %v", l, ok)
		}
	})
}

func TestANodeThatFailsIsOutAtOnceAndComesBackSlowly(t *testing.T) {
	run(t, usual, func(c *cluster) {
		place, ok := c.pool.Enter(false)
		if !ok {
			t.Fatal("no place")
		}
		name := place.Name()
		c.kill(name)
		c.pass(2 * interval)
		if place.Up().Err() == nil || place.Stays() {
			t.Error("the session goes on reading there")
		}
		c.expect("one has been killed", strings.Trim(strings.ReplaceAll("b c", name, ""), " "))
		c.lead("a", 1, name)
		c.pass(2 * interval)
		c.expect("it has begun to answer", strings.Trim(strings.ReplaceAll("b c", name, ""), " "))
		c.pass(3 * interval)
		c.expect("it has answered for a while", "b c")
		place.Leave()
	})
}

func TestANodeThatSaysNothingIsOut(t *testing.T) {
	run(t, usual, func(c *cluster) {
		c.mu.Lock()
		c.dumb["b:1"] = true
		c.mu.Unlock()
		for _, conn := range c.conns["b:1"] {
			_ = conn.Close()
		}
		c.pass(interval + answerTime + interval)
		c.expect("b hangs", "c")
	})
}

func TestALaggingNodeIsOutUntilHalfTheLimit(t *testing.T) {
	run(t, usual, func(c *cluster) {
		for _, step := range []struct {
			lag  time.Duration
			want string
		}{{9 * time.Second, "b c"}, {11 * time.Second, "c"}, {9 * time.Second, "c"}, {5 * time.Second, "b c"}, {-1, "c"}} {
			c.change("b", func(r *Report) { r.Lag = step.lag })
			c.pass(2 * interval)
			c.expect(step.lag.String(), step.want)
		}
	})
}

func TestHiddenNodesAndWitnessesAreNotRead(t *testing.T) {
	run(t, usual, func(c *cluster) {
		for _, name := range []string{"a", "b", "c"} {
			c.change(name, func(r *Report) { r.Members[1].Hidden, r.Members[2].Witness = true, true })
		}
		c.pass(2 * interval)
		c.expect("b hides, c is a witness", "")
		place, ok := c.pool.EnterAny()
		if !ok || place.Name() != "a" {
			t.Error("a session cannot begin at the leader")
		}
		dialed := c.dialed["c:1"]
		c.kill("c")
		c.pass(time.Minute)
		if c.dialed["c:1"] > dialed+1 {
			t.Errorf("a witness was asked %d times", c.dialed["c:1"]-dialed)
		}
	})
}

func TestTheNewestEpochNamesTheLeader(t *testing.T) {
	run(t, usual, func(c *cluster) {
		changed := c.pool.Changed()
		c.lead("b", 2, "b", "c")
		c.pass(2 * interval)
		if l, _ := c.pool.Leader(); l != (Leader{"b", "b:1", 2}) { // a says still that it leads, in epoch 1
			t.Errorf("%v leads", l)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
		c.expect("who has led in epoch 1 says so still", "c")
		c.lead("b", 2, "a")
		c.pass(2 * interval)
		c.expect("it follows", "a c")
	})
}

func TestWithoutALeaderReadsGoOn(t *testing.T) {
	run(t, usual, func(c *cluster) {
		c.kill("a")
		for _, name := range []string{"b", "c"} {
			c.change(name, func(r *Report) { r.Leader, r.Lag, r.Epoch = "", -1, 2 })
		}
		c.pass(2 * interval)
		if l, ok := c.pool.Leader(); ok {
			t.Errorf("%v leads", l)
		}
		c.expect("nobody says how far behind he is", "b c")
	})
}

func TestSessionsSpreadAndMoveToWhoComesBack(t *testing.T) {
	run(t, usual, func(c *cluster) {
		c.kill("c")
		c.pass(2 * interval)
		var places []*Place
		for range 40 {
			place, ok := c.pool.Enter(false)
			if !ok || place.Name() != "b" {
				t.Fatal("not b")
			}
			places = append(places, place)
		}
		c.lead("a", 1, "c")
		c.change("b", func(r *Report) { r.Sessions = 40 })
		c.pass(6 * interval)
		moved := 0
		for _, place := range places {
			if !place.Stays() {
				if _, ok := c.pool.Enter(true); ok {
					place.Leave()
					moved++
				}
			}
		}
		if moved < 10 || moved > welcome {
			t.Errorf("%d of 40 have moved at once", moved)
		}
	})
}

func TestTheLeaderTakesSoManyReadsAtATime(t *testing.T) {
	run(t, usual, func(c *cluster) {
		done, err := c.pool.Lead(c.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waiting, stop := context.WithTimeout(c.t.Context(), time.Second)
		defer stop()
		if _, err := c.pool.Lead(waiting); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more: %v", err)
		}
		done()
		if _, err := c.pool.Lead(c.t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCredentialsAreTheLeaders(t *testing.T) {
	run(t, usual, func(c *cluster) {
		for _, want := range []string{"a:1 anna", "b:1 anna"} {
			got, err := c.pool.Credentials(c.t.Context(), "anna")
			if err != nil || got.Verifier != want {
				t.Errorf("%v, %v, not of %s", got, err, want)
			}
			c.kill("a")
		}
	})
}

func TestOpenIsOnlyWhatAllNodesOfThisMachineAre(t *testing.T) {
	run(t, usual, func(c *cluster) {
		for _, name := range []string{"a", "b", "c"} {
			if c.pool.Open() {
				t.Errorf("%s has passwords", name)
			}
			c.change(name, func(r *Report) { r.Open = true })
			c.pass(2 * interval)
		}
		if c.pool.Open() {
			t.Error("a host called a is another machine")
		}
	})
	p := New(Options{Addresses: []string{"127.0.0.1:1", "[::1]:2"}})
	for _, n := range p.nodes {
		n.heard, n.report = true, Report{Serves: true, Open: true}
	}
	if !p.Open() {
		t.Error("all are on this machine and have no passwords")
	}
	p.nodes[1].report.Open = false
	if p.Open() {
		t.Error("one of them knows a password")
	}
}

func TestMessagesAreBounded(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		_, _ = fmt.Fprint(far, strings.Repeat("x", maxMessage+1))
		_ = far.Close()
	}()
	if err := read(lines(near), &Report{}); err == nil {
		t.Error("it was read")
	}
}
