package sqlitevfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

const (
	tempMemory = 256 << 10 // of a temporary file stays in memory
	tempStart  = 16 << 10  // is what it begins with: the journal of a small transaction
)

// TempSpace bounds the temporary files of one node: journals, large sorts, VACUUM's copy, temporary tables, and what
// drafts have written that memory does not hold. What a database's writer has written is not counted: there is one.
type TempSpace struct {
	dir   string
	limit int64
	used  atomic.Int64
	start sync.Pool // of *[tempStart]byte: SQLite opens and closes a journal with every transaction
}

// TempFull is SQLite's code for a file that has no room because of the limit, other than one on a full disk.
const TempFull = sqlite3.ExtendedErrorCode(sqlite3.FULL) | 1<<8

// TempFullError means that the temporary files of the node have reached their limit.
type TempFullError struct{ LimitBytes int64 }

func (e *TempFullError) Error() string {
	return fmt.Sprintf("temporary files have reached their limit (%d bytes)", e.LimitBytes)
}

// NewTempSpace puts temporary files into dir, of limit bytes together.
func NewTempSpace(dir string, limit int64) *TempSpace { return &TempSpace{dir: dir, limit: limit} }

// UsedBytes is the size of all temporary files on disk.
func (t *TempSpace) UsedBytes() int64 { return t.used.Load() }

// take counts so many bytes more, if there is room for them.
func (t *TempSpace) take(bytes int64) error {
	if t.used.Add(bytes) > t.limit {
		t.give(bytes)
		return t.full()
	}
	return nil
}

func (t *TempSpace) full() error { return &TempFullError{t.limit} }

func (t *TempSpace) give(bytes int64) { t.used.Add(-bytes) }

func (t *TempSpace) file() *tempFile { return &tempFile{space: t} }

// TempFile is a temporary file for others than SQLite: small in memory, larger on disk, and gone when it is closed.
type TempFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// NewTemp makes one in the temporary space of the node. It may outlive the connection. Writing to it fails with a *TempFullError, or as
// the disk does.
func (f *File) NewTemp() TempFile { return ownTemp{f.vfs.temp.file()} }

// ownTemp is a temporary file whose errors are not for SQLite.
type ownTemp struct{ *tempFile }

func (f ownTemp) WriteAt(b []byte, off int64) (int, error) { return f.write(b, off) }

// tempFile is a file that dies with its connection: small in memory, larger in an unnamed file.
type tempFile struct {
	space *TempSpace
	mem   []byte
	first *[tempStart]byte // under mem while that is enough
	file  *os.File
	size  int64 // of file
	lock  vfs.LockLevel
}

// tagged tells SQLite why something was not written: for want of room, or else with a code.
func tagged(err error, code sqlite3.ExtendedErrorCode) error {
	var limit *TempFullError
	switch {
	case errors.As(err, &limit):
		code = TempFull
	case errors.Is(err, syscall.ENOSPC):
		code = sqlite3.ExtendedErrorCode(sqlite3.FULL)
	}
	return vfs.SystemError(err, code)
}

func (f *tempFile) ReadAt(b []byte, off int64) (int, error) {
	if f.file != nil {
		n, err := f.file.ReadAt(b, off)
		return n, eof(err)
	}
	if off >= int64(len(f.mem)) {
		return 0, io.EOF
	}
	n := copy(b, f.mem[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}

func (f *tempFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.write(b, off)
	return n, tagged(err, sqlite3.IOERR_WRITE)
}

func (f *tempFile) write(b []byte, off int64) (int, error) {
	end := off + int64(len(b))
	if f.file == nil && end <= tempMemory {
		if end > int64(len(f.mem)) {
			f.grow(int(end))
		}
		return copy(f.mem[off:], b), nil
	}
	return f.writeFile(b, off)
}

func (f *tempFile) writeFile(b []byte, off int64) (int, error) {
	if f.file == nil {
		if err := f.spill(); err != nil {
			return 0, err
		}
	}
	if err := f.charge(off + int64(len(b))); err != nil {
		return 0, err
	}
	return f.file.WriteAt(b, off)
}

func (f *tempFile) grow(n int) {
	old := len(f.mem)
	switch {
	case n <= cap(f.mem):
		f.mem = f.mem[:n]
	case n <= tempStart:
		f.first, _ = f.space.start.Get().(*[tempStart]byte)
		if f.first == nil {
			f.first = new([tempStart]byte)
		}
		f.mem = f.first[:n]
	default:
		mem := make([]byte, n, 2*n)
		copy(mem, f.mem)
		f.release()
		f.mem = mem
		return
	}
	clear(f.mem[old:])
}

// release gives the first buffer back.
func (f *tempFile) release() {
	if f.first != nil {
		f.space.start.Put(f.first)
		f.first = nil
	}
	f.mem = nil
}

func (f *tempFile) spill() error {
	file, err := os.CreateTemp(f.space.dir, "temp-")
	if err != nil {
		return err
	}
	if err := os.Remove(file.Name()); err != nil {
		return err
	}
	f.file = file
	if err := f.charge(int64(len(f.mem))); err != nil {
		return err
	}
	if _, err := file.WriteAt(f.mem, 0); err != nil {
		return err
	}
	f.release()
	return nil
}

// charge counts growth to size against the space's limit.
func (f *tempFile) charge(size int64) error {
	if size <= f.size {
		return nil
	}
	if err := f.space.take(size - f.size); err != nil {
		return err
	}
	f.size = size
	return nil
}

func (f *tempFile) Truncate(size int64) error {
	if f.file == nil {
		if size < int64(len(f.mem)) {
			f.mem = f.mem[:size]
		}
		return nil
	}
	if size == 0 { // a journal's end: back to memory
		return f.Close()
	}
	if err := f.file.Truncate(size); err != nil {
		return err
	}
	if size < f.size {
		f.space.give(f.size - size)
		f.size = size
	}
	return nil
}

func (f *tempFile) Size() (int64, error) {
	if f.file == nil {
		return int64(len(f.mem)), nil
	}
	st, err := f.file.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *tempFile) Close() error {
	f.release()
	if f.file == nil {
		return nil
	}
	f.space.give(f.size)
	err := f.file.Close()
	f.file, f.size = nil, 0
	return err
}

func (f *tempFile) Sync(vfs.SyncFlag) error          { return nil }
func (f *tempFile) Lock(l vfs.LockLevel) error       { f.lock = l; return nil }
func (f *tempFile) Unlock(l vfs.LockLevel) error     { f.lock = l; return nil }
func (f *tempFile) CheckReservedLock() (bool, error) { return f.lock >= vfs.LOCK_RESERVED, nil }
func (f *tempFile) SectorSize() int                  { return 0 }
func (f *tempFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return vfs.IOCAP_SEQUENTIAL | vfs.IOCAP_SAFE_APPEND | vfs.IOCAP_POWERSAFE_OVERWRITE
}
