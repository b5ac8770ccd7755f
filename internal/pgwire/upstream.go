package pgwire

import (
	"encoding/binary"
	"net"
	"strings"
)

// Upstream is a client's side of a connection to another server, in raw messages. Except for Close it is used from
// one goroutine.
type Upstream struct {
	conn net.Conn
	in   reader
	out  []byte
}

// NewUpstream takes a connection on which nothing has been sent yet.
func NewUpstream(conn net.Conn) *Upstream {
	return &Upstream{conn: conn, in: reader{source: conn, max: maxRow}}
}

// Startup asks for a session, buffered as every message is.
func (u *Upstream) Startup(user, database string, params map[string]string) {
	at := len(u.out)
	u.out = append(u.out, 0, 0, 0, 0)
	u.out = binary.BigEndian.AppendUint32(u.out, protocolMajor<<16|newestMinor)
	for _, pair := range [][2]string{{"user", user}, {"database", database}} {
		u.text(pair[0])
		u.text(pair[1])
	}
	for name, value := range params {
		u.text(name)
		u.text(value)
	}
	u.out = append(u.out, 0)
	binary.BigEndian.PutUint32(u.out[at:], uint32(len(u.out)-at))
}

// Cancel asks for what a session does to be interrupted. pid and key are what its BackendKeyData said; nothing else may be
// sent on this connection.
func (u *Upstream) Cancel(pidAndKey []byte) error {
	u.out = binary.BigEndian.AppendUint32(u.out, uint32(8+len(pidAndKey)))
	u.out = binary.BigEndian.AppendUint32(u.out, cancelRequest)
	u.out = append(u.out, pidAndKey...)
	return u.Flush()
}

// Send buffers a message.
func (u *Upstream) Send(kind byte, body []byte) {
	u.out = append(u.out, kind)
	u.out = binary.BigEndian.AppendUint32(u.out, uint32(len(body)+4))
	u.out = append(u.out, body...)
}

func (u *Upstream) text(s string) {
	u.out = append(u.out, strings.ReplaceAll(s, "\x00", "")...)
	u.out = append(u.out, 0)
}

// Buffered is how many bytes wait for Flush.
func (u *Upstream) Buffered() int { return len(u.out) }

// Flush sends what is buffered. After an error the last message of it has not arrived whole.
func (u *Upstream) Flush() error {
	_, err := u.conn.Write(u.out)
	if cap(u.out) > 2*flushAt {
		u.out = nil
	}
	u.out = u.out[:0]
	return err
}

// Next reads a message. The body is valid until the next call.
func (u *Upstream) Next() (kind byte, body []byte, err error) {
	if u.in.buffered() == 0 {
		u.in.release()
	}
	return u.in.next()
}

// Await returns once Next has something to read, be it the end of the connection.
func (u *Upstream) Await() { _ = u.in.need(1) }

// Pending says whether Next has something to read by now, be it the end of the connection.
func (u *Upstream) Pending() bool {
	if u.in.buffered() > 0 {
		return true
	}
	if b, ok := u.conn.(interface{ Buffered() int }); ok && b.Buffered() > 0 {
		return true
	}
	return readable(u.conn)
}

// Close ends the connection, from any goroutine. The server ends the session and rolls back what was not committed.
func (u *Upstream) Close() error { return u.conn.Close() }
