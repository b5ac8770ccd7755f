package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// hollow answers pgbench at once with what it expects and does nothing else, but that an UPDATE is answered after one
// fdatasync for all that have come meanwhile. It tells how far any server can get beside pgbench on this machine and
// disk: one thread, no scheduler, as few system calls as the answers take.
type hollow struct {
	dir    string
	at     address
	listen int
	epoll  int
	wake   int // an eventfd: stop
	log    *os.File
	end    int64
	done   chan error
	conns  map[int]*hollowConn
}

type hollowConn struct {
	fd      int
	in      []byte
	out     []byte
	started bool
	update  bool // what it prepared last changes something
}

const hollowName = "hollow"

func newHollow(dir string) *hollow { return &hollow{dir: dir} }

func (h *hollow) name() string           { return hollowName }
func (h *hollow) address() address       { return h.at }
func (h *hollow) pid() int               { return os.Getpid() }
func (h *hollow) follower(string) server { return nil }
func (h *hollow) remove() error          { return nil }

func (h *hollow) logMeter(context.Context) (meter, error) {
	return func() (int64, error) { return 0, nil }, nil
}

func (h *hollow) create(context.Context) (err error) {
	h.at.port, err = freePort()
	return err
}

const (
	hollowLog    = 64 << 20
	hollowRecord = 160 // bytes of log for an update, about Skein's
)

func (h *hollow) start(context.Context, int) error {
	var err error
	if h.log, err = os.Create(filepath.Join(h.dir, "hollow-log")); err != nil {
		return err
	}
	if _, err := h.log.Write(make([]byte, hollowLog)); err != nil { // written over, as logs are
		return err
	}
	if err := h.log.Sync(); err != nil {
		return err
	}
	if h.listen, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.Bind(h.listen, &unix.SockaddrInet4{Port: h.at.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(h.listen, 128); err != nil {
		return err
	}
	if h.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if h.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return err
	}
	h.conns, h.done = map[int]*hollowConn{}, make(chan error, 1)
	if err := errors.Join(h.watch(h.listen), h.watch(h.wake)); err != nil {
		return err
	}
	go func() { h.done <- h.serve() }()
	return nil
}

func (h *hollow) watch(fd int) error {
	return unix.EpollCtl(h.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (h *hollow) stop() error {
	if h.done == nil {
		return nil
	}
	_, err := unix.Write(h.wake, binary.NativeEndian.AppendUint64(nil, 1))
	err = errors.Join(err, <-h.done, unix.Close(h.listen), unix.Close(h.epoll), unix.Close(h.wake), h.log.Close())
	h.done = nil
	return err
}

// serve takes what has come on all connections, syncs if any of it is an update, and answers all.
func (h *hollow) serve() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(h.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		updates := 0
		for _, e := range events[:n] {
			switch fd := int(e.Fd); fd {
			case h.wake:
				return nil
			case h.listen:
				err = h.accept()
			default:
				if c := h.conns[fd]; c != nil { // else it is closed, and a program that is just being started has it too
					updates += h.take(c)
				}
			}
			if err != nil {
				return err
			}
		}
		if updates > 0 {
			if err := h.flush(updates); err != nil {
				return err
			}
		}
		for _, e := range events[:n] {
			if c := h.conns[int(e.Fd)]; c != nil && len(c.out) > 0 {
				_, _ = unix.Write(c.fd, c.out) // whoever has gone will be read as gone
				c.out = c.out[:0]
			}
		}
	}
}

func (h *hollow) accept() error {
	fd, _, err := unix.Accept4(h.listen, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	h.conns[fd] = &hollowConn{fd: fd, in: make([]byte, 0, 16<<10)}
	return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), h.watch(fd))
}

func (h *hollow) flush(updates int) error {
	record := make([]byte, updates*hollowRecord)
	if h.end+int64(len(record)) > hollowLog {
		h.end = 0
	}
	if _, err := h.log.WriteAt(record, h.end); err != nil {
		return err
	}
	h.end += int64(len(record))
	return unix.Fdatasync(int(h.log.Fd()))
}

// take reads what has come on one connection, and says how many updates are in it.
func (h *hollow) take(c *hollowConn) (updates int) {
	n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
	if n <= 0 || err != nil {
		delete(h.conns, c.fd)
		_ = unix.Close(c.fd)
		return 0
	}
	c.in = c.in[:len(c.in)+n]
	rest := c.in
	for {
		size := c.message(rest)
		if size == 0 {
			break
		}
		updates += c.answer(rest[:size])
		rest = rest[size:]
	}
	c.in = c.in[:copy(c.in, rest)]
	return updates
}

// message is the length of the first message in b, 0 if it is not complete.
func (c *hollowConn) message(b []byte) int {
	head := 1
	if !c.started {
		head = 0
	}
	if len(b) < head+4 {
		return 0
	}
	if size := head + int(binary.BigEndian.Uint32(b[head:])); len(b) >= size {
		return size
	}
	return 0
}

var (
	hollowReady = []byte("Z\x00\x00\x00\x05I")
	hollowHello = append([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x19client_encoding\x00UTF8\x00"+
		"S\x00\x00\x00\x18server_version\x0015.0\x00K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x01"), hollowReady...)
	hollowColumn = []byte("T\x00\x00\x00\x21\x00\x01abalance\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00")
	hollowRow    = []byte("D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x011C\x00\x00\x00\x0dSELECT 1\x00")
	hollowUpdate = []byte("C\x00\x00\x00\x0dUPDATE 1\x00")
	hollowDone   = []byte("C\x00\x00\x00\x07OK\x00")
	// pgbench takes a server that cannot tell about partitions for an older one.
	hollowRefuse = []byte("E\x00\x00\x00\x1dSERROR\x00C42P01\x00Mnot here\x00\x00")
)

// answer puts the answer to one message into out. The same bytes go out for every row and every update.
func (c *hollowConn) answer(m []byte) (updates int) {
	if !c.started {
		c.started = true
		c.out = append(c.out, hollowHello...)
		return 0
	}
	switch m[0] {
	case 'P':
		c.update = bytes.Contains(m, []byte("UPDATE"))
		c.out = append(c.out, "1\x00\x00\x00\x04"...)
	case 'B':
		c.out = append(c.out, "2\x00\x00\x00\x04"...)
	case 'D':
		if c.update {
			c.out = append(c.out, "n\x00\x00\x00\x04"...)
		} else {
			c.out = append(c.out, hollowColumn...)
		}
	case 'E':
		if c.update {
			c.out = append(c.out, hollowUpdate...)
			return 1
		}
		c.out = append(c.out, hollowRow...)
	case 'S':
		c.out = append(c.out, hollowReady...)
	case 'Q':
		switch {
		case bytes.Contains(m, []byte("pg_catalog")):
			c.out = append(c.out, hollowRefuse...)
		case bytes.Contains(m, []byte("select")): // how many branches there are
			c.out = append(append(c.out, hollowColumn...), hollowRow...)
		default:
			c.out = append(c.out, hollowDone...)
		}
		c.out = append(c.out, hollowReady...)
	}
	return 0
}
