package replication

import (
	"os"
	"path/filepath"
	"strings"
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

// A cluster of which a node is away is not one that was found in order, until its slot is dropped.
func TestVerifyNamesAFollowerThatIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer func() { a.stop(true) }()
		b := n.start("b", dirOf(t, "b")).follow("a")
		a.write(1, 1)
		a.sameAs(b)
		b.stop(true)
		time.Sleep(time.Minute)
		away := func(when, why string) {
			t.Helper()
			rows, err := a.peer.Verify(t.Context())
			if err != nil || len(rows) != 2 || rows[1].Name != "b" || rows[1].Result != VerifiedUnreachable || !strings.Contains(rows[1].Detail, why) {
				t.Errorf("%s: %+v %v", when, rows, err)
			}
		}
		away("it has left", "not connected")
		a.stop(true)
		a = n.start("a", a.dir).lead("", commit.SyncConfig{})
		away("the leader has started again", "not connected")
		if err := a.peer.reserve(b.link.Identity); err != nil {
			t.Fatal(err)
		}
		away("it takes a copy", "copy")
		a.peer.slots.release("b")
		if err := a.peer.DropSlot("b"); err != nil {
			t.Fatal(err)
		}
		if rows, err := a.peer.Verify(t.Context()); err != nil || len(rows) != 1 {
			t.Errorf("without its slot: %+v %v", rows, err)
		}
	})
}

// A node keeps the slots of the time when it led.
func TestVerifyDoesNotMissTheUpstreamAsAFollower(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		b := n.start("b", dirOf(t, "b")).follow("a")
		a.write(1, 1)
		a.sameAs(b)
		a.stop(true)
		b.stop(true)
		b = n.start("b", b.dir).lead("", commit.SyncConfig{})
		defer b.stop(true)
		a = n.start("a", a.dir).follow("b")
		defer a.stop(true)
		b.write(2, 2)
		b.sameAs(a)
		rows, err := a.peer.Verify(t.Context())
		if err != nil || len(rows) != 2 || rows[0].Result != VerifiedOK || rows[1].Name != "b" || rows[1].Result != VerifiedOK {
			t.Errorf("%+v %v", rows, err)
		}
	})
}

// Its file is gone, which the node that has it open does not notice by itself.
func TestDatabaseThatCannotBeReadIsNotVerified(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		a.write(1, 1)
		a.sameAs(b)
		if err := os.Remove(filepath.Join(b.dir, "db", "0002.db")); err != nil {
			t.Fatal(err)
		}
		rows, err := a.peer.Verify(t.Context())
		if err != nil || len(rows) != 2 || rows[0].Result != VerifiedOK {
			t.Fatal(rows, err)
		}
		if r := rows[1]; r.Name != "b" || r.Result != VerifiedUnreachable || !strings.Contains(r.Detail, "0002.db") {
			t.Errorf("%+v", r)
		}
		if _, err := b.peer.Verify(t.Context()); err == nil {
			t.Error("the node itself takes it for verified")
		}
	})
}

func TestDatabaseThatIsDroppedMeanwhileIsNotMissed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		a.write(1, 1)
		const dropped = testDB + 1
		if _, err := a.Store().Create(dropped); err != nil {
			t.Fatal(err)
		}
		if err := a.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		found, err := a.peer.scrub(t.Context(), func(int) error {
			a.Store().Drop(dropped)
			return nil
		})
		if err != nil || len(found) != 1 || found[0].Database != testDB {
			t.Errorf("%+v %v", found, err)
		}
	})
}
