package console

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/overview"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt")

// noon is when every picture is taken.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// scene is a cluster of three that is well, to be spoiled.
type scene struct{ overview.Source }

func three() *scene {
	s := &scene{overview.Source{Self: "b", Facts: failover.Facts{Self: "b", Now: noon, Elapsed: time.Hour, Electing: time.Hour, LeaseOver: true}}}
	for i, id := range []failover.NodeID{"a", "b", "c"} {
		port := string(rune('2' + i))
		s.State.Members = append(s.State.Members, failover.Member{
			ID: id, Name: "node" + string(rune('1'+i)), Disk: "disk-" + string(id), PGAddr: "10.0.0.1:543" + port, PeerAddr: "10.0.0.1:743" + port,
		})
		s.Facts.Nodes = append(s.Facts.Nodes, failover.Observation{
			Report: failover.Report{
				Node: id, Disk: "disk-" + string(id), Incarnation: 1, Seen: 40, Promise: 5, Position: history.Position{Epoch: 5, LSN: 6702},
				Flushed: 6702, Committed: 6702, Visible: 6702, Ready: true, Upstream: "a", Streaming: true, Heard: 20 * time.Millisecond,
			},
			Silence: 40 * time.Millisecond,
		})
	}
	leader := s.node("a")
	leader.Leading, leader.Settled, leader.Upstream, leader.Streaming, leader.Heard = 5, 7, "", false, -1
	s.State.Version, s.State.Epoch, s.State.Phase, s.State.Leader, s.State.Settings = 40, 5, failover.Leading, "a", failover.DefaultSettings()
	s.State.Rules = []failover.Rule{{ID: 7, Leader: "a", Epoch: 5, Members: []failover.NodeID{"b", "c"}, K: 1}}
	return s
}

func (s *scene) node(id failover.NodeID) *failover.Observation {
	for i := range s.Facts.Nodes {
		if s.Facts.Nodes[i].Node == id {
			return &s.Facts.Nodes[i]
		}
	}
	return nil
}

func (s *scene) member(id failover.NodeID) *failover.Member {
	for i := range s.State.Members {
		if s.State.Members[i].ID == id {
			return &s.State.Members[i]
		}
	}
	return nil
}

// silent has a node heard last some time ago.
func (s *scene) silent(id failover.NodeID, since time.Duration, refused bool) {
	s.node(id).Silence, s.node(id).Refused = since, refused
}

// blind leaves of all facts what one node says of itself.
func (s *scene) blind(id failover.NodeID) {
	own := *s.node(id)
	own.Silence = 0
	s.Self, s.Blind, s.Facts = id, "nobody coordinates", failover.Facts{Now: noon, Nodes: []failover.Observation{own}}
}

var scenes = []struct {
	name  string
	spoil func(s *scene)
}{
	{"healthy", func(*scene) {}},
	{"asynchronous", func(s *scene) {
		s.State.Rules[0] = failover.Rule{ID: 7, Leader: "a", Epoch: 5, Members: []failover.NodeID{"b", "c"}, Lossy: true}
		s.node("a").AtRisk = 17
		s.node("c").Flushed, s.node("c").Position.LSN = 6690, 6690
	}},
	{"follower-down", func(s *scene) { s.silent("c", 12*time.Second, true) }},
	{"leader-dead", func(s *scene) { s.silent("a", 700*time.Millisecond, true) }},
	{"electing", func(s *scene) {
		s.silent("a", 3*time.Second, true)
		s.State.Phase, s.State.Epoch, s.State.Cause, s.Facts.Electing = failover.Electing, 6, "node1 fell silent", 20*time.Millisecond
	}},
	{"two-dead", func(s *scene) {
		s.silent("a", 72*time.Second, true)
		s.silent("c", 3*time.Minute, false)
	}},
	{"on-its-own", func(s *scene) {
		s.silent("b", 72*time.Second, true)
		s.silent("c", 3*time.Minute, false)
		s.State.Rules[0] = failover.Rule{ID: 8, Leader: "a", Epoch: 5}
	}},
	{"attributes", func(s *scene) {
		s.member("b").Priority = 5
		s.member("c").NeverLeader, s.member("c").Hidden, s.member("c").Delay = true, true, time.Hour
		s.State.Switchover = &failover.Switchover{To: "b", At: noon.Add(10 * time.Hour), By: "anna"}
		s.State.Losses = []history.Epoch{3}
	}},
	{"witness", func(s *scene) {
		s.member("c").Witness, s.member("c").PGAddr = true, ""
		s.node("c").Report = failover.Report{Node: "c", Disk: "disk-c", Incarnation: 1, Seen: 40, Tainted: "it is a witness"}
		s.State.Rules[0].Members = []failover.NodeID{"b"}
	}},
	{"joining", func(s *scene) {
		s.Facts.Voters = []failover.NodeID{"a", "b"}
		s.node("c").Tainted, s.node("c").Streaming, s.node("c").Position, s.node("c").Flushed = "it takes a new copy", false, history.Position{}, 0
		s.State.Rules[0].Members = []failover.NodeID{"b"}
	}},
	{"blind-follower", func(s *scene) { s.blind("b") }},
	{"blind-leader", func(s *scene) { s.blind("a") }},
	{"new-coordinator", func(s *scene) {
		s.Facts.Nodes = s.Facts.Nodes[1:2]
		s.Facts.Elapsed = 100 * time.Millisecond
	}},
	{"new-cluster", func(s *scene) {
		*s = scene{overview.Source{Self: "a", State: failover.NewCluster(s.State.Members[0]), Facts: failover.Facts{Self: "a", Now: noon, Nodes: s.Facts.Nodes[:1]}}}
		s.node("a").Leading, s.node("a").Position, s.node("a").Flushed = 0, history.Position{}, 0
	}},
	{"knows-nothing", func(s *scene) {
		s.State = failover.State{}
		s.Facts = failover.Facts{Now: noon}
		s.Blind = "no member answers"
	}},
}

func TestStatusScreens(t *testing.T) {
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			s := three()
			sc.spoil(s)
			golden(t, sc.name, style{}.draw(overview.Of(s.Source)))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
