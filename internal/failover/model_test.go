package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"skein/internal/history"
)

// model is a cluster in which everything that can go wrong does, at random: nodes that keep a log and acknowledge by it, behind the real
// Next, DutyOf and Apply. It holds what clients were told against what every new leader has (invariants I1, I2, I3 and I5 of
// the design; I10 in heal).
type model struct {
	random *rand.Rand
	now    time.Duration
	nodes  []*modelNode
	states []State // every one that was committed
	coords []*coordinator
	active int // the coordinator that Raft follows
	inbox  []func()
	cut    map[[2]NodeID]bool // links that are down, one way
	apart  map[NodeID]bool    // split off from the coordinator
	next   uint64             // content of the next entry

	pace    int // milliseconds that a step takes at most
	lies    int // per cent of decisions that are made on wrong times
	curse   int // per cent of leaders that die as they begin
	batch   int // entries that a follower copies at once, at most
	lossy   int // per cent of rules that are asynchronous
	healing bool
	weights []int // of happenings, in this walk
	weight  int

	allow struct{ damage, force bool } // in this walk

	written map[place]uint64          // I3: content of an entry, by epoch and LSN
	claims  []claim                   // what clients were told
	lax     uint64                    // newest asynchronous rule that has taken the place of those before it
	begun   map[history.Epoch][]entry // what leaders began with
	lost    history.Epoch             // newest epoch that an operator had begin without proof
	damaged bool                      // a disk has lost something in this walk

	tracing bool
	trace   []string
}

type place struct {
	epoch history.Epoch
	lsn   int
}

type entry struct {
	epoch   history.Epoch
	content uint64
	chain   history.Hash
}

// claim is the longest log that clients were told is safe, in one epoch and by one rule.
type claim struct {
	epoch history.Epoch
	rule  uint64
	log   []entry
}

// violation is what a walk panics with.
type violation string

func (m *model) violated(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

func (m *model) say(format string, args ...any) {
	if !m.tracing {
		return
	}
	m.trace = append(m.trace, fmt.Sprintf("%7s ", m.now)+fmt.Sprintf(format, args...))
}

func (m *model) chance(percent int) bool { return m.random.IntN(100) < percent }

// modelNode is a node: what is on its disk, and what its process knows.
type modelNode struct {
	id, name string
	gone     bool // its directory is: it never comes back

	log       []entry
	flushed   int
	promise   history.Epoch
	tainted   bool
	committed int // known to be acknowledged by a rule that loses nothing

	up          bool
	incarnation uint64
	state       State
	deaf        time.Duration // no newer State reaches it before
	ready       bool
	failed      string

	leading history.Epoch
	start   int // LSN of its epoch's first entry
	rule    Rule
	goal    int // what must be acknowledged by rule for it to be settled
	settled uint64
	acks    map[NodeID]int
	lease   time.Duration
	want    *Rule
	paused  bool

	upstream NodeID // connected to, under epoch session
	session  history.Epoch
	regain   int
	heard    time.Duration
}

func (n *modelNode) ID() NodeID { return NodeID(n.id) }

func (n *modelNode) disk() string { return "disk-" + n.id }

func (n *modelNode) position() history.Position { return positionOf(n.log) }

func positionOf(log []entry) history.Position {
	if len(log) == 0 {
		return history.Position{}
	}
	last := log[len(log)-1]
	return history.Position{Epoch: last.epoch, LSN: history.LSN(len(log)), Chain: last.chain}
}

// coordinator is one node's view, as it was when reports arrived.
type coordinator struct {
	since     time.Duration // it has been one
	reports   map[NodeID]Report
	at        map[NodeID]time.Duration
	refused   map[NodeID]bool
	granted   time.Duration // last lease
	epoch     history.Epoch
	phase     Phase
	phaseFrom time.Duration
}

func newModel(seed uint64) *model {
	m := &model{
		random: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]NodeID]bool{},
		written: map[place]uint64{}, begun: map[history.Epoch][]entry{},
	}
	m.allow.damage, m.allow.force = m.chance(50), m.chance(15)
	size := 3 + m.random.IntN(3)
	for i := range size {
		m.addNode(fmt.Sprintf("n%d", i+1))
	}
	s := NewCluster(m.nodes[0].member())
	for _, n := range m.nodes[1:] {
		s.Members = append(s.Members, n.member())
	}
	s.Settings.FailoverPause = 0
	m.states = []State{s}
	for range 2 {
		m.coords = append(m.coords, newCoordinator(0))
	}
	m.batch = 100
	return m
}

// settleIn lets a walk begin with a leader that has followers.
func (m *model) settleIn() {
	m.settleDown()
	m.wish(m.node(m.state().Leader))
	for range 20 {
		m.rounds()
	}
	m.temper()
}

func newCoordinator(since time.Duration) *coordinator {
	return &coordinator{since: since, phaseFrom: since, reports: map[NodeID]Report{}, at: map[NodeID]time.Duration{}, refused: map[NodeID]bool{}}
}

func (m *model) addNode(name string) *modelNode {
	n := &modelNode{
		id: fmt.Sprintf("%s.%d", name, len(m.nodes)), name: name,
		up: true, incarnation: 1, ready: true, acks: map[NodeID]int{},
	}
	m.nodes = append(m.nodes, n)
	return n
}

func (n *modelNode) member() Member {
	return Member{ID: n.ID(), Name: n.name, Disk: n.disk(), PeerAddr: n.name}
}

func (m *model) state() State { return m.states[len(m.states)-1] }

func (m *model) node(id NodeID) *modelNode {
	for _, n := range m.nodes {
		if n.ID() == id {
			return n
		}
	}
	return nil
}

// reaches says whether a message from a can arrive at b.
func (m *model) reaches(a, b *modelNode) bool {
	return a.up && b.up && m.apart[a.ID()] == m.apart[b.ID()] && !m.cut[[2]NodeID{a.ID(), b.ID()}]
}

// happenings are what a step can be, and how often it is on average.
var happenings = []struct {
	often  int
	happen func(*model, *modelNode)
}{
	{300, (*model).round},
	{40, func(m *model, _ *modelNode) { m.rounds() }},
	{50, (*model).learn},
	{120, (*model).act},
	{80, func(m *model, _ *modelNode) { m.act(m.oneOf(func(n *modelNode) bool { return n.leading > 0 })) }},
	{60, func(m *model, n *modelNode) { m.report(n, m.coordinator()) }},
	{130, func(m *model, _ *modelNode) { m.deliver() }},
	{100, func(m *model, _ *modelNode) { m.decide(m.coordinator()) }},
	{6, (*model).crash},
	{10, func(m *model, _ *modelNode) { m.crash(m.node(m.state().Leader)) }},
	{6, func(m *model, _ *modelNode) { m.powerCut() }},
	{8, func(m *model, _ *modelNode) { m.usurp() }},
	{55, func(m *model, _ *modelNode) { m.restart(m.oneOf(func(n *modelNode) bool { return !n.up && !n.gone })) }},
	{3, (*model).damage},
	{6, func(m *model, _ *modelNode) { m.link() }},
	{8, func(m *model, _ *modelNode) { m.partition() }},
	{12, func(m *model, _ *modelNode) { m.mend() }},
	{6, func(m *model, _ *modelNode) { m.changeCoordinator() }},
	{25, (*model).wish},
	{15, func(m *model, _ *modelNode) { m.command() }},
}

// temper makes walks differ: what is rare in one is frequent in another.
func (m *model) temper() {
	m.pace = []int{20, 60, 200}[m.random.IntN(3)]
	m.lies = []int{0, 20, 70}[m.random.IntN(3)]
	m.batch = []int{1, 5, 100}[m.random.IntN(3)]
	m.curse = []int{0, 0, 40}[m.random.IntN(3)]
	m.lossy = []int{0, 0, 0, 50, 90}[m.random.IntN(5)]
	for _, h := range happenings {
		m.weights = append(m.weights, h.often*[]int{1, 2, 4, 4, 4, 8}[m.random.IntN(6)])
		m.weight += m.weights[len(m.weights)-1]
	}
}

// step does one random thing.
func (m *model) step() {
	m.now += time.Duration(m.random.IntN(m.pace)) * time.Millisecond
	n := m.oneOf(func(n *modelNode) bool { return !n.gone })
	p := m.random.IntN(m.weight)
	for i, weight := range m.weights {
		if p -= weight; p < 0 {
			happenings[i].happen(m, n)
			break
		}
	}
	if m.chance(5) {
		m.foresee()
	}
}

// coordinator is mostly the one that is; sometimes one that was.
func (m *model) coordinator() *coordinator {
	if m.chance(10) {
		return m.coords[m.random.IntN(len(m.coords))]
	}
	return m.coords[m.active]
}

func (m *model) changeCoordinator() {
	m.active = m.random.IntN(len(m.coords))
	m.coords[m.active] = newCoordinator(m.now)
}

// round is what happens when nothing goes wrong: a node sees the newest State, acts, and is heard at once.
func (m *model) round(n *modelNode) {
	if n.gone {
		return
	}
	if n.up && n.state.Version < m.state().Version && m.now >= n.deaf && !m.apart[n.ID()] {
		m.adopt(n, m.state())
	}
	waiting := len(m.inbox)
	for range 1 + m.random.IntN(4) {
		m.act(n)
	}
	m.report(n, m.coords[m.active])
	for len(m.inbox) > waiting { // and what comes of it
		f := m.inbox[len(m.inbox)-1]
		m.inbox = m.inbox[:len(m.inbox)-1]
		f()
	}
	m.decide(m.coords[m.active])
}

// rounds is one for everybody.
func (m *model) rounds() {
	for _, i := range m.random.Perm(len(m.nodes)) {
		m.round(m.nodes[i])
	}
}

// oneOf is any node of some kind, nil if there is none.
func (m *model) oneOf(kind func(*modelNode) bool) *modelNode {
	var some []*modelNode
	for _, n := range m.nodes {
		if kind(n) {
			some = append(some, n)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[m.random.IntN(len(some))]
}

// deliver hands over a message that was sent some time, in any order, or loses it.
func (m *model) deliver() {
	if len(m.inbox) == 0 {
		return
	}
	i := m.random.IntN(len(m.inbox))
	if m.chance(60) {
		i = 0
	}
	f := m.inbox[i]
	m.inbox = slices.Delete(m.inbox, i, i+1)
	if m.chance(90) {
		f()
	}
}

// send puts a message on its way. Of too many that are under way, one is lost.
func (m *model) send(f func()) {
	m.inbox = append(m.inbox, f)
	if len(m.inbox) > 40 {
		i := m.random.IntN(len(m.inbox))
		m.inbox = slices.Delete(m.inbox, i, i+1)
	}
}

// learn shows a node a State that is newer than the one it knows, not always the newest.
func (m *model) learn(n *modelNode) {
	if !n.up || n.state.Version >= m.state().Version || m.now < n.deaf || m.apart[n.ID()] {
		return
	}
	from := int(n.state.Version) // states[i] has version i+1
	i := from + m.random.IntN(len(m.states)-from)
	if m.chance(70) {
		i = len(m.states) - 1
	}
	m.adopt(n, m.states[i])
}

func (m *model) adopt(n *modelNode, s State) {
	n.state = s
	if s.Epoch > n.promise {
		n.promise, n.leading, n.session, n.failed, n.paused, n.want = s.Epoch, 0, 0, "", false, nil
		n.flushed = len(n.log)
	}
}

// act has a node do some of what it has to.
func (m *model) act(n *modelNode) {
	if n == nil || !n.up || n.state.Version == 0 {
		return
	}
	n.ready = n.ready || m.chance(10)
	switch d := DutyOf(n.state, n.ID()); d.Role {
	case Lead:
		m.lead(n, d)
	case Follow:
		m.follow(n, d)
	default:
		n.session = 0
	}
}

func (m *model) lead(n *modelNode, d Duty) {
	if n.promise != d.Epoch {
		return
	}
	if n.leading != d.Epoch {
		m.begin(n, d)
		return
	}
	if d.Rule.ID != n.rule.ID {
		n.rule, n.goal = d.Rule, len(n.log)
	}
	if n.rule.alone() && m.chance(20) {
		m.wish(n)
	}
	if n.want != nil && n.want.same(n.rule) {
		n.want = nil
	}
	switch {
	case d.Pause:
		n.flushed = len(n.log)
		n.paused = true
	case m.chance(50):
		n.paused = false
		for range 1 + m.random.IntN(4) {
			m.append(n)
		}
	case m.chance(60):
		n.paused = false
		n.flushed += m.random.IntN(len(n.log) - n.flushed + 1)
	default:
		n.paused = false
		n.flushed = len(n.log)
	}
	m.acknowledge(n)
}

// begin leads an epoch: its first entry is durable before anything else.
func (m *model) begin(n *modelNode, d Duty) {
	if n.position().Epoch >= d.Epoch {
		n.failed = "has led this epoch"
		return
	}
	if n.tainted && !d.DespiteTaint {
		n.failed = "tainted"
		return
	}
	if !n.ready {
		n.failed = "cannot open its databases"
		return
	}
	m.checkBeginning(n, d.Epoch)
	n.tainted = false
	n.leading, n.session = d.Epoch, 0
	n.acks = map[NodeID]int{}
	m.append(n)
	n.start, n.flushed = len(n.log), len(n.log)
	n.rule, n.goal, n.settled = d.Rule, len(n.log), 0
	m.say("%s begins epoch %d at %d by rule %d", n.id, d.Epoch, n.start, d.Rule.ID)
	if !m.healing && m.chance(m.curse) {
		m.crash(n)
	}
}

// append writes an entry of the epoch that the node leads.
func (m *model) append(n *modelNode) {
	m.next++
	prev := positionOf(n.log).Chain
	e := entry{epoch: n.leading, content: m.next, chain: history.Hash(uint64(prev)*1_000_003 + m.next)}
	n.log = append(slices.Clip(n.log), e)
	at := place{e.epoch, len(n.log)}
	if was, ok := m.written[at]; ok && was != e.content {
		m.violated("I3: two entries at epoch %d, LSN %d", at.epoch, at.lsn)
	}
	m.written[at] = e.content
}

// acknowledge tells clients how far everything is safe by the node's rule.
func (m *model) acknowledge(n *modelNode) {
	mark := n.flushed
	if n.rule.K > 0 {
		var confirmed []int
		for _, id := range n.rule.Members {
			confirmed = append(confirmed, n.acks[id])
		}
		slices.Sort(confirmed)
		slices.Reverse(confirmed)
		if len(confirmed) < n.rule.K {
			return
		}
		mark = min(mark, confirmed[n.rule.K-1])
	}
	if mark < n.start { // P4: entries of before are committed by one of this epoch
		return
	}
	if n.rule.Lossy {
		if m.now >= n.lease {
			return
		}
		for e := range m.begun {
			if e > n.leading {
				m.violated("I2: %s acknowledges by itself in epoch %d, and epoch %d has begun", n.id, n.leading, e)
			}
		}
	} else {
		m.claim(n, mark)
		n.committed = max(n.committed, mark)
	}
	if mark >= n.goal && n.settled != n.rule.ID {
		n.settled = n.rule.ID
		m.say("%s has settled rule %d", n.id, n.rule.ID)
	}
}

// claim notes what clients were told. Every leader of a later epoch must have it.
func (m *model) claim(n *modelNode, mark int) {
	log := slices.Clone(n.log[:mark])
	for e, began := range m.begun {
		if e > n.leading && n.leading >= m.lost && !hasPrefix(began, log) {
			m.violated("I1: %s tells clients in epoch %d that %d entries are safe, and epoch %d began without them", n.id, n.leading, mark, e)
		}
	}
	if n.rule.ID < m.lax { // of a leader that does not know yet that it is replaced
		return
	}
	for i := range m.claims {
		c := &m.claims[i]
		if c.epoch == n.leading && c.rule == n.rule.ID {
			if len(log) > len(c.log) {
				c.log = log
			}
			log = nil
		}
	}
	if log != nil {
		m.claims = append(m.claims, claim{n.leading, n.rule.ID, log})
	}
	if m.chance(20) {
		m.foresee()
	}
}

// checkBeginning holds what the leader of a new epoch has against what clients were told before.
func (m *model) checkBeginning(n *modelNode, epoch history.Epoch) {
	if f := n.state.Forced; f != nil && f.DataLoss {
		m.claims = slices.DeleteFunc(m.claims, func(c claim) bool { return c.epoch < epoch && !hasPrefix(n.log, c.log) })
		m.lost = max(m.lost, epoch)
	}
	if epoch >= m.lost {
		for _, c := range m.claims {
			if c.epoch < epoch && !hasPrefix(n.log, c.log) {
				m.violated("I1: %s begins epoch %d with %s, and lacks what was acknowledged in epoch %d up to %s",
					n.id, epoch, n.position(), c.epoch, positionOf(c.log))
			}
		}
	}
	m.begun[epoch] = slices.Clone(n.log)
}

// foresee tries every set of nodes that could be the ones to answer if an election began now: if they were enough,
// the log that has the most of theirs would be the next leader's. What they have not flushed may be lost until then, or not.
func (m *model) foresee() {
	s := m.state()
	if len(m.claims) == 0 || s.Forced != nil && s.Forced.DataLoss {
		return
	}
	var logs [][]entry
	var all []Observation
	for _, n := range m.nodes {
		log := n.log
		if m.chance(50) {
			log = log[:n.flushed]
		}
		o := Observation{Report: m.reportOf(n)}
		o.Position = positionOf(log)
		if member, ok := s.member(n.ID()); ok && !n.gone && s.honest(member, o) {
			all, logs = append(all, o), append(logs, log)
		}
	}
	for set := 1; set < 1<<len(all); set++ {
		var answers []Observation
		for i, o := range all {
			if set&(1<<i) != 0 {
				answers = append(answers, o)
			}
		}
		if !s.enough(answers) || highest(answers).Node == "" {
			continue
		}
		best := highest(answers)
		log := logs[slices.IndexFunc(all, func(o Observation) bool { return o.Node == best.Node })]
		for _, c := range m.claims {
			if c.epoch >= m.lost && !hasPrefix(log, c.log) {
				m.violated("I1: %s could be elected by %d nodes with %s, and lacks what was acknowledged in epoch %d up to %s",
					best.Node, len(answers), best.Position, c.epoch, positionOf(c.log))
			}
		}
	}
}

// checkSealed holds that nobody acknowledges in an older epoch once somebody is appointed in a newer one: too few
// nodes are left that would confirm, and nobody holds a lease.
func (m *model) checkSealed(s State) {
	for _, r := range s.Rules {
		n := m.node(r.Leader)
		if r.Epoch == s.Epoch || n.leading != r.Epoch || s.Epoch <= m.lost || s.Forced != nil && s.Forced.DataLoss {
			continue
		}
		deaf := 0
		for _, id := range r.Members {
			if m.node(id).promise <= r.Epoch {
				deaf++
			}
		}
		if r.Lossy && n.rule.ID == r.ID && m.now < n.lease || !r.Lossy && deaf >= r.K {
			m.violated("I2: epoch %d has a leader, and %s can still acknowledge in epoch %d", s.Epoch, n.id, r.Epoch)
		}
	}
}

func hasPrefix(log, prefix []entry) bool {
	return len(log) >= len(prefix) && slices.Equal(log[:len(prefix)], prefix)
}

// follow copies some entries from the upstream, once what differs is cut, flushes some, and confirms.
func (m *model) follow(n *modelNode, d Duty) {
	up := m.node(d.Upstream.ID)
	if n.promise != d.Epoch || up == nil || up.gone || !m.reaches(n, up) || !m.reaches(up, n) {
		n.session = 0
		return
	}
	source := d.Goal.LSN > 0
	if source && !up.shows(d.Goal) || !source && up.leading != d.Epoch {
		return
	}
	if n.session != d.Epoch || n.upstream != up.ID() {
		m.cutBack(n, up)
		n.session, n.upstream, n.regain = d.Epoch, up.ID(), len(up.log)
		if source {
			n.regain = 1 << 30
		}
	}
	if !hasPrefix(up.log, n.log) { // the upstream came back with less
		n.session = 0
		return
	}
	n.heard = m.now
	upTo := len(n.log) + min(m.random.IntN(len(up.log)-len(n.log)+1), m.batch)
	n.log = append(slices.Clip(n.log), up.log[len(n.log):upTo]...)
	if m.chance(50) {
		n.flushed = len(n.log)
	}
	if n.tainted && n.flushed >= n.regain {
		n.tainted = false
	}
	n.committed = max(n.committed, min(up.committed, n.flushed))
	if source {
		return
	}
	epoch, incarnation, flushed := d.Epoch, n.incarnation, n.flushed
	m.send(func() {
		if up.up && up.leading == epoch && m.node(n.ID()).incarnation >= incarnation {
			up.acks[n.ID()] = max(up.acks[n.ID()], flushed)
		}
	})
}

// shows says whether a source has what it had when it answered.
func (n *modelNode) shows(goal history.Position) bool {
	return !n.tainted && len(n.log) >= int(goal.LSN) && positionOf(n.log[:goal.LSN]) == goal
}

// cutBack cuts what the upstream does not have.
func (m *model) cutBack(n, up *modelNode) {
	common := 0
	for common < min(len(n.log), len(up.log)) && n.log[common] == up.log[common] {
		common++
	}
	if common < n.committed && m.lossy == 0 && m.lost == 0 {
		m.violated("I5: %s cuts back to %d for %s, and %d was committed", n.id, common, up.id, n.committed)
	}
	n.log = n.log[:common]
	n.flushed = min(n.flushed, common)
	n.committed = min(n.committed, common)
}

// report sends a coordinator what the node says of itself.
func (m *model) report(n *modelNode, c *coordinator) {
	if m.apart[n.ID()] {
		return
	}
	if !n.up {
		c.refused[n.ID()] = m.chance(50)
		return
	}
	r := m.reportOf(n)
	sent := m.now
	m.send(func() {
		c.reports[n.ID()], c.at[n.ID()], c.refused[n.ID()] = r, m.now, false
		m.grant(c, n, r, sent)
	})
}

func (m *model) reportOf(n *modelNode) Report {
	heard := time.Duration(-1)
	if n.heard > 0 {
		heard = m.now - n.heard
	}
	tainted := ""
	if n.tainted {
		tainted = "it lost entries"
	}
	d := DutyOf(n.state, n.ID())
	r := Report{
		Node: n.ID(), Disk: n.disk(), Incarnation: n.incarnation, Seen: n.state.Version, Promise: n.promise, Leading: n.leading,
		Position: n.position(), Flushed: history.LSN(n.flushed), Ready: n.ready, Tainted: tainted,
		Upstream: d.Upstream.ID, Streaming: n.session != 0 && n.session == n.promise, Heard: heard,
		Settled: n.settled, Paused: n.paused, Failed: n.failed,
	}
	if n.want != nil && n.leading != 0 {
		w := *n.want
		r.Want = &w
	}
	return r
}

// grant gives a lease for a report, if this is the coordinator and has nothing newer than that the node leads.
func (m *model) grant(c *coordinator, n *modelNode, r Report, sent time.Duration) {
	s := m.state()
	if c != m.coords[m.active] || s.Phase != Leading || s.Leader != n.ID() || r.Leading != s.Epoch {
		return
	}
	c.granted = m.now
	lease, incarnation := sent+s.Settings.Lease(), n.incarnation
	m.send(func() {
		if n.incarnation == incarnation && n.leading == s.Epoch {
			n.lease = max(n.lease, lease)
		}
	})
}

func (m *model) facts(c *coordinator) Facts {
	s := m.state()
	if c.epoch != s.Epoch || c.phase != s.Phase {
		c.epoch, c.phase, c.phaseFrom = s.Epoch, s.Phase, m.now
	}
	f := Facts{
		Now: time.Unix(1_900_000_000, 0).Add(m.now), Elapsed: m.now - c.since, Electing: m.now - c.phaseFrom,
		LeaseOver: m.now-max(c.granted, c.since) > s.Settings.Guard(),
	}
	for _, n := range m.nodes {
		r, ok := c.reports[n.ID()]
		switch {
		case ok:
			f.Nodes = append(f.Nodes, Observation{Report: r, Silence: m.now - c.at[n.ID()], Refused: c.refused[n.ID()]})
		case c.refused[n.ID()]:
			f.Nodes = append(f.Nodes, Observation{Report: Report{Node: n.ID()}, Silence: f.Elapsed, Refused: true})
		}
	}
	if !m.healing && m.chance(m.lies) {
		m.distort(&f)
	}
	return f
}

// distort makes time what it is not. Nothing but leases relies on it.
func (m *model) distort(f *Facts) {
	long := func() time.Duration { return time.Duration(m.random.IntN(2)) * time.Minute }
	f.Electing = long()
	for i := range f.Nodes {
		f.Nodes[i].Silence, f.Nodes[i].Refused = long(), m.chance(10)
		f.Nodes[i].Heard = long()
	}
}

// decide has a coordinator ask for the next State, and propose it at once or some time later.
func (m *model) decide(c *coordinator) {
	s := m.state()
	next, _, ok := Next(s, m.facts(c))
	if !ok {
		return
	}
	m.propose(s, next)
}

func (m *model) propose(s, next State) {
	if m.chance(70) {
		m.commit(s, next)
		return
	}
	m.send(func() { m.commit(s, next) })
}

// commit replaces the State if it is still the expected one.
func (m *model) commit(s, next State) {
	if m.state().Version != s.Version {
		return
	}
	if err := check(s, next); err != nil {
		m.violated("%v", err)
	}
	m.say("state %d: %s", next.Version, oneLine(next))
	m.states = append(m.states, next)
	m.forgive(s, next)
	m.foresee()
	if next.Phase == Leading && s.Phase != Leading {
		m.checkSealed(next)
	}
	if next.Phase == CatchingUp && !m.healing && m.chance(m.curse) {
		m.damage(m.node(next.Source))
		m.restart(m.node(next.Source))
	}
}

func oneLine(s State) string {
	text := fmt.Sprintf("epoch %d %s, leader %s, candidate %s from %s up to %v, tried %v", s.Epoch, s.Phase, s.Leader, s.Candidate, s.Source, s.Goal, s.Tried)
	for _, r := range s.Rules {
		text += fmt.Sprintf("; rule %d of epoch %d: %s and %d of %v, lossy %t", r.ID, r.Epoch, r.Leader, r.K, r.Members, r.Lossy)
	}
	return text
}

// forgive ends claims that an asynchronous rule has taken the place of: with it settled, one disk is all that is promised.
func (m *model) forgive(s, next State) {
	for _, r := range next.Rules {
		if r.Lossy && len(next.Rules) < len(s.Rules) {
			m.lax = r.ID
			m.claims = slices.DeleteFunc(m.claims, func(c claim) bool { return c.rule < r.ID })
		}
	}
}

// crash ends a process: what it had not flushed is lost.
func (m *model) crash(n *modelNode) {
	if n == nil || !n.up || n.gone {
		return
	}
	m.say("%s crashes with %s, %d flushed", n.id, n.position(), n.flushed)
	n.up = false
	n.log = n.log[:n.flushed]
	n.leading, n.session, n.state, n.failed, n.want, n.paused = 0, 0, State{}, "", nil, false
	n.lease, n.heard, n.settled, n.acks = 0, 0, 0, map[NodeID]int{}
}

// powerCut ends several processes at once.
func (m *model) powerCut() {
	for _, n := range m.nodes {
		if m.chance(60) {
			m.crash(n)
		}
	}
}

// usurp begins an election without a reason. When to begin one is a question of liveness: none may do harm.
func (m *model) usurp() {
	s := m.state()
	d := newDecision(s, m.facts(m.coords[m.active]))
	d.abandon("no reason")
	d.Version++
	m.propose(s, d.State)
}

func (m *model) restart(n *modelNode) {
	if n == nil || n.up || n.gone {
		return
	}
	n.up, n.deaf = true, 0
	n.incarnation++
	n.ready = m.chance(90)
	m.say("%s restarts with %s", n.id, n.position())
}

// damage has a disk lose something: the end of its log, which the node knows, or everything.
func (m *model) damage(n *modelNode) {
	if source := m.node(m.state().Source); source != nil && m.chance(50) {
		n = source
	}
	if !m.allow.damage || n == nil || n.gone {
		return
	}
	m.crash(n)
	m.damaged = true
	if m.chance(70) {
		n.log = n.log[:m.random.IntN(len(n.log)+1)]
		n.flushed, n.committed = len(n.log), min(n.committed, len(n.log))
		n.tainted = true
		m.say("%s loses the end of its log: %s", n.id, n.position())
		return
	}
	m.say("%s is wiped", n.id)
	n.gone = true
	fresh := m.addNode(n.name)
	m.send(func() { m.apply(Command{Kind: JoinCommand, Member: fresh.member()}) })
}

// partition splits the nodes: some hear only one another, and the coordinator is with the others.
func (m *model) partition() {
	m.apart = map[NodeID]bool{}
	for _, n := range m.nodes {
		m.apart[n.ID()] = m.chance(50)
	}
}

func (m *model) mend() { m.cut, m.apart = map[[2]NodeID]bool{}, nil }

// link cuts links.
func (m *model) link() {
	a, b := m.nodes[m.random.IntN(len(m.nodes))], m.nodes[m.random.IntN(len(m.nodes))]
	if m.chance(50) {
		a.deaf = m.now + time.Duration(m.random.IntN(1000))*time.Millisecond
		return
	}
	if m.chance(50) { // a is cut off from everybody
		for _, o := range m.nodes {
			m.cut[[2]NodeID{a.ID(), o.ID()}], m.cut[[2]NodeID{o.ID(), a.ID()}] = true, true
		}
		return
	}
	m.cut[[2]NodeID{a.ID(), b.ID()}] = true
}

// wish has a leader want another rule.
func (m *model) wish(n *modelNode) {
	if n.leading == 0 {
		return
	}
	var others []NodeID
	for _, o := range n.state.Members {
		if o.ID != n.ID() && !o.Leaving {
			others = append(others, o.ID)
		}
	}
	m.random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	r := Rule{}
	switch {
	case m.chance(5): // on its own
	case m.chance(m.lossy):
		r.Lossy = true
	case len(others) > 0:
		r.K = 1 + m.random.IntN(min(2, len(others)))
		least := min(r.K+1, len(others)) // k < n, mostly
		r.Members = others[:least+m.random.IntN(len(others)-least+1)]
	}
	n.want = &r
}

// command does something that an operator might.
func (m *model) command() {
	n := m.nodes[m.random.IntN(len(m.nodes))]
	switch p := m.random.IntN(100); {
	case p < 60:
		m.apply(Command{Kind: SwitchoverCommand, Node: string(n.ID())})
	case p < 70:
		m.apply(Command{Kind: CancelCommand})
	case p < 73:
		m.apply(Command{Kind: ForceCommand, Node: string(n.ID()), DataLoss: m.allow.force && m.chance(50)})
	case p < 85 && len(m.nodes) < 8:
		m.apply(Command{Kind: JoinCommand, Member: m.addNode(fmt.Sprintf("n%d", len(m.nodes)+1)).member()})
	case p < 90:
		m.apply(Command{Kind: RemoveCommand, Node: string(n.ID())})
	default:
		m.apply(Command{Kind: MemberCommand, Node: string(n.ID()), Values: map[string]string{
			"priority": fmt.Sprint(m.random.IntN(3)), "never_leader": fmt.Sprint(m.chance(30)),
		}})
	}
}

func (m *model) apply(c Command) {
	s := m.state()
	next, _, err := c.Apply(s, m.facts(m.coords[m.active]))
	if err != nil || next.Version == s.Version {
		return
	}
	m.propose(s, next)
}

// heal mends everything and says why there is no leader after a while, "" if there is one.
func (m *model) heal() string {
	m.mend()
	m.inbox, m.healing, m.batch = nil, true, 100
	m.coords[m.active] = newCoordinator(m.now)
	for _, n := range m.nodes {
		m.restart(n)
		n.ready, n.deaf = true, 0
	}
	if m.settleDown() {
		return ""
	}
	if !m.damaged && m.lost == 0 {
		return "nobody leads, and no disk has lost anything: " + oneLine(m.state())
	}
	if !slices.ContainsFunc(m.nodes, func(n *modelNode) bool {
		_, member := m.state().member(n.ID())
		return member && !n.gone && len(n.log) > 0
	}) {
		return "" // there is nothing left to lead with
	}
	// What is gone with a disk can only be given up by an operator.
	for _, n := range m.nodes {
		if n.gone || len(n.log) == 0 {
			continue
		}
		m.apply(Command{Kind: ForceCommand, Node: string(n.ID()), DataLoss: true})
		if m.settleDown() {
			return ""
		}
	}
	return "nobody leads, even by force: " + oneLine(m.state())
}

// settleDown lets everything run in order until somebody leads, and says whether somebody does.
func (m *model) settleDown() bool {
	for range 3000 {
		if m.led() {
			return true
		}
		m.now += 20 * time.Millisecond
		for _, n := range m.nodes {
			if n.gone {
				continue
			}
			if n.state.Version < m.state().Version {
				m.adopt(n, m.state())
			}
			m.act(n)
			m.report(n, m.coords[m.active])
		}
		inbox := m.inbox
		m.inbox = nil
		for _, f := range inbox {
			f()
		}
		m.decide(m.coords[m.active])
	}
	return false
}

func (m *model) led() bool {
	s := m.state()
	leader := m.node(s.Leader)
	return s.Phase == Leading && leader != nil && !leader.gone && leader.leading == s.Epoch && s.Began.IsZero()
}
