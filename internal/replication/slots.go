package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"skein/internal/history"
	"skein/internal/replog"
)

// Errors of slots.
var (
	ErrSlotExists = errors.New("replication slot exists already")
	ErrNoSlot     = errors.New("no such replication slot")
	ErrSlotActive = errors.New("replication slot is in use")
)

// Bounds on the log that is kept for followers.
type Bounds struct {
	SlotBytes int64         // max_slot_wal_keep_size; negative: no bound
	SlotIdle  time.Duration // idle_replication_slot_timeout; 0: no bound
}

// DefaultSlotBytes bounds what a follower that is away can make a node keep. PostgreSQL has no bound by
// default; but a disk that fills up for the sake of a dead follower ends the leader too.
const DefaultSlotBytes = 10 << 30

const (
	// dispensable is what a slot must keep at least to be given up for the sake of a full disk: some segments.
	dispensable = 3 * replog.DefaultSegmentBytes

	// copyPatience is how long a node that took a snapshot may take to come back and stream.
	copyPatience = time.Hour
)

// Slot keeps the log for one follower while it is away. A slot that has cost too much is lost: the log
// may go, and when the follower returns too late it takes a snapshot.
type Slot struct {
	Name     string      `json:"name"`
	Node     string      `json:"node_id,omitempty"` // whose it is, once it has connected
	Restart  history.LSN `json:"restart_lsn"`       // what comes after it is kept
	Reserved bool        `json:"reserved"`          // keeps log at all; a slot may be made before its first use
	LastSeen time.Time   `json:"last_seen"`
	Lost     string      `json:"lost,omitempty"`   // why it no longer keeps anything
	Copy     bool        `json:"copy,omitempty"`   // made for a snapshot; its node may stream from elsewhere
	Member   bool        `json:"member,omitempty"` // its node has been one of the cluster
	Active   bool        `json:"-"`
}

// slots are a node's. The file is a hint: a slot that it shows too low only keeps more of the log, so
// what followers acknowledge is written now and then, and what people do at once.
type slots struct {
	path    string
	members func() []string // of the cluster; nil while not known

	saving sync.Mutex // held over a write of the file, for it has one writer at a time and the newest comes last

	mu     sync.Mutex // taken by acks: never held over a write
	byName map[string]*Slot
	bounds Bounds
	dirty  bool
}

type slotsFile struct {
	Format int     `json:"format_version"`
	Slots  []*Slot `json:"slots"`
}

func openSlots(path string, bounds Bounds) (*slots, error) {
	s := &slots{path: path, members: func() []string { return nil }, byName: map[string]*Slot{}, bounds: bounds}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	var f slotsFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%s is not readable (%w); remove it: followers that need a slot make it again", path, err)
	}
	if f.Format > 1 {
		return nil, fmt.Errorf("%s was written by a newer version of Skein", path)
	}
	for _, slot := range f.Slots {
		s.byName[slot.Name] = slot
	}
	return s, nil
}

// save writes the file if it is out of date.
func (s *slots) save() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	if !s.dirty {
		s.mu.Unlock()
		return nil
	}
	f := slotsFile{Format: 1, Slots: s.sorted()}
	b, err := json.MarshalIndent(f, "", "  ")
	s.dirty = false
	s.mu.Unlock()
	if err == nil {
		err = replog.WriteFileAtomic(s.path, append(b, '\n'))
	}
	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
	}
	return err
}

// sorted lists the slots by name; mu is held.
func (s *slots) sorted() []*Slot {
	return slices.SortedFunc(maps.Values(s.byName), func(a, b *Slot) int { return strings.Compare(a.Name, b.Name) })
}

func (s *slots) list() []Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Slot
	for _, slot := range s.sorted() {
		out = append(out, *slot)
	}
	return out
}

// create makes a slot that keeps what comes after lsn, or nothing before its first use.
func (s *slots) create(name string, lsn history.LSN, reserve bool, now time.Time) error {
	s.mu.Lock()
	if s.byName[name] != nil {
		s.mu.Unlock()
		return ErrSlotExists
	}
	s.byName[name] = &Slot{Name: name, Restart: lsn, Reserved: reserve, LastSeen: now}
	s.dirty = true
	s.mu.Unlock()
	return s.save()
}

func (s *slots) drop(name string) error {
	s.mu.Lock()
	slot := s.byName[name]
	switch {
	case slot == nil:
		s.mu.Unlock()
		return ErrNoSlot
	case slot.Active:
		s.mu.Unlock()
		return ErrSlotActive
	}
	delete(s.byName, name)
	s.dirty = true
	s.mu.Unlock()
	return s.save()
}

// use makes the slot of a follower that connects, or takes up the one it has, to keep what comes
// after lsn. Keeping begins before anything is sent, so that the log is not trimmed meanwhile.
func (s *slots) use(name, node string, lsn history.LSN, now time.Time) {
	s.take(Slot{Name: name, Node: node, Restart: lsn, LastSeen: now})
}

// useForCopy is use for a node that takes a snapshot. If it does not come back to stream, the slot goes.
func (s *slots) useForCopy(name, node string, lsn history.LSN, now time.Time) {
	s.take(Slot{Name: name, Node: node, Restart: lsn, LastSeen: now, Copy: true})
}

func (s *slots) take(slot Slot) {
	slot.Reserved, slot.Active = true, true
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.byName[slot.Name]
	slot.Member = old != nil && old.Node == slot.Node && old.Member || slices.Contains(s.members(), slot.Node)
	s.byName[slot.Name], s.dirty = &slot, true
}

// former lists the slots whose nodes have been members and are none any more. That a node has been one is written down, for it may be
// removed while this one is away. Others follow without being members, and keep their slots.
func (s *slots) former() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	members := s.members()
	if members == nil {
		return nil
	}
	for _, slot := range s.sorted() {
		switch is := slices.Contains(members, slot.Node); {
		case is && !slot.Member:
			slot.Member, s.dirty = true, true
		case slot.Member && !is:
			names = append(names, slot.Name)
		}
	}
	return names
}

// advance moves a slot up to what its follower has on disk.
func (s *slots) advance(name string, lsn history.LSN, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot := s.byName[name]; slot != nil {
		slot.LastSeen = now
		if lsn > slot.Restart {
			slot.Restart, s.dirty = lsn, true
		}
	}
}

func (s *slots) release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot := s.byName[name]; slot != nil {
		slot.Active, s.dirty = false, true
	}
}

// keep is the oldest entry that a slot within its bounds wants, 0 if none does. Those past a bound are
// lost from now on and returned. size tells the bytes of log after an entry; short says that the disk has little room
// left: then whoever costs most is past its bound.
func (s *slots) keep(now time.Time, size func(history.LSN) int64, short bool) (oldest history.LSN, lost []Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dearest := int64(0)
	if short {
		dearest = max(s.dearest(size), dispensable)
	}
	for _, slot := range s.sorted() {
		if slot.Copy && !slot.Active && now.Sub(slot.LastSeen) > copyPatience {
			delete(s.byName, slot.Name)
			s.dirty = true
			continue
		}
		if !slot.Reserved || slot.Lost != "" {
			continue
		}
		if slot.Lost = s.past(slot, now, size, dearest); slot.Lost != "" {
			s.dirty = true
			lost = append(lost, *slot)
			continue
		}
		// The entry at Restart is kept too: its chain hash proves the follower's past.
		if at := max(slot.Restart, 1); oldest == 0 || at < oldest {
			oldest = at
		}
	}
	return oldest, lost
}

// dearest is how much log the slot keeps that keeps most; mu is held.
func (s *slots) dearest(size func(history.LSN) int64) (most int64) {
	for _, slot := range s.byName {
		if slot.Reserved && slot.Lost == "" {
			most = max(most, size(slot.Restart))
		}
	}
	return most
}

// past says which bound a slot has crossed.
func (s *slots) past(slot *Slot, now time.Time, size func(history.LSN) int64, dearest int64) string {
	if idle := now.Sub(slot.LastSeen); s.bounds.SlotIdle > 0 && !slot.Active && idle > s.bounds.SlotIdle {
		return "idle_timeout"
	}
	if n := size(slot.Restart); s.bounds.SlotBytes >= 0 && n > s.bounds.SlotBytes || dearest > 0 && n >= dearest {
		return "wal_removed"
	}
	return ""
}

func (s *slots) configure(b Bounds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounds = b
}

// SafeBytes is how much log may still be written before a slot can be lost for its size; -1 without such
// a bound.
func (p *Peer) SafeBytes(slot Slot) int64 {
	p.slots.mu.Lock()
	bound := p.slots.bounds.SlotBytes
	p.slots.mu.Unlock()
	if bound < 0 {
		return -1
	}
	return max(bound-p.pipeline.Log().BytesSince(slot.Restart), 0)
}
