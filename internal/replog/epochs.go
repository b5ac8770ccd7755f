package replog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"skein/internal/history"
)

const (
	epochsFile  = "epochs" // where each leadership began whose entries the log holds or has held
	epochsMagic = "SKEINEPO"
)

// Epochs is the log's epoch history. It never waits for the disk.
func (l *Log) Epochs() history.Epochs {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.Until(l.newest.LSN)
}

// begin notes where an epoch begins, before the first entry of it is appended at head+1. So the file knows of every
// epoch that has an entry on disk; one that it knows of beyond the end of the log has none, and is
// forgotten. An error leaves everything as it was. The order lock is held.
func (l *Log) begin(epoch history.Epoch) error {
	if epoch < l.head.Epoch {
		return fmt.Errorf("%w: epoch %d after epoch %d", ErrNotNext, epoch, l.head.Epoch)
	}
	var last history.Start
	if n := len(l.epochs); n > 0 {
		last = l.epochs[n-1]
	}
	start := history.Start{Epoch: epoch, LSN: l.head.LSN + 1}
	begins := epoch > l.head.Epoch
	if begins && last == start || !begins && last.LSN < start.LSN {
		return nil
	}
	epochs := l.epochs.Until(l.head.LSN) // what else was to begin here never did
	if begins {
		epochs = append(epochs, start)
	}
	if err := l.saveEpochs(epochs); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs = epochs
	if begins {
		l.newEpoch = start.LSN
	}
	return nil
}

func (l *Log) saveEpochs(epochs history.Epochs) error {
	if err := replaceFile(l.options.disk, filepath.Join(l.dir, epochsFile), encodeEpochs(epochs)); err != nil {
		return fmt.Errorf("save epoch history: %w", err)
	}
	return nil
}

// settleEpochs makes the file say what was found: what it knew of the past that was not read, and
// what was read. That the file itself is on disk finishCut has made sure of.
func (l *Log) settleEpochs(found, saved history.Epochs) error {
	l.epochs = found
	if slices.Equal(found, saved) {
		return nil
	}
	return l.saveEpochs(found)
}

// pastEpochs is what the file knows of the log up to a position, which must fit.
func pastEpochs(saved history.Epochs, at history.Position) (history.Epochs, error) {
	past := saved.Until(at.LSN)
	if past.Last() != at.Epoch {
		return nil, fmt.Errorf("%w: its history of epochs, in the file %s, ends at epoch %d, but entry %d is of epoch %d; restore the files or the node from a backup", ErrDamaged, epochsFile, past.Last(), at.LSN, at.Epoch)
	}
	return past, nil
}

func encodeEpochs(epochs history.Epochs) []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), epochsMagic...)
	b = le.AppendUint32(b, FormatVersion)
	b = le.AppendUint32(b, uint32(len(epochs)))
	for _, s := range epochs {
		b = le.AppendUint64(b, uint64(s.Epoch))
		b = le.AppendUint64(b, uint64(s.LSN))
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readEpochs reads what encodeEpochs wrote; a missing file knows of no epoch.
func readEpochs(dir string) (history.Epochs, error) {
	path := filepath.Join(dir, epochsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	epochs, ok := decodeEpochs(b)
	if !ok {
		return nil, fmt.Errorf("%w: its history of epochs, %s, is not readable; restore the file or the node from a backup", ErrDamaged, path)
	}
	return epochs, nil
}

func decodeEpochs(b []byte) (history.Epochs, bool) {
	le := binary.LittleEndian
	if len(b) < 20 || (len(b)-20)%16 != 0 || string(b[:8]) != epochsMagic || le.Uint32(b[8:]) != FormatVersion {
		return nil, false
	}
	if int64(le.Uint32(b[12:]))*16 != int64(len(b)-20) || crc32.Checksum(b[:len(b)-4], castagnoli) != le.Uint32(b[len(b)-4:]) {
		return nil, false
	}
	var epochs history.Epochs
	for at := 16; at < len(b)-4; at += 16 {
		epochs = append(epochs, history.Start{Epoch: history.Epoch(le.Uint64(b[at:])), LSN: history.LSN(le.Uint64(b[at+8:]))})
	}
	return epochs, true
}

// replaceFile is WriteFileAtomic on a disk that tests can stop. With an error before the file has its
// name the old one is still there.
func replaceFile(d disk, path string, data []byte) error {
	if err := writeNew(d, path+newSuffix, data); err != nil {
		return err
	}
	if err := d.rename(path+newSuffix, path); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

const newSuffix = ".new"

// writeNew makes a file that is on disk when it returns.
func writeNew(d disk, path string, data []byte) error {
	f, err := d.create(path)
	if err != nil {
		return err
	}
	if err = d.writeAt(f, data, 0); err == nil {
		err = d.sync(f)
	}
	return errors.Join(err, f.Close())
}
