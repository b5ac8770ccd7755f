package replog

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// disk is how the log changes what is on disk: a seam, so that tests can crash between any two of the
// steps and lose whatever was not synced.
type disk interface {
	create(name string) (*os.File, error) // empty, for reading and writing
	writeAt(f *os.File, b []byte, at int64) error
	sync(f *os.File) error // fdatasync
	rename(from, to string) error
	remove(name string) error
	syncDir(dir string) error
}

type osDisk struct{}

func (osDisk) create(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (osDisk) writeAt(f *os.File, b []byte, at int64) error {
	_, err := f.WriteAt(b, at)
	return err
}

func (osDisk) sync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) remove(name string) error     { return os.Remove(name) }
func (osDisk) syncDir(dir string) error     { return SyncDir(dir) }

// SyncDir makes the creation, renaming and removal of files in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// MakeDir makes dir, if it is missing, and its name durable.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dir))
}
