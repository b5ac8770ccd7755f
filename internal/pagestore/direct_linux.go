package pagestore

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directFile reads a base file from the disk itself, not from the system's cache of it.
type directFile struct {
	*os.File
	cached bool // the file system cannot do without its cache
}

func openDirect(name string) (*directFile, error) {
	if f, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECT, 0); err == nil {
		return &directFile{f, false}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &directFile{f, true}, nil
}

// read fills buf, which directBuffer made, with the pages from first on. What cannot be read is zeros.
func (f *directFile) read(buf []byte, first PageNo) error {
	off := int64(first-1) * PageSize
	if f.cached {
		_ = unix.Fadvise(int(f.Fd()), off, int64(len(buf)), unix.FADV_DONTNEED) // at best
	}
	n, err := f.ReadAt(buf, off)
	clear(buf[n:])
	if err != nil {
		return fmt.Errorf("read page %d: %w", first, err)
	}
	return nil
}

// writeDirect opens a base file to be written past the system's cache, nil where the file system cannot do without that. What
// is written takes a buffer that directBuffer made.
func writeDirect(name string) *os.File {
	f, err := os.OpenFile(name, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil
	}
	return f
}

// directBuffer gives a buffer that a disk can write to directly: aligned to a page.
func directBuffer(n int) []byte {
	b := make([]byte, n+PageSize)
	at := -uintptr(unsafe.Pointer(&b[0])) % PageSize
	return b[at : at+uintptr(n) : at+uintptr(n)]
}
