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
	n, err := peek(nc)
	return n == 0 && err == nil || err != nil && !nothingYet(err)
}

// readable says whether a read would return at once, be it with the end of the connection.
func readable(nc net.Conn) bool {
	_, err := peek(nc)
	return !nothingYet(err)
}

// nothingYet is the answer of a connection that is open and quiet.
func nothingYet(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) || errors.Is(err, errors.ErrUnsupported)
}

// peek looks for one byte without waiting: 0 is the end. A connection that cannot be looked at is unsupported.
func peek(nc net.Conn) (n int, err error) {
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = wrapped.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return -1, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	var one [1]byte
	var peeked error
	if err := raw.Control(func(fd uintptr) {
		n, _, peeked = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); err != nil {
		return -1, err
	}
	return n, peeked
}
