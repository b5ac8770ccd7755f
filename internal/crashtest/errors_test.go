package crashtest

import (
	"errors"
	"strings"
	"testing"

	"skein/internal/nodetest"
)

// What the disk may answer, where, and whether a node goes on after it. One that ends does so by itself,
// says why, and acknowledges nothing more.
var diskErrors = []struct {
	faults string
	ends   bool
}{
	{"log.write=eio:6", true},
	{"log.write=short:7", true},
	{"log.write=enospc:8", true}, // its place had been reserved: the file system has lied
	{"log.beforeSync=eio:6", true},
	{"log.beforeSync=enospc:9", true},
	{"log.afterSync=eio:6", true},
	{"log.roll=eio:1", true},
	{"log.rolled=eio:1", true},
	{"checkpoint.page=eio:5", true},
	{"checkpoint.beforeSync=eio:2", true},
	{"checkpoint.afterSync=eio:1", true},
	{"file.rename=eio:1", true},
	{"checkpoint.sums=eio:1", true},
	{"checkpoint.page=enospc:5", false},
	{"checkpoint.sums=enospc:1", false},
	{"checkpoint.beforeSync=enospc:1", false},
	{"file.rename=enospc:1", false},
	{"log.spare=eio:2", false}, // in the background, or refusing one transaction
	{"log.spare=enospc:1", false},
	{"commit.append=eio:6", false},
	{"commit.append=enospc:8", false},
}

func TestNode_A11_ErrorsOfTheDisk(t *testing.T) {
	r := newRig(t, t.TempDir(), 4)
	for _, e := range diskErrors {
		n, err := start(t, r.dir, e.faults)
		if errors.Is(err, nodetest.ErrEndedStarting) {
			t.Fatalf("%s: %v", e.faults, err)
		}
		if err != nil {
			t.Fatal(err)
		}
		ended := r.ledger.Work(n, r.rounds, r.ledger.Rand.Uint64())
		if e.ends && !ended { // the clients were quicker
			_ = n.AwaitEnd(t)
			ended = true
		}
		if ended != e.ends {
			n.Kill()
			t.Fatalf("%s: ended=%v\n%s", e.faults, ended, n.Log())
		}
		if ended && !strings.Contains(n.Log(), "storage has failed") {
			t.Errorf("%s: the node does not say why it ended: %v\n%s", e.faults, n.State(), n.Log())
		}
		if !ended {
			r.ledger.Check(t, n)
		}
		n.Kill()
		r.recover()
	}
}
