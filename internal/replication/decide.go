package replication

import (
	"fmt"

	"skein/internal/history"
)

// past is what a sender knows of its own log when it judges an offer.
type past struct {
	head   history.Position
	epochs history.Epochs
	at     func(history.LSN) (history.Position, error) // fails for what was trimmed
}

// decide says how a follower's log can become a copy of this one. It is a pure function of both.
//
// The newer epoch is right, since its leader had everything that counts; so a follower that knows a
// newer one is never told to cut anything, nor is one that is merely ahead of a node that copies the
// same leader. Epochs give the fork point; the chain hash there proves it, here if the follower's log
// ends there, at the follower if it must cut first.
func (p past) decide(o offer) (verdict, *Refused) {
	v := verdict{Head: p.head.LSN}
	if mine, theirs := p.epochs.Last(), max(o.Epochs.Last(), o.Head.Epoch); theirs > mine {
		return v, refuse(RefusedBehind, "its history ends in epoch %d, and yours goes on to %d", mine, theirs)
	}
	fork := history.Fork(o.Epochs, o.Head.LSN, p.epochs, p.head.LSN)
	if o.Epochs.Last() == p.epochs.Last() && fork == p.head.LSN && fork < o.Head.LSN {
		return v, refuse(RefusedBehind, "its log ends at %d, and yours goes on to %d", fork, o.Head.LSN)
	}
	v.At = history.Position{LSN: fork}
	snapshot := func(format string, args ...any) (verdict, *Refused) {
		v.Action, v.Reason = actSnapshot, fmt.Sprintf(format, args...)
		return v, nil
	}
	if fork == 0 && o.Head.LSN > 0 {
		return snapshot("the two logs have nothing in common")
	}
	if fork < o.Visible {
		return snapshot("the logs part after %d, and readers have already seen %d", fork, o.Visible)
	}
	at, err := p.at(fork)
	if err != nil {
		return snapshot("the log no longer holds what comes after %d", fork)
	}
	v.At = at
	if fork < o.Head.LSN {
		v.Action, v.Reason = actCut, fmt.Sprintf("the logs part after %d", fork)
		return v, nil
	}
	if at != o.Head {
		return snapshot("the pasts before %d differ", fork+1)
	}
	v.Action = actStream
	return v, nil
}
