package pgwire

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"skein/internal/sqlstate"
)

func TestAClientThatGoesWhileItsSessionWaitsIsNoticed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if hasGone(server) {
		t.Fatal("a client that is there is taken for gone")
	}
	c := newConn(context.Background(), server, time.Minute, &sync.Pool{})
	stop := c.WatchClient(time.Millisecond)
	defer stop()
	client.Close()
	<-c.ctx.Done()
	var cause *sqlstate.Error
	if !errors.As(context.Cause(c.ctx), &cause) || cause.Code != sqlstate.ConnectionFailure {
		t.Errorf("the connection ended with %v, want %s", context.Cause(c.ctx), sqlstate.ConnectionFailure)
	}
}

func TestWhatAClientHasSentIsLeftForItsReader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if hasGone(server) {
		t.Error("a client that has sent something is taken for gone")
	}
	if n, err := server.Read(b); n != 1 || err != nil || b[0] != 'x' {
		t.Errorf("read %q, %v", b[:n], err)
	}
}
