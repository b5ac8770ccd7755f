package replication

import (
	"fmt"
	"slices"

	"skein/internal/history"
)

// maxAsked bounds how many positions a sender asks for at a time. Among a million entries the fork point is
// found in four rounds.
const maxAsked = 64

// past is what a sender knows of its own log when it judges an offer.
type past struct {
	head   history.Position
	epochs history.Epochs
	first  history.LSN                                 // oldest entry that is still there
	at     func(history.LSN) (history.Position, error) // fails for what was trimmed
}

// decide says how a follower's log can become a copy of this one. It is a pure function of both.
//
// A follower that knows a newer epoch has come to the wrong node: whoever leads that epoch had
// everything that counts. Otherwise epochs give where the two logs can part at the latest, and chain hashes prove
// where they do. Epochs alone are not enough: a leader that was restored from an older copy begins the
// same epoch again. For a log of which this one is a prefix, nothing must be cut: it comes from a node that is
// ahead of this one on the same history.
func (p past) decide(o offer) (verdict, *Refused) {
	v := verdict{Head: p.head.LSN}
	if mine, theirs := p.epochs.Last(), max(o.Epochs.Last(), o.Head.Epoch); theirs > mine {
		return v, refuse(RefusedBehind, "its history ends in epoch %d and yours goes on to %d: follow a newer leader, or empty your directory to become a copy of this one", mine, theirs)
	}
	fork := history.Fork(o.Epochs, o.Head.LSN, p.epochs, p.head.LSN)
	if fork == 0 && o.Head.LSN > 0 {
		return v.snapshot(true, "the two logs have nothing in common")
	}
	if fork+1 < p.first {
		return v.snapshot(fork < o.Head.LSN, "the log no longer holds what comes after %d", fork)
	}
	low, high, proven := p.proven(o, fork)
	if high-low > 1 {
		v.Action, v.Ask = actCompare, p.ask(o, fork, low, high)
		return v, nil
	}
	if !proven {
		return v.snapshot(true, "nothing proves that the two logs have a past in common")
	}
	var err error
	if v.At, err = p.at(low); err != nil {
		return v.snapshot(true, "the log no longer holds what comes after %d", low)
	}
	switch {
	case low == o.Head.LSN:
		v.Action = actStream
		return v, nil
	case low == p.head.LSN:
		return v, refuse(RefusedBehind, "its log ends at %d, and yours goes on to %d", low, o.Head.LSN)
	case low < o.Visible:
		return v.snapshot(true, "the logs part after %d, and readers have already seen %d", low, o.Visible)
	}
	v.Action, v.Reason = actCut, fmt.Sprintf("the logs part after %d", low)
	return v, nil
}

// snapshot is the verdict that two logs cannot be joined. At stays the last entry that is proven common.
func (v verdict) snapshot(diverged bool, format string, args ...any) (verdict, *Refused) {
	v.Action, v.Diverged, v.Reason = actSnapshot, diverged, fmt.Sprintf(format, args...)
	return v, nil
}

// proven gives the highest entry that is known to be common, and the lowest that is known not to be, or is
// above every possible fork. With nothing known to be common ok is false, and low is the highest entry that cannot be compared:
// one of the two logs begins behind it. That says nothing about whether it was common.
func (p past) proven(o offer, fork history.LSN) (low, high history.LSN, ok bool) {
	low, high, ok = max(p.first, 2)-2, fork+1, p.first <= 1
	if ok && fork == 0 {
		return 0, 1, true // before the first entry all logs are equal
	}
	known := append(slices.Clone(o.Past), o.Head)
	slices.SortFunc(known, func(a, b history.Position) int { return int(int64(a.LSN) - int64(b.LSN)) })
	for _, theirs := range known {
		if theirs.LSN < low || theirs.LSN >= high {
			continue
		}
		mine, err := p.at(theirs.LSN)
		switch gone := theirs.Epoch == 0; {
		case err == nil && mine == theirs:
			low, ok = theirs.LSN, true
		case theirs.LSN == low:
		case err != nil || gone:
			low, ok = theirs.LSN, false
		default:
			high = theirs.LSN
		}
	}
	return low, high, ok
}

// ask chooses entries to compare, between low and high. At first they are near the latest possible fork
// point, where it nearly always is.
func (p past) ask(o offer, fork, low, high history.LSN) []history.LSN {
	var list []history.LSN
	if len(o.Past) == 0 {
		for step := history.LSN(0); step < high-low-1 && len(list) < maxAsked; step = max(2*step, 1) {
			list = append(list, high-1-step)
		}
		return list
	}
	gap := high - low
	for i := history.LSN(1); i < maxAsked; i++ {
		if at := low + max(gap*i/maxAsked, 1); at > low && at < high && !slices.Contains(list, at) {
			list = append(list, at)
		}
	}
	return list
}
