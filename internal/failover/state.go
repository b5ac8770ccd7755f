package failover

import (
	"time"

	"skein/internal/history"
)

// NodeID is a node's, made with its directory.
type NodeID string

// Phase is what the cluster is doing about its leadership.
type Phase string

// The phases.
const (
	// Leading: Leader is appointed for Epoch. Whether it has begun, its reports say.
	Leading Phase = "leading"
	// Electing: nodes are asked to promise Epoch; Leader is the one of before.
	Electing Phase = "electing"
	// CatchingUp: Candidate is to lead Epoch once it has copied from Source what it lacks up to Goal.
	CatchingUp Phase = "catching up"
)

// State is what the cluster has agreed on. It is a value: whoever changes one changes a copy of his own.
type State struct {
	Version uint64 // one more with every change
	Members []Member

	Epoch  history.Epoch // of the newest attempt to appoint somebody
	Phase  Phase
	Leader NodeID // appointed last; "" before the first

	Candidate, Source NodeID           // while CatchingUp
	Goal              history.Position // while CatchingUp: Source's
	Tried             []NodeID         // appointed or candidates of this election that could not do it
	Cause             string           // of this election, in words

	// Rules a commit may have been acknowledged by: oldest first. Never empty once somebody leads.
	Rules []Rule

	Switchover *Switchover // asked for, until it is done or given up
	Forced     *Forced     // asked for by an operator, until somebody leads

	// LastFailover is when the newest automatic failover appointed somebody, by the coordinator's wall clock. It
	// only slows down the next one.
	LastFailover time.Time
	// Began is when this election did, by the coordinator's wall clock; told in events. Zero once its leader leads.
	Began time.Time

	Settings Settings
	// Losses are the epochs that began without proof that everything acknowledged was there: the nodes of
	// before may hold commits that the cluster does not have.
	Losses []history.Epoch
}

// Member is a node of the cluster.
type Member struct {
	ID          NodeID
	Disk        string // a wiped node comes back with another
	Name        string
	PeerAddr    string
	PGAddr      string // where clients connect; "" for a witness
	Witness     bool   // votes and holds no data
	NeverLeader bool
	Hidden      bool // no reads are sent there
	Priority    int  // of two candidates that hold the same, the one with more leads; 0 is usual
	Delay       time.Duration
	Leaving     bool // asked to go: it goes when no rule needs it any more
}

// Rule is one way of acknowledging commits at level on: the leader and K of Members have them durably.
// Its zero K with no Members is the leader alone.
type Rule struct {
	ID      uint64 // grows; unique in the cluster
	Leader  NodeID
	Epoch   history.Epoch // of the leadership that acknowledges by it
	Members []NodeID      // without Leader. In order of preference if First
	K       int           // more than there are Members: nothing is acknowledged yet
	First   bool          // FIRST k rather than ANY k: only the leader minds
	// Lossy says that commits are acknowledged by the leader alone and that another may lead all the same:
	// asynchronous replication. Members are then those that keep up and may lead; with none named anybody may.
	// Without it, and with K 0, only the leader itself is known to hold everything.
	Lossy bool
}

// Switchover is an orderly change of leader.
type Switchover struct {
	To   NodeID    // "": whoever fits best
	At   time.Time // not before; zero: now
	By   string
	Till time.Time // given up then; the old leader goes on
	// Paused says that the leader has been asked to take no more writes.
	Paused bool
}

// Forced is an operator's order to promote To.
type Forced struct {
	To NodeID
	By string
	// DataLoss: whatever the rules say. Otherwise only if it can be proved that nothing is lost. Till ends either.
	DataLoss bool
	Till     time.Time
	// Stake says, as far as it could be known when the order was given, what may be lost.
	Stake string
}

// Settings of the cluster that decisions depend on. The zero value is not valid; see DefaultSettings.
type Settings struct {
	// FailoverTimeout is how long a leader may be silent. Leases and elections are measured by it.
	FailoverTimeout time.Duration
	// FailoverPause is how long after an automatic failover the next one waits, unless the leader is dead.
	FailoverPause time.Duration
	// StallTimeout is how long a leader's fsync may take.
	StallTimeout time.Duration
	// Manual: nobody is promoted by itself. A leader that comes back leads again.
	Manual bool
	// Longest is the longest FailoverTimeout that a lease of this leader can have been taken by; 0: the present one.
	Longest time.Duration
}

// DefaultSettings are those of a new cluster. A process that stands still for a third of a second, on a machine that is short of
// processors besides, is not taken for dead; one that is dead is known at once by its machine's refusing connections.
func DefaultSettings() Settings {
	return Settings{FailoverTimeout: 700 * time.Millisecond, FailoverPause: time.Minute, StallTimeout: 5 * time.Second}
}

// Lease is for how long a leader that was heard may acknowledge on its own, and Guard how long the coordinator
// waits before it relies on that being over. The clocks of two machines may run one per cent apart.
func (s Settings) Lease() time.Duration { return s.FailoverTimeout * 4 / 5 * 99 / 100 }

// Guard is described with Lease.
func (s Settings) Guard() time.Duration {
	return max(s.FailoverTimeout, s.Longest)*4/5*101/100 + 1
}

// Report is what a node says of itself at one moment.
type Report struct {
	Node        NodeID
	Disk        string
	Incarnation uint64        // of the process; never 0
	Seen        uint64        // version of the State that it acts under
	Promise     history.Epoch // durable
	Leading     history.Epoch // that it leads now, its epoch's first entry being durable; 0: none

	Position  history.Position // end of the log; durable as of the promise
	Flushed   history.LSN
	Committed history.LSN // as far as the node knows
	Visible   history.LSN

	// Ready says that the node's databases are open and its disk takes writes: it could lead.
	Ready bool
	// Tainted says why the node may lack something that it has acknowledged once; "" if it cannot.
	Tainted string
	// Stalled is for how long the oldest write to disk has not returned.
	Stalled time.Duration

	// Upstream is whom it copies from, Streaming whether it is connected, and Heard how long ago that node
	// last said anything; negative if never.
	Upstream  NodeID
	Streaming bool
	Heard     time.Duration

	// Of a leader:
	Want    *Rule  // that it would like to acknowledge by; nil: the newest is right. ID is not set
	Settled uint64 // newest rule by which everything that it ever acknowledged is acknowledged
	Paused  bool   // writes wait, and everything is flushed: Position is where they stand
	Busy    string // why writes could not be stopped, although that was asked for
	AtRisk  int64  // commits that no follower has yet
	// Deaf is for how long fewer than K members of its newest rule have said anything to it.
	Deaf      time.Duration
	Followers []Following

	Failed string // why it could not carry out its duty; "" if it could
}

// Following is a follower as a leader sees it.
type Following struct {
	Node             NodeID
	Flushed, Visible history.LSN
}

// Observation is a node's newest report as the coordinator has it.
type Observation struct {
	Report
	// Silence is for how long the coordinator has heard nothing from the node, by a clock that stands still
	// while the coordinator does.
	Silence time.Duration
	// Refused says that the node's machine answers that nobody listens there.
	Refused bool
}

// Facts are everything a decision depends on, besides the State.
type Facts struct {
	Self NodeID // of the coordinator
	Now  time.Time
	// Nodes are the members that have been heard since this coordinator began, in any order; and those that have not,
	// but whose machine refuses connections: of these there are only Node, Silence and Refused.
	Nodes []Observation
	// Elapsed is for how long this coordinator has been one, and Electing for how long the State's Epoch and Phase
	// are what they are, by the same clock as Silence.
	Elapsed, Electing time.Duration
	// LeaseOver says that no leader can hold a lease any more that a coordinator has granted.
	LeaseOver bool
	// Voters are who votes on States now, which follows Voters(State) a little later; nil: not known.
	Voters []NodeID
}

// EventKind says what an Event is about.
type EventKind string

// The kinds.
const (
	ElectionEvent   EventKind = "election"   // an attempt to find a leader began
	AppointedEvent  EventKind = "appointed"  // somebody is to lead
	PromotionEvent  EventKind = "promotion"  // he does
	SwitchoverEvent EventKind = "switchover" // asked for, paused, given up
	ForcedEvent     EventKind = "forced"
	LossEvent       EventKind = "loss"    // an epoch begins without proof that it has everything
	RuleEvent       EventKind = "rule"    // another way of acknowledging
	DegradeEvent    EventKind = "degrade" // the leader goes on alone
	ReturnEvent     EventKind = "return"  // it does not any more
	JoinEvent       EventKind = "join"
	RemoveEvent     EventKind = "remove"
	MemberEvent     EventKind = "member" // an attribute of one
	SettingsEvent   EventKind = "settings"
	RejoinEvent     EventKind = "rejoin" // a node gave up what the cluster does not have
	RepairEvent     EventKind = "repair" // a node mended a damaged page
	AlarmEvent      EventKind = "alarm"  // a node would have to break a promise, and has stopped
)

// Event is one line of the cluster's history.
type Event struct {
	At       time.Time
	Kind     EventKind
	Epoch    history.Epoch
	Node     string // name of the node that it is about
	Position history.Position
	Took     time.Duration
	Text     string // what happened and why, for people
}

// Role is what a node is under a State.
type Role string

// The roles.
const (
	Lead   Role = "lead"
	Follow Role = "follow"
	Wait   Role = "wait" // keep what there is, copy from nobody
)

// Duty is what a State asks of one node, after it has promised Epoch.
type Duty struct {
	Epoch    history.Epoch
	Role     Role
	Upstream Member // whom to follow
	// Goal is what the upstream must show that it has before anything is cut for its sake, if that does not lead
	// but is copied from by a candidate; zero otherwise.
	Goal  history.Position
	Rule  Rule // to acknowledge by, while leading
	Pause bool // take no more writes, and say when everything is flushed
	// Awaited says that writes wait until this node's log has come as far as another's: it reports whenever that grows.
	Awaited bool
	// DespiteTaint: an operator has accepted what this node may lack; it leads, and is not tainted any more.
	DespiteTaint bool
}
