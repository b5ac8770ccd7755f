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

	epochsHeader = 24
	minSlot      = 4096
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

// epochFile is the file of epochs: two slots, of which each save takes the one that does not hold the
// newest. So the other survives a power cut, and a full disk has room for it: a node must be able to lead there.
type epochFile struct {
	file *os.File
	slot int64  // size of each
	next uint64 // number of the next save, which goes to slot next%2
}

func (l *Log) saveEpochs(epochs history.Epochs) error {
	defer l.busy.begin()()
	if err := l.writeEpochs(epochs); err != nil {
		return fmt.Errorf("save epoch history: %w", err)
	}
	return nil
}

func (l *Log) writeEpochs(epochs history.Epochs) error {
	s, d := &l.saved, l.options.disk
	b := encodeEpochs(epochs, s.next)
	if s.file == nil || int64(len(b)) > s.slot {
		return l.replaceEpochs(b)
	}
	if err := d.writeAt(s.file, b, int64(s.next%2)*s.slot); err != nil {
		return err // the other slot is as it was
	}
	if err := d.sync(s.file); err != nil {
		l.fail(fmt.Errorf("save epoch history: %w", err))
		return err
	}
	s.next++
	return nil
}

// replaceEpochs makes a new file, with room for twice as many epochs.
func (l *Log) replaceEpochs(b []byte) error {
	s, d := &l.saved, l.options.disk
	slot := int64(minSlot)
	for slot < 2*int64(len(b)) {
		slot *= 2
	}
	data := make([]byte, 2*slot)
	copy(data[int64(s.next%2)*slot:], b)
	path := filepath.Join(l.dir, epochsFile)
	f, err := writeNew(d, path+newSuffix, data)
	if err != nil {
		return err
	}
	if err := errors.Join(d.rename(path+newSuffix, path), d.syncDir(l.dir)); err != nil {
		l.fail(fmt.Errorf("save epoch history: %w", err)) // which of the two files it is now nobody knows
		return errors.Join(err, f.Close())
	}
	if s.file != nil {
		_ = s.file.Close()
	}
	*s = epochFile{file: f, slot: slot, next: s.next + 1}
	return nil
}

// settleEpochs makes the file say what was found: what it knew of the past that was not read, and
// what was read. After an unclean stop nothing says that what the file holds is on the disk.
func (l *Log) settleEpochs(found, saved history.Epochs, clean bool) error {
	l.epochs = found
	switch {
	case !slices.Equal(found, saved) || l.saved.file == nil:
		return l.saveEpochs(found)
	case clean:
		return nil
	}
	return l.options.disk.sync(l.saved.file)
}

// pastEpochs is what the file knows of the log up to a position, which must fit.
func pastEpochs(saved history.Epochs, at history.Position) (history.Epochs, error) {
	past := saved.Until(at.LSN)
	if past.Last() != at.Epoch {
		return nil, fmt.Errorf("%w: its history of epochs, in the file %s, ends at epoch %d, but entry %d is of epoch %d; restore the files or the node from a backup", ErrDamaged, epochsFile, past.Last(), at.LSN, at.Epoch)
	}
	return past, nil
}

func encodeEpochs(epochs history.Epochs, number uint64) []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), epochsMagic...)
	b = le.AppendUint32(b, FormatVersion)
	b = le.AppendUint32(b, uint32(len(epochs)))
	b = le.AppendUint64(b, number)
	for _, s := range epochs {
		b = le.AppendUint64(b, uint64(s.Epoch))
		b = le.AppendUint64(b, uint64(s.LSN))
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// openEpochs opens the file and reads the newest that was saved in it; a missing file knows of no epoch.
func (l *Log) openEpochs() (history.Epochs, error) {
	path := filepath.Join(l.dir, epochsFile)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l.saved.file = f
	b, err := readAll(f)
	if err != nil {
		return nil, err
	}
	epochs, ok := l.saved.read(b)
	if !ok {
		return nil, fmt.Errorf("%w: its history of epochs, %s, is not readable; restore the file or the node from a backup", ErrDamaged, path)
	}
	return epochs, nil
}

// read takes the newer of the slots that are valid.
func (s *epochFile) read(b []byte) (newest history.Epochs, ok bool) {
	s.slot = int64(len(b) / 2)
	for i := range int64(2) {
		epochs, number, valid := decodeEpochs(b[i*s.slot : (i+1)*s.slot])
		if valid && number%2 == uint64(i) && number >= s.next {
			newest, ok, s.next = epochs, true, number+1
		}
	}
	return newest, ok
}

// decodeEpochs reads what encodeEpochs wrote at the start of b.
func decodeEpochs(b []byte) (epochs history.Epochs, number uint64, ok bool) {
	le := binary.LittleEndian
	if len(b) < epochsHeader+4 || string(b[:8]) != epochsMagic || le.Uint32(b[8:]) != FormatVersion {
		return nil, 0, false
	}
	end := epochsHeader + 16*int64(le.Uint32(b[12:]))
	if end+4 > int64(len(b)) || crc32.Checksum(b[:end], castagnoli) != le.Uint32(b[end:]) {
		return nil, 0, false
	}
	for at := int64(epochsHeader); at < end; at += 16 {
		epochs = append(epochs, history.Start{Epoch: history.Epoch(le.Uint64(b[at:])), LSN: history.LSN(le.Uint64(b[at+8:]))})
	}
	return epochs, le.Uint64(b[16:]), true
}

const newSuffix = ".new"

// writeNew makes a file that is on disk when it returns, but for its name.
func writeNew(d disk, path string, data []byte) (*os.File, error) {
	f, err := d.create(path)
	if err != nil {
		return nil, err
	}
	if err = d.writeAt(f, data, 0); err == nil {
		err = d.sync(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
