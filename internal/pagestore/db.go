package pagestore

import (
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"

	"skein/internal/history"
)

// State is what a database is at one LSN.
type State struct {
	LSN      history.LSN
	Pages    uint32
	Checksum uint64
}

// DB is one database's pages. Reading is for any goroutine; publishing for one at a time.
type DB struct {
	ID    history.DatabaseID
	base  *os.File
	usage *usage // of the store

	sumsPath   string
	recovering bool // until verify: nothing is checked
	suspect    bool // the base file is not as it was left: its pages have to be read
	reread     int64

	onDamage func(history.DatabaseID, PageNo, uint64) // the store's option

	mu sync.RWMutex
	// pages holds, per page, its versions above what the base file has, newest first. A chain never
	// has a version older than the base file's without also having the one that the base file got,
	// and where a truncation ended a page that has a chain, a version of zeros says so.
	pages map[PageNo]*version
	// states are the states that some snapshot may stand on: ascending, the last is the head. The
	// first is at or below the base file's.
	states   []State
	cuts     []cut    // truncations above the base file's state, ascending
	base0    State    // what the base file holds
	sums     []uint64 // of each page of the base file; while recovering those that the file of sums has, which are not used yet
	pins     map[history.LSN]*pin
	covering []*version          // that had older ones below them when they were pushed and were not visible yet, ascending; some may be dropped
	stale    map[PageNo]struct{} // chains that a snapshot kept when the base file got their newest
	floor    history.LSN         // versions below may have been dropped: no new snapshot goes there. Not below base0
	reported map[PageNo]uint64   // damaged pages that onDamage was told of, with the sum that they must have

	images int // that hold the database: its file stays even if it is dropped

	// writing is what a checkpoint under way brings the base file to. Like a pin it keeps the versions
	// that make it up: a page written over twice meanwhile would otherwise be missing from the file.
	writing *State
}

// cut remembers that at lsn the database shrank: what the base file has of higher pages reads as zeros.
type cut struct {
	lsn   history.LSN
	pages uint32
}

// pin is an LSN that snapshots stand on.
type pin struct {
	pages uint32 // of the state: higher ones are never looked for
	count int
	ended atomic.Pointer[error] // why its snapshots cannot be read any more
}

// end makes every further read fail with err. The first error stays.
func (p *pin) end(err error) { p.ended.CompareAndSwap(nil, &err) }

// err is why the pin's snapshots cannot be read any more, nil while they can.
func (p *pin) err() error {
	if err := p.ended.Load(); err != nil {
		return *err
	}
	return nil
}

// Snapshot reads a database as of one LSN. It is for one goroutine at a time and must be closed.
type Snapshot struct {
	db  *DB
	at  State
	pin *pin
}

// Head is the newest state, committed or not.
func (db *DB) Head() State {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.states[len(db.states)-1]
}

// Snapshot pins the newest state at or below lsn.
func (db *DB) Snapshot(lsn history.LSN) *Snapshot {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.pinned(db.stateAt(max(lsn, db.floor))) // the caller's notion of what is visible may be a moment old
}

// stateAt is the newest state at or below lsn, which is not below the floor. The lock is held.
func (db *DB) stateAt(lsn history.LSN) State { return db.states[db.stateIndex(lsn)] }

// stateIndex is where the newest state at or below lsn is, or the oldest, if none is. There are many states where what is
// visible stays far behind.
func (db *DB) stateIndex(lsn history.LSN) int {
	above := sort.Search(len(db.states), func(i int) bool { return db.states[i].LSN > lsn })
	return max(above-1, 0)
}

// standsAt is the LSN of the state that a snapshot taken at lsn stands on.
func (db *DB) standsAt(lsn history.LSN) history.LSN {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.stateAt(max(lsn, db.floor)).LSN
}

// SnapshotHead pins the newest state, which only the writer may see.
func (db *DB) SnapshotHead() *Snapshot {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.pinned(db.states[len(db.states)-1])
}

func (db *DB) pinned(s State) *Snapshot {
	p := db.pins[s.LSN]
	if p == nil || p.err() != nil {
		p = &pin{pages: s.Pages}
		db.pins[s.LSN] = p
	}
	p.count++
	return &Snapshot{db: db, at: s, pin: p}
}

// State is what the snapshot stands on.
func (s *Snapshot) State() State { return s.at }

// Close lets go of the snapshot's page versions.
func (s *Snapshot) Close() {
	db := s.db
	db.mu.Lock()
	defer db.mu.Unlock()
	s.pin.count--
	if s.pin.count == 0 && db.pins[s.at.LSN] == s.pin {
		delete(db.pins, s.at.LSN)
	}
}

// ReadPage copies page no as of the snapshot into dst. A page beyond the end reads as zeros.
func (s *Snapshot) ReadPage(no PageNo, dst []byte) error {
	if err := s.pin.err(); err != nil {
		return err
	}
	_, err := s.db.read(no, s.at, dst)
	if ended := s.pin.err(); ended != nil { // what was copied may have been recycled meanwhile
		return ended
	}
	if err != nil && isDamage(err) {
		s.db.report(no)
	}
	return err
}

// Sum tells page no apart from every other content that it has had or will have, without reading it.
func (s *Snapshot) Sum(no PageNo) (uint64, error) {
	found, err := s.db.sumAt(no, s.at)
	if ended := s.pin.err(); ended != nil { // what was found may be of another state
		return 0, ended
	}
	return found, err
}

// read copies page no as of state at and gives its sum.
func (db *DB) read(no PageNo, at State, dst []byte) (uint64, error) {
	dst = dst[:PageSize]
	if uint32(no) > at.Pages {
		clear(dst)
		return 0, nil
	}
	for {
		db.mu.RLock()
		v, inBase := db.find(no, at.LSN)
		if v != nil {
			return db.readVersion(v, dst)
		}
		var want uint64
		checked := !db.recovering
		if inBase && checked {
			want = db.sums[no-1]
		}
		db.mu.RUnlock()
		if !inBase {
			clear(dst)
			return 0, nil
		}
		_, err := db.base.ReadAt(dst, int64(no-1)*PageSize)
		if err == nil && (!checked || sum(no, dst) == want) {
			return want, nil
		}
		// A checkpoint may have put a newer page there since, or cut the file; then the page is found
		// again elsewhere or has another sum. If nothing changed, the disk's content is wrong.
		db.mu.RLock()
		v, inBase = db.find(no, at.LSN)
		same := v == nil && inBase && (!checked || db.sums[no-1] == want)
		db.mu.RUnlock()
		switch {
		case same && err != nil:
			return 0, fmt.Errorf("%w: page %d of database %d: %w", errUnreadable, no, db.ID, err)
		case same:
			return 0, db.damaged(no)
		}
	}
}

func (db *DB) damaged(no PageNo) error {
	return fmt.Errorf("%w: page %d of %s does not have the checksum that it was written with; restore the database from a backup", ErrDamaged, no, db.base.Name())
}

// readVersion copies v and gives up the lock, under which v was found. A buffer is copied before
// that: a checkpoint that puts v into the base file recycles it, pinned or not.
func (db *DB) readVersion(v *version, dst []byte) (uint64, error) {
	s, page := v.sum, v.page
	if page.spill == nil {
		defer db.mu.RUnlock()
		return s, page.Read(dst)
	}
	page.spill.hold()
	db.mu.RUnlock()
	defer page.spill.release()
	return s, page.Read(dst)
}

// find gives the version of page no that a reader at lsn sees, or says that the base file has it;
// neither means zeros. The lock is held.
func (db *DB) find(no PageNo, lsn history.LSN) (v *version, inBase bool) {
	v = db.pages[no]
	for v != nil && v.lsn > lsn {
		v = v.older
	}
	if v != nil || uint32(no) > db.base0.Pages {
		return v, false
	}
	end := db.baseEnd(no)
	return nil, end == 0 || end > lsn
}

// baseEnd is the LSN at which a truncation ended what the base file has of page no; 0 for none.
func (db *DB) baseEnd(no PageNo) history.LSN {
	for _, c := range db.cuts {
		if c.pages < uint32(no) {
			return c.lsn
		}
	}
	return 0
}

// Write is one page of a transaction with the sum that Prepare computed.
type Write struct {
	No   PageNo
	Page Page
	Sum  uint64
}

// ReadHead copies page no as of the head and gives its sum. It is for the writer.
func (db *DB) ReadHead(no PageNo, dst []byte) (uint64, error) {
	return db.readWrite(no, db.Head(), dst)
}

// readWrite is read for whoever writes.
func (db *DB) readWrite(no PageNo, head State, dst []byte) (uint64, error) {
	s, err := db.read(no, head, dst)
	if err != nil && isDamage(err) {
		db.report(no)
	}
	return s, err
}

// After computes the state that the head becomes with the given writes and size. old gives each
// written page's sum as of the head.
func (db *DB) After(pages uint32, writes []Write, old []uint64) (State, error) {
	head := db.Head()
	s := State{Pages: pages, Checksum: head.Checksum}
	for i, w := range writes {
		s.Checksum ^= old[i] ^ w.Sum
	}
	for no := pages + 1; no <= head.Pages; no++ {
		gone, err := db.sumAt(PageNo(no), head)
		if err != nil {
			return s, err
		}
		s.Checksum ^= gone
	}
	return s, nil
}

// sumAt gives a page's sum without reading it.
func (db *DB) sumAt(no PageNo, at State) (uint64, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	v, inBase := db.find(no, at.LSN)
	switch {
	case v != nil:
		return v.sum, nil
	case inBase:
		return db.sums[no-1], nil
	}
	return 0, nil
}

// PageSum computes the sum that page no has with this content.
func PageSum(no PageNo, content []byte) uint64 { return sum(no, content) }

// Publish makes s the head and the writes its pages. It takes the pages over. Nobody sees them
// before visible, the LSN that new snapshots are taken at, has reached s.LSN.
func (db *DB) Publish(s State, writes []Write, visible history.LSN) {
	db.mu.Lock()
	defer db.mu.Unlock()
	head := db.states[len(db.states)-1]
	db.states = append(db.states, s)
	db.floor = max(db.floor, visible)
	db.forgetStates(visible)
	if s.Pages < head.Pages {
		db.cut(s, head.Pages)
	}
	for _, w := range writes {
		db.push(w.No, &version{lsn: s.LSN, sum: w.Sum, page: w.Page})
	}
	db.settle(visible)
}

func (db *DB) push(no PageNo, v *version) {
	v.older = db.pages[no]
	db.pages[no] = v
	db.usage.add(v.page, 1)
	if v.older != nil {
		db.covering = append(db.covering, v)
	}
}

// settle drops what versions that are visible by now have below them, unless a snapshot stands on it. That is soon after they were
// pushed, as a rule: their pages' memory is taken for the next ones while it is in the processor's cache.
func (db *DB) settle(visible history.LSN) {
	done := 0
	for _, v := range db.covering {
		if v.lsn > visible {
			break
		}
		db.covering[done] = nil
		done++
		if o := v.older; o != nil && o.rest > 0 {
			v.rest = o.rest - 1
			continue
		}
		v.rest = db.prune(v, visible) / 2
	}
	db.covering = db.covering[done:]
}

// cut ends the pages that the database loses when it shrinks from pages to s.
func (db *DB) cut(s State, pages uint32) {
	db.cuts = append(db.cuts, cut{s.LSN, s.Pages})
	for no := s.Pages + 1; no <= pages && len(db.pages) > 0; no++ {
		if v := db.pages[PageNo(no)]; v != nil && !v.page.zeros() {
			db.push(PageNo(no), &version{lsn: s.LSN})
		}
	}
}

// forgetStates drops the states that no snapshot, present or to come, will stand on.
func (db *DB) forgetStates(visible history.LSN) {
	gone := db.stateIndex(visible) // the newest state at or below visible stays: new snapshots stand on it
	if kept := len(db.states) - gone; kept <= 64 {
		db.states = db.states[:copy(db.states, db.states[gone:])]
	} else if gone > 0 { // many stay: moving them each time would cost more than room at the front
		db.states = db.states[gone:]
	}
}

// prune drops the versions below v that nobody needs: the newest at or below visible stays, and of
// the older ones those that a pin stands on. It gives the number of those that it has left in place. The
// lock is held.
func (db *DB) prune(v *version, visible history.LSN) (passed int) {
	for v.lsn > visible && v.older != nil {
		v = v.older
		passed++
	}
	for newer := v; newer.older != nil; {
		o := newer.older
		if db.pinnedIn(o.lsn, newer.lsn) {
			newer = o
			passed++
			continue
		}
		newer.older = o.older
		db.drop(o)
	}
	return passed
}

// pinnedIn says whether a live pin, or the checkpoint under way, stands at or above from and below to.
func (db *DB) pinnedIn(from, to history.LSN) bool {
	if w := db.writing; w != nil && w.LSN >= from && w.LSN < to {
		return true
	}
	for lsn, p := range db.pins {
		if lsn >= from && lsn < to && p.err() == nil {
			return true
		}
	}
	return false
}

// drop gives up a version that is in no chain any more, or soon will not be.
func (db *DB) drop(v *version) {
	db.usage.add(v.page, -1)
	v.page.Release()
	v.older = nil
}

// OldestPin is the LSN of the oldest live snapshot, or false.
func (db *DB) OldestPin() (history.LSN, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	var oldest history.LSN
	found := false
	for lsn, p := range db.pins {
		if p.err() == nil && (!found || lsn < oldest) {
			oldest, found = lsn, true
		}
	}
	return oldest, found
}

// KillOldest ends the oldest snapshot below lsn: its next read fails with ErrSnapshotTooOld. It says
// whether there was one. A snapshot that stands where one taken at lsn would stand is not old: of what it
// needs nothing would be given back.
func (db *DB) KillOldest(below history.LSN) bool {
	lsn, ok := db.OldestPin()
	if !ok || lsn >= min(below, db.standsAt(below)) {
		return false
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if p := db.pins[lsn]; p != nil {
		p.end(ErrSnapshotTooOld)
	}
	return true
}
