package failover

import (
	"fmt"
	"slices"
	"strings"
)

// maxRules bounds the list: a leader that keeps changing its mind before anything is settled waits.
const maxRules = 16

// changeRules drops the rules that the leader has settled, and appends the one that it wants. Whatever it wants is
// safe, since nothing leaves the list before it is settled.
func (d *decision) changeRules(leader Observation) bool {
	for i, r := range d.Rules {
		if i > 0 && r.ID == leader.Settled && r.Epoch == d.Epoch {
			d.Rules = d.Rules[i:]
			d.happened(RuleEvent, d.Leader, "everything acknowledged is acknowledged by: %s", d.words(r))
			return true
		}
	}
	want, last := leader.Want, d.Rules[len(d.Rules)-1]
	if want == nil || leader.Seen != d.Version || want.same(last) || !d.valid(*want) {
		return false
	}
	if len(d.Rules) >= maxRules && !want.alone() || d.Switchover != nil && d.Switchover.Paused {
		return false
	}
	rule := Rule{
		ID: last.ID + 1, Leader: d.Leader, Epoch: d.Epoch,
		Members: slices.Clone(want.Members), K: want.K, First: want.First, Lossy: want.Lossy,
	}
	d.Rules = append(d.Rules, rule)
	kind := RuleEvent
	switch {
	case rule.alone() && !last.alone():
		kind = DegradeEvent
	case last.alone() && !rule.alone():
		kind = ReturnEvent
	}
	d.happened(kind, d.Leader, "commits are acknowledged by: %s", d.words(rule))
	return true
}

// valid says whether a rule that a leader wants makes sense: its Members are others that hold data.
func (d *decision) valid(r Rule) bool {
	if r.K < 0 || r.Lossy && r.K > 0 {
		return false
	}
	for i, id := range r.Members {
		m, ok := d.member(id)
		if !ok || m.Witness || id == d.Leader || slices.Contains(r.Members[:i], id) {
			return false
		}
	}
	return true
}

// words spells a rule for people.
func (s State) words(r Rule) string {
	leader := s.name(r.Leader)
	switch {
	case r.Lossy:
		return leader + " alone (asynchronous)"
	case r.K == 0:
		return leader + " alone"
	}
	method := "ANY"
	if r.First {
		method = "FIRST"
	}
	return fmt.Sprintf("%s and %s %d (%s)", leader, method, r.K, strings.Join(s.nameAll(r.Members), ", "))
}
