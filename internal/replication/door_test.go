package replication

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/commit"
)

// openDoor has somebody of that name listen until the returned function is called.
func (n *network) openDoor(name string) (*Door, func()) {
	d := NewDoor(n.link(name))
	l := n.listen(name)
	return d, background(func(ctx context.Context) error { return d.Serve(ctx, l) }, n.t)
}

func echo(_ context.Context, c net.Conn, _ Identity) { _, _ = io.Copy(c, c) }

func TestDoorStaysOpenWhileDataAreOpenedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		dir := dirOf(t, "a")
		a := n.start("a", dir).lead("", commit.SyncConfig{})
		defer a.stop(true)
		d, shut := n.openDoor("door")
		defer shut()
		d.Handle(ToWatch, echo)
		l := n.link("b")
		l.setDefaults()
		watch, _, err := l.Open(t.Context(), "door", ToWatch)
		if err != nil {
			t.Fatal(err)
		}

		for range 2 {
			_, _, err := l.dial(t.Context(), "door", toStream)
			var refused *Refused
			if !errors.As(err, &refused) || !refused.Temporary() {
				t.Fatalf("without data it answers %v", err)
			}
			release := d.Admit(a.peer)
			w := pretend(t, n, "b", "door")
			go drain(w)
			synctest.Wait()
			if r := a.peer.Status().Replicas; len(r) != 1 || !r[0].Connected {
				t.Fatalf("behind the door there are %+v", r)
			}
			release()
			if r := a.peer.Status().Replicas; len(r) != 1 || r[0].Connected {
				t.Errorf("after the release there are %+v", r)
			}
		}
		if _, err := watch.Write([]byte("here")); err != nil {
			t.Error(err)
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(watch, b); err != nil || string(b) != "here" {
			t.Errorf("the other connection gives %q, %v", b, err)
		}
		_ = watch.Close()
	})
}

func TestOpenedConnectionCarriesBytes(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		d, shut := n.openDoor("a")
		defer shut()
		from := make(chan Identity, 1)
		d.Handle(ToRaft, func(ctx context.Context, c net.Conn, who Identity) {
			from <- who
			echo(ctx, c, who)
		})
		l := n.link("b")
		ctx, cancel := context.WithCancel(t.Context())
		c, who, err := l.Open(ctx, "a", ToRaft)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if other := <-from; other != l.Identity || who != d.Identity {
			t.Errorf("they know each other as %+v and %+v", other, who)
		}
		cancel()
		time.Sleep(10 * DefaultTimeout) // neither ctx nor silence ends it
		sent := bytes.Repeat([]byte("0123456789"), 100_000)
		go func() { _, _ = c.Write(sent) }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("what comes back differs: %v", err)
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(got); err == nil || !err.(net.Error).Timeout() {
			t.Errorf("a read with a deadline gives %v", err)
		}
	})
}

func TestDamagedByteEndsAnOpenedConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		d, shut := n.openDoor("a")
		defer shut()
		d.Handle(ToRaft, echo)
		l := n.link("b")
		c, _, err := l.Open(t.Context(), "a", ToRaft)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		n.between("b", "a").flipAfter(there, wireHeader+2)
		if _, err := c.Write([]byte("12345")); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 { // the other side has closed it
			t.Errorf("it gives %q, %v", b, err)
		}
	})
}

func TestOpenIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		d, shut := n.openDoor("a")
		defer shut()
		d.Handle(ToWatch, echo)
		d.Handle(ToWatch, nil)
		l := n.link("b")
		stranger := n.link("c")
		stranger.Cluster[0]++
		for _, test := range []struct {
			name string
			link Link
			why  Purpose
			code Code
		}{
			{"nobody answers", l, ToRaft, RefusedBusy},
			{"nobody answers any more", l, ToWatch, RefusedBusy},
			{"another cluster", stranger, ToRaft, RefusedCluster},
		} {
			_, _, err := test.link.Open(t.Context(), "a", test.why)
			var refused *Refused
			if !errors.As(err, &refused) || refused.Code != test.code {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if _, _, err := l.Open(t.Context(), "a", toStream); err == nil {
			t.Error("a stream can be opened as bytes")
		}
		if _, _, err := l.Open(t.Context(), "nowhere", ToRaft); !errors.Is(err, errNobodyListens) {
			t.Errorf("an address where nobody listens: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := l.Open(ended, "a", ToRaft); !errors.Is(err, context.Canceled) {
			t.Errorf("after its context: %v", err)
		}
	})
}
