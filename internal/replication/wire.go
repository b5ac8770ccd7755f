package replication

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync/atomic"
	"time"

	"skein/internal/history"
)

const (
	wireHeader = 28
	wireSum    = 24 // where the header's own CRC is, of what stands before it

	// maxStranger bounds a payload from somebody who has not proved to know the cluster's secret.
	maxStranger = 4 << 10

	// maxPayload bounds every other payload. It is read before memory is taken for it.
	maxPayload = 2 << 20

	// writePiece is what one write deadline covers, so that a slow network is told from a dead one.
	writePiece = 64 << 10

	readBuffer = 512 << 10
)

var (
	errDamagedFrame = errors.New("damaged frame")
	errTooLarge     = errors.New("frame announces more than it may hold")
	castagnoli      = crc32.MakeTable(crc32.Castagnoli)
)

// message is what one frame carries. Its payload is valid until the next read.
type message struct {
	kind    kind
	flags   uint8
	epoch   history.Epoch
	payload []byte
}

// wire is a connection in frames. One goroutine reads; any may write.
type wire struct {
	conn    net.Conn
	timeout time.Duration // of one read, or of writePiece bytes: silence for longer ends the connection. 0: whoever uses it sets deadlines

	in    *bufio.Reader
	limit int    // of a payload; see maxStranger
	seed  uint32 // of every header's CRC after the handshake, so that no frame of another connection checks
	next  uint32 // number of the frame to be read
	body  []byte

	opened time.Time
	heard  atomic.Int64 // when the last whole frame came in: nanoseconds since opened, which no change of the wall clock alters
	sent   atomic.Int64 // bytes

	// turn is taken for one frame's write, so that frames do not mix. It is a channel and no mutex because
	// it is held across I/O: virtual time stands still while somebody waits for a mutex.
	turn   chan struct{}
	number uint32 // of the frame to be written
	out    []byte
}

func newWire(conn net.Conn, timeout time.Duration) *wire {
	w := &wire{conn: conn, opened: time.Now(), timeout: timeout, limit: maxStranger, turn: make(chan struct{}, 1)}
	w.in = bufio.NewReaderSize(&patientReader{w}, 4<<10)
	return w
}

// trust ends the handshake: larger payloads are allowed, and frames are bound to this connection.
func (w *wire) trust(seed uint32, why Purpose) {
	w.limit, w.seed = maxPayload, seed
	if why.carriesBytes() {
		w.limit = bytePiece
	} else if w.in.Buffered() == 0 {
		w.in = bufio.NewReaderSize(&patientReader{w}, readBuffer)
	}
}

// patientReader gives every read of the connection the whole timeout: what counts is silence, not how long a frame takes.
type patientReader struct{ w *wire }

func (p *patientReader) Read(b []byte) (int, error) {
	if p.w.timeout > 0 {
		if err := p.w.conn.SetReadDeadline(time.Now().Add(p.w.timeout)); err != nil {
			return 0, err
		}
	}
	return p.w.conn.Read(b)
}

// read gives the next message. An error ends the connection.
func (w *wire) read() (message, error) {
	var h [wireHeader]byte
	if _, err := io.ReadFull(w.in, h[:]); err != nil {
		return message{}, err
	}
	le := binary.LittleEndian
	// The header is checked by itself: a reader that believed a length with a flipped bit would wait for what
	// nobody sends, and the heartbeats that come instead would keep it from noticing the silence.
	if crc32.Update(w.seed, castagnoli, h[:wireSum]) != le.Uint32(h[wireSum:]) || le.Uint32(h[8:]) != w.next {
		return message{}, errDamagedFrame
	}
	n := int(le.Uint32(h[0:]))
	if n > w.limit {
		return message{}, fmt.Errorf("%w: %d bytes of %d", errTooLarge, n, w.limit)
	}
	if cap(w.body) < n {
		w.body = make([]byte, max(n, 4<<10))
	}
	b := w.body[:n]
	if _, err := io.ReadFull(w.in, b); err != nil {
		return message{}, noEOF(err)
	}
	if crc32.Checksum(b, castagnoli) != le.Uint32(h[12:]) {
		return message{}, errDamagedFrame
	}
	w.next++
	w.heard.Store(int64(time.Since(w.opened)))
	return message{kind: kind(h[4]), flags: h[5], epoch: history.Epoch(le.Uint64(h[16:])), payload: b}, nil
}

// more says whether a whole frame can be read without waiting for the network.
func (w *wire) more() bool {
	if w.in.Buffered() < wireHeader {
		return false
	}
	h, err := w.in.Peek(4)
	return err == nil && w.in.Buffered()-wireHeader >= int(binary.LittleEndian.Uint32(h))
}

// write sends one message, whose payload is the parts one after the other. An error, which may be
// that the other side did not take the bytes in time, ends the connection.
func (w *wire) write(k kind, flags uint8, epoch history.Epoch, parts ...[]byte) error {
	w.begin()
	defer w.end()
	return w.put(k, flags, epoch, parts...)
}

// begin takes the turn to write, end gives it back: what is found out in between is told in that order.
func (w *wire) begin() { w.turn <- struct{}{} }
func (w *wire) end()   { <-w.turn }

// tryBegin is begin for whoever cannot wait.
func (w *wire) tryBegin() bool {
	select {
	case w.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

// put is write for whoever has the turn.
func (w *wire) put(k kind, flags uint8, epoch history.Epoch, parts ...[]byte) error {
	n, sum := 0, uint32(0)
	for _, p := range parts {
		n += len(p)
		sum = crc32.Update(sum, castagnoli, p)
	}
	le := binary.LittleEndian
	var h [wireHeader]byte
	le.PutUint32(h[0:], uint32(n))
	h[4], h[5] = byte(k), flags
	le.PutUint32(h[8:], w.number)
	le.PutUint32(h[12:], sum)
	le.PutUint64(h[16:], uint64(epoch))
	le.PutUint32(h[wireSum:], crc32.Update(w.seed, castagnoli, h[:wireSum]))
	w.number++

	w.out = append(w.out[:0], h[:]...)
	for _, p := range parts {
		for len(p) > 0 {
			fits := min(len(p), writePiece-len(w.out))
			if len(w.out) == 0 && len(p) >= writePiece {
				if err := w.send(p[:writePiece]); err != nil {
					return err
				}
				p = p[writePiece:]
				continue
			}
			w.out = append(w.out, p[:fits]...)
			p = p[fits:]
			if len(w.out) < writePiece {
				continue
			}
			if err := w.send(w.out); err != nil {
				return err
			}
			w.out = w.out[:0]
		}
	}
	if len(w.out) == 0 {
		return nil
	}
	return w.send(w.out)
}

func (w *wire) send(b []byte) error {
	if w.timeout > 0 {
		if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
			return err
		}
	}
	n, err := w.conn.Write(b)
	w.sent.Add(int64(n))
	return err
}

// silence is for how long nothing has come in.
func (w *wire) silence(now time.Time) time.Duration {
	return now.Sub(w.opened) - time.Duration(w.heard.Load())
}

func (w *wire) close() error { return w.conn.Close() }

// noEOF tells an end in the middle of a frame from one between two.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
