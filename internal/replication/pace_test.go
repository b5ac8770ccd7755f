package replication

import (
	"testing"
	"time"
)

func TestABurstGoesOutAtOnceAndTheRestAtItsPace(t *testing.T) {
	var p pace
	now := time.Now()
	for i := range messageBurst {
		if wait := p.take(now); wait > 0 {
			t.Fatalf("message %d after a rest waits %v", i, wait)
		}
	}
	for i := range 10 {
		wait := p.take(now)
		if wait != messagePace {
			t.Fatalf("message %d behind the burst waits %v, want %v", i, wait, messagePace)
		}
		now = now.Add(wait)
	}
	if wait := p.take(now.Add(time.Hour)); wait > 0 {
		t.Fatalf("after an hour a message waits %v", wait)
	}
}
