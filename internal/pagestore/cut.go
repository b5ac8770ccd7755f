package pagestore

import (
	"fmt"
	"slices"

	"skein/internal/history"
)

// CutAbove takes every entry above lsn back: the head of each database is then what it was as of lsn, and a
// beginning of a large entry is forgotten. Snapshots at or below go on; those above, which only a
// writer has, end with ErrTakenBack. A database whose first entry is taken back is as if just made. With
// ErrNotAbove, because lsn is below what may have been seen or checkpointed, nothing is done.
//
// No entry is published or applied meanwhile. Caches that hold pages of what was taken back are the
// caller's to drop.
func (s *Store) CutAbove(lsn history.LSN) error {
	s.apply.mu.Lock()
	defer s.apply.mu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := s.everyLocked()
	for _, db := range all {
		db.mu.Lock()
		defer db.mu.Unlock()
	}
	for _, db := range all {
		if lsn < db.floor {
			return fmt.Errorf("cut back to entry %d: %w: database %d has been seen at %d", lsn, ErrNotAbove, db.ID, db.floor)
		}
	}
	s.apply.forget()
	for _, db := range all {
		db.cutAbove(lsn)
	}
	return nil
}

// everyLocked gives all databases, dropped ones too, in the order in which they are locked together.
// s.mu is held.
func (s *Store) everyLocked() []*DB {
	all := slices.Clone(s.dropped)
	for _, db := range s.databases {
		all = append(all, db)
	}
	slices.SortFunc(all, byID)
	return all
}

// cutAbove drops versions, states and truncations above lsn. The lock is held. What a checkpoint under
// way writes is at or below: choose has raised the floor to it.
func (db *DB) cutAbove(lsn history.LSN) {
	for len(db.states) > 1 && db.states[len(db.states)-1].LSN > lsn {
		db.states = db.states[:len(db.states)-1]
	}
	db.cuts = slices.DeleteFunc(db.cuts, func(c cut) bool { return c.lsn > lsn })
	db.covering = slices.DeleteFunc(db.covering, func(v *version) bool { return v.lsn > lsn })
	for at, p := range db.pins {
		if at > lsn {
			p.end(ErrTakenBack)
		}
	}
	for no, v := range db.pages {
		if v.lsn <= lsn {
			continue
		}
		for v != nil && v.lsn > lsn {
			older := v.older
			db.drop(v)
			v = older
		}
		if v != nil {
			db.pages[no] = v
		} else {
			delete(db.pages, no)
		}
	}
}
