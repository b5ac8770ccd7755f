package replog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"skein/internal/fault"
	"skein/internal/history"
)

const (
	segmentHeader = 64
	segmentMagic  = "SKEINLOG"
	segmentSuffix = ".log"
	spareSuffix   = ".spare"
)

// Cluster identifies a cluster; entries of one never mix with another's.
type Cluster [16]byte

// segment is one file of the log. The flusher alone writes to it.
type segment struct {
	number uint64
	first  history.LSN      // of the first frame in it
	before history.Position // of the entry before the one of the first frame
	inside bool             // the first frame is a further piece of an entry that begins in the segment before
	file   *os.File
	size   int64  // of the file: it may come from a time when segments had another
	spare  string // its name before it became a segment; renamed by the flusher, then empty
	end    int64  // behind its last frame, once another segment follows; 0 if that is not known
	marks  []mark // where some entries begin, in order
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

func encodeSegmentHeader(c Cluster, number uint64, first history.LSN, before history.Position) []byte {
	h := make([]byte, segmentHeader)
	le := binary.LittleEndian
	copy(h, segmentMagic)
	le.PutUint32(h[8:], FormatVersion)
	copy(h[16:], c[:])
	le.PutUint64(h[32:], uint64(first))
	le.PutUint64(h[40:], uint64(before.Epoch))
	le.PutUint64(h[48:], uint64(before.Chain))
	le.PutUint64(h[56:], number)
	le.PutUint32(h[12:], segmentCRC(h))
	return h
}

func segmentCRC(h []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[16:segmentHeader])
}

var errNoSegment = errors.New("no valid segment header")

// decodeSegmentHeader reads what encodeSegmentHeader wrote. errNoSegment means that the header was
// never, or only partly, written, or is damaged: its neighbours tell which.
func decodeSegmentHeader(h []byte, c Cluster) (number uint64, first history.LSN, before history.Position, err error) {
	le := binary.LittleEndian
	if len(h) < segmentHeader || string(h[:8]) != segmentMagic {
		return 0, 0, before, errNoSegment
	}
	switch v := le.Uint32(h[8:]); {
	case v > FormatVersion:
		return 0, 0, before, fmt.Errorf("%w: format %d, this one reads %d", ErrNewerFormat, v, FormatVersion)
	case v < FormatVersion && v > 0:
		return 0, 0, before, fmt.Errorf("%w: format %d, this one reads %d; dump the databases with that version and restore them into a new directory", ErrOlderFormat, v, FormatVersion)
	}
	if le.Uint32(h[12:]) != segmentCRC(h) {
		return 0, 0, before, errNoSegment
	}
	if Cluster(h[16:32]) != c {
		return 0, 0, before, ErrForeign
	}
	first = history.LSN(le.Uint64(h[32:]))
	before = history.Position{Epoch: history.Epoch(le.Uint64(h[40:])), LSN: first - 1, Chain: history.Hash(le.Uint64(h[48:]))}
	return le.Uint64(h[56:]), first, before, nil
}

// makeSpare creates a file of size zero bytes, written and synced: from then on, writing inside it
// needs no disk space and its fdatasync no metadata.
func makeSpare(d disk, dir string, n uint64, size int64) (*os.File, string, error) {
	if err := fault.Hit("log.spare"); err != nil {
		return nil, "", fmt.Errorf("create log segment: %w", err)
	}
	name := filepath.Join(dir, fmt.Sprintf("%016x%s", n, spareSuffix))
	f, err := d.create(name)
	if err != nil {
		return nil, "", fmt.Errorf("create log segment: %w", err)
	}
	if err := fillZero(d, f, 0, size); err != nil {
		_ = f.Close()
		_ = d.remove(name)
		return nil, "", fmt.Errorf("create log segment: %w", err)
	}
	return f, name, nil
}

// fillZero overwrites a file from a byte on, and syncs it.
func fillZero(d disk, f *os.File, at, size int64) error {
	zero := make([]byte, 1<<20)
	for ; at < size; at += int64(len(zero)) {
		if err := d.writeAt(f, zero[:min(int64(len(zero)), size-at)], at); err != nil {
			return err
		}
	}
	return d.sync(f)
}

// listFiles gives the names in dir that end in suffix, in order.
func listFiles(dir, suffix string) ([]string, error) {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range all {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}
