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

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/replog"
)

// installFile marks a directory whose base files are being replaced. Nothing is said about it: whoever
// goes on begins by hashing what is there.
const installFile = "installing"

// Install brings the base files of a directory that no store has open to the databases of an image. It
// keeps what an older copy, or an interrupted install, has right. From BeginInstall until Commit the
// directory can be opened by nobody, whatever happens; an install that is interrupted anywhere is
// begun again. It is for one goroutine.
type Install struct {
	dir   string
	files map[history.DatabaseID]*installing
}

// installing is one base file on its way.
type installing struct {
	*os.File
	sums []uint64 // of what the file has now
}

// BeginInstall makes the directory, if it is missing, and marks it.
func BeginInstall(dir string) (*Install, error) {
	if err := replog.MakeDir(dir); err != nil {
		return nil, err
	}
	if err := replog.WriteFileAtomic(filepath.Join(dir, installFile), nil); err != nil {
		return nil, fmt.Errorf("begin to install databases: %w", err)
	}
	return &Install{dir: dir, files: map[history.DatabaseID]*installing{}}, fault.Hit("install.begun")
}

// Installing says whether an install was begun in dir and not committed: nothing can open it.
func Installing(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, installFile))
	return !errors.Is(err, fs.ErrNotExist)
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
	f, err := os.OpenFile(basePath(i.dir, id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("install database %d: %w", id, err)
	}
	sums, err := hashFile(f)
	if err == nil {
		err = f.Truncate(int64(len(sums)) * PageSize) // a last part of a page has no hash
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("install database %d: %w", id, err), f.Close())
	}
	i.files[id] = &installing{f, sums}
	return i.files[id], nil
}

// hashRun is how much of a file is read at once: 1 MB.
const hashRun = 256

// hashFile reads a base file from several goroutines, so that a fast disk is kept busy, and gives the
// hash of each whole page.
func hashFile(f *os.File) ([]uint64, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sums := make([]uint64, st.Size()/PageSize)
	var next atomic.Int64
	var workers sync.WaitGroup
	failed := make(chan error, hashWorkers())
	for range cap(failed) {
		workers.Go(func() {
			buf := make([]byte, hashRun*PageSize)
			for {
				first := int(next.Add(hashRun)) - hashRun
				if first >= len(sums) {
					return
				}
				if err := hashPages(f, first, sums[first:min(first+hashRun, len(sums))], buf); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(failed)
	return sums, <-failed
}

func hashWorkers() int { return max(2, min(runtime.GOMAXPROCS(0), 8)) }

func hashPages(f *os.File, first int, sums []uint64, buf []byte) error {
	buf = buf[:len(sums)*PageSize]
	if _, err := f.ReadAt(buf, int64(first)*PageSize); err != nil {
		return err
	}
	for i := range sums {
		sums[i] = sum(PageNo(first+i+1), buf[i*PageSize:(i+1)*PageSize])
	}
	return nil
}

// WriteRun puts pages in place that follow each other, from first on. Content that does not have the hash that is wanted is
// refused.
func (i *Install) WriteRun(id history.DatabaseID, first PageNo, pages []byte, want []uint64) error {
	f, err := i.file(id)
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
	if _, err := f.WriteAt(pages[:len(want)*PageSize], int64(first-1)*PageSize); err != nil {
		return fmt.Errorf("install database %d: %w", id, err)
	}
	f.grow(int(first) - 1 + len(want))
	copy(f.sums[first-1:], want)
	return nil
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
		f, err := i.file(db.ID)
		if err != nil {
			return err
		}
		if err := f.complete(db); err != nil {
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

// complete gives the file its size, compares it and syncs it.
func (f *installing) complete(db ImageDB) error {
	if err := f.Truncate(int64(db.Pages) * PageSize); err != nil {
		return err
	}
	f.grow(int(db.Pages))
	f.sums = f.sums[:db.Pages]
	var total uint64
	for _, s := range f.sums {
		total ^= s
	}
	if total != db.Checksum {
		return fmt.Errorf("%w: its checksum is %016x, the image's is %016x", ErrDamaged, total, db.Checksum)
	}
	return f.Sync()
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

// Close closes the files. Without Commit before, the directory stays marked.
func (i *Install) Close() error {
	var err error
	for _, f := range i.files {
		err = errors.Join(err, f.File.Close())
	}
	i.files = nil
	return err
}
