package replication

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
)

const (
	walkPages = 6
	walkSteps = 60
)

// walk is a cluster of a leader and two followers to which everything happens that may, in any order. What any
// node has ever shown is noted, and compared with what the cluster's history is in the end.
type walk struct {
	t     *testing.T
	net   *network
	rand  *rand.Rand
	nodes map[string]*node
	up    map[string]string // whom a follower follows
	hints map[string][]byte // an older one of each node

	version uint64
	past    map[history.LSN]change // the leader's log, as far as it has not lost it
	acked   []history.LSN
	seen    []sight
	at      map[string]history.LSN // what the node has shown since its hint was last lost
}

type change struct {
	page    pagestore.PageNo
	version uint64
}

type sight struct {
	node  string
	lsn   history.LSN
	pages [walkPages]uint64
}

func (w *walk) leader() *node { return w.nodes["a"] }

// put has the leader append an entry.
func (w *walk) put() history.LSN {
	w.version++
	c := change{pagestore.PageNo(1 + w.rand.IntN(walkPages)), w.version}
	lsn := w.leader().commit(func(_ int, b []byte) {
		clear(b)
		binary.LittleEndian.PutUint64(b, c.version)
	}, c.page)
	w.past[lsn] = c
	return lsn
}

// acknowledge waits a while for an entry at level on. If it is acknowledged, a follower has it.
func (w *walk) acknowledge(lsn history.LSN) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := w.leader().Wait(ctx, lsn, commit.On); err != nil {
		return
	}
	w.acked = append(w.acked, lsn)
	mine := must(w.t)(w.leader().Log().At(lsn))
	for _, name := range []string{"b", "c"} {
		l := w.nodes[name].Log()
		if l.Flushed.Load() < lsn {
			continue
		}
		if at, err := l.At(lsn); err == nil && at == mine {
			return
		}
	}
	w.t.Errorf("entry %d was acknowledged and is on no follower's disk", lsn)
}

// look notes what a node shows.
func (w *walk) look(name string) {
	n := w.nodes[name]
	visible := n.Visible()
	if visible < w.at[name] {
		w.t.Errorf("%s shows entry %d after %d", name, visible, w.at[name])
	}
	w.at[name] = visible
	db := n.Store().DB(testDB)
	if db == nil {
		return
	}
	s := db.Snapshot(visible)
	defer s.Close()
	found := sight{node: name, lsn: s.State().LSN}
	b := make([]byte, pagestore.PageSize)
	for i := range found.pages {
		if err := s.ReadPage(pagestore.PageNo(i+1), b); err != nil {
			w.t.Fatal(err)
		}
		found.pages[i] = binary.LittleEndian.Uint64(b)
	}
	w.seen = append(w.seen, found)
}

func hintOf(dir string) string { return filepath.Join(commit.LogDir(dir), "committed") }

// crash gives a copy of the node's directory as a killed process leaves it, or a power cut: with an older hint.
func (w *walk) crash(name string) string {
	dir := dirOf(w.t, name)
	if err := os.CopyFS(dir+"/copy", os.DirFS(w.nodes[name].dir)); err != nil {
		w.t.Fatal(err)
	}
	dir += "/copy"
	if old := w.hints[name]; old != nil && w.rand.IntN(2) == 0 {
		if err := os.WriteFile(hintOf(dir), old, 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.at[name] = 0
	}
	return dir
}

func (w *walk) start(name, dir string) {
	n := w.net.start(name, dir)
	w.nodes[name] = n
	if name == "a" {
		n.lead("ANY 1 (b, c)", commit.SyncConfig{Level: commit.On})
		return
	}
	n.follow(w.up[name])
}

// restart crashes a follower. Nothing that it writes afterwards is heard of.
func (w *walk) restart(name string) {
	link := w.net.between(name, w.up[name])
	link.refuse(true)
	link.cut()
	dir := w.crash(name)
	w.nodes[name].stop(true)
	link.refuse(false)
	if name == "c" {
		w.up["c"] = []string{"a", "b"}[w.rand.IntN(2)]
	}
	w.start(name, dir)
}

// losePower has the leader go down within a flush: its followers have what it has not.
func (w *walk) losePower() {
	a := w.leader()
	a.Configure(mustNames(w.t, "nobody", commit.On))
	kept := a.Log().Received()
	if err := a.Log().Wait(context.Background(), kept); err != nil {
		w.t.Fatal(err)
	}
	dir := w.crash("a")
	for range w.rand.IntN(4) {
		w.put()
	}
	time.Sleep(time.Duration(w.rand.IntN(3)) * time.Millisecond)
	a.stop(true)
	for lsn := range w.past {
		if lsn > kept {
			delete(w.past, lsn)
		}
	}
	w.start("a", dir)
}

func (w *walk) step() {
	any := func(names ...string) string { return names[w.rand.IntN(len(names))] }
	link := func() *faults { return w.net.between(any("b", "c"), any("a", "b")) }
	switch w.rand.IntN(16) {
	case 0, 1, 2, 3:
		w.acknowledge(w.put())
	case 4, 5:
		for range w.rand.IntN(8) {
			w.put()
		}
	case 6:
		w.restart(any("b", "c"))
	case 7:
		w.losePower()
	case 8:
		link().cut()
	case 9:
		link().hold(direction(w.rand.IntN(2)))
	case 10, 11:
		for _, l := range []*faults{w.net.between("b", "a"), w.net.between("c", "a"), w.net.between("c", "b")} {
			l.release(there)
			l.release(back)
		}
	case 12:
		w.nodes[any("b", "c")].PauseApply()
	case 13:
		w.nodes["b"].ResumeApply()
		w.nodes["c"].ResumeApply()
	case 14:
		if err := w.nodes[any("a", "b", "c")].Checkpoint(); err != nil {
			w.t.Fatal(err)
		}
	case 15:
		name := any("a", "b", "c")
		b, err := os.ReadFile(hintOf(w.nodes[name].dir))
		if err != nil {
			w.t.Fatal(err)
		}
		w.hints[name] = b
	}
	time.Sleep(time.Duration(w.rand.IntN(200)) * time.Millisecond)
	w.look(any("a", "b", "c"))
}

// settle has everything become well again.
func (w *walk) settle() {
	for _, l := range []*faults{w.net.between("b", "a"), w.net.between("c", "a"), w.net.between("c", "b")} {
		l.release(there)
		l.release(back)
	}
	w.nodes["b"].ResumeApply()
	w.nodes["c"].ResumeApply()
	w.leader().awaitVisible(w.put())
	w.leader().sameAs(w.nodes["b"])
	w.leader().sameAs(w.nodes["c"])
	for name := range w.nodes {
		w.look(name)
	}
}

// judge compares everything that was seen with the history there is.
func (w *walk) judge() {
	for _, lsn := range w.acked {
		if _, ok := w.past[lsn]; !ok {
			w.t.Errorf("entry %d was acknowledged and is lost", lsn)
		}
	}
	for _, s := range w.seen {
		var want sight
		newest := [walkPages]history.LSN{}
		for lsn, c := range w.past {
			if i := c.page - 1; lsn <= s.lsn && lsn > newest[i] {
				newest[i], want.pages[i] = lsn, c.version
			}
		}
		if s.pages != want.pages {
			w.t.Errorf("%s showed %v as of entry %d, which is %v", s.node, s.pages, s.lsn, want.pages)
		}
	}
}

func TestWhateverHappensNobodySeesWhatIsLaterLost(t *testing.T) { // G02, I1, I5, I8, I9
	seeds, err := strconv.ParseUint(os.Getenv("SKEIN_WALKS"), 10, 64)
	if err != nil {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *network) {
				w := &walk{
					t: t, net: n, rand: rand.New(rand.NewPCG(seed, 1)), nodes: map[string]*node{}, up: map[string]string{"b": "a", "c": "b"},
					hints: map[string][]byte{}, past: map[history.LSN]change{}, at: map[string]history.LSN{},
				}
				for _, name := range []string{"a", "b", "c"} {
					w.start(name, dirOf(t, name))
				}
				for i := 0; i < walkSteps && !t.Failed(); i++ {
					w.step()
				}
				w.settle()
				w.judge()
				for _, name := range []string{"c", "b", "a"} {
					w.nodes[name].stop(true)
				}
			})
		})
	}
}
