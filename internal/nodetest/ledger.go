package nodetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"skein/internal/claims"
)

const (
	accounts = 8
	balance  = 100
	bulkRows = 60
	schema   = `CREATE TABLE ids (id int NOT NULL, pad text);
		CREATE INDEX ids_id ON ids (id);
		CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL);
		CREATE TABLE bulk (batch int NOT NULL, pad bytea)`
)

// Seed is that of everything random in a test; the environment variable repeats a run, as far as the
// scheduler allows.
func Seed(t testing.TB, variable string) uint64 {
	t.Helper()
	s, err := strconv.ParseUint(os.Getenv(variable), 10, 64)
	if err != nil {
		s = rand.Uint64()
	}
	t.Logf("%s=%d", variable, s)
	return s
}

// outcome is what a client knows of a change that it asked for.
type outcome int

const (
	unknown outcome = iota // the reply was lost, or says so
	promised
	refused
)

// Ledger is what the clients know. It outlives every node.
type Ledger struct {
	Rand *rand.Rand // for what is decided between runs

	mu        sync.Mutex
	next      int // of every kind of number
	ids       map[int]outcome
	batches   map[int]outcome
	tables    map[string]outcome // of CREATE
	dropped   map[string]outcome // of DROP, for those that were created
	databases map[string]outcome
	gone      map[string]outcome
}

// NewLedger gives an empty one. Equal seeds make equal decisions.
func NewLedger(seed uint64) *Ledger {
	return &Ledger{
		Rand: rand.New(rand.NewPCG(seed, 1)), ids: map[int]outcome{}, batches: map[int]outcome{},
		tables: map[string]outcome{}, dropped: map[string]outcome{}, databases: map[string]outcome{}, gone: map[string]outcome{},
	}
}

// Prepare makes the tables of a new node.
func (l *Ledger) Prepare(t testing.TB, n *Node) {
	t.Helper()
	conn := Connect(t, n, "skein")
	defer func() { _ = conn.Close(t.Context()) }()
	Execute(t, conn, schema)
	for i := range accounts {
		Execute(t, conn, fmt.Sprintf("INSERT INTO accounts VALUES (%d, %d)", i, balance))
	}
}

// Connect opens a connection that the caller closes.
func Connect(t testing.TB, n *Node, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), n.URL(database))
	if err != nil {
		t.Fatalf("connect to %s: %v\n", database, err)
	}
	return conn
}

// Execute runs statements that must succeed.
func Execute(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Number gives one that was not used before, of anything.
func (l *Ledger) Number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next
}

// Inserted notes what a client was told of its row in ids.
func (l *Ledger) Inserted(id int, err error) { note(l, l.ids, id, err) }

// Rows is how many rows of ids were asked for.
func (l *Ledger) Rows() int { return len(l.ids) }

func note[K comparable](l *Ledger, m map[K]outcome, key K, err error) outcome {
	o := map[claims.Outcome]outcome{claims.Unknown: unknown, claims.Acknowledged: promised, claims.Refused: refused}[claims.OutcomeOf(err)]
	l.mu.Lock()
	defer l.mu.Unlock()
	m[key] = o
	return o
}

// Work runs the clients for so many rounds each, or until the node has ended: then it says so.
func (l *Ledger) Work(n *Node, rounds int, seed uint64) (ended bool) {
	ctx := context.Background()
	var lost atomic.Bool
	clients := []func(*client){(*client).insert, (*client).insert, (*client).transfer, (*client).alter, (*client).load}
	var wg sync.WaitGroup
	for i, step := range clients {
		wg.Go(func() {
			conn, err := pgx.Connect(ctx, n.URL("skein"))
			if err != nil {
				lost.Store(true)
				return
			}
			defer func() { _ = conn.Close(ctx) }()
			c := &client{Ledger: l, node: n, conn: conn, ctx: ctx, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
			for range rounds {
				step(c)
				if conn.IsClosed() {
					lost.Store(true)
					return
				}
			}
		})
	}
	wg.Wait()
	if lost.Load() {
		<-n.Ended
	}
	return lost.Load()
}

type client struct {
	*Ledger
	node *Node
	conn *pgx.Conn
	ctx  context.Context
	rng  *rand.Rand
}

// do runs statements in one message; a transaction that they left open is ended.
func (c *client) do(sql string) error {
	_, err := c.conn.PgConn().Exec(c.ctx, sql).ReadAll()
	if !c.conn.IsClosed() && c.conn.PgConn().TxStatus() != 'I' {
		_, _ = c.conn.PgConn().Exec(c.ctx, "ROLLBACK").ReadAll()
	}
	return err
}

func (c *client) insert() {
	for range 5 {
		id := c.Number()
		c.Inserted(id, c.do(fmt.Sprintf("INSERT INTO ids VALUES (%d, '%s')", id, strings.Repeat("x", c.rng.IntN(600)))))
		if c.conn.IsClosed() {
			return
		}
	}
}

func (c *client) transfer() {
	for range 5 {
		from, to := c.rng.IntN(accounts), c.rng.IntN(accounts)
		_ = c.do(fmt.Sprintf("BEGIN; UPDATE accounts SET balance = balance - 1 WHERE id = %d; UPDATE accounts SET balance = balance + 1 WHERE id = %d; COMMIT", from, to))
		if c.conn.IsClosed() {
			return
		}
	}
}

// alter makes and drops tables and databases.
func (c *client) alter() {
	name := fmt.Sprintf("t%d", c.Number())
	create := fmt.Sprintf("BEGIN; CREATE TABLE %[1]s (a int, b text); INSERT INTO %[1]s VALUES (1, 'x'), (2, 'y'); CREATE INDEX %[1]s_a ON %[1]s (a); ALTER TABLE %[1]s ADD COLUMN c int; COMMIT", name)
	if note(c.Ledger, c.tables, name, c.do(create)) == promised && c.rng.IntN(2) == 0 {
		note(c.Ledger, c.dropped, name, c.do("DROP TABLE "+name))
	}
	name = fmt.Sprintf("d%d", c.Number())
	if note(c.Ledger, c.databases, name, c.do("CREATE DATABASE "+name)) != promised {
		return
	}
	conn, err := pgx.Connect(c.ctx, c.node.URL(name))
	if err != nil {
		return
	}
	_, err = conn.PgConn().Exec(c.ctx, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2), (3)").ReadAll()
	_ = conn.Close(c.ctx)
	<-conn.PgConn().CleanupDone()
	if err == nil && c.rng.IntN(4) > 0 {
		note(c.Ledger, c.gone, name, c.do("DROP DATABASE "+name+" WITH (FORCE)"))
	}
}

// load copies a batch in, and now and then deletes old ones and vacuums.
func (c *client) load() {
	batch := c.Number()
	rows := make([][]any, bulkRows)
	for i := range rows {
		pad := make([]byte, 6000)
		for j := range pad {
			pad[j] = byte(c.rng.Uint32())
		}
		rows[i] = []any{batch, pad}
	}
	_, err := c.conn.CopyFrom(c.ctx, pgx.Identifier{"bulk"}, []string{"batch", "pad"}, pgx.CopyFromRows(rows))
	note(c.Ledger, c.batches, batch, err)
	if c.rng.IntN(2) == 0 && !c.conn.IsClosed() {
		old := batch - 30
		c.mu.Lock()
		for b := range c.batches {
			if b < old {
				c.batches[b] = unknown // deleted, if the reply does not get lost: all rows or none
			}
		}
		c.mu.Unlock()
		_ = c.do(fmt.Sprintf("DELETE FROM bulk WHERE batch < %d", old))
		if !c.conn.IsClosed() {
			_ = c.do("VACUUM")
		}
	}
}

// Check compares a node with what was promised.
func (l *Ledger) Check(t testing.TB, n *Node) {
	t.Helper()
	conn := Connect(t, n, "skein")
	defer func() { _ = conn.Close(t.Context()) }()

	if got := Texts(t, conn, "PRAGMA integrity_check"); !slices.Equal(got, []string{"ok"}) {
		t.Errorf("integrity_check: %v", got)
	}
	have := Counts(t, conn, "SELECT id, count(*) FROM ids GROUP BY id")
	for id, o := range l.ids {
		compare(t, "id", id, o, have[id], 1)
	}
	for id := range have {
		if _, asked := l.ids[id]; !asked {
			t.Errorf("id %d is there and was never asked for", id)
		}
	}
	have = Counts(t, conn, "SELECT batch, count(*) FROM bulk GROUP BY batch")
	for batch, o := range l.batches {
		compare(t, "batch", batch, o, have[batch], bulkRows)
	}
	if got := Texts(t, conn, "SELECT sum(balance)::text || '/' || count(*)::text FROM accounts"); !slices.Equal(got, []string{fmt.Sprintf("%d/%d", accounts*balance, accounts)}) {
		t.Errorf("the bank has %v, want %d in %d accounts", got, accounts*balance, accounts)
	}
	tables := Texts(t, conn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
	lasting(t, "table", l.tables, l.dropped, tables)
	for _, name := range tables {
		if _, ours := l.tables[name]; ours {
			if got := Texts(t, conn, "SELECT count(*)::text || max(b) FROM "+name+" WHERE c IS NULL"); !slices.Equal(got, []string{"2y"}) {
				t.Errorf("table %s holds %v", name, got)
			}
		}
	}
	databases := Texts(t, conn, "SELECT datname FROM pg_database")
	lasting(t, "database", l.databases, l.gone, databases)
	for _, name := range databases {
		if _, ours := l.databases[name]; !ours {
			continue
		}
		other := Connect(t, n, name)
		if got := Texts(t, other, "PRAGMA integrity_check"); !slices.Equal(got, []string{"ok"}) {
			t.Errorf("integrity_check of %s: %v", name, got)
		}
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	l.settle(have)
}

// settle makes what was read a promise: it may not change any more.
func (l *Ledger) settle(batches map[int]int) {
	for batch := range l.batches {
		if batches[batch] == 0 {
			delete(l.batches, batch)
		} else {
			l.batches[batch] = promised
		}
	}
}

func compare(t testing.TB, what string, key int, o outcome, have, whole int) {
	t.Helper()
	switch {
	case o == promised && have != whole:
		t.Errorf("%s %d was acknowledged and is there %d times, want %d", what, key, have, whole)
	case o == refused && have != 0:
		t.Errorf("%s %d was refused and is there %d times", what, key, have)
	case have != 0 && have != whole:
		t.Errorf("%s %d is there %d times, want %d or none", what, key, have, whole)
	}
}

// lasting checks names that were made and dropped.
func lasting(t testing.TB, what string, made, dropped map[string]outcome, have []string) {
	t.Helper()
	for name, o := range made {
		there := slices.Contains(have, name)
		d, asked := dropped[name]
		switch {
		case o == promised && (!asked || d == refused) && !there:
			t.Errorf("%s %s was made and is not there", what, name)
		case asked && d == promised && there:
			t.Errorf("%s %s was dropped and is there", what, name)
		case o == refused && there:
			t.Errorf("%s %s was refused and is there", what, name)
		}
	}
}

// Texts gives the only column of a query.
func Texts(t testing.TB, conn *pgx.Conn, sql string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// Counts gives the second column of a query by the first.
func Counts(t testing.TB, conn *pgx.Conn, sql string) map[int]int {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	got := map[int]int{}
	var key, count int
	if _, err := pgx.ForEachRow(rows, []any{&key, &count}, func() error { got[key] = count; return nil }); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}
