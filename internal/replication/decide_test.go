package replication

import (
	"errors"
	"testing"

	"skein/internal/history"
)

var errTestTrimmed = errors.New("trimmed")

// pastOf makes a log whose chain hash after an entry is one that only its epoch and LSN decide.
func pastOf(epochs history.Epochs, head, first history.LSN) past {
	at := func(lsn history.LSN) (history.Position, error) {
		if lsn+1 < first {
			return history.Position{}, errTestTrimmed
		}
		if lsn == 0 {
			return history.Position{}, nil
		}
		e := epochs.Of(lsn)
		return history.Position{Epoch: e, LSN: lsn, Chain: history.Hash(uint64(e)<<32 | uint64(lsn))}, nil
	}
	p := past{epochs: epochs, first: first, at: at}
	p.head, _ = at(head)
	return p
}

// other gives a log that is another from an entry on, although its epochs say otherwise.
func (p past) other(from history.LSN) past {
	at := p.at
	p.at = func(lsn history.LSN) (history.Position, error) {
		q, err := at(lsn)
		if lsn >= from {
			q.Chain += 7
		}
		return q, err
	}
	if p.head.LSN >= from {
		p.head.Chain += 7
	}
	return p
}

func TestDecide(t *testing.T) {
	e := func(s ...history.LSN) (h history.Epochs) { // where epochs 1, 2, … began; 0 for one that is not there
		for i, lsn := range s {
			if lsn > 0 {
				h = append(h, history.Start{Epoch: history.Epoch(i + 1), LSN: lsn})
			}
		}
		return h
	}
	const many = 1_000_000
	for _, test := range []struct {
		name        string
		log, theirs past
		visible     history.LSN
		action      action
		at          history.LSN
		diverged    bool
		code        Code
	}{
		{"a new follower of a whole log", pastOf(e(1), 10, 1), pastOf(nil, 0, 1), 0, actStream, 0, false, 0},
		{"a new follower of a trimmed log", pastOf(e(1), 10, 5), pastOf(nil, 0, 1), 0, actSnapshot, 0, false, 0},
		{"behind", pastOf(e(1), 10, 1), pastOf(e(1), 7, 1), 7, actStream, 7, false, 0},
		{"at the end", pastOf(e(1), 10, 1), pastOf(e(1), 10, 1), 10, actStream, 10, false, 0},
		{"behind by an epoch", pastOf(e(1, 9), 20, 1), pastOf(e(1), 6, 1), 6, actStream, 6, false, 0},
		{"at the log's very beginning", pastOf(e(1), 10, 8), pastOf(e(1), 7, 1), 7, actStream, 7, false, 0},
		{"just before the log's beginning", pastOf(e(1), 10, 8), pastOf(e(1), 6, 1), 6, actSnapshot, 0, false, 0},
		{"a tail that the new leader never had", pastOf(e(1, 9), 20, 1), pastOf(e(1), 12, 1), 8, actCut, 8, false, 0},
		{"such a tail, and readers saw some of it", pastOf(e(1, 9), 20, 1), pastOf(e(1), 12, 1), 9, actSnapshot, 8, true, 0},
		{"such a tail, before a trimmed log", pastOf(e(1, 9), 20, 12), pastOf(e(1), 12, 1), 8, actSnapshot, 0, true, 0},
		{"two leaders with the same number", pastOf(e(1, 5), 20, 1), pastOf(e(1, 9), 12, 1), 3, actCut, 4, false, 0},
		{"the same epoch begun twice", pastOf(e(1, 9), 20, 1), pastOf(e(1, 9), 12, 1).other(9), 3, actCut, 8, false, 0},
		{"the same, and it was ahead", pastOf(e(1, 9), 11, 1), pastOf(e(1, 9), 40, 1).other(9), 3, actCut, 8, false, 0},
		{"the same, and readers saw it", pastOf(e(1, 9), 11, 1), pastOf(e(1, 9), 40, 1).other(9), 9, actSnapshot, 8, true, 0},
		{"the same, long ago", pastOf(e(1, 9), 2*many, 1), pastOf(e(1, 9), many, 1).other(4711), 3, actCut, 4710, false, 0},
		{"the same, before what is left of the log", pastOf(e(1, 9), 2*many, many/2), pastOf(e(1, 9), many, 1).other(4711), 3, actSnapshot, 0, true, 0},
		{"the same, before what is left of the follower's", pastOf(e(1, 9), 2*many, 1), pastOf(e(1, 9), many, many/2).other(4711), many, actSnapshot, 0, true, 0},
		{"different from the first entry on", pastOf(e(1), 20, 1), pastOf(e(1), 12, 1).other(1), 3, actSnapshot, 0, true, 0},
		{"a tail, and the follower's log begins not long before", pastOf(e(1, 100_000), 100_010, 1), pastOf(e(1), 100_020, 90_000), 3, actCut, 99_999, false, 0},
		{"the same, and readers saw it too", pastOf(e(1, 100_000), 100_010, 1), pastOf(e(1), 100_020, 90_000), 100_005, actSnapshot, 99_999, true, 0},
		{"the same, and the sender's begins later", pastOf(e(1, 100_000), 100_010, 95_000), pastOf(e(1), 100_020, 90_000), 3, actCut, 99_999, false, 0},
		{"nothing in common", pastOf(e(0, 1), 20, 1), pastOf(e(1), 12, 1), 0, actSnapshot, 0, true, 0},
		{"the follower knows a newer leader", pastOf(e(1, 9), 20, 1), pastOf(e(1, 9, 15), 18, 1), 15, 0, 0, false, RefusedBehind},
		{"the follower is ahead of a node that follows too", pastOf(e(1, 9), 11, 1), pastOf(e(1, 9), 18, 1), 15, 0, 0, false, RefusedBehind},
		{"ahead, in an epoch that is over", pastOf(e(1, 9), 11, 1), pastOf(e(1), 18, 1), 6, actCut, 8, false, 0},
	} {
		o := offer{Head: test.theirs.head, Epochs: test.theirs.epochs, Visible: test.visible}
		t.Run(test.name, func(t *testing.T) {
			v, refused := test.log.settle(t, o, test.theirs)
			if refused != nil || test.code != 0 {
				if refused == nil || refused.Code != test.code {
					t.Fatalf("%+v, refused: %v; want code %d", v, refused, test.code)
				}
				return
			}
			if v.Action != test.action || v.At.LSN != test.at {
				t.Errorf("action %d at %d (%s), want %d at %d", v.Action, v.At.LSN, v.Reason, test.action, test.at)
			}
			if v.Diverged != (v.Action == actSnapshot && test.diverged) {
				t.Errorf("diverged: %v", v.Diverged)
			}
		})
	}
}

// settle is the conversation between a sender and a follower whose log is theirs.
func (p past) settle(t *testing.T, o offer, theirs past) (verdict, *Refused) {
	t.Helper()
	for range 8 {
		v, refused := p.decide(o)
		if refused != nil || v.Action != actCompare {
			return v, refused
		}
		if len(v.Ask) == 0 || len(v.Ask) > maxAsked {
			t.Fatalf("asks for %d positions", len(v.Ask))
		}
		for _, lsn := range v.Ask {
			at, err := theirs.at(lsn)
			if err != nil {
				at = history.Position{LSN: lsn}
			}
			o.Past = append(o.Past, at)
		}
	}
	t.Fatal("the conversation does not end")
	return verdict{}, nil
}
