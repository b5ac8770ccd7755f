package replog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"skein/internal/fault"
	"skein/internal/history"
)

const cleanMark = "clean" // present after a clean stop: the position of the last entry

// Recovery says what Open found.
type Recovery struct {
	Entries   int              // entries replayed
	Bytes     int64            // bytes read
	Head      history.Position // of the last entry
	Clean     bool             // the log had been closed cleanly
	TornBytes int64            // unfinished bytes cut from the end after an unclean stop
	Suspect   bool             // they may have been finished, and on the disk
}

// Open reads the log in dir and calls replay for each piece of each complete entry above from, in
// order; e and its body are valid during the call only. A dir without a log gets a new one.
//
// What follows the last valid entry is cut as unfinished only where that is all it can be. It is
// ErrDamaged if the log was closed cleanly beyond it, or if a later entry proves that it had
// been flushed: a log with a hole is never shortened to hide it.
func Open(dir string, from history.LSN, options Options, replay func(e *Entry) error) (*Log, Recovery, error) {
	options = options.withDefaults()
	if options.SegmentBytes < 4*MaxChunk {
		return nil, Recovery{}, fmt.Errorf("log segments of %d bytes are too small: want at least %d", options.SegmentBytes, 4*MaxChunk)
	}
	l := newLog(dir, options)
	if err := MakeDir(dir); err != nil {
		return nil, Recovery{}, err
	}
	rec, err := l.load(from, replay)
	if err != nil {
		_ = l.closeFiles()
		return nil, rec, err
	}
	return l, rec, nil
}

func newLog(dir string, options Options) *Log {
	l := &Log{dir: dir, options: options, wake: make(chan struct{}, 1)}
	l.drained = sync.NewCond(&l.mu)
	return l
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.ringBytes == 0 {
		o.ringBytes = defaultRingBytes
	}
	if o.disk == nil {
		o.disk = osDisk{}
	}
	return o
}

func (l *Log) load(from history.LSN, replay func(*Entry) error) (rec Recovery, err error) {
	if err := l.finishCut(); err != nil {
		return rec, err
	}
	saved, err := l.openEpochs()
	if err != nil {
		return rec, err
	}
	if err := l.openSpares(); err != nil {
		return rec, err
	}
	before, unborn, err := l.openSegments()
	if err != nil {
		return rec, err
	}
	mark, clean, err := readCleanMark(l.dir)
	if err != nil {
		return rec, err
	}
	if len(l.segments) == 0 {
		if err := l.takeBack(unborn, 0); err != nil {
			return rec, err
		}
		if known := max(from, l.options.Flushed); clean || known > 0 {
			return rec, fmt.Errorf("%w: %s holds no segment but entry %d had been written; restore the files or the node from a backup", ErrDamaged, l.dir, max(known, mark.LSN))
		}
		if err := l.create(history.Position{}); err != nil {
			return rec, err
		}
		l.goOn(thread{}, segmentHeader)
		return rec, l.settleEpochs(nil, saved, true)
	}
	if !clean {
		if err := l.settle(l.segments[len(l.segments)-1].file); err != nil {
			return rec, err
		}
	}
	s := scanner{log: l, from: from, replay: replay, head: before, saved: saved, rec: &rec}
	if err := s.scan(); err != nil {
		return rec, err
	}
	rec.Head, rec.Clean = s.head, clean
	if clean && s.head != mark {
		return rec, fmt.Errorf("%w: it ends at entry %d, but was closed at %d; restore the log or the node from a backup", ErrDamaged, s.head.LSN, mark.LSN)
	}
	if s.head.LSN < from {
		return rec, fmt.Errorf("%w: it ends at entry %d, but the databases stand at %d; restore the log or the node from a backup", ErrDamaged, s.head.LSN, from)
	}
	if s.head.LSN < l.options.Flushed {
		return rec, fmt.Errorf("%w: it ends at entry %d, but had been flushed up to %d; restore the log or the node from a backup", ErrDamaged, s.head.LSN, l.options.Flushed)
	}
	if err := l.takeBack(unborn, s.head.LSN); err != nil {
		return rec, err
	}
	l.goOn(thread{head: s.head}, s.at)
	rec.TornBytes, rec.Suspect = s.torn, s.suspect
	if rec.Suspect && l.options.OnSuspect != nil { // before what shows it is gone
		if err := l.options.OnSuspect(); err != nil {
			return rec, err
		}
	}
	if err := l.cutTail(); err != nil {
		return rec, err
	}
	if err := l.settleEpochs(s.epochs, saved, clean); err != nil {
		return rec, err
	}
	l.Flushed.Advance(l.head.LSN)
	return rec, removeCleanMark(l.dir)
}

// goOn makes a byte of the last segment the one where the next frame goes.
func (l *Log) goOn(t thread, at int64) {
	l.thread, l.tail, l.at, l.end = t, l.segments[len(l.segments)-1], at, at
	l.tail.forgetMarks(at) // of an entry without an end
	l.ring.end = place{l.tail, at}
	l.newest = t.head
	l.received.Store(uint64(t.head.LSN))
}

func (l *Log) openSpares() error {
	names, err := listFiles(l.dir, spareSuffix)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(l.dir, name)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		var n uint64
		_, _ = fmt.Sscanf(name, "%x", &n)
		l.number = max(l.number, n)
		if st, err := f.Stat(); err != nil || st.Size() != l.options.SegmentBytes {
			_ = f.Close()
			if err := l.options.disk.remove(path); err != nil {
				return err
			}
			continue // was being filled when the node stopped
		}
		l.spares = append(l.spares, &segment{file: f, size: l.options.SegmentBytes, spare: path})
	}
	return nil
}

// openSegments opens the files and checks that their headers follow one another. unborn is a last one
// without a valid header: it was being begun when the node stopped, unless takeBack finds otherwise.
func (l *Log) openSegments() (before history.Position, unborn *os.File, err error) {
	names, err := listFiles(l.dir, segmentSuffix)
	if err != nil {
		return before, nil, err
	}
	for i, name := range names {
		path := filepath.Join(l.dir, name)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return before, nil, err
		}
		header := make([]byte, segmentHeader)
		_, _ = f.ReadAt(header, 0)
		number, first, prev, err := decodeSegmentHeader(header, l.options.Cluster)
		stale := err == nil && segmentName(number) != name // a recycled file whose new header was not written yet
		begun := i == len(names)-1 && (i > 0 || blank(f))  // its header had not reached the disk
		if (errors.Is(err, errNoSegment) || stale) && begun {
			return before, f, nil
		}
		s := &segment{number: number, first: first, before: prev, file: f}
		l.segments = append(l.segments, s)
		st, serr := f.Stat()
		if serr != nil {
			return before, nil, serr
		}
		s.size = st.Size()
		s.inside = err == nil && s.beginsInside()
		switch {
		case errors.Is(err, errNoSegment) || stale:
			return before, nil, fmt.Errorf("%w: %s has no valid header; restore the log or the node from a backup", ErrDamaged, path)
		case err != nil:
			return before, nil, fmt.Errorf("%s: %w", path, err)
		case i > 0 && number != l.segments[i-1].number+1:
			return before, nil, fmt.Errorf("%w: the segment before %s is missing; restore the log or the node from a backup", ErrDamaged, path)
		}
		if i == 0 {
			before = prev
		}
	}
	return before, nil, nil
}

// takeBack makes a spare of a last segment whose header cannot be read, once nothing in it proves that
// an entry above head had been flushed there: then it is the header that is damaged.
func (l *Log) takeBack(f *os.File, head history.LSN) error {
	if f == nil {
		return nil
	}
	data, err := readAll(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if lsn := provenBeyond(data, head); lsn > 0 {
		err := fmt.Errorf("%w: %s has no valid header, but entry %d had been flushed; restore the log or the node from a backup", ErrDamaged, f.Name(), lsn)
		return errors.Join(err, f.Close())
	}
	if int64(len(data)) != l.options.SegmentBytes {
		return errors.Join(f.Close(), l.options.disk.remove(f.Name()))
	}
	l.number++
	s := &segment{file: f, size: l.options.SegmentBytes, spare: filepath.Join(l.dir, fmt.Sprintf("%016x%s", l.number, spareSuffix))}
	l.spares = append(l.spares, s)
	return l.options.disk.rename(f.Name(), s.spare)
}

// settle makes sure that what is read of a log that was not closed is what is on the disk. A killed
// node leaves bytes that were never synced, and after a failed sync the system takes for written what
// is not: both would be read back, and be gone after the next power cut.
func (l *Log) settle(f *os.File) error {
	if err := l.options.disk.sync(f); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// blank says whether nothing was ever written to the start of a segment's file.
func blank(f *os.File) bool {
	b := make([]byte, segmentHeader+frameHeader)
	n, _ := f.ReadAt(b, 0)
	return len(bytes.Trim(b[:n], "\x00")) == 0
}

// cutTail makes sure that nothing behind the last entry is ever read as one: neither the rest of a
// torn entry nor what a recycled file held before.
func (l *Log) cutTail() error {
	if err := fault.Hit("log.cut"); err != nil {
		return err
	}
	n := min(int64(frameHeader), l.tail.size-l.at)
	if n <= 0 {
		return nil
	}
	if err := l.options.disk.writeAt(l.tail.file, make([]byte, n), l.at); err != nil {
		return err
	}
	return l.options.disk.sync(l.tail.file)
}

// scanner reads segments from the oldest on and keeps to the chain.
type scanner struct {
	log    *Log
	from   history.LSN
	replay func(*Entry) error
	head   history.Position // of the last complete entry
	saved  history.Epochs   // as the file has them
	epochs history.Epochs   // up to head
	at     int64            // in the last segment, behind the last entry's end
	torn   int64
	rec    *Recovery

	suspect bool // what is torn may have been whole

	pieces  []piece      // of entry head.LSN+1, as far as seen: replayed once the last is there
	link    history.Hash // over the header of the newest piece
	scratch []byte
}

// piece is where a frame of a large entry lies.
type piece struct {
	file *os.File
	at   int64
	size int
}

func (s *scanner) scan() error {
	start := 0
	for i, seg := range s.log.segments {
		if seg.first <= s.from {
			start = i
		}
	}
	s.head = s.log.segments[start].before
	if first := s.log.segments[start].first; first > s.from+1 {
		return fmt.Errorf("%w: it begins at entry %d, but the databases stand at %d; restore the log or the node from a backup", ErrDamaged, first, s.from)
	}
	var err error
	if s.epochs, err = pastEpochs(s.saved, s.head); err != nil {
		return err
	}
	for i := start; i < len(s.log.segments); i++ {
		if err := s.segment(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) segment(i int) error {
	seg := s.log.segments[i]
	data, err := readAll(seg.file)
	if err != nil {
		return err
	}
	if i > 0 && !s.follows(data) {
		return fmt.Errorf("%w: %s does not continue the segment before it at entry %d; restore the log or the node from a backup", ErrDamaged, seg.file.Name(), s.head.LSN+1)
	}
	at := segmentHeader
	s.at = segmentHeader
	for at < len(data) {
		var e Entry
		size, sum, err := decodeFrame(data[at:], &e, &s.scratch)
		if err != nil || !s.continues(&e) {
			break
		}
		if e.Chunk == 0 {
			seg.note(e.LSN, int64(at))
		}
		if err := s.take(&e, sum, piece{seg.file, int64(at), size}); err != nil {
			return err
		}
		at += size
		if !e.More {
			s.at = int64(at)
		}
	}
	s.rec.Bytes += int64(at)
	if i < len(s.log.segments)-1 {
		seg.end = int64(at)
		return nil // the next one's header tells whether it follows
	}
	if lsn := provenBeyond(data[at:], s.head.LSN); lsn > 0 {
		return fmt.Errorf("%w: %s at byte %d: entry %d had been flushed but does not read; restore the log or the node from a backup", ErrDamaged, seg.file.Name(), at, lsn)
	}
	if len(data)-at >= frameHeader && binary.LittleEndian.Uint64(data[at+16:]) == uint64(s.head.LSN+1) {
		s.torn = int64(frameHeader) + int64(binary.LittleEndian.Uint32(data[at:]))
	}
	s.suspect = s.mayHaveBeenWhole(data, at)
	return nil
}

// sector is what a disk writes as a whole.
const sector = 512

// mayHaveBeenWhole says whether the frame behind the log's end, which does not read, may have been on the disk as
// a whole once: then it may have been acknowledged. Of a frame that was being written a power cut leaves holes,
// sectors that are still zeros or that still belong to a frame which the recycled file held before; nobody had
// acknowledged it. Without a hole something has changed bytes that were there.
func (s *scanner) mayHaveBeenWhole(data []byte, at int) bool {
	if len(data)-at < frameHeader {
		return false
	}
	le := binary.LittleEndian
	next := s.head.Chain
	if len(s.pieces) > 0 {
		next = s.link
	}
	if le.Uint64(data[at+16:]) != uint64(s.head.LSN+1) && le.Uint64(data[at+24:]) != uint64(next) {
		return false // nothing was written here, as far as anything shows
	}
	end := at + frameHeader
	if wholeButForLength(data[at:]) {
		return true
	}
	if content, _, ok := measure(data[at:]); ok {
		if intact(data[at:], content) {
			return false // of another past
		}
		end += content
	}
	return !hasHole(data, at, end, s.head.LSN)
}

// wholeButForLength says whether the frame at the start of b has the right CRC with another length than it says: what seems to be a hole
// lies behind its end then.
func wholeButForLength(b []byte) bool {
	said, most := int64(binary.LittleEndian.Uint32(b)), min(MaxChunk+2*PageSize, len(b)-frameHeader)
	sum := frameCRC(b[:frameHeader])
	for n := range most {
		if sum == binary.LittleEndian.Uint32(b[4:]) && int64(n) != said {
			return true
		}
		sum = crc32.Update(sum, castagnoli, b[frameHeader+n:frameHeader+n+1])
	}
	return false
}

// minHole is how many zeros at the edge of a sector no longer are what the frame itself may hold.
const minHole = 16

// hasHole says whether part of data from from to to was never written.
func hasHole(data []byte, from, to int, head history.LSN) bool {
	for lo := from; lo < to; {
		hi := min(lo-lo%sector+sector, to)
		if part := data[lo:hi]; len(part) >= minHole && len(bytes.Trim(part, "\x00")) == 0 {
			return true
		}
		lo = hi
	}
	for at := from + frameAlign; at+frameHeader <= to; at += frameAlign {
		f, ok := readFrame(data[at:])
		if ok && f.lsn <= head && intact(data[at:], f.content) { // it may end behind to, where nothing was written either
			return true
		}
	}
	return false
}

// continues says whether a frame is the next one. The pieces of an entry are chained as well: what a
// crash has left of a large entry must never be read on from the beginning of the one that took its place.
func (s *scanner) continues(e *Entry) bool {
	switch {
	case e.LSN != s.head.LSN+1:
		return false
	case e.Chunk == 0:
		return e.Chain == s.head.Chain
	case s.link == 0: // the entry begins in a segment that is not read
		return e.LSN <= s.from
	}
	return e.Chain == s.link
}

// follows says whether the segment's header continues the log as read so far.
func (s *scanner) follows(data []byte) bool {
	_, first, prev, err := decodeSegmentHeader(data, s.log.options.Cluster)
	return err == nil && first == s.head.LSN+1 && prev == s.head
}

// take hands a complete entry on. The pieces of a large one are only noted until its last has been
// seen, and then read again: half of an entry must never reach a page.
func (s *scanner) take(e *Entry, sum history.Hash, p piece) error {
	if e.Chunk == 0 {
		s.pieces = s.pieces[:0] // a beginning without an end before it was given up
	}
	if e.LSN > s.from && int(e.Chunk) != len(s.pieces) { // below, it may begin in a segment that is not read
		return fmt.Errorf("%w: entry %d lacks piece %d; restore the log or the node from a backup", ErrDamaged, e.LSN, len(s.pieces))
	}
	if e.More {
		s.pieces, s.link = append(s.pieces, p), sum
		return nil
	}
	if e.LSN > s.from {
		if err := s.replayPieces(); err != nil {
			return fmt.Errorf("replay entry %d: %w", e.LSN, err)
		}
		if err := s.replay(e); err != nil {
			return fmt.Errorf("replay entry %d: %w", e.LSN, err)
		}
		s.rec.Entries++
	}
	s.pieces, s.link = s.pieces[:0], 0
	if e.Epoch > s.head.Epoch {
		s.epochs = s.epochs.With(history.Start{Epoch: e.Epoch, LSN: e.LSN})
	}
	s.head = history.Position{Epoch: e.Epoch, LSN: e.LSN, Chain: sum}
	return nil
}

func (s *scanner) replayPieces() error {
	var scratch, buf []byte
	for _, p := range s.pieces {
		buf = append(buf[:0], make([]byte, p.size)...)
		if _, err := p.file.ReadAt(buf, p.at); err != nil {
			return err
		}
		var e Entry
		if _, _, err := decodeFrame(buf, &e, &scratch); err != nil {
			return err
		}
		if err := s.replay(&e); err != nil {
			return err
		}
	}
	return nil
}

// provenBeyond looks through what follows the last readable entry for a valid one that was written
// after an entry above head had been flushed. It gives the entry that must have been there, or 0.
func provenBeyond(rest []byte, head history.LSN) history.LSN {
	le := binary.LittleEndian
	var scratch []byte
	for at := 0; at+frameHeader <= len(rest); at += frameAlign {
		lsn := history.LSN(le.Uint64(rest[at+16:]))
		if lsn <= head || lsn > head+1<<24 {
			continue
		}
		var e Entry
		unflushed := hintOf(rest[at:])
		if unflushed == 0 || lsn-unflushed <= head {
			continue
		}
		if _, _, err := decodeFrame(rest[at:], &e, &scratch); err == nil {
			return head + 1
		}
	}
	return 0
}

func readAll(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, st.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		return nil, err
	}
	return data, nil
}

func writeCleanMark(dir string, p history.Position) error {
	b := make([]byte, 28)
	le := binary.LittleEndian
	le.PutUint64(b[0:], uint64(p.Epoch))
	le.PutUint64(b[8:], uint64(p.LSN))
	le.PutUint64(b[16:], uint64(p.Chain))
	le.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
	return WriteFileAtomic(filepath.Join(dir, cleanMark), b)
}

func readCleanMark(dir string) (p history.Position, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, cleanMark))
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, err
	}
	le := binary.LittleEndian
	if len(b) != 28 || crc32.Checksum(b[:24], castagnoli) != le.Uint32(b[24:]) {
		return p, false, fmt.Errorf("%w: its mark of a clean stop, %s, is not readable; remove that file to have the log checked as after a crash", ErrDamaged, filepath.Join(dir, cleanMark))
	}
	return history.Position{Epoch: history.Epoch(le.Uint64(b)), LSN: history.LSN(le.Uint64(b[8:])), Chain: history.Hash(le.Uint64(b[16:]))}, true, nil
}

func removeCleanMark(dir string) error {
	if err := os.Remove(filepath.Join(dir, cleanMark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return SyncDir(dir)
}

// WriteFileAtomic replaces the file at path by data: after a crash it holds either all of the old
// content or all of the new.
func WriteFileAtomic(path string, data []byte) error { return writeFile(osDisk{}, path, data) }

func writeFile(d disk, path string, data []byte) error {
	f, err := writeNew(d, path+newSuffix, data)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := fault.Hit("file.rename"); err != nil {
		return err
	}
	if err := d.rename(path+newSuffix, path); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
}
