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

func TestWhatGoesOutInAnyCaseHoldsBackWhatNeedNot(t *testing.T) {
	var p pace
	now := time.Now()
	for range 3 * messageBurst {
		p.count(now)
	}
	if p.free(now) {
		t.Fatal("a message is free where more went out than the pace allows")
	}
	if now = now.Add(messagePace); !p.free(now) {
		t.Fatal("what went out is held against those after it for longer than the pace")
	}
	if p.free(now) {
		t.Fatal("a second one is free at the same time")
	}
}
