package replication

import (
	"testing"
	"time"

	"skein/internal/history"
)

func TestTimelineTellsWhenTheFirstMissingEntryWentOut(t *testing.T) {
	var l timeline
	start := time.Unix(1000, 0)
	for i := range 10 {
		l.note(history.LSN(10*(i+1)), start.Add(time.Duration(i)*time.Second))
	}
	for _, test := range []struct {
		lsn  history.LSN
		want int // seconds after start; -1: nothing is missing
	}{{0, 0}, {9, 0}, {10, 1}, {55, 5}, {99, 9}, {100, -1}, {200, -1}} {
		at, ok := l.after(test.lsn)
		if ok != (test.want >= 0) || ok && at != start.Add(time.Duration(test.want)*time.Second) {
			t.Errorf("after %d: %v %v, want second %d", test.lsn, at, ok, test.want)
		}
	}
}

func TestFullTimelineStaysBoundedAndNeverTellsTooLittle(t *testing.T) {
	var l timeline
	start := time.Unix(1000, 0)
	const n = 100 * timelineSamples
	at := func(lsn history.LSN) time.Time { return start.Add(time.Duration(lsn) * 2 * time.Millisecond) }
	for lsn := history.LSN(1); lsn <= n; lsn++ {
		l.note(lsn, at(lsn))
	}
	if len(l.samples) > timelineSamples {
		t.Fatalf("%d samples", len(l.samples))
	}
	for lsn := history.LSN(0); lsn < n; lsn += 97 {
		got, ok := l.after(lsn)
		if !ok || got.After(at(lsn+1)) {
			t.Fatalf("entry %d went out at %v, the timeline says %v, %v", lsn+1, at(lsn+1), got, ok)
		}
		if age := at(n).Sub(at(lsn + 1)); at(n).Sub(got) > 2*age+time.Second {
			t.Fatalf("entry %d is %v old, the timeline says %v", lsn+1, age, at(n).Sub(got))
		}
	}
}

func TestReasonIsTheStageWhereMostWaits(t *testing.T) {
	for _, test := range []struct {
		name string
		head history.LSN
		ack  ack
		want Reason
	}{
		{"nothing is behind", 9, ack{Received: 9, Flushed: 9, Applied: 9}, ""},
		{"network", 99, ack{Received: 9, Flushed: 8, Applied: 8}, LagNetwork},
		{"disk", 99, ack{Received: 98, Flushed: 9, Applied: 9}, LagDisk},
		{"apply", 99, ack{Received: 98, Flushed: 98, Applied: 9}, LagApply},
	} {
		if got := reasonOf(test.head, test.ack); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
