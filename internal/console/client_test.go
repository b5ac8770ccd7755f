package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"skein/internal/failover"
	"skein/internal/overview"
)

// fake is a member that answers skein_overview(), for as many times as it lives.
type fake struct {
	overview overview.Overview
	refuses  *pgproto3.ErrorResponse
	dies     bool // after its next answer
	asked    atomic.Int32
}

// listen gives its address.
func (f *fake) listen(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				f.converse(conn)
				if f.dies && f.asked.Load() > 0 {
					_ = listener.Close()
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func (f *fake) converse(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		if _, ok := m.(*pgproto3.Sync); !ok {
			continue
		}
		if f.dies && f.asked.Load() > 0 {
			return
		}
		f.asked.Add(1)
		if f.refuses != nil {
			b.Send(f.refuses)
		} else {
			text, _ := json.Marshal(f.overview)
			b.Send(&pgproto3.ParseComplete{})
			b.Send(&pgproto3.BindComplete{})
			b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("skein_overview"), DataTypeOID: 25}}})
			b.Send(&pgproto3.DataRow{Values: [][]byte{text}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		}
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func clientOf(t *testing.T, addresses ...string) *client {
	t.Helper()
	c, err := newClient("postgres://skein@" + strings.Join(addresses, ",") + "/skein?sslmode=disable&target_session_attrs=read-write")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func TestOneThatKnowsIsAsked(t *testing.T) {
	blind := &fake{overview: overview.Overview{Asked: "blind", Version: 7, Blind: "alone"}}
	newer := &fake{overview: overview.Overview{Asked: "newer", Version: 9, Blind: "alone"}}
	sees := &fake{overview: overview.Overview{Asked: "sees", Version: 8}}
	nowhere := "127.0.0.1:1"
	for _, test := range []struct {
		name string
		of   []string
		want string
	}{
		{"the first that answers", []string{nowhere, sees.listen(t), blind.listen(t)}, "sees"},
		{"another one, if that has lost the coordinator", []string{blind.listen(t), nowhere, sees.listen(t)}, "sees"},
		{"the one that knows most, if all have", []string{blind.listen(t), newer.listen(t), blind.listen(t)}, "newer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, err := clientOf(t, test.of...).overview(t.Context())
			if err != nil || o.Asked != test.want {
				t.Errorf("%s has answered, error %v", o.Asked, err)
			}
		})
	}
}

// A member that was never named is asked too, once one has told of it.
func TestMembersAreRemembered(t *testing.T) {
	other := &fake{overview: overview.Overview{Asked: "other"}}
	first := &fake{dies: true, overview: overview.Overview{Asked: "first", Members: []overview.Member{{Name: "other", Address: other.listen(t)}, {Name: "witness"}}}}
	c := clientOf(t, first.listen(t))
	for _, want := range []string{"first", "other"} {
		if o, err := c.overview(t.Context()); err != nil || o.Asked != want {
			t.Errorf("%s has answered instead of %s, error %v", o.Asked, want, err)
		}
	}
}

func TestWhoCannotAnswer(t *testing.T) {
	for _, test := range []struct {
		name string
		fake *fake
		want string
	}{
		{"some other database", &fake{refuses: &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42883", Message: "function skein_overview() does not exist"}}, errNotSkein.Error()},
		{"a role that may not", &fake{refuses: &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501", Message: "permission denied"}}, "permission denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := clientOf(t, test.fake.listen(t)).overview(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	c := clientOf(t, "127.0.0.1:1", "127.0.0.1:2")
	if _, err := c.overview(t.Context()); err == nil || err.Error() != "no node answers\n  127.0.0.1:1: connect: connection refused\n  127.0.0.1:2: connect: connection refused" {
		t.Errorf("error %v", err)
	}
}

func TestStatusOfNobody(t *testing.T) {
	for _, json := range []bool{false, true} {
		var out bytes.Buffer
		err := Status(t.Context(), Options{ConnString: "postgres://skein@127.0.0.1:1/skein?sslmode=disable", Out: &out, JSON: json})
		if !errors.Is(err, ErrUnknown) || !strings.Contains(out.String(), "no node answers") {
			t.Errorf("error %v\n%s", err, &out)
		}
	}
}

// Watching prints what has changed, and goes on when nobody answers.
func TestWatch(t *testing.T) {
	f := &fake{overview: overview.Of(three().Source), dies: true}
	for i := range f.overview.Members {
		f.overview.Members[i].Address = "" // nobody is there
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &untilWritten{want: "no node answers", stop: stop}
	if err := Watch(ctx, Options{ConnString: "postgres://skein@" + f.listen(t) + "/skein?sslmode=disable", Out: out}); err != nil {
		t.Fatal(err)
	}
	if text := out.text; !strings.HasPrefix(text, "● healthy   node1 leads epoch 5") || strings.Count(text, "healthy") != 1 || strings.Contains(text, "\x1b") {
		t.Errorf("shown\n%s", text)
	}
}

func TestWatchOnATerminalDrawsInPlace(t *testing.T) {
	f := &fake{overview: overview.Of(three().Source), dies: true}
	for i := range f.overview.Members {
		f.overview.Members[i].Address = "" // nobody is there
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &untilWritten{want: "no node answers", stop: stop}
	if err := Watch(ctx, Options{ConnString: "postgres://skein@" + f.listen(t) + "/skein?sslmode=disable", Out: out, Terminal: true}); err != nil {
		t.Fatal(err)
	}
	text := out.text
	if !strings.HasPrefix(text, enterScreen+home) || strings.Count(text, home) != 2 || strings.Count(text, restBelow) != 2 {
		t.Errorf("drawn as %q", text)
	}
	after := text[strings.Index(text, leaveScreen)+len(leaveScreen):]
	if !strings.Contains(after, "no node answers") || strings.Contains(after, restOfLine) {
		t.Errorf("left behind %q", after)
	}
}

// untilWritten ends what writes once it has written this.
type untilWritten struct {
	text string
	want string
	stop context.CancelFunc
}

func (u *untilWritten) Write(b []byte) (int, error) {
	u.text += string(b)
	if strings.Contains(u.text, u.want) {
		u.stop()
	}
	return len(b), nil
}

func TestMoments(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	now := time.Date(2026, 5, 1, 20, 0, 0, 0, zone)
	for text, want := range map[string]string{
		"":                     "",
		"22:30":                "2026-05-01T22:30:00+02:00",
		"06:00":                "2026-05-02T06:00:00+02:00",
		"22:30:15":             "2026-05-01T22:30:15+02:00",
		"2026-05-03 01:00":     "2026-05-03T01:00:00+02:00",
		"2026-05-03T01:00:00":  "2026-05-03T01:00:00+02:00",
		"2026-05-03T01:00:00Z": "2026-05-03T01:00:00Z",
		"+90m":                 "2026-05-01T21:30:00+02:00",
	} {
		if got, err := moment(text, now); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"soon": "is no time", "90m": "is no time", "2026-04-30 01:00": "is over", "25:00": "is no time"} {
		if _, err := moment(text, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestAPersonIsAsked(t *testing.T) {
	for answer, want := range map[string]error{"y\n": nil, "YES\n": nil, "\n": errNotAgreed, "no\n": errNotAgreed, "": errNotAgreed, "yellow\n": errNotAgreed} {
		var out bytes.Buffer
		o := &order{Options: Options{Terminal: true, In: strings.NewReader(answer), Out: &out}}
		if err := o.ask("Go on?"); !errors.Is(err, want) || !strings.Contains(out.String(), "Go on? [y/N]") {
			t.Errorf("%q: %v, asked %q", answer, err, &out)
		}
	}
	o := &order{Options: Options{In: strings.NewReader("y\n"), Out: &bytes.Buffer{}}}
	if err := o.ask("Go on?"); !errors.Is(err, errNotAgreed) || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("where nobody can be asked: %v", err)
	}
}

func TestWhatAFailoverCosts(t *testing.T) {
	dead := func(s *scene) {
		s.silent("a", 72*time.Second, true)
		s.silent("c", 3*time.Minute, false)
	}
	for _, test := range []struct {
		name  string
		spoil func(*scene)
		f     FailoverOptions
	}{
		{"stake-healthy", func(*scene) {}, FailoverOptions{To: "node2"}},
		{"stake-needless", func(*scene) {}, FailoverOptions{To: "node2", AcceptDataLoss: true}},
		{"stake-leader-answers", func(s *scene) { s.silent("c", time.Minute, true) }, FailoverOptions{To: "node2"}},
		{"stake-none", func(s *scene) { s.silent("a", time.Minute, true) }, FailoverOptions{To: "node2", AcceptDataLoss: true}},
		{"stake-refused", dead, FailoverOptions{To: "node2"}},
		{"stake-accepted", func(s *scene) {
			dead(s)
			s.node("b").Position.LSN = 6700
		}, FailoverOptions{To: "node2", AcceptDataLoss: true}},
		{"stake-unknown", func(s *scene) { s.blind("b") }, FailoverOptions{To: "node2", AcceptDataLoss: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := three()
			test.spoil(s)
			golden(t, test.name, style{}.stake(overview.Of(s.Source), test.f))
		})
	}
}

func TestDryRuns(t *testing.T) {
	for _, sc := range scenes {
		switch sc.name {
		case "healthy", "asynchronous", "two-dead", "electing", "attributes", "witness", "blind-follower":
			t.Run(sc.name, func(t *testing.T) {
				s := three()
				sc.spoil(s)
				golden(t, "dry-run-"+sc.name, style{}.prospects(overview.Of(s.Source)))
			})
		}
	}
}

func TestHistoryIsDrawn(t *testing.T) {
	t.Setenv("TZ", "UTC")
	took, long := 18.0, 95_000.0
	golden(t, "history", style{}.history([]event{
		{At: "2026-05-01 12:00:00+00", Kind: string(failover.JoinEvent), Epoch: "1", Node: "node2", Text: "node2 joined"},
		{At: "2026-05-01 12:00:01.25+00", Kind: string(failover.PromotionEvent), Epoch: "12", Node: "node1", TookMS: &took, Text: "node1 leads epoch 12"},
		{At: "who knows", Kind: string(failover.ReturnEvent), Epoch: "12", Node: "node1", TookMS: &long, Text: "commits wait again"},
	}))
}

func TestColoursAreForTerminals(t *testing.T) {
	s := three()
	plain, coloured := style{}.draw(overview.Of(s.Source)), style{color: true}.draw(overview.Of(s.Source))
	if strings.Contains(plain, "\x1b") || !strings.Contains(coloured, "\x1b[32m● healthy\x1b[0m") {
		t.Errorf("plain %q\ncoloured %q", plain, coloured)
	}
}
