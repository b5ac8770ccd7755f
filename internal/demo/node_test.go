package demo

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// ended gives what is left of a process that has run a line of shell.
func ended(t *testing.T, line string) *os.ProcessState {
	t.Helper()
	c := exec.Command("sh", "-c", line)
	_ = c.Run() // what matters of the error is in the state
	return c.ProcessState
}

// Whoever plays with the demo kills its nodes, again and again; that is no reason to end it.
func TestWhoIsKilledIsStartedAgainHoweverOften(t *testing.T) {
	dead, failed := ended(t, "kill -9 $$"), ended(t, "exit 1")
	n := &node{served: true}
	for range 3 * hasty {
		if n.lost(dead, time.Second) {
			t.Fatal("a node that somebody kills is given up")
		}
	}
	for i := range hasty {
		if given := n.lost(failed, time.Second); given != (i == hasty-1) {
			t.Fatalf("given up after it has ended by itself %d times in a row: %v", i+1, given)
		}
	}
	if n.failures = hasty - 1; n.lost(failed, time.Hour) {
		t.Error("a node that has run for an hour is given up")
	}
	if !(&node{}).lost(failed, time.Second) {
		t.Error("a node that has never served is tried again")
	}
}
