package pagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/replog"
)

// Install brings the base files of a directory that no store has open to the databases of an image. It keeps what an
// older copy, or an interrupted install, has right, and knows that by the sums beside the base files, as far as these can be
// relied on.
//
// First Sums tells what is there; nothing has been touched by then. From Mark until Commit the directory can be opened by nobody,
// whatever happens; an install that is interrupted anywhere is begun again. It is for one goroutine.
type Install struct {
	dir    string
	reread bool
	marked bool   // by this install
	known  mark   // by an earlier one, that was interrupted
	left   record // by the last store that had the directory open, if there is no mark
	buffer []byte // of what is written directly
	files  map[history.DatabaseID]*installing
}

// installing is one base file on its way.
type installing struct {
	*os.File          // nil if there is none yet
	past     *os.File // the same one, past the system's cache; nil until a long run comes
	cached   bool     // it cannot be had so
	sums     []uint64 // of what the file has now
	read     bool     // they are not those in the file of sums
}

// BeginInstall makes the directory, if it is missing. With reread nothing is taken for right that has not been
// read.
func BeginInstall(dir string, reread bool) (*Install, error) {
	if err := replog.MakeDir(dir); err != nil {
		return nil, err
	}
	i := &Install{dir: dir, reread: reread, files: map[history.DatabaseID]*installing{}}
	var err error
	if i.known, err = readMark(dir); err != nil {
		return nil, fmt.Errorf("begin to install databases: %w", err)
	}
	if !Installing(dir) {
		i.left, _ = readRecord(dir) // one that is damaged, or of another version, says nothing
	}
	return i, nil
}

// Sums gives the hash of each page that an older copy of a database has; none if there is no copy. The
// result is valid until the database is written.
func (i *Install) Sums(id history.DatabaseID) ([]uint64, error) {
	f, err := i.file(id)
	if err != nil {
		return nil, err
	}
	return f.sums, nil
}

func (i *Install) file(id history.DatabaseID) (*installing, error) {
	if f := i.files[id]; f != nil {
		return f, nil
	}
	file, err := os.OpenFile(basePath(i.dir, id), os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		i.files[id] = &installing{read: true}
		return i.files[id], nil
	}
	if err != nil {
		return nil, fmt.Errorf("install database %d: %w", id, err)
	}
	f := &installing{File: file}
	if err := i.findSums(id, f); err != nil {
		return nil, errors.Join(fmt.Errorf("install database %d: %w", id, err), file.Close())
	}
	i.files[id] = f
	return f, nil
}

// findSums takes the sums that lie beside a base file for its own where that is certain: after a store that was
// not in the middle of a checkpoint, if they lead to the database's checksum; or where the mark says so, if they lead to what
// it names. Other pages are read.
func (i *Install) findSums(id history.DatabaseID, f *installing) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	pages := st.Size() / PageSize
	if f.sums, err = readSums(sumsPath(i.dir, id), uint32(pages)); err != nil {
		return err
	}
	unsure := []Run{{id, 1, int(pages)}}
	left, ok := i.left.states[id]
	ok = ok && i.left.at == i.left.reach && st.Size() == int64(left.Pages)*PageSize
	switch want, known := i.known.rest[id]; {
	case i.reread:
	case ok && xor(f.sums) == left.Checksum:
		unsure = nil
	case known && i.known.restOf(id, f.sums) == want:
		unsure = i.known.of(id, int(pages))
	}
	f.read = len(unsure) > 0
	for _, r := range unsure {
		if err := hashPages(f.File, int(r.First)-1, f.sums[r.First-1:int(r.First)-1+r.Count]); err != nil {
			return err
		}
	}
	return nil
}

func xor(sums []uint64) (total uint64) {
	for _, s := range sums {
		total ^= s
	}
	return total
}

// Mark says which pages are going to be written. From here on the directory cannot be opened. Every database of the
// image was asked for its sums before: who goes on after a crash reads these pages, and for the others relies on what was
// found.
func (i *Install) Mark(runs []Run) error {
	if err := i.mark(runs); err != nil {
		return fmt.Errorf("begin to install databases: %w", err)
	}
	return nil
}

func (i *Install) mark(runs []Run) error {
	m := mark{rest: map[history.DatabaseID]uint64{}, runs: runs}
	for id, f := range i.files {
		m.rest[id] = m.restOf(id, f.sums)
		if !f.read {
			continue
		}
		if f.File != nil {
			if err := f.Truncate(int64(len(f.sums)) * PageSize); err != nil { // a last part of a page has no hash
				return err
			}
		}
		if err := writeSums(sumsPath(i.dir, id), f.sums); err != nil {
			return err
		}
		if err := fault.Hit("install.sums"); err != nil {
			return err
		}
	}
	if err := m.write(i.dir); err != nil {
		return err
	}
	i.marked = true
	return nil
}

// hashRun is how much of a file is read at once: 1 MB.
const hashRun = 256

// hashFile gives the hash of each whole page of a base file.
func hashFile(f *os.File) ([]uint64, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sums := make([]uint64, st.Size()/PageSize)
	return sums, hashPages(f, 0, sums)
}

// hashPages reads pages of a base file, from index first on, from several goroutines, so that a fast disk is kept busy, and
// gives the hash of each.
func hashPages(f *os.File, first int, sums []uint64) error {
	var next atomic.Int64
	var workers sync.WaitGroup
	failed := make(chan error, min(hashWorkers(), len(sums)/hashRun+1))
	for range cap(failed) {
		workers.Go(func() {
			buf := make([]byte, min(hashRun, len(sums))*PageSize)
			for {
				from := int(next.Add(hashRun)) - hashRun
				if from >= len(sums) {
					return
				}
				if err := hashSome(f, first+from, sums[from:min(from+hashRun, len(sums))], buf); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(failed)
	return <-failed
}

func hashWorkers() int { return max(2, min(runtime.GOMAXPROCS(0), 8)) }

func hashSome(f *os.File, first int, sums []uint64, buf []byte) error {
	buf = buf[:len(sums)*PageSize]
	if _, err := f.ReadAt(buf, int64(first)*PageSize); err != nil {
		return err
	}
	for i := range sums {
		sums[i] = sum(PageNo(first+i+1), buf[i*PageSize:(i+1)*PageSize])
	}
	return nil
}

var errNotMarked = errors.New("the directory is not marked as one that is being installed")

// WriteRun puts pages in place that follow each other, from first on. Content that does not have the hash that is wanted is
// refused.
func (i *Install) WriteRun(id history.DatabaseID, first PageNo, pages []byte, want []uint64) error {
	f, err := i.writable(id)
	if err != nil {
		return err
	}
	for n, s := range want {
		if no := first + PageNo(n); sum(no, pages[n*PageSize:(n+1)*PageSize]) != s {
			return fmt.Errorf("install database %d: %w: page %d does not have the hash that it was sent with", id, ErrDamaged, no)
		}
	}
	if err := fault.Hit("install.page"); err != nil {
		return err
	}
	if err := i.put(f, pages[:len(want)*PageSize], int64(first-1)*PageSize); err != nil {
		return fmt.Errorf("install database %d: %w", id, err)
	}
	f.grow(int(first) - 1 + len(want))
	copy(f.sums[first-1:], want)
	return nil
}

// directRun is how many bytes are worth a wait for the disk.
const directRun = 128 << 10

// put writes pages at a byte of a base file. A long run goes past the system's cache: a copy would fill that with what nobody has asked
// for, take longer to do so than the disk needs, and leave all of it to be written in the end. Single pages are sooner in the cache.
func (i *Install) put(f *installing, pages []byte, at int64) error {
	for len(pages) >= directRun && f.direct() {
		if i.buffer == nil {
			i.buffer = directBuffer(4 * directRun)
		}
		n := copy(i.buffer, pages)
		_, err := f.past.WriteAt(i.buffer[:n], at)
		if errors.Is(err, syscall.EINVAL) { // the file system knows the flag, and cannot do it
			f.cached = true
			break
		}
		if err != nil {
			return err
		}
		pages, at = pages[n:], at+int64(n)
	}
	_, err := f.WriteAt(pages, at)
	return err
}

// direct says whether the file can be written past the system's cache.
func (f *installing) direct() bool {
	if f.past == nil && !f.cached {
		f.past = writeDirect(f.Name())
		f.cached = f.past == nil
	}
	return !f.cached
}

// writable gives a database's base file, which is made if there is none.
func (i *Install) writable(id history.DatabaseID) (*installing, error) {
	f := i.files[id]
	if !i.marked || f == nil {
		return nil, fmt.Errorf("install database %d: %w", id, errNotMarked)
	}
	if f.File == nil {
		file, err := os.OpenFile(basePath(i.dir, id), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("install database %d: %w", id, err)
		}
		f.File = file
	}
	return f, nil
}

// grow adds pages of zeros up to so many.
func (f *installing) grow(pages int) {
	if n := pages - len(f.sums); n > 0 {
		f.sums = append(f.sums, make([]uint64, n)...)
	}
}

// Finish makes the base files exactly these databases, compares their checksums, makes them durable and
// writes the checkpoint at lsn. Whoever opens the directory removes other databases. Install.Commit comes last, once
// the log that begins behind lsn is there too.
func (i *Install) Finish(lsn history.LSN, databases []ImageDB) error {
	states := map[history.DatabaseID]State{}
	for _, db := range databases {
		f, err := i.writable(db.ID)
		if err != nil {
			return err
		}
		err = f.complete(db, sumsPath(i.dir, db.ID))
		if errors.Is(err, ErrDamaged) {
			err = errors.Join(err, mark{}.write(i.dir)) // whatever the cause is, the next install reads everything
		}
		if err != nil {
			return fmt.Errorf("install database %d: %w", db.ID, err)
		}
		states[db.ID] = State{LSN: lsn, Pages: db.Pages, Checksum: db.Checksum}
	}
	if err := fault.Hit("install.synced"); err != nil {
		return err
	}
	if err := (record{at: lsn, reach: lsn, states: states}).write(i.dir); err != nil {
		return err
	}
	return fault.Hit("install.checkpoint")
}

// complete gives the file its size, compares it and syncs it, and then the sums beside it: as long as these are older than the file, the
// mark says of which pages.
func (f *installing) complete(db ImageDB, sums string) error {
	if err := f.Truncate(int64(db.Pages) * PageSize); err != nil {
		return err
	}
	f.grow(int(db.Pages))
	f.sums = f.sums[:db.Pages]
	if total := xor(f.sums); total != db.Checksum {
		return fmt.Errorf("%w: its checksum is %016x, the image's is %016x", ErrDamaged, total, db.Checksum)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return writeSums(sums, f.sums)
}

// Commit takes the mark away: from now on the directory can be opened. The install is over.
func (i *Install) Commit() error {
	if err := fault.Hit("install.commit"); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(i.dir, installFile)); err != nil {
		return fmt.Errorf("end the installation: %w", err)
	}
	return errors.Join(replog.SyncDir(i.dir), i.Close())
}

// Close closes the files. After Mark, and without Commit, the directory stays marked.
func (i *Install) Close() error {
	var err error
	for _, f := range i.files {
		if f.File != nil {
			err = errors.Join(err, f.File.Close())
		}
		if f.past != nil {
			err = errors.Join(err, f.past.Close())
		}
	}
	i.files = nil
	return err
}
