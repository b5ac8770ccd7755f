package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// watch looks after a cluster that has a leader.
func (d *decision) watch() {
	leader := d.facts.look(d.Leader)
	m, _ := d.member(d.Leader)
	leads := d.leads()
	switch {
	case leads && !d.Began.IsZero():
		d.finish(leader)
		return
	case !d.Began.IsZero():
		d.expectBeginning(m, leader)
		return
	}
	if fault, ok := d.fault(m, leader); ok {
		d.depose(fault)
		return
	}
	if !leads {
		return
	}
	if d.changeRules(leader) || d.switchOver(leader) {
		return
	}
	d.letGo()
}

// leads says whether the appointed leader does, as far as the coordinator hears.
func (d *decision) leads() bool {
	m, _ := d.member(d.Leader)
	o := d.facts.look(d.Leader)
	return d.Phase == Leading && d.up(o) && o.Disk == m.Disk && o.Leading == d.Epoch
}

// finish ends an election: its leader leads.
func (d *decision) finish(leader Observation) {
	d.happened(PromotionEvent, d.Leader, "%s leads epoch %d: %s", d.name(d.Leader), d.Epoch, d.Cause)
	if d.Switchover != nil && (d.Switchover.Paused || d.Switchover.To == d.Leader) {
		if d.Switchover.To == d.Leader {
			d.happened(SwitchoverEvent, d.Leader, "switched over to %s", d.name(d.Leader))
		} else {
			d.happened(SwitchoverEvent, d.Leader, "the switchover to %s did not succeed: %s leads", d.name(d.Switchover.To), d.name(d.Leader))
		}
		d.Switchover = nil
	}
	d.Forced, d.Tried, d.Cause, d.Began = nil, nil, "", time.Time{}
}

// expectBeginning waits for a leader that was appointed to lead.
func (d *decision) expectBeginning(m Member, leader Observation) {
	name := d.name(d.Leader)
	switch {
	case leader.heard() && leader.Disk != m.Disk:
		d.begin(name+" has another disk than the cluster knows", d.Leader)
	case d.seen(leader) && leader.Failed != "":
		d.begin(name+" could not lead: "+leader.Failed, d.Leader)
	case leader.Refused:
		d.begin(name+" stopped before it led", d.Leader)
	case !d.up(leader) && !d.unknown(leader):
		d.begin(name+" fell silent before it led", d.Leader)
	case d.restarted(leader):
		d.begin(name + " restarted as it began to lead")
	case d.facts.Electing >= d.Settings.StallTimeout:
		d.begin(fmt.Sprintf("%s has not begun to lead after %s", name, short(d.facts.Electing)), d.Leader)
	}
}

// restarted says whether the leader has led its epoch and does not any more: it cannot begin it twice. While
// it begins, its epoch-start entry may be there for a moment before it leads.
func (d *decision) restarted(leader Observation) bool {
	return d.seen(leader) && leader.Position.Epoch == d.Epoch && leader.Leading != d.Epoch &&
		d.facts.Electing >= d.Settings.FailoverTimeout/2
}

// fault is a reason to replace the leader.
type fault struct {
	cause string
	// gone: it does not lead whatever is decided. Otherwise replacing it costs something and FailoverPause applies.
	gone bool
	// well: it could be elected again.
	well bool
	// unheard: but another one would do better, since the followers do not hear it.
	unheard bool
}

// fault finds the reason to replace the leader, if there is one. A leader that enough followers hear is not replaced
// because the coordinator does not, nor one that the coordinator hears because one follower does not.
func (d *decision) fault(m Member, leader Observation) (f fault, ok bool) {
	name := d.name(d.Leader)
	ears := d.listen()
	rule, _ := d.newest()
	timeout := d.Settings.FailoverTimeout
	unheard := leader.Silence >= timeout && ears.hear < max(rule.K, 1)
	switch {
	case leader.heard() && leader.Disk != m.Disk:
		return fault{cause: name + " came back with another disk", gone: true}, true
	case d.seen(leader) && leader.Failed != "" && leader.Leading != d.Epoch:
		return fault{cause: name + " stopped leading: " + leader.Failed, gone: true, well: true, unheard: len(ears.deaf) > rule.K}, true
	case d.restarted(leader):
		return fault{cause: name + " restarted", gone: true, well: true}, true
	case leader.Refused && ears.streams == 0:
		return fault{cause: name + " is down: its machine refuses connections", gone: true}, true
	case unheard && ears.hear == 0:
		return fault{cause: fmt.Sprintf("%s has been silent for %s, and nobody hears it", name, short(leader.Silence)), gone: true}, true
	case unheard:
		return fault{cause: fmt.Sprintf("%s has been silent for %s, and only %d of the %d followers that it needs hear it", name,
			short(leader.Silence), ears.hear, rule.K)}, true
	case rule.K > 0 && ears.hear < rule.K && len(ears.deaf) > rule.K:
		return fault{cause: fmt.Sprintf("%s is there, but %s hear nothing from it", name, strings.Join(d.nameAll(ears.deaf), " and "))}, true
	case rule.K > 0 && d.up(leader) && leader.Deaf >= timeout && ears.up > rule.K:
		return fault{cause: fmt.Sprintf("%s has heard too few of its standbys for %s, and they are there", name, short(leader.Deaf))}, true
	case d.up(leader) && leader.Stalled >= d.Settings.StallTimeout:
		return fault{cause: fmt.Sprintf("the disk of %s has not answered for %s", name, short(leader.Stalled))}, true
	}
	return fault{}, false
}

// ears are what followers say of the leader.
type ears struct {
	hear    int      // have heard it within FailoverTimeout, or could have for all that is known
	streams int      // are connected to it, or could be
	deaf    []NodeID // have heard it once and do not any more
	up      int      // are there
}

// listen asks the followers that the newest rule counts; all of them if it counts none.
//
// More than K deaf ones replace a leader that can be reached: one of them can lead with K others. Fewer
// could not acknowledge either, unless the leader helped: it is one broken link.
func (d *decision) listen() ears {
	var e ears
	rule, _ := d.newest()
	for _, m := range d.Members {
		if m.Witness || m.ID == d.Leader {
			continue
		}
		o := d.facts.look(m.ID)
		counts := rule.K == 0 || slices.Contains(rule.Members, m.ID)
		switch {
		case d.unknown(o):
			e.streams++
			if counts {
				e.hear++
			}
			continue
		case !d.up(o):
			continue
		}
		if counts {
			e.up++
		}
		if o.Upstream != d.Leader {
			continue
		}
		if o.Streaming {
			e.streams++
		}
		switch {
		case !counts || o.Heard < 0:
		case o.Heard+o.Silence < d.Settings.FailoverTimeout:
			e.hear++
		case o.Heard >= d.Settings.FailoverTimeout:
			e.deaf = append(e.deaf, m.ID)
		}
	}
	return e
}

// depose starts an election, provided that it can end: a leader that is cut off leads on until there is somebody
// to take its place, and after a total outage the State stays as it is until enough nodes are back.
func (d *decision) depose(f fault) {
	if d.Settings.Manual && !f.well {
		return
	}
	if since := d.facts.Now.Sub(d.LastFailover); !f.gone && since >= 0 && since < d.Settings.FailoverPause {
		return
	}
	without := []NodeID{d.Leader}
	if f.well && (!f.unheard || !d.couldElect(without)) {
		without = nil
	}
	if d.couldElect(without) {
		d.begin(f.cause, without...)
	}
}

// couldElect says whether those that are up could elect somebody.
func (d *decision) couldElect(without []NodeID) bool {
	prospects := d.prospects(without...)
	if !d.enough(prospects) {
		return false
	}
	return slices.ContainsFunc(prospects, func(o Observation) bool { return d.whyNot(o) == "" })
}

// letGo ends the membership of nodes that were asked to go and that nothing depends on any more.
func (d *decision) letGo() {
	for _, m := range slices.Clone(d.Members) {
		if m.Leaving && !d.needs(m.ID) {
			d.remove(m)
		}
	}
}

// needs says whether somebody depends on a node. A vote does: if a node were stopped whose vote still counts, those that
// stay might be too few to decide anything.
func (d *decision) needs(id NodeID) bool {
	return slices.Contains(d.facts.Voters, id) || id == d.Leader || id == d.Candidate || id == d.Source || slices.ContainsFunc(d.Rules, func(r Rule) bool { return r.names(id) })
}

func (d *decision) remove(m Member) {
	d.happened(RemoveEvent, m.ID, "%s left the cluster", m.Name)
	d.Members = slices.DeleteFunc(d.Members, func(o Member) bool { return o.ID == m.ID })
	d.Tried = slices.DeleteFunc(d.Tried, func(id NodeID) bool { return id == m.ID })
	if d.Switchover != nil && d.Switchover.To == m.ID {
		d.Switchover = nil
		d.happened(SwitchoverEvent, m.ID, "the switchover to %s is off", m.Name)
	}
}
