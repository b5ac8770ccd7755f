package replication

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"skein/internal/commit"
	"skein/internal/replog"
)

// A follower that feeds another one cuts its log and learns what is committed since. The other one still has
// the tail that was cut, under the same LSNs, and must not hear of it.
func TestWhatIsCommittedAfterACutIsNotToldOfTheTailThatWasCut(t *testing.T) { // G02
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		for i := range 3 {
			a.write(byte(i+1), 1)
		}
		b := n.start("b", dirOf(t, "b"))
		defer b.stop(true)
		r, err := a.Log().NewReader(0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		batch, _, err := r.TryNext(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Receive(batch.Frames, commit.AnyEpoch); err != nil {
			t.Fatal(err)
		}
		mine, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		s := &sender{peer: b.peer, w: newWire(mine, time.Second), cuts: b.Log().Cuts()}
		defer func() { _ = s.w.close() }()
		if err := s.tell(kindHeartbeat, 0, replog.Batch{}); err != nil {
			t.Fatal(err)
		}
		if err := b.CutBack(2, commit.AnyEpoch); err != nil {
			t.Fatal(err)
		}
		if err := s.tell(kindHeartbeat, 0, replog.Batch{}); !errors.Is(err, replog.ErrCut) {
			t.Fatalf("after the cut: %v, want %v", err, replog.ErrCut)
		}
	})
}
