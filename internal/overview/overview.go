// Package overview is how people and programs see a cluster that appoints its leader: one struct for SQL, the
// command line and JSON, made of the cluster's State, the coordinator's Facts, and what failover makes of
// both. It is pure, and knows the names by which people change what the cluster is to do.
package overview

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
)

// Source is what one node knows of its cluster.
type Source struct {
	Self  failover.NodeID // the node that was asked
	State failover.State  // the newest that it knows; Version 0 if it knows none
	// Facts are the coordinator's. Where it could not be asked they have no Self, and hold this node's own report alone.
	Facts failover.Facts
	// Blind says why the coordinator could not be asked; "" if it could.
	Blind string
}

// Health is the whole cluster's.
type Health string

// The healths.
const (
	Healthy Health = "healthy"
	Sick    Health = "problem"
	Unclear Health = "unknown" // the node that was asked cannot tell
)

// Role of a member, as others see it.
type Role string

// The roles.
const (
	Leader   Role = "leader"
	Follower Role = "follower"
	Witness  Role = "witness"
	Away     Role = "away"    // nothing is heard of it, whatever it takes itself for
	Unknown  Role = "unknown" // the node that was asked cannot know
)

// Overview is a cluster at one moment. A nil pointer stands for what the node that was asked cannot know.
type Overview struct {
	Health   Health    `json:"health"`
	Problems []Problem `json:"problems"` // the worst first

	Asked       string `json:"asked"`                 // name of the node that has answered
	Coordinator string `json:"coordinator,omitempty"` // "" where it could not be asked
	Blind       string `json:"blind,omitempty"`       // why
	ByHand      bool   `json:"by_hand,omitempty"`     // the leader is set by configuration

	Version   uint64         `json:"version"`
	Phase     failover.Phase `json:"phase"`
	Epoch     history.Epoch  `json:"epoch"`
	Leader    string         `json:"leader,omitempty"`    // who leads, or led last; "" before the first
	Leads     bool           `json:"leads"`               // Leader does, as far as the node that was asked can tell
	Candidate string         `json:"candidate,omitempty"` // is to lead once it has copied what it lacks
	Cause     string         `json:"cause,omitempty"`     // of the election that is under way
	Mode      string         `json:"mode"`                // of acknowledging commits
	Rule      string         `json:"rule"`                // the same in words

	Members []Member `json:"members"` // the leader first

	IfLeaderDied string `json:"if_leader_died"`
	WouldLose    *int64 `json:"would_lose_commits"`
	Heir         string `json:"heir,omitempty"` // who would lead then by itself; "": nobody
	HeirWhy      string `json:"heir_why,omitempty"`
	AtStake      string `json:"at_stake,omitempty"` // what may be lost if another leader had to be found now

	Survives      *int `json:"survives_nodes"`          // how many may fail now, whichever they are
	WritesSurvive *int `json:"writes_survive_standbys"` // how many standbys may fail before commits wait

	Switchover *Switchover     `json:"switchover,omitempty"`
	Forced     bool            `json:"forced,omitempty"` // an operator's failover is under way
	Losses     []history.Epoch `json:"losses,omitempty"` // epochs that began without proof that nothing was missing
	Settings   []Setting       `json:"settings"`
}

// Member is one row.
type Member struct {
	Name  string          `json:"name"`
	ID    failover.NodeID `json:"id"`
	Role  Role            `json:"role"`
	State string          `json:"state"` // in a word or two

	Epoch   *history.Epoch `json:"epoch"`   // of its newest entry
	Head    *history.LSN   `json:"head"`    // its newest entry
	Flushed *history.LSN   `json:"flushed"` // on its disk
	Visible *history.LSN   `json:"visible"` // to its readers
	Behind  *int64         `json:"behind"`  // commits that the leader has and it has not
	Silence *float64       `json:"silence_ms"`

	Synchronous bool          `json:"synchronous"`   // commits may count on its acknowledgement
	Votes       *bool         `json:"votes"`         // on who coordinates
	Voter       bool          `json:"voter"`         // it should; one that has just joined does a moment later
	Eligible    bool          `json:"eligible"`      // it could be promoted now
	Why         string        `json:"why,omitempty"` // it could not
	Priority    int           `json:"priority"`
	NeverLeader bool          `json:"never_leader"`
	Hidden      bool          `json:"hidden"`
	Delay       time.Duration `json:"delay_ns"`
	Attributes  string        `json:"attributes,omitempty"` // what of these is special, in words

	Address     string `json:"address,omitempty"` // for clients
	PeerAddress string `json:"peer_address"`
}

// Problem is what is wrong, and what a person can do.
type Problem struct {
	What string `json:"what"`
	Do   string `json:"do,omitempty"`
}

// Switchover is one that was asked for.
type Switchover struct {
	To     string    `json:"to,omitempty"` // "": whoever fits best
	At     time.Time `json:"at,omitzero"`
	By     string    `json:"by,omitempty"`
	Paused bool      `json:"paused"` // writes wait for it
}

// String says what was asked for.
func (s Switchover) String() string {
	text := "to " + s.To
	if s.To == "" {
		text = "to whoever fits best"
	}
	if s.Paused {
		text += ", under way: writes wait"
	} else if !s.At.IsZero() {
		text += " at " + s.At.Local().Format(time.DateTime)
	}
	if s.By != "" {
		text += ", asked for by " + s.By
	}
	return text
}

// Of draws the overview.
func Of(src Source) Overview {
	s, e := src.State, failover.Explain(src.State, src.Facts)
	o := Overview{
		Asked: nameOf(s, src.Self), Coordinator: nameOf(s, src.Facts.Self), Blind: src.Blind,
		Version: s.Version, Phase: s.Phase, Epoch: s.Epoch, Leader: nameOf(s, s.Leader), Leads: e.Leads, Candidate: nameOf(s, s.Candidate),
		Cause: s.Cause, Mode: string(e.Mode), Rule: e.Rule, Forced: s.Forced != nil, Losses: s.Losses, Settings: SettingsOf(s.Settings),
	}
	if sw := s.Switchover; sw != nil {
		o.Switchover = &Switchover{nameOf(s, sw.To), sw.At, sw.By, sw.Paused}
	}
	for i, m := range s.Members {
		o.Members = append(o.Members, src.member(m, e.Members[i]))
	}
	slices.SortStableFunc(o.Members, func(a, b Member) int {
		return cmp.Or(leaderFirst(s.Leader, a, b), strings.Compare(a.Name, b.Name))
	})
	if src.Blind != "" {
		src.blindfold(&o)
		return o
	}
	o.Heir, o.HeirWhy, o.AtStake = nameOf(s, e.Failover.Winner), e.Failover.Why, e.Failover.AtStake
	o.IfLeaderDied = e.IfItDied
	if e.WouldLose >= 0 {
		o.WouldLose = &e.WouldLose
	}
	o.Survives, o.WritesSurvive = &e.Survives, &e.WritesSurvive
	o.Problems = make([]Problem, 0, len(e.Problems))
	for _, p := range e.Problems {
		o.Problems = append(o.Problems, Problem(p))
	}
	switch leader := slices.IndexFunc(o.Members, func(m Member) bool { return m.ID == s.Leader }); {
	case !e.Leads && leader >= 0 && o.Members[leader].Role == Unknown:
		o.Health = Unclear
	case !e.Leads, len(o.Problems) > 0:
		o.Health = Sick
	default:
		o.Health = Healthy
	}
	return o
}

func leaderFirst(leader failover.NodeID, a, b Member) int {
	switch leader {
	case a.ID:
		return -1
	case b.ID:
		return 1
	}
	return 0
}

// blindfold says no more than one node can know by itself.
func (src Source) blindfold(o *Overview) {
	o.Health = Unclear
	o.IfLeaderDied = "unknown"
	what := o.Asked + " cannot reach the cluster's coordinator: " + src.Blind
	if src.State.Version == 0 {
		what = o.Asked + " does not know its cluster yet: " + src.Blind
	}
	voters := failover.Voters(src.State)
	names := make([]string, len(voters))
	for i, id := range voters {
		names[i] = nameOf(src.State, id)
	}
	do := "what follows is what it knew last; ask another node"
	if len(voters) > 1 {
		do += ". The cluster decides while more than half of " + strings.Join(names, ", ") + " can reach each other"
	}
	o.Problems = []Problem{{what, do}}
}

func (src Source) member(m failover.Member, h failover.Health) Member {
	row := Member{
		Name: m.Name, ID: m.ID, Role: src.role(m, h.Condition), State: h.Condition,
		Priority: m.Priority, NeverLeader: m.NeverLeader, Hidden: m.Hidden, Delay: m.Delay, Attributes: Attributes(m),
		Synchronous: h.Sync, Eligible: h.WhyNot == "", Why: h.WhyNot, Address: m.PGAddr, PeerAddress: m.PeerAddr,
	}
	if src.Blind != "" {
		row.Eligible, row.Why = false, "unknown"
	}
	row.Voter = slices.Contains(failover.Voters(src.State), m.ID)
	if src.Facts.Voters != nil {
		votes := slices.Contains(src.Facts.Voters, m.ID)
		row.Votes = &votes
	}
	o, heard := src.look(m.ID)
	if !heard {
		return row
	}
	silence := float64(o.Silence.Microseconds()) / 1000
	row.Silence = &silence
	if m.Witness {
		return row
	}
	row.Epoch, row.Head, row.Flushed, row.Visible = &o.Position.Epoch, &o.Position.LSN, &o.Flushed, &o.Visible
	if h.Behind >= 0 && m.ID != src.State.Leader {
		row.Behind = &h.Behind
	}
	return row
}

// role goes by what the coordinator hears: conditions are failover's words for it.
func (src Source) role(m failover.Member, condition string) Role {
	switch {
	case condition == "unknown":
		return Unknown
	case condition == "down", condition == "silent":
		return Away
	case m.Witness:
		return Witness
	case condition == "leading":
		return Leader
	}
	return Follower
}

// look gives what the coordinator has of a member, and whether that ever said anything itself.
func (src Source) look(id failover.NodeID) (failover.Observation, bool) {
	i := slices.IndexFunc(src.Facts.Nodes, func(o failover.Observation) bool { return o.Node == id })
	if i < 0 {
		return failover.Observation{}, false
	}
	o := src.Facts.Nodes[i]
	return o, o.Incarnation != 0
}

func nameOf(s failover.State, id failover.NodeID) string {
	i := slices.IndexFunc(s.Members, func(m failover.Member) bool { return m.ID == id })
	if i < 0 || s.Members[i].Name == "" {
		return string(id)
	}
	return s.Members[i].Name
}
