package replication

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tune has the kernel give up a connection whose other side is gone without a word, which a write
// that fits into the socket's buffer does not notice.
func tune(c net.Conn, timeout time.Duration) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: timeout, Interval: timeout / 3, Count: 3})
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
	})
}
