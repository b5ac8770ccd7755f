package replog

import "skein/internal/history"

// thread is how far a history has been followed by its chain hashes, frame by frame.
type thread struct {
	head  history.Position // of the last complete entry
	chunk uint16           // how many pieces of the entry after it have been seen
	link  history.Hash     // over the header of the newest of them
	epoch history.Epoch    // of them
}

// accepts says whether f comes next: the entry after the last one, or the next piece of the entry that has
// begun. One that has begun may begin again: whoever wrote it had given it up.
func (t *thread) accepts(f frame) bool {
	if f.lsn != t.head.LSN+1 {
		return false
	}
	if f.chunk == 0 {
		return f.chain == t.head.Chain && f.epoch >= t.head.Epoch
	}
	return f.chunk == t.chunk && f.chain == t.link && f.epoch == t.epoch
}

// take moves on behind f; sum is its header's hash.
func (t *thread) take(f frame, sum history.Hash) {
	if f.more {
		t.chunk, t.link, t.epoch = f.chunk+1, sum, f.epoch
		return
	}
	*t = thread{head: history.Position{Epoch: f.epoch, LSN: f.lsn, Chain: sum}}
}
