package guarantees

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/claims"
	"skein/internal/rest"
)

const (
	// DefaultPatience is longer than any statement may take: it waits for a leader for skein.failover_wait, 10 s, and for no more
	// than that after what it waits for otherwise.
	DefaultPatience = 20 * time.Second

	// again is how long a client waits before it connects again.
	again = 5 * time.Millisecond

	createTable = "CREATE TABLE entry (number bigint PRIMARY KEY, id bigint NOT NULL)"
	addEntry    = "INSERT INTO entry (number, id) SELECT coalesce(max(number), 0) + 1, $1 FROM entry RETURNING number"
	newestEntry = "SELECT number, id FROM entry ORDER BY number DESC LIMIT 1"
	allEntries  = "SELECT number, id FROM entry"

	idsPerSession = 1_000_000

	noLeader = "57P03"
)

// Node is one that clients may use.
type Node struct{ Name, URL string }

// Options of Start. Nodes and Sessions are required.
type Options struct {
	Nodes    []Node
	Sessions int
	Seed     uint64
	Keys     int           // how many causality keys there are
	Bound    time.Duration // of bounded reads; 200 ms
	Pause    time.Duration // after each operation
	Patience time.Duration // with one operation; DefaultPatience
	Levels   []Level       // that reads have; all
}

// Clients are sessions at work. Their methods may be called from any goroutine.
type Clients struct {
	options Options
	began   time.Time
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	h      History
	blocks int
	latest map[int]Op    // that each session has asked for
	acked  int           // writes
	news   chan struct{} // closed at the next acknowledged write
}

// Start makes the table, through the first node, waits until every node has it, and lets the clients loose. They end with ctx, or with Stop.
func Start(ctx context.Context, o Options) (*Clients, error) {
	o.Bound = cmp.Or(o.Bound, 200*time.Millisecond)
	o.Patience = cmp.Or(o.Patience, DefaultPatience)
	if len(o.Levels) == 0 {
		o.Levels = []Level{Eventual, Session, Bounded, Strong}
	}
	if err := makeTable(ctx, o.Nodes); err != nil {
		return nil, fmt.Errorf("make the table: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	c := &Clients{options: o, began: time.Now(), stop: stop, latest: map[int]Op{}, news: make(chan struct{})}
	for i := range o.Sessions {
		s := &session{Clients: c, number: i + 1, random: rand.New(rand.NewPCG(o.Seed, uint64(i)))}
		c.running.Go(func() { s.live(ctx) })
	}
	return c, nil
}

// makeTable has the table be on every node: an eventual read shows what its node has, which may be that there is no table.
func makeTable(ctx context.Context, nodes []Node) error {
	at := ""
	for _, n := range nodes {
		conn, err := pgx.Connect(ctx, n.URL)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", n.Name, err)
		}
		if at == "" {
			_, err = conn.Exec(ctx, createTable)
			at = conn.PgConn().ParameterStatus("skein.last_commit")
		} else {
			_, err = conn.Exec(ctx, "WAIT FOR LSN '"+at+"'")
		}
		if err := errors.Join(err, conn.Close(ctx)); err != nil {
			return fmt.Errorf("on %s: %w", n.Name, err)
		}
	}
	return nil
}

// Stop ends the clients and waits for them, and gives what they were told.
func (c *Clients) Stop() History {
	c.stop()
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h
}

// Outage notes that a node cannot be relied on until over is called.
func (c *Clients) Outage(node string) (over func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := len(c.h.Outages)
	c.h.Outages = append(c.h.Outages, Outage{Node: node, From: time.Since(c.began)})
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.h.Outages[i].Till = time.Since(c.began)
	}
}

// Acknowledged is how many writes have been so far.
func (c *Clients) Acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

// AwaitMore waits for so many more acknowledged writes.
func (c *Clients) AwaitMore(ctx context.Context, more int) error {
	for want := c.Acknowledged() + more; ; {
		c.mu.Lock()
		news, have := c.news, c.acked
		c.mu.Unlock()
		if have >= want {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d acknowledged writes: %w", have, want, context.Cause(ctx))
		}
	}
}

// Entries gives all that a node has.
func Entries(ctx context.Context, conn *pgx.Conn) ([]Entry, error) {
	rows, err := conn.Query(ctx, allEntries)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Entry])
}

// Latest says what each session has asked for last, and what it was told last, for whoever finds that they do not go on.
func (c *Clients) Latest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := map[int]Op{}
	for _, o := range c.h.Ops {
		told[o.Session] = o
	}
	text := fmt.Sprintf("at %.4f s\n", time.Since(c.began).Seconds())
	for i := range c.options.Sessions {
		asked := c.latest[i+1]
		text += fmt.Sprintf("session %d asked %s at %.4f s for: %v %v\n  and was told: %v\n", i+1, asked.Node, asked.Sent.Seconds(), asked.Level, asked.Action, told[i+1])
	}
	return text
}

func (c *Clients) note(o Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.h.Ops = append(c.h.Ops, o)
	if o.Action == Write && o.Outcome == claims.Acknowledged {
		c.acked++
		close(c.news)
		c.news = make(chan struct{})
	}
}

func (c *Clients) newBlock() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks++
	return c.blocks
}

// session is one client. It is not safe for concurrent use.
type session struct {
	*Clients
	number int
	random *rand.Rand

	conn   *pgx.Conn
	node   Node
	key    string
	level  Level
	commit string // skein.last_commit, of any of its connections
	seen   string // skein.last_seen, of the last connection; "" if it was lost
	ids    int

	stranded bool // its node has lost the leader: others may not, and when all clients stay nobody writes
}

// live works until ctx is done. What was begun is brought to its end.
func (s *session) live(ctx context.Context) {
	for ctx.Err() == nil {
		s.connect(context.WithoutCancel(ctx))
		for s.conn != nil && !s.conn.IsClosed() && !s.stranded && ctx.Err() == nil {
			s.act(context.WithoutCancel(ctx))
			_ = rest.For(ctx, s.options.Pause)
			if s.random.IntN(30) == 0 {
				break
			}
		}
		s.leave(context.WithoutCancel(ctx))
		_ = rest.For(ctx, again)
	}
}

// leave closes the connection, and takes along what the session has seen, where nodes tell it.
func (s *session) leave(ctx context.Context) {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Patience)
	defer cancel()
	if s.seen = ""; !s.conn.IsClosed() {
		_ = s.conn.QueryRow(ctx, "SHOW skein.last_seen").Scan(&s.seen)
	}
	_ = s.conn.Close(ctx)
	s.conn = nil
}

// connect opens a connection to any node, carrying what the session knows, or as a stranger to itself.
func (s *session) connect(ctx context.Context) {
	before := s.node
	for s.node = s.anyNode(); s.stranded && s.node == before && len(s.options.Nodes) > 1; {
		s.node = s.anyNode()
	}
	s.stranded = false
	o := s.begin(Connect)
	config, err := pgx.ParseConfig(s.node.URL)
	if err != nil {
		s.fail(o, err)
		return
	}
	config.DefaultQueryExecMode = []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement}[s.random.IntN(3)]
	params := config.RuntimeParams
	s.level = s.anyLevel()
	params["skein.read_consistency"] = s.level.String()
	params["skein.max_staleness"] = fmt.Sprintf("%dms", s.options.Bound.Milliseconds())
	if s.key = ""; s.options.Keys > 0 && s.random.IntN(2) == 0 {
		s.key = fmt.Sprintf("user:%d", s.random.IntN(s.options.Keys))
		params["skein.causality_key"] = s.key
	}
	later := false // by SET, when there is a session already
	position, carried := s.commit, Commit
	if s.seen != "" && s.random.IntN(2) == 0 {
		position, carried = s.seen, Seen
	}
	if position != "" && s.random.IntN(4) > 0 {
		o.Carried = carried
		if later = s.random.IntN(2) == 0; !later {
			params["skein.wait_for"] = position
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil && later {
		if _, err = conn.Exec(ctx, "SET skein.wait_for = '"+position+"'"); err != nil {
			_ = conn.Close(ctx)
		}
	}
	if err != nil {
		s.fail(o, err)
		return
	}
	if o.Carried == Nothing {
		s.commit = ""
	}
	s.conn = conn
	o.Outcome = claims.Acknowledged
	s.end(o)
}

func (s *session) anyNode() Node { return s.options.Nodes[s.random.IntN(len(s.options.Nodes))] }

func (s *session) anyLevel() Level { return s.options.Levels[s.random.IntN(len(s.options.Levels))] }

// begin gives an operation that is sent now.
func (s *session) begin(a Action) Op {
	o := Op{Session: s.number, Key: s.key, Node: s.node.Name, Action: a, Sent: time.Since(s.began)}
	switch a {
	case Connect:
		o.Key = ""
	case Read:
		if o.Level = s.level; o.Level == Bounded {
			o.Bound = s.options.Bound
		}
	case Write:
		s.ids++
		o.ID = ID(s.number*idsPerSession + s.ids)
	}
	s.mu.Lock()
	s.latest[s.number] = o
	s.mu.Unlock()
	return o
}

// end notes an operation that was told of now.
func (s *session) end(o Op) {
	o.Told = time.Since(s.began)
	s.note(o)
}

// fail notes one that gave an error. A write may have happened all the same, unless it is known not to have been sent.
func (s *session) fail(o Op, err error) {
	o.Error = err.Error()
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		o.Code = e.Code
		o.Error += " " + e.Hint
	}
	o.Outcome = claims.Refused
	s.stranded = o.Code == noLeader || o.Code == notReached
	o.Hung = errors.Is(err, context.DeadlineExceeded)
	o.Lost = o.Action != Connect && s.conn.IsClosed()
	if o.Action == Write && !errors.Is(err, errNotSent) { // pgconn.SafeToRetry takes a lost answer to a simple query for one that was not sent
		o.Outcome = claims.OutcomeOf(err)
	}
	s.end(o)
}

// errNotSent marks the error of a block that never came to its COMMIT.
var errNotSent = errors.New("before COMMIT")

// act does one thing that clients do.
func (s *session) act(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Patience)
	defer cancel()
	if s.random.IntN(4) == 0 && !s.setLevel(ctx, s.anyLevel()) {
		return
	}
	switch s.random.IntN(10) {
	case 0, 1, 2:
		s.write(ctx)
	case 3:
		s.writeBlock(ctx)
	case 4:
		s.readBlock(ctx)
	default:
		o := s.begin(Read)
		s.read(ctx, s.conn, o)
	}
}

func (s *session) setLevel(ctx context.Context, l Level) bool {
	if _, err := s.conn.Exec(ctx, "SET skein.read_consistency = "+l.String()); err != nil {
		o := s.begin(Read)
		s.fail(o, err)
		return false
	}
	s.level = l
	return true
}

// querier is a connection or a block.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (s *session) read(ctx context.Context, from querier, o Op) bool {
	if err := from.QueryRow(ctx, newestEntry).Scan(&o.Number, &o.ID); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		s.fail(o, err)
		return false
	}
	o.Outcome = claims.Acknowledged
	s.end(o)
	return true
}

func (s *session) write(ctx context.Context) {
	o := s.begin(Write)
	if err := s.conn.QueryRow(ctx, addEntry, int64(o.ID)).Scan(&o.Number); err != nil {
		s.fail(o, err)
		return
	}
	s.written(o)
}

// written notes a write that was acknowledged, with the position that was reported.
func (s *session) written(o Op) {
	o.Outcome = claims.Acknowledged
	o.At = s.conn.PgConn().ParameterStatus("skein.last_commit")
	s.commit = o.At
	s.end(o)
}

// writeBlock reads and writes in one transaction. Until COMMIT is sent nothing can have happened, whatever goes wrong.
func (s *session) writeBlock(ctx context.Context) {
	o, read := s.begin(Write), s.begin(Read)
	o.Block = s.newBlock()
	read.Block, read.Writes, read.Sent = o.Block, true, o.Sent
	tx, err := s.conn.Begin(ctx)
	if err != nil {
		s.fail(o, errors.Join(errNotSent, err))
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if !s.read(ctx, tx, read) {
		return
	}
	if err := tx.QueryRow(ctx, addEntry, int64(o.ID)).Scan(&o.Number); err != nil {
		s.fail(o, errors.Join(errNotSent, err))
		return
	}
	if s.random.IntN(8) == 0 {
		o.Outcome = claims.Refused // by the client
		s.end(o)
		return
	}
	if err := tx.Commit(ctx); err != nil {
		s.fail(o, err)
		return
	}
	s.written(o)
}

// readBlock reads twice in one transaction.
func (s *session) readBlock(ctx context.Context) {
	first := s.begin(Read)
	first.Block = s.newBlock()
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		s.fail(first, err)
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if s.read(ctx, tx, first) {
		s.read(ctx, tx, first)
	}
}
