package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// flushAt is how much is gathered for one write to the network.
const flushAt = 32 << 10

// maxRow is PostgreSQL's limit on a message. Lengths on the wire are 32 bits with a sign, so that
// without a limit they would wrap.
const maxRow = 1<<30 - 1

// endTimeout is how long a connection that must end may take to tell its client.
const endTimeout = 5 * time.Second

// Conn writes messages to a client, buffered, and reads COPY data from it. A session uses it from
// the connection's goroutine, during a call that pgwire made to it; only Terminate and Between are
// for others.
type Conn struct {
	net          net.Conn
	in           reader
	out          []byte
	small        []byte     // what out is while little is written; it is kept while idle
	large        *sync.Pool // of *[]byte: what out is while much is written
	row          int        // where the open DataRow begins in out; -1: none is open
	message      int        // where the open message's length stands in out
	err          error      // the first error of a write: nothing is written after it
	sent         int64      // bytes
	env          Env
	pid          uint32
	minor        uint16 // protocol 3.minor
	writeTimeout time.Duration
	deadline     time.Time // of writes, as last set

	ctx       context.Context // done when the connection must end; the cause says why
	terminate context.CancelCauseFunc
	last      *sqlstate.Error // what ended found

	idle    bool        // receive is called between two messages
	waiting atomic.Bool // between is not empty
	mu      sync.Mutex
	between []func()
}

func newConn(ctx context.Context, nc net.Conn, writeTimeout time.Duration, large *sync.Pool) *Conn {
	c := &Conn{net: nc, row: -1, writeTimeout: writeTimeout, large: large}
	c.small = make([]byte, 0, smallBuffer)
	c.out = c.small
	c.in = reader{source: nc, max: maxUnauthenticatedMessage}
	c.ctx, c.terminate = context.WithCancelCause(ctx)
	return c
}

// Env gives the settings that Value writes with; the session changes them as its client does.
func (c *Conn) Env() *Env { return &c.env }

// PID is the number the client knows this connection by.
func (c *Conn) PID() uint32 { return c.pid }

// RowDescription announces rows of these columns.
func (c *Conn) RowDescription(fields []Field) {
	c.begin('T')
	c.int16(int16(len(fields)))
	for i := range fields {
		f := &fields[i]
		c.text(f.Name)
		c.int32(int32(f.TableOID))
		c.int16(f.Attr)
		c.int32(int32(f.Type))
		c.int16(typeLen(f.Type))
		c.int32(f.Mod)
		c.int16(f.Format)
	}
	c.end()
}

func typeLen(t oid.OID) int16 {
	if known := oid.ByOID(t); known != nil {
		return known.Len
	}
	return -1
}

// BeginRow begins a DataRow of n values.
func (c *Conn) BeginRow(n int) {
	c.begin('D')
	c.row = c.message - 1
	c.int16(int16(n))
}

// Value appends the next value of the row. On an error the row is withdrawn.
func (c *Conn) Value(t oid.OID, format int16, v Value) error {
	if v.Kind == Null {
		c.int32(-1)
		return nil
	}
	at := len(c.out)
	c.int32(0)
	out, err := Append(c.out, t, format, v, &c.env)
	if err != nil {
		c.withdrawRow()
		return err
	}
	c.out = out
	if len(c.out)-c.row > maxRow {
		c.withdrawRow()
		return sqlstate.New(sqlstate.ProgramLimitExceeded, "a row of the result is longer than %d bytes", maxRow)
	}
	binary.BigEndian.PutUint32(c.out[at:], uint32(len(c.out)-at-4))
	return nil
}

// EndRow ends the row. It writes to the network past 32 KB and returns its error.
func (c *Conn) EndRow() error {
	c.end()
	c.row = -1
	return c.flushPast(flushAt)
}

// withdrawRow forgets a row that was not ended, so that an error can take its place.
func (c *Conn) withdrawRow() {
	if c.row >= 0 {
		c.out, c.row = c.out[:c.row], -1
	}
}

// CommandComplete ends the result of one statement, with its tag: "INSERT 0 3".
func (c *Conn) CommandComplete(tag string) {
	c.begin('C')
	c.text(tag)
	c.end()
}

// EmptyQuery answers an empty statement.
func (c *Conn) EmptyQuery() { c.bare('I') }

// PortalSuspended says that Execute's limit was reached.
func (c *Conn) PortalSuspended() { c.bare('s') }

// NoData says that a statement returns no rows.
func (c *Conn) NoData() { c.bare('n') }

// Notice sends a warning: severity WARNING for codes of class 01 and 25, else NOTICE.
func (c *Conn) Notice(e *sqlstate.Error) {
	severity := "NOTICE"
	if class := e.Code[:min(2, len(e.Code))]; class == "01" || class == "25" {
		severity = "WARNING"
	}
	c.report('N', severity, e)
}

// ParameterStatus reports the new value of a setting.
func (c *Conn) ParameterStatus(name, value string) {
	c.begin('S')
	c.text(name)
	c.text(value)
	c.end()
}

// Notification delivers a NOTIFY of the session pid to a client that listens.
func (c *Conn) Notification(pid uint32, channel, payload string) {
	c.begin('A')
	c.int32(int32(pid))
	c.text(channel)
	c.text(payload)
	c.end()
}

// Terminate ends the connection with e as a FATAL error, from any goroutine: what runs now has its
// context cancelled, with e as the cause.
func (c *Conn) Terminate(e *sqlstate.Error) { c.terminate(e) }

// Between runs f on the connection's goroutine as soon as that is between two messages, then sends
// what f wrote. It may be called from any goroutine and does not wait. It is how a setting that
// changed by itself, or a notification, reaches a client that is idle.
func (c *Conn) Between(f func()) {
	c.mu.Lock()
	c.between = append(c.between, f)
	c.mu.Unlock()
	c.waiting.Store(true)
	c.wake()
}

// wake makes a read that waits for the client return. Whoever reads lifts the deadline first and
// looks for the reason after, so that no reason is missed.
func (c *Conn) wake() { _ = c.net.SetReadDeadline(time.Unix(1, 0)) }

func (c *Conn) runBetween() {
	c.waiting.Store(false)
	c.mu.Lock()
	due := c.between
	c.between = nil
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// ended gives the error with which the connection must end now, or nil.
func (c *Conn) ended() *sqlstate.Error {
	if c.ctx.Err() == nil || c.last != nil {
		return c.last
	}
	if !errors.As(context.Cause(c.ctx), &c.last) {
		c.last = sqlstate.New(sqlstate.AdminShutdown, "terminating connection due to administrator command")
	}
	return c.last
}

// fail sends err with a severity.
func (c *Conn) fail(severity string, err error) {
	c.withdrawRow()
	c.report('E', severity, state(err))
}

// state finds what a client is told of err. One that carries no SQLSTATE is an internal error.
func state(err error) *sqlstate.Error {
	var e *sqlstate.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return sqlstate.New(sqlstate.QueryCanceled, "canceling statement due to user request")
	}
	return sqlstate.New(sqlstate.InternalError, "%s", err)
}

// canceled says whether a client is told of err that its statement was cancelled.
func canceled(err error) bool { return state(err).Code == sqlstate.QueryCanceled }

func (c *Conn) report(kind byte, severity string, e *sqlstate.Error) {
	c.begin(kind)
	c.errorField('S', severity)
	c.errorField('V', severity)
	c.errorField('C', string(e.Code))
	c.errorField('M', e.Message)
	c.errorField('D', e.Detail)
	c.errorField('H', e.Hint)
	if e.Position > 0 {
		c.errorField('P', strconv.Itoa(e.Position))
	}
	c.errorField('s', e.Schema)
	c.errorField('t', e.Table)
	c.errorField('c', e.Column)
	c.errorField('d', e.DataType)
	c.errorField('n', e.Constraint)
	c.out = append(c.out, 0)
	c.end()
}

func (c *Conn) errorField(name byte, value string) {
	if value != "" {
		c.out = append(c.out, name)
		c.text(value)
	}
}

func (c *Conn) readyForQuery(status byte) {
	c.begin('Z')
	c.out = append(c.out, status)
	c.end()
}

func (c *Conn) parameterDescription(types []oid.OID) {
	c.begin('t')
	c.int16(int16(len(types)))
	for _, t := range types {
		c.int32(int32(t))
	}
	c.end()
}

func (c *Conn) bare(kind byte) { c.out = append(c.out, kind, 0, 0, 0, 4) }

func (c *Conn) begin(kind byte) {
	c.out = append(c.out, kind, 0, 0, 0, 0)
	c.message = len(c.out) - 4
}

func (c *Conn) end() {
	binary.BigEndian.PutUint32(c.out[c.message:], uint32(len(c.out)-c.message))
}

func (c *Conn) int16(n int16) { c.out = binary.BigEndian.AppendUint16(c.out, uint16(n)) }
func (c *Conn) int32(n int32) { c.out = binary.BigEndian.AppendUint32(c.out, uint32(n)) }

// text appends a string and its NUL. A NUL inside would let the rest of the string pose as another
// field, so the string ends there.
func (c *Conn) text(s string) {
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	c.out = append(c.out, s...)
	c.out = append(c.out, 0)
}

// flushPast is called after each piece of a result. Past n bytes it writes to the network; a result
// that will not fit the small buffer goes on in a large one.
func (c *Conn) flushPast(n int) error {
	if len(c.out) > n {
		return c.flush()
	}
	if cap(c.out) == cap(c.small) && len(c.out) > cap(c.small)/2 {
		c.out = append((*c.large.Get().(*[]byte))[:0], c.out...)
	}
	return c.err
}

// flush writes what is buffered. A client that does not take it within the write timeout, or that
// is gone, ends the connection: its session must not hold snapshots and locks for ever.
func (c *Conn) flush() error {
	if c.err != nil {
		c.out = c.out[:0]
		return c.err
	}
	if len(c.out) == 0 {
		return nil
	}
	c.extendDeadline()
	c.sent += int64(len(c.out))
	if _, err := c.net.Write(c.out); err != nil {
		c.err = err
		c.terminate(sqlstate.New(sqlstate.ConnectionFailure, "could not send data to client: %s", err))
	}
	c.out = c.out[:0]
	return c.err
}

// extendDeadline gives a write at least half of the timeout. Setting a deadline for every write
// would cost the hot path a timer each time.
func (c *Conn) extendDeadline() {
	now := time.Now()
	if c.deadline.Sub(now) > c.writeTimeout/2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return // unblock has set a shorter one, which must stand
	}
	c.deadline = now.Add(c.writeTimeout)
	_ = c.net.SetWriteDeadline(c.deadline)
}

// unblock runs when the connection must end: whoever reads is woken, and a client that takes
// nothing may not hold up the end.
func (c *Conn) unblock() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.net.SetWriteDeadline(time.Now().Add(min(c.writeTimeout, endTimeout)))
	c.wake()
}

// receive reads the client's next message. The body is valid until the next call.
func (c *Conn) receive() (kind byte, body []byte, err error) {
	for {
		kind, body, err = c.in.next()
		if !timedOut(err) {
			return kind, body, err
		}
		_ = c.net.SetReadDeadline(time.Time{})
		if e := c.ended(); e != nil {
			return 0, nil, e
		}
		if c.idle {
			c.runBetween()
			if err := c.flush(); err != nil {
				return 0, nil, err
			}
		}
	}
}

// release gives back what a large message or result took, before the connection waits.
func (c *Conn) release() {
	c.in.release()
	if cap(c.out) == cap(c.small) || len(c.out) > 0 {
		return
	}
	if cap(c.out) <= 2*flushAt {
		large := c.out
		c.large.Put(&large)
	}
	c.out = c.small
}
