//go:build !linux

package pagestore

import (
	"fmt"
	"os"
)

// directFile reads a base file, on this system through its cache.
type directFile struct{ *os.File }

func openDirect(name string) (*directFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &directFile{f}, nil
}

// read fills buf with the pages from first on. What cannot be read is zeros.
func (f *directFile) read(buf []byte, first PageNo) error {
	n, err := f.ReadAt(buf, int64(first-1)*PageSize)
	clear(buf[n:])
	if err != nil {
		return fmt.Errorf("read page %d: %w", first, err)
	}
	return nil
}

func writeDirect(string) *os.File { return nil }

func directBuffer(n int) []byte { return make([]byte, n) }
