package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
)

// inBubble runs a test of nodes in virtual time.
func inBubble(t *testing.T, fn func(t *testing.T, n *network)) {
	t.Parallel() // they wait for the disk most of the time
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		defer n.close()
		fn(t, n)
	})
}

func TestFollowerShowsWhatTheLeaderCommits(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		for i := range 20 {
			a.write(byte(i+1), pagesUpTo(3)...)
		}
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		a.sameAs(b)
		a.write(99, 2)
		start := time.Now()
		a.sameAs(b)
		if b.page(2) != 99 || b.page(3) != 20 {
			t.Errorf("pages hold %d and %d", b.page(2), b.page(3))
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("it was told %v late", took)
		}
	})
}

func TestLargeTransactionTravels(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("b", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		random := make([]pagestore.PageNo, 0, 1000)
		for i := range 1000 {
			random = append(random, pagestore.PageNo(i*7%1000+1))
		}
		a.write(1, random...)
		a.write(2, 5)
		a.sameAs(b)
	})
}

func TestSynchronousCommitWaitsForTheFollowersDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("ANY 1 (b)", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		lsn := a.append(1, 1, 2)
		time.Sleep(time.Minute)
		if a.Visible() >= lsn {
			t.Error("committed without the follower")
		}
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		a.awaitVisible(lsn)
		if b.Progress().Flushed < lsn {
			t.Errorf("entry %d counts as committed, and the follower is at %+v", lsn, b.Progress())
		}
		a.write(2, 1)
		a.sameAs(b)

		n.between("b", "a").hold(there)
		lsn = a.append(3, 1)
		time.Sleep(time.Second)
		if a.Visible() >= lsn {
			t.Error("committed without an ack")
		}
		n.between("b", "a").release(there)
		a.awaitVisible(lsn)
		a.sameAs(b)
	})
}

func TestRemoteApplyReturnsOnceTheFollowerShowsIt(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("b", commit.SyncConfig{Level: commit.RemoteApply})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		for i := range 5 {
			lsn := a.append(byte(i), 1)
			start := time.Now()
			if _, err := a.Wait(t.Context(), lsn, commit.RemoteApply); err != nil {
				t.Fatal(err)
			}
			if b.Visible() < lsn {
				t.Errorf("entry %d is not shown: the follower shows %d", lsn, b.Visible())
			}
			if took := time.Since(start); took > 0 && i > 1 {
				t.Errorf("an ack was %v late, although somebody waited for it", took)
			}
		}
	})
}

// A follower that has never been caught up on this connection must not be counted: it may still miss
// what it had acknowledged before.
func TestAcksCountOnlyOnceCaughtUp(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		for i := range 10 {
			a.write(byte(i+1), pagesUpTo(300)...)
		}
		a.Configure(mustNames(t, "b", commit.On))
		n.between("b", "a").cutAfter(back, 20_000) // in the middle of catching up
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		synctest.Wait()
		if r := a.replica("b"); r.State == StateStreaming || r.SyncState == "sync" {
			t.Errorf("%+v", r)
		}
		a.write(99, 1)
		if r := a.replica("b"); r.State != StateStreaming || r.SyncState != "sync" {
			t.Errorf("%+v", r)
		}
		a.sameAs(b)
	})
}

func TestCommittedIsNotLearntBeyondWhatIsHere(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		for i := range uint64(12) {
			a.noise(i, pagesUpTo(60)...)
		}
		n.between("b", "a").cutAfter(back, 1_200_000)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		synctest.Wait()
		if got := b.Log().Received(); got == 0 || got >= a.Visible() || b.Committed() > got {
			t.Errorf("it has %d of %d, and takes everything up to %d for committed", got, a.Visible(), b.Committed())
		}
		a.sameAs(b)
	})
}

// pretend connects as a follower that does nothing by itself, and has come to where entries follow.
func pretend(t *testing.T, n *network, name, upstream string) *wire {
	t.Helper()
	conn, err := n.dialer(name)(t.Context(), upstream)
	if err != nil {
		t.Fatal(err)
	}
	link := n.link(name)
	link.setDefaults()
	w := newWire(conn, link.Timeout)
	if _, err := link.introduce(w, toStream); err != nil {
		t.Fatal(err)
	}
	if err := w.write(kindOffer, 0, 0, offer{}.encode()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.expect(kindVerdict); err != nil {
		t.Fatal(err)
	}
	return w
}

// drain reads until the connection ends.
func drain(w *wire) {
	for {
		if _, err := w.read(); err != nil {
			return
		}
	}
}

// receiveAs lets the next node in that dials, under the name of a node that is not there, up to the first message of a kind.
func (n *network) receiveAs(name string, l *listener, first kind) (*wire, error) {
	conn, err := l.Accept()
	if err != nil {
		return nil, err
	}
	w := newWire(conn, time.Second)
	link := n.link(name)
	link.setDefaults()
	if _, _, err := link.receive(w, func(Identity, Purpose) error { return nil }); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if _, err := w.expect(first); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func TestFollowerThatHasNotFlushedHasNotCaughtUp(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		lsn := a.write(1, 1)
		a.Configure(mustNames(t, "b", commit.On))
		w := pretend(t, n, "b", "a")
		defer func() { _ = w.close() }()
		go drain(w)
		for flushed := range lsn + 1 {
			time.Sleep(time.Second)
			if r := a.replica("b"); r.State != StateCatchup || r.Sent != lsn || r.SyncState == "sync" {
				t.Errorf("%d of %d flushed: %+v", flushed, lsn, r)
			}
			if err := w.write(kindAck, 0, 1, ack{Received: lsn, Flushed: flushed}.encode(nil)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if r := a.replica("b"); r.State != StateStreaming || r.SyncState != "sync" {
			t.Errorf("everything is flushed: %+v", r)
		}
	})
}

func mustNames(t *testing.T, names string, level commit.Level) commit.SyncConfig {
	t.Helper()
	parsed, err := commit.ParseStandbyNames(names)
	if err != nil {
		t.Fatal(err)
	}
	return commit.SyncConfig{Names: parsed, Level: level}
}

func TestConnectionCutAnywhereGoesOn(t *testing.T) {
	for _, d := range []direction{there, back} {
		for _, at := range []int64{1, wireHeader, 130, 200, 300, 400, 700, 1500, 10_000} {
			t.Run(fmt.Sprint(d, at), func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *network) {
					a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
					defer a.stop(true)
					for i := range 5 {
						a.write(byte(i+1), pagesUpTo(50)...)
					}
					n.between("b", "a").cutAfter(d, at)
					b := n.start("b", dirOf(t, "b")).follow("a")
					defer b.stop(true)
					for i := range 20 {
						a.write(byte(i+1), pagesUpTo(20)...)
						time.Sleep(10 * time.Millisecond)
					}
					a.sameAs(b)
				})
			})
		}
	}
}

func TestFlippedBitNeverArrives(t *testing.T) { // F12
	for _, d := range []direction{there, back} {
		for at := int64(5); at < 60_000; at = at*2 + 17 {
			t.Run(fmt.Sprint(d, at), func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *network) {
					a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
					defer a.stop(true)
					for i := range 5 {
						a.write(byte(i+1), pagesUpTo(50)...)
					}
					n.between("b", "a").flipAfter(d, at)
					b := n.start("b", dirOf(t, "b")).follow("a")
					defer b.stop(true)
					for i := range 10 {
						a.write(byte(i+1), pagesUpTo(20)...)
						time.Sleep(10 * time.Millisecond)
					}
					select {
					case err := <-b.followed:
						var refused *Refused // of a hello that says another cluster, say
						if !errors.As(err, &refused) {
							t.Fatalf("ended with %v", err)
						}
					default:
						a.sameAs(b)
					}
				})
			})
		}
	}
}

func TestOneWayPartitionIsNoticedByBothSides(t *testing.T) { // F02, F03, F10
	for _, d := range []direction{there, back} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *network) {
				a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
				defer a.stop(true)
				b := n.start("b", dirOf(t, "b")).follow("a")
				defer b.stop(true)
				a.write(1, 1)
				a.sameAs(b)
				n.between("b", "a").hold(d)
				time.Sleep(DefaultTimeout + time.Second)
				for i := range 10 {
					a.write(byte(i), 1) // asynchronous: the leader goes on
				}
				if r := a.replica("b"); r.Connected && r.State == StateStreaming {
					t.Errorf("still taken for streaming: %+v", r)
				}
				if r := b.peer.Status().Receiver; r.Connected {
					t.Errorf("still taken for connected: %+v", r)
				}
				n.between("b", "a").release(d)
				a.sameAs(b)
			})
		})
	}
}

func TestLaggingIsToldTruly(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		link := n.between("b", "a")
		link.delayBy(there, 3*time.Millisecond)
		link.delayBy(back, 4*time.Millisecond)
		a.write(1, 1)
		a.sameAs(b)
		time.Sleep(time.Minute)
		r := a.replica("b")
		if r.FlushLag.Entries != 0 || r.FlushLag.Bytes != 0 || r.FlushLag.Time != 7*time.Millisecond || r.Reason != "" {
			t.Errorf("idle, and the round trip is 7 ms: %+v", r)
		}

		b.PauseApply()
		a.write(2, 1)
		a.write(3, 1)
		time.Sleep(2 * time.Second)
		r = a.replica("b")
		if r.FlushLag.Entries != 0 || r.ReplayLag.Entries != 2 || r.ReplayLag.Bytes <= 0 || r.Reason != LagApply || !r.Paused {
			t.Errorf("paused: %+v", r)
		}
		if lag := r.ReplayLag.Time; lag < 2*time.Second || lag > 2*time.Second+10*time.Millisecond {
			t.Errorf("paused for 2 s, its lag is %v", lag)
		}
		b.ResumeApply()
		a.sameAs(b)
		time.Sleep(time.Second)

		link.hold(there)
		a.write(4, 1)
		time.Sleep(time.Second)
		r = a.replica("b")
		if r.FlushLag.Entries != 1 || r.Reason != LagNetwork || r.FlushLag.Time < 990*time.Millisecond {
			t.Errorf("acks are held: %+v", r)
		}
		if risk := a.peer.Status().AtRisk; risk.Commits != 1 || risk.Bytes <= 0 || risk.Time != time.Second {
			t.Errorf("at risk: %+v", risk)
		}
		link.release(there)
		a.sameAs(b)
		time.Sleep(time.Second)

		b.stop(true)
		synctest.Wait()
		time.Sleep(time.Minute)
		r = a.replica("b")
		if r.Connected || r.FlushLag.Time < 59*time.Second || r.FlushLag.Entries != 0 || r.Reason != LagNetwork {
			t.Errorf("gone for a minute: %+v", r)
		}
		if risk := a.peer.Status().AtRisk; risk.Commits != 0 {
			t.Errorf("its disk still has everything, at risk: %+v", risk)
		}
		a.write(5, 1)
		if risk := a.peer.Status().AtRisk; risk.Commits != 1 {
			t.Errorf("at risk: %+v", risk)
		}
	})
}

func TestFollowerOfAFollower(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("b", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		c := n.start("c", dirOf(t, "c")).follow("b")
		defer c.stop(true)
		for i := range 20 {
			a.write(byte(i+1), pagesUpTo(5)...)
		}
		a.sameAs(b)
		a.sameAs(c)
		time.Sleep(time.Second) // what comes after a rest is told at once
		start := time.Now()
		c.awaitVisible(a.write(77, 1))
		if took := time.Since(start); took > 0 {
			t.Errorf("it was told %v late", took)
		}
		n.between("b", "a").cut()
		c.awaitVisible(a.write(78, 1))
	})
}

// restored opens a leader on an older copy of its directory: the four entries that came after are on its follower's
// disk alone. meanwhile is called before the other leader ends.
func restored(t *testing.T, n *network, a, b *node, meanwhile func()) *node {
	t.Helper()
	shown := a.Visible()
	a.stop(true)
	old := dirOf(t, "old")
	if err := os.CopyFS(old+"/copy", os.DirFS(a.dir)); err != nil {
		t.Fatal(err)
	}
	again := n.start("a", a.dir).lead("nobody", commit.SyncConfig{Level: commit.On})
	for i := range 3 {
		again.append(byte(100+i), 1, 2)
	}
	if err := b.Log().Flushed.Wait(t.Context(), shown+4); err != nil { // epoch start and three entries
		t.Fatal(err)
	}
	meanwhile()
	again.stop(true)
	return n.start("a", old+"/copy")
}

// needsSnapshot waits until Follow ends for the want of one.
func (s *node) needsSnapshot(diverged bool) *NeedSnapshot {
	s.t.Helper()
	var need *NeedSnapshot
	if err := <-s.followed; !errors.As(err, &need) || need.Diverged != diverged {
		s.t.Fatalf("ended with %v (%+v), want a snapshot, diverged %v", err, need, diverged)
	}
	return need
}

func TestTailThatNobodySawIsCut(t *testing.T) { // G02, G09
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		a.write(1, pagesUpTo(4)...)
		a.sameAs(b)
		a = restored(t, n, a, b, func() {})
		defer a.stop(true)
		// The restored leader begins an epoch of the same number as the one that was lost; its log is another.
		a.lead("", commit.SyncConfig{})
		a.write(50, 3)
		a.sameAs(b)
		if b.page(1) != 1 || b.page(3) != 50 {
			t.Errorf("pages hold %d and %d", b.page(1), b.page(3))
		}
		if kept, _ := os.ReadDir(b.dir + "/vault"); len(kept) != 1 {
			t.Errorf("the tail was not kept: %v", kept)
		}
	})
}

func TestTailThatReadersSawEndsInASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		a.write(1, pagesUpTo(4)...)
		a.sameAs(b)
		shown := a.Visible()
		a = restored(t, n, a, b, func() { b.LearnCommitted(shown+2, commit.AnyEpoch) })
		defer a.stop(true)
		b.awaitVisible(shown + 2)
		a.lead("", commit.SyncConfig{})
		a.write(50, 3)
		if need := b.needsSnapshot(true); need.Fork != shown {
			t.Errorf("%+v, and the logs part after %d", need, shown)
		}
	})
}

// It is not shown only because the follower does not apply just now.
func TestTailThatReadersMayBeShownEndsInASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		a.write(1, pagesUpTo(4)...)
		a.sameAs(b)
		shown := a.Visible()
		b.PauseApply()
		a = restored(t, n, a, b, func() { b.LearnCommitted(shown+2, commit.AnyEpoch) })
		defer a.stop(true)
		a.lead("", commit.SyncConfig{})
		a.write(50, 3)
		if need := b.needsSnapshot(true); need.Fork != shown {
			t.Errorf("%+v, and the logs part after %d", need, shown)
		}
		if b.Visible() != shown || b.Log().Received() != shown+4 {
			t.Errorf("it shows %d and has %d, want %d and %d", b.Visible(), b.Log().Received(), shown, shown+4)
		}
	})
}

func TestUpstreamOfAnOlderEpochIsNotFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		b := n.start("b", dirOf(t, "b")).follow("a")
		c := n.start("c", dirOf(t, "c")).follow("a")
		a.write(1, 1)
		a.sameAs(b)
		a.sameAs(c)
		b.stop(true)
		a.stop(true)
		a = n.start("a", a.dir).lead("", commit.SyncConfig{}) // epoch 2, of which b knows nothing
		defer a.stop(true)
		a.write(2, 1)
		a.sameAs(c)
		c.stop(true)

		b = n.start("b", b.dir)
		defer b.stop(true)
		c = n.start("c", c.dir).follow("b")
		defer c.stop(true)
		time.Sleep(time.Minute)
		if c.Log().Received() != a.Log().Received() || b.Log().Received() >= c.Log().Received() {
			t.Errorf("c is at %d and b at %d", c.Log().Received(), b.Log().Received())
		}
		if r := c.peer.Status().Receiver; r.Connected || r.Trouble == "" {
			t.Errorf("%+v", r)
		}
		b.follow("a") // once b has caught up, c goes on with it
		a.write(3, 1)
		a.sameAs(c)
	})
}

func TestWhoIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Link)
		code   Code
	}{
		{"another cluster", func(l *Link) { l.Cluster = replog.Cluster{9} }, RefusedCluster},
		{"the node itself", func(l *Link) { l.Node = "id-a" }, RefusedSelf},
		{"another secret", func(l *Link) { l.Secret = []byte("other") }, RefusedSecret},
		{"no secret", func(l *Link) { l.Secret = nil }, RefusedSecret},
		{"no name", func(l *Link) { l.Name = "" }, RefusedProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *network) {
				secret := func(l *Link) { l.Secret = []byte("secret") }
				a := n.start("a", dirOf(t, "a"), secret).lead("", commit.SyncConfig{})
				defer a.stop(true)
				b := n.start("b", dirOf(t, "b"), secret, test.change).follow("a")
				defer b.stop(true)
				var refused *Refused
				if err := <-b.followed; !errors.As(err, &refused) || refused.Code != test.code {
					t.Errorf("ended with %v, want code %d", err, test.code)
				}
				c := n.start("c", dirOf(t, "c"), secret).follow("a")
				defer c.stop(true)
				a.sameAs(c)
			})
		})
	}
}

func TestAnotherProtocolVersionIsRefusedWithAText(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		conn, err := n.dialer("b")(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(conn, time.Second)
		defer func() { _ = w.close() }()
		if err := w.write(kindHello, 0, 0, []byte{Version + 1, 0, 2, 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		_, err = w.expect(kindChallenge)
		var refused *Refused
		if !errors.As(err, &refused) || refused.Code != RefusedVersion {
			t.Errorf("%v", err)
		}
	})
}

func TestIdentifyTellsTheCluster(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		l := n.link("new")
		l.Cluster = replog.Cluster{}
		who, err := l.Identify(t.Context(), "a")
		if err != nil || who.Cluster != testCluster || who.Name != "a" {
			t.Errorf("%+v %v", who, err)
		}
	})
}

func TestSecondProcessWithANodesIdWaitsUntilTheFirstIsGone(t *testing.T) { // H07
	for _, test := range []struct {
		name   string
		change func(*Link)
	}{
		{"node id", func(l *Link) { l.Node = "id-b" }},
		{"name", func(l *Link) { l.Name = "b" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *network) {
				a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
				defer a.stop(true)
				b := n.start("b", dirOf(t, "b")).follow("a")
				a.sameAs(b)
				before := a.replica("b")
				twin := n.start("twin", dirOf(t, "twin"), test.change).follow("a")
				defer twin.stop(true)
				time.Sleep(time.Minute)
				a.write(1, 1)
				a.sameAs(b)
				if r := a.replica("b"); !r.Connected || r.PID != before.PID {
					t.Errorf("the first process was disturbed: %+v", r)
				}
				if r := twin.peer.Status().Receiver; r.Connected || r.Trouble == "" {
					t.Errorf("the second process: %+v", r)
				}
				b.stop(true)
				a.sameAs(twin)
			})
		})
	}
}

func TestReconnectingFollowerReplacesItsHalfOpenConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("b", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b"))
		defer b.stop(true)
		old, err := n.dialer("elsewhere")(t.Context(), "a") // a connection that b has forgotten, and a not yet
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = old.Close() }()
		link := b.link
		link.setDefaults()
		w := newWire(old, link.Timeout)
		if _, err := link.introduce(w, toStream); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b.follow("a")
		a.write(1, 1)
		if took := time.Since(start); took > time.Second {
			t.Errorf("it was let in after %v", took)
		}
		a.sameAs(b)
	})
}

func TestForgottenConnectionEndsWithItsPeer(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		for range maxStrangers + 10 { // strangers that say nothing
			c, err := n.dialer("x")(t.Context(), "a")
			if err == nil {
				defer func(c net.Conn) { _ = c.Close() }(c)
			}
		}
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		start := time.Now()
		a.sameAs(b)
		if took := time.Since(start); took > 2*DefaultTimeout {
			t.Errorf("strangers kept a follower out for %v", took)
		}
		a.stop(true)
	})
}

// lateListener accepts one connection, when its server has been told to stop.
type lateListener struct {
	*listener
	stopped <-chan struct{}
	conn    net.Conn
}

func (l lateListener) Accept() (net.Conn, error) {
	<-l.stopped
	return l.conn, nil
}

func TestConnectionThatComesWithTheEndIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a"))
		defer a.stop(true)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		conn, other := net.Pipe()
		l := n.listen("late")
		if err := serve(ctx, a.peer, lateListener{l, ctx.Done(), conn}); err != nil {
			t.Error(err)
		}
		select {
		case <-l.closed:
		default:
			t.Error("the listener is open")
		}
		if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the other side reads %v", err)
		}
	})
}

func TestStaleAcksAreNotCounted(t *testing.T) { // E04, F11
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("b", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		w := pretend(t, n, "b", "a")
		defer func() { _ = w.close() }()
		lsn := a.append(1, 1)
		all := ack{Received: lsn, Flushed: lsn, Applied: lsn, Visible: lsn}
		for came := history.LSN(0); came < lsn; {
			m, err := w.read()
			if err == nil {
				err = w.check(m, kindEntries, kindHeartbeat)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, frames, _ := decodePulse(m.payload)
			var scratch []byte
			_ = replog.EachFrame(frames, &scratch, func(e *replog.Entry) error {
				came = e.LSN
				return nil
			})
		}
		go drain(w)
		if err := w.write(kindAck, 0, 0, all.encode(nil)); err != nil { // of epoch 0
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if a.Visible() >= lsn {
			t.Error("an ack of an older epoch was counted")
		}
		if err := w.write(kindAck, 0, 1, all.encode(nil)); err != nil {
			t.Fatal(err)
		}
		a.awaitVisible(lsn)
		lsn = a.append(2, 1)
		all.Received = lsn + 1
		if err := w.write(kindAck, 0, 1, all.encode(nil)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a.replica("b").Connected {
			t.Error("an ack of what was not sent was taken")
		}
	})
}

func TestPotentialStandbyTakesThePlaceOfOneThatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("FIRST 1 (b, c)", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		c := n.start("c", dirOf(t, "c")).follow("a")
		defer c.stop(true)
		a.write(1, 1)
		a.sameAs(b)
		a.sameAs(c)
		time.Sleep(time.Second)
		if r, s := a.replica("b"), a.replica("c"); r.SyncState != "sync" || s.SyncState != "potential" {
			t.Errorf("b is %s and c is %s", r.SyncState, s.SyncState)
		}
		b.stop(true)
		time.Sleep(time.Second)
		if s := a.replica("c"); s.SyncState != "sync" {
			t.Errorf("c is %s", s.SyncState)
		}
		a.awaitVisible(a.append(2, 1))
		a.sameAs(c)
	})
}

// Whoever flushes sends to followers by itself, but only what the connection takes at once.
func TestAFollowerThatReadsNothingHoldsNobodyUp(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("ANY 1 (b, c)", commit.SyncConfig{Level: commit.On})
		defer a.stop(true)
		var followers []*node
		for _, name := range []string{"b", "c"} {
			f := n.start(name, dirOf(t, name)).follow("a")
			defer f.stop(true)
			followers = append(followers, f)
		}
		a.write(1, 1)
		for _, f := range followers {
			a.sameAs(f)
		}
		n.between("b", "a").hold(back)
		start := time.Now()
		for i := range 1000 {
			a.write(byte(i), 1)
		}
		if took := time.Since(start); took > DefaultTimeout/2 {
			t.Errorf("1000 commits took %v while one of two followers read nothing", took)
		}
		n.between("b", "a").release(back)
		for _, f := range followers {
			a.sameAs(f)
		}
	})
}

func TestCommittedLSNIsNeverLate(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		a.write(1, 1)
		a.sameAs(b)
		start := time.Now()
		for i := range 300 {
			b.awaitVisible(a.append(byte(i), 1, 2, 3))
		}
		if took := time.Since(start); took > 300*messagePace { // it would have waited for heartbeats
			t.Errorf("entries were shown %v late", took)
		}
	})
}

func TestCutWithoutACommonPastIsNotDone(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("nobody", commit.SyncConfig{Level: commit.On})
		b := n.start("b", dirOf(t, "b")).follow("a")
		last := history.LSN(0)
		for i := range 5 {
			last = a.append(byte(i), 1)
		}
		if err := b.Log().Flushed.Wait(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		head := b.Log().Head()
		a.stop(true)
		l := n.listen("a")
		serving := background(func(context.Context) error {
			w, err := n.receiveAs("a", l, kindOffer)
			if err != nil {
				return err
			}
			defer func() { _ = w.close() }()
			lie := verdict{Action: actCut, At: history.Position{Epoch: 1, LSN: 3, Chain: 4711}}
			if err := w.write(kindVerdict, 0, 1, lie.encode()); err != nil {
				return err
			}
			_, _ = w.read()
			return nil
		}, t)
		b.needsSnapshot(true)
		if b.Log().Head() != head {
			t.Errorf("the log was cut to %v", b.Log().Head())
		}
		serving()
		b.stop(true)
	})
}

func TestUpstreamThatFallsBackAnEpochIsLeft(t *testing.T) { // G13, F11
	for _, test := range []struct {
		name   string
		epochs []history.Epoch // of a verdict and heartbeats
		taken  int
	}{
		{"rising", []history.Epoch{2, 2, 3, 3}, 4},
		{"falling", []history.Epoch{2, 3, 2}, 2},
		{"older than the follower's head", []history.Epoch{0, 0}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *network) {
				a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
				b := n.start("b", dirOf(t, "b")).follow("a")
				a.write(1, 1)
				a.sameAs(b)
				head := b.Log().Head()
				a.stop(true)
				l := n.listen("a")
				taken := make(chan int, 1)
				serving := background(func(context.Context) error {
					w, err := n.receiveAs("a", l, kindOffer)
					if err != nil {
						return err
					}
					defer func() { _ = w.close() }()
					count := 0
					for i, epoch := range test.epochs {
						k, payload := kindHeartbeat, pulse{}.encode(nil)
						if i == 0 {
							k, payload = kindVerdict, verdict{Action: actStream, At: head}.encode()
						}
						if err := w.write(k, 0, epoch, payload); err != nil {
							break
						}
						if _, err := w.expect(kindAck); err != nil {
							break
						}
						count++
					}
					taken <- count
					return nil
				}, t)
				if got := <-taken; got != test.taken {
					t.Errorf("%d messages were taken, want %d", got, test.taken)
				}
				serving()
				b.stop(true)
			})
		})
	}
}

func TestNobodyIsLetInWithoutTheSecret(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		secret := func(l *Link) { l.Secret = []byte("secret") }
		a := n.start("a", dirOf(t, "a"), secret).lead("", commit.SyncConfig{})
		defer a.stop(true)
		for _, proof := range [][]byte{nil, make([]byte, 32), nil} {
			conn, err := n.dialer("thief")(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			w := newWire(conn, time.Second)
			me := n.link("thief")
			var hello encoder
			hello.u16(Version)
			hello.u8(uint8(toIdentify))
			hello.bytes(newNonce())
			hello.identity(me.Identity)
			if err := w.write(kindHello, 0, 0, hello.b); err != nil {
				t.Fatal(err)
			}
			m, err := w.expect(kindChallenge)
			if err != nil {
				t.Fatal(err)
			}
			if proof == nil { // given back what the listener itself proved
				proof = append([]byte(nil), m.payload[nonceBytes:]...)
			}
			if err := w.write(kindProof, 0, 0, proof); err != nil {
				t.Fatal(err)
			}
			var refused *Refused
			if _, err := w.expect(kindWelcome); !errors.As(err, &refused) || refused.Code != RefusedSecret {
				t.Errorf("answered with %v", err)
			}
			_ = w.close()
		}
	})
}

func TestAckBeforeTheFlushSaysSo(t *testing.T) { // A18
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
		last := a.write(1, 1)
		r, err := a.Log().NewReader(0)
		if err != nil {
			t.Fatal(err)
		}
		batch, _, err := r.TryNext(1 << 20)
		if err != nil || batch.Last != last {
			t.Fatal(batch.Last, err)
		}
		frames := append([]byte(nil), batch.Frames...)
		a.stop(true)
		l := n.listen("a")
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		w, err := n.receiveAs("a", l, kindOffer)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.close() }()
		if err := w.write(kindVerdict, 0, 1, verdict{Action: actStream}.encode()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.expect(kindAck); err != nil { // that it is there
			t.Fatal(err)
		}
		if err := w.write(kindEntries, flagAwaitsReceived, 1, pulse{}.encode(nil), frames); err != nil {
			t.Fatal(err)
		}
		for _, flushed := range []history.LSN{0, last} {
			m, err := w.expect(kindAck)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := decodeAck(m.payload); got.Received != last || got.Flushed != flushed {
				t.Errorf("acknowledged %+v, want %d of %d flushed", got, flushed, last)
			}
		}
	})
}

func TestNodeThatIsRefusedAgainAndAgainIsLoggedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		var lines bytes.Buffer
		a := n.start("a", dirOf(t, "a"), func(l *Link) {
			l.Logger = slog.New(slog.NewTextHandler(&lines, nil))
		}).lead("", commit.SyncConfig{})
		b := n.start("b", dirOf(t, "b")).follow("a")
		a.sameAs(b)
		twin := n.start("twin", dirOf(t, "twin"), func(l *Link) { l.Node = "id-b" }).follow("a")
		time.Sleep(time.Minute)
		twin.stop(true)
		b.stop(true)
		a.stop(true)
		said := regexp.MustCompile(`msg="refused a node" node=twin address=\S+ reason="another process`)
		if n := len(said.FindAllString(lines.String(), -1)); n != 1 || strings.Count(lines.String(), "refused") != 1 {
			t.Errorf("said %d times:\n%s", n, lines.String())
		}
	})
}
