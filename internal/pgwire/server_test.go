package pgwire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"skein/internal/sqlstate"
)

// dialReady opens a connection with a plain startup message and reads up to ReadyForQuery.
func dialReady(t testing.TB, address string) (net.Conn, *pgproto3.Frontend) {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Write(startupFrame(3<<16, []byte("user\x00alice\x00\x00"))); err != nil {
		t.Fatal(err)
	}
	f := pgproto3.NewFrontend(nc, nc)
	readUntil[*pgproto3.ReadyForQuery](t, f)
	return nc, f
}

func readUntil[M pgproto3.BackendMessage](t testing.TB, f *pgproto3.Frontend) M {
	t.Helper()
	for {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := m.(M); ok {
			return m
		}
	}
}

func send(t testing.TB, nc net.Conn, messages ...pgproto3.FrontendMessage) {
	t.Helper()
	var raw []byte
	for _, m := range messages {
		raw, _ = m.Encode(raw)
	}
	if _, err := nc.Write(raw); err != nil {
		t.Fatal(err)
	}
}

// TestShutdown: idle sessions, running ones and those in the middle of COPY all hear 57P01, and Serve
// returns.
func TestShutdown(t *testing.T) {
	address, shutdown := startServer(t, newFakeHandler(t), Options{Trust: true})
	_, idle := dialReady(t, address)
	busyConn, busy := dialReady(t, address)
	send(t, busyConn, &pgproto3.Query{String: "wait"})
	readUntil[*pgproto3.NoticeResponse](t, busy)
	copyConn, copying := dialReady(t, address)
	send(t, copyConn, &pgproto3.Query{String: "copyin text 1"})
	readUntil[*pgproto3.CopyInResponse](t, copying)

	shutdown()
	for name, f := range map[string]*pgproto3.Frontend{"idle": idle, "busy": busy, "copy": copying} {
		if got := lastWords(f); got != "FATAL 57P01" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// lastWords gives the errors, and ReadyForQuery, that come before the connection closes.
func lastWords(f *pgproto3.Frontend) string {
	var words []string
	for {
		m, err := f.Receive()
		if err != nil {
			return strings.Join(words, ", ")
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			words = append(words, m.Severity+" "+m.Code)
		case *pgproto3.ReadyForQuery:
			words = append(words, "ready")
		}
	}
}

// TestErrorOfItsOwnAtShutdown: what a session has to say about its statement, such as that a commit's
// outcome is unknown, comes before the farewell.
func TestErrorOfItsOwnAtShutdown(t *testing.T) {
	h := newFakeHandler(t)
	h.unknown = true
	address, shutdown := startServer(t, h, Options{Trust: true})
	nc, f := dialReady(t, address)
	send(t, nc, &pgproto3.Query{String: "wait"})
	readUntil[*pgproto3.NoticeResponse](t, f)
	shutdown()
	if got := lastWords(f); got != "ERROR 08007, FATAL 57P01" {
		t.Error(got)
	}
}

// TestClientLostDuringCopy: the rows that have come are not kept.
func TestClientLostDuringCopy(t *testing.T) {
	client := &scripted{in: bytes.NewReader(append(startupFrame(3<<16, []byte("user\x00alice\x00\x00")),
		encode(&pgproto3.Query{String: "copyin text 1"}, &pgproto3.CopyData{Data: []byte("1\n")})...))}
	server := NewServer(newFakeHandler(t), Options{Trust: true})
	server.enter()
	server.serve(context.Background(), client)
	if bytes.Contains(client.out.Bytes(), []byte("COPY 1")) {
		t.Error("the COPY was completed")
	}
}

// TestManyParameters: 65535 is the most that the protocol can count.
func TestManyParameters(t *testing.T) {
	address, _ := startServer(t, newFakeHandler(t), Options{Trust: true})
	nc, f := dialReady(t, address)
	const n = 65535
	params := make([][]byte, n)
	for i := range params {
		params[i] = []byte("7")
	}
	send(t, nc, &pgproto3.Parse{Query: "echo" + strings.Repeat(" int4", n), ParameterOIDs: make([]uint32, n)},
		&pgproto3.Bind{Parameters: params}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if row := readUntil[*pgproto3.DataRow](t, f); len(row.Values) != n || string(row.Values[n-1]) != "7" {
		t.Error(len(row.Values))
	}
	readUntil[*pgproto3.ReadyForQuery](t, f)
}

// TestTerminateAndBetween: another goroutine can end a session, and speak to an idle client.
func TestTerminateAndBetween(t *testing.T) {
	h := newFakeHandler(t)
	h.sessions = make(chan *fakeSession, 1)
	address, _ := startServer(t, h, Options{Trust: true})
	nc, f := dialReady(t, address)
	session := <-h.sessions

	session.conn.Between(func() { session.conn.ParameterStatus("in_hot_standby", "off") })
	if m := readUntil[*pgproto3.ParameterStatus](t, f); m.Name != "in_hot_standby" {
		t.Error(m)
	}
	// During COPY the connection is not between messages; the words come after it.
	send(t, nc, &pgproto3.Query{String: "copyin text 1"})
	readUntil[*pgproto3.CopyInResponse](t, f)
	session.conn.Between(func() { session.conn.ParameterStatus("x", "y") })
	send(t, nc, &pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{})
	readUntil[*pgproto3.CommandComplete](t, f)
	if m := readUntil[*pgproto3.ParameterStatus](t, f); m.Name != "x" {
		t.Error(m)
	}
	session.conn.Terminate(sqlstate.New(sqlstate.IdleInTransactionTimeout, "too long idle"))
	if m := readUntil[*pgproto3.ErrorResponse](t, f); m.Code != "25P03" || m.Severity != "FATAL" {
		t.Error(m)
	}
	if _, err := f.Receive(); err == nil {
		t.Error("the connection goes on")
	}
}

// TestClientThatNeverReads: the write timeout ends its session, which frees what it holds.
func TestClientThatNeverReads(t *testing.T) {
	h := newFakeHandler(t)
	h.sessions = make(chan *fakeSession, 1)
	address, _ := startServer(t, h, Options{Trust: true, WriteTimeout: 100 * time.Millisecond})
	nc, _ := dialReady(t, address)
	session := <-h.sessions
	send(t, nc, &pgproto3.Query{String: "rows 1000000"}, &pgproto3.Query{String: "rows 1000000"})
	select {
	case <-session.conn.ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("the session goes on")
	}
}

// TestConnectionsThatSayNothing: beyond the limit they are dropped, and a session that is open works.
func TestConnectionsThatSayNothing(t *testing.T) {
	address, _ := startServer(t, newFakeHandler(t), Options{Trust: true, MaxUnauthenticated: 10})
	nc, f := dialReady(t, address)
	dropped := make(chan struct{}, 50)
	for range cap(dropped) {
		silent, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		go func() {
			if _, err := silent.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				dropped <- struct{}{}
			}
		}()
	}
	for n := range 40 {
		select {
		case <-dropped:
		case <-time.After(time.Minute):
			t.Fatalf("only %d of %d were dropped", n, cap(dropped))
		}
	}
	send(t, nc, &pgproto3.Query{String: "rows 1"})
	readUntil[*pgproto3.ReadyForQuery](t, f)
}

// TestStorm: many clients at once for few places. Each is served or told 53300, a session that is open
// is answered all the while, and in the end every place is free again.
func TestStorm(t *testing.T) {
	const places = 20
	address, _ := startServer(t, newFakeHandler(t), Options{Trust: true, MaxConnections: places})
	nc, f := dialReady(t, address)
	outcomes := make(chan string, 500)
	for range cap(outcomes) {
		go func() { outcomes <- connectOnce(address) }()
	}
	counts := map[string]int{}
	for range cap(outcomes) {
		send(t, nc, &pgproto3.Query{String: "rows 1"})
		readUntil[*pgproto3.ReadyForQuery](t, f)
		counts[<-outcomes]++
	}
	if counts["ready"] == 0 || counts["ready"]+counts["53300"] != cap(outcomes) {
		t.Error(counts)
	}
	for range places - 1 {
		for connectOnce(address) != "ready" { // the last of the storm may still be on their way out
			continue
		}
	}
}

// connectOnce gives "ready", a SQLSTATE, or what went wrong.
func connectOnce(address string) string {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Write(startupFrame(3<<16, []byte("user\x00alice\x00\x00"))); err != nil {
		return err.Error()
	}
	f := pgproto3.NewFrontend(nc, nc)
	for {
		m, err := f.Receive()
		if err != nil {
			return err.Error()
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return m.Code
		case *pgproto3.ReadyForQuery:
			return "ready"
		}
	}
}

// TestAcceptErrorEndsServe: Serve does not spin on a listener that is gone.
func TestAcceptErrorEndsServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := NewServer(newFakeHandler(t), Options{}).Serve(context.Background(), l); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
