package history

import (
	"slices"
	"testing"
)

func TestFork(t *testing.T) {
	for _, test := range []struct {
		name        string
		a           Epochs
		headA       LSN
		b           Epochs
		headB, want LSN
	}{
		{"one is behind", Epochs{{1, 1}}, 10, Epochs{{1, 1}}, 7, 7},
		{"a tail of the old epoch that the new leader never had", Epochs{{1, 1}}, 12, Epochs{{1, 1}, {2, 9}}, 20, 8},
		{"behind by a whole epoch", Epochs{{1, 1}}, 6, Epochs{{1, 1}, {2, 9}}, 20, 6},
		{"two tails on the same epoch", Epochs{{1, 1}, {2, 9}}, 12, Epochs{{1, 1}, {3, 11}}, 20, 8},
		{"the newer epoch is common", Epochs{{1, 1}, {2, 9}}, 12, Epochs{{1, 1}, {2, 9}, {4, 11}}, 20, 10},
		{"an epoch of which nothing is left but its start", Epochs{{1, 1}, {2, 9}}, 9, Epochs{{1, 1}, {2, 9}, {3, 10}}, 11, 9},
		{"one number for two leaderships", Epochs{{1, 1}, {2, 9}}, 12, Epochs{{1, 1}, {2, 5}}, 20, 4},
		{"nothing in common", Epochs{{2, 1}}, 9, Epochs{{1, 1}}, 9, 0},
		{"an empty log", nil, 0, Epochs{{1, 1}}, 9, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Fork(test.a, test.headA, test.b, test.headB); got != test.want {
				t.Errorf("fork at %d, want %d", got, test.want)
			}
			if got := Fork(test.b, test.headB, test.a, test.headA); got != test.want {
				t.Errorf("seen from the other side: fork at %d, want %d", got, test.want)
			}
		})
	}
}

func TestEpochsOfACutLog(t *testing.T) {
	h := Epochs{{1, 1}, {3, 9}, {4, 20}}
	if got := h.Until(19); !slices.Equal(got, Epochs{{1, 1}, {3, 9}}) {
		t.Errorf("until 19: %v", got)
	}
	if got := h.With(Start{5, 9}); !slices.Equal(got, Epochs{{1, 1}, {5, 9}}) {
		t.Errorf("a new leader from 9 on: %v", got)
	}
	for lsn, want := range map[LSN]Epoch{0: 0, 1: 1, 8: 1, 9: 3, 19: 3, 20: 4, 99: 4} {
		if got := h.Of(lsn); got != want {
			t.Errorf("entry %d is of epoch %d, want %d", lsn, got, want)
		}
	}
}
