package replog

import (
	"fmt"

	"skein/internal/history"
)

// AppendFrames appends whole frames as a Reader of another node's log gave them, and returns the head
// then: the last complete entry. under is the epoch in whose name they were sent, which their own may be below. Each frame is checked: an error that wraps ErrNotNext says that one
// does not follow or is damaged; those before it have been appended, nothing of it. When the
// disk is full the error wraps syscall.ENOSPC, nothing has been appended, and it can be tried again.
// Like Append it waits for the disk only when that is far behind. b is not kept.
func (l *Log) AppendFrames(b []byte, under history.Epoch) (history.Position, error) {
	if err := l.lockOrder(); err != nil {
		return history.Position{}, err
	}
	defer l.order.Unlock()
	if under < l.fence {
		return l.head, fmt.Errorf("%w: epoch %d, below %d", ErrFenced, under, l.fence)
	}
	if err := l.reserve(int64(len(b))); err != nil {
		return l.head, err
	}
	for len(b) > 0 {
		n, err := l.appendRun(b)
		if err != nil {
			return l.head, err
		}
		b = b[n:]
	}
	return l.head, nil
}

// appendRun appends the frames at the start of b that go to one place of the log, and gives their size.
// At the first that is not valid it stops, or fails if there is none before it.
func (l *Log) appendRun(b []byte) (int, error) {
	r := run{segment: l.tail, at: l.at}
	flushed := l.Flushed.Load()
	hints := l.hints[:0]
	n := 0
	for n < len(b) {
		f, err := l.next(b[n:])
		if err == nil {
			err = l.begin(f.epoch)
		}
		if err != nil && n == 0 {
			return 0, err
		}
		full := l.at+int64(f.size) > l.tail.size
		if err != nil || full && n > 0 || n > maxReceived {
			break // what is before it first
		}
		if full {
			if err := l.roll(f.lsn, f.chunk > 0); err != nil {
				return 0, err
			}
			r.segment, r.at = l.tail, l.at
		}
		if n == 0 && f.chunk == 0 {
			r.begins = f.lsn
		}
		hints = append(hints, hint{n, f})
		l.thread.take(f, headerHash(b[n:]))
		if !f.more {
			r.last = f.lsn
		}
		n += f.size
		l.at += int64(f.size)
	}
	l.hints = hints
	r.data = make([]byte, n)
	copy(r.data, b)
	for _, h := range hints {
		putHint(r.data[h.at:], h.lsn, h.lsn-flushed)
		clear(r.data[h.at+frameHeader+h.content : h.at+h.size])
	}
	l.bytes.Add(int64(n))
	if err := l.enqueue(r, true); err != nil {
		return 0, err
	}
	if r.last > 0 {
		l.received.Store(uint64(r.last))
	}
	return n, nil
}

// maxReceived bounds what is queued at once, so that the throttle is asked often enough.
const maxReceived = 1 << 20

// hint is a frame, at a byte of a run, that needs this node's own.
type hint struct {
	at int
	frame
}

// next reads the frame at the start of b, if it is the log's next one.
func (l *Log) next(b []byte) (frame, error) {
	f, ok := readFrame(b)
	switch {
	case !ok || !intact(b, f.content):
		return f, fmt.Errorf("%w: entry %v does not read", ErrNotNext, l.head.LSN+1)
	case !l.accepts(f):
		return f, fmt.Errorf("%w: entry %d of epoch %d, piece %d, behind %016x; the log ends at %v, piece %d", ErrNotNext,
			f.lsn, f.epoch, f.chunk, uint64(f.chain), l.head, l.chunk)
	}
	return f, nil
}
