package failover

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"skein/internal/history"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

// TestScripts runs testdata/*.txt. A line that begins with a letter is a command of world, the indented lines below it are
// what it prints.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(script))
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, script) {
				t.Errorf("%s: see with -update and git diff what has changed; first difference:\n%s", file, firstDifference(script, got))
			}
		})
	}
}

func runScript(t *testing.T, script string) []byte {
	var out bytes.Buffer
	w := newWorld()
	for n, line := range strings.Split(strings.TrimSuffix(script, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "  "):
			continue // old output
		case line == "" || line[0] == '#':
			fmt.Fprintln(&out, line)
			continue
		}
		fmt.Fprintln(&out, line)
		w.out.Reset()
		if err := w.run(strings.Fields(line)); err != nil {
			t.Fatalf("line %d: %s: %v", n+1, line, err)
		}
		for _, l := range strings.Split(strings.TrimSuffix(w.out.String(), "\n"), "\n") {
			if l != "" {
				fmt.Fprintln(&out, "  "+l)
			}
		}
	}
	return out.Bytes()
}

func firstDifference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\n-%s\n+%s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// world is a cluster of which nothing runs: a State, and what its nodes would report. Nodes that are alive carry out their duties
// only at `obey` and `go`.
type world struct {
	out   strings.Builder
	state State
	facts Facts
	dead  map[NodeID]bool // silent, by death or by a cut
}

func newWorld() *world {
	return &world{
		facts: Facts{Now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), Elapsed: time.Hour, LeaseOver: true},
		dead:  map[NodeID]bool{},
	}
}

// node is the report of a node, to be changed.
func (w *world) node(id NodeID) *Observation {
	for i := range w.facts.Nodes {
		if w.facts.Nodes[i].Node == id {
			return &w.facts.Nodes[i]
		}
	}
	w.facts.Nodes = append(w.facts.Nodes, Observation{Report: Report{
		Node: id, Disk: "disk-" + string(id), Incarnation: 1, Ready: true, Heard: -1,
	}})
	return &w.facts.Nodes[len(w.facts.Nodes)-1]
}

func (w *world) run(words []string) error {
	args := words[1:]
	commands := map[string]func([]string) error{
		"members": w.members, "leading": w.leading, "report": w.report, "silence": w.silence, "tick": w.tick, "next": w.next,
		"obey": w.obey, "go": w.goOn, "die": w.die, "start": w.start, "want": w.want, "settle": w.settle, "write": w.write,
		"switchover": w.switchover, "cancel": w.cancel, "force": w.force, "join": w.join, "remove": w.remove, "set": w.set, "config": w.config,
		"state": w.show, "duty": w.duty, "voters": w.voters, "lease": w.lease, "coordinator": w.coordinator, "forget": w.forget,
		"explain": w.explain, "dry-run": w.dryRun,
	}
	run, ok := commands[words[0]]
	if !ok {
		return fmt.Errorf("no command %s", words[0])
	}
	return run(args)
}

// members makes a cluster that has never had a leader: name, or name:attribute,attribute.
func (w *world) members(args []string) error {
	*w = *newWorld()
	for _, arg := range args {
		name, attributes, _ := strings.Cut(arg, ":")
		m := Member{ID: NodeID(name), Name: name, Disk: "disk-" + name, PeerAddr: name + ":7432", PGAddr: name + ":5432"}
		for _, a := range strings.Split(attributes, ",") {
			switch key, value, _ := strings.Cut(a, "="); key {
			case "":
			case "witness":
				m.Witness, m.PGAddr = true, ""
			case "never-leader":
				m.NeverLeader = true
			case "hidden":
				m.Hidden = true
			case "delayed":
				m.Delay = time.Hour
			case "priority":
				m.Priority, _ = strconv.Atoi(value)
			default:
				return fmt.Errorf("no attribute %s", key)
			}
		}
		if w.state.Version == 0 {
			w.state = NewCluster(m)
			w.state.Settings.FailoverTimeout = 500 * time.Millisecond // what the stories' times are told by
		} else {
			w.state.Members = append(w.state.Members, m)
		}
		w.node(m.ID)
	}
	w.facts.Self = w.state.Members[len(w.state.Members)-1].ID
	return nil
}

// leading makes node lead epoch 4 by a rule, with everything in order and 100 entries everywhere.
func (w *world) leading(args []string) error {
	leader := NodeID(args[0])
	rule, err := parseRule(args[1:])
	if err != nil {
		return err
	}
	rule.ID, rule.Leader, rule.Epoch = 7, leader, 4
	w.state.Epoch, w.state.Phase, w.state.Leader, w.state.Cause, w.state.Rules = 4, Leading, leader, "", []Rule{rule}
	for _, m := range w.state.Members {
		o := w.node(m.ID)
		o.Seen, o.Promise = w.state.Version, 4
		if !m.Witness {
			o.Position = position(4, 100)
			o.Flushed = 100
		}
	}
	w.node(leader).Settled, w.node(leader).Leading = 7, 4
	return w.obey(nil)
}

func position(e history.Epoch, l history.LSN) history.Position {
	return history.Position{Epoch: e, LSN: l, Chain: history.Hash(uint64(e)*1000 + uint64(l))}
}

// parseRule reads "any 1 n2 n3", "first 1 n2 n3", "alone" and "lossy n2 n3".
func parseRule(args []string) (Rule, error) {
	var r Rule
	switch args[0] {
	case "any", "first":
		k, err := strconv.Atoi(args[1])
		if err != nil {
			return r, err
		}
		r.K, r.First = k, args[0] == "first"
		args = args[2:]
	case "alone", "lossy":
		r.Lossy = args[0] == "lossy"
		args = args[1:]
	default:
		return r, fmt.Errorf("no rule %s", args[0])
	}
	for _, a := range args {
		r.Members = append(r.Members, NodeID(a))
	}
	return r, nil
}

// report has a node say something, and be heard.
func (w *world) report(args []string) error {
	o := w.node(NodeID(args[0]))
	o.Silence, o.Refused = 0, false
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		n, _ := strconv.ParseUint(value, 10, 64)
		d, _ := time.ParseDuration(value)
		switch key {
		case "pos":
			e, l, _ := strings.Cut(value, "/")
			epoch, _ := strconv.ParseUint(e, 10, 64)
			lsn, _ := strconv.ParseUint(l, 10, 64)
			o.Position, o.Flushed = position(history.Epoch(epoch), history.LSN(lsn)), history.LSN(lsn)
		case "promise":
			o.Promise = history.Epoch(n)
		case "leading":
			o.Leading = history.Epoch(n)
		case "seen":
			o.Seen = n
		case "settled":
			o.Settled = n
		case "flushed":
			o.Flushed = history.LSN(n)
		case "disk":
			o.Disk = value
		case "tainted":
			o.Tainted = strings.ReplaceAll(value, "-", " ")
		case "failed":
			o.Failed = strings.ReplaceAll(value, "-", " ")
		case "ready":
			o.Ready = value == "yes"
		case "stalled":
			o.Stalled = d
		case "deaf":
			o.Deaf = d
		case "heard":
			o.Heard = d
		case "streaming":
			o.Streaming = value == "yes"
		case "upstream":
			o.Upstream = NodeID(value)
		case "paused":
			o.Paused = value == "yes"
		case "atrisk":
			o.AtRisk = int64(n)
		default:
			return fmt.Errorf("no field %s", key)
		}
	}
	return nil
}

func (w *world) silence(args []string) error {
	d, err := time.ParseDuration(args[1])
	w.node(NodeID(args[0])).Silence = d
	return err
}

// tick lets time pass: the dead are silent for longer, and so are they for those who listen to them.
func (w *world) tick(args []string) error {
	d, err := time.ParseDuration(args[0])
	w.facts.Now = w.facts.Now.Add(d)
	w.facts.Elapsed += d
	w.facts.Electing += d
	for i := range w.facts.Nodes {
		o := &w.facts.Nodes[i]
		if w.dead[o.Node] {
			o.Silence += d
		} else if w.dead[o.Upstream] && o.Heard >= 0 {
			o.Heard += d
		}
	}
	return err
}

// die ends nodes: "refused" if their machines say so.
func (w *world) die(args []string) error {
	refused := slices.Contains(args, "refused")
	for _, a := range args {
		if a == "refused" {
			continue
		}
		w.dead[NodeID(a)] = true
		w.node(NodeID(a)).Refused = refused
		for i := range w.facts.Nodes {
			if o := &w.facts.Nodes[i]; o.Upstream == NodeID(a) {
				o.Streaming = false
			}
		}
	}
	return nil
}

// start brings nodes back, as another process with the log of before.
func (w *world) start(args []string) error {
	for _, a := range args {
		delete(w.dead, NodeID(a))
		o := w.node(NodeID(a))
		*o = Observation{Report: Report{
			Node: o.Node, Disk: o.Disk, Incarnation: o.Incarnation + 1, Promise: o.Promise, Position: o.Position, Flushed: o.Position.LSN,
			Ready: true, Heard: -1, Seen: w.state.Version,
		}}
	}
	return nil
}

// next asks for the next State until there is none, and prints what happened.
func (w *world) next([]string) error {
	for range 50 {
		s, events, ok := Next(w.state, w.facts)
		if !ok {
			return nil
		}
		if err := check(w.state, s); err != nil {
			return err
		}
		w.commit(s, events)
	}
	return fmt.Errorf("Next never ends: %+v", w.state)
}

func (w *world) commit(s State, events []Event) {
	if s.Epoch != w.state.Epoch || s.Phase != w.state.Phase {
		w.facts.Electing = 0
	}
	for _, e := range events {
		fmt.Fprintf(&w.out, "%s %s: %s\n", e.Kind, e.Node, e.Text)
	}
	w.difference(w.state, s)
	w.state = s
}

// check holds for every step from one State to the next.
func check(old, s State) error {
	switch {
	case s.Version != old.Version+1:
		return fmt.Errorf("version %d after %d", s.Version, old.Version)
	case s.Epoch < old.Epoch:
		return fmt.Errorf("epoch %d after %d", s.Epoch, old.Epoch)
	case s.Phase == Leading && s.Epoch == old.Epoch && old.Phase == Leading && s.Leader != old.Leader:
		return fmt.Errorf("two leaders in epoch %d", s.Epoch)
	}
	for i, r := range s.Rules {
		if i > 0 && r.ID <= s.Rules[i-1].ID {
			return fmt.Errorf("rules out of order: %v", s.Rules)
		}
	}
	if s.Phase == Leading {
		if r, ok := s.newest(); !ok || r.Leader != s.Leader || r.Epoch != s.Epoch {
			return fmt.Errorf("the newest rule is not the leader's: %+v", s)
		}
	}
	return nil
}

// difference prints what of a State has changed.
func (w *world) difference(a, b State) {
	before, after := strings.Split(describe(a), "\n"), strings.Split(describe(b), "\n")
	for _, line := range after {
		if !slices.Contains(before, line) {
			fmt.Fprintln(&w.out, "  "+line)
		}
	}
	for _, line := range before {
		if key, _, _ := strings.Cut(line, ":"); !slices.ContainsFunc(after, func(l string) bool { return strings.HasPrefix(l, key+":") }) {
			fmt.Fprintln(&w.out, "  no "+key)
		}
	}
}

// describe gives one line for everything of a State that is set, but for its version and its members.
func describe(s State) string {
	var lines []string
	line := func(set bool, format string, args ...any) {
		if set {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	who := s.Leader
	if who == "" {
		who = "nobody"
	}
	line(true, "epoch: %d %s, leader %s", s.Epoch, s.Phase, who)
	line(s.Phase == CatchingUp, "candidate: %s from %s up to %d/%d", s.Candidate, s.Source, s.Goal.Epoch, s.Goal.LSN)
	line(len(s.Tried) > 0, "tried: %s", strings.Join(s.nameAll(s.Tried), " "))
	for _, r := range s.Rules {
		line(true, "rule %d: epoch %d, %s", r.ID, r.Epoch, s.words(r))
	}
	if o := s.Switchover; o != nil {
		line(true, "switchover: to %q, paused %t", o.To, o.Paused)
	}
	if o := s.Forced; o != nil {
		line(true, "forced: %s, data loss accepted %t", o.To, o.DataLoss)
	}
	line(len(s.Losses) > 0, "losses: %v", s.Losses)
	return strings.Join(lines, "\n")
}

func (w *world) show([]string) error {
	fmt.Fprintln(&w.out, describe(w.state))
	return nil
}

// obey has nodes that are alive carry out their duties: those that are named, or all.
func (w *world) obey(args []string) error {
	for i := range w.facts.Nodes {
		o := &w.facts.Nodes[i]
		if w.dead[o.Node] || len(args) > 0 && !slices.Contains(args, string(o.Node)) {
			continue
		}
		w.carryOut(o, DutyOf(w.state, o.Node))
	}
	return nil
}

func (w *world) carryOut(o *Observation, duty Duty) {
	o.Seen, o.Silence, o.Refused = w.state.Version, 0, false
	if duty.Epoch > o.Promise {
		o.Promise, o.Leading, o.Paused, o.Failed = duty.Epoch, 0, false, ""
	}
	if duty.Role != Follow {
		o.Upstream, o.Streaming, o.Heard = "", false, -1
	}
	m, ok := w.state.member(o.Node)
	if !ok || m.Witness || o.Disk != m.Disk {
		return
	}
	switch duty.Role {
	case Lead:
		if o.Leading != duty.Epoch && o.Position.Epoch >= duty.Epoch {
			o.Failed = "it has led this epoch before"
			return
		}
		if o.Leading != duty.Epoch && o.Ready && o.Failed == "" {
			o.Leading, o.Position = duty.Epoch, position(duty.Epoch, o.Position.LSN+1)
			o.Flushed = o.Position.LSN
			o.Tainted = ""
		}
		o.Paused = duty.Pause
		if o.Want != nil && o.Want.same(duty.Rule) {
			o.Want = nil
		}
	case Follow:
		o.Failed = ""
		up := w.node(duty.Upstream.ID)
		o.Upstream = duty.Upstream.ID
		leads := up.Leading == duty.Epoch || duty.Goal != history.Position{}
		o.Streaming = !w.dead[up.Node] && leads
		if o.Streaming {
			o.Heard, o.Position, o.Flushed, o.Tainted = 0, up.Position, up.Position.LSN, ""
		}
	}
}

// goOn has everybody act until nothing changes.
func (w *world) goOn([]string) error {
	for range 20 {
		v := w.state.Version
		if err := w.next(nil); err != nil {
			return err
		}
		if err := w.obey(nil); err != nil {
			return err
		}
		if _, _, more := Next(w.state, w.facts); !more && w.state.Version == v {
			return nil
		}
	}
	return fmt.Errorf("it never ends: %+v", w.state)
}

func (w *world) want(args []string) error {
	r, err := parseRule(args[1:])
	w.node(NodeID(args[0])).Want = &r
	return err
}

// settle has the leader say that everything is acknowledged by the newest rule.
func (w *world) settle([]string) error {
	r, _ := w.state.newest()
	w.node(w.state.Leader).Settled = r.ID
	return nil
}

// write appends entries on a node, and on those that are named after it.
func (w *world) write(args []string) error {
	n, err := strconv.ParseUint(args[0], 10, 64)
	p := w.node(NodeID(args[1])).Position
	for _, a := range args[1:] {
		o := w.node(NodeID(a))
		o.Position = position(p.Epoch, p.LSN+history.LSN(n))
		o.Flushed = o.Position.LSN
	}
	return err
}

func (w *world) apply(c Command) error {
	s, events, err := c.Apply(w.state, w.facts)
	switch {
	case err != nil:
		fmt.Fprintln(&w.out, "error:", err)
		return nil
	case s.Version == w.state.Version:
		fmt.Fprintln(&w.out, "nothing to do")
		return nil
	}
	if err := check(w.state, s); err != nil {
		return err
	}
	w.commit(s, events)
	return nil
}

// values splits "to=n2 in=5s" into what stands before and after "=".
func values(args []string) map[string]string {
	v := map[string]string{}
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		v[key] = value
	}
	return v
}

func (w *world) switchover(args []string) error {
	v := values(args)
	c := Command{Kind: SwitchoverCommand, Node: v["to"], By: v["by"]}
	if in, ok := v["in"]; ok {
		d, err := time.ParseDuration(in)
		if err != nil {
			return err
		}
		c.At = w.facts.Now.Add(d)
	}
	return w.apply(c)
}

func (w *world) cancel([]string) error { return w.apply(Command{Kind: CancelCommand}) }

func (w *world) force(args []string) error {
	return w.apply(Command{Kind: ForceCommand, Node: args[0], By: "alice", DataLoss: slices.Contains(args, "accept-data-loss")})
}

// join lets a node come: name, id= and disk= if they are not made of the name, and "witness".
func (w *world) join(args []string) error {
	v := values(args)
	id := args[0]
	if v["id"] != "" {
		id = v["id"]
	}
	_, witness := v["witness"]
	m := Member{ID: NodeID(id), Name: args[0], Disk: "disk-" + id, PeerAddr: args[0] + ":7432", Witness: witness}
	if v["disk"] != "" {
		m.Disk = v["disk"]
	}
	if v["at"] != "" {
		m.PeerAddr = v["at"]
	}
	if err := w.apply(Command{Kind: JoinCommand, Member: m}); err != nil {
		return err
	}
	if _, ok := w.state.member(m.ID); ok {
		w.node(m.ID)
	}
	return nil
}

func (w *world) remove(args []string) error {
	return w.apply(Command{Kind: RemoveCommand, Node: args[0]})
}

func (w *world) set(args []string) error {
	return w.apply(Command{Kind: MemberCommand, Node: args[0], Values: values(args[1:])})
}

func (w *world) config(args []string) error {
	return w.apply(Command{Kind: SettingsCommand, Values: values(args)})
}

func (w *world) duty(args []string) error {
	d := DutyOf(w.state, NodeID(args[0]))
	fmt.Fprintf(&w.out, "%s in epoch %d", d.Role, d.Epoch)
	if d.Upstream.ID != "" {
		fmt.Fprintf(&w.out, ", from %s", d.Upstream.ID)
	}
	if d.Goal.LSN > 0 {
		fmt.Fprintf(&w.out, ", which must have %d/%d", d.Goal.Epoch, d.Goal.LSN)
	}
	if d.Role == Lead {
		fmt.Fprintf(&w.out, ", by rule %d", d.Rule.ID)
	}
	if d.Pause {
		fmt.Fprint(&w.out, ", writes stopped")
	}
	if d.Awaited {
		fmt.Fprint(&w.out, ", awaited")
	}
	if d.DespiteTaint {
		fmt.Fprint(&w.out, ", whatever it lacks")
	}
	fmt.Fprintln(&w.out)
	return nil
}

func (w *world) voters([]string) error {
	fmt.Fprintln(&w.out, strings.Join(w.state.nameAll(Voters(w.state)), " "))
	return nil
}

// lease says whether a lease may still be held.
func (w *world) lease(args []string) error {
	w.facts.LeaseOver = args[0] == "over"
	return nil
}

// coordinator changes: the new one has heard nobody yet.
func (w *world) coordinator([]string) error {
	w.facts.Nodes, w.facts.Elapsed, w.facts.Electing = nil, 0, 0
	return nil
}

// forget is a node that the coordinator has not heard yet.
func (w *world) forget(args []string) error {
	for _, a := range args {
		w.facts.Nodes = slices.DeleteFunc(w.facts.Nodes, func(o Observation) bool { return o.Node == NodeID(a) })
	}
	return nil
}

// explain prints what status would: the cluster, its members, what is wrong.
func (w *world) explain([]string) error {
	e := Explain(w.state, w.facts)
	fmt.Fprintf(&w.out, "%s, leader %s (leads: %t), commits by: %s\n", e.Mode, w.state.name(e.Leader), e.Leads, e.Rule)
	for _, h := range e.Members {
		fmt.Fprintf(&w.out, "  %s: %s, %s", h.Name, h.Role, h.Condition)
		if h.Sync {
			fmt.Fprint(&w.out, ", sync")
		}
		if h.Behind != 0 {
			fmt.Fprintf(&w.out, ", behind %d", h.Behind)
		}
		if h.WhyNot != "" {
			fmt.Fprintf(&w.out, ", not to lead: %s", h.WhyNot)
		}
		fmt.Fprintln(&w.out)
	}
	fmt.Fprintf(&w.out, "if the leader died: %s (%d)\n", e.IfItDied, e.WouldLose)
	fmt.Fprintf(&w.out, "survives: %d nodes; writes: %d standbys\n", e.Survives, e.WritesSurvive)
	for _, p := range e.Problems {
		fmt.Fprintf(&w.out, "problem: %s. To do: %s\n", p.What, p.Do)
	}
	return nil
}

func (w *world) dryRun([]string) error {
	p := Explain(w.state, w.facts).Failover
	winner := "nobody"
	if p.Winner != "" {
		winner = w.state.name(p.Winner)
	}
	fmt.Fprintf(&w.out, "%s would win: %s\n", winner, p.Why)
	if p.Source != "" {
		fmt.Fprintf(&w.out, "it would first copy from %s\n", w.state.name(p.Source))
	}
	if p.AtStake != "" {
		fmt.Fprintf(&w.out, "at stake: %s\n", p.AtStake)
	}
	return nil
}
