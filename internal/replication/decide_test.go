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
	p := past{epochs: epochs, at: at}
	p.head, _ = at(head)
	return p
}

func offerOf(epochs history.Epochs, head, visible history.LSN) offer {
	return offer{Head: pastOf(epochs, head, 1).head, Epochs: epochs, Visible: visible}
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
	other := offerOf(e(1, 9), 12, 12)
	other.Head.Chain++
	for _, test := range []struct {
		name   string
		log    past
		offer  offer
		action action
		at     history.LSN
		code   Code
	}{
		{"a new follower of a whole log", pastOf(e(1), 10, 1), offer{}, actStream, 0, 0},
		{"a new follower of a trimmed log", pastOf(e(1), 10, 5), offer{}, actSnapshot, 0, 0},
		{"behind", pastOf(e(1), 10, 1), offerOf(e(1), 7, 7), actStream, 7, 0},
		{"at the end", pastOf(e(1), 10, 1), offerOf(e(1), 10, 10), actStream, 10, 0},
		{"behind by an epoch", pastOf(e(1, 9), 20, 1), offerOf(e(1), 6, 6), actStream, 6, 0},
		{"at the log's very beginning", pastOf(e(1), 10, 8), offerOf(e(1), 7, 7), actStream, 7, 0},
		{"just before the log's beginning", pastOf(e(1), 10, 8), offerOf(e(1), 6, 6), actSnapshot, 6, 0},
		{"a tail that the new leader never had", pastOf(e(1, 9), 20, 1), offerOf(e(1), 12, 8), actCut, 8, 0},
		{"such a tail, and readers saw some of it", pastOf(e(1, 9), 20, 1), offerOf(e(1), 12, 9), actSnapshot, 8, 0},
		{"such a tail, before a trimmed log", pastOf(e(1, 9), 20, 12), offerOf(e(1), 12, 8), actSnapshot, 8, 0},
		{"two leaders with the same number", pastOf(e(1, 5), 20, 1), offerOf(e(1, 9), 12, 3), actCut, 4, 0},
		{"another past of the same length", pastOf(e(1, 9), 20, 1), other, actSnapshot, 12, 0},
		{"nothing in common", pastOf(e(0, 1), 20, 1), offerOf(e(1), 12, 0), actSnapshot, 0, 0},
		{"the follower knows a newer leader", pastOf(e(1, 9), 20, 1), offerOf(e(1, 9, 15), 18, 15), 0, 0, RefusedBehind},
		{"it knows one by the epoch of its head only", pastOf(e(1, 9), 20, 1), offer{Head: history.Position{Epoch: 3, LSN: 4}}, 0, 0, RefusedBehind},
		{"the follower is ahead of a node that follows too", pastOf(e(1, 9), 11, 1), offerOf(e(1, 9), 18, 15), 0, 0, RefusedBehind},
		{"ahead, in an epoch that is over", pastOf(e(1, 9), 11, 1), offerOf(e(1), 18, 6), actCut, 8, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, refused := test.log.decide(test.offer)
			if refused != nil || test.code != 0 {
				if refused == nil || refused.Code != test.code {
					t.Fatalf("%+v, refused: %v; want code %d", v, refused, test.code)
				}
				return
			}
			if v.Action != test.action || v.At.LSN != test.at {
				t.Errorf("action %d at %d (%s), want %d at %d", v.Action, v.At.LSN, v.Reason, test.action, test.at)
			}
			if (v.Action == actSnapshot) != (v.Reason != "" && v.Action != actCut) {
				t.Errorf("reason %q", v.Reason)
			}
			if v.Action == actCut && (v.At.LSN < test.offer.Visible || v.At.Chain == 0) {
				t.Errorf("told to cut what readers have seen, or without proof: %+v", v)
			}
		})
	}
}
