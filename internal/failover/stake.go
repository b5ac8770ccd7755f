package failover

import (
	"fmt"
	"slices"
	"strings"
)

// atStake says what might be lost if those that are up elected somebody now: which nodes that do not answer may
// hold commits that nobody else has. It is "" if it can be shown that nothing would be.
func (d *decision) atStake(without ...NodeID) string {
	prospects := d.prospects(without...)
	rule := d.unsatisfied(prospects, true)
	if rule == nil {
		return ""
	}
	if rule.Leader == "" {
		return "nobody who holds data answers"
	}
	var absent []string
	for _, id := range append([]NodeID{rule.Leader}, rule.Members...) {
		if !slices.ContainsFunc(prospects, func(o Observation) bool { return o.Node == id }) {
			absent = append(absent, d.name(id))
		}
	}
	names := strings.Join(absent, ", ")
	switch {
	case rule.Lossy:
		return fmt.Sprintf("commits that %s acknowledged alone and no other node has", d.name(rule.Leader))
	case rule.K == 0:
		return fmt.Sprintf("%s acknowledged commits alone, without standbys: everything since it began to may be lost", d.name(rule.Leader))
	}
	return fmt.Sprintf("any of %s may hold the last acknowledged commits", names)
}
