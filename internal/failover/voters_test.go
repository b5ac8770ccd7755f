package failover

import "testing"

func TestMemberWhoseVoteCountsDoesNotGoYet(t *testing.T) {
	s := NewCluster(Member{ID: "a", Name: "a"})
	s.Phase, s.Leader = Leading, "a"
	s.Members = append(s.Members, Member{ID: "b", Name: "b"})
	remove := Command{Kind: RemoveCommand, Node: "b"}
	for _, test := range []struct {
		voters  []NodeID
		members int
	}{{[]NodeID{"a", "b"}, 2}, {[]NodeID{"a"}, 1}, {nil, 1}} {
		next, _, err := remove.Apply(s, Facts{Voters: test.voters})
		if err != nil || len(next.Members) != test.members {
			t.Errorf("while %v vote, the members are %v, %v", test.voters, next.Members, err)
		}
		if len(Voters(next)) != 1 {
			t.Errorf("%v are to vote", Voters(next))
		}
	}
}
