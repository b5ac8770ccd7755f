package sqlitevfs

import (
	"errors"
	"fmt"
	"io"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"skein/internal/history"
	"skein/internal/pagestore"
)

// maxDirtyPages bounds the dirty pages that a transaction keeps in memory, besides SQLite's own
// cache: 16 MB. Further ones go to a spill file.
const maxDirtyPages = 4096

var (
	errUnaligned = errors.New("SQLite wrote something that is not a page")
	errDraft     = errors.New("a draft cannot be committed")
)

// File is one connection's view of one database.
type File struct {
	vfs  *VFS
	db   *pagestore.DB
	lock vfs.LockLevel

	// While lock is SHARED or higher.
	snapshot *pagestore.Snapshot

	// While lock is RESERVED or higher: what the transaction has written.
	dirty map[pagestore.PageNo]pagestore.Page
	pages uint32
	spill *pagestore.Spill
	taken int64 // of the temporary space, for that of a draft

	head   bool        // the next SHARED lock is the writer's: it pins the head
	draft  bool        // writes without the write lock, see Draft
	floor  history.LSN // and any other pins no less than this
	commit history.LSN // of the last commit, see TakeCommit
	failed error       // behind the last error that SQLite was given
	page   []byte      // for reads of part of a page
	header header
}

// PinHead says whether the next transaction is one that will write: it then stands on the newest
// state, committed or not. Only the one who has the writer's turn may ask for it.
func (f *File) PinHead(on bool) { f.head = on }

// Draft says whether the transaction that is open, or the next, writes a draft: on its snapshot, beside the writer and
// other drafts, seen by itself alone. A draft cannot be committed. Draft(false) makes it the writer's
// transaction; that is refused, and it stays a draft, unless its snapshot is still the newest state. Only the one who has the
// writer's turn may ask for that.
func (f *File) Draft(on bool) error {
	if !on && f.draft && f.lock >= vfs.LOCK_RESERVED {
		if err := f.own(); err != nil {
			return err
		}
	}
	f.draft = on
	if !on {
		f.giveSpace()
	}
	return nil
}

// SetFloor has further snapshots stand at lsn at least: on what the session itself has written.
func (f *File) SetFloor(lsn history.LSN) { f.floor = lsn }

// TakeCommit gives the LSN of the last commit since it was called before; 0 if nothing was changed.
func (f *File) TakeCommit() history.LSN {
	lsn := f.commit
	f.commit = 0
	return lsn
}

// SnapshotLSN is what the open transaction stands on, 0 outside of one.
func (f *File) SnapshotLSN() history.LSN {
	if f.snapshot == nil {
		return 0
	}
	return f.snapshot.State().LSN
}

// AtHead says whether what the open transaction stands on is still the newest state.
func (f *File) AtHead() bool {
	return f.snapshot != nil && f.snapshot.State().LSN == f.db.Head().LSN
}

// TakeError gives the error behind the last one that SQLite was given, and forgets it.
func (f *File) TakeError() error {
	err := f.failed
	f.failed = nil
	return err
}

// Because adds to an error of the connection's what is behind it, if that is an error of this package's. Of one that met a
// temporary file, of which nobody knows whose it is, SQLite keeps the code.
func (f *File) Because(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, TempFull) {
		err = errors.Join(err, f.vfs.temp.full())
	}
	return errors.Join(err, f.TakeError())
}

func (f *File) fail(err error, code sqlite3.ExtendedErrorCode) error {
	f.failed = err
	return tagged(err, code)
}

// Close gives up the connection's locks and what it has not committed.
func (f *File) Close() error {
	return f.Unlock(vfs.LOCK_NONE)
}

// ReadAt reads from the transaction's own pages, then from its snapshot.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	s := f.snapshot
	if s == nil { // SQLite looks at the header before it locks
		s = f.db.Snapshot(f.vfs.committer.Visible())
		defer s.Close()
	}
	no := pagestore.PageNo(off/pagestore.PageSize + 1)
	at := int(off % pagestore.PageSize)
	if at+len(b) > pagestore.PageSize {
		return 0, f.fail(errUnaligned, sqlite3.IOERR_READ)
	}
	if uint32(no) > f.size(s) {
		return 0, io.EOF
	}
	if err := f.read(s, no, at, b); err != nil {
		return 0, err // with the full count the binding, as io.ReaderAt lets it, takes any error for success
	}
	return len(b), nil
}

// read gives what stands at a byte of page no.
func (f *File) read(s *pagestore.Snapshot, no pagestore.PageNo, at int, dst []byte) error {
	var err error
	p, dirty := f.dirty[no]
	switch {
	case !dirty && no == 1:
		err = f.header.read(s, at, dst)
	case len(dst) == pagestore.PageSize && dirty:
		err = p.Read(dst)
	case len(dst) == pagestore.PageSize:
		err = s.ReadPage(no, dst)
	default:
		return f.readPart(s, no, at, dst)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pagestore.ErrDamaged):
		return f.fail(err, sqlite3.IOERR_DATA)
	}
	return f.fail(err, sqlite3.IOERR_READ)
}

func (f *File) readPart(s *pagestore.Snapshot, no pagestore.PageNo, at int, dst []byte) error {
	page := f.buffer()
	if err := f.read(s, no, 0, page); err != nil {
		return err
	}
	copy(dst, page[at:])
	return nil
}

func (f *File) buffer() []byte {
	if f.page == nil {
		f.page = make([]byte, pagestore.PageSize)
	}
	return f.page
}

func (f *File) size(s *pagestore.Snapshot) uint32 {
	if f.lock >= vfs.LOCK_RESERVED {
		return f.pages
	}
	return s.State().Pages
}

// WriteAt keeps a page for the commit.
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	if len(b) != pagestore.PageSize || off%pagestore.PageSize != 0 || f.lock < vfs.LOCK_RESERVED {
		return 0, f.fail(errUnaligned, sqlite3.IOERR_WRITE)
	}
	no := pagestore.PageNo(off/pagestore.PageSize + 1)
	if err := f.put(no, b); err != nil {
		return 0, f.fail(err, sqlite3.IOERR_WRITE)
	}
	f.pages = max(f.pages, uint32(no))
	return len(b), nil
}

func (f *File) put(no pagestore.PageNo, b []byte) error {
	if p, ok := f.dirty[no]; ok {
		return p.Overwrite(b)
	}
	if len(f.dirty) < maxDirtyPages {
		p := pagestore.NewPage()
		copy(p.Bytes(), b)
		f.dirty[no] = p
		return nil
	}
	if f.spill == nil {
		s, err := pagestore.NewSpill(f.vfs.temp.dir)
		if err != nil {
			return err
		}
		f.spill = s
	}
	if f.draft { // of which there may be many
		if err := f.vfs.temp.take(pagestore.PageSize); err != nil {
			return err
		}
		f.taken += pagestore.PageSize
	}
	p, err := f.spill.Put(b)
	if err == nil {
		f.dirty[no] = p
	}
	return err
}

// Truncate sets the database's size.
func (f *File) Truncate(size int64) error {
	if size%pagestore.PageSize != 0 || f.lock < vfs.LOCK_RESERVED {
		return f.fail(errUnaligned, sqlite3.IOERR_TRUNCATE)
	}
	f.pages = uint32(size / pagestore.PageSize)
	for no, p := range f.dirty {
		if uint32(no) > f.pages {
			delete(f.dirty, no)
			p.Release()
		}
	}
	return nil
}

// Size is the database's size in bytes.
func (f *File) Size() (int64, error) {
	if f.snapshot == nil {
		s := f.db.Snapshot(f.vfs.committer.Visible())
		defer s.Close()
		return int64(s.State().Pages) * pagestore.PageSize, nil
	}
	return int64(f.size(f.snapshot)) * pagestore.PageSize, nil
}

// Lock pins a snapshot for SHARED and takes the write lock for more. A snapshot that the head has left
// behind cannot write any more: BUSY_SNAPSHOT.
func (f *File) Lock(lock vfs.LockLevel) error {
	if f.lock >= lock {
		return nil
	}
	if f.snapshot == nil {
		if f.head {
			f.snapshot = f.db.SnapshotHead()
		} else {
			f.snapshot = f.db.Snapshot(max(f.vfs.committer.Visible(), f.floor))
		}
		f.header.standsOn(f.snapshot.State())
	}
	if lock >= vfs.LOCK_RESERVED && f.lock < vfs.LOCK_RESERVED {
		if !f.draft {
			if err := f.own(); err != nil {
				return err
			}
		}
		f.dirty = map[pagestore.PageNo]pagestore.Page{}
		f.pages = f.snapshot.State().Pages
	}
	f.lock = lock
	return nil
}

// own takes the write lock for what stands on the newest state.
func (f *File) own() error {
	if !f.vfs.own(f) {
		return sqlite3.BUSY
	}
	if !f.AtHead() {
		f.vfs.disown(f)
		return sqlite3.BUSY_SNAPSHOT
	}
	return nil
}

// Unlock gives up locks. What was written and not committed is forgotten.
func (f *File) Unlock(lock vfs.LockLevel) error {
	if f.lock >= vfs.LOCK_RESERVED && lock < vfs.LOCK_RESERVED {
		f.discard()
		f.vfs.disown(f)
	}
	if lock == vfs.LOCK_NONE && f.snapshot != nil {
		f.snapshot.Close()
		f.snapshot = nil
	}
	f.lock = min(f.lock, lock)
	return nil
}

func (f *File) discard() {
	for _, p := range f.dirty {
		p.Release()
	}
	f.forget()
}

// giveSpace ends what a draft takes of the temporary space.
func (f *File) giveSpace() {
	f.vfs.temp.give(f.taken)
	f.taken = 0
}

// forget ends the transaction's hold on its pages without giving them back.
func (f *File) forget() {
	f.dirty = nil
	f.giveSpace()
	if f.spill != nil {
		f.spill.Close()
		f.spill = nil
	}
}

// CommitPhaseTwo is the last step of SQLite's commit, when nothing on its side can fail any more.
func (f *File) CommitPhaseTwo() error {
	if len(f.dirty) == 0 && (f.lock < vfs.LOCK_RESERVED || f.pages == f.snapshot.State().Pages) {
		return nil
	}
	if f.draft {
		return f.fail(errDraft, sqlite3.IOERR_WRITE)
	}
	counter, unchanged, err := f.written()
	if err != nil {
		return f.fail(err, sqlite3.IOERR_READ)
	}
	dirty := make([]pagestore.Dirty, 0, len(f.dirty))
	for no, p := range f.dirty {
		if no != 1 || !unchanged {
			dirty = append(dirty, pagestore.Dirty{No: no, Page: p})
		}
	}
	lsn, err := f.vfs.committer.Commit(f.db, f.snapshot.State().LSN, dirty, f.pages)
	if err != nil {
		return f.fail(fmt.Errorf("commit: %w", err), sqlite3.IOERR_WRITE)
	}
	if unchanged {
		f.dirty[1].Release()
	}
	f.forget()
	f.dirty = map[pagestore.PageNo]pagestore.Page{}
	if lsn > 0 {
		f.commit = lsn
		f.snapshot.Close()
		f.snapshot = f.db.SnapshotHead()
	}
	f.header.committed(counter, f.snapshot.State())
	return nil
}

// written looks at page 1: what SQLite has written as its change counter, and whether that is all it has changed there.
func (f *File) written() (counter uint32, unchanged bool, err error) {
	p, ok := f.dirty[1]
	if !ok {
		return f.header.counter + 2, false, nil
	}
	content := p.Bytes()
	if content == nil {
		content = f.buffer()
		if err := p.Read(content); err != nil {
			return 0, false, err
		}
	}
	unchanged, err = f.header.sameAs(content, f.snapshot)
	return counterOf(content), unchanged, err
}

// CheckReservedLock says whether any connection writes. SQLite asks only about journals left behind.
func (f *File) CheckReservedLock() (bool, error) { return f.lock >= vfs.LOCK_RESERVED, nil }

// LockState tells SQLite the lock that it has.
func (f *File) LockState() vfs.LockLevel { return f.lock }

// Sync has nothing to do: durability comes after the commit, from the log.
func (f *File) Sync(vfs.SyncFlag) error { return nil }

// SectorSize leaves the choice to SQLite.
func (f *File) SectorSize() int { return 0 }

// DeviceCharacteristics lets SQLite skip what only a real disk needs. Not IOCAP_ATOMIC: with it SQLite
// picks another page size and commits single pages past the journal.
func (f *File) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return vfs.IOCAP_SAFE_APPEND | vfs.IOCAP_SEQUENTIAL | vfs.IOCAP_POWERSAFE_OVERWRITE | vfs.IOCAP_SUBPAGE_READ
}

var (
	_ vfs.FileLockState      = (*File)(nil)
	_ vfs.FileCommitPhaseTwo = (*File)(nil)
)
