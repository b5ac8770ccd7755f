package replog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"skein/internal/fault"
	"skein/internal/history"
)

const (
	cutFile  = "cut" // a cut that has been decided, and may not have been carried out
	cutMagic = "SKEINCUT"
	cutBytes = 56
)

// cut is where the log is to end.
type cut struct {
	to     history.Position
	number uint64 // of the segment
	at     int64
}

// Cut removes every entry above to, which is at least the one before First, and what has been received of
// an entry after it. A power cut leaves either the old end or the new one: the decision is one small file, from which
// Open carries it out if need be. Head, Epochs and Flushed go back; readers that have read more get ErrCut.
// After an error that does not leave the log as it was, it has failed.
//
// What is cut is overwritten with zeros, or its file deleted: its frames are valid, and would
// otherwise prove to a recovery that something before them is missing.
func (l *Log) Cut(to history.LSN) error {
	advanced, err := l.cut(to)
	l.onFlush(advanced)
	if err != nil {
		return fmt.Errorf("cut log to entry %d: %w", to, err)
	}
	return nil
}

func (l *Log) cut(to history.LSN) (advanced bool, err error) {
	l.order.Lock()
	defer l.order.Unlock()
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if advanced, err = l.flushPending(); err != nil {
		return advanced, err
	}
	if to == l.head.LSN {
		l.thread = thread{head: l.head}
		return advanced, nil
	}
	p, head, err := l.findFlushed(to)
	if err != nil {
		return advanced, err
	}
	c := cut{to: head, number: p.segment.number, at: p.at}
	path := filepath.Join(l.dir, cutFile)
	if err := fault.Hit("log.cutting"); err != nil {
		return advanced, err
	}
	f, err := writeNew(l.options.disk, path+newSuffix, encodeCut(c))
	if err != nil {
		return advanced, err // the log goes on as it was
	}
	if err := f.Close(); err != nil {
		return advanced, err
	}
	if err := l.options.disk.rename(path+newSuffix, path); err != nil {
		l.fail(err)
		return advanced, err
	}
	if err := l.options.disk.syncDir(l.dir); err != nil {
		l.fail(err)
		return advanced, err
	}
	gone := l.forget(p, head)
	for _, s := range gone {
		err = errors.Join(err, s.file.Close())
	}
	if err = errors.Join(err, l.carryOut(c, p.segment.file, p.segment.size)); err != nil {
		l.fail(err)
	}
	return advanced, err
}

// Cuts counts the times since Open that entries were taken back. Who has read entries before it went up may
// hold some that are the log's no longer.
func (l *Log) Cuts() int64 { return l.cutsMade.Load() }

// forget takes back what the log knows of what is cut, and gives the segments of which nothing stays.
func (l *Log) forget(p place, head history.Position) (gone []*segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int(p.segment.number-l.segments[0].number) + 1
	gone = l.segments[n:]
	l.segments = l.segments[:n:n]
	p.segment.forgetMarks(p.at)
	p.segment.end = 0
	l.ring = ring{end: p}
	l.end = p.at
	l.tail, l.at = p.segment, p.at
	l.thread, l.newest = thread{head: head}, head
	l.epochs, l.newEpoch = l.epochs.Until(head.LSN), 0
	l.received.Store(uint64(head.LSN))
	l.Flushed.Lower(head.LSN)
	l.cuts = append(l.cuts, head.LSN)
	l.cutsMade.Store(int64(len(l.cuts)))
	l.wakeReaders(all)
	return gone
}

// carryOut does to the files what the cut file says, and then removes that. The cut file is on disk.
func (l *Log) carryOut(c cut, f *os.File, size int64) error {
	names, err := listFiles(l.dir, segmentSuffix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name <= segmentName(c.number) {
			continue
		}
		if err := l.options.disk.remove(filepath.Join(l.dir, name)); err != nil {
			return err
		}
	}
	if err := fault.Hit("log.cutRemoved"); err != nil {
		return err
	}
	if err := fillZero(l.options.disk, f, c.at, size); err != nil {
		return err
	}
	// The names go before the cut file does: it could not remove them any more.
	if err := l.options.disk.syncDir(l.dir); err != nil {
		return err
	}
	if err := fault.Hit("log.cutDone"); err != nil {
		return err
	}
	if err := l.options.disk.remove(filepath.Join(l.dir, cutFile)); err != nil {
		return err
	}
	return l.options.disk.syncDir(l.dir)
}

// finishCut carries out a cut that a crash has interrupted. Its file may have been removed, or have got its
// name, without that being on the disk yet: neither must change once the log goes on.
func (l *Log) finishCut() error {
	if err := l.options.disk.syncDir(l.dir); err != nil {
		return err
	}
	path := filepath.Join(l.dir, cutFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, ok := decodeCut(b)
	if !ok {
		return fmt.Errorf("%w: its record of a cut, %s, is not readable; restore the node from a backup", ErrDamaged, path)
	}
	f, err := os.OpenFile(filepath.Join(l.dir, segmentName(c.number)), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: the segment that it was cut in: %w", ErrDamaged, err)
	}
	st, err := f.Stat()
	if err == nil {
		err = l.carryOut(c, f, st.Size())
	}
	return errors.Join(err, f.Close())
}

func encodeCut(c cut) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, cutBytes), cutMagic...)
	b = le.AppendUint32(b, FormatVersion)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(c.to.Epoch))
	b = le.AppendUint64(b, uint64(c.to.LSN))
	b = le.AppendUint64(b, uint64(c.to.Chain))
	b = le.AppendUint64(b, c.number)
	b = le.AppendUint64(b, uint64(c.at))
	le.PutUint32(b[12:], crc32.Checksum(b, castagnoli))
	return b
}

func decodeCut(b []byte) (c cut, ok bool) {
	le := binary.LittleEndian
	if len(b) != cutBytes || string(b[:8]) != cutMagic || le.Uint32(b[8:]) != FormatVersion {
		return c, false
	}
	sum := le.Uint32(b[12:])
	plain := append([]byte(nil), b...)
	clear(plain[12:16])
	if crc32.Checksum(plain, castagnoli) != sum {
		return c, false
	}
	c.to = history.Position{Epoch: history.Epoch(le.Uint64(b[16:])), LSN: history.LSN(le.Uint64(b[24:])), Chain: history.Hash(le.Uint64(b[32:]))}
	c.number, c.at = le.Uint64(b[40:]), int64(le.Uint64(b[48:]))
	return c, c.at >= segmentHeader
}

// Save writes the frames of entries from to to, both included, as they are on disk.
func (l *Log) Save(w io.Writer, from, to history.LSN) error {
	r, err := l.NewReader(from - 1)
	if err != nil {
		return fmt.Errorf("save log: %w", err)
	}
	defer r.Close()
	if err := l.waitFor(to); err != nil {
		return fmt.Errorf("save log: %w", err)
	}
	for last := from - 1; last < to; {
		b, ok, err := r.TryNext(1 << 20)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %d", ErrNotYet, to)
		}
		if err != nil {
			return fmt.Errorf("save log: %w", err)
		}
		if _, err := w.Write(upTo(b.Frames, to)); err != nil {
			return fmt.Errorf("save log: %w", err)
		}
		last = max(last, b.Last)
	}
	return nil
}

// upTo gives the frames of entries up to lsn.
func upTo(frames []byte, lsn history.LSN) []byte {
	n := 0
	for n < len(frames) {
		f, ok := readFrame(frames[n:])
		if !ok || f.lsn > lsn {
			break
		}
		n += f.size
	}
	return frames[:n]
}
