package replication

import (
	"testing"
	"time"

	"skein/internal/commit"
)

func TestBackgroundScrubFindsAndMends(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := trimmed(t, n)
		defer a.stop(true)
		n.scrubEvery = 24 * time.Minute
		b := n.mustFetch("b", "a", dirOf(t, "b"))
		defer b.stop(true)
		a.write(1, 7)
		a.sameAs(b)
		if err := b.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		flip(t, b.dir, 17)
		flip(t, b.dir, 60)
		time.Sleep(3 * time.Minute)
		if s := b.peer.Status().Scrub; s.Ended.IsZero() || s.Pages != 60 || s.Damaged != 2 || s.Repaired != 2 {
			t.Errorf("%+v", s)
		}
		time.Sleep(25 * time.Minute)
		if s := b.peer.Status().Scrub; s.Damaged != 0 || s.Pages != 60 {
			t.Errorf("a round later: %+v", s)
		}
	})
}

func TestVerifyNamesAFollowerThatCannotBeAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b"), func(l *Link) { l.Address = "" }).follow("a")
		defer b.stop(true)
		a.write(1, 1)
		a.sameAs(b)
		rows, err := a.peer.Verify(t.Context())
		if err != nil || len(rows) != 2 || rows[1].Name != "b" || rows[1].Result != VerifiedUnreachable {
			t.Errorf("%+v %v", rows, err)
		}
	})
}
