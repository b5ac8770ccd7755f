package failover

import "slices"

// satisfiedBy says whether one of these sealed answers holds everything that was ever acknowledged by the
// rule. It is one of:
//
//   - the rule's leader: it appends and flushes what it acknowledges;
//   - a node whose log has reached a later epoch: the leader of that one began with everything acknowledged before;
//   - so many Members that any K of them include one.
//
// With more of K than there are Members nothing was acknowledged by the rule; one answer is asked for all the same.
func (r Rule) satisfiedBy(answers []Observation) bool {
	members := 0
	for _, a := range answers {
		if a.Node == r.Leader || a.Position.Epoch > r.Epoch {
			return true
		}
		if slices.Contains(r.Members, a.Node) {
			members++
		}
	}
	return r.K > 0 && members >= r.needed()
}

// needed is how many of Members must answer if the leader does not.
func (r Rule) needed() int { return max(1, len(r.Members)-r.K+1) }

// neverUsed says whether its leader answers that it has not begun the epoch. It has promised a later one, so it
// will not: nothing was or will be acknowledged by the rule.
func (r Rule) neverUsed(answers []Observation) bool {
	return slices.ContainsFunc(answers, func(a Observation) bool {
		return a.Node == r.Leader && a.Position.Epoch < r.Epoch
	})
}

// same says whether two rules of one leader acknowledge alike.
func (r Rule) same(o Rule) bool {
	return r.K == o.K && r.First == o.First && r.Lossy == o.Lossy && slices.Equal(r.Members, o.Members)
}

// alone says whether the leader acknowledges by itself and nobody else may lead.
func (r Rule) alone() bool { return r.K == 0 && !r.Lossy }

// names says whether the rule needs the node: as leader or as one of Members.
func (r Rule) names(id NodeID) bool { return r.Leader == id || slices.Contains(r.Members, id) }

// newest is the rule that the leader acknowledges by; ok is false in a cluster that never had a leader.
func (s State) newest() (Rule, bool) {
	if len(s.Rules) == 0 {
		return Rule{}, false
	}
	return s.Rules[len(s.Rules)-1], true
}

// lossless says whether the answers satisfy every rule, and enough whether they do as far as rules that are
// not Lossy go.
func (s State) lossless(answers []Observation) bool { return s.unsatisfied(answers, true) == nil }
func (s State) enough(answers []Observation) bool   { return s.unsatisfied(answers, false) == nil }

// unsatisfied is the first rule for which the answers do not do, with or without those that are Lossy. A cluster that
// never had a leader wants one answer.
func (s State) unsatisfied(answers []Observation, lossy bool) *Rule {
	if len(answers) == 0 && len(s.Rules) == 0 {
		return &Rule{}
	}
	for i, r := range s.Rules {
		if r.Lossy && !lossy {
			continue
		}
		if !r.satisfiedBy(answers) {
			return &s.Rules[i]
		}
	}
	return nil
}

// rotated is the rule of a new leader: that of the one before, with the two in each other's place. Nodes that are
// leaving are left out as long as K others remain.
func (s State) rotated(to NodeID) Rule {
	last, _ := s.newest()
	r := Rule{ID: last.ID + 1, Leader: to, Epoch: s.Epoch, K: last.K, First: last.First, Lossy: last.Lossy}
	for _, id := range append(slices.Clone(last.Members), last.Leader) {
		if m, ok := s.member(id); ok && id != to && !m.Witness {
			r.Members = append(r.Members, id)
		}
	}
	staying := slices.DeleteFunc(slices.Clone(r.Members), func(id NodeID) bool {
		m, _ := s.member(id)
		return m.Leaving
	})
	if len(staying) >= r.K {
		r.Members = staying
	}
	return r
}
