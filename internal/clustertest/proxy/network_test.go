package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// hello is the first message of a connection, as docs/FORMAT.md draws it; only what a Network reads is right.
func hello(name string, purpose byte) []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint16(b, uint16(len(s))), s...) }
	p := append([]byte{1, 0, purpose}, make([]byte, 32+16)...)
	p = text(text(p, "id of "+name), "disk")
	p = text(text(append(p, make([]byte, 8)...), name), "127.0.0.1:1")
	return append(append(le.AppendUint32(nil, uint32(len(p))), make([]byte, headerBytes-4)...), p...)
}

// call connects as a node does and gives what arrives.
func call(t *testing.T, address, name string, purpose byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	send(t, c, hello(name, purpose))
	return c
}

// silent fails if something arrives within a moment.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := c.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes arrive, error %v", n, err)
	}
	_ = c.SetReadDeadline(time.Time{})
}

const (
	stream = 2
	raft   = 6
)

func TestNetworkDropsByRouteAndMatter(t *testing.T) {
	n := NewNetwork(t)
	b := n.Node("b", echo(t))
	calls := func() map[string]net.Conn {
		return map[string]net.Conn{
			"a's stream": call(t, b, "a", stream), "a's raft": call(t, b, "a", raft), "c's stream": call(t, b, "c", stream),
		}
	}
	dropped := map[string]struct {
		routes []Route
		want   []string
	}{
		"from a":          {[]Route{{"a", "b", Everything}}, []string{"a's stream", "a's raft"}},
		"back to a":       {[]Route{{"b", "a", Everything}}, []string{"a's stream", "a's raft"}},
		"both ways":       {Between("a", "b", Everything), []string{"a's stream", "a's raft"}},
		"a's replication": {Between("a", "b", Replication), []string{"a's stream"}},
		"all control":     {Around("b", Control), []string{"a's raft"}},
		"all of c":        {Around("c", Everything), []string{"c's stream"}},
		"another pair":    {Between("a", "c", Everything), nil},
	}
	for name, one := range dropped {
		t.Run(name, func(t *testing.T) {
			old := calls()
			for who, c := range old {
				first := hello(who[:1], map[bool]byte{true: stream, false: raft}[who[4:] == "stream"])
				expect(t, c, first)
			}
			undo := n.Drop(one.routes...)
			young := calls()
			for who := range old {
				send(t, old[who], []byte("honk"))
				if slices.Contains(one.want, who) {
					silent(t, old[who])
					silent(t, young[who])
				} else {
					expect(t, old[who], []byte("honk"))
				}
			}
			undo()
			for _, who := range one.want {
				expect(t, old[who], []byte("honk")) // late
			}
		})
	}
}

func TestNetworkKnowsWhatIsOneWay(t *testing.T) {
	n := NewNetwork(t)
	got := make(chan []byte, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		all, _ := io.ReadAll(c)
		got <- all
	}()
	n.Drop(Route{From: "b", To: "a"})
	c := call(t, n.Node("b", l.Addr().String()), "a", stream)
	send(t, c, []byte("honk"))
	_ = c.(*net.TCPConn).CloseWrite()
	if all := <-got; string(all[len(all)-4:]) != "honk" {
		t.Errorf("what goes from a to b is dropped with what goes from b to a: %q", all)
	}
	silent(t, c)
}

func TestNetworkSeversCutsAndHeals(t *testing.T) {
	n := NewNetwork(t)
	b := n.Node("b", echo(t))
	read := func(c net.Conn) error {
		_, err := io.ReadAll(c)
		return err
	}
	ours, theirs := call(t, b, "a", stream), call(t, b, "c", stream)
	expect(t, ours, hello("a", stream))
	expect(t, theirs, hello("c", stream))
	n.Sever(Between("a", "b", Everything)...)
	for _, c := range []net.Conn{ours, call(t, b, "a", stream)} {
		if err := read(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a severed connection ends with %v", err)
		}
	}
	send(t, theirs, []byte("honk"))
	expect(t, theirs, []byte("honk"))
	n.Heal()
	healed := call(t, b, "a", stream)
	expect(t, healed, hello("a", stream))
	n.Cut(Route{From: "b", To: "a"})
	if err := read(healed); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that was cut ends with %v", err)
	}
	expect(t, call(t, b, "a", stream), hello("a", stream))
}

func TestNetworkDelaysPresentConnections(t *testing.T) {
	n := NewNetwork(t)
	c := call(t, n.Node("b", echo(t)), "a", stream)
	expect(t, c, hello("a", stream))
	n.Delay(20*time.Millisecond, 0, Between("a", "b", Replication)...)
	began := time.Now()
	send(t, c, []byte("honk"))
	expect(t, c, []byte("honk"))
	if took := time.Since(began); took < 40*time.Millisecond {
		t.Errorf("took %v, want 40ms at least", took)
	}
}

// Whoever does not speak as a node does is passed on as he is.
func TestNetworkPassesStrangersOn(t *testing.T) {
	n := NewNetwork(t)
	b := n.Node("b", echo(t))
	for _, said := range []string{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "x", string(hello("a", stream)[:60])} {
		c, err := net.Dial("tcp", b)
		if err != nil {
			t.Fatal(err)
		}
		send(t, c, []byte(said))
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != said {
			t.Errorf("%q comes back as %q, error %v", said, got, err)
		}
		_ = c.Close()
	}
}
