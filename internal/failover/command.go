package failover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CommandKind says what an operator, or a node that joins, wants.
type CommandKind string

// The kinds, and which fields each looks at.
const (
	JoinCommand       CommandKind = "join"       // Member. Again, it brings a member's addresses up to date
	RemoveCommand     CommandKind = "remove"     // Node
	MemberCommand     CommandKind = "member"     // Node, Values: never_leader, hidden, priority, delay
	SwitchoverCommand CommandKind = "switchover" // Node ("": whoever fits best), At, Till, By
	CancelCommand     CommandKind = "cancel"     // a switchover that has not begun
	ForceCommand      CommandKind = "force"      // Node, DataLoss, By
	TellCommand       CommandKind = "tell"       // Node, Event, Text: what happened to a node, for the history
	SettingsCommand   CommandKind = "settings"   // Values: failover, failover_timeout, failover_pause, stall_timeout
)

// Command is a change that somebody asks for.
type Command struct {
	Kind     CommandKind
	Node     string            `json:",omitempty"` // name or ID of a member
	Member   Member            `json:",omitzero"`
	Values   map[string]string `json:",omitempty"`
	At       time.Time         `json:",omitzero"`
	Till     time.Time         `json:",omitzero"`
	By       string            `json:",omitempty"`
	DataLoss bool              `json:",omitempty"`
	Event    EventKind         `json:",omitempty"`
	Text     string            `json:",omitempty"`
}

const (
	// switchoverWait is for how long a switchover waits for its target, unless whoever asks says until when.
	switchoverWait = time.Minute
	// forceWait is for how long an operator's choice goes before the rules again.
	forceWait = 10 * time.Second
)

// Apply gives the State in which the command is carried out, or is being carried out. The State is s, with its Version, if there is
// nothing to do. The error is for whoever asked, and says what would do.
func (c Command) Apply(s State, f Facts) (State, []Event, error) {
	d := newDecision(s, f)
	if err := c.apply(d); err != nil {
		return s, nil, err
	}
	if !d.changed {
		return s, nil, nil
	}
	d.Version++
	return d.State, d.events, nil
}

func (c Command) apply(d *decision) error {
	switch c.Kind {
	case JoinCommand:
		return c.join(d)
	case SettingsCommand:
		return c.settings(d)
	case CancelCommand:
		return c.cancel(d)
	case RemoveCommand, MemberCommand, ForceCommand, SwitchoverCommand, TellCommand:
	default:
		return fmt.Errorf("there is no command %q", c.Kind)
	}
	m, err := d.find(c.Node)
	if err != nil && !(c.Kind == SwitchoverCommand && c.Node == "") {
		return err
	}
	switch c.Kind {
	case RemoveCommand:
		return c.remove(d, m)
	case MemberCommand:
		return c.alter(d, m)
	case ForceCommand:
		return c.force(d, m)
	case TellCommand:
		return c.tell(d, m)
	}
	return c.switchover(d, m)
}

func (d *decision) change(id NodeID, f func(*Member)) {
	for i := range d.Members {
		if d.Members[i].ID == id {
			f(&d.Members[i])
		}
	}
}

// find gives the member of that name or ID.
func (d *decision) find(node string) (Member, error) {
	for _, m := range d.Members {
		if m.Name == node {
			return m, nil
		}
	}
	if m, ok := d.member(NodeID(node)); ok {
		return m, nil
	}
	var names []string
	for _, m := range d.Members {
		names = append(names, m.Name)
	}
	return Member{}, fmt.Errorf("there is no node %q; there are %s", node, strings.Join(names, ", "))
}

// join adds a member. A node that was wiped and comes back under its old name is another one: the old one keeps its
// place in rules, where nobody can speak for it any more, and leaves.
func (c Command) join(d *decision) error {
	m := c.Member
	if m.ID == "" || m.Name == "" || m.Disk == "" || m.PeerAddr == "" {
		return errors.New("a node joins with an id, a name, a disk and an address for its peers")
	}
	m.Leaving = false
	if old, ok := d.member(m.ID); ok {
		return c.rejoin(d, old, m)
	}
	for i, old := range d.Members {
		if old.Name != m.Name {
			continue
		}
		if o := d.facts.look(old.ID); d.up(o) || d.unknown(o) {
			return fmt.Errorf("there is a node %s already, and it is running: give this one another name", m.Name)
		}
		d.Members[i].Name = d.freeName(m.Name + "-lost")
		d.Members[i].Leaving = true
		d.happened(MemberEvent, old.ID, "what was %s is now called %s, and leaves: another node came under its name", m.Name, d.Members[i].Name)
		break
	}
	d.Members = append(d.Members, m)
	what := ""
	if m.Witness {
		what = " as a witness"
	}
	d.happened(JoinEvent, m.ID, "%s joined%s, at %s", m.Name, what, m.PeerAddr)
	return nil
}

func (d *decision) freeName(name string) string {
	free := name
	for i := 2; slices.ContainsFunc(d.Members, func(m Member) bool { return m.Name == free }); i++ {
		free = name + strconv.Itoa(i)
	}
	return free
}

// rejoin is a member that says again where it is. With another disk it is not the one that the rules speak of.
func (c Command) rejoin(d *decision, old, m Member) error {
	if old.Disk != m.Disk && d.needs(old.ID) {
		return fmt.Errorf("%s has another disk than the cluster knows, and commits may have been acknowledged by the one of before: "+
			"remove its directory and let it join as a new node", old.Name)
	}
	if old.Witness != m.Witness {
		return fmt.Errorf("%s joined with witness = %t: remove it first", old.Name, old.Witness)
	}
	if slices.ContainsFunc(d.Members, func(o Member) bool { return o.ID != old.ID && o.Name == m.Name }) {
		return fmt.Errorf("there is another node %s: choose another name", m.Name)
	}
	if o := d.facts.look(old.ID); old.PeerAddr != m.PeerAddr && d.up(o) {
		return fmt.Errorf("%s is running at %s: if this is a copy of its directory, empty it, and join as a new node", old.Name, old.PeerAddr)
	}
	now := old
	now.Disk, now.Name, now.PeerAddr, now.PGAddr = m.Disk, m.Name, m.PeerAddr, m.PGAddr // one that is leaving leaves wherever it is
	if now == old {
		return nil
	}
	d.change(m.ID, func(m *Member) { *m = now })
	d.happened(MemberEvent, m.ID, "%s is at %s", m.Name, m.PeerAddr)
	return nil
}

// remove asks a member to go. It is gone once no rule names it: the leader first acknowledges without it.
func (c Command) remove(d *decision, m Member) error {
	if m.ID == d.Leader {
		return fmt.Errorf("%s leads: have another node lead first, with skein switchover, or skein failover if it is dead", m.Name)
	}
	if len(d.Members) == 1 {
		return fmt.Errorf("%s is the only node", m.Name)
	}
	if m.Leaving {
		return nil
	}
	if r, ok := d.newest(); ok && slices.Contains(r.Members, m.ID) {
		staying := 0
		for _, id := range r.Members {
			if o, ok := d.member(id); ok && !o.Leaving && id != m.ID {
				staying++
			}
		}
		if staying < r.K {
			return fmt.Errorf("commits wait for %d standbys, and without %s there would be %d: lower synchronous_standby_names first",
				r.K, m.Name, staying)
		}
	}
	d.change(m.ID, func(m *Member) { m.Leaving = true })
	if !d.needs(m.ID) && d.leads() {
		d.remove(m)
		return nil
	}
	d.happened(RemoveEvent, m.ID, "%s is to leave the cluster", m.Name)
	return nil
}

// maxText bounds what a node tells the history.
const maxText = 500

// tell adds to the history what happened to a node. Nothing else changes.
func (c Command) tell(d *decision, m Member) error {
	if c.Event != RejoinEvent && c.Event != RepairEvent && c.Event != AlarmEvent {
		return fmt.Errorf("a node does not tell of a %q", c.Event)
	}
	if len(c.Text) > maxText {
		return fmt.Errorf("a text of %d bytes is too long for the history, which takes %d", len(c.Text), maxText)
	}
	d.happened(c.Event, m.ID, "%s", c.Text)
	return nil
}

// alter sets attributes of a member.
func (c Command) alter(d *decision, m Member) error {
	now := m
	for _, name := range slices.Sorted(maps.Keys(c.Values)) {
		value := c.Values[name]
		var err error
		switch name {
		case "never_leader":
			now.NeverLeader, err = boolean(value)
		case "hidden":
			now.Hidden, err = boolean(value)
		case "priority":
			if now.Priority, err = strconv.Atoi(value); err != nil {
				err = errors.New("want a whole number")
			}
		case "delay":
			now.Delay, err = duration(value, 0, 365*24*time.Hour)
		default:
			return fmt.Errorf("a node has no %q; it has never_leader, hidden, priority and delay", name)
		}
		if err != nil {
			return fmt.Errorf("%s = %q: %w", name, value, err)
		}
	}
	if now == m {
		return nil
	}
	if now.NeverLeader && !m.NeverLeader && m.ID == d.Leader {
		return fmt.Errorf("%s leads: have another node lead first, with skein switchover", m.Name)
	}
	d.change(m.ID, func(m *Member) { *m = now })
	d.happened(MemberEvent, m.ID, "%s: %s", m.Name, listed(c.Values))
	return nil
}

// settings sets what decisions depend on.
func (c Command) settings(d *decision) error {
	s := d.Settings
	for _, name := range slices.Sorted(maps.Keys(c.Values)) {
		value := c.Values[name]
		var err error
		switch name {
		case "failover":
			switch value {
			case "automatic", "manual":
				s.Manual = value == "manual"
			default:
				err = errors.New("want automatic or manual")
			}
		case "failover_timeout":
			s.FailoverTimeout, err = duration(value, 200*time.Millisecond, 10*time.Minute)
		case "failover_pause":
			s.FailoverPause, err = duration(value, 0, 24*time.Hour)
		case "stall_timeout":
			s.StallTimeout, err = duration(value, time.Second, time.Hour)
		default:
			return fmt.Errorf("the cluster has no setting %q; it has failover, failover_timeout, failover_pause and stall_timeout", name)
		}
		if err != nil {
			return fmt.Errorf("%s = %q: %w", name, value, err)
		}
	}
	if s == d.Settings {
		return nil
	}
	if s.FailoverTimeout < d.Settings.FailoverTimeout {
		s.Longest = max(s.Longest, d.Settings.FailoverTimeout)
	}
	d.Settings = s
	d.happened(SettingsEvent, d.Leader, "%s", listed(c.Values))
	return nil
}

func listed(values map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, name+" = "+values[name])
	}
	return strings.Join(parts, ", ")
}

func boolean(value string) (bool, error) {
	switch value {
	case "on", "true", "yes", "1":
		return true, nil
	case "off", "false", "no", "0":
		return false, nil
	}
	return false, errors.New("want on or off")
}

// duration reads one as time.ParseDuration does; a plain number is milliseconds, as in PostgreSQL's settings.
func duration(value string, least, most time.Duration) (time.Duration, error) {
	v, err := time.ParseDuration(value)
	if ms, plain := strconv.Atoi(value); plain == nil {
		v, err = time.Duration(ms)*time.Millisecond, nil
	}
	if err != nil {
		return 0, errors.New("want a duration such as 500ms or 2s")
	}
	if v < least || v > most {
		return 0, fmt.Errorf("want one from %s to %s", least, most)
	}
	return v, nil
}

// switchover asks for an orderly change of leader.
func (c Command) switchover(d *decision, m Member) error {
	if d.Phase != Leading || !d.Began.IsZero() {
		return errors.New("the cluster is choosing a leader: wait until it has one")
	}
	if d.Switchover != nil && d.Switchover.Paused {
		return fmt.Errorf("a switchover to %s is under way", d.name(d.Switchover.To))
	}
	if c.Node != "" {
		switch {
		case m.ID == d.Leader:
			return fmt.Errorf("%s leads already", m.Name)
		case m.Witness:
			return fmt.Errorf("%s is a witness: it holds no data", m.Name)
		case m.Leaving:
			return fmt.Errorf("%s is leaving the cluster", m.Name)
		case m.NeverLeader:
			return fmt.Errorf("%s is never to lead: set its never_leader to off first", m.Name)
		}
	}
	o := &Switchover{To: m.ID, At: c.At, Till: c.Till, By: c.By}
	start := o.At
	if start.Before(d.facts.Now) {
		start = d.facts.Now
		if why := d.unfit(m.ID); c.Node != "" && why != "" {
			return fmt.Errorf("%s: choose another node, or wait", why)
		}
	}
	if o.Till.IsZero() {
		o.Till = start.Add(switchoverWait)
	}
	if !o.Till.After(start) {
		return fmt.Errorf("a switchover that is to begin at %s cannot end before", start.Format(time.RFC3339))
	}
	d.Switchover = o
	to := "the node that fits best"
	if c.Node != "" {
		to = m.Name
	}
	when := ""
	if start == o.At {
		when = " at " + o.At.Format(time.RFC3339)
	}
	d.happened(SwitchoverEvent, m.ID, "a switchover to %s is asked for%s%s", to, when, strings.TrimPrefix(by(c.By), ", asked for"))
	return nil
}

// cancel ends a switchover that has not begun; one whose writes wait is decided within seconds.
func (c Command) cancel(d *decision) error {
	switch {
	case d.Switchover == nil:
		return errors.New("no switchover is asked for")
	case d.Phase != Leading:
		return errors.New("the switchover is under way: its election has begun")
	}
	d.giveUp("cancelled" + by(c.By))
	return nil
}

// force has the cluster elect a node that an operator names. Without DataLoss it has to be provable, now and when it is
// elected, that nothing is lost.
func (c Command) force(d *decision, m Member) error {
	d.change(m.ID, func(m *Member) { m.Leaving = false })
	if why := d.unfit(m.ID); why != "" && !(c.DataLoss && d.onlyTainted(m)) {
		return fmt.Errorf("%s: it cannot be promoted", why)
	}
	switch {
	case m.Witness:
		return fmt.Errorf("%s is a witness: it holds no data", m.Name)
	case m.ID == d.Leader && d.facts.look(m.ID).Leading == d.Epoch:
		return fmt.Errorf("%s leads already", m.Name)
	case d.facts.look(m.ID).Position.LSN == 0 && len(d.Rules) > 0:
		return fmt.Errorf("%s holds nothing", m.Name)
	}
	stake := d.atStake()
	if !c.DataLoss && stake != "" {
		return fmt.Errorf("it cannot be shown that nothing would be lost: %s. With --accept-data-loss %s is promoted all the same", stake, m.Name)
	}
	d.Forced = &Forced{To: m.ID, By: c.By, DataLoss: c.DataLoss, Till: d.facts.Now.Add(forceWait)}
	if c.DataLoss {
		d.Forced.Stake = stake
	}
	d.Switchover, d.Tried = nil, nil
	cause := "failover to " + m.Name + by(c.By)
	if c.DataLoss {
		cause += ", accepting that commits may be lost"
		d.happened(ForcedEvent, m.ID, "%s. At stake: %s", cause, cmp.Or(stake, "nothing, as far as can be seen"))
	}
	d.begin(cause)
	return nil
}

// onlyTainted says whether nothing but what it may lack speaks against a node.
func (d *decision) onlyTainted(m Member) bool {
	o := d.facts.look(m.ID)
	return d.up(o) && o.Disk == m.Disk && o.Ready && o.Stalled <= d.Settings.FailoverTimeout
}
