package failover

import (
	"time"

	"skein/internal/history"
)

const (
	// maxLag is how many entries the target of a switchover may lack when writes are stopped for it.
	maxLag = 5000
	// maxPause is for how many FailoverTimeouts writes wait at most.
	maxPause = 4
)

// switchOver goes on with an orderly change of leader: wait until it is due and its target is close, have the
// leader stop writes, wait until the target has everything, elect.
func (d *decision) switchOver(leader Observation) bool {
	o := d.Switchover
	if o == nil || d.facts.Now.Before(o.At) {
		return false
	}
	if o.To == d.Leader {
		d.Switchover = nil
		d.happened(SwitchoverEvent, d.Leader, "%s leads already", d.name(d.Leader))
		return true
	}
	if o.Paused {
		return d.handOver(leader)
	}
	if !d.facts.Now.Before(o.Till) {
		_, why := d.target(leader)
		d.giveUp(why)
		return true
	}
	to, why := d.target(leader)
	if why != "" {
		return false
	}
	o.To, o.Paused = to, true
	if till := d.facts.Now.Add(d.longestPause()); o.Till.After(till) {
		o.Till = till
	}
	if d.Began.IsZero() {
		d.happened(SwitchoverEvent, to, "%s stops writes to hand over to %s", d.name(d.Leader), d.name(to))
	}
	return true
}

func (d *decision) longestPause() time.Duration { return maxPause * d.Settings.FailoverTimeout }

// handOver starts the election once the target has everything. A pause that its wall clock would make longer than it was
// meant to be is over.
func (d *decision) handOver(leader Observation) bool {
	o := d.Switchover
	left := o.Till.Sub(d.facts.Now)
	to := d.facts.look(o.To)
	why := d.unfit(o.To)
	switch {
	case why != "":
		d.giveUp(why)
	case left <= 0 || left > d.longestPause():
		d.giveUp(d.notReached(leader, to))
	case d.seen(leader) && leader.Paused && to.Position == leader.Position && to.Flushed >= leader.Position.LSN:
		d.begin("switchover to " + d.name(o.To) + by(o.By))
	default:
		return false
	}
	return true
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return ", asked for by " + who
}

func (d *decision) notReached(leader, to Observation) string {
	if !leader.Paused && leader.Busy != "" {
		return d.name(d.Leader) + " could not stop its writes: " + leader.Busy
	}
	if !leader.Paused {
		return d.name(d.Leader) + " could not stop its writes in time"
	}
	return d.name(to.Node) + " did not get everything in time"
}

func (d *decision) giveUp(why string) {
	to := d.Switchover.To
	d.Switchover = nil
	if to == "" {
		to = d.Leader
	}
	d.happened(SwitchoverEvent, to, "the switchover is given up, %s leads on: %s", d.name(d.Leader), why)
}

// target is who could take over now, or why nobody can.
func (d *decision) target(leader Observation) (NodeID, string) {
	if to := d.Switchover.To; to != "" {
		return to, d.distant(leader, to)
	}
	best, why := Observation{}, "there is nobody else"
	for _, m := range d.Members {
		if m.ID == d.Leader || m.Witness {
			continue
		}
		o := d.facts.look(m.ID)
		reason := d.whyNot(o)
		if reason == "" {
			reason = d.distant(leader, m.ID)
		}
		switch {
		case reason != "" && best.Node == "":
			why = m.Name + ": " + reason
		case reason == "" && (best.Node == "" || d.prefer(o, best)):
			best, why = o, ""
		}
	}
	return best.Node, why
}

// prefer is better, but for the few entries that they are apart.
func (d *decision) prefer(a, b Observation) bool {
	ma, _ := d.member(a.Node)
	mb, _ := d.member(b.Node)
	if ma.Priority != mb.Priority {
		return ma.Priority > mb.Priority
	}
	return b.Position.Less(a.Position)
}

// unfit says why a node cannot take over, "" if it can.
func (d *decision) unfit(id NodeID) string {
	m, ok := d.member(id)
	o := d.facts.look(id)
	name := d.name(id)
	switch {
	case !ok || m.Leaving:
		return name + " is not in the cluster any more"
	case !d.up(o):
		return name + " does not answer"
	case o.Disk != m.Disk:
		return name + " has another disk than the cluster knows"
	case o.Tainted != "":
		return name + " may lack commits: " + o.Tainted
	case !o.Ready:
		return "the databases of " + name + " are not open"
	case o.Stalled > d.Settings.FailoverTimeout:
		return "the disk of " + name + " does not answer"
	}
	return ""
}

// distant says why a node cannot take over at once.
func (d *decision) distant(leader Observation, id NodeID) string {
	if why := d.unfit(id); why != "" {
		return why
	}
	o := d.facts.look(id)
	if o.Upstream != d.Leader || !o.Streaming {
		return d.name(id) + " does not follow " + d.name(d.Leader)
	}
	if lag := d.lag(leader, o); lag > maxLag {
		return d.name(id) + " is far behind"
	}
	return ""
}

// lag is how many entries a follower lacks: by what its leader says, if it does, since the two reports
// are not of one moment.
func (d *decision) lag(leader, o Observation) history.LSN {
	flushed := o.Flushed
	for _, f := range leader.Followers {
		if f.Node == o.Node {
			flushed = max(flushed, f.Flushed)
		}
	}
	return leader.Position.LSN - min(flushed, leader.Position.LSN)
}
