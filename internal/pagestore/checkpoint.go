package pagestore

import (
	"fmt"
	"slices"

	"skein/internal/fault"
	"skein/internal/history"
)

// choose fixes, for all databases at one LSN, the state that a checkpoint brings each base file to,
// and holds its versions until adopt or abandon. The LSN is to or, where a database no longer knows
// its state as of then, as much above as it has to be; it never exceeds what was visible to a
// Publish. Every database is locked at once: one that went on alone could forget its state meanwhile.
func choose(databases []*DB, to history.LSN) history.LSN {
	for _, db := range databases {
		db.mu.Lock()
		to = max(to, db.floor)
	}
	for _, db := range databases {
		db.floor = to // no further snapshot goes below
		target := db.base0
		for _, s := range db.states {
			if s.LSN <= to && s.LSN > target.LSN {
				target = s
			}
		}
		db.writing = &target
		db.mu.Unlock()
	}
	return to
}

// abandon lets go of what choose held, unless adopt has.
func (db *DB) abandon() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.writing = nil
}

// writeBase brings the base file to the chosen state and syncs it. It gives the state, which becomes the
// database's base only with adopt, once the store's checkpoint file says so. One at a time; readers
// and the writer go on meanwhile.
func (db *DB) writeBase() (State, []PageNo, error) {
	target, from, pages := db.toCheckpoint()
	if target.LSN == from.LSN {
		return target, nil, nil
	}
	buf, old := make([]byte, PageSize), make([]byte, PageSize)
	for _, no := range pages {
		if err := fault.Hit("checkpoint.page"); err != nil {
			return target, nil, err
		}
		write, err := db.stage(no, target, buf, old)
		if err != nil {
			return target, nil, err
		}
		if !write {
			continue
		}
		if _, err := db.base.WriteAt(buf, int64(no-1)*PageSize); err != nil {
			return target, nil, fmt.Errorf("checkpoint database %d: %w", db.ID, err)
		}
	}
	// The last pages may never have been written.
	if err := db.resize(target.Pages, func(size, want int64) bool { return size < want }); err != nil {
		return target, nil, err
	}
	if err := fault.Hit("checkpoint.beforeSync"); err != nil {
		return target, nil, err
	}
	if err := db.base.Sync(); err != nil {
		return target, nil, fmt.Errorf("checkpoint database %d: %w", db.ID, err)
	}
	if err := db.saveSums(pages); err != nil {
		return target, nil, fmt.Errorf("checkpoint sums of database %d: %w", db.ID, err)
	}
	return target, pages, fault.Hit("checkpoint.afterSync")
}

// resize gives the base file the size of so many pages, if its own is one to change.
func (db *DB) resize(pages uint32, change func(size, want int64) bool) error {
	want := int64(pages) * PageSize
	st, err := db.base.Stat()
	if err == nil && change(st.Size(), want) {
		err = db.base.Truncate(want)
	}
	if err != nil {
		return fmt.Errorf("checkpoint database %d: %w", db.ID, err)
	}
	return nil
}

// toCheckpoint gives the state that was chosen, the base file's, and the pages that differ between
// them, in order.
func (db *DB) toCheckpoint() (target, from State, pages []PageNo) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	target, from = *db.writing, db.base0
	if target.LSN == from.LSN {
		return target, from, nil
	}
	for no, v := range db.pages {
		for v != nil && v.lsn > target.LSN {
			v = v.older
		}
		if v != nil && v.lsn > from.LSN {
			pages = append(pages, no)
		}
	}
	pages = append(pages, db.cutAway(target)...)
	slices.Sort(pages)
	return target, from, slices.Compact(pages)
}

// cutAway gives the pages of the base file that a truncation has emptied: those that the file has
// again at target, and must hold zeros, and those beyond its end that a snapshot may still need.
func (db *DB) cutAway(target State) []PageNo {
	var pages []PageNo
	low := db.base0.Pages
	for _, c := range db.cuts {
		if c.lsn <= target.LSN {
			low = min(low, c.pages)
		}
	}
	for no := low + 1; no <= db.base0.Pages; no++ {
		pages = append(pages, PageNo(no))
	}
	return pages
}

// stage prepares the write of page no: it puts the content as of target into buf and, where a
// snapshot still needs what the base file has there now, keeps that as a version first. It says
// whether buf is to be written.
func (db *DB) stage(no PageNo, target State, buf, old []byte) (bool, error) {
	db.mu.RLock()
	v, inBase := db.find(no, target.LSN)
	base, zeros := db.missing(no, target.LSN)
	var oldSum uint64
	if base {
		oldSum = db.sums[no-1]
	}
	db.mu.RUnlock()
	if inBase {
		return false, nil
	}
	var newSum uint64
	if v != nil { // held by db.writing
		if err := v.page.Read(buf); err != nil {
			return false, err
		}
		if newSum = v.sum; db.recovering {
			newSum = sum(no, buf)
		}
	} else {
		clear(buf)
	}
	damaged := false
	if base {
		_, err := db.base.ReadAt(old, int64(no-1)*PageSize)
		if damaged = err != nil || sum(no, old) != oldSum; damaged {
			db.report(no)
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if damaged {
		db.endReaders(no, target.LSN, db.damaged(no))
	}
	switch {
	case base && !damaged:
		db.keepBase(no, old, oldSum)
	case zeros:
		db.append(no, &version{})
	}
	db.growSums(max(target.Pages, uint32(no)))
	db.sums[no-1] = newSum
	return uint32(no) <= target.Pages, nil
}

// missing says what snapshots below lsn see of page no that no version holds: what the base file has, or
// the zeros of a page that was not written yet. The lock is held.
func (db *DB) missing(no PageNo, lsn history.LSN) (base, zeros bool) {
	for at, p := range db.pins {
		if at >= lsn || uint32(no) > p.pages || p.err() != nil {
			continue
		}
		if v, inBase := db.find(no, at); v == nil {
			base, zeros = base || inBase, zeros || !inBase
		}
	}
	return base, zeros
}

// endReaders ends, with err, the snapshots below lsn that need what the base file has of page no. Then the
// page can be written over, which mends it. The lock is held.
func (db *DB) endReaders(no PageNo, lsn history.LSN, err error) {
	for at, p := range db.pins {
		if at >= lsn || uint32(no) > p.pages {
			continue
		}
		if v, inBase := db.find(no, at); v == nil && inBase {
			p.end(err)
		}
	}
}

// keepBase puts the base file's content of page no at the old end of its chain, below the truncation
// that ended it. The lock is held.
func (db *DB) keepBase(no PageNo, content []byte, s uint64) {
	if end := db.baseEnd(no); end > 0 {
		if o := db.oldest(no); o == nil || o.lsn > end {
			db.append(no, &version{lsn: end})
		}
	}
	kept := &version{sum: s, page: NewPage()}
	copy(kept.page.Bytes(), content)
	db.usage.memory.Add(PageSize)
	db.append(no, kept)
}

func (db *DB) oldest(no PageNo) *version {
	v := db.pages[no]
	for v != nil && v.older != nil {
		v = v.older
	}
	return v
}

func (db *DB) append(no PageNo, v *version) {
	if o := db.oldest(no); o != nil {
		o.older = v
	} else {
		db.pages[no] = v
	}
}

func (db *DB) growSums(pages uint32) {
	for uint32(len(db.sums)) < pages {
		db.sums = append(db.sums, 0)
	}
}

// adopt makes target the base file's state and drops the versions that are now in it. A database
// without changes moves its state on as well.
func (db *DB) adopt(target State, lsn history.LSN, pages []PageNo) error {
	db.mu.Lock()
	db.base0 = State{LSN: max(lsn, target.LSN), Pages: target.Pages, Checksum: target.Checksum}
	db.writing = nil
	db.growSums(target.Pages)
	db.settle(db.base0.LSN)
	for _, no := range pages {
		db.retire(no)
	}
	db.retireStale()
	db.cuts = slices.DeleteFunc(db.cuts, func(c cut) bool { return c.lsn <= db.base0.LSN })
	db.mu.Unlock()
	// Snapshots that read beyond the new end have their pages in memory by now.
	return db.resize(target.Pages, func(size, want int64) bool { return size > want })
}

// sweep drops the old versions that only closed or ended snapshots needed.
func (db *DB) sweep() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.retireStale()
}

func (db *DB) retireStale() {
	for no := range db.stale {
		db.retire(no)
	}
}

// retire drops the versions of page no that the base file makes unnecessary. As long as a snapshot
// needs an older one, the version that was written stays above it: a chain that has older content must
// also say where that ends. The lock is held.
func (db *DB) retire(no PageNo) {
	var newer *version
	v := db.pages[no]
	for v != nil && v.lsn > db.base0.LSN {
		newer, v = v, v.older
	}
	delete(db.stale, no)
	if v == nil {
		return
	}
	db.prune(v, db.base0.LSN)
	if v.older != nil {
		db.stale[no] = struct{}{}
		return
	}
	if newer == nil {
		delete(db.pages, no)
	} else {
		newer.older = nil
	}
	db.drop(v)
}
