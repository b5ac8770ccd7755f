package pgwire

import (
	"context"
	"errors"
	"time"

	"skein/internal/sqlstate"
)

// Relay is a Session that may have messages answered by another server.
type Relay interface {
	Session
	// Take is asked about each message of the client, but for those that are skipped after an error. It gives true
	// when it has seen to the message: the answer, ReadyForQuery included, is in the Conn by the next Query, Sync
	// or Flush. What it does not take is handled as that of any other Session. The body is valid during the call.
	// An error ends the connection.
	Take(ctx context.Context, kind byte, body []byte) (taken bool, err error)
}

// ErrAnswered is what Simple and Sync of a Relay return when everything has been written to the Conn, ReadyForQuery too.
var ErrAnswered = errors.New("answered by a relay")

// take offers a message to the session's relay. What was taken leaves with the end of its cycle.
func (l *loop) take(kind byte, body []byte) (taken bool, err error) {
	taken, err = l.relay.Take(l.conn.ctx, kind, body)
	if !taken || err != nil {
		return taken, err
	}
	if e := l.conn.ended(); e != nil {
		return true, e
	}
	switch kind {
	case 'Q', 'S', 'H':
		l.flushing = false
		return true, l.conn.flush()
	}
	return true, nil
}

// relayed says whether a relay is asked about a message.
func (l *loop) relayed(kind byte) bool {
	switch kind {
	case 'S':
		return l.relay != nil
	case 'Q', 'P', 'B', 'D', 'E', 'C', 'H':
		return l.relay != nil && !l.skipping
	}
	return false
}

// Pass writes a message of another server as it came. It writes to the network past 32 KB and returns its error.
func (c *Conn) Pass(kind byte, body []byte) error {
	c.begin(kind)
	c.out = append(c.out, body...)
	c.end()
	return c.flushPast(flushAt)
}

// ReadyForQuery ends a relay's answer.
func (c *Conn) ReadyForQuery(status byte) { c.readyForQuery(status) }

// Ended gives the error with which the connection must end now, or nil.
func (c *Conn) Ended() *sqlstate.Error { return c.ended() }

// Replayer has a Session run messages that did not come from the client just now.
type Replayer struct{ loop }

// NewReplayer makes one that answers to c, but for errors that are in elsewhere: those Message returns.
func NewReplayer(c *Conn, s Session, elsewhere func(error) bool) *Replayer {
	return &Replayer{loop{conn: c, session: s, elsewhere: elsewhere}}
}

// Message runs one. A silent one, whose answer must be short, is not answered. Any other error ends the connection.
func (r *Replayer) Message(kind byte, body []byte, silent bool) error {
	at := len(r.conn.out)
	r.quiet = silent
	err := r.message(kind, body)
	if silent && err == nil {
		r.conn.out = r.conn.out[:at]
	}
	return err
}

// Skipping says whether a message failed and its Sync has not come.
func (r *Replayer) Skipping() bool { return r.skipping }

// Flush writes what is buffered.
func (c *Conn) Flush() error { return c.flush() }

// ErrWoken means that Receive was given up.
var ErrWoken = errors.New("woken")

// Receive reads the client's next message, for a relay whose server waits for COPY data. The body is valid until
// the next call. It gives up once over is closed and Wake was called.
func (c *Conn) Receive(over <-chan struct{}) (kind byte, body []byte, err error) {
	for {
		kind, body, err = c.in.next()
		if !timedOut(err) {
			return kind, body, err
		}
		_ = c.net.SetReadDeadline(time.Time{})
		if e := c.ended(); e != nil {
			return 0, nil, e
		}
		select {
		case <-over:
			return 0, nil, ErrWoken
		default:
		}
	}
}

// Wake has Receive look whether it is over, from any goroutine.
func (c *Conn) Wake() { c.wake() }

// More says whether the client's next message has come already.
func (c *Conn) More() bool { return c.in.complete() }

// Ahead calls fn for the client's next messages that have come already, without taking them, until fn gives false. The
// body is valid during the call.
func (c *Conn) Ahead(fn func(kind byte, body []byte) bool) {
	ahead := c.in // a copy: its source is not read
	for ahead.complete() {
		kind, body, err := ahead.next()
		if err != nil || !fn(kind, body) {
			return
		}
	}
}

// Written counts the bytes that were written to the client or are about to be.
func (c *Conn) Written() int64 { return c.sent + int64(len(c.out)) }

// Rewind takes back what was written since Written gave a number. It is false, and does nothing, if some of that has left.
func (c *Conn) Rewind(to int64) bool {
	if to < c.sent {
		return false
	}
	c.out = c.out[:to-c.sent]
	return true
}

// Report writes err as an ERROR. It gives the error with which the connection must end, if it must: then that is what the client
// has to hear, as the last thing and without ReadyForQuery, which would look like success; an error that is
// only its consequence is left out.
func (c *Conn) Report(err error) error {
	end := c.ended()
	if end == nil || !errors.Is(err, end) && !errors.Is(err, context.Canceled) && !canceled(err) {
		c.fail("ERROR", err)
	}
	if end != nil {
		return end
	}
	return nil
}
