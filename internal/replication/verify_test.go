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
