package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// fakeHandler knows the role alice, whose password is "secret", and makes sessions that run the
// little language of fakeSession.
type fakeHandler struct {
	verifier string
	sessions chan *fakeSession // each session that was opened, when not nil
	unknown  bool              // a "wait" that must end says that its outcome is not known
}

func newFakeHandler(t testing.TB) *fakeHandler {
	t.Helper()
	client, err := scram.SHA256.NewClient("", "secret", "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return &fakeHandler{verifier: fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", stored.Iters,
		base64Of([]byte(stored.Salt)), base64Of(stored.StoredKey), base64Of(stored.ServerKey))}
}

func (h *fakeHandler) Verifier(role string) (string, bool) { return h.verifier, role == "alice" }
func (h *fakeHandler) MockSecret() []byte                  { return []byte("cluster secret") }

func (h *fakeHandler) Connect(_ context.Context, c *Conn, s Startup) (Session, error) {
	if s.Database == "missing" {
		return nil, sqlstate.New(sqlstate.InvalidDatabaseName, `database "missing" does not exist`)
	}
	f := &fakeSession{
		conn: c, startup: s, unknown: h.unknown, status: 'I', cancelled: make(chan struct{}, 1),
		statements: map[string]fakeStatement{}, portals: map[string]*fakePortal{},
	}
	if h.sessions != nil {
		h.sessions <- f
	}
	return f, nil
}

// fakeSession runs statements such as
//
//	echo int4 text   a row of its parameters, decoded and encoded again
//	rows 3           three rows of one int4
//	bytes 100        a row of one bytea of 100 bytes
//	fail             an error when executed; failparse fails in Parse
//	begin, commit    change the status
//	wait             says NOTICE, then runs until it is cancelled
//	copyin text 2    reads rows of two columns; copyout csv 2 writes two
//	panic            what must never happen
type fakeSession struct {
	conn       *Conn
	startup    Startup
	status     byte
	statements map[string]fakeStatement
	portals    map[string]*fakePortal
	cancelled  chan struct{}
	closed     bool
	fails      int
	unknown    bool
}

type fakeStatement struct {
	words  []string
	params []oid.OID
	fields []Field
}

type fakePortal struct {
	fakeStatement
	values  []Value
	row     int
	formats []int16
}

func (p *fakePortal) format(i int) int16 { return formatAt(p.formats, i) }

func parseFake(sql string) (fakeStatement, error) {
	s := fakeStatement{words: strings.Fields(sql)}
	column := func(t oid.OID) {
		s.fields = append(s.fields, Field{Name: fmt.Sprintf("c%d", len(s.fields)+1), Type: t, Mod: -1})
	}
	switch s.command() {
	case "echo":
		for _, name := range s.words[1:] {
			t := oid.ByName(name)
			if t == nil {
				return s, sqlstate.New(sqlstate.UndefinedObject, "type %q does not exist", name)
			}
			s.params = append(s.params, t.OID)
			column(t.OID)
		}
	case "rows":
		column(oid.Int4)
	case "bytes":
		column(oid.Bytea)
	case "failparse":
		return s, sqlstate.New(sqlstate.SyntaxError, "syntax error").At(3)
	case "", "fail", "begin", "commit", "wait", "copyin", "copyout", "panic", "set":
	default:
		return s, sqlstate.New(sqlstate.SyntaxError, "syntax error at %q", s.command())
	}
	return s, nil
}

func (s *fakeStatement) command() string {
	if len(s.words) == 0 {
		return ""
	}
	return s.words[0]
}

func (s *fakeStatement) word(i int) string {
	if i >= len(s.words) {
		return ""
	}
	return s.words[i]
}

func (s *fakeStatement) number(i int) int {
	n, _ := strconv.Atoi(s.word(i))
	return min(max(n, 0), 1<<20)
}

func (f *fakeSession) Parameters() [][2]string {
	return [][2]string{{"server_version", "15.0"}, {"client_encoding", "UTF8"}, {"standard_conforming_strings", "on"}, {"DateStyle", "ISO, MDY"}, {"TimeZone", "UTC"}}
}

func (f *fakeSession) Simple(ctx context.Context, sql string) error {
	for part := range strings.SplitSeq(sql, ";") {
		s, err := parseFake(part)
		if err == nil {
			p := &fakePortal{fakeStatement: s}
			if s.fields != nil {
				f.conn.RowDescription(s.fields)
			}
			for range s.params {
				p.values = append(p.values, Value{})
			}
			err = f.execute(ctx, p, 0)
		}
		if err != nil {
			f.Fail()
			return err
		}
	}
	return nil
}

func (f *fakeSession) Parse(_ context.Context, name, sql string, params []oid.OID) error {
	s, err := parseFake(sql)
	if err != nil {
		return err
	}
	for i, p := range params {
		if p != 0 && i < len(s.params) {
			s.params[i] = p
		}
	}
	f.statements[name] = s
	return nil
}

func (f *fakeSession) Bind(_ context.Context, b *Bind) error {
	s, ok := f.statements[b.Statement]
	if !ok {
		return sqlstate.New(sqlstate.InvalidStatementName, "prepared statement %q does not exist", b.Statement)
	}
	if len(b.Params) != len(s.params) {
		return sqlstate.New(sqlstate.ProtocolViolation, "bind message supplies %d parameters, but prepared statement requires %d", len(b.Params), len(s.params))
	}
	p := f.portals[b.Portal]
	if p == nil {
		p = &fakePortal{}
		f.portals[b.Portal] = p
	}
	p.fakeStatement, p.row, p.values = s, 0, p.values[:0]
	p.formats = append(p.formats[:0], b.ResultFormats...)
	for i, raw := range b.Params {
		v, err := Decode(s.params[i], -1, b.ParamFormat(i), raw, f.conn.Env())
		if err != nil {
			return err
		}
		v.Bytes = append([]byte(nil), v.Bytes...)
		p.values = append(p.values, v)
	}
	return nil
}

func (f *fakeSession) DescribeStatement(_ context.Context, name string) ([]oid.OID, []Field, error) {
	s, ok := f.statements[name]
	if !ok {
		return nil, nil, sqlstate.New(sqlstate.InvalidStatementName, "prepared statement %q does not exist", name)
	}
	return s.params, s.fields, nil
}

func (f *fakeSession) DescribePortal(_ context.Context, name string) ([]Field, error) {
	p, ok := f.portals[name]
	if !ok {
		return nil, sqlstate.New(sqlstate.InvalidCursorName, "portal %q does not exist", name)
	}
	for i := range p.fields {
		p.fields[i].Format = p.format(i)
	}
	return p.fields, nil
}

func (f *fakeSession) Execute(ctx context.Context, portal string, maxRows int) error {
	p, ok := f.portals[portal]
	if !ok {
		return sqlstate.New(sqlstate.InvalidCursorName, "portal %q does not exist", portal)
	}
	return f.execute(ctx, p, maxRows)
}

func (f *fakeSession) execute(ctx context.Context, p *fakePortal, maxRows int) error {
	c := f.conn
	switch p.command() {
	case "":
		c.EmptyQuery()
	case "echo":
		c.BeginRow(len(p.values))
		for i, v := range p.values {
			if err := c.Value(p.fields[i].Type, p.format(i), v); err != nil {
				return err
			}
		}
		if err := c.EndRow(); err != nil {
			return err
		}
		c.CommandComplete("SELECT 1")
	case "rows", "bytes":
		return f.rows(p, maxRows)
	case "fail":
		c.BeginRow(2) // a row that never ends must not reach the client
		return sqlstate.New(sqlstate.DivisionByZero, "division by zero")
	case "begin":
		f.status = 'T'
		c.CommandComplete("BEGIN")
	case "commit":
		f.status = 'I'
		c.CommandComplete("COMMIT")
	case "set":
		c.ParameterStatus(p.word(1), p.word(2))
		c.CommandComplete("SET")
	case "wait":
		return f.wait(ctx)
	case "copyin":
		return f.copyIn(p)
	case "copyout":
		return f.copyOut(p)
	case "panic":
		panic("on request")
	}
	return nil
}

func (f *fakeSession) rows(p *fakePortal, maxRows int) error {
	total := p.number(1)
	if p.command() == "bytes" {
		f.conn.BeginRow(1)
		if err := f.conn.Value(oid.Bytea, p.format(0), Value{Kind: Blob, Bytes: make([]byte, total)}); err != nil {
			return err
		}
		if err := f.conn.EndRow(); err != nil {
			return err
		}
		f.conn.CommandComplete("SELECT 1")
		return nil
	}
	for sent := 0; p.row < total; sent++ {
		if maxRows > 0 && sent == maxRows {
			f.conn.PortalSuspended()
			return nil
		}
		p.row++
		f.conn.BeginRow(1)
		if err := f.conn.Value(oid.Int4, p.format(0), Value{Kind: Int, Int: int64(p.row)}); err != nil {
			return err
		}
		if err := f.conn.EndRow(); err != nil {
			return err
		}
	}
	f.conn.CommandComplete(fmt.Sprintf("SELECT %d", total))
	return nil
}

func (f *fakeSession) wait(ctx context.Context) error {
	f.conn.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "waiting"))
	if err := f.conn.flush(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		if f.unknown {
			return sqlstate.New(sqlstate.TransactionUnknown, "the outcome is not known")
		}
		return ctx.Err()
	case <-f.cancelled:
		return sqlstate.New(sqlstate.QueryCanceled, "canceling statement due to user request")
	}
}

func (f *fakeSession) copyIn(p *fakePortal) error {
	format := CopyFormat{Format: p.word(1)}
	r, err := f.conn.CopyIn(p.copyFormat(), make([]int16, p.number(2)))
	if err != nil {
		return err
	}
	d := NewCopyDecoder(r, format, p.number(2))
	for n := 0; ; n++ {
		_, err := d.Next()
		if errors.Is(err, io.EOF) {
			f.conn.CommandComplete(fmt.Sprintf("COPY %d", n))
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (f *fakeSession) copyOut(p *fakePortal) error {
	e := NewCopyEncoder(CopyFormat{Format: p.word(1)})
	f.conn.CopyOut(p.copyFormat(), make([]int16, 2))
	for i := range p.number(2) {
		row := e.Row(nil, [][]byte{appendInt(nil, int64(i)), nil})
		if err := f.conn.CopyData(row); err != nil {
			return err
		}
	}
	f.conn.CopyDone()
	f.conn.CommandComplete(fmt.Sprintf("COPY %d", p.number(2)))
	return nil
}

func (p *fakePortal) copyFormat() int16 {
	if p.word(1) == "binary" {
		return BinaryFormat
	}
	return TextFormat
}

func (f *fakeSession) CloseStatement(name string) error { delete(f.statements, name); return nil }
func (f *fakeSession) ClosePortal(name string) error    { delete(f.portals, name); return nil }
func (f *fakeSession) Sync(context.Context) error       { return nil }
func (f *fakeSession) Status() byte                     { return f.status }
func (f *fakeSession) Close()                           { f.closed = true }
func (f *fakeSession) Cancel()                          { f.cancelled <- struct{}{} }

func (f *fakeSession) Fail() {
	f.fails++
	if f.status == 'T' {
		f.status = 'E'
	}
}

// startServer serves h on a loopback port until the test ends.
func startServer(t testing.TB, h Handler, o Options) (address string, shutdown func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- NewServer(h, o).Serve(ctx, l) }()
	shutdown = func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
			served <- nil
		case <-time.After(time.Minute):
			t.Fatal("the server does not end")
		}
	}
	t.Cleanup(shutdown)
	return l.Addr().String(), shutdown
}
