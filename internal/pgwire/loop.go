package pgwire

import (
	"errors"
	"unicode/utf8"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// keptParams is for how many parameters an idle connection keeps room.
const keptParams = 128

// loop reads the messages of an authenticated client and calls its session.
//
// The extended protocol's rule on errors: after one, every message up to the next Sync is skipped.
type loop struct {
	conn     *Conn
	session  Session
	relay    Relay // the session, if it is one
	skipping bool  // an extended-protocol message failed, and its Sync has not come
	flushing bool  // what is buffered should not wait: write it before the next read
	quiet    bool  // nothing is written to the network
	// elsewhere says which errors are not for the client to hear; nil: none.
	elsewhere func(error) bool

	// Reused from message to message, so that the common ones allocate nothing.
	bind  Bind
	oids  []oid.OID
	names [8]string
}

// errTerminate is a client's orderly goodbye.
var errTerminate = errors.New("client has terminated the connection")

// run gives nil when the client has said goodbye, or the error to be sent as the last.
func (l *loop) run() error {
	for {
		if err := l.settle(); err != nil {
			return err
		}
		l.conn.idle = true
		kind, body, err := l.conn.receive()
		l.conn.idle = false
		if err != nil {
			return err
		}
		if err := l.message(kind, body); err != nil {
			if errors.Is(err, errTerminate) {
				return nil
			}
			return err
		}
		if e := l.conn.ended(); e != nil {
			return e
		}
	}
}

// settle does what is due before the next message is read. The answers of a pipeline share their
// writes: they leave at Sync and Flush, and past 32 KB. An error leaves as soon as there is no further
// message at hand, since its Sync may be a long time in coming.
func (l *loop) settle() error {
	if l.conn.waiting.Load() {
		l.conn.runBetween()
		l.flushing = true
	}
	if err := l.conn.flushPast(flushAt); err != nil {
		return err
	}
	if l.conn.in.complete() {
		return nil
	}
	if l.flushing {
		l.flushing = false
		if err := l.conn.flush(); err != nil {
			return err
		}
	}
	if cap(l.bind.Params)+cap(l.oids) > keptParams {
		l.bind, l.oids = Bind{}, nil
	}
	l.conn.release()
	return nil
}

// message handles one message. An error ends the connection.
func (l *loop) message(kind byte, body []byte) error {
	if l.relayed(kind) {
		if taken, err := l.take(kind, body); taken || err != nil {
			return err
		}
	}
	f := fields{rest: body}
	switch kind {
	case 'X':
		return errTerminate
	case 'S':
		return l.sync(&f)
	case 'Q', 'P', 'B', 'D', 'E', 'C', 'H', 'F':
		if l.skipping {
			return nil
		}
	case 'd', 'c', 'f':
		return nil // of a COPY that has failed: the client did not know yet
	default:
		return sqlstate.New(sqlstate.ProtocolViolation, "invalid frontend message type %d", kind)
	}
	switch kind {
	case 'Q':
		return l.query(&f)
	case 'F':
		return l.functionCall()
	case 'H':
		if err := f.done(); err != nil {
			return err
		}
		return l.conn.flush()
	}
	failed, err := l.extended(kind, &f)
	if err != nil {
		return err
	}
	if failed == nil {
		return nil
	}
	if l.elsewhere != nil && l.elsewhere(failed) {
		return failed
	}
	l.session.Fail()
	l.skipping, l.flushing = true, true
	return l.conn.Report(failed)
}

// extended handles a message of the extended protocol. failed is reported and starts the skipping;
// malformed ends the connection.
func (l *loop) extended(kind byte, f *fields) (failed, malformed error) {
	switch kind {
	case 'P':
		return l.parse(f)
	case 'B':
		return l.bindPortal(f)
	case 'D':
		return l.describe(f)
	case 'E':
		return l.execute(f)
	}
	return l.close(f)
}

func (l *loop) query(f *fields) error {
	text := f.text()
	if err := f.done(); err != nil {
		return err
	}
	if err := checkText(text); err != nil {
		return l.refuse(err)
	}
	return l.finish(l.session.Simple(l.conn.ctx, string(text)))
}

func (l *loop) sync(f *fields) error {
	if err := f.done(); err != nil {
		return err
	}
	l.skipping = false
	return l.finish(l.session.Sync(l.conn.ctx))
}

// finish reports err, if any, and that the session is ready.
func (l *loop) finish(err error) error {
	if errors.Is(err, ErrAnswered) {
		l.flushing = false
		return l.conn.flush()
	}
	if err != nil && l.elsewhere != nil && l.elsewhere(err) {
		return err
	}
	if err != nil {
		if err := l.conn.Report(err); err != nil {
			return err
		}
	}
	l.conn.readyForQuery(l.session.Status())
	l.flushing = false
	if l.quiet {
		return nil
	}
	return l.conn.flush()
}

func (l *loop) functionCall() error {
	return l.refuse(sqlstate.New(sqlstate.FeatureNotSupported, "function calls by message are not supported").
		WithHint("Use SELECT function(...)."))
}

// refuse answers a message that needs no Sync and that the session is not asked about.
func (l *loop) refuse(err error) error {
	l.session.Fail()
	l.conn.fail("ERROR", err)
	return l.finish(l.session.Sync(l.conn.ctx))
}

func (l *loop) parse(f *fields) (failed, malformed error) {
	name, text := f.text(), f.text()
	l.oids = l.oids[:0]
	for range f.count(4) {
		l.oids = append(l.oids, oid.OID(f.int32()))
	}
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := errors.Join(checkText(name), checkText(text)); err != nil {
		return err, nil
	}
	if err := l.session.Parse(l.conn.ctx, l.name(name), string(text), l.oids); err != nil {
		return err, nil
	}
	l.conn.bare('1')
	return nil, nil
}

func (l *loop) bindPortal(f *fields) (failed, malformed error) {
	b := &l.bind
	portal, statement := f.text(), f.text()
	b.ParamFormats = f.formats(b.ParamFormats[:0])
	b.Params = b.Params[:0]
	for range f.count(4) {
		n := f.int32()
		if n == -1 {
			b.Params = append(b.Params, nil)
		} else {
			b.Params = append(b.Params, f.take(int(n)))
		}
	}
	b.ResultFormats = f.formats(b.ResultFormats[:0])
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := errors.Join(checkText(portal), checkText(statement), b.check()); err != nil {
		return err, nil
	}
	b.Portal, b.Statement = l.name(portal), l.name(statement)
	err := l.session.Bind(l.conn.ctx, b)
	clear(b.Params) // or they would hold on to the message
	if err != nil {
		return err, nil
	}
	l.conn.bare('2')
	return nil, nil
}

func (f *fields) formats(dst []int16) []int16 {
	for range f.count(2) {
		dst = append(dst, f.int16())
	}
	return dst
}

func (b *Bind) check() error {
	if n := len(b.ParamFormats); n > 1 && n != len(b.Params) {
		return sqlstate.New(sqlstate.ProtocolViolation,
			"bind message has %d parameter formats but %d parameters", n, len(b.Params))
	}
	for _, formats := range [][]int16{b.ParamFormats, b.ResultFormats} {
		for _, format := range formats {
			if format != TextFormat && format != BinaryFormat {
				return sqlstate.New(sqlstate.InvalidParameterValue, "unsupported format code: %d", format)
			}
		}
	}
	return nil
}

func (l *loop) describe(f *fields) (failed, malformed error) {
	kind, name := f.byte(), f.text()
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := checkText(name); err != nil {
		return err, nil
	}
	var columns []Field
	var err error
	switch kind {
	case 'S':
		var params []oid.OID
		if params, columns, err = l.session.DescribeStatement(l.conn.ctx, l.name(name)); err == nil {
			l.conn.parameterDescription(params)
		}
	case 'P':
		columns, err = l.session.DescribePortal(l.conn.ctx, l.name(name))
	default:
		err = sqlstate.New(sqlstate.ProtocolViolation, "invalid DESCRIBE message subtype %d", kind)
	}
	switch {
	case err != nil:
		return err, nil
	case columns == nil:
		l.conn.NoData()
	default:
		l.conn.RowDescription(columns)
	}
	return nil, nil
}

func (l *loop) execute(f *fields) (failed, malformed error) {
	portal, limit := f.text(), f.int32()
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := checkText(portal); err != nil {
		return err, nil
	}
	return l.session.Execute(l.conn.ctx, l.name(portal), int(max(limit, 0))), nil
}

func (l *loop) close(f *fields) (failed, malformed error) {
	kind, name := f.byte(), f.text()
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := checkText(name); err != nil {
		return err, nil
	}
	var err error
	switch kind {
	case 'S':
		err = l.session.CloseStatement(l.name(name))
	case 'P':
		err = l.session.ClosePortal(l.name(name))
	default:
		err = sqlstate.New(sqlstate.ProtocolViolation, "invalid CLOSE message subtype %d", kind)
	}
	if err != nil {
		return err, nil
	}
	l.conn.bare('3')
	return nil, nil
}

// name makes a string of a statement's or portal's name. Clients use few names again and again, so
// the latest are kept rather than made anew.
func (l *loop) name(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	kept := &l.names[b[len(b)-1]%byte(len(l.names))]
	if *kept != string(b) {
		*kept = string(b)
	}
	return *kept
}

// checkText refuses what is not UTF-8, the only encoding there is.
func checkText(b []byte) error {
	if utf8.Valid(b) {
		return nil
	}
	return badEncoding(b)
}

func badEncoding(b []byte) *sqlstate.Error {
	i := 0
	for {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		i += n
	}
	return sqlstate.New(sqlstate.CharacterNotInRepertoire, `invalid byte sequence for encoding "UTF8": 0x%02x`, b[min(i, len(b)-1)])
}
