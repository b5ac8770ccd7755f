package failover

// DutyOf is what a State asks of one node.
func DutyOf(s State, self NodeID) Duty {
	d := Duty{Epoch: s.Epoch, Role: Wait}
	m, ok := s.member(self)
	if !ok || m.Witness {
		return d
	}
	switch {
	case s.Phase == Leading && s.Leader == self:
		d.Role = Lead
		d.Rule, _ = s.newest()
		d.Pause = s.Switchover != nil && s.Switchover.Paused && s.Began.IsZero() // what begins to lead need not stop for what led before
		d.DespiteTaint = s.Forced != nil && s.Forced.DataLoss && s.Forced.To == self
	case s.Phase == Leading:
		d.Role = Follow
		d.Upstream, _ = s.member(s.Leader)
		d.Awaited = s.Switchover != nil && s.Switchover.Paused && s.Switchover.To == self
	case s.Phase == CatchingUp && s.Candidate == self:
		d.Role = Follow
		d.Upstream, _ = s.member(s.Source)
		d.Goal, d.Awaited = s.Goal, true
	}
	return d
}

// maxVoters is how many nodes vote on States. More only make each decision slower.
const maxVoters = 5

// Voters are who votes on States: witnesses, since that is what they are for, and those that joined first. Their
// number is odd from three on: a fourth would let no more of them fail.
func Voters(s State) []NodeID {
	var voters []NodeID
	for _, witness := range []bool{true, false} {
		for _, m := range s.Members {
			if m.Witness == witness && !m.Leaving && len(voters) < maxVoters {
				voters = append(voters, m.ID)
			}
		}
	}
	if len(voters) == 4 {
		voters = voters[:3]
	}
	return voters
}
