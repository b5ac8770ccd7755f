package pagestore

import (
	"fmt"

	"skein/internal/history"
)

// ImageDB is one database of an image.
type ImageDB struct {
	ID       history.DatabaseID
	Pages    uint32
	Checksum uint64
}

// Image is all databases as of one LSN, held until Close while the node goes on: what a new follower
// copies. Its methods are for any goroutine. They fail with ErrSnapshotTooOld once old page versions
// have filled the memory.
type Image struct {
	LSN history.LSN

	snapshots []*Snapshot // in order of id
}

// Pin holds all databases as of lsn, which is visible, or a moment later where readers have gone further
// already. Databases without a page are left out: nothing of them is in the log either. Before Verify
// there is nothing to pin: ErrRecovering.
func (s *Store) Pin(lsn history.LSN) (*Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := s.everyLocked()
	for _, db := range all {
		db.mu.Lock()
		defer db.mu.Unlock()
		if db.recovering {
			return nil, ErrRecovering
		}
		lsn = max(lsn, db.floor)
	}
	i := &Image{LSN: lsn}
	for _, db := range all {
		if at := db.stateAt(lsn); at.Pages > 0 {
			db.images++
			i.snapshots = append(i.snapshots, db.pinned(at))
		}
	}
	return i, nil
}

// Databases lists what the image holds, in order of id.
func (i *Image) Databases() []ImageDB {
	list := make([]ImageDB, len(i.snapshots))
	for n, s := range i.snapshots {
		list[n] = ImageDB{s.db.ID, s.at.Pages, s.at.Checksum}
	}
	return list
}

// Sums gives the hashes of n pages from first on, fewer at the database's end, without reading them.
func (i *Image) Sums(id history.DatabaseID, first PageNo, n int) ([]uint64, error) {
	s, err := i.snapshot(id)
	if err != nil || first == 0 || uint32(first) > s.at.Pages {
		return nil, err
	}
	sums := s.db.sumsAt(s.at, first, min(n, int(s.at.Pages-uint32(first)+1)))
	return sums, s.pin.err()
}

// imageRun is how many pages are read at once, at most: 256 KB.
const imageRun = 64

// ReadPages copies the pages with these numbers to dst, one after the other. Each is what its hash says.
// Numbers that follow each other are read together.
func (i *Image) ReadPages(id history.DatabaseID, numbers []PageNo, dst []byte) error {
	s, err := i.snapshot(id)
	if err != nil {
		return err
	}
	for len(numbers) > 0 {
		n := 1
		for n < min(len(numbers), imageRun) && numbers[n] == numbers[0]+PageNo(n) {
			n++
		}
		if err := s.readRun(numbers[0], dst[:n*PageSize]); err != nil {
			return err
		}
		numbers, dst = numbers[n:], dst[n*PageSize:]
	}
	return nil
}

func (i *Image) snapshot(id history.DatabaseID) (*Snapshot, error) {
	for _, s := range i.snapshots {
		if s.db.ID == id {
			return s, nil
		}
	}
	return nil, fmt.Errorf("database %d is not in the image of entry %d", id, i.LSN)
}

// Close lets go of the image's page versions.
func (i *Image) Close() {
	for _, s := range i.snapshots {
		s.Close()
		s.db.mu.Lock()
		s.db.images--
		s.db.mu.Unlock()
	}
	i.snapshots = nil
}

// readRun reads pages that follow each other: all at once from the base file, and those again that are
// elsewhere.
func (s *Snapshot) readRun(first PageNo, dst []byte) error {
	if len(dst) > PageSize {
		_, _ = s.db.base.ReadAt(dst, int64(first-1)*PageSize) // every page is checked
	}
	for no := first; len(dst) > 0; no, dst = no+1, dst[PageSize:] {
		if want, ok := s.db.baseSum(no, s.at); ok && sum(no, dst[:PageSize]) == want {
			continue
		}
		if err := s.ReadPage(no, dst); err != nil {
			return err
		}
	}
	return s.pin.err()
}

// baseSum gives the sum of page no if the base file has it as of at.
func (db *DB) baseSum(no PageNo, at State) (uint64, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if v, inBase := db.find(no, at.LSN); v != nil || !inBase || uint32(no) > at.Pages {
		return 0, false
	}
	return db.sums[no-1], true
}

// sumsAt gives the sums of n pages as of at. It looks them up in portions, so that writers come in
// between; what a snapshot holds does not change meanwhile.
func (db *DB) sumsAt(at State, first PageNo, n int) []uint64 {
	sums := make([]uint64, n)
	for from := 0; from < n; from += 1024 {
		db.mu.RLock()
		for i := from; i < min(from+1024, n); i++ {
			no := first + PageNo(i)
			if v, inBase := db.find(no, at.LSN); v != nil {
				sums[i] = v.sum
			} else if inBase {
				sums[i] = db.sums[no-1]
			}
		}
		db.mu.RUnlock()
	}
	return sums
}
