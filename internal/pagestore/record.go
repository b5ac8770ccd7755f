package pagestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"skein/internal/history"
	"skein/internal/replog"
)

const (
	checkpointFile    = "checkpoint"
	checkpointMagic   = "SKEINCKP"
	checkpointVersion = 2
	recordHeader      = 32
	recordState       = 16
)

var errOlderFormat = errors.New("database was written by a version of Skein from before replication; dump it with that one and load the dump with this one")

// record is the checkpoint file: what the base files hold.
type record struct {
	at     history.LSN // every entry up to it
	reach  history.LSN // and no entry above this one: at, or what a checkpoint under way goes to
	states map[history.DatabaseID]State
}

// write replaces the checkpoint file in dir.
func (r record) write(dir string) error {
	if err := replog.WriteFileAtomic(filepath.Join(dir, checkpointFile), r.encode()); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

func (r record) encode() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, recordHeader+recordState*len(r.states)+4), checkpointMagic...)
	b = le.AppendUint32(b, checkpointVersion)
	b = le.AppendUint32(b, uint32(len(r.states)))
	b = le.AppendUint64(b, uint64(r.at))
	b = le.AppendUint64(b, uint64(r.reach))
	for _, id := range slices.Sorted(maps.Keys(r.states)) {
		b = le.AppendUint32(b, uint32(id))
		b = le.AppendUint32(b, r.states[id].Pages)
		b = le.AppendUint64(b, r.states[id].Checksum)
	}
	return le.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// readRecord reads the checkpoint file in dir. There are no states when there is no file yet.
func readRecord(dir string) (record, error) {
	path := filepath.Join(dir, checkpointFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	damaged := fmt.Errorf("%w: %s is not readable; restore the directory from a backup", ErrDamaged, path)
	le := binary.LittleEndian
	if len(b) < 28 || string(b[:8]) != checkpointMagic {
		return record{}, damaged
	}
	switch v := le.Uint32(b[8:]); {
	case v > checkpointVersion:
		return record{}, fmt.Errorf("%w: %s has format %d, this one reads up to %d", ErrNewerFormat, path, v, checkpointVersion)
	case v < checkpointVersion:
		return record{}, fmt.Errorf("%w: %s has format %d", errOlderFormat, path, v)
	}
	body, n := b[:len(b)-4], (len(b)-recordHeader-4)/recordState
	if len(body) != recordHeader+n*recordState || n != int(le.Uint32(b[12:])) || crc32.ChecksumIEEE(body) != le.Uint32(b[len(body):]) {
		return record{}, damaged
	}
	r := record{at: history.LSN(le.Uint64(b[16:])), reach: history.LSN(le.Uint64(b[24:])), states: map[history.DatabaseID]State{}}
	for i := range n {
		s := b[recordHeader+recordState*i:]
		r.states[history.DatabaseID(le.Uint32(s))] = State{LSN: r.at, Pages: le.Uint32(s[4:]), Checksum: le.Uint64(s[8:])}
	}
	return r, nil
}
