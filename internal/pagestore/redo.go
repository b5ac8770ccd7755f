package pagestore

import (
	"fmt"

	"skein/internal/history"
	"skein/internal/replog"
)

// redo replays an entry, or a piece of one, onto the newest state. Nothing reads the database
// meanwhile, so pages are patched where they are; the base file is read as it lies, torn or newer,
// because later entries set every byte in which it differs.
func (db *DB) redo(e *replog.Entry, spill func() (*Spill, error)) error {
	head := db.states[len(db.states)-1]
	err := replog.EachRange(e.Body, func(no uint32, off int, data []byte) error {
		v, err := db.redoPage(PageNo(no), e.LSN, spill)
		if err != nil {
			return err
		}
		return v.page.patch(off, data)
	})
	if err != nil || e.More {
		return err
	}
	if e.Pages < head.Pages {
		db.cuts = append(db.cuts, cut{e.LSN, e.Pages})
		for no, v := range db.pages {
			if uint32(no) > e.Pages { // zeros, should the database grow again
				db.drop(v)
				v.lsn, v.page = e.LSN, Page{}
			}
		}
	}
	db.states = append(db.states[:0], State{LSN: e.LSN, Pages: e.Pages, Checksum: e.Checksum})
	db.floor = e.LSN
	return nil
}

// redoPage gives the one version of page no to patch. v.lsn moves on with each entry.
func (db *DB) redoPage(no PageNo, lsn history.LSN, spill func() (*Spill, error)) (*version, error) {
	v, inBase := db.find(no, lsn)
	if v != nil && !v.page.zeros() {
		v.lsn = lsn
		return v, nil
	}
	content := NewPage()
	clear(content.Bytes())
	if inBase {
		if err := db.readBase(no, content.Bytes()); err != nil {
			return nil, err
		}
	}
	if s, err := spill(); err != nil {
		return nil, err
	} else if s != nil {
		spilled, err := s.Put(content.Bytes())
		if err != nil {
			return nil, err
		}
		content.Release()
		content = spilled
	}
	v = &version{lsn: lsn, page: content}
	db.usage.add(content, 1)
	db.pages[no] = v
	return v, nil
}

// readBase reads page no of the base file unchecked; what a crash kept from being written is zeros.
func (db *DB) readBase(no PageNo, dst []byte) error {
	n, err := db.base.ReadAt(dst[:PageSize], int64(no-1)*PageSize)
	if n < PageSize {
		clear(dst[n:PageSize])
		if st, serr := db.base.Stat(); serr == nil && int64(no-1)*PageSize+int64(n) >= st.Size() {
			return nil
		}
		return fmt.Errorf("read page %d of database %d: %w", no, db.ID, err)
	}
	return nil
}

// patch writes data at off of a page that nobody else reads.
func (p Page) patch(off int, data []byte) error {
	if p.mem != nil {
		copy(p.mem[off:], data)
		return nil
	}
	if _, err := p.spill.file.WriteAt(data, p.slot*PageSize+int64(off)); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

// verify ends recovery: it compares the whole with the checksum that the newest entry, or else the checkpoint,
// gives. The pages of the base file are read for that where their sums, as they were left beside it, do not lead
// there, or if it was asked for.
func (db *DB) verify(read bool) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.sumVersions(); err != nil {
		return err
	}
	head := db.states[len(db.states)-1]
	known := !db.suspect && db.checksum(head) == head.Checksum
	if !known || read {
		sums, err := hashFile(db.base)
		if err != nil {
			return fmt.Errorf("read database %d: %w", db.ID, err)
		}
		db.sums = sums
		if total := db.checksum(head); total != head.Checksum {
			return fmt.Errorf("%w: %s does not have the checksum of entry %d (%016x, want %016x): it was changed or damaged outside of Skein; restore the database from a backup",
				ErrDamaged, db.base.Name(), head.LSN, total, head.Checksum)
		}
	}
	if !known {
		db.reread = int64(len(db.sums))
		_ = writeSums(db.sumsPath, db.sums) // without them the next start reads all again
	}
	db.recovering = false
	return nil
}

// sumVersions computes the sums of the versions that redo has made.
func (db *DB) sumVersions() error {
	buf := make([]byte, PageSize)
	for no, v := range db.pages {
		if err := v.page.Read(buf); err != nil {
			return err
		}
		v.sum = sum(no, buf)
	}
	return nil
}

// checksum is what the database's checksum is by the sums at hand. Nothing is pinned and there is one version of a page at most.
func (db *DB) checksum(head State) uint64 {
	inBase := min(db.base0.Pages, head.Pages)
	for _, c := range db.cuts {
		inBase = min(inBase, c.pages)
	}
	var total uint64
	for _, s := range db.sums[:inBase] {
		total ^= s
	}
	for no, v := range db.pages {
		if uint32(no) <= inBase {
			total ^= db.sums[no-1]
		}
		if uint32(no) <= head.Pages {
			total ^= v.sum
		}
	}
	return total
}
