package replog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	twinBytes  = 4096 // of each copy
	twinHeader = 16

	// MaxTwin bounds what a Twin holds.
	MaxTwin = twinBytes - twinHeader
)

// Twin is a small file that a node can change on a full disk, and must be able to read after whatever has happened
// to either half of it: what was written is there twice. Its methods are for one goroutine at a time.
type Twin struct {
	disk disk
	path string
	file *os.File // nil until it is made
	next uint64   // number of the next write
	good int64    // a copy that holds what was written last; the other may not
}

// OpenTwin reads the file at path: what was written last or, after a crash within a Write, perhaps what was before it. data
// is nil where there is no file. One of which neither copy can be read is ErrDamaged.
func OpenTwin(path string) (t *Twin, data []byte, err error) { return openTwin(osDisk{}, path) }

func openTwin(d disk, path string) (t *Twin, data []byte, err error) {
	t = &Twin{disk: d, path: path}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	t.file = f
	if data, err = t.load(); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return t, data, nil
}

// load reads the copy with the higher number. Its name, and what a killed process has left of a write, may not be on
// the disk yet: nothing is told that a power cut could take back.
func (t *Twin) load() (data []byte, err error) {
	b, err := readAll(t.file)
	if err != nil {
		return nil, err
	}
	if err := t.disk.syncDir(filepath.Dir(t.path)); err != nil {
		return nil, err
	}
	for copy := int64(0); (copy+1)*twinBytes <= int64(len(b)); copy++ {
		held, number, ok := decodeTwin(b[copy*twinBytes : (copy+1)*twinBytes])
		if ok && number >= t.next {
			data, t.good, t.next = held, copy, number+1
		}
	}
	switch {
	case data == nil:
		return nil, fmt.Errorf("%w: %s is not readable", ErrDamaged, t.path)
	case !bytes.Equal(b[:twinBytes], b[twinBytes:]):
		return data, t.Write(data)
	}
	return data, nil
}

// Write replaces what the file holds, and returns when that is on disk. After an error it holds either. One copy is
// complete before the other is touched: what a power cut may leave of two is one, and damage to one leaves the other.
func (t *Twin) Write(data []byte) error {
	if len(data) > MaxTwin {
		return fmt.Errorf("write %s: %d bytes are too many", t.path, len(data))
	}
	b := encodeTwin(data, t.next)
	t.next++ // also after an error: no two contents have one number
	if t.file == nil {
		return t.make(b)
	}
	for range 2 {
		other := 1 - t.good
		if err := t.disk.writeAt(t.file, b, other*twinBytes); err != nil {
			return err
		}
		if err := t.disk.sync(t.file); err != nil {
			return err
		}
		t.good = other
	}
	return nil
}

// make makes the file, with two equal copies.
func (t *Twin) make(b []byte) error {
	f, err := writeNew(t.disk, t.path+newSuffix, append(append([]byte(nil), b...), b...))
	if err != nil {
		return err
	}
	if err := errors.Join(t.disk.rename(t.path+newSuffix, t.path), t.disk.syncDir(filepath.Dir(t.path))); err != nil {
		return errors.Join(err, f.Close())
	}
	t.file = f
	return nil
}

// Close closes the file.
func (t *Twin) Close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

func encodeTwin(data []byte, number uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, twinBytes)
	le.PutUint32(b[4:], uint32(len(data)))
	le.PutUint64(b[8:], number)
	copy(b[twinHeader:], data)
	le.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

func decodeTwin(b []byte) (data []byte, number uint64, ok bool) {
	le := binary.LittleEndian
	n := le.Uint32(b[4:])
	if n > MaxTwin || le.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil, 0, false
	}
	return b[twinHeader : twinHeader+n : twinHeader+n], le.Uint64(b[8:]), true
}
