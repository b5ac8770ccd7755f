package pagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"skein/internal/history"
	"skein/internal/replog"
)

const baseSuffix = ".db"

// Options of a store.
type Options struct {
	TempDir  string // for spilled transactions; emptied by whoever owns it
	MaxBytes int64  // of page versions in memory: beyond it, redo spills. 0: DefaultMaxBytes

	// ReadAtStart is how many bytes of databases Verify reads although it need not: damage to small ones is found there.
	ReadAtStart int64

	// OnDamage, if any, is told once of each page of a base file that a read has found damaged, and of the hash that
	// it must have, see Repair. It is called by whoever reads and must not block.
	OnDamage func(id history.DatabaseID, no PageNo, want uint64)
}

// DefaultMaxBytes bounds the page versions in memory unless Options say otherwise.
const DefaultMaxBytes = 512 << 20

// Store is the databases of one node. After Open it is recovering: the caller replays the log with
// Redo and ends recovery with Verify. From then on every method is for any goroutine.
type Store struct {
	dir     string
	options Options
	usage   usage

	checkpointing sync.Mutex // one checkpoint at a time; held across its I/O
	record        record     // the checkpoint file, under checkpointing

	mu        sync.RWMutex
	databases map[history.DatabaseID]*DB
	dropped   []*DB       // until a checkpoint says so and their files can go
	at        history.LSN // of the checkpoint file

	spill *Spill // of the large entry that redo is in
	full  bool   // redo has found the disk full: it keeps everything in memory

	apply applier
}

// Open reads the checkpoint file in dir and opens the base files that it names.
func Open(dir string, options Options) (*Store, error) {
	if options.MaxBytes == 0 {
		options.MaxBytes = DefaultMaxBytes
	}
	s := &Store{dir: dir, options: options, databases: map[history.DatabaseID]*DB{}}
	s.apply.store, s.apply.visit = s, s.apply.change
	if err := replog.MakeDir(dir); err != nil {
		return nil, err
	}
	if Installing(dir) {
		return nil, ErrInstalling
	}
	var err error
	if s.record, err = readRecord(dir); err != nil {
		return nil, err
	}
	if s.record.states == nil {
		if err := s.begin(); err != nil {
			return nil, err
		}
	}
	s.at = s.record.at
	for id, state := range s.record.states {
		if _, err := s.open(id, state, 0); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, removeOrphans(dir, s.record.states)
}

// begin writes the first checkpoint file, before anything that would need it.
func (s *Store) begin() error {
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*"+baseSuffix)); len(left) > 0 {
		return fmt.Errorf("%w: %s exists but %s does not; restore the directory from a backup", ErrDamaged, left[0], filepath.Join(s.dir, checkpointFile))
	}
	return record{}.write(s.dir)
}

// removeOrphans deletes files in dir of databases that states do not name: that had been dropped, or that a
// copy of another node has not.
func removeOrphans(dir string, states map[history.DatabaseID]State) error {
	for _, suffix := range []string{sumsSuffix, baseSuffix} {
		names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
		if err != nil {
			return err
		}
		for _, name := range names {
			var id uint32
			if _, err := fmt.Sscanf(strings.TrimSuffix(filepath.Base(name), suffix), "%d", &id); err != nil {
				continue
			}
			if _, named := states[history.DatabaseID(id)]; !named {
				if err := os.Remove(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// remove deletes a file that may be missing.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func basePath(dir string, id history.DatabaseID) string {
	return filepath.Join(dir, fmt.Sprintf("%04d%s", id, baseSuffix))
}

func (s *Store) open(id history.DatabaseID, base State, flags int) (*DB, error) {
	f, err := os.OpenFile(basePath(s.dir, id), os.O_RDWR|flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing; restore the directory from a backup", ErrDamaged, basePath(s.dir, id))
	}
	if err != nil {
		return nil, err
	}
	db := &DB{
		ID: id, base: f, sumsPath: sumsPath(s.dir, id), usage: &s.usage, onDamage: s.options.OnDamage,
		recovering: true, base0: base, floor: base.LSN, states: []State{base},
		pages: map[PageNo]*version{}, pins: map[history.LSN]*pin{}, stale: map[PageNo]struct{}{},
	}
	if err := db.fit(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if db.sums, err = readSums(db.sumsPath, base.Pages); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.databases[id] = db
	return db, nil
}

// Create adds an empty database. Its first entry makes it last: until then nothing of it is durable.
func (s *Store) Create(id history.DatabaseID) (*DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if db := s.databases[id]; db != nil {
		return db, nil
	}
	db, err := s.open(id, State{LSN: s.at}, os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, fmt.Errorf("create database %d: %w", id, err)
	}
	db.recovering = false
	return db, nil
}

// fit gives the base file the size that the checkpoint file says. A crash within a checkpoint may have left it longer; a
// shorter one was cut by somebody else.
func (db *DB) fit() error {
	size := int64(db.base0.Pages) * PageSize
	st, err := db.base.Stat()
	if err != nil {
		return err
	}
	db.suspect = st.Size() < size
	if st.Size() == size {
		return nil
	}
	return db.base.Truncate(size)
}

// DB finds a database, or nil.
func (s *Store) DB(id history.DatabaseID) *DB {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.databases[id]
}

// All gives every database, in order of id.
func (s *Store) All() []*DB {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.databases), byID)
}

// Drop takes a database out. Snapshots of it can be read until they close; its file goes with the
// next checkpoint.
func (s *Store) Drop(id history.DatabaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if db := s.databases[id]; db != nil {
		delete(s.databases, id)
		s.dropped = append(s.dropped, db)
	}
}

// DropPending says whether a dropped database's file waits for a checkpoint.
func (s *Store) DropPending() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.dropped) > 0
}

// HeldBytes is the memory that page versions take.
func (s *Store) HeldBytes() int64 { return s.usage.memory.Load() }

// SpilledBytes is the disk space that page versions of large transactions take until a checkpoint.
func (s *Store) SpilledBytes() int64 { return s.usage.spilled.Load() }

// MaxBytes bounds HeldBytes.
func (s *Store) MaxBytes() int64 { return s.options.MaxBytes }

// CheckpointLSN is where replaying the log has to begin: every entry up to it is in the base files.
func (s *Store) CheckpointLSN() history.LSN {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.at
}

// Reach is valid after Open, and says up to where base files may hold entries because of a checkpoint that
// was not completed: at or above CheckpointLSN. Entries up to it had been committed, and Redo must have
// them all before Verify.
func (s *Store) Reach() history.LSN { return s.record.reach }

// Redo replays one entry, or one piece, while recovering. What it has replayed cannot be taken back.
func (s *Store) Redo(e *replog.Entry) error {
	if e.Kind != replog.Transaction {
		return nil
	}
	db := s.databases[e.Database]
	if db == nil {
		var err error
		if db, err = s.open(e.Database, State{LSN: s.at}, os.O_CREATE|os.O_TRUNC); err != nil {
			return err
		}
	}
	if e.Chunk == 0 {
		s.endSpill()
	}
	if err := db.redo(e, s.redoSpill); err != nil || e.More {
		return err
	}
	s.endSpill()
	if s.usage.memory.Load() <= s.options.MaxBytes || s.full {
		return nil
	}
	err := s.Checkpoint(e.LSN)
	if errors.Is(err, syscall.ENOSPC) {
		s.full = true // the node held as much when it stopped: rather start, and refuse to write
		return nil
	}
	return err
}

// redoSpill gives the file for further pages once memory is full, nil before.
func (s *Store) redoSpill() (*Spill, error) {
	if s.spill != nil || s.usage.memory.Load() <= s.options.MaxBytes || s.full {
		return s.spill, nil
	}
	var err error
	s.spill, err = NewSpill(s.options.TempDir)
	return s.spill, err
}

func (s *Store) endSpill() {
	if s.spill != nil {
		s.spill.Close()
		s.spill = nil
	}
}

// Verify ends recovery: every database must have the checksum that the log says. Whether the pages of base files are
// what they were written as is only looked at as far as ReadAtStart goes; otherwise whoever reads them, or a scrub, finds out.
func (s *Store) Verify() error {
	left := s.options.ReadAtStart
	for _, db := range s.All() {
		size := int64(db.base0.Pages) * PageSize
		read := size <= left
		if read {
			left -= size
		}
		if err := db.verify(read); err != nil {
			return err
		}
	}
	return nil
}

// Reread is how many pages Verify had to read, because nothing that was left beside them tells their sums.
func (s *Store) Reread() (pages int64) {
	for _, db := range s.All() {
		pages += db.reread
	}
	return pages
}

// Checkpoint writes everything at or below to into the base files, then notes that in the checkpoint
// file. The caller promises that those entries are flushed and committed; it may come to stand above
// to, at what was visible to a Publish. After an error nothing is lost: the versions stay, and the
// next checkpoint writes them again.
func (s *Store) Checkpoint(to history.LSN) error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	p := s.plan(to)
	defer func() {
		for _, db := range p.write {
			db.abandon()
		}
	}()
	if p.to == s.CheckpointLSN() && len(p.gone) == 0 {
		for _, db := range p.write {
			db.sweep()
		}
		return nil
	}
	targets, pages, err := s.writeAll(p)
	if err != nil {
		return err
	}
	states := map[history.DatabaseID]State{}
	for i, db := range p.write {
		states[db.ID] = targets[i]
	}
	// A recovery that checkpoints on its way has not come to where an interrupted checkpoint had begun to write.
	if err := s.note(record{at: p.to, reach: max(p.to, s.record.reach), states: states}); err != nil {
		return err
	}
	for i, db := range p.write {
		if err := db.adopt(targets[i], p.to, pages[i]); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.at = p.to
	s.dropped = slices.DeleteFunc(s.dropped, func(db *DB) bool { return slices.Contains(p.gone, db) })
	s.mu.Unlock()
	for _, db := range p.gone {
		db.forget()
		if err := errors.Join(db.base.Close(), os.Remove(db.base.Name()), remove(db.sumsPath)); err != nil {
			return err
		}
	}
	return nil
}

// writeAll brings the base files to their chosen states, after it has noted how far they will reach: from
// the first page on, a node that starts must know that these entries cannot be taken back.
func (s *Store) writeAll(p plan) (targets []State, pages [][]PageNo, err error) {
	if p.to > s.record.reach {
		if err := s.note(record{at: s.record.at, reach: p.to, states: s.record.states}); err != nil {
			return nil, nil, err
		}
	}
	targets, pages = make([]State, len(p.write)), make([][]PageNo, len(p.write))
	for i, db := range p.write {
		if targets[i], pages[i], err = db.writeBase(); err != nil {
			return nil, nil, err
		}
	}
	return targets, pages, nil
}

func (s *Store) note(r record) error {
	if err := r.write(s.dir); err != nil {
		return err
	}
	s.record = r
	return nil
}

// plan is what one checkpoint does.
type plan struct {
	to    history.LSN
	write []*DB // their state is chosen
	gone  []*DB // dropped, and no entry of theirs is above to
}

// plan chooses. No database is made meanwhile: one that is missing here has no entry up to plan.to.
// A dropped one stays until the log is not replayed from before its last entry any more.
func (s *Store) plan(to history.LSN) plan {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := plan{to: max(to, s.at)}
	live := slices.SortedFunc(maps.Values(s.databases), byID)
	for _, db := range s.dropped {
		if db.Head().LSN <= p.to && !db.inImage() {
			p.gone = append(p.gone, db)
		} else {
			live = append(live, db)
		}
	}
	p.to = choose(live, p.to)
	p.write = live
	return p
}

func byID(a, b *DB) int { return int(a.ID) - int(b.ID) }

func (db *DB) inImage() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.images > 0
}

// forget gives the memory of a dropped database back.
func (db *DB) forget() {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, p := range db.pins {
		p.end(ErrSnapshotTooOld)
	}
	for no, v := range db.pages {
		for ; v != nil; v = v.older {
			db.usage.add(v.page, -1)
		}
		delete(db.pages, no)
	}
}

// Close closes the files. Nothing may use the store any more.
func (s *Store) Close() error {
	var err error
	for _, db := range append(s.All(), s.dropped...) {
		err = errors.Join(err, db.base.Close())
	}
	return err
}
