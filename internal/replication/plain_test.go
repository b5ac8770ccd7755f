package replication

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// overTCP gives both ends of a connection, the first of which waits in the kernel.
func overTCP(t *testing.T, timeout time.Duration) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if here, err = plain(dialed, timeout); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = here.Close(), there.Close() })
	if here.RemoteAddr().String() != there.LocalAddr().String() {
		t.Errorf("connected to %v, and it says to %v", there.LocalAddr(), here.RemoteAddr())
	}
	return here, there
}

func TestAPlainConnectionCarriesBytesAndEnds(t *testing.T) {
	here, there := overTCP(t, time.Minute)
	b := make([]byte, 5)
	for _, pair := range [][2]net.Conn{{here, there}, {there, here}} {
		if _, err := pair[0].Write([]byte("geese")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(pair[1], b); err != nil || string(b) != "geese" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Read(b); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestSilenceOnAPlainConnectionIsATimeout(t *testing.T) {
	here, _ := overTCP(t, time.Millisecond)
	_ = here.SetReadDeadline(time.Now().Add(time.Millisecond)) // as its user does: with one processor it is an ordinary connection
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after silence: %v", err)
	}
}

// Nothing tells when the other goroutine has come to wait in the kernel. It has, in most of so many times.
func TestAPlainConnectionIsClosedWhileItIsRead(t *testing.T) {
	for range 100 {
		here, there := overTCP(t, 0)
		read, over := make(chan struct{}), make(chan error)
		go func() {
			b := make([]byte, 1)
			_, err := here.Read(b)
			close(read)
			if err == nil {
				_, err = here.Read(b)
			}
			over <- err
		}()
		if _, err := there.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		<-read
		runtime.Gosched()
		if err := here.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-over; err == nil {
			t.Fatal("a closed connection was read")
		}
	}
}
