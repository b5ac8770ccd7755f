package pool

import (
	"cmp"
	"time"
)

// Node is what is known of a node when a reader is chosen.
type Node struct {
	Name    string
	Up      bool // it answers, and has done so for a while
	Data    bool // it has some, which can be read
	Leads   bool
	Hidden  bool // of itself or because it shows everything late
	Lag     time.Duration
	Unsure  bool // its lag is not known
	Suspect bool // nobody new is sent there
	Reads   bool // it was chosen from until now
	Load    int  // sessions that it has
	Places  int  // those of them that this router has brought
	Welcome int  // so many sessions may move there now that have another place
}

// Preference says which of the nodes that may be read is read.
type Preference string

// The preferences.
const (
	LeastLoad Preference = "least-load"
	LeastLag  Preference = "least-lag"
)

// Rule says which nodes may be read.
type Rule struct {
	Prefer Preference
	MaxLag time.Duration // of a node that is read; 0: any
	Places int           // of this router at one node; 0: any number
	// Leaderless lifts MaxLag: nobody says then how far behind a node is, and none can get further.
	Leaderless bool
}

// Readable says whether the rule lets n be read, but for how many do. A node that was put out for its lag has to come to half of
// what is allowed before it is back, so that one at the limit does not go in and out.
func (r Rule) Readable(n Node) bool {
	limit := r.MaxLag
	if !n.Reads {
		limit /= 2
	}
	switch {
	case !n.Up, !n.Data, n.Hidden, n.Leads:
		return false
	case r.Leaderless, r.MaxLag == 0:
		return true
	}
	return !n.Unsure && n.Lag <= limit
}

// Choose gives the index of the node that a session reads on from now on, -1 if there is none. Of equals it is the first one
// from turn on. moving is for a session that does not stand in the street.
func Choose(nodes []Node, r Rule, turn int, moving bool) int {
	best := -1
	for k := range nodes {
		i := (turn + k) % len(nodes)
		n := nodes[i]
		if !r.Readable(n) || n.Suspect || r.Places > 0 && n.Places >= r.Places || moving && n.Welcome <= 0 {
			continue
		}
		if best < 0 || r.compare(n, nodes[best]) < 0 {
			best = i
		}
	}
	return best
}

// lagStep is the difference in lag that makes one.
const lagStep = 20 * time.Millisecond

// compare is negative if a is to be preferred.
func (r Rule) compare(a, b Node) int {
	lag := cmp.Compare(a.Lag/lagStep, b.Lag/lagStep)
	load := cmp.Compare(a.Load, b.Load)
	if r.Prefer == LeastLag || r.Leaderless {
		return cmp.Or(lag, load)
	}
	return cmp.Or(load, lag)
}

// Crowded says whether a session should leave nodes[at], where it may read, for another one: a node that has come back
// gets its share. A quarter more than elsewhere is no reason.
func Crowded(nodes []Node, r Rule, at int) bool {
	if r.Prefer != LeastLoad || r.Leaderless {
		return false
	}
	to := Choose(nodes, r, 0, true)
	return to >= 0 && to != at && nodes[at].Load > nodes[to].Load+1+nodes[to].Load/4
}
