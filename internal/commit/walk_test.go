package commit_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
)

const (
	walkPages = 4
	walkSteps = 500
)

// walk is three nodes of which each commit needs two, to which everything happens that may: elections that come to
// nothing, leaders that do not know yet that they are deposed, acknowledgements that come late, kills.
type walk struct {
	t     *testing.T
	rand  *rand.Rand
	nodes map[string]*walker
	names []string
	links []*walkLink
	stray []*walkLink   // that have ended, and over which questions and answers come late
	epoch history.Epoch // of the newest attempt
	acked []history.Position
	shown []history.Position
	put   uint64
	reads []*walkRead

	elections, kills, cuts, answered int // that came to something
}

// walkRead is one who has asked what a read must see.
type walkRead struct {
	node *walker
	at   history.LSN
	must []history.Position // acknowledged before it was asked
	over func() (confirmed, ok bool)
}

type walker struct {
	*rig
	name    string
	end     func()             // of applying, nil while the node leads
	pending []history.Position // of its present leadership
	seen    history.LSN
}

// walkLink is a follower's connection to a leader, in that leader's epoch.
type walkLink struct {
	leader, follower *walker
	epoch            history.Epoch
	reader           *replog.Reader
	target           history.LSN
	acks             []commit.Progress // on their way
	questions        []commit.Question // on their way
	answers          []uint64          // on their way back
}

func (w *walk) any() *walker { return w.nodes[w.names[w.rand.IntN(len(w.names))]] }

func (w *walk) start(name, dir string) {
	n := &walker{rig: idle(w.t, dir), name: name}
	if old := w.nodes[name]; old != nil {
		n.seen = old.seen
	}
	n.end = n.run(context.Background())
	w.nodes[name] = n
}

// kill has a node end as if by kill -9, and start again.
func (w *walk) kill(n *walker) {
	dir := crash(w.t, n.dir)
	of := func(l *walkLink) bool { return l.leader == n || l.follower == n }
	w.drop(of)
	w.stray = slices.DeleteFunc(w.stray, of)
	w.halt(n)
	n.stop(true)
	w.start(n.name, dir)
	w.kills++
}

func (w *walk) halt(n *walker) {
	if n.end != nil {
		n.end()
		n.end = nil
	}
}

func (w *walk) drop(which func(*walkLink) bool) {
	w.links = slices.DeleteFunc(w.links, func(l *walkLink) bool {
		if which(l) {
			l.reader.Close()
			w.stray = append(w.stray, l)
			return true
		}
		return false
	})
}

// write has a node that believes to lead append an entry.
func (w *walk) write(n *walker) {
	w.put++
	db := n.Store().DB(testDB)
	page := pagestore.NewPage()
	clear(page.Bytes())
	binary.LittleEndian.PutUint64(page.Bytes(), w.put)
	no := pagestore.PageNo(1 + w.rand.IntN(walkPages))
	head := db.Head()
	lsn, err := n.Commit(db, head.LSN, []pagestore.Dirty{{No: no, Page: page}}, max(head.Pages, uint32(no)))
	if err != nil {
		w.t.Fatalf("%s, which leads %d: %v", n.name, n.Leads(), err)
	}
	if err := n.Log().Wait(w.t.Context(), lsn); err != nil {
		w.t.Fatal(err)
	}
	at, err := n.Log().At(lsn)
	if err != nil {
		w.t.Fatal(err)
	}
	n.pending = append(n.pending, at)
}

// hear asks for every client of a leader whether its commit is acknowledged by now.
func (w *walk) hear(n *walker) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n.pending = slices.DeleteFunc(n.pending, func(at history.Position) bool {
		if _, err := n.Wait(ctx, at.LSN, commit.On); err != nil {
			return false
		}
		w.acked = append(w.acked, at)
		return true
	})
}

// promise has a node promise an epoch, and gives its sealed answer.
func (w *walk) promise(n *walker, epoch history.Epoch) (history.Position, bool) {
	led := n.Leading()
	at, err := n.Promise(epoch)
	if err != nil {
		return at, false
	}
	if led && !n.Leading() {
		if w.rand.IntN(2) == 0 { // clients that wait meanwhile hear of no success that is not one
			w.hear(n)
		}
		n.pending = nil
		n.end = n.run(context.Background())
	}
	w.drop(func(l *walkLink) bool { return l.follower == n && l.epoch < epoch && w.rand.IntN(2) == 0 })
	return at, true
}

// elect asks some nodes for their promise, and has the best of them lead if there are enough.
func (w *walk) elect(ask int) {
	w.epoch++
	epoch := w.epoch
	var best *walker
	var highest history.Position
	answers := 0
	for _, i := range w.rand.Perm(len(w.names))[:ask] {
		n := w.nodes[w.names[i]]
		if n.Tainted() != "" {
			w.t.Errorf("%s is tainted: %s", n.name, n.Tainted())
		}
		at, ok := w.promise(n, epoch)
		if !ok {
			continue
		}
		answers++
		if best == nil || highest.Less(at) {
			best, highest = n, at
		}
		for range w.rand.IntN(3) { // the others go on meanwhile
			w.step(false)
		}
		if w.nodes[n.name] != n && best == n { // killed since
			best = w.nodes[n.name]
		}
	}
	if answers < 2 || best.Promised() != epoch || w.rand.IntN(6) == 0 {
		return
	}
	w.drop(func(l *walkLink) bool { return l.follower == best })
	w.halt(best)
	if err := best.Lead(w.t.Context(), epoch); err != nil {
		w.t.Fatalf("%s cannot lead %d: %v", best.name, epoch, err)
	}
	w.elections++
	for _, at := range w.acked {
		if mine, err := best.Log().At(at.LSN); err != nil || mine != at {
			w.t.Errorf("%s leads epoch %d without %v, which was acknowledged; it has %v (%v)", best.name, epoch, at, mine, err)
		}
	}
	c := commit.SyncConfig{Level: commit.On, Bound: true}
	c.Names = mustNames(w.t, "ANY 1 (a, b, c)")
	best.Configure(c)
}

func mustNames(t *testing.T, names string) commit.StandbyNames {
	t.Helper()
	n, err := commit.ParseStandbyNames(names)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// connect has a node follow a leader whose epoch it has not promised away.
func (w *walk) connect(leader, n *walker) {
	if leader == n || n.Leading() && n.Leads() >= leader.Leads() {
		return
	}
	epoch := leader.Leads()
	if _, ok := w.promise(n, epoch); !ok {
		return
	}
	w.drop(func(l *walkLink) bool { return l.follower == n })
	for {
		mine, theirs := n.Log().Head(), leader.Log().Head()
		fork := history.Fork(n.Log().Epochs(), mine.LSN, leader.Log().Epochs(), theirs.LSN)
		if fork == mine.LSN {
			break
		}
		if err := n.CutBack(fork, epoch); err != nil {
			w.t.Fatalf("%s follows %s in epoch %d: cut from %v to %d: %v", n.name, leader.name, epoch, mine, fork, err)
		}
		w.cuts++
	}
	at := n.Log().Head()
	if theirs, err := leader.Log().At(at.LSN); at.LSN > 0 && (err != nil || theirs != at) {
		w.t.Fatalf("%s ends at %v, and %s has %v there (%v)", n.name, at, leader.name, theirs, err)
	}
	r, err := leader.Log().NewReader(at.LSN)
	if err != nil {
		w.t.Fatal(err)
	}
	w.links = append(w.links, &walkLink{leader: leader, follower: n, epoch: epoch, reader: r, target: leader.Log().Received()})
}

// deliver brings what has come over a link; gone says that the follower takes no more.
func (w *walk) deliver(l *walkLink, flush bool) (gone bool) {
	b, ok, err := l.reader.TryNext(1 << uint(6+w.rand.IntN(10)))
	if err != nil {
		return true // cut meanwhile: the sender of that connection ends
	}
	committed := l.leader.Committed()
	if l.leader.Leads() != l.epoch {
		return true
	}
	if ok {
		if _, err := l.follower.Receive(b.Frames, l.epoch); err != nil {
			if !errors.Is(err, commit.ErrPromised) {
				w.t.Errorf("%s receives from %s: %v", l.follower.name, l.leader.name, err)
			}
			return true
		}
	}
	l.follower.LearnCommitted(committed, l.epoch)
	if flush {
		defer l.follower.StandIn()()
		if _, err := l.follower.Flush(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		if at := l.follower.Progress(); at.Flushed >= l.target && l.follower.Promised() == l.epoch {
			l.acks = append(l.acks, at)
		}
	}
	return false
}

// acknowledge brings an acknowledgement that is on its way.
func (w *walk) acknowledge(l *walkLink) {
	if len(l.acks) > 0 && l.leader.Leads() == l.epoch {
		l.leader.Acknowledge(l.follower.name, l.acks[0])
		l.acks = l.acks[1:]
	}
}

// read has a client ask what a read must see, of a node that believes to lead.
func (w *walk) read(n *walker) {
	if at, over, ok := commit.BeginRead(n.Pipeline); ok {
		w.reads = append(w.reads, &walkRead{n, at, slices.Clone(w.acked), over})
	}
}

// answer looks at who has been answered: everything that had been acknowledged when he asked must be there.
func (w *walk) answer() {
	w.reads = slices.DeleteFunc(w.reads, func(r *walkRead) bool {
		confirmed, ok := r.over()
		if !confirmed {
			return !ok
		}
		w.answered++
		for _, at := range r.must {
			if mine, err := r.node.Log().At(at.LSN); at.LSN > r.at || err != nil || mine != at {
				w.t.Errorf("%s, which leads %d, has a read see %d; %v had been acknowledged before, and it has %v there (%v)",
					r.node.name, r.node.Leads(), r.at, at, mine, err)
			}
		}
		return true
	})
}

// ask moves the question on whether the follower of a link still accepts its leader.
func (w *walk) ask(l *walkLink) {
	if l.leader.Leads() != l.epoch {
		return
	}
	if q := l.leader.Question(); q.Round > 0 && w.rand.IntN(3) > 0 {
		l.questions = append(l.questions, q)
	}
	if len(l.questions) > 0 && w.rand.IntN(3) > 0 {
		if q := l.questions[0]; l.follower.Accepts(q.Epoch) {
			l.answers = append(l.answers, q.Round)
		}
		l.questions = l.questions[1:]
	}
	if len(l.answers) > 0 && w.rand.IntN(3) > 0 {
		l.leader.Confirm(l.follower.name, l.answers[0])
		l.answers = l.answers[1:]
	}
}

// overtake has a new leader acknowledge something, and then somebody ask one who does not know that he was replaced.
func (w *walk) overtake() {
	var newest, old *walker
	for _, name := range w.names {
		switch n := w.nodes[name]; {
		case n.Leads() == w.epoch:
			newest = n
		case n.Leading():
			old = n
		}
	}
	if newest == nil || old == nil {
		return
	}
	for _, name := range w.names {
		n := w.nodes[name]
		if n == newest || n == old {
			continue
		}
		w.connect(newest, n)
		w.write(newest)
		for range 20 {
			for _, l := range w.links {
				if l.leader == newest && l.follower == n && !w.deliver(l, true) {
					w.acknowledge(l)
				}
			}
		}
		w.hear(newest)
	}
	w.read(old)
	for range 10 {
		for _, l := range slices.Concat(w.links, w.stray) {
			w.ask(l)
		}
		w.answer()
	}
}

func (w *walk) look(n *walker) {
	visible := n.Visible()
	if visible < n.seen {
		w.t.Errorf("%s shows %d after %d", n.name, visible, n.seen)
	}
	n.seen = visible
	if visible == 0 {
		return
	}
	at, err := n.Log().At(visible)
	if err != nil {
		w.t.Fatalf("%s shows %d: %v", n.name, visible, err)
	}
	w.shown = append(w.shown, at)
}

// leader gives one of those that believe to lead, nil if there is none.
func (w *walk) leader() *walker {
	for _, i := range w.rand.Perm(len(w.names)) {
		if n := w.nodes[w.names[i]]; n.Leading() {
			return n
		}
	}
	return nil
}

// step has one thing happen; within an election no other begins.
func (w *walk) step(elections bool) {
	defer func() { w.look(w.any()) }()
	defer w.answer()
	leader := w.leader()
	switch what := w.rand.IntN(120); {
	case what < 4 && elections:
		w.elect(1 + w.rand.IntN(3))
		w.overtake()
	case what == 4 && elections:
		w.kill(w.any())
	case what == 5 && elections && w.rand.IntN(3) == 0:
		if leader != nil {
			leader.StepDown()
			leader.pending = nil
			leader.end = leader.run(context.Background())
		}
	case what == 6:
		if err := w.any().Checkpoint(); err != nil {
			w.t.Fatal(err)
		}
	case leader == nil:
	case what < 15:
		w.connect(leader, w.any())
	case what < 25:
		w.write(leader)
	case what < 32:
		w.hear(leader)
	case len(w.links) == 0:
	case what < 42:
		for _, name := range w.names { // those that have been replaced, above all
			if n := w.nodes[name]; n.Leading() && n.Leads() < leader.Leads() {
				leader = n
			}
		}
		w.read(leader)
	case what < 68:
		for _, l := range slices.Concat(w.links, w.stray) {
			w.ask(l)
		}
	case what < 96:
		l := w.links[w.rand.IntN(len(w.links))]
		if w.deliver(l, w.rand.IntN(4) > 0) {
			w.drop(func(o *walkLink) bool { return o == l })
		}
	default:
		w.acknowledge(w.links[w.rand.IntN(len(w.links))])
	}
}

// settle has everything become well again, and holds what was heard and seen against what there is.
func (w *walk) settle() {
	var leader *walker
	for leader == nil {
		w.elect(3)
		for _, n := range w.nodes {
			if n.Leads() == w.epoch {
				leader = n
			}
		}
	}
	w.write(leader)
	for _, name := range w.names {
		n := w.nodes[name]
		if n == leader {
			continue
		}
		w.connect(leader, n)
		l := w.links[len(w.links)-1]
		for n.Log().Head() != leader.Log().Head() {
			if w.deliver(l, true) {
				w.t.Fatalf("%s does not follow", name)
			}
		}
		w.deliver(l, true)
		for len(l.acks) > 0 {
			w.acknowledge(l)
		}
	}
	head := leader.Log().Head()
	for _, l := range w.links {
		l.follower.LearnCommitted(leader.Committed(), w.epoch)
	}
	for _, n := range w.nodes {
		if err := n.VisibleMark().Wait(w.t.Context(), head.LSN); err != nil {
			w.t.Fatal(err)
		}
		w.look(n)
		same(w.t, leader.rig, n.rig)
	}
	for _, at := range slices.Concat(w.acked, w.shown) {
		if now, err := leader.Log().At(at.LSN); err != nil || now != at {
			w.t.Errorf("%v was acknowledged or shown; there is %v now (%v)", at, now, err)
		}
	}
}

func TestWhateverHappensToLeadersNothingAcknowledgedIsLost(t *testing.T) { // I1, I2, I5, I8, P1–P4, G13
	seeds, err := strconv.ParseUint(os.Getenv("SKEIN_WALKS"), 10, 64)
	if err != nil {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &walk{t: t, rand: rand.New(rand.NewPCG(seed, 4)), nodes: map[string]*walker{}, names: []string{"a", "b", "c"}}
			for _, name := range w.names {
				w.start(name, t.TempDir())
			}
			w.elect(3)
			for i := 0; i < walkSteps && !t.Failed(); i++ {
				w.step(true)
			}
			if !t.Failed() {
				w.settle()
			}
			t.Logf("%d leaderships, %d kills, %d cuts, %d entries acknowledged of %d, %d reads answered", w.elections, w.kills, w.cuts, len(w.acked), w.put, w.answered)
			w.drop(func(*walkLink) bool { return true })
			for _, n := range w.nodes {
				w.halt(n)
				n.stop(true)
			}
		})
	}
}
