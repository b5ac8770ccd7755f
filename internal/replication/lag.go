package replication

import (
	"sort"
	"sync"
	"time"

	"skein/internal/history"
)

const (
	timelineSamples = 2048
	timelineStep    = time.Millisecond
)

// timeline remembers when entries went out to followers, so that how far one is behind can be told in
// time. It is bounded: when it is full every other sample goes, and the next ones are taken less often.
type timeline struct {
	mu      sync.Mutex
	samples []sample // ascending in both
	step    time.Duration
}

type sample struct {
	lsn history.LSN // every entry up to it, and above the sample before it, is about as old as at
	at  time.Time
}

// note says that entries up to lsn go out now.
func (t *timeline) note(lsn history.LSN, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.step == 0 {
		t.step = timelineStep
	}
	n := len(t.samples)
	if n > 0 && lsn <= t.samples[n-1].lsn {
		return
	}
	if n > 0 && now.Sub(t.samples[n-1].at) < t.step {
		t.samples[n-1].lsn = lsn
		return
	}
	if n == timelineSamples {
		t.thin()
	}
	t.samples = append(t.samples, sample{lsn, now})
}

// thin joins samples in pairs: the older time stays with the newer LSN, so that a lag is never told too small.
func (t *timeline) thin() {
	half := t.samples[:0]
	for i := 0; i+1 < len(t.samples); i += 2 {
		half = append(half, sample{t.samples[i+1].lsn, t.samples[i].at})
	}
	t.samples = half
	if now := half[len(half)-1].at; now.Sub(half[0].at) < time.Hour {
		t.step *= 2
	}
}

// after is when the first entry behind lsn went out; false if none has.
func (t *timeline) after(lsn history.LSN) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := sort.Search(len(t.samples), func(i int) bool { return t.samples[i].lsn > lsn })
	if i == len(t.samples) {
		return time.Time{}, false
	}
	return t.samples[i].at, true
}

// Lag is how far a follower is behind, in the three ways that one can ask.
type Lag struct {
	Entries int64
	Bytes   int64 // of log
	Time    time.Duration
}

// Reason is what holds a follower back.
type Reason string

// The reasons; "" is for one that is not behind.
const (
	LagNetwork Reason = "network"
	LagDisk    Reason = "disk"
	LagApply   Reason = "apply"
)

// reasonOf finds the stage at which most entries wait.
func reasonOf(head history.LSN, a ack) Reason {
	network, disk, apply := distance(head, a.Received), distance(a.Received, a.Flushed), distance(a.Flushed, a.Applied)
	most := max(network, disk, apply)
	switch {
	case most == 0:
		return ""
	case apply == most:
		return LagApply
	case disk == most:
		return LagDisk
	}
	return LagNetwork
}

func distance(far, near history.LSN) int64 { return max(int64(far)-int64(near), 0) }
