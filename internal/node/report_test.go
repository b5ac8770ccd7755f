package node

import (
	"testing"
	"time"
)

// E05: a process that was stopped has not heard its upstream meanwhile; that is no silence of the upstream.
func TestSilenceCountsOnlyWhileThisNodeListens(t *testing.T) {
	var l listening
	now := time.Now()
	at := func(d time.Duration) time.Time { return now.Add(d) }
	if got := l.since("a", time.Time{}, at(0)); got >= 0 {
		t.Errorf("never heard: %v", got)
	}
	for _, step := range []struct {
		heard, now time.Duration // 0: no connection
		want       time.Duration
	}{
		{1000 * time.Millisecond, 1050 * time.Millisecond, 50 * time.Millisecond},
		{1000 * time.Millisecond, 1150 * time.Millisecond, 150 * time.Millisecond},
		{0, 1250 * time.Millisecond, 250 * time.Millisecond},  // the connection is gone; silence goes on
		{0, 11250 * time.Millisecond, 400 * time.Millisecond}, // stopped for ten seconds
		{11240 * time.Millisecond, 11300 * time.Millisecond, 50 * time.Millisecond},
	} {
		var heard time.Time
		if step.heard > 0 {
			heard = at(step.heard)
		}
		if got := l.since("a", heard, at(step.now)); got != step.want {
			t.Errorf("at %v: silent for %v, not %v", step.now, got, step.want)
		}
	}
	if got := l.since("b", time.Time{}, at(12*time.Second)); got >= 0 {
		t.Errorf("another upstream, never heard: %v", got)
	}
}
