package pagestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"skein/internal/fault"
	"skein/internal/history"
)

const (
	sumsSuffix = ".sums"

	// sumsBlock is how many sums are written at once: 4 KB of them, for 2 MB of pages.
	sumsBlock = PageSize / 8
)

// Beside each base file lies one with the sum of each of its pages, so that a start need not read the pages. A
// checkpoint writes both, then names the state that they hold. After a crash in its middle the sums of those pages can be
// wrong that it was to write, which are the pages that redo makes versions of: nobody looks for them in the base file.
//
// Nothing else has to be believed about the file. The XOR of its sums and those of the versions must be the
// database's checksum, which the log, or the checkpoint file, gives. Where it is not, the pages are read.

func sumsPath(dir string, id history.DatabaseID) string {
	return filepath.Join(dir, fmt.Sprintf("%04d%s", id, sumsSuffix))
}

// readSums gives the sums of so many pages as the file has them; zeros for those that it does not have.
func readSums(path string, pages uint32) ([]uint64, error) {
	sums := make([]uint64, pages)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return sums, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	buf := make([]byte, 1<<20)
	for at := 0; at < len(sums); {
		n, err := f.ReadAt(buf[:min(len(buf), 8*(len(sums)-at))], 8*int64(at))
		for b := buf[:n]; len(b) >= 8; b = b[8:] {
			sums[at] = binary.LittleEndian.Uint64(b)
			at++
		}
		if err != nil {
			break // the rest is found to be missing
		}
	}
	return sums, nil
}

// writeSums replaces the file by one of these sums. The name is on the disk after the next sync of the directory.
func writeSums(path string, sums []uint64) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for from := 0; from < len(sums) && err == nil; from += 256 * sumsBlock {
		_, err = f.Write(encodeSums(nil, sums[from:min(from+256*sumsBlock, len(sums))]))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func encodeSums(dst []byte, sums []uint64) []byte {
	for _, s := range sums {
		dst = binary.LittleEndian.AppendUint64(dst, s)
	}
	return dst
}

// saveSums brings the file up to date for pages that a checkpoint has written, given in order, and syncs it.
func (db *DB) saveSums(pages []PageNo) (err error) {
	f, err := os.OpenFile(db.sumsPath, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, 0, PageSize)
	for i := 0; i < len(pages); {
		block := (int(pages[i]) - 1) / sumsBlock
		for i < len(pages) && (int(pages[i])-1)/sumsBlock == block {
			i++
		}
		db.mu.RLock()
		buf = encodeSums(buf[:0], db.sums[block*sumsBlock:min((block+1)*sumsBlock, len(db.sums))])
		db.mu.RUnlock()
		if err := fault.Hit("checkpoint.sums"); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf, int64(block)*sumsBlock*8); err != nil {
			return err
		}
	}
	return f.Sync()
}
