package node

import (
	"net"
	"testing"
)

func TestAServersLateCloseDoesNotEndTheNextServer(t *testing.T) {
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	l := reusable{own}
	first := l.again()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := first.Accept(); err == nil {
		_ = c.Close()
		t.Fatal("a closed listener accepts")
	}
	second := l.again()
	_ = first.Close()
	client, err := net.Dial("tcp", own.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	c, err := second.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
