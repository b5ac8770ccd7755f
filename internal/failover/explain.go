package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"skein/internal/history"
)

// Explanation is what a State and the facts mean, for people. Numbers that cannot be known are negative.
type Explanation struct {
	Mode    Mode
	Leader  NodeID // who leads or led last
	Leads   bool   // by what the coordinator hears
	Rule    string // how commits are acknowledged
	Members []Health

	// If the leader died now: how many acknowledged commits would be lost, and in words.
	WouldLose int64
	IfItDied  string
	// WritesSurvive is how many of the standbys may fail while commits go on, Survives how many nodes of any kind that
	// are there now may fail together, and the cluster has a leader by itself and has lost nothing.
	WritesSurvive, Survives int

	Problems []Problem
	Failover Prospect
}

// Mode is how the cluster works now.
type Mode string

// The modes.
const (
	Synchronous  Mode = "synchronous"
	Asynchronous Mode = "asynchronous"
	OnItsOwn     Mode = "on its own" // commits are acknowledged by the leader alone, and nobody can take its place without loss
	Changing     Mode = "changing"   // a rule of before is not settled
	NoLeader     Mode = "no leader"
)

// Health is how a member is.
type Health struct {
	Node      NodeID
	Name      string
	Role      string // leader, follower, candidate, witness
	Condition string // in a word or two; "unknown" before the coordinator has heard it
	Silence   time.Duration
	Position  history.Position
	Behind    int64  // entries that it lacks of the leader's
	Sync      bool   // its acknowledgement counts
	WhyNot    string // why it would not be promoted by itself; "" if it could
}

// Problem is something wrong, and what to do about it.
type Problem struct{ What, Do string }

// Prospect is what an election would end in, if it began now without the leader.
type Prospect struct {
	Winner  NodeID // "": nobody
	Source  NodeID // from whom it would first copy what it lacks
	Why     string
	AtStake string // what might be lost; "" if it can be shown that nothing would be
}

// Explain says what the coordinator can know.
func Explain(s State, f Facts) Explanation {
	d := newDecision(s, f)
	leader := f.look(s.Leader)
	e := Explanation{Leader: s.Leader, WouldLose: -1, Leads: d.leads()}
	e.Mode = d.mode(e.Leads)
	if r, ok := s.newest(); ok {
		e.Rule = s.words(r)
		e.WritesSurvive = d.writesSurvive(r)
	}
	for _, m := range s.Members {
		e.Members = append(e.Members, d.health(m, leader))
	}
	e.Failover = d.prospect()
	e.WouldLose, e.IfItDied = d.ifLeaderDied(e, leader)
	e.Survives = d.survives(e.Leads)
	e.Problems = d.problems(e, leader)
	return e
}

func (d *decision) mode(leads bool) Mode {
	r, ok := d.newest()
	switch {
	case !ok || !leads:
		return NoLeader
	case len(d.Rules) > 1:
		return Changing
	case r.Lossy:
		return Asynchronous
	case r.K == 0:
		return OnItsOwn
	}
	return Synchronous
}

// writesSurvive is how many of the standbys that stream may fail.
func (d *decision) writesSurvive(r Rule) int {
	streaming := 0
	for _, id := range r.Members {
		if o := d.facts.look(id); d.up(o) && o.Upstream == d.Leader && o.Streaming {
			streaming++
		}
	}
	return max(0, streaming-r.K)
}

func (d *decision) health(m Member, leader Observation) Health {
	o := d.facts.look(m.ID)
	h := Health{Node: m.ID, Name: m.Name, Role: "follower", Silence: o.Silence, Position: o.Position, Behind: -1}
	switch {
	case m.Witness:
		h.Role = "witness"
	case m.ID == d.Leader && d.Phase == Leading:
		h.Role = "leader"
	case m.ID == d.Candidate:
		h.Role = "candidate"
	}
	h.Condition = d.condition(m, o)
	if r, ok := d.newest(); ok && !m.Witness {
		h.Sync = r.K > 0 && slices.Contains(r.Members, m.ID)
	}
	if leader.heard() && o.heard() && o.Position.Epoch == leader.Position.Epoch {
		h.Behind = int64(leader.Position.LSN - min(o.Position.LSN, leader.Position.LSN))
	}
	h.WhyNot = d.ineligible(m, o)
	return h
}

func (d *decision) condition(m Member, o Observation) string {
	switch {
	case d.unknown(o):
		return "unknown"
	case o.Refused:
		return "down"
	case !d.up(o):
		return "silent"
	case o.Disk != m.Disk:
		return "another disk"
	case m.Leaving:
		return "leaving"
	case m.Witness:
		return "voting"
	case o.Tainted != "":
		return "incomplete"
	case o.Stalled >= d.Settings.FailoverTimeout:
		return "disk does not answer"
	case o.Leading == d.Epoch && d.Phase == Leading && m.ID == d.Leader:
		return "leading"
	case o.Failed != "":
		return "failed"
	case o.Streaming:
		return "streaming"
	case !o.Ready:
		return "starting"
	case d.Phase != Leading:
		return "waiting"
	}
	return "not streaming"
}

// ineligible says why a member would not be promoted if an election began now.
func (d *decision) ineligible(m Member, o Observation) string {
	switch {
	case m.Witness:
		return "it holds no data"
	case d.unknown(o):
		return "it has not been heard yet"
	case !d.up(o):
		return fmt.Sprintf("it has not been heard for %s", short(o.Silence))
	case o.Disk != m.Disk:
		return "its disk is not the one that the cluster knows"
	case o.Tainted != "":
		return "it may lack commits that it acknowledged: " + o.Tainted
	case !d.honest(m, o):
		return "it holds nothing yet"
	}
	return d.whyNot(o)
}

// prospect plays an election among those that are up, without the leader while one is appointed.
func (d *decision) prospect() Prospect {
	var without []NodeID
	if d.Phase == Leading {
		without = []NodeID{d.Leader}
	}
	answers := d.prospects(without...)
	p := Prospect{AtStake: d.atStake(without...)}
	if rule := d.unsatisfied(answers, false); rule != nil {
		p.Why = d.missing(*rule, answers)
		return p
	}
	to, ok := d.choose(answers)
	if !ok {
		p.Why = "none of those that answer may lead"
		return p
	}
	p.Winner = to.Node
	if source := highest(answers); higher(source, to) {
		p.Source = source.Node
	}
	p.Why = d.name(to.Node) + " holds the most of those that may lead"
	return p
}

// missing says who must answer for a rule to be satisfied.
func (d *decision) missing(r Rule, answers []Observation) string {
	if r.Leader == "" {
		return "nobody who holds data answers"
	}
	var absent []string
	members := 0
	for _, id := range r.Members {
		if slices.ContainsFunc(answers, func(o Observation) bool { return o.Node == id }) {
			members++
		} else {
			absent = append(absent, d.name(id))
		}
	}
	if r.K == 0 {
		return fmt.Sprintf("only %s has everything that was acknowledged", d.name(r.Leader))
	}
	who := fmt.Sprintf("%d of %s", r.needed()-members, strings.Join(absent, ", "))
	if r.needed()-members == len(absent) {
		who = strings.Join(absent, " and ")
	}
	return fmt.Sprintf("%s or %s must answer: the last acknowledged commits may be there and nowhere else", d.name(r.Leader), who)
}

func (d *decision) ifLeaderDied(e Explanation, leader Observation) (int64, string) {
	rule, ok := d.newest()
	switch {
	case !ok:
		return -1, "unknown: the cluster never had a leader"
	case !e.Leads:
		return -1, "unknown: nobody is known to lead"
	case rule.Lossy && e.Failover.Winner != "" && leader.AtRisk == 0:
		return 0, d.name(e.Failover.Winner) + " would take over, and nothing would be lost that is not being written just now"
	case rule.Lossy && e.Failover.Winner != "":
		return leader.AtRisk, fmt.Sprintf("%s would take over; %d commits that no standby has yet would be lost", d.name(e.Failover.Winner), leader.AtRisk)
	case e.Failover.Winner == "":
		return 0, "nobody would take over by itself: " + e.Failover.Why
	case e.Failover.AtStake != "":
		return -1, fmt.Sprintf("%s would take over. At stake: %s", d.name(e.Failover.Winner), e.Failover.AtStake)
	}
	return 0, d.name(e.Failover.Winner) + " would take over, and nothing would be lost"
}

// survives tries every set of nodes that could fail.
func (d *decision) survives(leads bool) int {
	var up []NodeID
	for _, m := range d.Members {
		if d.up(d.facts.look(m.ID)) {
			up = append(up, m.ID)
		}
	}
	if len(up) > 12 || !leads {
		return 0
	}
	worst := len(up)
	for set := range 1 << len(up) {
		var failed []NodeID
		for i, id := range up {
			if set&(1<<i) != 0 {
				failed = append(failed, id)
			}
		}
		if len(failed) <= worst && !d.standsWithout(failed) {
			worst = len(failed) - 1
		}
	}
	return max(0, worst)
}

// standsWithout says whether the cluster has a leader and everything acknowledged if these nodes fail.
func (d *decision) standsWithout(failed []NodeID) bool {
	voters := d.voters()
	there := 0
	for _, id := range voters {
		if d.up(d.facts.look(id)) && !slices.Contains(failed, id) {
			there++
		}
	}
	if !slices.Contains(failed, d.Leader) {
		return true // it goes on leading; whether commits are acknowledged is another question
	}
	return 2*there > len(voters) && d.lossless(d.prospects(failed...)) && d.couldElect(failed)
}

// voters are those that vote now, which are not those that should where somebody has just joined.
func (d *decision) voters() []NodeID {
	if d.facts.Voters != nil {
		return d.facts.Voters
	}
	return Voters(d.State)
}

// problems lists what is wrong, the worst first.
func (d *decision) problems(e Explanation, leader Observation) []Problem {
	var list []Problem
	problem := func(what, do string) { list = append(list, Problem{what, do}) }
	leaderName := d.name(d.Leader)
	switch {
	case e.Leads:
	case d.Phase == Leading && !d.Began.IsZero():
		problem(leaderName+" is appointed and does not lead yet", "wait: another node is tried if it cannot")
	case d.Phase == Leading && d.unknown(leader):
		problem("it is not known whether "+leaderName+" leads", "wait a moment: this coordinator is new")
	case d.Phase == Leading && d.Settings.Manual:
		problem(leaderName+" does not lead, and failover is manual", "start "+leaderName+", or name another: skein failover --to NODE")
	case d.Phase == Leading && e.Failover.Winner == "":
		problem(fmt.Sprintf("%s is %s, and nobody can take over without loss: %s", leaderName, d.condition(d.must(d.Leader), leader), e.Failover.Why), d.wayOut())
	case d.Phase == Leading:
		problem(fmt.Sprintf("%s is %s", leaderName, d.condition(d.must(d.Leader), leader)), "wait: "+d.name(e.Failover.Winner)+" is about to take over")
	case e.Failover.Winner == "":
		problem("nobody leads: "+e.Failover.Why, d.wayOut())
	default:
		problem("nobody leads: an election is under way", "wait")
	}
	for _, m := range d.Members {
		d.problemsOf(m, e, problem)
	}
	if e.Mode == OnItsOwn && len(d.Members) > 1 {
		problem(fmt.Sprintf("commits are acknowledged by %s alone, and nobody can take its place without loss", leaderName),
			"bring standbys back; it ends by itself once one has everything")
	}
	if r, ok := d.newest(); ok && e.Leads && r.K > 0 && d.streaming(r) < r.K {
		problem(fmt.Sprintf("commits wait: %s must confirm, and %d stream", standbys(r.K), d.streaming(r)),
			"bring standbys back, or lower synchronous_standby_names")
	}
	voters := d.voters()
	for _, id := range Voters(d.State) {
		if !slices.Contains(voters, id) && d.up(d.facts.look(id)) {
			problem(d.name(id)+" does not vote yet: more depends on the other nodes than will", "wait a moment")
		}
	}
	there := 0
	for _, id := range voters {
		if d.up(d.facts.look(id)) || id == d.facts.Self {
			there++
		}
	}
	if len(voters) > 1 && there == len(voters)/2+1 && there < len(voters) {
		problem("one more voting node down and nothing can be decided any more", "bring voting nodes back, or add a witness")
	}
	if len(Voters(d.State)) == 2 {
		problem("two nodes vote: if either is down nobody can be promoted", "add a third node, or a witness on another machine")
	}
	return list
}

func standbys(n int) string {
	if n == 1 {
		return "1 standby"
	}
	return fmt.Sprintf("%d standbys", n)
}

func (d *decision) must(id NodeID) Member {
	m, _ := d.member(id)
	return m
}

func (d *decision) streaming(r Rule) int { return d.writesSurvive(Rule{Members: r.Members}) }

func (d *decision) wayOut() string {
	return "bring these nodes back; or accept that what only they hold is lost: skein failover --to NODE --accept-data-loss"
}

// problemsOf lists what is wrong with one member.
func (d *decision) problemsOf(m Member, e Explanation, problem func(what, do string)) {
	o := d.facts.look(m.ID)
	isLeader := m.ID == d.Leader && d.Phase == Leading
	switch d.condition(m, o) {
	case "down":
		if !isLeader {
			problem(m.Name+" is down", "start it; or, if it is gone for good: skein remove "+m.Name)
		}
	case "silent":
		if !isLeader {
			problem(fmt.Sprintf("%s has not been heard for %s", m.Name, short(o.Silence)), "look after its machine and its network")
		}
	case "another disk":
		problem(m.Name+" has another disk than the cluster knows", "empty its directory and let it join again; what it had acknowledged is gone with its disk")
	case "incomplete":
		problem(m.Name+" may lack commits that it acknowledged: "+o.Tainted, "nothing: it counts again when it has copied them from the leader")
	case "disk does not answer":
		problem(fmt.Sprintf("a write to the disk of %s has been going on for %s", m.Name, short(o.Stalled)), "look after that disk")
	case "failed":
		problem(m.Name+" could not do what it should: "+o.Failed, "look into its log")
	case "not streaming":
		if e.Leads && !isLeader {
			problem(m.Name+" is there and does not stream from the leader", "look after the network between the two, and into its log")
		}
	case "leaving":
		if d.needs(m.ID) {
			problem(m.Name+" is to leave, and commits may still depend on it", "wait until the leader acknowledges without it")
		}
	}
}
