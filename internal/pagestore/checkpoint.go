package pagestore

import (
	"fmt"
	"slices"

	"skein/internal/fault"
	"skein/internal/history"
)

// writeBase brings the base file to the newest state at or below to and syncs it. It gives the state,
// which becomes the database's base only with adopt, once the store's checkpoint file says so. One
// at a time; readers and the writer go on meanwhile.
func (db *DB) writeBase(to history.LSN) (State, []PageNo, error) {
	target, pages := db.toCheckpoint(to)
	if len(pages) == 0 {
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
	if err := fault.Hit("checkpoint.beforeSync"); err != nil {
		return target, nil, err
	}
	if err := db.base.Sync(); err != nil {
		return target, nil, fmt.Errorf("checkpoint database %d: %w", db.ID, err)
	}
	return target, pages, fault.Hit("checkpoint.afterSync")
}

// toCheckpoint gives the state that a checkpoint at to writes, and the pages that differ from the
// base file then, in order.
func (db *DB) toCheckpoint(to history.LSN) (State, []PageNo) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.floor = max(db.floor, to)
	target := db.base0
	for _, s := range db.states {
		if s.LSN <= to && s.LSN > target.LSN {
			target = s
		}
	}
	if target.LSN == db.base0.LSN {
		return target, nil
	}
	var pages []PageNo
	for no, v := range db.pages {
		for v != nil && v.lsn > target.LSN {
			v = v.older
		}
		if v != nil && v.lsn > db.base0.LSN {
			pages = append(pages, no)
		}
	}
	pages = append(pages, db.cutAway(target)...)
	slices.Sort(pages)
	return target, slices.Compact(pages)
}

// cutAway gives the pages of the base file that a truncation has emptied: those that the file has
// again at target, and must hold zeros, and those beyond its end that a snapshot may still need.
func (db *DB) cutAway(target State) []PageNo {
	var pages []PageNo
	low := db.base0.Pages
	for _, c := range db.cuts {
		if c.lsn > db.base0.LSN && c.lsn <= target.LSN {
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
	keep := db.needsBase(no, target.LSN)
	db.mu.RUnlock()
	if inBase {
		return false, nil
	}
	var newSum uint64
	if v != nil {
		if err := v.page.Read(buf); err != nil {
			return false, err
		}
		newSum = v.sum
	} else {
		clear(buf)
	}
	if keep {
		if _, err := db.base.ReadAt(old, int64(no-1)*PageSize); err != nil {
			return false, fmt.Errorf("checkpoint database %d: %w", db.ID, err)
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if keep {
		db.keepBase(no, old)
	}
	if db.sums != nil {
		for uint32(len(db.sums)) < max(target.Pages, uint32(no)) {
			db.sums = append(db.sums, 0)
		}
		db.sums[no-1] = newSum
	}
	return uint32(no) <= target.Pages, nil
}

// needsBase says whether a snapshot below lsn reads page no from the base file. The lock is held.
func (db *DB) needsBase(no PageNo, lsn history.LSN) bool {
	for at, p := range db.pins {
		if at >= lsn || p.killed.Load() {
			continue
		}
		if _, inBase := db.find(no, at); inBase {
			return true
		}
	}
	return false
}

// keepBase puts the base file's content of page no at the old end of its chain. The lock is held.
func (db *DB) keepBase(no PageNo, content []byte) {
	kept := &version{lsn: 0, sum: db.sums[no-1], page: NewPage()}
	copy(kept.page.Bytes(), content)
	db.held.Add(PageSize)
	if v := db.pages[no]; v == nil {
		db.pages[no] = kept
	} else {
		for v.older != nil {
			v = v.older
		}
		v.older = kept
	}
}

// adopt makes target the base file's state and drops the versions that are now in it. A database
// without changes moves its state on as well.
func (db *DB) adopt(target State, lsn history.LSN, pages []PageNo) error {
	db.mu.Lock()
	shrunk := target.Pages < db.base0.Pages
	db.base0 = State{LSN: max(lsn, target.LSN), Pages: target.Pages, Checksum: target.Checksum}
	for _, no := range pages {
		db.retire(no, target.LSN)
	}
	for no := range db.stale {
		db.retire(no, target.LSN)
	}
	oldest := db.base0.LSN
	for at := range db.pins {
		oldest = min(oldest, at)
	}
	db.cuts = slices.DeleteFunc(db.cuts, func(c cut) bool { return c.lsn <= oldest })
	db.mu.Unlock()
	if !shrunk {
		return nil
	}
	// Snapshots that read beyond the new end have their pages in memory by now.
	if err := db.base.Truncate(int64(target.Pages) * PageSize); err != nil {
		return fmt.Errorf("checkpoint database %d: %w", db.ID, err)
	}
	return nil
}

// retire drops the versions of page no that the base file at lsn makes unnecessary. As long as a
// snapshot needs an older one, the version that was written stays above it: a chain that has older
// content must also say where that ends. The lock is held.
func (db *DB) retire(no PageNo, lsn history.LSN) {
	var newer *version
	v := db.pages[no]
	for v != nil && v.lsn > lsn {
		newer, v = v, v.older
	}
	if v == nil {
		return
	}
	if v.older != nil {
		db.prune(v, lsn)
	}
	if v.older != nil || (v.lsn == 0 && db.pinnedIn(0, lsn)) {
		db.stale[no] = struct{}{}
		return
	}
	if newer == nil {
		delete(db.pages, no)
	} else {
		newer.older = nil
	}
	db.drop(v)
	delete(db.stale, no)
}
