package replog

import (
	"encoding/binary"
	"fmt"
	"sort"

	"skein/internal/history"
)

// At gives the position of an entry, also of the one before First. Its epoch and chain hash tell whether two
// logs are the same up to there. The error wraps ErrTrimmed below that, ErrNotYet above the head.
func (l *Log) At(lsn history.LSN) (history.Position, error) {
	if head := l.Head(); head.LSN == lsn {
		return head, nil
	}
	_, p, err := l.find(lsn)
	return p, err
}

// find gives the position of an entry and the place behind it, once that is on disk.
func (l *Log) find(lsn history.LSN) (place, history.Position, error) {
	if err := l.waitFor(lsn); err != nil {
		return place{}, history.Position{}, err
	}
	return l.findFlushed(lsn)
}

// waitFor waits until an entry that has been appended is on disk. It flushes by itself, under the lock that a cut needs too: a
// wait for Flushed would go on when the entry has been cut, until the log has grown as far again.
func (l *Log) waitFor(lsn history.LSN) error {
	if l.Flushed.Load() >= lsn {
		return nil
	}
	l.flushing.Lock()
	if head := l.Received(); lsn > head {
		l.flushing.Unlock()
		return fmt.Errorf("%w: %d, it ends at %d", ErrNotYet, lsn, head)
	}
	advanced, err := l.flushPending()
	l.flushing.Unlock()
	if err != nil {
		l.FlushSoon() // Run must end and say why
	}
	l.onFlush(advanced)
	return err
}

func (l *Log) findFlushed(lsn history.LSN) (place, history.Position, error) {
	for {
		if head := l.Received(); lsn > head { // it was cut
			return place{}, history.Position{}, fmt.Errorf("%w: %d, it ends at %d", ErrNotYet, lsn, head)
		}
		l.mu.Lock()
		cuts := len(l.cuts)
		i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].first > lsn }) - 1
		if i < 0 {
			s := l.segments[0]
			l.mu.Unlock()
			if s.first != lsn+1 {
				return place{}, history.Position{}, fmt.Errorf("%w: %d, it begins at %d", ErrTrimmed, lsn, s.first)
			}
			return place{s, segmentHeader}, s.before, nil
		}
		s := l.segments[i]
		at := s.mark(lsn)
		l.mu.Unlock()
		p, ok, err := s.find(at, lsn)
		switch {
		case !l.unchanged(s, cuts):
			continue
		case err != nil:
			return place{}, history.Position{}, fmt.Errorf("read log: %w", err)
		case !ok:
			return place{}, history.Position{}, fmt.Errorf("%w: entry %d is not in %s", ErrDamaged, lsn, segmentName(s.number))
		}
		return place{s, p.at}, p.Position, nil
	}
}

// found is an entry's position and the byte behind it.
type found struct {
	history.Position
	at int64
}

// find walks from a frame at a byte to the end of entry lsn.
func (s *segment) find(at int64, lsn history.LSN) (found, bool, error) {
	buf := make([]byte, maxFrame+markEvery)
	for at < s.size {
		data := buf[:min(int64(len(buf)), s.size-at)]
		if _, err := s.file.ReadAt(data, at); err != nil {
			return found{}, false, err
		}
		n := 0
		for n < len(data) {
			f, ok := readFrame(data[n:])
			if !ok || f.lsn > lsn {
				break
			}
			if !intact(data[n:], f.content) {
				return found{}, false, nil
			}
			if f.lsn == lsn && !f.more {
				p := history.Position{Epoch: f.epoch, LSN: lsn, Chain: headerHash(data[n:])}
				return found{p, at + int64(n+f.size)}, true, nil
			}
			n += f.size
		}
		if n == 0 {
			break
		}
		at += int64(n)
	}
	return found{}, false, nil
}

// beginsInside says whether the first frame of a segment's file is a further piece of an entry.
func (s *segment) beginsInside() bool {
	b := make([]byte, frameHeader)
	if _, err := s.file.ReadAt(b, segmentHeader); err != nil {
		return false // whoever reads on learns
	}
	le := binary.LittleEndian
	return history.LSN(le.Uint64(b[16:])) == s.first && le.Uint16(b[38:]) > 0
}

// BytesSince says about how many bytes of log follow an entry: exactly 0 for the head, else to within some
// ten kilobytes, or the size of the larger entries near it.
func (l *Log) BytesSince(lsn history.LSN) int64 {
	head := l.Received()
	if lsn >= head {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := max(sort.Search(len(l.segments), func(i int) bool { return l.segments[i].first > lsn })-1, 0)
	s, bytes := l.segments[i], int64(0)
	for _, later := range l.segments[i+1:] {
		bytes += l.endOf(later) - segmentHeader
	}
	next := head + 1 // the entry behind this segment
	if i+1 < len(l.segments) {
		next = l.segments[i+1].first
	}
	return max(bytes+l.endOf(s)-s.estimate(lsn+1, mark{next, l.endOf(s)}), 1)
}

// endOf is the byte behind a segment's last frame, at most. The log's lock is held.
func (l *Log) endOf(s *segment) int64 {
	switch {
	case s == l.segments[len(l.segments)-1]:
		return l.end
	case s.end > 0:
		return s.end
	}
	return s.size
}

// estimate says about where an entry begins, between the marks around it.
func (s *segment) estimate(lsn history.LSN, end mark) int64 {
	low := mark{s.first, segmentHeader}
	i := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].lsn > lsn })
	if i > 0 {
		low = s.marks[i-1]
	}
	if i < len(s.marks) {
		end = s.marks[i]
	}
	if lsn <= low.lsn || end.lsn <= low.lsn {
		return low.at
	}
	share := float64(min(lsn, end.lsn)-low.lsn) / float64(end.lsn-low.lsn)
	return low.at + int64(share*float64(end.at-low.at))
}
