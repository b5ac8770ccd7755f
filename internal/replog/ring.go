package replog

import (
	"sort"

	"skein/internal/history"
)

const (
	// defaultRingBytes is how much of the newest log stays in memory for readers, who are mostly near the
	// end. The buffers are those that the flusher wrote.
	defaultRingBytes = 16 << 20

	// maxRingRuns bounds the ring where every flush has only an entry or two.
	maxRingRuns = 16 << 10

	// maxParts bounds how long a reader holds the log's lock.
	maxParts = 512

	// markEvery is how far apart marks are, in bytes.
	markEvery = 64 << 10
)

// place is a byte of the log.
type place struct {
	segment *segment
	at      int64
}

func (p place) before(o place) bool {
	if p.segment.number != o.segment.number {
		return p.segment.number < o.segment.number
	}
	return p.at < o.at
}

// mark says at which byte of a segment an entry begins, so that it is found without reading all before.
type mark struct {
	lsn history.LSN
	at  int64
}

// note keeps a mark if the last one is far enough away. The log's lock is held, or nobody else has the segment yet.
func (s *segment) note(begins history.LSN, at int64) {
	if begins == 0 || len(s.marks) > 0 && at < s.marks[len(s.marks)-1].at+markEvery {
		return
	}
	s.marks = append(s.marks, mark{begins, at})
}

// forgetMarks drops those from a byte on, where other frames go now.
func (s *segment) forgetMarks(from int64) {
	for n := len(s.marks); n > 0 && s.marks[n-1].at >= from; n-- {
		s.marks = s.marks[:n-1]
	}
}

// mark gives the place of a frame at or before the end of entry lsn, which ends in this segment.
func (s *segment) mark(lsn history.LSN) int64 {
	i := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].lsn > lsn })
	if i == 0 {
		return segmentHeader
	}
	return s.marks[i-1].at
}

// ring is the newest of what was released to readers, in order and without a gap. All that may not have
// reached the disk is in it. The log's lock is held wherever it is used; the bytes never change.
type ring struct {
	runs  []run
	bytes int
	end   place // behind the newest frame released
}

// add releases runs, and forgets the oldest before them, which are on disk, beyond the limit. A segment's header
// that was flushed by itself is nothing to read: the end stays behind the last frame.
func (g *ring) add(runs []run, limit int) {
	if len(runs) == 0 {
		return
	}
	for _, r := range runs {
		if r.at+int64(len(r.data)) <= segmentHeader {
			continue
		}
		g.runs = append(g.runs, r)
		g.bytes += cap(r.data)
		g.end = place{r.segment, r.at + int64(len(r.data))}
	}
	for len(g.runs) > len(runs) && (g.bytes > limit || len(g.runs) > maxRingRuns) {
		g.bytes -= cap(g.runs[0].data)
		g.runs[0] = run{}
		g.runs = g.runs[1:]
	}
}

// part is released bytes at one place: whole frames.
type part struct {
	place
	data []byte
}

// from gives released frames from p on, about max bytes of them. It is false if they are not in memory.
func (g *ring) from(p place, dst []part, max int) ([]part, bool) {
	i := sort.Search(len(g.runs), func(i int) bool {
		r := &g.runs[i]
		return p.before(place{r.segment, r.at + int64(len(r.data))})
	})
	if i == len(g.runs) || i == 0 && p.before(place{g.runs[0].segment, g.runs[0].frames()}) {
		return dst, false
	}
	for _, r := range g.runs[i:] {
		at := r.frames()
		if len(dst) == 0 && r.segment == p.segment {
			at = p.at
		}
		data := r.data[at-r.at:]
		dst = append(dst, part{place{r.segment, at}, data})
		if max -= len(data); max <= 0 || len(dst) == maxParts {
			break
		}
	}
	return dst, true
}

// frames is where the run's first frame is: behind the segment's header, if it begins with that.
func (r *run) frames() int64 { return max(r.at, segmentHeader) }
