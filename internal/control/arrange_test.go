package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
)

// parseServers reads "a1! b1 c2": nodes and their stores, those that vote with an exclamation mark; an address that is
// not the node's own stands after an @.
func parseServers(text string) (all []raft.Server) {
	for _, word := range strings.Fields(text) {
		word, at, moved := strings.Cut(word, "@")
		name, votes := strings.CutSuffix(word, "!")
		s := server{failover.NodeID(name[:1]), name[1:]}
		r := raft.Server{Suffrage: raft.Nonvoter, ID: s.id(), Address: s.at(name[:1] + ":1")}
		if moved {
			r.Address = s.at(at)
		}
		if votes {
			r.Suffrage = raft.Voter
		}
		all = append(all, r)
	}
	return all
}

func (c change) String() string {
	s, address, _ := parseAddress(c.Address)
	name := string(s.node) + s.store
	switch c.kind {
	case add:
		if c.Suffrage == raft.Voter {
			name += "!"
		}
		return fmt.Sprintf("add %s at %s", name, address)
	case demote:
		return "demote " + name
	case remove:
		return "remove " + name
	case move:
		return "move to " + name
	}
	return "nothing"
}

func TestNextChangeOfServers(t *testing.T) {
	for _, test := range []struct {
		name    string
		servers string // as Raft has them; a1 coordinates
		members string
		voters  string
		stores  string // that are known, with who is not heard in brackets
		want    string
	}{
		{"as it should be", "a1! b1! c1!", "abc", "abc", "a1 b1 c1", "nothing"},
		{"a new member listens before it votes", "a1!", "ab", "ab", "a1 b1", "add b1 at b:1"},
		{"then it votes", "a1! b1", "ab", "ab", "a1 b1", "add b1! at b:1"},
		{"who is not there does not become a voter", "a1! b1", "ab", "ab", "a1 (b1)", "nothing"},
		{"a member that was never heard is not added", "a1!", "ab", "ab", "a1", "nothing"},
		{"who should not vote listens", "a1! b1", "ab", "a", "a1 b1", "nothing"},
		{"who should not vote any more", "a1! b1! c1!", "abc", "ac", "a1 b1 c1", "demote b1"},
		{"even if it is not there", "a1! b1! c1!", "abc", "ac", "a1 (b1) c1", "demote b1"},
		{"somebody else votes first", "a1! b1! c1", "abc", "ac", "a1 b1 c1", "add c1! at c:1"},
		{"somebody has to vote", "a1!", "ab", "b", "a1", "nothing"},
		{"the coordinator should not vote", "a1! b1! c1!", "abc", "bc", "a1 b1 c1", "move to b1"},
		{"the coordinator is no member", "a1! b1! c1!", "bc", "bc", "b1 c1", "move to b1"},
		{"but nobody else is there", "a1! b1! c1!", "bc", "bc", "(b1) (c1)", "nothing"},
		{"no member any more", "a1! b1! c1!", "ac", "ac", "a1 c1", "remove b1"},
		{"a store that is gone", "a1! b1! c1!", "abc", "abc", "a1 b2 c1", "remove b1"},
		{"goes before its successor comes", "a1! b1 b2 c1!", "abc", "abc", "a1 b2 c1", "remove b1"},
		{"an address that changed", "a1! b1!@x:1 c1!", "abc", "abc", "a1 b1 c1", "add b1! at b:1"},
		{"of one that does not vote", "a1! b1@x:1 c1!", "abc", "ac", "a1 b1 c1", "add b1 at b:1"},
		{"something else", "a1! ?", "a", "a", "a1", "remove ?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := wanted{self: server{"a", "1"}, stores: map[failover.NodeID]string{}}
			for _, m := range test.members {
				w.state.Members = append(w.state.Members, failover.Member{ID: failover.NodeID(m), PeerAddr: string(m) + ":1"})
			}
			for _, v := range test.voters {
				w.voters = append(w.voters, failover.NodeID(v))
			}
			var away []failover.NodeID
			for _, word := range strings.Fields(test.stores) {
				name, gone := strings.CutPrefix(strings.TrimSuffix(word, ")"), "(")
				if gone {
					away = append(away, failover.NodeID(name[:1]))
				}
				w.stores[failover.NodeID(name[:1])] = name[1:]
			}
			w.recent = func(id failover.NodeID) bool { return w.stores[id] != "" && !slices.Contains(away, id) }
			if got := nextChange(parseServers(test.servers), w).String(); got != test.want {
				t.Errorf("it is %q, want %q", got, test.want)
			}
		})
	}
}
