package control

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
)

func newTestMachine() *machine {
	return &machine{learned: func(failover.State) {}, applied: func(uint64) {}}
}

// apply gives a machine a proposal.
func (m *machine) apply(t *testing.T, p proposal) error {
	t.Helper()
	data, err := encodeProposal(p)
	if err != nil {
		t.Fatal(err)
	}
	err, _ = m.Apply(&raft.Log{Data: data}).(error)
	return err
}

func TestProposalHasToKnowTheStateThatItReplaces(t *testing.T) {
	m := newTestMachine()
	var learned []uint64
	m.learned = func(s failover.State) { learned = append(learned, s.Version) }
	for _, test := range []struct {
		expect, version uint64
		ok              bool
	}{
		{1, 2, false},
		{0, 2, false},
		{0, 1, true},
		{0, 1, false}, // again
		{1, 2, true},
		{1, 2, false}, // another with the same number
		{2, 4, false},
		{2, 2, false},
		{2, 3, true},
	} {
		err := m.apply(t, proposal{Expect: test.expect, State: failover.State{Version: test.version}})
		if (err == nil) != test.ok || err != nil && !errors.Is(err, errConflict) {
			t.Errorf("%d in place of %d: %v", test.version, test.expect, err)
		}
	}
	if !reflect.DeepEqual(learned, []uint64{1, 2, 3}) || m.state().Version != 3 {
		t.Errorf("learned %v, and has %d", learned, m.state().Version)
	}
	if err, _ := m.Apply(&raft.Log{Data: []byte("{")}).(error); err == nil {
		t.Error("what is no proposal is taken for one")
	}
}

func TestMachineKeepsABoundedPast(t *testing.T) {
	m := newTestMachine()
	n := 2 * maxEvents
	for i := range n {
		p := proposal{
			Expect: uint64(i), State: failover.State{Version: uint64(i + 1)}, Request: fmt.Sprint(i),
			Events: []failover.Event{{Text: fmt.Sprint(i)}, {Text: strings.Repeat("x", 2*maxText)}},
		}
		if err := m.apply(t, p); err != nil {
			t.Fatal(err)
		}
	}
	if h := m.history(); len(h) != maxEvents || h[maxEvents-2].Text != fmt.Sprint(n-1) || len(h[maxEvents-1].Text) != maxText {
		t.Errorf("%d events are kept", len(h))
	}
	if len(m.kept.Requests) != maxRequests || !m.did(fmt.Sprint(n-1)) || !m.did(fmt.Sprint(n-maxRequests)) || m.did(fmt.Sprint(n-maxRequests-1)) {
		t.Errorf("%d commands are remembered", len(m.kept.Requests))
	}
}

func TestMachineIsWhatItsSnapshotSays(t *testing.T) {
	m := newTestMachine()
	p := proposal{State: failover.NewCluster(failover.Member{ID: "a"}), Events: []failover.Event{{Text: "x"}}, Request: "r"}
	if err := m.apply(t, p); err != nil {
		t.Fatal(err)
	}
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	p.Expect, p.State.Version = 1, 2
	if err := m.apply(t, p); err != nil { // which it does not show
		t.Fatal(err)
	}
	sink := &testSink{}
	if err := snapshot.Persist(sink); err != nil || !sink.closed {
		t.Fatal(err)
	}
	other := newTestMachine()
	learned := 0
	other.learned = func(failover.State) { learned++ }
	if err := other.Restore(io.NopCloser(strings.NewReader(sink.String()))); err != nil {
		t.Fatal(err)
	}
	if other.state().Version != 1 || len(other.history()) != 1 || !other.did("r") || learned != 1 {
		t.Errorf("it is %+v", other.kept)
	}
	if !reflect.DeepEqual(other.state(), failover.NewCluster(failover.Member{ID: "a"})) {
		t.Errorf("its state is %+v", other.state())
	}
	newer := strings.Replace(sink.String(), `"FormatVersion":1`, `"FormatVersion":2`, 1)
	if err := other.Restore(io.NopCloser(strings.NewReader(newer))); err == nil {
		t.Error("another format is read")
	}
}

type testSink struct {
	strings.Builder
	closed bool
}

func (s *testSink) ID() string    { return "test" }
func (s *testSink) Cancel() error { return nil }
func (s *testSink) Close() error  { s.closed = true; return nil }
