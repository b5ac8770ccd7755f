package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryStateHasATransitionForEveryInput holds G17: whatever a State of any phase meets, Next and Apply give one that is
// valid, end, and do not change what they were given.
func TestEveryStateHasATransitionForEveryInput(t *testing.T) {
	inputs := []string{
		"tick 10s", "die n1 refused", "die n2", "die n1 n2 n3", "start n1", "start n2", "silence n3 10s", "coordinator", "forget n2",
		"report n1 failed=no-space seen=99", "report n2 failed=no-space seen=99", "report n1 disk=new", "report n2 disk=new",
		"report n2 tainted=a-torn-tail", "report n2 ready=no", "report n1 stalled=1m", "report n1 deaf=1m", "report n1 leading=0",
		"report n2 promise=90", "report n2 pos=90/9", "report n2 pos=0/0", "report n1 paused=yes seen=99", "report n1 settled=8",
		"lease held", "want n1 alone", "want n2 any 1 n1 n3", "want n1 lossy", "switchover to=n2", "switchover", "cancel", "force n2",
		"force n2 accept-data-loss", "join n9", "join n2 id=n2b", "join n2 disk=new", "remove n1", "remove n2", "remove n3",
		"set n2 never_leader=on", "set n2 delay=1h", "config failover=manual", "config failover_timeout=5s", "obey", "obey n2",
	}
	stages := map[string][]string{
		"a new cluster":        {"members n1 n2 n3"},
		"leading":              {"members n1 n2 n3", "leading n1 any 1 n2 n3"},
		"two rules":            {"members n1 n2 n3", "leading n1 any 1 n2 n3", "want n1 any 2 n2 n3", "next"},
		"on its own":           {"members n1 n2 n3", "leading n1 alone"},
		"asynchronous":         {"members n1 n2 n3", "leading n1 lossy"},
		"switchover asked for": {"members n1 n2 n3", "leading n1 any 1 n2 n3", "report n2 streaming=no", "switchover to=n2"},
		"writes wait":          {"members n1 n2 n3", "leading n1 any 1 n2 n3", "switchover to=n2", "next"},
		"electing":             {"members n1 n2 n3", "leading n1 any 1 n2 n3", "die n1 refused", "next"},
		"handing over":         {"members n1 n2 n3", "leading n1 any 1 n2 n3", "switchover to=n2", "next", "obey", "next"},
		"catching up":          {"members n1 n2 n3:never-leader", "leading n1 any 1 n2 n3", "write 4 n1 n3", "die n1 refused", "next", "obey", "report n2 pos=4/100", "next"},
		"appointed":            {"members n1 n2 n3", "leading n1 any 1 n2 n3", "die n1 refused", "next", "obey", "next"},
		"forced":               {"members n1 n2 n3", "leading n1 any 1 n2 n3", "die n1 n3 refused", "force n2 accept-data-loss"},
		"leaving":              {"members n1 n2 n3", "leading n1 any 1 n2 n3", "remove n2"},
	}
	for name, stage := range stages {
		for _, first := range inputs {
			for _, second := range append(inputs, "") {
				story := append(slices.Clone(stage), first, "next", second, "next", "obey", "next")
				if err := play(story); err != nil {
					t.Errorf("%s: %q, then %q: %v", name, first, second, err)
				}
			}
		}
	}
}

// play runs a story. That of every State its successors are valid and Next ends is checked by world.
func play(story []string) error {
	w := newWorld()
	for _, line := range story {
		if line == "" {
			continue
		}
		given := w.state
		before := describe(given)
		if err := w.run(fields(line)); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if describe(given) != before {
			return fmt.Errorf("%s changed the State that it was given", line)
		}
	}
	Explain(w.state, w.facts)
	return nil
}

// TestReturnInEveryOrder holds G08: after a total outage nodes return one after the other. As soon as one may be elected it is,
// and it has what was acknowledged.
func TestReturnInEveryOrder(t *testing.T) {
	// n1 led, and everything up to 4/105 was acknowledged by n1 and n3. n4 is outside of the sync set.
	enough := func(back []string) bool {
		return slices.Contains(back, "n1") || slices.Contains(back, "n2") && slices.Contains(back, "n3")
	}
	for _, order := range permutations([]string{"n1", "n2", "n3", "n4"}) {
		w := newWorld()
		do := func(lines ...string) {
			for _, line := range lines {
				if err := w.run(fields(line)); err != nil {
					t.Fatalf("%v: %s: %v", order, line, err)
				}
			}
		}
		do("members n1 n2 n3 n4", "leading n1 any 1 n2 n3", "write 5 n1 n3", "die n1 n2 n3 n4", "tick 1m")
		for i, id := range order {
			do("start "+id, "go", "tick 10s", "go", "tick 10s", "go", "tick 10s", "go")
			back := order[:i+1]
			leads := w.state.Phase == Leading && w.node(w.state.Leader).Leading == w.state.Epoch && !w.dead[w.state.Leader]
			if leads != enough(back) {
				t.Errorf("%v: with %v back, somebody leads: %t\n%s", order, back, leads, describe(w.state))
			}
			if leads && w.node(w.state.Leader).Position.LSN < 106 {
				t.Errorf("%v: %s leads with %s", order, w.state.Leader, w.node(w.state.Leader).Position)
			}
			do("settle")
		}
	}
}

func fields(line string) []string { return strings.Fields(line) }

func permutations(names []string) [][]string {
	if len(names) <= 1 {
		return [][]string{names}
	}
	var all [][]string
	for i := range names {
		rest := slices.Delete(slices.Clone(names), i, i+1)
		for _, p := range permutations(rest) {
			all = append(all, append([]string{names[i]}, p...))
		}
	}
	return all
}

// TestWhatCanBeSurvived is the table of followers and k: answers that are needed, standbys that may fail while writes go on, and
// nodes that may fail together without loss and without an operator. Witnesses keep the majority.
func TestWhatCanBeSurvived(t *testing.T) {
	for _, test := range []struct{ n, k, answers, writes, survives int }{
		{1, 1, 1, 0, 1},
		{2, 1, 2, 1, 1},
		{2, 2, 1, 0, 2},
		{3, 1, 3, 2, 1},
		{3, 2, 2, 1, 2},
		{4, 2, 3, 2, 2},
	} {
		w := newWorld()
		members, standbys := "members n1", ""
		for i := range test.n {
			members += fmt.Sprintf(" n%d", i+2)
			standbys += fmt.Sprintf(" n%d", i+2)
		}
		members += " w1:witness w2:witness w3:witness w4:witness w5:witness"
		for _, line := range []string{members, fmt.Sprintf("leading n1 any %d%s", test.k, standbys)} {
			if err := w.run(fields(line)); err != nil {
				t.Fatal(err)
			}
		}
		e := Explain(w.state, w.facts)
		data := survivesOfData(w)
		if got := w.state.Rules[0].needed(); got != test.answers || e.WritesSurvive != test.writes || data != test.survives {
			t.Errorf("n = %d, k = %d: %d answers, writes survive %d, %d nodes survived; want %+v", test.n, test.k, got, e.WritesSurvive, data, test)
		}
	}
}

// survivesOfData is Explanation.Survives if no witness fails.
func survivesOfData(w *world) int {
	d := newDecision(w.state, w.facts)
	var data []NodeID
	for _, m := range d.Members {
		if !m.Witness {
			data = append(data, m.ID)
		}
	}
	worst := len(data)
	for set := range 1 << len(data) {
		var failed []NodeID
		for i, id := range data {
			if set&(1<<i) != 0 {
				failed = append(failed, id)
			}
		}
		if !d.standsWithout(failed) {
			worst = min(worst, len(failed)-1)
		}
	}
	return worst
}

// TestDecisionsDoNotDependOnTheOrderOfReports: facts come in any order.
func TestDecisionsDoNotDependOnTheOrderOfReports(t *testing.T) {
	w := newWorld()
	for _, line := range []string{"members n1 n2 n3 n4", "leading n1 any 1 n2 n3 n4", "write 2 n1 n4", "die n1 refused", "next", "obey n2 n3 n4", "report n2 pos=4/100"} {
		if err := w.run(fields(line)); err != nil {
			t.Fatal(err)
		}
	}
	w.facts.Electing = time.Second
	want, _, _ := Next(w.state, w.facts)
	slices.Reverse(w.facts.Nodes)
	got, _, _ := Next(w.state, w.facts)
	if describe(got) != describe(want) {
		t.Errorf("in another order\n%s\ninstead of\n%s", describe(got), describe(want))
	}
}
