package pagestore

import (
	"context"
	"errors"
	"fmt"

	"skein/internal/fault"
	"skein/internal/history"
)

// scrubRun is how many pages are read at once: 256 KB.
const scrubRun = 64

var errUnknownDatabase = errors.New("no such database")

// Scrub reads every page of a base file again, past the caches as far as the system lets it, and calls bad for each
// that is not what it was written as, with the hash that it must have. It is right while readers,
// writers and checkpoints go on. pace is called after each read, to keep it slow; its error ends the scrub.
func (s *Store) Scrub(ctx context.Context, id history.DatabaseID, pace func(bytes int) error, bad func(no PageNo, want uint64)) error {
	db := s.DB(id)
	if db == nil {
		return fmt.Errorf("scrub database %d: %w", id, errUnknownDatabase)
	}
	f, err := openDirect(db.base.Name())
	if err != nil {
		return fmt.Errorf("scrub database %d: %w", id, err)
	}
	defer func() { _ = f.Close() }() // only read
	want, buf := make([]uint64, scrubRun), directBuffer(scrubRun*PageSize)
	for first := PageNo(1); ; first += scrubRun {
		n := db.baseSums(first, want)
		if n == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		failed := f.read(buf[:n*PageSize], first) != nil // somewhere
		for i := range n {
			no := first + PageNo(i)
			right := sum(no, buf[i*PageSize:(i+1)*PageSize]) == want[i]
			if right && !failed {
				continue
			}
			if want, ok := db.confirm(f.read, no); ok {
				bad(no, want)
			}
		}
		if err := pace(n * PageSize); err != nil {
			return err
		}
	}
}

// baseSums copies the sums that the base file must have from page first on, and says how many there are.
func (db *DB) baseSums(first PageNo, sums []uint64) int {
	db.mu.RLock()
	defer db.mu.RUnlock()
	pages := min(int(db.base0.Pages), len(db.sums))
	if int(first) > pages {
		return 0
	}
	return copy(sums, db.sums[first-1:pages])
}

// confirm looks at a page again, and gives what its sum must be if it is bad. A checkpoint that writes the
// page meanwhile has changed what is wanted before.
func (db *DB) confirm(read func([]byte, PageNo) error, no PageNo) (want uint64, bad bool) {
	buf := directBuffer(PageSize)
	for {
		want, ok := db.wanted(no)
		if !ok || (read(buf, no) == nil && sum(no, buf) == want) {
			return 0, false
		}
		if now, ok := db.wanted(no); ok && now == want {
			return want, true
		}
	}
}

// wanted gives the sum of page no in the base file, if new snapshots read it there. Others are written by
// the next checkpoint, and one that has failed may have been half through with them.
func (db *DB) wanted(no PageNo) (uint64, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if no == 0 || int(no) > len(db.sums) {
		return 0, false
	}
	if v, inBase := db.find(no, db.floor); v != nil || !inBase {
		return 0, false
	}
	return db.sums[no-1], true
}

// Find copies the page with this content hash to dst, if the node has it: as a version or in the base file,
// of whatever LSN. A page that is itself damaged is not found.
func (s *Store) Find(id history.DatabaseID, no PageNo, want uint64, dst []byte) bool {
	dst = dst[:PageSize]
	if want == 0 {
		clear(dst)
		return true
	}
	db := s.DB(id)
	if db == nil || no == 0 {
		return false
	}
	db.mu.RLock()
	v := db.pages[no]
	for v != nil && v.sum != want {
		v = v.older
	}
	if v != nil {
		_, err := db.readVersion(v, dst)
		return err == nil && sum(no, dst) == want
	}
	inBase := int(no) <= len(db.sums) && db.sums[no-1] == want
	db.mu.RUnlock()
	if !inBase {
		return false
	}
	_, err := db.base.ReadAt(dst, int64(no-1)*PageSize)
	return err == nil && sum(no, dst) == want
}

// Repair puts content back into the base file, durably, if that still wants a page with this hash there; if
// the page has been written since, nothing is to be done.
func (s *Store) Repair(id history.DatabaseID, no PageNo, want uint64, content []byte) error {
	content = content[:PageSize]
	if sum(no, content) != want {
		return fmt.Errorf("repair page %d of database %d: %w: the content offered does not have its hash", no, id, ErrDamaged)
	}
	db := s.DB(id)
	if db == nil {
		return fmt.Errorf("repair page %d of database %d: %w", no, id, errUnknownDatabase)
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	if now, ok := db.wanted(no); !ok || now != want {
		return nil
	}
	err := fault.Hit("repair.page")
	if err == nil {
		_, err = db.base.WriteAt(content, int64(no-1)*PageSize)
	}
	if err == nil {
		err = db.base.Sync()
	}
	if err != nil {
		return fmt.Errorf("repair page %d of database %d: %w", no, id, err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	delete(db.reported, no)
	return nil
}

// report tells, once, that the base file's page no is not what it must be.
func (db *DB) report(no PageNo) {
	db.mu.Lock()
	want := db.sums[no-1]
	known, ok := db.reported[no]
	if ok && known == want {
		db.mu.Unlock()
		return
	}
	if db.reported == nil {
		db.reported = map[PageNo]uint64{}
	}
	db.reported[no] = want
	db.mu.Unlock()
	if db.onDamage != nil {
		db.onDamage(db.ID, no, want)
	}
}

// isDamage says whether err is about the content of a base file.
func isDamage(err error) bool { return errors.Is(err, ErrDamaged) || errors.Is(err, errUnreadable) }
