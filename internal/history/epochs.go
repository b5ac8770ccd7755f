package history

import "slices"

// Start is where a leadership began: the LSN of its epoch-start entry, the first that it wrote.
type Start struct {
	Epoch Epoch
	LSN   LSN
}

// Epochs is a node's epoch history: where each leadership began whose entries it holds, in ascending
// order. It outlives the entries themselves, which are trimmed.
type Epochs []Start

// Last is the newest epoch, 0 if there is none.
func (h Epochs) Last() Epoch {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].Epoch
}

// Of gives the epoch that wrote entry lsn, 0 for one before the first.
func (h Epochs) Of(lsn LSN) Epoch {
	for _, s := range slices.Backward(h) {
		if s.LSN <= lsn {
			return s.Epoch
		}
	}
	return 0
}

// With adds a leadership. Those that began at or after it, on a tail that was cut, are forgotten.
func (h Epochs) With(s Start) Epochs {
	return append(h.Until(s.LSN-1), s)
}

// Until is the history of a log that ends at lsn. It shares nothing with h.
func (h Epochs) Until(lsn LSN) Epochs {
	n := len(h)
	for n > 0 && h[n-1].LSN > lsn {
		n--
	}
	return slices.Clone(h[:n])
}

// end is the last entry that epoch e has in a log whose head is at head.
func (h Epochs) end(i int, head LSN) LSN {
	if i+1 < len(h) {
		return min(h[i+1].LSN-1, head)
	}
	return head
}

// Fork is the fork point of two histories: the last LSN up to which they can be the same, by their
// epochs alone. An epoch has one leader, so what two logs have of it is one a prefix of the other; the
// newest epoch that both know therefore decides. It is 0 where they have none in common. Whoever relies
// on it compares the chain hashes there. (Kafka's KIP-101 and KIP-279 find the same point by asking.)
func Fork(a Epochs, headA LSN, b Epochs, headB LSN) LSN {
	for i, s := range slices.Backward(a) {
		j := slices.IndexFunc(b, func(o Start) bool { return o.Epoch == s.Epoch })
		if j < 0 {
			continue
		}
		if b[j].LSN != s.LSN { // one number for two leaderships: what came before them is all that can agree
			continue
		}
		return min(a.end(i, headA), b.end(j, headB))
	}
	return 0
}
