package failover

import (
	"testing"
	"time"
)

func TestMemberWhoseVoteCountsDoesNotGoYet(t *testing.T) {
	s := NewCluster(Member{ID: "a", Name: "a"})
	s.Phase, s.Leader = Leading, "a"
	s.Members = append(s.Members, Member{ID: "b", Name: "b"})
	remove := Command{Kind: RemoveCommand, Node: "b"}
	for _, test := range []struct {
		voters  []NodeID
		members int
	}{{[]NodeID{"a", "b"}, 2}, {[]NodeID{"a"}, 1}, {nil, 1}} {
		leader := Observation{Report: Report{Node: "a", Incarnation: 1, Leading: s.Epoch}}
		next, _, err := remove.Apply(s, Facts{Voters: test.voters, Nodes: []Observation{leader}})
		if err != nil || len(next.Members) != test.members {
			t.Errorf("while %v vote, the members are %v, %v", test.voters, next.Members, err)
		}
		if len(Voters(next)) != 1 {
			t.Errorf("%v are to vote", Voters(next))
		}
	}
}

// A coordinator that has just begun has not heard the node yet whose name another one comes under.
func TestANodeThatMayBeRunningKeepsItsName(t *testing.T) {
	a, b := Member{ID: "a", Name: "a", Disk: "1", PeerAddr: "a:1"}, Member{ID: "b", Name: "b", Disk: "2", PeerAddr: "b:1"}
	s := NewCluster(a)
	s.Phase, s.Leader, s.Members = Leading, "a", []Member{a, b}
	join := Command{Kind: JoinCommand, Member: Member{ID: "c", Name: "b", Disk: "3", PeerAddr: "c:1"}}
	for _, test := range []struct {
		now  Observation
		kept bool
	}{
		{Observation{Report: Report{Node: "b"}}, true},
		{Observation{Report: Report{Node: "b", Incarnation: 1}}, true},
		{Observation{Report: Report{Node: "b", Incarnation: 1}, Silence: time.Second}, false},
		{Observation{Report: Report{Node: "b"}, Silence: time.Second}, false},
		{Observation{Report: Report{Node: "b"}, Refused: true}, false},
	} {
		next, _, err := join.Apply(s, Facts{Nodes: []Observation{test.now}})
		if kept := next.name("b") == "b" && next.name("c") == "c"; kept != test.kept || (err != nil) != test.kept {
			t.Errorf("%+v: %v, %v", test.now, next.Members, err)
		}
	}
}
