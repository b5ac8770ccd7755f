package crashtest

import (
	"errors"
	"fmt"
	"testing"

	"skein/internal/nodetest"
)

// points are the places of package fault and about how often a short run passes each.
var points = []struct {
	name  string
	often int
}{
	{"log.write", 90},
	{"log.beforeSync", 90},
	{"log.afterSync", 90},
	{"log.spare", 4},
	{"log.roll", 4},
	{"log.rolled", 4},
	{"log.cut", 1},
	{"checkpoint.page", 90},
	{"checkpoint.sums", 6},
	{"checkpoint.beforeSync", 6},
	{"checkpoint.afterSync", 6},
	{"file.rename", 3},
	{"commit.append", 90},
	{"commit.appended", 90},
}

// rig is one directory that goes through crash after crash.
type rig struct {
	t      *testing.T
	dir    string
	ledger *nodetest.Ledger
	rounds int
	fired  int // runs that the fault has ended
}

func newRig(t *testing.T, dir string, rounds int) *rig {
	r := &rig{t: t, dir: dir, ledger: nodetest.NewLedger(seed(t)), rounds: rounds}
	n := nodetest.MustStart(t, dir)
	r.ledger.Prepare(t, n)
	r.ledger.Work(n, rounds, r.ledger.Rand.Uint64())
	n.Kill()
	return r
}

// crash has the clients work on a node with faults until it is gone, or they are done and it is killed.
func (r *rig) crash(faults string) {
	r.t.Helper()
	n, err := start(r.t, r.dir, faults)
	switch {
	case errors.Is(err, nodetest.ErrEndedStarting):
		r.fired++
		return
	case err != nil:
		r.t.Fatal(err)
	}
	if r.ledger.Work(n, r.rounds, r.ledger.Rand.Uint64()) {
		r.fired++
	}
	n.Kill()
}

// recover starts a node without faults, sometimes after others were killed while they recovered, and
// checks it. Every other one is stopped in order.
func (r *rig) recover() {
	r.t.Helper()
	for r.ledger.Rand.IntN(3) == 0 {
		during := []string{"log.cut=kill:1", "checkpoint.page=kill:2", "checkpoint.afterSync=kill:1", "file.rename=kill:1", "log.write=kill:1", "log.spare=kill:1"}
		n, err := start(r.t, r.dir, during[r.ledger.Rand.IntN(len(during))])
		if err != nil && !errors.Is(err, nodetest.ErrEndedStarting) {
			r.t.Fatal(err)
		}
		n.Kill()
	}
	n := nodetest.MustStart(r.t, r.dir)
	r.ledger.Check(r.t, n)
	if r.ledger.Rand.IntN(2) == 0 {
		n.Stop(r.t)
	} else {
		n.Kill()
	}
}

func TestNode_B01_KilledAtEveryPoint(t *testing.T) {
	r := newRig(t, t.TempDir(), 4)
	for _, p := range points {
		for _, nth := range []int{1, 1 + r.ledger.Rand.IntN(p.often)} {
			faults := fmt.Sprintf("%s=kill:%d", p.name, nth)
			before := r.fired
			r.crash(faults)
			t.Logf("%s: %v", faults, r.fired > before)
			r.recover()
		}
	}
	if r.fired < len(points) {
		t.Errorf("only %d of %d faults were passed", r.fired, 2*len(points))
	}
}

// A node that is killed while its directory is made finishes that with the next start.
func TestNode_A15_KilledAtItsFirstStart(t *testing.T) {
	for _, p := range points {
		dir := t.TempDir()
		for _, nth := range []int{1, 2, 1} {
			n, err := start(t, dir, fmt.Sprintf("%s=kill:%d", p.name, nth))
			if err != nil && !errors.Is(err, nodetest.ErrEndedStarting) {
				t.Fatal(err)
			}
			n.Kill()
		}
		n := nodetest.MustStart(t, dir)
		l := nodetest.NewLedger(1)
		l.Prepare(t, n)
		l.Work(n, 1, 1)
		l.Check(t, n)
		n.Kill()
		n = nodetest.MustStart(t, dir)
		l.Check(t, n)
		n.Stop(t)
	}
}
