package replog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"skein/internal/history"
)

// maxFrame is the largest size of one frame.
const maxFrame = (frameHeader + MaxChunk + 2*PageSize + frameAlign - 1) &^ (frameAlign - 1)

// Reader gives a log's frames in order, from one entry on. It is used by one goroutine at a time.
type Reader struct {
	log *Log
	thread
	at    place // of the next frame
	cuts  int   // how many of the log's cuts it has seen
	wake  chan struct{}
	parts []part
	buf   []byte
}

// Batch is some frames as they are on disk, padding included.
type Batch struct {
	Frames []byte      // valid until the reader's next call
	Last   history.LSN // the last entry that is complete in it, 0 if none is
}

// NewReader reads what comes after an entry, which may be 0. It waits until that is on disk. The error
// wraps ErrTrimmed if the next entry is no longer there, ErrNotYet if after is above the head.
func (l *Log) NewReader(after history.LSN) (*Reader, error) {
	r := &Reader{log: l, wake: make(chan struct{}, 1)}
	l.mu.Lock()
	r.cuts = len(l.cuts)
	l.mu.Unlock()
	at, head, err := l.find(after)
	if err != nil {
		return nil, err
	}
	r.at, r.head = at, head
	if at.at == segmentHeader && at.segment.inside {
		return nil, fmt.Errorf("%w: %d", ErrTrimmed, after+1)
	}
	return r, nil
}

// Close gives up the reader. A Next that waits elsewhere is not ended by it: that is for its context.
func (r *Reader) Close() { r.buf, r.parts = nil, nil }

// Next gives the frames that come next, at most size bytes of them but always one, as soon as a
// flush takes them: they may not be on disk yet. It is the context's error once that is done, ErrTrimmed if they are
// gone, ErrCut if some of what was read has been cut, and the log's error if it has failed.
func (r *Reader) Next(ctx context.Context, size int) (Batch, error) {
	for {
		b, ok, err := r.TryNext(size)
		if err != nil || ok {
			return b, err
		}
		if !r.Sleep() {
			continue
		}
		if err := r.Wait(ctx); err != nil {
			return Batch{}, err
		}
	}
}

// TryNext is Next without waiting: false if nothing more has been released.
func (r *Reader) TryNext(size int) (Batch, bool, error) {
	l := r.log
	for {
		l.mu.Lock()
		failed, cut := l.failed, len(l.cuts) > r.cuts
		if failed != nil {
			l.mu.Unlock()
			return Batch{}, false, failed
		}
		if cut {
			err := r.afterCut()
			l.mu.Unlock()
			if err != nil {
				return Batch{}, false, err
			}
			at, head, err := l.find(r.head.LSN)
			if errors.Is(err, ErrNotYet) { // there was another cut, which may have taken what was read
				continue
			} else if err != nil {
				return Batch{}, false, err
			}
			r.at, r.head = at, head
			continue
		}
		if r.at == l.ring.end {
			l.mu.Unlock()
			return Batch{}, false, nil
		}
		var inMemory bool
		if r.parts, inMemory = l.ring.from(r.at, r.parts[:0], size); inMemory {
			l.mu.Unlock()
			b, err := r.fromMemory(size)
			return b, err == nil, err
		}
		moved, err := r.leaveTrimmed()
		limit := r.limit()
		l.mu.Unlock()
		if err != nil {
			return Batch{}, false, err
		}
		if moved {
			continue
		}
		b, again, err := r.fromFile(limit, size)
		if err != nil || !again {
			return b, err == nil, err
		}
	}
}

// afterCut fails if what was read has been cut. The log's lock is held.
func (r *Reader) afterCut() error {
	for _, to := range r.log.cuts[r.cuts:] {
		if r.head.LSN > to || r.head.LSN == to && r.chunk > 0 {
			return fmt.Errorf("%w: to %d, read up to %d", ErrCut, to, r.head.LSN)
		}
	}
	r.cuts = len(r.log.cuts)
	return nil
}

// leaveTrimmed moves on from a segment that is no longer the log's to the oldest one that is, if that
// continues from here. The log's lock is held.
func (r *Reader) leaveTrimmed() (moved bool, err error) {
	l := r.log
	if l.holds(r.at.segment) {
		return false, nil
	}
	s := l.segments[0]
	if r.at.segment.number > s.number || s.before != r.head || r.chunk > 0 {
		return false, fmt.Errorf("%w: %d", ErrTrimmed, r.head.LSN+1)
	}
	r.at = place{s, segmentHeader}
	return true, nil
}

// limit says how far the reader's segment may be read from its file: up to what may not be on disk yet.
// The log's lock is held.
func (r *Reader) limit() int64 {
	if first := r.log.ring.first(); first.segment == r.at.segment {
		return first.at
	}
	return r.at.segment.size
}

// first is where the ring begins.
func (g *ring) first() place {
	if len(g.runs) == 0 {
		return g.end
	}
	return place{g.runs[0].segment, g.runs[0].frames()}
}

// holds says whether s is still a segment of the log. The log's lock is held.
func (l *Log) holds(s *segment) bool {
	i := s.number - l.segments[0].number
	return s.number >= l.segments[0].number && i < uint64(len(l.segments)) && l.segments[i] == s
}

// fromMemory makes a batch of r.parts, which nobody changes: without a copy, if one of them is enough.
func (r *Reader) fromMemory(size int) (Batch, error) {
	b := Batch{}
	for i, p := range r.parts {
		n, last, err := r.follow(p.data, size-len(b.Frames), i == 0, false)
		if err != nil {
			return Batch{}, err
		}
		if n == 0 {
			break
		}
		if i == 0 && (len(r.parts) == 1 || n < len(p.data)) {
			b.Frames = p.data[:n:n]
		} else {
			b.Frames = append(r.copied(b.Frames, i), p.data[:n]...)
			r.buf = b.Frames
		}
		r.at = place{p.segment, p.at + int64(n)}
		b.Last = max(b.Last, last)
		if n < len(p.data) {
			break
		}
	}
	return b, nil
}

// copied gives the reader's own buffer at the first of several parts.
func (r *Reader) copied(frames []byte, i int) []byte {
	if i == 0 {
		return r.buf[:0]
	}
	return frames
}

// follow walks over the whole frames at the start of data, at most size bytes of them, but one if must be, and
// gives their size and the last complete entry. Frames from a file are checked, and the first that does not follow
// ends the walk; of those from memory only the first is compared with what was read.
func (r *Reader) follow(data []byte, size int, must, check bool) (n int, last history.LSN, err error) {
	var whole, piece []byte // headers of the last complete entry, and of a piece after it
	for n < len(data) {
		f, ok := readFrame(data[n:])
		if check && (!ok || !r.accepts(f) || !intact(data[n:], f.content)) {
			break
		}
		if !check && (!ok || n == 0 && !r.accepts(f)) {
			return 0, 0, fmt.Errorf("%w: entry %d is followed by %d in memory", ErrDamaged, r.head.LSN, f.lsn)
		}
		if n+f.size > size && !(must && n == 0) {
			break
		}
		switch {
		case check:
			r.take(f, headerHash(data[n:]))
		case f.more:
			piece = data[n:]
		default:
			whole, piece = data[n:], nil
		}
		if !f.more {
			last = f.lsn
		}
		n += f.size
	}
	for _, b := range [][]byte{whole, piece} {
		if b != nil {
			f, _ := readFrame(b)
			r.take(f, headerHash(b))
		}
	}
	return n, last, nil
}

// fromFile makes a batch of what is on disk in the reader's segment, below limit. again means that the
// reader has moved, or the log has changed meanwhile, and it must look anew.
func (r *Reader) fromFile(limit int64, size int) (b Batch, again bool, err error) {
	want := min(limit-r.at.at, int64(max(maxFrame, size)))
	if int64(cap(r.buf)) < want {
		r.buf = make([]byte, want)
	}
	data := r.buf[:want]
	_, readErr := r.at.segment.file.ReadAt(data, r.at.at)
	if l := r.log; !l.unchanged(r.at.segment, r.cuts) {
		return Batch{}, true, nil // the bytes may be anything; limit or afterCut says what has happened
	}
	if readErr != nil {
		return Batch{}, false, fmt.Errorf("read log: %w", readErr)
	}
	n, last, err := r.follow(data, size, true, true)
	if err != nil {
		return Batch{}, false, err
	}
	if n == 0 {
		return Batch{}, true, r.nextSegment(data)
	}
	r.at.at += int64(n)
	return Batch{Frames: data[:n], Last: last}, false, nil
}

func (l *Log) unchanged(s *segment, cuts int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds(s) && len(l.cuts) == cuts
}

// nextSegment moves on from a segment that has no next frame, if the one behind it continues from here.
func (r *Reader) nextSegment(data []byte) error {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.holds(r.at.segment) {
		return nil // limit finds out
	}
	if f, ok := readFrame(data); ok && r.at.segment == l.segments[0] && r.at.at == segmentHeader && f.lsn == r.head.LSN+1 && f.chunk > 0 {
		return fmt.Errorf("%w: %d", ErrTrimmed, f.lsn) // what is left of it
	}
	i := r.at.segment.number - l.segments[0].number + 1
	if r.at.segment == l.ring.end.segment || i >= uint64(len(l.segments)) || l.segments[i].before != r.head {
		return fmt.Errorf("%w: entry %d does not read, in %s at byte %d", ErrDamaged, r.head.LSN+1, segmentName(r.at.segment.number), r.at.at)
	}
	r.at = place{l.segments[i], segmentHeader}
	return nil
}

// Rest gives all that has been released, for whoever cannot wait: false if that is nothing, more than size bytes, or has to be read
// from a file, or if TryNext has an error to tell. With an error the reader is of no further use.
func (r *Reader) Rest(size int) (Batch, bool, error) {
	l := r.log
	inMemory := false
	l.mu.Lock()
	if l.failed == nil && len(l.cuts) == r.cuts && r.at != l.ring.end {
		r.parts, inMemory = l.ring.from(r.at, r.parts[:0], size+1)
	}
	l.mu.Unlock()
	if !inMemory {
		return Batch{}, false, nil
	}
	for _, p := range r.parts {
		size -= len(p.data)
	}
	if size < 0 {
		return Batch{}, false, nil
	}
	b, err := r.fromMemory(math.MaxInt)
	return b, err == nil, err
}

// Wait waits after Sleep. It is the context's error once that is done.
func (r *Reader) Wait(ctx context.Context) error {
	select {
	case <-r.wake:
		return nil
	case <-ctx.Done():
		r.Rise()
		return context.Cause(ctx)
	}
}

// Sleep has the next release end Wait, unless there is something to read already. Between the two, OnRelease may use the reader: it is
// not woken for what has been read then.
func (r *Reader) Sleep() bool {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil || len(l.cuts) > r.cuts || r.at != l.ring.end {
		return false
	}
	l.sleepers = append(l.sleepers, r)
	return true
}

// Rise takes Sleep back, and says whether that was in time: then what is released from now on does not end Wait.
func (r *Reader) Rise() bool {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.sleepers, r)
	if i >= 0 {
		l.sleepers = slices.Delete(l.sleepers, i, i+1)
	}
	return i >= 0
}

// Wake ends Wait.
func (r *Reader) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// wakeReaders wakes those who sleep, if they are to be woken. The log's lock is held.
func (l *Log) wakeReaders(which func(*Reader) bool) {
	l.sleepers = slices.DeleteFunc(l.sleepers, func(r *Reader) bool {
		wakes := which(r)
		if wakes {
			r.Wake()
		}
		return wakes
	})
}

func all(*Reader) bool { return true }

// Each decodes the batch's frames and calls fn for each; e and its body are valid during the call. scratch is for
// bodies that were compressed, and can be used again. The frames' CRCs were checked before they came into the batch.
func (b Batch) Each(scratch *[]byte, fn func(e *Entry) error) error {
	return eachFrame(b.Frames, scratch, fn, readEntry)
}

// EachFrame is Batch.Each for frames of which nobody knows whether they are what was written.
func EachFrame(frames []byte, scratch *[]byte, fn func(e *Entry) error) error {
	return eachFrame(frames, scratch, fn, func(b []byte, e *Entry, scratch *[]byte) (int, error) {
		size, _, err := decodeFrame(b, e, scratch)
		return size, err
	})
}

func eachFrame(frames []byte, scratch *[]byte, fn func(e *Entry) error, decode func([]byte, *Entry, *[]byte) (int, error)) error {
	var e Entry
	for len(frames) > 0 {
		size, err := decode(frames, &e, scratch)
		if err != nil {
			return fmt.Errorf("decode frames: %w", err)
		}
		if err := fn(&e); err != nil {
			return err
		}
		frames = frames[size:]
	}
	return nil
}

// FrameSize says how many bytes the frame takes, padding included, that begins with b, of at least four bytes; 0 if it cannot be one.
func FrameSize(b []byte) int {
	n := binary.LittleEndian.Uint32(b)
	if n > MaxChunk+2*PageSize {
		return 0
	}
	return align(frameHeader + int(n))
}
