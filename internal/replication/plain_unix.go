//go:build unix

package replication

import (
	"errors"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// plainConn is a TCP connection that waits in the kernel, in a thread of its own, and not among the runtime's. A follower is one goroutine that
// mostly waits for its upstream: the thread that the runtime would wake must first be given a processor and told which goroutine to run, and
// wakes another one that watches it.
type plainConn struct {
	net.Conn // what it was made of, closed: for its addresses
	file     *os.File
}

// plain gives c, or what takes its place: then c is closed. Silence for so long, or as long without a byte going out, is an error.
func plain(c net.Conn, timeout time.Duration) (net.Conn, error) {
	t, ok := c.(*net.TCPConn)
	if !ok || runtime.GOMAXPROCS(0) == 1 { // who waits in the kernel may keep the only processor for a while
		return c, nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(of uintptr) { fd, dupErr = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("dup", dupErr)
	}
	_ = c.Close() // the runtime is to hear no more of it
	limit := unix.NsecToTimeval(int64(timeout))
	err = errors.Join(
		unix.SetNonblock(fd, false),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &plainConn{Conn: c, file: os.NewFile(uintptr(fd), "connection to "+c.RemoteAddr().String())}, nil
}

func (p *plainConn) Read(b []byte) (int, error) {
	n, err := p.file.Read(b)
	return n, late(err)
}

func (p *plainConn) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	return n, late(err)
}

// late calls a timeout what it is.
func late(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Close ends reads and writes that wait.
func (p *plainConn) Close() error {
	if raw, err := p.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	return p.file.Close()
}

// Its timeouts are those of the socket.
func (p *plainConn) SetDeadline(time.Time) error      { return nil }
func (p *plainConn) SetReadDeadline(time.Time) error  { return nil }
func (p *plainConn) SetWriteDeadline(time.Time) error { return nil }
