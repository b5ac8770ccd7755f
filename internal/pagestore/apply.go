package pagestore

import (
	"errors"
	"fmt"
	"sync"

	"skein/internal/history"
	"skein/internal/replog"
)

// maxApplyPages bounds the pages that an entry keeps in memory while it is applied: 16 MB, as many as
// the transaction had when it was made. Further ones go to a spill file.
const maxApplyPages = 4096

var (
	errMissingPiece = errors.New("a piece of the entry is missing")
	errOldEntry     = errors.New("the database already has a later state")
	errPageOrder    = errors.New("page changes are not in order, or behind the database's end")
)

// applier turns entries into page versions at run time. What it holds between two calls is the
// beginning of a large entry, which nobody sees.
type applier struct {
	mu    sync.Mutex // held across reads of base files and writes to spill files: only Apply and CutAbove take it
	store *Store
	visit func(no uint32, off int, data []byte) error // a.change, made once

	db     *DB         // of the entry under way
	lsn    history.LSN // of the entry under way; 0 outside of one
	chunk  uint16      // the next piece of it
	head   State       // of the database, which the entry changes
	writes []Write     // in order of number
	old    []uint64    // sums of the same pages as of head
	open   bool        // the last of writes still changes
	spill  *Spill      // pages that found no room in memory
}

// Apply makes e the head of its database, or keeps it if it is a piece of a large entry and more follow.
// Readers go on: they see e once visible, which new snapshots are taken at, has reached it. A database
// that is not known yet is made. Entries that are no transactions change nothing.
//
// An entry whose result does not have the checksum that it names is refused with ErrDiverged. After that and
// any other error the head is what it was. A piece that failed otherwise, for want of room on the disk, can
// be applied again; a first piece makes the store forget an earlier beginning.
func (s *Store) Apply(e *replog.Entry, visible history.LSN) error {
	a := &s.apply
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Chunk == 0 {
		a.forget()
	}
	if e.Kind != replog.Transaction {
		return nil
	}
	if err := a.take(e); err != nil {
		return fmt.Errorf("apply entry %d to database %d: %w", e.LSN, e.Database, err)
	}
	if e.More {
		return nil
	}
	if err := a.publish(e, min(visible, e.LSN-1)); err != nil {
		return fmt.Errorf("apply entry %d to database %d: %w", e.LSN, e.Database, err)
	}
	return nil
}

// take prepares the versions of a piece. After an error those of the pieces before are as they were.
func (a *applier) take(e *replog.Entry) error {
	if e.Chunk == 0 {
		if err := a.begin(e); err != nil {
			return err
		}
	} else if e.LSN != a.lsn || e.Chunk != a.chunk {
		return fmt.Errorf("%w: piece %d comes where %d of entry %d is next", errMissingPiece, e.Chunk, a.chunk, a.lsn)
	}
	mark := len(a.writes)
	err := replog.EachRange(e.Body, a.visit)
	if err == nil {
		err = a.finish()
	}
	if err != nil {
		a.release(mark)
		return err
	}
	a.chunk++
	return nil
}

func (a *applier) begin(e *replog.Entry) error {
	db, err := a.store.applied(e.Database)
	if err != nil {
		return err
	}
	head := db.Head()
	if e.LSN <= head.LSN {
		return fmt.Errorf("%w, of entry %d", errOldEntry, head.LSN)
	}
	a.db, a.lsn, a.chunk, a.head = db, e.LSN, 0, head
	return nil
}

// applied finds the database of an entry: one that is there, one that was dropped and whose file has
// not gone yet, or a new one.
func (s *Store) applied(id history.DatabaseID) (*DB, error) {
	if db := s.DB(id); db != nil {
		return db, nil
	}
	s.mu.RLock()
	for _, db := range s.dropped {
		if db.ID == id {
			s.mu.RUnlock()
			return db, nil
		}
	}
	s.mu.RUnlock()
	return s.Create(id)
}

// change writes data at off of page no. The ranges of one page come one after the other, the pages in
// ascending order.
func (a *applier) change(no uint32, off int, data []byte) error {
	if n := len(a.writes); !a.open || a.writes[n-1].No != PageNo(no) {
		if n > 0 && a.writes[n-1].No >= PageNo(no) {
			return errPageOrder
		}
		if err := a.finish(); err != nil {
			return err
		}
		if err := a.turn(PageNo(no), len(data) == PageSize); err != nil {
			return err
		}
	}
	copy(a.writes[len(a.writes)-1].Page.Bytes()[off:], data)
	return nil
}

// turn begins page no, with its content as of the head unless all of it changes.
func (a *applier) turn(no PageNo, whole bool) error {
	page := NewPage()
	var before uint64
	var err error
	if whole {
		before, err = a.db.sumAt(no, a.head)
	} else {
		before, err = a.db.readWrite(no, a.head, page.Bytes())
	}
	if err != nil {
		page.Release()
		return err
	}
	a.writes, a.old, a.open = append(a.writes, Write{No: no, Page: page}), append(a.old, before), true
	return nil
}

// finish ends the page that turn began: nothing of it changes any more.
func (a *applier) finish() error {
	if !a.open {
		return nil
	}
	w := &a.writes[len(a.writes)-1]
	w.Sum = sum(w.No, w.Page.Bytes())
	if len(a.writes) > maxApplyPages || a.store.crowded() {
		if err := a.toSpill(w); err != nil {
			return err
		}
	}
	a.open = false
	return nil
}

// crowded says that page versions fill the memory that they may take.
func (s *Store) crowded() bool { return s.usage.memory.Load() > s.options.MaxBytes }

// toSpill moves a page to the spill file. While memory stays full, entries share one: there may be many
// small ones above what a checkpoint may write.
func (a *applier) toSpill(w *Write) error {
	if a.spill == nil {
		s, err := NewSpill(a.store.options.TempDir)
		if err != nil {
			return err
		}
		a.spill = s
	}
	p, err := a.spill.Put(w.Page.Bytes())
	if err != nil {
		return err
	}
	w.Page.Release()
	w.Page = p
	return nil
}

// publish makes the versions that have gathered the head.
func (a *applier) publish(e *replog.Entry, visible history.LSN) error {
	defer a.forget()
	if n := len(a.writes); n > 0 && uint32(a.writes[n-1].No) > e.Pages {
		return errPageOrder
	}
	after, err := a.db.After(e.Pages, a.writes, a.old)
	if err != nil {
		return err
	}
	if after.Checksum != e.Checksum {
		return fmt.Errorf("%w: its checksum would be %016x, not %016x", ErrDiverged, after.Checksum, e.Checksum)
	}
	after.LSN = e.LSN
	a.db.Publish(after, a.writes, visible)
	clear(a.writes) // the database has them now; from here they would keep up to 16 MB that it has given up
	a.writes = a.writes[:0]
	return nil
}

// forget ends the entry under way. What has not been published of it is lost.
func (a *applier) forget() {
	a.release(0)
	a.db, a.lsn = nil, 0
	if cap(a.writes) > maxApplyPages {
		a.writes, a.old = nil, nil
	}
	if a.spill != nil && (!a.store.crowded() || a.spill.next >= maxApplyPages) {
		a.spill.Close()
		a.spill = nil
	}
}

// release lets go of the versions from index from on.
func (a *applier) release(from int) {
	for _, w := range a.writes[from:] {
		w.Page.Release()
	}
	clear(a.writes[from:])
	a.writes, a.old, a.open = a.writes[:from], a.old[:min(from, len(a.old))], false
}
