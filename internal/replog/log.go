package replog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/watermark"
)

const (
	// DefaultSegmentBytes is the size of a segment unless Options say otherwise.
	DefaultSegmentBytes = 64 << 20

	// maxPending bounds what waits for the flusher: a large entry waits for it to catch up.
	maxPending = 8 << 20

	// maxUnflushed bounds how many entries are ahead of the disk: their page versions are in memory, one
	// behind the other, and cannot go before readers have moved on.
	maxUnflushed = 4096
)

// Options of a log.
type Options struct {
	Cluster      Cluster
	SegmentBytes int64 // 0: DefaultSegmentBytes

	// Flushed is known from elsewhere to have been on disk, up to this entry: a log that ends before it
	// is damaged, and left as it is.
	Flushed history.LSN

	// OnSuspect, if any, is called by Open before an end of the log is cut off that may have been on the disk as a
	// whole: it may have been acknowledged. Open fails with its error, and leaves the log as it is.
	OnSuspect func() error

	// OnRelease, if any, is called when readers may have what is about to be written, by whoever flushes, without any lock
	// of the log held but the one to flush. The disk waits for it: it must be quick, and wait for nothing.
	OnRelease func()

	// OnFlush, if any, is called after Flushed has advanced, by whoever flushed, without any lock of
	// the log held. Commits wait for it: it must be quick.
	OnFlush func()

	disk      disk // nil: the machine's
	ringBytes int  // 0: defaultRingBytes
}

// Log is the log of one node. Its methods may be called from any goroutine.
type Log struct {
	dir     string
	options Options

	// Flushed is the LSN up to which every entry is on this disk.
	Flushed watermark.Watermark

	bytes    atomic.Int64  // appended since Open
	received atomic.Uint64 // the head's LSN
	cutsMade atomic.Int64  // how many cuts there are
	busy     outstanding   // writes that somebody waits for
	shared   atomic.Bool   // the newest flush was for more than one entry

	// order is held from an entry's first frame to its last, so that entries do not mix and LSNs
	// are given in the order of the bytes. Who makes room, begins an epoch or cuts holds it across that
	// I/O: the next entry cannot go before that. Nobody takes it only to look.
	order  sync.Mutex
	thread          // its head is the last appended entry; pieces are of one that is being received
	tail   *segment // where the next frame goes
	at     int64    // and at which byte
	hints  []hint   // of appendRun, to be used again
	saved  epochFile
	epochs history.Epochs // as saved: may begin one at head+1, see begin; replaced, with mu held too, never changed
	fence  history.Epoch  // nothing is appended in the name of a lower one

	flushing sync.Mutex // held by whoever writes and syncs, or cuts, across that I/O and nothing else

	mu       sync.Mutex       // guards what follows; never held across I/O
	newest   history.Position // head, once it is pending: for those who cannot wait for order
	segments []*segment       // oldest first, the tail last
	end      int64            // of the tail, once what is pending is written
	spares   []*segment
	number   uint64 // for the next spare file
	pending  []run
	waiting  int           // bytes in pending
	ends     int           // what came into pending and ends an entry
	wake     chan struct{} // one slot: there is something to flush
	drained  *sync.Cond    // waiting went down, or failed was set
	making   bool          // a spare is being made in the background
	failed   error         // set once; the log takes nothing more
	ring     ring          // what readers may have, as far as it is in memory
	sleepers []*Reader     // that wait for a release
	cuts     []history.LSN // what the log was cut to since Open, oldest first
	newEpoch history.LSN   // the newest entry that begins an epoch; see take
	spareWG  sync.WaitGroup

	trimming sync.Mutex // held while segments go, at either end, across that I/O: only Trim and Cut take it
}

// run is bytes to be written at one place; the flusher takes runs in order.
type run struct {
	segment *segment
	at      int64
	data    []byte
	begins  history.LSN // the entry that begins at its first byte, 0 if none does
	last    history.LSN // the newest entry that is complete with this run
}

// Append puts e behind the newest entry and returns its LSN, without waiting for the disk. publish,
// if any, is called with the LSN before anybody can learn that the entry is flushed, and in the
// order of LSNs. The epoch is e's own. When the disk is full the error wraps syscall.ENOSPC,
// nothing has been appended, and the log goes on as before.
func (l *Log) Append(e *Entry, publish func(history.LSN)) (history.LSN, error) {
	body := e.Body
	return l.AppendChunks(e, int64(len(body)), func(emit func([]byte) error) error { return emit(body) }, publish)
}

// AppendChunks is Append for an entry whose body comes in pieces of at most MaxChunk bytes, each of
// whole page changes; size bounds their sum and is reserved on disk before the first is written.
func (l *Log) AppendChunks(e *Entry, size int64, chunks func(emit func([]byte) error) error, publish func(history.LSN)) (history.LSN, error) {
	if err := l.lockOrder(); err != nil {
		return 0, err
	}
	defer l.order.Unlock()
	if e.Epoch < l.fence {
		return 0, fmt.Errorf("%w: epoch %d, below %d", ErrFenced, e.Epoch, l.fence)
	}
	if err := l.reserve(size); err != nil {
		return 0, err
	}
	if err := l.begin(e.Epoch); err != nil {
		return 0, err
	}
	e.LSN, e.Chain, e.Chunk = l.head.LSN+1, l.head.Chain, 0
	var held []byte // one piece is held back: only the last may say that no more follow
	have := false
	err := chunks(func(b []byte) error {
		if !have {
			held, have = b, true
			return nil
		}
		sum, err := l.put(e, held, true, nil)
		if err != nil {
			return err
		}
		if e.Chunk == math.MaxUint16 {
			return errTooLarge
		}
		e.Chunk, e.Chain = e.Chunk+1, sum
		held = b
		return nil
	})
	if err != nil {
		return 0, err // the pieces written so far are a beginning without an end, which readers skip
	}
	_, err = l.put(e, held, false, publish)
	if err != nil {
		return 0, err
	}
	return e.LSN, nil
}

// lockOrder takes the lock for appending, once the disk is near enough behind.
func (l *Log) lockOrder() error {
	for {
		l.order.Lock()
		if l.head.LSN <= l.Flushed.Load()+maxUnflushed {
			return nil
		}
		enough := l.head.LSN - maxUnflushed/2
		l.order.Unlock() // OnFlush may ask for the head
		if err := l.Wait(context.Background(), enough); err != nil {
			return err
		}
	}
}

// put encodes one frame, hands it to the flusher and gives its header's hash.
func (l *Log) put(e *Entry, body []byte, more bool, publish func(history.LSN)) (history.Hash, error) {
	e.Body, e.More = body, more
	frame, sum, err := appendFrame(make([]byte, 0, align(frameHeader+len(body)+16)), e, e.LSN-l.Flushed.Load())
	if err != nil {
		return 0, err
	}
	if l.at+int64(len(frame)) > l.tail.size {
		if err := l.roll(e.LSN, e.Chunk > 0); err != nil {
			return 0, err
		}
	}
	r := run{segment: l.tail, at: l.at, data: frame}
	if e.Chunk == 0 {
		r.begins = e.LSN
	}
	if !more {
		r.last = e.LSN
		if publish != nil {
			publish(e.LSN)
		}
		l.thread = thread{head: history.Position{Epoch: e.Epoch, LSN: e.LSN, Chain: sum}}
	}
	l.at += int64(len(frame))
	l.bytes.Add(int64(len(frame)))
	if err := l.enqueue(r, more); err != nil && more {
		return 0, err
	}
	if !more {
		l.received.Store(uint64(e.LSN))
	}
	return sum, nil // of a log that failed just now whoever waits for the entry, which is the head, learns
}

func (l *Log) enqueue(r run, throttle bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for throttle && l.waiting > maxPending && l.failed == nil {
		l.FlushSoon()
		l.drained.Wait()
	}
	l.newest = l.head
	if l.failed != nil {
		return l.failed
	}
	r.segment.note(r.begins, r.at)
	l.end = r.at + int64(len(r.data))
	if n := len(l.pending); n > 0 && l.pending[n-1].segment == r.segment && l.pending[n-1].at+int64(len(l.pending[n-1].data)) == r.at {
		last := &l.pending[n-1]
		last.data = append(last.data, r.data...)
		last.last = max(last.last, r.last)
	} else {
		l.pending = append(l.pending, r)
	}
	l.waiting += len(r.data)
	if r.last > 0 {
		l.ends++
	}
	return nil
}

// FlushSoon has the flusher write what has been appended, for entries that nobody waits for.
func (l *Log) FlushSoon() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Wait returns once entry lsn is on this disk. Whoever comes first does the flushing by itself, for
// everything that has gathered, so that a single writer's commit costs no switch to another
// goroutine; for whoever comes while that runs, the flusher goes on right after it.
func (l *Log) Wait(ctx context.Context, lsn history.LSN) error {
	if l.Flushed.Load() >= lsn {
		return nil
	}
	// The writer that was just given the turn runs first: it comes into the same flush, and does not have
	// to wait for a processor while this one is in fdatasync. Where nobody else writes, stepping aside would only wake an
	// idle thread to find that out.
	if l.shared.Load() {
		runtime.Gosched()
	}
	if !l.flushing.TryLock() {
		l.FlushSoon()
		return l.Flushed.Wait(ctx, lsn)
	}
	advanced, err := l.flushPending()
	l.flushing.Unlock()
	if err != nil {
		l.FlushSoon() // Run must end and say why
		return err
	}
	l.onFlush(advanced)
	return l.Flushed.Wait(ctx, lsn)
}

// reserve makes sure that an entry of size body bytes finds room on disk, so that a full disk is
// noticed while the transaction can still be refused.
func (l *Log) reserve(size int64) error {
	frames := size/MaxChunk + 1
	need := size + frames*(frameHeader+frameAlign+2*PageSize)
	for {
		l.mu.Lock()
		failed, spares := l.failed, int64(len(l.spares))
		l.mu.Unlock()
		if failed != nil {
			return failed
		}
		// A frame does not span segments: of each, the last MaxChunk bytes may stay empty.
		usable := l.options.SegmentBytes - segmentHeader - MaxChunk - 3*PageSize
		room := l.tail.size - l.at
		if spares > 0 {
			room = max(room-MaxChunk-3*PageSize, 0) + spares*usable
		}
		if need <= room {
			if spares == 0 {
				l.makeSpareSoon()
			}
			return nil
		}
		done := l.busy.begin()
		s, err := l.newSpare()
		done()
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.spares = append(l.spares, s)
		l.mu.Unlock()
	}
}

func (l *Log) newSpare() (*segment, error) {
	l.mu.Lock()
	l.number++
	n := l.number
	l.mu.Unlock()
	f, name, err := makeSpare(l.options.disk, l.dir, n, l.options.SegmentBytes)
	if err != nil {
		return nil, err
	}
	return &segment{file: f, size: l.options.SegmentBytes, spare: name}, nil
}

// makeSpareSoon prepares the next segment beside the commits, so that no commit has to wait for 64 MB.
// A failure is not reported: the commit that needs the room finds out by itself.
func (l *Log) makeSpareSoon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.making || l.failed != nil {
		return
	}
	l.making = true
	l.spareWG.Add(1)
	go func() {
		defer l.spareWG.Done()
		s, err := l.newSpare()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.making = false
		if err == nil {
			l.spares = append(l.spares, s)
		}
	}()
}

// roll makes a spare the new tail; its header travels to the flusher like any other bytes.
func (l *Log) roll(first history.LSN, inside bool) error {
	l.mu.Lock()
	if len(l.spares) == 0 {
		l.mu.Unlock()
		return fmt.Errorf("log segment: %w", syscall.ENOSPC) // reserve prevents this
	}
	s := l.spares[0]
	l.spares = l.spares[1:]
	last := l.segments[len(l.segments)-1]
	last.end = l.end
	s.number, s.first, s.before, s.inside = last.number+1, first, l.head, inside
	l.segments = append(l.segments, s)
	l.mu.Unlock()
	l.tail, l.at = s, segmentHeader
	return l.enqueue(run{segment: s, data: encodeSegmentHeader(l.options.Cluster, s.number, first, l.head)}, false)
}

// Head is the position of the newest entry appended. It never waits for the disk.
func (l *Log) Head() history.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// Received is the LSN of the newest entry appended.
func (l *Log) Received() history.LSN { return history.LSN(l.received.Load()) }

// Bytes counts what has been appended since Open.
func (l *Log) Bytes() int64 { return l.bytes.Load() }

// Run is the flusher: it flushes whatever nobody flushes by waiting for it, until ctx is done and
// everything is flushed, or until the disk fails. After a failed write or fsync nothing says which of
// the bytes are on disk, so it is never tried again: the log has failed and the node must end.
func (l *Log) Run(ctx context.Context) error {
	for {
		stop := false
		select {
		case <-l.wake:
		case <-ctx.Done():
			stop = true
		}
		l.flushing.Lock()
		advanced, err := l.flushPending()
		l.flushing.Unlock()
		l.onFlush(advanced)
		if err != nil || stop {
			return err
		}
	}
}

// flushPending writes and syncs what has been appended, and says whether Flushed has advanced. The
// flushing lock is held; onFlush follows when it no longer is.
func (l *Log) flushPending() (advanced bool, err error) {
	l.mu.Lock()
	failed := l.failed
	l.mu.Unlock()
	if failed != nil {
		return false, failed
	}
	runs, held := l.take()
	if !held {
		l.released()
	}
	done := l.busy.begin()
	last, err := l.flush(runs, held)
	done()
	if err != nil {
		err = fmt.Errorf("flush log: %w", err)
		l.fail(err)
		return false, err
	}
	return last > 0, nil
}

func (l *Log) onFlush(advanced bool) {
	if advanced && l.options.OnFlush != nil {
		l.options.OnFlush()
	}
}

// take gives the flusher what has been appended. Readers may have it from now on, so that it travels
// while it is being written; but they get the first entry of an epoch, and what is written with it, once it is
// flushed: a leader that lost it would begin an epoch of the same number with another one.
func (l *Log) take() (runs []run, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	runs = l.pending
	l.shared.Store(l.ends > 1)
	l.pending, l.waiting, l.ends = nil, 0, 0
	l.drained.Broadcast()
	if l.newEpoch > l.Flushed.Load() {
		return runs, true
	}
	l.ring.add(runs, l.options.ringBytes)
	return runs, false
}

// released tells of what the ring has got. Whoever has read it by then, in OnRelease, is not woken for it.
func (l *Log) released() {
	if l.options.OnRelease != nil {
		l.options.OnRelease()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeReaders(func(r *Reader) bool { return r.at != l.ring.end })
}

func (l *Log) fail(err error) {
	l.mu.Lock()
	l.failed = err
	l.drained.Broadcast()
	l.wakeReaders(all)
	l.mu.Unlock()
	l.Flushed.Fail(err)
}

// flush writes runs in order. A segment is synced before the next is written to, so that the log on
// disk never has a hole. It gives the newest entry that is complete with them, 0 if none is.
func (l *Log) flush(runs []run, held bool) (last history.LSN, err error) {
	for i, r := range runs {
		if err := l.writeRun(r); err != nil {
			return 0, err
		}
		last = max(last, r.last)
		if i+1 < len(runs) && runs[i+1].segment == r.segment {
			continue
		}
		if err := fault.Hit("log.beforeSync"); err != nil {
			return 0, err
		}
		if err := l.options.disk.sync(r.segment.file); err != nil {
			return 0, err
		}
		if err := fault.Hit("log.afterSync"); err != nil {
			return 0, err
		}
	}
	if held { // before anybody can ask for what comes after an entry in them
		l.mu.Lock()
		l.ring.add(runs, l.options.ringBytes)
		l.mu.Unlock()
		l.released()
	}
	if last > 0 {
		l.Flushed.Advance(last)
	}
	return last, nil
}

func (l *Log) writeRun(r run) error {
	if r.segment.spare != "" {
		if err := l.name(r.segment); err != nil {
			return err
		}
	}
	if err := fault.Hit("log.write"); err != nil {
		return err
	}
	return l.options.disk.writeAt(r.segment.file, r.data, r.at)
}

// name gives a spare its place in the log. The directory is synced before any entry in it can count.
func (l *Log) name(s *segment) error {
	if err := fault.Hit("log.roll"); err != nil {
		return err
	}
	if err := l.options.disk.rename(s.spare, filepath.Join(l.dir, segmentName(s.number))); err != nil {
		return err
	}
	s.spare = ""
	if err := fault.Hit("log.rolled"); err != nil {
		return err
	}
	return l.options.disk.syncDir(l.dir)
}

// Trim gives up segments whose entries are all below keep, which is at most Flushed. One is kept as a spare: writing
// over a file that has its blocks is cheaper than making a new one.
func (l *Log) Trim(keep history.LSN) error {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	l.mu.Lock()
	var drop []*segment
	for len(l.segments) > 1 && l.segments[1].first < keep {
		drop = append(drop, l.segments[0])
		l.segments = l.segments[1:]
	}
	recycle := len(l.spares) == 0 && len(drop) > 0
	l.number++
	number := l.number
	l.mu.Unlock()
	for i, s := range drop {
		name := filepath.Join(l.dir, segmentName(s.number))
		if recycle && i == len(drop)-1 && s.size == l.options.SegmentBytes {
			spare := filepath.Join(l.dir, fmt.Sprintf("%016x%s", number, spareSuffix))
			if err := l.options.disk.rename(name, spare); err != nil {
				return fmt.Errorf("trim log: %w", err)
			}
			l.mu.Lock()
			l.spares = append(l.spares, &segment{file: s.file, size: s.size, spare: spare})
			l.mu.Unlock()
			continue
		}
		if err := errors.Join(s.file.Close(), l.options.disk.remove(name)); err != nil {
			return fmt.Errorf("trim log: %w", err)
		}
	}
	if len(drop) == 0 {
		return nil
	}
	return l.options.disk.syncDir(l.dir)
}

// First is the oldest LSN that the log may still hold.
func (l *Log) First() history.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.segments[0]; s.inside {
		return s.first + 1 // of that entry only the end is left
	}
	return l.segments[0].first
}

// Close closes the files. Run must have returned. With clean, everything appended is flushed and the
// log's end is recorded, so that the next Open can tell a lost entry from one never written.
func (l *Log) Close(clean bool) error {
	l.spareWG.Wait()
	l.mu.Lock()
	failed := l.failed
	l.failed = ErrClosed
	l.wakeReaders(all)
	l.mu.Unlock()
	l.Flushed.Fail(ErrClosed)
	var err error
	if clean && failed == nil && l.Flushed.Load() >= l.head.LSN {
		err = writeCleanMark(l.dir, l.head)
	}
	return errors.Join(err, l.closeFiles())
}
