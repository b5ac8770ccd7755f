package pool

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// nodes reads "name load lag flags…", one node a comma.
func nodes(t *testing.T, list string) []Node {
	t.Helper()
	var all []Node
	for _, text := range strings.Split(list, ",") {
		n := Node{Up: true, Data: true, Reads: true, Welcome: 1}
		var lag string
		if _, err := fmt.Sscan(text, &n.Name, &n.Load, &lag); err != nil {
			t.Fatal(err)
		}
		if lag == "?" {
			n.Unsure, n.Lag = true, -1
		} else if d, err := time.ParseDuration(lag); err != nil {
			t.Fatal(err)
		} else {
			n.Lag = d
		}
		n.Places = n.Load
		for _, flag := range strings.Fields(text)[3:] {
			switch flag {
			case "down":
				n.Up = false
			case "witness":
				n.Data = false
			case "leader":
				n.Leads = true
			case "hidden":
				n.Hidden = true
			case "suspect":
				n.Suspect = true
			case "out":
				n.Reads = false
			case "unwelcome":
				n.Welcome = 0
			default:
				t.Fatal(flag)
			}
		}
		all = append(all, n)
	}
	return all
}

func TestChoose(t *testing.T) {
	least := Rule{Prefer: LeastLoad, MaxLag: 10 * time.Second}
	lag := Rule{Prefer: LeastLag, MaxLag: 10 * time.Second}
	full := Rule{Prefer: LeastLoad, MaxLag: 10 * time.Second, Places: 3}
	any := Rule{Prefer: LeastLoad}
	nobody := Rule{Prefer: LeastLoad, MaxLag: 10 * time.Second, Leaderless: true}
	for _, test := range []struct {
		name   string
		nodes  string
		rule   Rule
		turn   int
		moving bool
		want   string // "" is nobody
	}{
		{"the one with fewer sessions", "a 5 0s, b 4 1s, c 6 0s", least, 0, false, "b"},
		{"the one that lags less", "a 5 1s, b 4 2s, c 6 900ms", lag, 0, false, "c"},
		{"lags alike: the load", "a 5 101ms, b 4 119ms, c 6 110ms", lag, 0, false, "b"},
		{"loads alike: the lag", "a 4 3s, b 4 2s", least, 0, false, "b"},
		{"all alike: in turn", "a 1 0s, b 1 0s, c 1 0s", least, 2, false, "c"},
		{"never the leader", "a 0 0s leader, b 9 1s", least, 0, false, "b"},
		{"no witness", "a 0 0s witness, b 9 1s", least, 0, false, "b"},
		{"not a hidden one", "a 0 0s hidden, b 9 1s", least, 0, false, "b"},
		{"none that does not answer", "a 0 0s down, b 9 1s", least, 0, false, "b"},
		{"none that could not be connected to", "a 0 0s suspect, b 9 1s", least, 0, false, "b"},
		{"none that lags too far", "a 0 11s, b 9 1s", least, 0, false, "b"},
		{"none whose lag is not known", "a 0 ?, b 9 1s", least, 0, false, "b"},
		{"at the limit it stays", "a 0 10s", least, 0, false, "a"},
		{"and comes back at half of it", "a 0 6s out", least, 0, false, ""},
		{"which it has reached", "a 0 5s out", least, 0, false, "a"},
		{"any lag", "a 0 1h, b 1 ?", any, 0, false, "a"},
		{"all lag", "a 0 11s, b 9 12s, c 0 0s leader", least, 0, false, ""},
		{"a full one", "a 3 0s, b 2 9s, c 3 0s", full, 0, false, "b"},
		{"all full", "a 3 0s, b 3 9s", full, 0, false, ""},
		{"without a leader nobody is asked how far behind", "a 0 20s, b 9 15s", nobody, 0, false, "b"},
		{"but hidden ones stay hidden", "a 0 20s hidden", nobody, 0, false, ""},
		{"who has another place waits for his turn", "a 0 0s unwelcome, b 9 1s", least, 0, true, "b"},
		{"who has none does not", "a 0 0s unwelcome, b 9 1s", least, 0, false, "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := nodes(t, test.nodes)
			got := ""
			if i := Choose(all, test.rule, test.turn, test.moving); i >= 0 {
				got = all[i].Name
			}
			if got != test.want {
				t.Errorf("%q, not %q", got, test.want)
			}
		})
	}
}

func TestCrowded(t *testing.T) {
	least := Rule{Prefer: LeastLoad, MaxLag: 10 * time.Second}
	for _, test := range []struct {
		name  string
		nodes string // the first is asked about
		rule  Rule
		want  bool
	}{
		{"one has come back", "a 10 0s, b 0 0s", least, true},
		{"as many elsewhere", "a 10 0s, b 9 0s", least, false},
		{"a quarter more", "a 11 0s, b 8 0s", least, false},
		{"more than that", "a 12 0s, b 8 0s", least, true},
		{"the other one takes nobody now", "a 12 0s, b 0 0s unwelcome", least, false},
		{"the other one lags", "a 12 0s, b 0 11s", least, false},
		{"by lag nobody moves", "a 12 0s, b 0 0s", Rule{Prefer: LeastLag}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Crowded(nodes(t, test.nodes), test.rule, 0); got != test.want {
				t.Errorf("%v", got)
			}
		})
	}
}
