package replication

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/commit"
)

// A follower that has told a leader what it has only received must know after a crash that it may lack some of it; one of
// which nobody has wanted to know that must not.
func TestAFollowerNotesThatItAcknowledgesWhatItHasOnlyReceived(t *testing.T) { // P5
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("b", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		for i := range 5 {
			a.write(byte(i), 1)
		}
		time.Sleep(time.Minute) // heartbeats, too
		if b.AcknowledgesReceived() {
			t.Error("it has noted something that nobody has asked for")
		}
		for i := range 5 {
			if _, err := a.Wait(t.Context(), a.append(byte(i), 1), commit.RemoteWrite); err != nil {
				t.Fatal(err)
			}
		}
		if !b.AcknowledgesReceived() {
			t.Error("commits were acknowledged that it had only received, and it has not noted that")
		}
	})
}

func TestATaintEndsWithWhatTheUpstreamHad(t *testing.T) { // P5
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		for i := range 10 {
			a.write(byte(i), pagesUpTo(300)...)
		}
		head := a.Log().Received()
		b := n.start("b", dirOf(t, "b"))
		if err := b.Taint("a test"); err != nil {
			t.Fatal(err)
		}
		n.between("b", "a").cutAfter(back, 20_000) // in the middle of catching up
		b.follow("a")
		defer b.stop(true)
		synctest.Wait()
		if at := b.Log().Flushed.Load(); at >= head || b.Tainted() == "" {
			t.Errorf("with %d of %d: tainted %q", at, head, b.Tainted())
		}
		b.awaitVisible(head)
		if b.Tainted() != "" {
			t.Errorf("with everything there it is tainted: %s", b.Tainted())
		}
	})
}

// A stream in the name of an epoch that was promised away brings nothing more.
func TestAStreamOfAnEpochThatWasPromisedAwayBringsNothing(t *testing.T) { // P1, G13
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		a.write(1, 1)
		b := n.start("b", dirOf(t, "b"))
		defer b.stop(true)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		followed := make(chan error, 1)
		go func() { followed <- b.peer.Follow(ctx, Upstream{Address: "a", Under: 4}) }()
		if err := b.Log().Flushed.Wait(t.Context(), a.Log().Received()); err != nil {
			t.Fatal(err)
		}
		at, err := b.Promise(5)
		if err != nil {
			t.Fatal(err)
		}
		a.write(2, 1)
		time.Sleep(time.Minute)
		if b.Log().Head() != at {
			t.Errorf("sealed at %v, it ends at %v", at, b.Log().Head())
		}
		cancel()
		<-followed
	})
}
