package clustertest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"skein/internal/nodetest"
)

// H09: two nodes with data and a witness, which votes and counts for nothing else. The leader dies; the other one leads
// because the witness agrees.
func TestMembers_H09_Witness(t *testing.T) {
	t.Parallel()
	e := newElected(t, 2, "ANY 1 (*)")
	w := e.witness()
	e.load()
	e.stays(func() {
		w.Kill()
		e.progress(50)
		w.launch("")
		e.votes(w)
	})
	for range 2 {
		old := e.lead()
		old.Kill()
		next := e.others(old)[0]
		e.becomes(next, "leader")
		since := e.claims.Since()
		old.start()
		e.progressFrom(since)
		e.caughtUp()
	}
	e.end(true)
}

// H06: a follower's directory is lost, and it comes back under its old name. It is a new node that holds nothing, until it has a copy.
func TestMembers_H06_Wiped(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	for range 2 {
		wiped := e.others(e.lead())[0]
		wiped.Kill()
		e.wipe(wiped)
		e.progress(20)
		wiped.launch("")
		e.enters(wiped)
		e.caughtUp()
		e.arranged()
		old := e.lead()
		old.Kill()
		e.takesOver(old, e.claims.Since())
		old.start()
		e.caughtUp()
	}
	e.end(true)
}

// H06: the leader's directory is lost. Nobody takes the empty one for what it was.
func TestMembers_H06_LeaderWiped(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	old := e.lead()
	old.Kill()
	e.wipe(old)
	since := e.claims.Since()
	old.launch("")
	e.takesOver(old, since)
	e.enters(old)
	e.caughtUp()
	e.end(true)
}

// P5: a follower's directory is restored from a copy that was made while it ran. It does not come back with that; it does with an empty one.
func TestMembers_RestoredFromABackup(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	m := e.others(e.lead())[0]
	m.pause()
	old := m.copied()
	m.resume()
	e.progress(20)
	m.Kill()
	m.restore(old)
	m.launch("")
	if err := m.AwaitEnd(t); err == nil || !strings.Contains(m.Log(), "--moved") {
		t.Errorf("%v:\n%s", err, tail(m.Log(), 6))
	}
	e.progress(20)
	e.wipe(m)
	m.launch("")
	e.enters(m)
	e.caughtUp()
	e.end(true)
}

// H01, H05: a node joins, and another one leaves, while the leader is being replaced.
func TestMembers_H05_JoinAndLeaveDuringFailover(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	old := e.lead()
	young := e.join()
	young.launch("")
	old.Kill()
	e.takesOver(old, e.claims.Since())
	young.serves()
	old.start()
	e.caughtUp()
	e.arranged()
	leaves := e.others(e.lead())[0]
	gone := e.lead()
	e.arranged()
	asked := leaves.begin("SELECT skein_remove_member('" + leaves.name + "')")
	gone.Kill()
	e.takesOver(gone, e.claims.Since())
	<-asked.done
	t.Logf("the one who removed %s is told %v", leaves.name, asked.err)
	gone.start()
	e.drop(leaves)
	e.caughtUp()
	e.healthy()
	e.end(true)
}

// H08: a cluster shrinks to one node under load, and grows to five.
func TestMembers_H08_ShrinkAndGrow(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.synchronous("")
	e.mode("asynchronous")
	for range 2 {
		e.drop(e.others(e.lead())[0])
		e.progress(20)
	}
	grown := 3
	if long {
		grown = 5
	}
	for len(e.members) < grown {
		e.join().start()
		e.progress(20)
		e.caughtUp()
	}
	e.synchronous("ANY 1 (*)")
	e.mode("synchronous")
	e.arranged()
	old := e.lead()
	old.Kill()
	e.takesOver(old, e.claims.Since())
	e.end(true)
}

// G19: where a dead member was, a node of another cluster listens. Neither cluster takes the other one's word for anything.
func TestMembers_G19_AnotherCluster(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	dead := e.others(e.lead())[0]
	dead.Kill()
	other := e.add("other", nil)
	e.cluster.remove(other)
	other.peer = dead.peer
	other.args = []string{"--advertise-peer-addr", e.addr[dead], "--bootstrap"}
	other.start()
	other.query("CREATE TABLE precious (a int); INSERT INTO precious VALUES (1)")
	e.forLonger(silence)
	if got := other.value("SELECT (SELECT count(*) FROM precious)::text || (SELECT role FROM skein_status)"); got != "1leader" {
		t.Errorf("the other cluster has become %q", got)
	}
	old := e.lead()
	others := e.members
	old.Kill() // only one is left, which the stranger must not help to become the leader
	for _, m := range others {
		if m != old && m != dead {
			e.stops(m)
		}
	}
	other.Kill()
	since := e.claims.Since()
	dead.start()
	e.progressFrom(since)
	e.end(true)
}

// wipe loses a node's directory. The next one enters the cluster, whoever began it.
func (e *elected) wipe(m *member) {
	e.t.Helper()
	m.wipe()
	m.args = []string{"--advertise-peer-addr", e.addr[m]}
	for _, o := range e.others(m) {
		m.args = append(m.args, "--join", e.addr[o])
	}
}

// enters waits until a wiped node serves. For a moment it may be refused: the node that it was seems to run still.
func (e *elected) enters(m *member) {
	e.t.Helper()
	for m.AwaitServing(e.t) != nil {
		m.launch("")
	}
}

// drop has a member leave for good, and ends its process.
func (e *elected) drop(m *member) {
	e.t.Helper()
	nodetest.Await(e.t, m.name+" leaves", func() error {
		rows, err := e.lead().ask("SELECT skein_remove_member('" + m.name + "')")
		if err == nil {
			e.t.Log(rows[0][0])
			return nil
		}
		if sqlState(err) == "42704" {
			return nil // it has left
		}
		return err
	})
	e.lead().await(fmt.Sprintf("SELECT count(*) FROM skein_members WHERE name = '%s'", m.name), "0")
	e.arranged()
	m.Kill()
	e.remove(m)
	e.lead().await(fmt.Sprintf("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s'", m.name), "0")
}

// arranged waits until those vote who should, and nobody else does.
func (e *elected) arranged() {
	e.t.Helper()
	e.awaitOverview(e.lead(), "says that those vote who should", func(o overviewed) error {
		for _, m := range o.Members {
			if m.Votes == nil || *m.Votes != m.Voter {
				return fmt.Errorf("%+v", o)
			}
		}
		return nil
	})
}

// becomes waits until a node has a role.
func (e *elected) becomes(m *member, role string) {
	e.t.Helper()
	m.await("SELECT role FROM skein_status", role)
}

// votes waits until a witness that was started again takes part.
func (e *elected) votes(w *member) {
	e.t.Helper()
	nodetest.Await(e.t, w.name+" is there", func() error {
		if !strings.Contains(w.Log(), "ready") {
			return errors.New(w.Log())
		}
		return nil
	})
	e.healthy()
}
