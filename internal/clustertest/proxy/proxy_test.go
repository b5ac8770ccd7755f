package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// echo answers every byte with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %.20q, error %v; want %d bytes: %.20q", got, err, len(want), want)
	}
}

func TestProxyPassesEverythingOnAndTheEndToo(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p)
	long := bytes.Repeat([]byte("honk "), 100_000)
	go func() {
		_, _ = c.Write(long)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	expect(t, c, long)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("error %v, want the end", err)
	}
	if up := p.Bytes(Up); up != int64(len(long)) {
		t.Errorf("%d bytes up, want %d", up, len(long))
	}
}

func TestProxyHoldsOneDirection(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p)
	send(t, c, []byte("a"))
	expect(t, c, []byte("a"))
	p.Hold(Down)
	send(t, c, []byte("bc"))
	for p.Bytes(Up) < 3 { // the other direction goes on
		time.Sleep(time.Millisecond)
	}
	if n := p.Bytes(Down); n != 1 {
		t.Fatalf("%d bytes down, want 1", n)
	}
	p.Pass()
	expect(t, c, []byte("bc"))
}

func TestProxyCutsBeforeAByte(t *testing.T) {
	p := New(t, echo(t))
	p.Each(func(n int) (up, down Plan) { return Plan{}, Plan{Cut: n == 0, CutAt: 3} })
	c := dial(t, p)
	send(t, c, []byte("honk"))
	got, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("error %v, want a reset", err)
	}
	if len(got) > 3 { // a reset may overtake what came before it
		t.Fatalf("got %q", got)
	}
	c = dial(t, p) // only the first
	send(t, c, []byte("honk"))
	expect(t, c, []byte("honk"))
}

func TestProxyFlipsAByte(t *testing.T) {
	p := New(t, echo(t))
	p.Each(func(int) (up, down Plan) { return Plan{Flip: true, FlipAt: 1, Trickle: 1}, Plan{} })
	c := dial(t, p)
	send(t, c, []byte{0, 0, 0})
	expect(t, c, []byte{0, 0x10, 0})
}

func TestProxyStrandsOldConnectionsOnly(t *testing.T) {
	p := New(t, echo(t))
	old := dial(t, p)
	send(t, old, []byte("a"))
	expect(t, old, []byte("a"))
	release := p.Strand()
	send(t, old, []byte("late"))
	young := dial(t, p)
	send(t, young, []byte("b"))
	expect(t, young, []byte("b"))
	release()
	expect(t, old, []byte("late"))
	p.Strand() // the end of the test releases
}

func TestProxyRefusesAndCuts(t *testing.T) {
	p := New(t, echo(t))
	old := dial(t, p)
	send(t, old, []byte("a"))
	expect(t, old, []byte("a"))
	p.Refuse(true)
	refused, err := net.Dial("tcp", p.Address())
	if err == nil {
		_, err = refused.Read(make([]byte, 1))
		_ = refused.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v, want a reset", err)
	}
	p.Cut()
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v, want a reset", err)
	}
}

func TestProxyDelays(t *testing.T) {
	p := New(t, echo(t))
	p.Each(func(int) (up, down Plan) {
		return Plan{Delay: 20 * time.Millisecond}, Plan{Delay: 20 * time.Millisecond}
	})
	c := dial(t, p)
	began := time.Now()
	send(t, c, []byte("honk"))
	expect(t, c, []byte("honk"))
	if took := time.Since(began); took < 40*time.Millisecond {
		t.Errorf("took %v, want 40ms at least", took)
	}
}
