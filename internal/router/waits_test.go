package router

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pgwire"
)

// stuck is a cluster in which whatever is waited for does not come.
type stuck struct {
	disk    *disk
	ahead   history.LSN // of what this node shows the leader says that it is; 0: it says nothing
	known   bool        // the node has once had all there was
	refuses bool        // there is a leader, and it turns everybody away
}

func (c *stuck) Leader() (Leader, bool)                           { return Leader{Name: "n", Epoch: 1}, c.refuses }
func (c *stuck) Changed() <-chan struct{}                         { return nil }
func (c *stuck) Visible() history.LSN                             { return c.disk.Visible() }
func (c *stuck) Await(ctx context.Context, lsn history.LSN) error { return c.disk.Await(ctx, lsn) }
func (c *stuck) Staleness() (time.Duration, bool)                 { return time.Hour, c.known }
func (c *stuck) Delayed() bool                                    { return false }
func (c *stuck) Locate(history.Bookmark) error                    { return history.ErrAhead }

func (c *stuck) ReadPosition(ctx context.Context, _ string) (history.LSN, error) {
	if c.ahead == 0 {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	return c.Visible() + c.ahead, nil
}

func (c *stuck) Dial(context.Context, Leader) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		_, _ = far.Read(make([]byte, 10_000))
		_, _ = far.Write([]byte("E\x00\x00\x00\x17SFATAL\x00CSK001\x00Mno\x00\x00"))
	}()
	return near, nil
}

// Whatever a session awaits before its statement runs, here or at the leader, its client may give up.
func TestWhatIsAwaitedEndsWithACancelATimeoutAndTheClient(t *testing.T) {
	const read, write = "SELECT a FROM t", "INSERT INTO t VALUES (1)"
	for _, test := range []struct {
		name     string
		node     stuck
		sql      string
		settings string
		extended bool
		away     bool // there is no engine
	}{
		{name: "a first read asks the leader", sql: read},
		{name: "a first read is described", sql: read, extended: true},
		{name: "a first read catches up", node: stuck{ahead: 1}, sql: read},
		{name: "a strong read asks the leader", node: stuck{known: true}, sql: read, settings: "SET skein.read_consistency = 'strong'"},
		{name: "a strong read catches up", node: stuck{known: true, ahead: 1}, sql: read, settings: "SET skein.read_consistency = 'strong'"},
		{name: "a bounded read asks the leader", node: stuck{known: true}, sql: read, settings: "SET skein.read_consistency = 'bounded'"},
		{name: "a causal read asks the leader", node: stuck{known: true}, sql: read, settings: "SET skein.causality_key = 'k'"},
		{name: "a position is waited for", node: stuck{known: true}, sql: read, settings: "SET skein.wait_for = '0/FFFFFF'"},
		{name: "nobody leads", sql: write},
		{name: "nobody leads, for the extended protocol", sql: write, extended: true},
		{name: "nobody leads, for a block", sql: "BEGIN"},
		{name: "the leader turns everybody away", node: stuck{refuses: true}, sql: write},
		{name: "there is no engine", sql: read, away: true},
		{name: "there is no engine, for the extended protocol", sql: read, extended: true, away: true},
	} {
		for _, end := range []string{"a cancel", "a timeout", "the client"} {
			t.Run(test.name+"/"+end, func(t *testing.T) {
				t.Parallel()
				d, e := newDisk(t)
				node := test.node
				node.disk = d
				r := New(Options{Cluster: &node, Fresh: &node, Name: "here"})
				r.Enter(e)
				c, session := connect(t, r)
				settings := "SET skein.failover_wait = '1h'; SET skein.read_wait = '1h';" + test.settings
				if end == "a timeout" {
					settings += "; SET statement_timeout = '50ms'"
				}
				for sql := range strings.SplitSeq("CREATE TABLE t (a int);"+settings, ";") {
					if _, err := c.Exec(t.Context(), sql).ReadAll(); err != nil {
						t.Fatal(sql, err)
					}
				}
				d.following.Store(true)
				if test.away {
					r.Leave(time.Second, errNoEngine)
				}
				answered := make(chan error, 1)
				go func() {
					if test.extended {
						answered <- c.ExecParams(t.Context(), test.sql, nil, nil, nil, nil).Read().Err
						return
					}
					_, err := c.Exec(t.Context(), test.sql).ReadAll()
					answered <- err
				}()
				if end != "a timeout" {
					until(t, "it waits", func() bool { return awaits(session) })
				}
				switch end {
				case "a cancel":
					if err := c.CancelRequest(t.Context()); err != nil {
						t.Fatal(err)
					}
				case "the client":
					_ = c.Conn().Close()
					until(t, "the session ends", func() bool { return !awaits(session) })
					return
				}
				var told *pgconn.PgError
				if err := <-answered; !errors.As(err, &told) || told.Code != "57014" || c.TxStatus() != 'I' {
					t.Fatalf("%v, and the status is %c", err, c.TxStatus())
				}
				if test.away {
					r.Enter(e)
				}
				if _, err := c.Exec(t.Context(), "SHOW work_mem").ReadAll(); err != nil { // it goes on
					t.Error("afterwards:", err)
				}
			})
		}
	}
}

// watched are the sessions of a router, as they are opened.
type watched struct {
	*Router
	opened chan *Session
}

func (w watched) Connect(ctx context.Context, out *pgwire.Conn, st pgwire.Startup) (pgwire.Session, error) {
	s, err := w.Router.Connect(ctx, out, st)
	if err == nil {
		w.opened <- s.(*Session)
	}
	return s, err
}

// awaits says whether a session waits for something.
func awaits(s *Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.giveUp != nil
}

// until waits for something that has to come.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it does not happen", what)
		}
	}
}

// connect opens a client's connection to a router. over is closed when its session has ended.
func connect(t *testing.T, r *Router) (c *pgconn.PgConn, s *Session) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w := watched{r, make(chan *Session, 1)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = pgwire.NewServer(w, pgwire.Options{Trust: true}).Serve(ctx, l) })
	c, err = pgconn.Connect(t.Context(), "postgres://skein@"+l.Addr().String()+"/"+engine.DefaultDatabase+"?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Conn().Close()
		stop()
		serving.Wait()
	})
	return c, <-w.opened
}
