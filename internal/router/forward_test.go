package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pgwire"
)

// leaders are what a router finds one after the other: each connection is answered by the next.
type leaders struct {
	t       *testing.T
	answers []answering
	running sync.WaitGroup

	mu    sync.Mutex
	epoch history.Epoch
	got   []string // what arrived, in order: "1 INSERT …", with the number of the connection
}

// answering is a leader's side of one connection, after its startup: it reads messages and answers them.
type answering func(l *conversation)

// conversation is a leader's side of a connection.
type conversation struct {
	*pgproto3.Backend
	conn   net.Conn
	number int
	all    *leaders
}

func (l *leaders) Leader() (Leader, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Leader{Name: "n", Epoch: 1 + l.epoch}, len(l.answers) > 0
}

func (l *leaders) Changed() <-chan struct{} { return nil }

func (l *leaders) Dial(context.Context, Leader) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.answers) == 0 {
		return nil, errors.New("nobody is left")
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	near, far := pair(l.t)
	c := &conversation{pgproto3.NewBackend(far, far), far, len(l.got), l}
	l.got = append(l.got, "")
	l.running.Go(func() {
		defer func() { _ = far.Close() }()
		if _, err := c.ReceiveStartupMessage(); err == nil {
			answer(c)
		}
	})
	return near, nil
}

// pair is a connection on this machine: unlike a pipe it takes what nobody reads yet.
func pair(t *testing.T) (near, far net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
	}
	defer func() { _ = listener.Close() }()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Error(err)
	}
	if far, err = listener.Accept(); err != nil {
		t.Error(err)
	}
	return near, far
}

// open answers the startup.
func (c *conversation) open() {
	c.Send(&pgproto3.AuthenticationOk{})
	c.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	c.ready('I')
}

func (c *conversation) ready(status byte) { c.say(&pgproto3.ReadyForQuery{TxStatus: status}) }

func (c *conversation) say(messages ...pgproto3.BackendMessage) {
	for _, m := range messages {
		c.Send(m)
	}
	_ = c.Flush()
}

func failure(severity, code string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: "failed"}
}

// hear reads up to a Query or Sync and gives its text, or those of the Parse messages before it; "" at the end.
func (c *conversation) hear() string {
	var texts []string
	for {
		m, err := c.Receive()
		if err != nil {
			return ""
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			texts = append(texts, m.String)
		case *pgproto3.Parse:
			texts = append(texts, m.Query)
			continue
		case *pgproto3.Sync:
		default:
			continue
		}
		text := strings.Join(texts, "; ")
		c.all.mu.Lock()
		c.all.got[c.number] += "[" + text + "]"
		c.all.mu.Unlock()
		return text
	}
}

// blind is a node that has seen nothing.
type blind struct{ Freshness }

func (blind) Visible() history.LSN             { return 0 }
func (blind) Staleness() (time.Duration, bool) { return 0, false }
func (blind) Delayed() bool                    { return true }

// serve is a client's connection to a router that finds these leaders.
func serve(t *testing.T, answers ...answering) (*pgproto3.Frontend, *leaders) {
	t.Helper()
	l := &leaders{t: t, answers: answers}
	r := New(Options{Cluster: l, Fresh: blind{}, Name: "here"})
	r.Enter(engine.Hollow(nil))
	return l.client(r), l
}

// client connects to a router.
func (l *leaders) client(r *Router) *pgproto3.Frontend {
	t := l.t
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.Run(ctx) })
	serving.Go(func() { _ = pgwire.NewServer(r, pgwire.Options{Trust: true}).Serve(ctx, listener) })
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		serving.Wait()
		l.running.Wait()
	})
	f := pgproto3.NewFrontend(conn, conn)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": "skein", "database": "skein", "skein.failover_wait": "1min",
	}})
	_ = f.Flush()
	if got := answer(t, f); !strings.HasSuffix(got, "[I]") {
		t.Fatal(got)
	}
	return f
}

// answer reads up to ReadyForQuery.
func answer(t *testing.T, f *pgproto3.Frontend) string {
	t.Helper()
	var got []string
	for {
		m, err := f.Receive()
		if err != nil {
			return strings.Join(append(got, "end"), " ")
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			got = append(got, m.Code)
		case *pgproto3.CommandComplete:
			got = append(got, strings.ReplaceAll(string(m.CommandTag), " ", "-"))
		case *pgproto3.DataRow:
			got = append(got, "row:"+string(m.Values[0]))
		case *pgproto3.ParseComplete:
			got = append(got, "1")
		case *pgproto3.BindComplete:
			got = append(got, "2")
		case *pgproto3.ReadyForQuery:
			return strings.Join(append(got, fmt.Sprintf("[%c]", m.TxStatus)), " ")
		}
	}
}

func query(t *testing.T, f *pgproto3.Frontend, sql string) string {
	t.Helper()
	f.Send(&pgproto3.Query{String: sql})
	_ = f.Flush()
	return answer(t, f)
}

// extended is query in the extended protocol.
func extended(t *testing.T, f *pgproto3.Frontend, texts string) string {
	t.Helper()
	for sql := range strings.SplitSeq(texts, "; ") {
		f.Send(&pgproto3.Parse{Query: sql})
		f.Send(&pgproto3.Bind{})
		f.Send(&pgproto3.Execute{})
	}
	f.Send(&pgproto3.Sync{})
	_ = f.Flush()
	return answer(t, f)
}

// The answers of leaders that the scenarios are made of.

func refusesSessions(c *conversation) { c.say(failure("FATAL", "SK001")) }

// then answers one text after the other.
func then(texts ...func(c *conversation)) answering {
	return func(c *conversation) {
		c.open()
		for _, answer := range texts {
			if c.hear() == "" {
				return
			}
			answer(c)
		}
		c.hear() // until the router hangs up
	}
}

func done(tag string, status byte) func(*conversation) {
	return func(c *conversation) {
		c.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
		c.ready(status)
	}
}

func refuses(c *conversation) { c.say(failure("ERROR", "SK001")) }
func hangsUp(c *conversation) { _ = c.conn.Close() }

// dies hangs up, and another one leads.
func dies(c *conversation) {
	c.all.mu.Lock()
	c.all.epoch++
	c.all.mu.Unlock()
	hangsUp(c)
}

// says answers the question for a token.
func says(status string) answering {
	return then(func(c *conversation) {
		for _, m := range row(status) {
			c.Send(m)
		}
		done("SELECT 1", 'I')(c)
	})
}

func leavesUnknown(c *conversation) {
	c.say(failure("ERROR", "08007"), failure("FATAL", "SK001"))
	_ = c.conn.Close()
}

func row(value string) []pgproto3.BackendMessage {
	return []pgproto3.BackendMessage{
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a"), DataTypeOID: 25}}},
		&pgproto3.DataRow{Values: [][]byte{[]byte(value)}},
	}
}

func rowThenRefuses(c *conversation) {
	c.say(append(row("of the first"), failure("FATAL", "SK001"))...)
	_ = c.conn.Close()
}

func rowThenDone(c *conversation) {
	for _, m := range row("of the second") {
		c.Send(m)
	}
	done("INSERT 0 1", 'I')(c)
}

// Nothing is done twice, and nothing that may have been done is called failed (I6).
func TestWhatIsSentToTheNextLeader(t *testing.T) {
	const insert = "INSERT INTO t VALUES (1)"
	for _, test := range []struct {
		name    string
		leaders []answering
		sql     []string
		want    []string // answers
		got     []string // what each leader heard
	}{
		{
			"a leader that takes no sessions has done nothing",
			[]answering{refusesSessions, then(done("INSERT 0 1", 'I'))},
			[]string{insert},
			[]string{"INSERT-0-1 [I]"},
			[]string{"", "[" + insert + "]"},
		},
		{
			"one that refuses has done nothing",
			[]answering{then(refuses), then(done("INSERT 0 1", 'I'))},
			[]string{insert},
			[]string{"INSERT-0-1 [I]"},
			[]string{"[" + insert + "]", "[" + insert + "]"},
		},
		{
			"one that hangs up may have done it",
			[]answering{then(hangsUp), then(done("INSERT 0 1", 'I'))},
			[]string{insert},
			[]string{"08007 [I]"},
			[]string{"[" + insert + "]"},
		},
		{
			"one that says that the outcome is unknown may have done it, whatever it says after that",
			[]answering{then(leavesUnknown), then(done("INSERT 0 1", 'I'))},
			[]string{insert, insert},
			[]string{"08007 [I]", "INSERT-0-1 [I]"},
			[]string{"[" + insert + "]", "[" + insert + "]"},
		},
		{
			"rows of a statement that was refused in the end are taken back",
			[]answering{then(rowThenRefuses), then(rowThenDone)},
			[]string{insert + " RETURNING a"},
			[]string{"row:of the second INSERT-0-1 [I]"},
			[]string{"[" + insert + " RETURNING a]", "[" + insert + " RETURNING a]"},
		},
		{
			"a text that commits in its middle is not sent again",
			[]answering{then(func(c *conversation) {
				c.say(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}, &pgproto3.CommandComplete{CommandTag: []byte("COMMIT")}, failure("FATAL", "SK001"))
				_ = c.conn.Close()
			}), then(done("INSERT 0 1", 'I'))},
			[]string{"BEGIN; " + insert + "; COMMIT; " + insert},
			[]string{"INSERT-0-1 COMMIT 57P03 [I]"},
			[]string{"[BEGIN; " + insert + "; COMMIT; " + insert + "]"},
		},
		{
			"a block in which nothing has run begins again",
			[]answering{then(done("BEGIN", 'T'), hangsUp), then(done("BEGIN", 'T'), done("INSERT 0 1", 'T'), done("COMMIT", 'I'))},
			[]string{"BEGIN", insert, "COMMIT"},
			[]string{"BEGIN [T]", "INSERT-0-1 [T]", "COMMIT [I]"},
			[]string{"[BEGIN][" + insert + "]", "[BEGIN][" + insert + "][COMMIT]"},
		},
		{
			"a BEGIN that is not answered is sent again",
			[]answering{then(hangsUp), then(done("BEGIN", 'T'), done("INSERT 0 1", 'T'), done("COMMIT", 'I'))},
			[]string{"BEGIN", insert, "COMMIT"},
			[]string{"BEGIN [T]", "INSERT-0-1 [T]", "COMMIT [I]"},
			[]string{"[BEGIN]", "[BEGIN][" + insert + "][COMMIT]"},
		},
		{
			"and no leader that answers it is nothing unknown",
			[]answering{then(hangsUp)},
			[]string{"SET skein.failover_wait = '1s'", "BEGIN"},
			[]string{"SET [I]", "57P03 [I]"},
			[]string{"[BEGIN]"},
		},
		{
			"one in which something has run is lost",
			[]answering{then(done("BEGIN", 'T'), done("INSERT 0 1", 'T'), hangsUp), then(done("INSERT 0 1", 'I'))},
			[]string{"BEGIN", insert, insert, insert, "ROLLBACK", insert},
			[]string{"BEGIN [T]", "INSERT-0-1 [T]", "40001 [E]", "25P02 [E]", "ROLLBACK [I]", "INSERT-0-1 [I]"},
			[]string{"[BEGIN][" + insert + "][" + insert + "]", "[" + insert + "]"},
		},
		{
			"a COMMIT that is not answered may have been done",
			[]answering{then(done("BEGIN", 'T'), done("INSERT 0 1", 'T'), hangsUp), then(done("INSERT 0 1", 'I'))},
			[]string{"BEGIN", insert, "COMMIT", insert},
			[]string{"BEGIN [T]", "INSERT-0-1 [T]", "08007 [I]", "INSERT-0-1 [I]"},
			[]string{"[BEGIN][" + insert + "][COMMIT]", "[" + insert + "]"},
		},
		{
			"nobody leads",
			nil,
			[]string{"SET skein.failover_wait = '50ms'", insert, "SHOW skein.failover_wait"},
			[]string{"SET [I]", "57P03 [I]", "row:50ms SHOW [I]"},
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, l := serve(t, test.leaders...)
			for i, sql := range test.sql {
				if got := query(t, f, sql); got != test.want[i] {
					t.Errorf("%s: %s, want %s", sql, got, test.want[i])
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if !slices.Equal(l.got, test.got) {
				t.Errorf("the leaders heard %q, want %q", l.got, test.got)
			}
		})
	}
}

// What is bound is what the same pipeline has prepared before, and not what had its name until then.
func TestAReadAfterAWriteOfTheSameNameIsNotTakenForIt(t *testing.T) {
	f, l := serve(t, then(func(c *conversation) {
		c.say(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}))
	for _, step := range [][2]string{{"INSERT INTO t VALUES (1)", "1 2 INSERT-0-1 [I]"}, {"SHOW skein.failover_wait", "1 2 row:1min SHOW [I]"}} {
		sql, want := step[0], step[1]
		if got := extended(t, f, sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if want := []string{"[INSERT INTO t VALUES (1)]"}; !slices.Equal(l.got, want) {
		t.Errorf("the leader heard %q, want %q", l.got, want)
	}
}

// What has become of a transaction with a token is asked. While the leader is the same, its COMMIT may come to it after the question (T7).
func TestABlockWithATokenWhoseCommitIsNotAnswered(t *testing.T) {
	const insert = "INSERT INTO t VALUES (1)"
	for _, test := range []struct {
		name   string
		ends   func(*conversation)
		status string
		want   string
	}{
		{"the leader is the same, and has it", hangsUp, "committed", "INSERT COMMIT [I]"},
		{"the leader is the same, and may come to it", hangsUp, "unknown", "08007 [I]"},
		{"another one leads and has it", dies, "committed", "INSERT COMMIT [I]"},
		{"another one leads and never comes to it", dies, "unknown", "40001 [I]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, _ := serve(t, then(done("BEGIN", 'T'), test.ends), then(), says(test.status))
			for _, step := range [][2]string{{"SET skein.transaction_token = 'x'", "SET [I]"}, {"BEGIN", "BEGIN [T]"}, {insert + "; COMMIT", test.want}} {
				if got := query(t, f, step[0]); got != step[1] {
					t.Errorf("%s: %s, want %s", step[0], got, step[1])
				}
			}
		})
	}
}

// A pipeline whose leader refuses in the end is answered by the next one, once.
func TestAPipelineIsAnsweredOnce(t *testing.T) {
	parts := []pgproto3.BackendMessage{&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}}
	f, l := serve(t,
		then(func(c *conversation) {
			c.say(append(slices.Clone(parts), failure("FATAL", "SK001"))...)
			_ = c.conn.Close()
		}),
		then(func(c *conversation) { c.say(append(slices.Clone(parts), &pgproto3.ReadyForQuery{TxStatus: 'I'})...) }))
	f.Send(&pgproto3.Parse{Name: "s", Query: "INSERT INTO t VALUES ($1)"})
	f.Send(&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("1")}})
	f.Send(&pgproto3.Execute{})
	f.Send(&pgproto3.Sync{})
	_ = f.Flush()
	if got, want := answer(t, f), "1 2 INSERT-0-1 [I]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if want := []string{"[INSERT INTO t VALUES ($1)]", "[INSERT INTO t VALUES ($1)]"}; !slices.Equal(l.got, want) {
		t.Errorf("the leaders heard %q, want %q", l.got, want)
	}
}
