// Package claims has clients write to a cluster, keeps what they were told of every write, and holds that against what
// the cluster has in the end: nothing acknowledged may be missing, nothing refused may be there, nothing may be there twice.
//
// A write is a row with a number that is used once. Its outcome is acknowledged, refused or, when the reply was lost,
// unknown: then the row may be there or not. Clients know several addresses and look for the node that takes writes
// by themselves, as applications do.
//
// Start begins the clients, which run until Stop; all methods may be called from any goroutine.
package claims

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/history"
	"skein/internal/rest"
)

// DefaultTimeout is how long a client waits for one reply before it connects anew.
const DefaultTimeout = time.Second

// again is how long a client waits after an error.
const again = 2 * time.Millisecond

// Outcome is what a client knows of a write.
type Outcome uint8

// The outcomes.
const (
	Unknown Outcome = iota // the reply was lost, or says so
	Acknowledged
	Refused // an error that promises that nothing has happened
)

func (o Outcome) String() string { return [...]string{"unknown", "acknowledged", "refused"}[o] }

// Key names a write.
type Key struct{ Client, Number int }

// Write is one that a client has sent.
type Write struct {
	Key
	Outcome    Outcome
	Code       string        // SQLSTATE of the error; "" if there was none or it had none
	Sent, Told time.Duration // since Start
	Leader     *Leadership   // who has written it, as far as that was learnt; or whom it was sent to
}

func (w Write) String() string {
	return fmt.Sprintf("write %d of client %d (%v %s, sent at %.3f s to %v, told at %.3f s)",
		w.Number, w.Client, w.Outcome, w.Code, w.Sent.Seconds(), w.Leader, w.Told.Seconds())
}

// Leadership is a node that takes writes, for as long as it leads.
type Leadership struct {
	Address string // "" of a leader to whom another node has forwarded
	Epoch   uint64
}

func (l *Leadership) String() string {
	if l == nil {
		return "nobody"
	}
	return fmt.Sprintf("%s in epoch %d", l.Address, l.Epoch)
}

// Options of Start. Only URL and Clients are required.
type Options struct {
	URL     func() string // with all hosts; asked for every connection
	Clients int
	Table   string        // "claims"
	Level   string        // synchronous_commit of the clients' sessions; "" is the server's
	Timeout time.Duration // of one reply; DefaultTimeout
	Pause   time.Duration // after each write
}

// Writers are clients at work.
type Writers struct {
	options Options
	began   time.Time
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	writes []Write
	acked  int
	news   chan struct{} // closed at the next acknowledgement
}

// URL is that of a database which several nodes have, at one of which clients may write.
func URL(database string, addresses ...string) string {
	return "postgres://skein@" + strings.Join(addresses, ",") + "/" + database + "?target_session_attrs=read-write"
}

// To is an Options.URL that never changes.
func To(url string) func() string { return func() string { return url } }

// Connect gives a session that may write, on whichever node leads. Whoever does not answer in time is passed over.
func Connect(ctx context.Context, o Options) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(o.URL())
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = cmp.Or(o.Timeout, DefaultTimeout)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip for each, the first too
	if o.Level != "" {
		config.RuntimeParams["synchronous_commit"] = o.Level
	}
	return pgx.ConnectConfig(ctx, config)
}

// Start makes the table and lets the clients loose. They end with ctx, or with Stop.
func Start(ctx context.Context, o Options) (*Writers, error) {
	if o.Table == "" {
		o.Table = "claims"
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	if err := prepare(ctx, o); err != nil {
		return nil, fmt.Errorf("make table %s: %w", o.Table, err)
	}
	ctx, stop := context.WithCancel(ctx)
	w := &Writers{options: o, began: time.Now(), stop: stop, news: make(chan struct{})}
	for i := range o.Clients {
		w.running.Go(func() { w.write(ctx, i) })
	}
	return w, nil
}

func prepare(ctx context.Context, o Options) error {
	conn, err := Connect(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "CREATE TABLE "+o.Table+" (client int NOT NULL, n int NOT NULL)")
	return err
}

// Stop ends the clients and waits for them.
func (w *Writers) Stop() {
	w.stop()
	w.running.Wait()
}

// Writes gives all that have been told of so far, in that order.
func (w *Writers) Writes() []Write {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.writes)
}

// Since is the time since Start, by which writes are timed.
func (w *Writers) Since() time.Duration { return time.Since(w.began) }

// Acknowledged is how many writes have been so far.
func (w *Writers) Acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// AwaitFrom waits for the first acknowledgement of a write that was sent at from or later.
func (w *Writers) AwaitFrom(ctx context.Context, from time.Duration) (Write, error) {
	for {
		w.mu.Lock()
		news := w.news
		acked := w.ackedFrom(from)
		w.mu.Unlock()
		if len(acked) > 0 {
			return acked[0], nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Write{}, context.Cause(ctx)
		}
	}
}

// AckedFrom is how many writes that were sent at from or later have been acknowledged.
func (w *Writers) AckedFrom(from time.Duration) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ackedFrom(from))
}

// ackedFrom lists them in the order in which they were told; mu is held.
func (w *Writers) ackedFrom(from time.Duration) (acked []Write) {
	for _, one := range slices.Backward(w.writes) {
		if one.Told < from {
			break
		}
		if one.Outcome == Acknowledged && one.Sent >= from {
			acked = append(acked, one)
		}
	}
	slices.Reverse(acked)
	return acked
}

// AwaitMore waits for so many more acknowledgements.
func (w *Writers) AwaitMore(ctx context.Context, more int) error {
	for want := w.Acknowledged() + more; ; {
		w.mu.Lock()
		news, have := w.news, w.acked
		w.mu.Unlock()
		if have >= want {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d acknowledgements: %w", have, want, context.Cause(ctx))
		}
	}
}

// write is one client's life: it never sends a number twice, whatever became of it.
func (w *Writers) write(ctx context.Context, client int) {
	for n := 1; ctx.Err() == nil; {
		conn, leader, err := w.connect(ctx)
		for err == nil && ctx.Err() == nil {
			one := Write{Key: Key{client, n}, Sent: w.Since(), Leader: leader}
			if err = w.insert(ctx, conn, one.Key); pgconn.SafeToRetry(err) {
				break // nothing was sent
			}
			n++
			one.Told, one.Outcome, one.Code = w.Since(), OutcomeOf(err), codeOf(err)
			one.Leader = leader.of(conn)
			w.note(one)
			if w.options.Pause > 0 {
				_ = rest.For(ctx, w.options.Pause)
			}
		}
		if conn != nil {
			closing, cancel := context.WithTimeout(context.Background(), again)
			_ = conn.Close(closing)
			cancel()
		}
		_ = rest.For(ctx, again)
	}
}

// of is who has made the session's last commit. Where its own node does not lead any more, that is another.
func (l *Leadership) of(conn *pgx.Conn) *Leadership {
	b, err := history.ParseBookmark(conn.PgConn().ParameterStatus("skein.last_commit"))
	if err != nil || uint64(b.Epoch) == l.Epoch {
		return l
	}
	return &Leadership{Epoch: uint64(b.Epoch)}
}

// connect gives a session and whom it is with.
func (w *Writers) connect(ctx context.Context) (*pgx.Conn, *Leadership, error) {
	conn, err := Connect(ctx, w.options)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.options.Timeout)
	defer cancel()
	l := &Leadership{Address: conn.PgConn().Conn().RemoteAddr().String()}
	err = conn.QueryRow(ctx, "SELECT epoch FROM skein_status").Scan(&l.Epoch)
	return conn, l, err
}

// insert does not end with ctx at once, so that few outcomes are unknown only because the clients were stopped.
func (w *Writers) insert(ctx context.Context, conn *pgx.Conn, k Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.options.Timeout)
	defer cancel()
	_, err := conn.Exec(ctx, "INSERT INTO "+w.options.Table+" VALUES ($1, $2)", k.Client, k.Number)
	return err
}

func (w *Writers) note(one Write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, one)
	if one.Outcome == Acknowledged {
		w.acked++
		close(w.news)
		w.news = make(chan struct{})
	}
}

// OutcomeOf says what a client knows of a change after an error, or nil.
func OutcomeOf(err error) Outcome {
	code := codeOf(err)
	switch {
	case err == nil:
		return Acknowledged
	case code == "57P03": // there is no leader, and nothing was done
		return Refused
	case code == "" || code == "40003" || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P"):
		return Unknown
	default:
		return Refused
	}
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}
