package failover

import (
	"slices"
	"strings"

	"skein/internal/history"
)

// honest says whether the node's answer may count once it has promised: it holds data, its disk is the one that the
// cluster knows, and it has everything that it ever acknowledged. A node without any entry is not believed to
// have lost none, unless it was appointed like that, or nobody ever was.
func (s State) honest(m Member, o Observation) bool {
	return !m.Witness && s.up(o) && o.Disk == m.Disk && o.Tainted == "" &&
		(o.Position.LSN > 0 || m.ID == s.Leader || len(s.Rules) == 0)
}

// answers are the sealed answers that count, in the order of Members. Those of nodes that have fallen silent since are left
// out: the others must do without what these hold.
func (d *decision) answers() []Observation {
	return d.collect(func(m Member, o Observation) bool { return d.honest(m, o) && o.Promise == d.Epoch })
}

// prospects are the answers that an election could have now.
func (d *decision) prospects(without ...NodeID) []Observation {
	return d.collect(func(m Member, o Observation) bool { return d.honest(m, o) && !slices.Contains(without, m.ID) })
}

func (d *decision) collect(counts func(Member, Observation) bool) []Observation {
	var answers []Observation
	for _, m := range d.Members {
		if o := d.facts.look(m.ID); counts(m, o) {
			answers = append(answers, o)
		}
	}
	return answers
}

// elect waits until enough nodes have promised, and then chooses.
func (d *decision) elect() {
	if d.seenEpoch() > d.Epoch {
		d.begin("a node has a higher epoch")
		return
	}
	if d.giveUpForce() {
		return
	}
	answers := d.answers()
	if !d.mayChoose(answers) || d.mayStillBeAcknowledging() {
		return
	}
	answers = d.withoutTried(answers)
	to, ok := d.choose(answers)
	if !ok {
		d.tryAgain(answers)
		return
	}
	if d.impatient(answers, to) && !d.doubtful(answers, to) {
		d.decideOn(to, highest(answers), answers)
	}
}

// doubtful says whether the best would have to copy from a node that was tried, while somebody is late with whom the others may
// do without that one. A leader that was replaced because its followers do not reach it is ahead of them: half a
// FailoverTimeout without the second follower, and the first would be sent to copy from there in vain.
func (d *decision) doubtful(answers []Observation, to Observation) bool {
	source := highest(answers)
	return higher(source, to) && slices.Contains(d.Tried, source.Node) && d.someoneIsLate() && d.facts.Electing < 2*d.Settings.FailoverTimeout
}

// withoutTried leaves out who was tried, if the others prove enough without: a leader that nobody hears any more can be ahead of
// them by what it never acknowledged, and they would wait in vain to copy that. Who was tried for a candidate still proves what it does
// not have: if all of them are not enough to do without, the one that is ahead may be.
func (d *decision) withoutTried(answers []Observation) []Observation {
	ahead := highest(answers).Node
	for _, without := range []func(NodeID) bool{
		func(id NodeID) bool { return slices.Contains(d.Tried, id) },
		func(id NodeID) bool { return slices.Contains(d.Tried, id) && id == ahead },
	} {
		others := slices.DeleteFunc(slices.Clone(answers), func(a Observation) bool { return without(a.Node) })
		if _, ok := d.choose(others); ok && d.lossless(others) {
			return others
		}
	}
	return answers
}

// mayChoose says whether the answers prove enough for what is asked: by an operator, or by the rules.
func (d *decision) mayChoose(answers []Observation) bool {
	switch {
	case d.Forced != nil && d.Forced.DataLoss:
		return true
	case d.Forced != nil:
		return d.lossless(answers)
	}
	return d.enough(answers)
}

// mayStillBeAcknowledging says whether the leader may hold a lease to acknowledge by itself commits that the next
// leader would not have. Its promise ends that as well.
func (d *decision) mayStillBeAcknowledging() bool {
	if d.facts.LeaseOver || !slices.ContainsFunc(d.Rules, func(r Rule) bool { return r.Lossy && r.Leader == d.Leader }) {
		return false
	}
	m, _ := d.member(d.Leader)
	o := d.facts.look(d.Leader)
	return !o.heard() || o.Disk != m.Disk || o.Promise < d.Epoch
}

// impatient says whether to choose now rather than wait for more answers. Answers that are not needed can
// still show a better candidate; but only from nodes that are there, and only for so long. A switchover that is
// ready does not wait: nobody can have more than the leader that has stopped for it.
func (d *decision) impatient(answers []Observation, to Observation) bool {
	if d.Switchover != nil && d.Switchover.To == to.Node && d.leaderAnswered(answers) {
		return true
	}
	return d.facts.Electing >= d.Settings.FailoverTimeout/2 || !d.someoneIsLate()
}

// someoneIsLate says whether a node with data is there that has not promised yet.
func (d *decision) someoneIsLate() bool {
	return slices.ContainsFunc(d.Members, func(m Member) bool {
		o := d.facts.look(m.ID)
		return !m.Witness && (d.unknown(o) || d.up(o) && o.Disk == m.Disk && o.Promise < d.Epoch)
	})
}

func (d *decision) leaderAnswered(answers []Observation) bool {
	return slices.ContainsFunc(answers, func(a Observation) bool { return a.Node == d.Leader })
}

// choose gives the best of those that may lead.
func (d *decision) choose(answers []Observation) (best Observation, ok bool) {
	candidates := answers
	if d.Forced != nil && d.Forced.DataLoss {
		candidates = d.collect(func(m Member, o Observation) bool {
			return m.ID == d.Forced.To && d.up(o) && o.Disk == m.Disk && o.Promise == d.Epoch
		})
	}
	for _, a := range candidates {
		if d.whyNot(a) == "" && (!ok || d.better(a, best)) {
			best, ok = a, true
		}
	}
	return best, ok
}

// whyNot says why a node that answers may not lead; "" if it may.
func (d *decision) whyNot(a Observation) string {
	m, ok := d.member(a.Node)
	forced := d.Forced != nil && d.Forced.To == a.Node
	asked := forced || d.Switchover != nil && d.Switchover.Paused && d.Switchover.To == a.Node
	switch {
	case !ok:
		return "it is no member"
	case m.Witness:
		return "it holds no data"
	case d.Forced != nil && !forced:
		return "an operator wants " + d.name(d.Forced.To)
	case m.Leaving:
		return "it is leaving the cluster"
	case slices.Contains(d.Tried, a.Node):
		return "it was tried in this election"
	case !a.Ready:
		return "its databases are not open"
	case a.Stalled > d.Settings.FailoverTimeout:
		return "its disk has not answered for " + short(a.Stalled)
	case asked:
		return ""
	case m.NeverLeader && m.ID != d.Leader:
		return "it is never to lead"
	case m.Delay > 0:
		return "it is delayed on purpose"
	case d.Settings.Manual && !d.led(a.Node):
		return "nobody new is promoted in manual mode"
	case !d.inSyncSet(a.Node):
		return "it is not in the sync set"
	}
	return ""
}

// led says whether the node leads a rule: it was the leader, and whether another one has been since is not known.
func (d *decision) led(id NodeID) bool {
	return len(d.Rules) == 0 || slices.ContainsFunc(d.Rules, func(r Rule) bool { return r.Leader == id })
}

// inSyncSet says whether the newest rule lets the node lead without anybody asking for it.
func (d *decision) inSyncSet(id NodeID) bool {
	r, ok := d.newest()
	return !ok || r.names(id) || r.Lossy && len(r.Members) == 0 || d.led(id)
}

// better says whether a is to lead rather than b: it has more, or as much and is asked for, or as much and a higher priority.
func (d *decision) better(a, b Observation) bool {
	if higher(a, b) || higher(b, a) {
		return higher(a, b)
	}
	if d.Switchover != nil && d.Switchover.Paused {
		for _, id := range []NodeID{d.Switchover.To, d.Leader, d.before()} {
			if (a.Node == id) != (b.Node == id) {
				return a.Node == id
			}
		}
	}
	ma, _ := d.member(a.Node)
	mb, _ := d.member(b.Node)
	return ma.Priority > mb.Priority
}

// before is who led before the leader, as far as the rules remember.
func (d *decision) before() NodeID {
	for _, r := range slices.Backward(d.Rules) {
		if r.Leader != d.Leader {
			return r.Leader
		}
	}
	return ""
}

// higher says whether a has more than b: the later epoch, and within one the later entry. However many entries of an older
// epoch a node has, they cannot all have been acknowledged if a later epoch began without them.
func higher(a, b Observation) bool { return b.Position.Less(a.Position) }

func highest(answers []Observation) Observation {
	var best Observation
	for _, a := range answers {
		if higher(a, best) {
			best = a
		}
	}
	return best
}

// decideOn appoints to, or has it first copy what only source has.
func (d *decision) decideOn(to, source Observation, answers []Observation) {
	lossless := d.lossless(answers)
	if higher(source, to) {
		d.Phase, d.Candidate, d.Source, d.Goal = CatchingUp, to.Node, source.Node, source.Position
		if !lossless {
			d.Losses = append(d.Losses, d.Epoch)
		}
		d.happened(ElectionEvent, to.Node, "%s is to lead and first copies from %s, which has %d entries more%s", d.name(to.Node),
			d.name(source.Node), source.Position.LSN-min(to.Position.LSN, source.Position.LSN), d.because(to, answers))
		return
	}
	d.appoint(to.Node, lossless, answers)
}

// because says why a node that holds the most is not the one to lead.
func (d *decision) because(to Observation, answers []Observation) string {
	var reasons []string
	for _, a := range answers {
		if higher(a, to) {
			if why := d.whyNot(a); why != "" {
				reasons = append(reasons, d.name(a.Node)+": "+why)
			}
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	return " (" + strings.Join(reasons, "; ") + ")"
}

// appoint makes a node the leader of Epoch. Older rules stay until the new leader has settled its own; only
// one that was never used goes.
func (d *decision) appoint(to NodeID, lossless bool, answers []Observation) {
	if !lossless && !slices.Contains(d.Losses, d.Epoch) {
		d.Losses = append(d.Losses, d.Epoch)
	}
	rule := d.rotated(to)
	d.Rules = slices.DeleteFunc(d.Rules, func(r Rule) bool { return r.neverUsed(answers) })
	d.Rules = append(d.Rules, rule)
	first := d.Leader == ""
	if d.Began.IsZero() { // of a new cluster
		d.Began = d.facts.Now
	}
	again := d.Leader == to // it is no failover, and no reason to be slow with the next if that does not help
	d.Phase, d.Leader, d.Settings.Longest = Leading, to, 0
	d.Candidate, d.Source, d.Goal = "", "", history.Position{}
	if !first && !again && d.Forced == nil && (d.Switchover == nil || !d.Switchover.Paused) {
		d.LastFailover = d.facts.Now
	}
	d.happened(AppointedEvent, to, "%s is to lead epoch %d: %s", d.name(to), d.Epoch, d.Cause)
	if d.lost() {
		d.happened(LossEvent, to, "%s", d.stake())
	}
}

// lost says whether this epoch is one of Losses.
func (d *decision) lost() bool { return slices.Contains(d.Losses, d.Epoch) }

func (d *decision) stake() string {
	if d.Forced != nil && d.Forced.Stake != "" {
		return d.Forced.Stake
	}
	return "commits that only the leader before had are not in this epoch; they are kept in its vault when it returns"
}

// tryAgain lets those who failed once try once more, after a while, when nobody else is left.
func (d *decision) tryAgain(answers []Observation) {
	if len(d.Tried) == 0 || d.facts.Electing < 2*d.Settings.FailoverTimeout {
		return
	}
	tried := d.Tried
	d.Tried = nil
	if _, ok := d.choose(answers); !ok {
		d.Tried = tried
		return
	}
	d.happened(ElectionEvent, d.Leader, "nobody else can lead: %s may try again", strings.Join(d.nameAll(tried), ", "))
}

// catchUp waits until the candidate has everything that its source had.
func (d *decision) catchUp() {
	c, source := d.facts.look(d.Candidate), d.facts.look(d.Source)
	m, ok := d.member(d.Candidate)
	name := d.name(d.Candidate)
	reached := d.up(c) && ok && c.Disk == m.Disk && c.Promise == d.Epoch && c.Position == d.Goal && c.Flushed >= d.Goal.LSN
	switch {
	case !ok || m.Leaving:
		d.abandon(name+" left the cluster while it was to lead", d.Candidate)
	case reached && (c.Tainted == "" || d.Forced != nil && d.Forced.DataLoss):
		d.appoint(d.Candidate, !d.lost(), nil)
	case !d.up(c) && !d.unknown(c):
		d.abandon(name+" fell silent while it was to lead", d.Candidate)
	case c.heard() && c.Disk != m.Disk:
		d.abandon(name+" has another disk than the cluster knows", d.Candidate)
	case d.seen(c) && c.Failed != "":
		d.abandon(name+" cannot lead: "+c.Failed, d.Candidate)
	case !d.up(source) && !d.unknown(source):
		d.abandon(d.name(d.Source) + " fell silent while " + name + " copied from it")
	case d.facts.Electing >= 2*d.Settings.FailoverTimeout && !(c.Upstream == d.Source && c.Streaming):
		// One of the two is to blame: first the source, without which the others may do.
		blame := d.Source
		if slices.Contains(d.Tried, d.Source) {
			blame = d.Candidate
		}
		d.abandon(name+" could not copy from "+d.name(d.Source), blame)
	}
}

// abandon gives up an attempt before anybody was appointed in it.
func (d *decision) abandon(cause string, tried ...NodeID) {
	d.Losses = slices.DeleteFunc(d.Losses, func(e history.Epoch) bool { return e == d.Epoch })
	d.begin(cause, tried...)
}

// giveUpForce ends an operator's order that is not going to be carried out: its node is leaving, or it has not led for too long,
// dead or without a proof that nothing would be lost. The rules decide again.
func (d *decision) giveUpForce() bool {
	if d.Forced == nil {
		return false
	}
	m, ok := d.member(d.Forced.To)
	late := !d.facts.Now.Before(d.Forced.Till) || d.facts.Electing >= 2*forceWait
	if ok && !m.Leaving && !late {
		return false
	}
	why := "it is leaving the cluster"
	switch {
	case ok && !m.Leaving && d.Forced.DataLoss:
		why = "it could not lead"
	case ok && !m.Leaving:
		why = "it could not be shown that nothing would be lost"
	}
	d.happened(ForcedEvent, d.Forced.To, "%s is not promoted: %s", d.name(d.Forced.To), why)
	d.Forced = nil
	return true
}
