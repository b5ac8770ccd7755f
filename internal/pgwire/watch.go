package pgwire

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"skein/internal/sqlstate"
)

// WatchClient ends the connection when its client has gone while the session waits for something that
// may never come: nobody reads from the client then. It looks every interval until stop is called.
func (c *Conn) WatchClient(interval time.Duration) (stop func()) {
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		if hasGone(c.net) {
			c.terminate(sqlstate.New(sqlstate.ConnectionFailure, "connection to client lost"))
			return
		}
		timer.Reset(interval)
	}
	mu.Lock()
	timer = time.AfterFunc(interval, look)
	mu.Unlock()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// hasGone says whether the other side has closed or lost the connection. What it has sent before that hides
// it, as it does from PostgreSQL's client_connection_check_interval.
func hasGone(nc net.Conn) bool {
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = wrapped.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var one [1]byte
	n := -1
	var peeked error
	if err := raw.Control(func(fd uintptr) {
		n, _, peeked = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); err != nil {
		return true
	}
	if peeked != nil {
		return !errors.Is(peeked, syscall.EAGAIN) && !errors.Is(peeked, syscall.EINTR)
	}
	return n == 0
}
