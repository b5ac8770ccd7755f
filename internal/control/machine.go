package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
)

const (
	// maxEvents bounds the history that is kept, maxText the text of one event.
	maxEvents = 1000
	maxText   = 2 << 10

	// maxRequests bounds the commands that are remembered in case they are carried here again.
	maxRequests = 256

	formatVersion = 1
)

var errConflict = errors.New("the cluster's state has changed meanwhile")

// proposal is the one command of Raft's log: State takes the place of the one whose version is Expect.
type proposal struct {
	Expect  uint64
	State   failover.State
	Events  []failover.Event `json:",omitempty"`
	Request string           `json:",omitempty"` // id of the command that asked for it
}

// encodeProposal bounds what an event says: it is kept for long.
func encodeProposal(p proposal) ([]byte, error) {
	p.Events = slices.Clone(p.Events)
	for i := range p.Events {
		p.Events[i].Text = p.Events[i].Text[:min(len(p.Events[i].Text), maxText)]
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode a state: %w", err)
	}
	if len(b) > maxMessage/2 {
		return nil, fmt.Errorf("%w: a state of %d bytes", errTooLarge, len(b))
	}
	return b, nil
}

// machine is what Raft's log comes to. Its methods may be called from any goroutine.
type machine struct {
	learned func(failover.State) // called for every State, without the lock
	applied func(uint64)         // called for every entry with its index

	mu   sync.Mutex
	kept kept
}

// kept is all of it, as a snapshot holds it.
type kept struct {
	FormatVersion int
	State         failover.State
	Events        []failover.Event // oldest first
	Requests      []string         // oldest first
}

// Apply gives nil, or why the proposal came to nothing. It depends on nothing but the log.
func (m *machine) Apply(l *raft.Log) any {
	m.applied(l.Index)
	var p proposal
	if err := json.Unmarshal(l.Data, &p); err != nil {
		return fmt.Errorf("read a proposal: %w", err)
	}
	m.mu.Lock()
	if m.kept.State.Version != p.Expect || p.State.Version != p.Expect+1 {
		m.mu.Unlock()
		return errConflict
	}
	m.kept.State = p.State
	m.kept.Events = newest(append(m.kept.Events, p.Events...), maxEvents)
	if p.Request != "" {
		m.kept.Requests = newest(append(m.kept.Requests, p.Request), maxRequests)
	}
	m.mu.Unlock()
	m.learned(p.State)
	return nil
}

// newest gives the last n of s, in memory of its own if some have to go.
func newest[T any](s []T, n int) []T {
	if len(s) <= n {
		return s
	}
	return slices.Clone(s[len(s)-n:])
}

func (m *machine) state() failover.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.State
}

func (m *machine) history() []failover.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.kept.Events)
}

// did says whether a command has been carried out.
func (m *machine) did(request string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.kept.Requests, request)
}

// Snapshot is of raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.kept
	k.FormatVersion = formatVersion
	k.Events, k.Requests = slices.Clone(k.Events), slices.Clone(k.Requests)
	return &k, nil
}

// Restore is of raft.FSM.
func (m *machine) Restore(r io.ReadCloser) error {
	defer func() { _ = r.Close() }()
	var k kept
	if err := json.NewDecoder(r).Decode(&k); err != nil {
		return fmt.Errorf("read the snapshot of the cluster's state: %w", err)
	}
	if k.FormatVersion != formatVersion {
		return fmt.Errorf("the snapshot of the cluster's state has format version %d, this program reads %d", k.FormatVersion, formatVersion)
	}
	m.mu.Lock()
	m.kept = k
	m.mu.Unlock()
	m.learned(k.State)
	return nil
}

// Persist is of raft.FSMSnapshot, as is Release.
func (k *kept) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(k); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release is described with Persist.
func (k *kept) Release() {}
