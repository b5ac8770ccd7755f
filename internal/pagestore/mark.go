package pagestore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/replog"
)

const (
	// installFile marks a directory whose base files are being replaced.
	installFile    = "installing"
	installMagic   = "SKEININS"
	installVersion = 1

	markHeader = 20
	markRest   = 12
	markRun    = 12
)

// Run is pages of a database that follow each other.
type Run struct {
	Database history.DatabaseID
	First    PageNo
	Count    int
}

// mark is what the file says: the files of sums are right about all pages that are not in these runs.
type mark struct {
	rest map[history.DatabaseID]uint64 // the XOR of these sums, of the databases that this is true of
	runs []Run
}

// of gives the runs of one database, as far as its file goes.
func (m mark) of(id history.DatabaseID, pages int) (runs []Run) {
	for _, r := range m.runs {
		if r.Database == id && int(r.First) <= pages {
			r.Count = min(r.Count, pages-int(r.First)+1)
			runs = append(runs, r)
		}
	}
	return runs
}

// restOf is the XOR of a database's sums that are not in the runs.
func (m mark) restOf(id history.DatabaseID, sums []uint64) uint64 {
	total := xor(sums)
	for _, r := range m.of(id, len(sums)) {
		total ^= xor(sums[r.First-1 : int(r.First)-1+r.Count])
	}
	return total
}

// Installing says whether an install was begun in dir and not committed: nothing can open it.
func Installing(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, installFile))
	return !errors.Is(err, fs.ErrNotExist)
}

func (m mark) write(dir string) error {
	le := binary.LittleEndian
	b := append(make([]byte, 0, markHeader+markRest*len(m.rest)+markRun*len(m.runs)+4), installMagic...)
	b = le.AppendUint32(b, installVersion)
	b = le.AppendUint32(b, uint32(len(m.rest)))
	b = le.AppendUint32(b, uint32(len(m.runs)))
	for _, id := range slices.Sorted(maps.Keys(m.rest)) {
		b = le.AppendUint32(b, uint32(id))
		b = le.AppendUint64(b, m.rest[id])
	}
	for _, r := range m.runs {
		b = le.AppendUint32(b, uint32(r.Database))
		b = le.AppendUint32(b, uint32(r.First))
		b = le.AppendUint32(b, uint32(r.Count))
	}
	if err := replog.WriteFileAtomic(filepath.Join(dir, installFile), le.AppendUint32(b, crc32.ChecksumIEEE(b))); err != nil {
		return err
	}
	return fault.Hit("install.begun")
}

// readMark gives what the file in dir says. One that cannot be read says nothing of any database.
func readMark(dir string) (m mark, err error) {
	b, err := os.ReadFile(filepath.Join(dir, installFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	le := binary.LittleEndian
	if len(b) < markHeader+4 || string(b[:8]) != installMagic || le.Uint32(b[8:]) != installVersion {
		return m, nil
	}
	databases, runs := int64(le.Uint32(b[12:])), int64(le.Uint32(b[16:]))
	body := b[:len(b)-4]
	if int64(len(body)) != markHeader+markRest*databases+markRun*runs || crc32.ChecksumIEEE(body) != le.Uint32(b[len(body):]) {
		return m, nil
	}
	m.rest = map[history.DatabaseID]uint64{}
	for b = body[markHeader:]; databases > 0; databases-- {
		m.rest[history.DatabaseID(le.Uint32(b))], b = le.Uint64(b[4:]), b[markRest:]
	}
	for ; len(b) > 0; b = b[markRun:] {
		m.runs = append(m.runs, Run{history.DatabaseID(le.Uint32(b)), PageNo(le.Uint32(b[4:])), int(le.Uint32(b[8:]))})
	}
	return m, nil
}
