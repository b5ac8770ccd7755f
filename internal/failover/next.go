package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"skein/internal/history"
)

// Next gives the State that should follow, and what to tell about it; ok is false if s is to stay. It does one
// thing at a time: it is asked again with what it gave.
func Next(s State, f Facts) (next State, events []Event, ok bool) {
	d := newDecision(s, f)
	switch d.Phase {
	case Leading:
		d.watch()
	case CatchingUp:
		d.catchUp()
	default: // Electing, and a State that a newer version made
		d.elect()
	}
	if !d.changed {
		return s, nil, false
	}
	d.Version++
	return d.State, d.events, true
}

// decision is one application of Next, or of a Command: a State that is being changed, and why.
type decision struct {
	State
	facts   Facts
	events  []Event
	changed bool
}

func newDecision(s State, f Facts) *decision { return &decision{State: s.Clone(), facts: f} }

// Clone shares nothing with s.
func (s State) Clone() State {
	s.Members = slices.Clone(s.Members)
	s.Tried = slices.Clone(s.Tried)
	s.Losses = slices.Clone(s.Losses)
	s.Rules = slices.Clone(s.Rules)
	for i := range s.Rules {
		s.Rules[i].Members = slices.Clone(s.Rules[i].Members)
	}
	if s.Switchover != nil {
		o := *s.Switchover
		s.Switchover = &o
	}
	if s.Forced != nil {
		o := *s.Forced
		s.Forced = &o
	}
	return s
}

// NewCluster is the first State of a cluster of one node.
func NewCluster(first Member) State {
	return State{
		Version: 1, Members: []Member{first}, Epoch: 1, Phase: Electing, Cause: "the cluster is new",
		Settings: DefaultSettings(),
	}
}

func (s State) member(id NodeID) (Member, bool) {
	i := slices.IndexFunc(s.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return s.Members[i], true
}

// name is a node's for people; that of one that is no member is its ID.
func (s State) name(id NodeID) string {
	if m, ok := s.member(id); ok && m.Name != "" {
		return m.Name
	}
	return string(id)
}

// look is what the coordinator knows of a node. One that it has never heard has been silent since it began.
func (f Facts) look(id NodeID) Observation {
	i := slices.IndexFunc(f.Nodes, func(o Observation) bool { return o.Node == id })
	if i < 0 {
		return Observation{Report: Report{Node: id}, Silence: f.Elapsed}
	}
	return f.Nodes[i]
}

// heard says whether the coordinator has had a report.
func (o Observation) heard() bool { return o.Incarnation != 0 }

// up says whether the node was heard of late.
func (s State) up(o Observation) bool {
	return o.heard() && !o.Refused && o.Silence < s.Settings.FailoverTimeout
}

// unknown says whether the coordinator has not been one for long enough to say anything about the node.
func (s State) unknown(o Observation) bool {
	return !o.heard() && !o.Refused && o.Silence < s.Settings.FailoverTimeout
}

// seen says whether the node's report is about this very State.
func (s State) seen(o Observation) bool { return o.heard() && o.Seen >= s.Version }

// happened tells an event and makes the decision one that changes something.
func (d *decision) happened(kind EventKind, id NodeID, format string, args ...any) {
	d.changed = true
	e := Event{At: d.facts.Now, Kind: kind, Epoch: d.Epoch, Node: d.name(id), Text: fmt.Sprintf(format, args...)}
	if o := d.facts.look(id); o.heard() {
		e.Position = o.Position
	}
	if !d.Began.IsZero() {
		e.Took = max(0, d.facts.Now.Sub(d.Began))
	}
	d.events = append(d.events, e)
}

// begin starts an attempt to appoint somebody: an epoch above all that anybody has promised or led.
func (d *decision) begin(cause string, tried ...NodeID) {
	d.Epoch = max(d.Epoch, d.seenEpoch()) + 1
	d.Phase = Electing
	d.Candidate, d.Source, d.Goal = "", "", history.Position{}
	d.Cause = cause
	for _, id := range tried {
		if !slices.Contains(d.Tried, id) {
			d.Tried = append(d.Tried, id)
		}
	}
	if d.Began.IsZero() {
		d.Began = d.facts.Now
	}
	d.happened(ElectionEvent, d.Leader, "%s", cause)
}

// seenEpoch is the highest that a member has promised or written in. It is above the State's if a node with a past
// of its own has become a cluster.
func (d *decision) seenEpoch() history.Epoch {
	var e history.Epoch
	for _, m := range d.Members {
		if o := d.facts.look(m.ID); o.heard() && o.Disk == m.Disk {
			e = max(e, o.Promise, o.Position.Epoch)
		}
	}
	return e
}

// names lists nodes for people.
func (s State) nameAll(ids []NodeID) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = s.name(id)
	}
	return names
}

// short spells a duration for people.
func short(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Millisecond).String()
	}
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		return strings.TrimSuffix(text, "0s")
	}
	return text
}
