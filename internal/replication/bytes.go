package replication

import (
	"net"
	"time"
)

// bytePiece is what one frame carries of a longer write.
const bytePiece = 64 << 10

// byteConn carries its users' bytes in frames, so that a damaged byte ends the connection instead of
// reaching them. One goroutine reads. After an error, a deadline that has passed among them, it is of no use.
type byteConn struct {
	w    *wire
	left []byte // of the frame that was read last
}

// newByteConn takes a connection over whose handshake is done, and lifts the handshake's deadlines.
func newByteConn(w *wire) (net.Conn, error) {
	w.timeout = 0
	return &byteConn{w: w}, w.conn.SetDeadline(time.Time{})
}

func (c *byteConn) Read(b []byte) (int, error) {
	for len(c.left) == 0 {
		m, err := c.w.expect(kindBytes)
		if err != nil {
			return 0, err
		}
		c.left = m.payload
	}
	n := copy(b, c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *byteConn) Write(b []byte) (n int, err error) {
	c.w.begin()
	defer c.w.end()
	for n < len(b) {
		piece := b[n:min(n+bytePiece, len(b))]
		if err := c.w.put(kindBytes, 0, 0, piece); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// Buffered counts bytes that have come and can be read without waiting, as far as that is known.
func (c *byteConn) Buffered() int { return len(c.left) + c.w.in.Buffered() }

// NetConn gives what the frames travel on, for those who look whether it is still open.
func (c *byteConn) NetConn() net.Conn { return c.w.conn }

func (c *byteConn) Close() error                       { return c.w.close() }
func (c *byteConn) LocalAddr() net.Addr                { return c.w.conn.LocalAddr() }
func (c *byteConn) RemoteAddr() net.Addr               { return c.w.conn.RemoteAddr() }
func (c *byteConn) SetDeadline(t time.Time) error      { return c.w.conn.SetDeadline(t) }
func (c *byteConn) SetReadDeadline(t time.Time) error  { return c.w.conn.SetReadDeadline(t) }
func (c *byteConn) SetWriteDeadline(t time.Time) error { return c.w.conn.SetWriteDeadline(t) }
