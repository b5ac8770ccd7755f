package pgwire

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"skein/internal/sqlstate"
)

// smallBuffer is what an idle connection keeps for reading, and again for writing. It holds the
// messages of an ordinary Bind/Execute/Sync, so that they take one read.
const smallBuffer = 4 << 10

// trusted is how much memory an announced length alone is worth.
const trusted = 64 << 10

// reader splits the client's bytes into messages. It takes memory as bytes arrive, never for a
// length that was only announced.
type reader struct {
	source io.Reader
	buf    []byte // buf[start:end] has been read and not yet been handed out
	start  int
	end    int
	max    int // largest body of a message, in bytes
}

// startupPacket reads a message without a type byte, as they come before authentication. The body
// is valid until the next call.
func (r *reader) startupPacket() ([]byte, error) {
	if err := r.need(4); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(r.buf[r.start:])))
	if size < 8 || size > r.max {
		return nil, sqlstate.New(sqlstate.ProtocolViolation, "invalid length of startup packet")
	}
	if err := r.need(size); err != nil {
		return nil, err
	}
	body := r.buf[r.start+4 : r.start+size]
	r.start += size
	return body, nil
}

// next reads a message. The body is valid until the next call. After os.ErrDeadlineExceeded it can
// be called again and goes on where it was.
func (r *reader) next() (kind byte, body []byte, err error) {
	if err := r.need(5); err != nil {
		return 0, nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(r.buf[r.start+1:])))
	if size < 4 || size-4 > r.max {
		return 0, nil, sqlstate.New(sqlstate.ProtocolViolation, "invalid message length")
	}
	if err := r.need(1 + size); err != nil {
		return 0, nil, err
	}
	kind, body = r.buf[r.start], r.buf[r.start+5:r.start+1+size]
	r.start += 1 + size
	return kind, body, nil
}

// buffered is the number of bytes that were read but belong to no message handed out.
func (r *reader) buffered() int { return r.end - r.start }

// complete reports whether next will return without reading from the client.
func (r *reader) complete() bool {
	n := r.buffered()
	if n < 5 {
		return false
	}
	size := int(int32(binary.BigEndian.Uint32(r.buf[r.start+1:])))
	return size < 4 || size-4 > r.max || n > size
}

// need reads until n bytes are buffered.
func (r *reader) need(n int) error {
	for r.buffered() < n {
		if err := r.fill(n); err != nil {
			return err
		}
	}
	return nil
}

// fill reads once, as much as fits. Past what is trusted, the buffer at most doubles for each
// bufferful that has arrived.
func (r *reader) fill(n int) error {
	switch {
	case r.start == r.end:
		r.start, r.end = 0, 0
	case r.start > 0 && r.start+n > len(r.buf):
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		grown := make([]byte, max(smallBuffer, min(n, max(2*len(r.buf), trusted))))
		r.end = copy(grown, r.buf[r.start:r.end])
		r.start, r.buf = 0, grown
	}
	got, err := r.source.Read(r.buf[r.end:])
	r.end += got
	if got > 0 {
		return nil
	}
	if err == io.EOF && r.buffered() > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// release gives back a large buffer, when what is left in it fits a small one.
func (r *reader) release() {
	if len(r.buf) > smallBuffer && r.buffered() <= smallBuffer {
		small := make([]byte, smallBuffer)
		r.end = copy(small, r.buf[r.start:r.end])
		r.start, r.buf = 0, small
	}
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// fields takes a message's body apart. The first malformed field makes every later one zero, and
// done reports it.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n < 0 || n > len(f.rest) {
		f.bad = true
		return nil
	}
	taken := f.rest[:n:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) int16() int16 {
	if b := f.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (f *fields) int32() int32 {
	if b := f.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// text takes a string that ends in NUL.
func (f *fields) text() []byte {
	for i, b := range f.rest {
		if b == 0 {
			s := f.take(i + 1)
			return s[:i]
		}
	}
	f.bad = true
	return nil
}

// count takes a number of items of at least size bytes each, bounded by what the message can hold.
// PostgreSQL counts parameters in an unsigned 16 bits.
func (f *fields) count(size int) int {
	n := int(uint16(f.int16()))
	if n*size > len(f.rest) {
		f.bad = true
		return 0
	}
	return n
}

// done fails unless the message was taken apart exactly.
func (f *fields) done() error {
	if f.bad {
		return sqlstate.New(sqlstate.ProtocolViolation, "insufficient data left in message")
	}
	if len(f.rest) > 0 {
		return sqlstate.New(sqlstate.ProtocolViolation, "invalid message format")
	}
	return nil
}
