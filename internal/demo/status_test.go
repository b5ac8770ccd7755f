package demo

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var three = []string{"node1", "node2", "node3"}

func leading(followers map[string]follower) status {
	return status{answers: true, role: "leader", epoch: "3", mode: "asynchronous", followers: followers}
}

func TestSummary(t *testing.T) {
	follows := status{answers: true, role: "follower"}
	inStep := follower{connected: true, state: "streaming", sync: "async", lag: 300 * time.Microsecond}
	lagging := func(bytes int64, lag time.Duration, reason string) follower {
		return follower{connected: true, state: "streaming", sync: "async", lagBytes: bytes, lag: lag, reason: reason}
	}
	for _, test := range []struct {
		name   string
		second status
		view   map[string]follower
		want   string // of node2
	}{
		{"in step", follows, map[string]follower{"node2": inStep}, "node2 in step"},
		{"in step of a sync set", follows, map[string]follower{"node2": {connected: true, state: "streaming", sync: "potential"}}, "node2 in step, potential"},
		{"a little behind is in step", follows, map[string]follower{"node2": lagging(999_999, 999*time.Millisecond, "disk")}, "node2 in step"},
		{"behind in bytes", follows, map[string]follower{"node2": lagging(12_000_000, 0, "disk")}, "node2 follows, over 10 MB behind (disk)"},
		{"behind in both", follows, map[string]follower{"node2": lagging(1e9, 90*time.Second, "apply")}, "node2 follows, over 1 GB and over 1 min behind (apply)"},
		{"catching up", follows, map[string]follower{"node2": {connected: true, state: "catchup", lagBytes: 2e6}}, "node2 catching up, over 1 MB behind"},
		{"taking a copy", status{}, map[string]follower{"node2": {connected: true, state: "backup", copied: 57}}, "node2 takes a copy, 40 %"},
		{"paused", status{}, map[string]follower{"node2": inStep}, "node2 in step, but does not answer"},
		{"dead", status{}, map[string]follower{"node2": {lagBytes: 5e9}}, "node2 does not answer"},
		{"cut off", follows, map[string]follower{"node2": {lagBytes: 5e9}}, "node2 is not connected"},
		{"never seen", follows, nil, "node2 is not connected"},
		{"stuck", status{answers: true, role: "follower", problem: "the disk is full"}, map[string]follower{"node2": inStep}, "node2 in step, but: the disk is full"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.view == nil {
				test.view = map[string]follower{}
			}
			got := summary(three[:2], map[string]status{"node1": leading(test.view), "node2": test.second})
			if want := "node1 leads (epoch 3, asynchronous) · " + test.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestSummaryWithoutALeader(t *testing.T) {
	got := summary(three, map[string]status{"node2": {answers: true, role: "follower", problem: "connection refused"}})
	if want := "no leader · node1 does not answer · node2 serves reads · node3 does not answer"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A node that does not lead yet, or any more, is told again what a new cluster is told.
func TestWhatIsRefusedForGood(t *testing.T) {
	for code, want := range map[string]bool{"0A000": true, "42601": true, "25006": false, "57P01": false, "57P03": false} {
		if got := refused(&pgconn.PgError{Code: code}); got != want {
			t.Errorf("%s: %t", code, got)
		}
	}
	if refused(nil) || refused(io.EOF) {
		t.Error("a broken connection is taken for an answer")
	}
}

// clocked feeds an announcer with looks at made-up times.
type clocked struct {
	announcer *announcer
	out       *strings.Builder
	now       time.Time
}

func newClocked() *clocked {
	out := &strings.Builder{}
	nodes := cluster(Options{Nodes: 2, PGPort: 5432, PeerPort: 7432}, "/dir")
	c := &clocked{newAnnouncer(Options{Out: out, Dir: "/dir"}, nodes, "/dir"), out, time.Unix(1000, 0)}
	c.look(0, leading(map[string]follower{}))
	for _, n := range nodes {
		c.announcer.print(event{kind: ready, node: n, pid: 42, status: status{role: "x"}})
	}
	out.Reset()
	return c
}

func (c *clocked) look(n int, s status) string {
	before := c.out.Len()
	c.now = c.now.Add(250 * time.Millisecond)
	c.announcer.print(event{kind: looked, node: c.announcer.nodes[n], status: s, at: c.now})
	return c.out.String()[before:]
}

// A load that makes a follower lag for moments prints nothing; what stays is told once.
func TestOnlyWhatStaysIsTold(t *testing.T) {
	c := newClocked()
	small := leading(map[string]follower{"node2": {connected: true, state: "streaming"}})
	big := leading(map[string]follower{"node2": {connected: true, state: "streaming", lagBytes: 5e6}})
	follows := status{answers: true, role: "follower"}
	c.look(1, follows)
	for range 10 {
		c.look(0, small)
	}
	if got := c.out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "node2 in step") {
		t.Fatalf("a quiet cluster is told as %q", got)
	}
	for range 20 {
		if got := c.look(0, big) + c.look(0, big) + c.look(0, small); got != "" {
			t.Fatalf("a moment is told as %q", got)
		}
	}
	told := ""
	for range 20 {
		told += c.look(0, big)
	}
	if told != "cluster      node1 leads (epoch 3, asynchronous) · node2 follows, over 1 MB behind\n" {
		t.Errorf("what stays is told as %q", told)
	}
	c.announcer.stopping()
	for range 20 {
		if got := c.look(0, small); got != "" {
			t.Fatalf("told while stopping: %q", got)
		}
	}
}

func TestNothingIsToldBeforeAllAreReady(t *testing.T) {
	out := &strings.Builder{}
	nodes := cluster(Options{Nodes: 2, PGPort: 5432, PeerPort: 7432}, "/dir")
	c := &clocked{newAnnouncer(Options{Out: out}, nodes, "/dir"), out, time.Unix(1000, 0)}
	c.announcer.print(event{kind: ready, node: nodes[0], pid: 42})
	out.Reset()
	for range 20 {
		if got := c.look(0, leading(map[string]follower{})); got != "" {
			t.Fatal(got)
		}
	}
}
