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

// verify ends recovery: it reads every page, notes its sum for later reads, and compares the whole
// with the checksum that the newest entry, or else the checkpoint, gives.
func (db *DB) verify() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	head := db.states[len(db.states)-1]
	buf := make([]byte, 256*PageSize)
	sums := make([]uint64, db.base0.Pages)
	for first := 0; first < len(sums); first += 256 {
		count := min(256, len(sums)-first)
		if err := db.readRun(first, buf[:count*PageSize]); err != nil {
			return err
		}
		for i := range count {
			sums[first+i] = sum(PageNo(first+i+1), buf[i*PageSize:(i+1)*PageSize])
		}
	}
	for no, v := range db.pages {
		if err := v.page.Read(buf); err != nil {
			return err
		}
		v.sum = sum(no, buf[:PageSize])
	}
	db.sums = sums
	var total uint64
	for no := PageNo(1); uint32(no) <= head.Pages; no++ {
		if v, inBase := db.find(no, head.LSN); v != nil {
			total ^= v.sum
		} else if inBase {
			total ^= sums[no-1]
		}
	}
	if total != head.Checksum {
		return fmt.Errorf("%w: %s does not have the checksum of entry %d (%016x, want %016x): it was changed or damaged outside of Skein; restore the database from a backup",
			ErrDamaged, db.base.Name(), head.LSN, total, head.Checksum)
	}
	return nil
}

// readRun reads pages of the base file from index first on; pages behind the file's end are zeros.
func (db *DB) readRun(first int, buf []byte) error {
	n, _ := db.base.ReadAt(buf, int64(first)*PageSize) // readBase tells a short file from a failing disk
	for at := n / PageSize * PageSize; at < len(buf); at += PageSize {
		if err := db.readBase(PageNo(first+at/PageSize+1), buf[at:at+PageSize]); err != nil {
			return err
		}
	}
	return nil
}
