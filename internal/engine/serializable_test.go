package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/commit"
	"skein/internal/history"
)

var seed = flag.Uint64("seed", 0, "of the random transactions; 0: another one each time")

// TestTransactionsAreStrictlySerializable has many sessions run random transactions, with errors, cancels, timeouts and lost connections at any moment.
// A judge, which is a second node with one session, then runs those that were committed one after the other, in the order of a
// table to which each of them has appended. Every client must have been told what the judge is told, and both must
// end with the same data. What was not committed, or wrote nothing, must have seen the state between two of them that may have been the
// newest at some time while it ran.
func TestTransactionsAreStrictlySerializable(t *testing.T) {
	for _, v := range hurlies {
		t.Run(v.name, func(t *testing.T) {
			h := &hurly{rig: newRig(t), shape: v, seed: *seed, sessions: 8, each: 25}
			h.run()
		})
	}
}

var hurlies = []shape{{name: "calm"}, {name: "faults", faults: true}, {name: "behind a follower", faults: true, follower: true}}

// hurly is many sessions at once on one node.
type hurly struct {
	shape
	rig      *rig
	sessions int
	each     int // transactions of a session
	seed     uint64

	mu    sync.Mutex
	deeds []*deed
}

// shape is what makes it worse.
type shape struct {
	name     string
	faults   bool
	follower bool // commits wait for one
}

// deed is a transaction as its client has seen it.
type deed struct {
	id       int
	steps    []step
	whole    bool // one Query message, without a block
	from, to history.LSN
	outcome  outcome
	lsn      history.LSN // that its client was told; 0 for none
}

type outcome int

const (
	undone outcome = iota
	done
	unknown
)

// step is a statement and what its client was told.
type step struct {
	sql    string
	params [][]byte // not nil: as a prepared statement
	binary bool
	told   string
	comes  string // SQLSTATE of its error
	unsaid bool   // nobody knows what its client would have been told
}

const hurlyTables = `
	CREATE TABLE acct (id int PRIMARY KEY, n int NOT NULL CHECK (n > -1000), s text COLLATE NOCASE, b bytea, f double precision, at timestamptz, double int GENERATED ALWAYS AS (n * 2) STORED);
	CREATE TABLE child (id serial PRIMARY KEY, acct int REFERENCES acct (id) DEFERRABLE INITIALLY DEFERRED, v int DEFAULT 7);
	CREATE TABLE strict_child (id serial PRIMARY KEY, acct int REFERENCES acct (id) ON DELETE CASCADE);
	CREATE TABLE kv (k text PRIMARY KEY, v int);
	CREATE TABLE audit (id serial PRIMARY KEY, what text);
	CREATE TABLE noise (id serial PRIMARY KEY, r text);
	CREATE TABLE journal (seq serial PRIMARY KEY, deed int UNIQUE);
	CREATE VIEW rich AS SELECT id, n FROM acct WHERE n > 50;
	CREATE TRIGGER changed AFTER UPDATE OF n ON acct BEGIN INSERT INTO audit (what) VALUES (old.id || ':' || old.n || '>' || new.n); END;
	CREATE TRIGGER limited BEFORE INSERT ON kv WHEN (SELECT count(*) FROM kv) > 12 BEGIN SELECT raise(ABORT, 'too many'); END;
	INSERT INTO acct (id, n, s, b, f, at) SELECT i, i * 10, 'Name' || i, '\x00ff', i / 4.0, '2026-01-02 03:04:05+00' FROM generate_series(1, 10) g(i);
	INSERT INTO kv VALUES ('a', 1), ('b', 2)`

// hurlyData shows all of it that is not chance.
var hurlyData = []string{
	"SELECT * FROM acct ORDER BY id", "SELECT * FROM child ORDER BY id", "SELECT * FROM strict_child ORDER BY id", "SELECT * FROM kv ORDER BY k", "SELECT * FROM audit ORDER BY id",
	"SELECT id FROM noise ORDER BY id", "SELECT * FROM journal ORDER BY seq", "SELECT name, sql FROM sqlite_schema ORDER BY name", "SELECT * FROM sqlite_sequence ORDER BY name",
}

// hurlyStatements are for EXECUTE.
var hurlyStatements = []string{
	"PREPARE add (int, int) AS UPDATE acct SET n = n + $1 WHERE id = $2",
	"PREPARE get (int) AS SELECT n, double FROM acct WHERE id = $1",
	"PREPARE item (int) AS INSERT INTO strict_child (acct) VALUES ($1)",
	"PREPARE say (text) AS INSERT INTO audit (what) VALUES ($1)",
}

func (h *hurly) run() {
	t := h.rig.t
	if h.seed == 0 {
		h.seed = rand.Uint64()
	}
	defer func() {
		if t.Failed() {
			t.Logf("again with -seed %d", h.seed)
		}
	}()
	c := h.connect()
	must(t, c, hurlyTables)
	ctx, stop := context.WithCancel(t.Context())
	var follower sync.WaitGroup
	if h.follower {
		must(t, c, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (f)'")
		follower.Go(func() { h.acknowledge(ctx) })
	}
	_ = c.Close(ctx)
	var all sync.WaitGroup
	for n := range h.sessions {
		all.Go(func() { h.session(n) })
	}
	all.Wait()
	h.rig.allGone()
	stop()
	follower.Wait()
	if h.follower {
		h.catchUp()
	}
	h.judge()
}

func must(t testing.TB, c *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := c.Exec(context.Background(), sql).ReadAll(); err != nil {
		t.Fatal(sql, err)
	}
}

// connect opens a session that can EXECUTE, or nil.
func (h *hurly) connect() *pgconn.PgConn {
	c, err := pgconn.Connect(context.Background(), h.rig.dsn())
	if err != nil {
		h.rig.t.Error(err)
		return nil
	}
	return c
}

// acknowledge is a follower that is late.
func (h *hurly) acknowledge(ctx context.Context) {
	for ctx.Err() == nil {
		h.catchUp()
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
	}
}

func (h *hurly) catchUp() {
	at := h.rig.pipeline.Flushed()
	h.rig.pipeline.Acknowledge("f", commit.Progress{Received: at, Flushed: at, Applied: at})
}

// session runs one client's transactions.
func (h *hurly) session(n int) {
	r := rand.New(rand.NewPCG(h.seed, uint64(n)))
	var c *pgconn.PgConn
	defer func() {
		if c != nil {
			_ = c.Close(context.Background())
		}
	}()
	for i := range h.each {
		if c == nil || c.IsClosed() {
			if c = h.connect(); c == nil {
				return
			}
			for _, sql := range hurlyStatements {
				must(h.rig.t, c, sql)
			}
		}
		d := &deed{id: n*1000 + i}
		d.plan(r)
		h.do(c, r, d)
		h.mu.Lock()
		h.deeds = append(h.deeds, d)
		h.mu.Unlock()
	}
}

// plan makes up a transaction.
func (d *deed) plan(r *rand.Rand) {
	add := func(sql string) { d.steps = append(d.steps, step{sql: sql}) }
	writes := r.IntN(5) > 0
	count := 1 + r.IntN(6)
	if r.IntN(8) == 0 {
		d.whole = true
		var all []string
		at := r.IntN(count)
		for i := range count {
			if i == at && writes {
				all = append(all, d.mark())
			}
			all = append(all, read(r))
			if writes {
				all = append(all, change(r))
			}
		}
		add(strings.Join(all, "; "))
		return
	}
	begin, mode := "BEGIN", "on"
	switch r.IntN(12) {
	case 0:
		if writes {
			begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
		}
	case 1:
		begin = "BEGIN ISOLATION LEVEL SERIALIZABLE"
	case 2:
		mode = "off"
	case 3:
		if !writes {
			begin = "BEGIN READ ONLY"
		}
	}
	add("SET skein.optimistic_blocks = " + mode)
	add(begin)
	if strings.HasSuffix(begin, "COMMITTED") { // what it reads before its turn may be of several states
		add("SELECT id FROM acct WHERE id = 1 FOR UPDATE")
	}
	at := r.IntN(count)
	for i := range count {
		if i == at && writes {
			add(d.mark())
		}
		d.random(r, writes)
	}
	add([]string{"COMMIT", "COMMIT", "COMMIT", "COMMIT", "COMMIT", "ROLLBACK"}[r.IntN(6)])
}

func (d *deed) mark() string { return fmt.Sprintf("INSERT INTO journal (deed) VALUES (%d)", d.id) }

// random adds a random statement, or a few that belong together.
func (d *deed) random(r *rand.Rand, writes bool) {
	add := func(sql string) { d.steps = append(d.steps, step{sql: sql}) }
	key := []byte(strconv.Itoa(1 + r.IntN(12)))
	switch k := r.IntN(30); {
	case k < 8 || !writes && k > 12:
		add(read(r))
	case k < 10: // what was prepared, its results in binary
		d.steps = append(d.steps, step{sql: "SELECT * FROM acct WHERE id = $1 OR n < $2", params: [][]byte{key, []byte("0")}, binary: true})
	case k < 11:
		add(fmt.Sprintf("DECLARE c CURSOR FOR SELECT id, n FROM acct WHERE n > %d ORDER BY id", r.IntN(60)))
		add("FETCH 2 FROM c")
		if r.IntN(2) == 0 && writes { // of something else: whether the cursor sees it is up to its plan
			add("UPDATE kv SET v = v + 1 WHERE k = 'b'")
		}
		add("FETCH ALL FROM c")
		add("CLOSE c")
	case k < 12:
		add(fmt.Sprintf("SET LOCAL timezone = '%s'", []string{"Asia/Tokyo", "America/Lima"}[r.IntN(2)]))
		add("SELECT id, at FROM acct ORDER BY id LIMIT 3")
	case k < 13:
		add(fmt.Sprintf("EXECUTE get (%s)", key))
	case k < 19:
		add(change(r))
	case k < 21:
		d.steps = append(d.steps, step{sql: "UPDATE acct SET n = n + $2, s = $3, b = $4 WHERE id = $1", params: [][]byte{key, []byte("-3"), []byte("X"), nil}})
	case k < 22:
		add(fmt.Sprintf("EXECUTE add (%d, %s)", r.IntN(5), key))
	case k < 23:
		add("SAVEPOINT s")
		add(change(r))
		add(fmt.Sprintf("INSERT INTO acct (id, n) VALUES (%s, 1)", key))
		add("ROLLBACK TO s")
	case k < 24:
		add("SAVEPOINT s")
		add(change(r))
		add("RELEASE s")
	case k < 25: // what a function shows of the transaction
		add(fmt.Sprintf("INSERT INTO child (acct) VALUES (%s)", key))
		add("SELECT lastval()")
		add("EXECUTE say (lastval()::text)")
	case k < 26:
		add(fmt.Sprintf("SELECT n FROM acct WHERE id = %s FOR UPDATE", key))
	case k < 27:
		add("INSERT INTO noise (r) VALUES (random()), (gen_random_uuid()), (clock_timestamp())")
	case k < 28:
		add("SET CONSTRAINTS ALL DEFERRED")
		add(fmt.Sprintf("INSERT INTO strict_child (acct) VALUES (%d)", 1+r.IntN(14)))
	case k < 29:
		add("SET LOCAL statement_timeout = '50ms'")
		add(change(r))
	default:
		add([]string{
			"CREATE INDEX IF NOT EXISTS by_n ON acct (n)", "DROP INDEX IF EXISTS by_n", "CREATE TABLE IF NOT EXISTS extra (a int)", "DROP TABLE IF EXISTS extra",
			"ALTER TABLE kv ADD COLUMN w int DEFAULT 3", "ALTER TABLE kv DROP COLUMN w", "ANALYZE acct", "TRUNCATE noise",
		}[r.IntN(8)])
	}
}

func read(r *rand.Rand) string {
	a, b := 1+r.IntN(12), 1+r.IntN(12)
	return []string{
		fmt.Sprintf("SELECT n FROM acct WHERE id = %d", a),
		fmt.Sprintf("SELECT n, s, b, f, double FROM acct WHERE id IN (%d, %d) ORDER BY id", a, b),
		fmt.Sprintf("SELECT count(*), sum(n), max(f) FROM acct WHERE n BETWEEN %d AND %d", a*5, a*5+40),
		"SELECT * FROM kv ORDER BY k",
		"SELECT count(*), max(id) FROM child",
		"SELECT what FROM audit ORDER BY id DESC LIMIT 2",
		fmt.Sprintf("SELECT a.id, c.id, c.v FROM acct a JOIN child c ON c.acct = a.id WHERE a.id > %d ORDER BY 1, 2", a),
		fmt.Sprintf("SELECT * FROM rich WHERE id > %d ORDER BY id", a),
		"SELECT count(*) FROM journal",
		fmt.Sprintf("SELECT 100 / (n - %d) FROM acct WHERE id = %d", b*10, a),
		"SELECT -0.0::double precision, NULL, '\\x00'::bytea, '' FROM acct LIMIT 2",
		fmt.Sprintf("SELECT id FROM acct WHERE s = 'NAME%d'", a),
	}[r.IntN(12)]
}

func change(r *rand.Rand) string {
	a, b := 1+r.IntN(12), 1+r.IntN(12)
	return []string{
		fmt.Sprintf("UPDATE acct SET n = n + %d WHERE id = %d", b, a),
		fmt.Sprintf("UPDATE acct SET n = n + %d WHERE id = %d", b, a),
		fmt.Sprintf("UPDATE acct SET n = (SELECT n FROM acct WHERE id = %d) - 1 WHERE id = %d", b, a),
		fmt.Sprintf("UPDATE acct SET n = n - %d WHERE n > %d", b, a*10),
		fmt.Sprintf("UPDATE acct SET f = f / 3, s = s || 'x' WHERE id = %d RETURNING id, f, s", a),
		fmt.Sprintf("INSERT INTO acct (id, n) VALUES (%d, %d)", a, b),
		fmt.Sprintf("INSERT INTO acct (id, n) VALUES (%d, %d) ON CONFLICT (id) DO UPDATE SET n = acct.n + excluded.n", a, b),
		fmt.Sprintf("DELETE FROM acct WHERE id = %d", a),
		fmt.Sprintf("INSERT INTO kv VALUES ('%c', %d) ON CONFLICT DO NOTHING", 'a'+rune(a), b),
		fmt.Sprintf("INSERT INTO kv (k, v) VALUES ('%c', %d) ON CONFLICT (k) DO UPDATE SET v = kv.v * 2 + 1 WHERE kv.v < 100", 'a'+rune(a), b),
		fmt.Sprintf("DELETE FROM kv WHERE k > '%c'", 'e'+rune(r.IntN(8))),
		fmt.Sprintf("INSERT INTO child (acct) VALUES (%d)", a),
		fmt.Sprintf("INSERT INTO child (acct, v) SELECT id, n FROM acct WHERE n > %d RETURNING id", a*9),
		fmt.Sprintf("DELETE FROM child WHERE acct = %d", a),
		fmt.Sprintf("INSERT INTO strict_child (acct) VALUES (%d)", a),
		fmt.Sprintf("UPDATE kv SET v = (SELECT count(*) FROM acct WHERE n > %d) WHERE k = 'a'", b*5),
	}[r.IntN(16)]
}

// do runs a transaction, until its end or an error.
func (h *hurly) do(c *pgconn.PgConn, r *rand.Rand, d *deed) {
	p := h.rig.pipeline
	d.from = p.Visible()
	before := c.ParameterStatus("skein.last_commit")
	defer func() {
		d.to = p.Log().Head().LSN
		if mark := c.ParameterStatus("skein.last_commit"); mark != before {
			b, err := history.ParseBookmark(mark)
			if err != nil {
				h.rig.t.Error(err)
			}
			d.lsn = b.LSN
		}
	}()
	for i := range d.steps {
		s := &d.steps[i]
		fault := func() {}
		if h.faults {
			switch r.IntN(40) {
			case 0:
				fault = func() { _ = c.CancelRequest(context.Background()) }
			case 1:
				fault = func() { _ = c.Conn().Close() }
			}
		}
		timer := time.AfterFunc(time.Duration(r.IntN(1500))*time.Microsecond, fault)
		s.told, s.comes, s.unsaid = ask(c, *s)
		if r.IntN(4) > 0 {
			timer.Stop()
		}
		last := i == len(d.steps)-1
		switch {
		case s.unsaid || s.comes == "08007":
			s.unsaid = true
			if last && s.sql != "ROLLBACK" {
				d.outcome = unknown
			} else {
				d.steps = d.steps[:i]
			}
			_ = c.Conn().Close()
			_ = c.Close(context.Background())
			return
		case last && s.comes == "" && s.sql != "ROLLBACK":
			d.outcome = done
		case s.comes != "" && i+1 < len(d.steps) && strings.HasPrefix(d.steps[i+1].sql, "ROLLBACK TO"):
			s.unsaid = !ofData(s.comes)
		case s.comes != "":
			if !ofData(s.comes) || last {
				d.steps = d.steps[:i] // this one says nothing of the data, or not of those that the others are about
			} else {
				d.steps = d.steps[:i+1]
			}
			if c.TxStatus() != 'I' {
				_, _, gone := ask(c, step{sql: "ROLLBACK"})
				if gone {
					_ = c.Close(context.Background())
				}
			}
			return
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(1000)) * time.Microsecond)
		}
	}
}

// ofData says whether an error depends on the data alone.
func ofData(code string) bool {
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || code == "P0001"
}

// ask runs a statement.
func ask(c *pgconn.PgConn, s step) (told, code string, lost bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var results []*pgconn.Result
	var err error
	if s.params != nil {
		var formats []int16
		if s.binary {
			formats = []int16{1}
		}
		result := c.ExecParams(ctx, s.sql, s.params, nil, nil, formats).Read()
		results, err = []*pgconn.Result{result}, result.Err
	} else {
		results, err = c.Exec(ctx, s.sql).ReadAll()
	}
	var b strings.Builder
	for _, result := range results {
		for _, f := range result.FieldDescriptions {
			fmt.Fprintf(&b, "%s %d, ", f.Name, f.DataTypeOID)
		}
		for _, row := range result.Rows {
			for _, v := range row {
				if v == nil {
					b.WriteString("NULL ")
				} else {
					fmt.Fprintf(&b, "%q ", v)
				}
			}
			b.WriteString("| ")
		}
		fmt.Fprintln(&b, result.CommandTag)
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return b.String(), e.Code, false
	}
	if err != nil && ctx.Err() != nil {
		panic("a session hangs: " + s.sql) // with what all others are doing
	}
	return b.String(), "", err != nil
}

// judge runs them one after the other on another node, and compares.
func (h *hurly) judge() {
	t := h.rig.t
	c := h.connect()
	defer c.Close(context.Background())
	order := h.committed(c)
	real := data(c)

	there := newRig(t)
	j, err := pgconn.Connect(context.Background(), there.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(context.Background())
	must(t, j, "SET synchronous_commit = off")
	must(t, j, hurlyTables)
	for _, sql := range hurlyStatements {
		must(t, j, sql)
	}
	var seen []*deed // what must have been at some state
	for _, d := range h.deeds {
		if !slices.Contains(order, d) {
			seen = append(seen, d)
		}
	}
	told := map[*deed]string{}
	look := func(i int) {
		low, high := history.LSN(0), history.LSN(1<<62) // the state after i of them was the newest from low or later to before high, or earlier
		for _, d := range order[:i] {
			low = max(low, d.lsn)
		}
		for _, d := range slices.Backward(order[i:]) {
			if d.lsn != 0 {
				high = d.lsn
			}
		}
		seen = slices.DeleteFunc(seen, func(d *deed) bool {
			if low > d.to || high <= d.from {
				return false
			}
			differs := replay(j, d, "ROLLBACK")
			told[d] = differs
			return differs == ""
		})
	}
	look(0)
	for i, d := range order {
		if differs := replay(j, d, "COMMIT"); differs != "" {
			t.Fatalf("transaction %d, committed at %s: %s\nit is\n%s", d.id, d.lsn.PgLSN(), differs, d)
		}
		look(i + 1)
	}
	for _, d := range seen {
		t.Errorf("transaction %d from %s to %s has seen what has never been: %s\nit is\n%s", d.id, d.from.PgLSN(), d.to.PgLSN(), told[d], d)
	}
	if judged := data(j); real != judged {
		t.Errorf("what is there is\n%s\nwhat should be is\n%s", real, judged)
	}
	t.Logf("%d transactions, %d of them committed with changes", len(h.deeds), len(order))
}

// committed gives those that have changed something in the order in which that was committed.
func (h *hurly) committed(c *pgconn.PgConn) (order []*deed) {
	t := h.rig.t
	byID := map[string]*deed{}
	for _, d := range h.deeds {
		byID[strconv.Itoa(d.id)] = d
	}
	results, err := c.Exec(context.Background(), "SELECT deed FROM journal ORDER BY seq").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	last := history.LSN(0)
	for _, row := range results[0].Rows {
		d := byID[string(row[0])]
		switch {
		case d.outcome == undone:
			t.Errorf("transaction %d was committed, and its client told otherwise:\n%s", d.id, d)
		case d.lsn != 0 && d.lsn <= last:
			t.Errorf("transaction %d is at %s, after %s", d.id, d.lsn.PgLSN(), last.PgLSN())
		}
		last = max(last, d.lsn)
		order = append(order, d)
	}
	for _, d := range h.deeds {
		marked := slices.ContainsFunc(d.steps, func(s step) bool { return strings.Contains(s.sql, "INTO journal") })
		if d.outcome == done && marked && !slices.Contains(order, d) {
			t.Errorf("transaction %d is lost:\n%s", d.id, d)
		}
	}
	return order
}

// replay runs a transaction again, commits it or not, and says what its client was told otherwise.
func replay(c *pgconn.PgConn, d *deed, end string) (differs string) {
	if d.whole && end == "ROLLBACK" { // it has no end of its own
		_, _, _ = ask(c, step{sql: "BEGIN"})
	}
	for _, s := range d.steps {
		if s.sql == "COMMIT" || s.sql == "ROLLBACK" {
			break
		}
		told, code, _ := ask(c, step{sql: strings.ReplaceAll(s.sql, "SET LOCAL statement_timeout = '50ms'", "SET LOCAL statement_timeout = 0"), params: s.params, binary: s.binary})
		if (told != s.told || code != s.comes) && !s.unsaid && differs == "" {
			differs = fmt.Sprintf("%s was told\n%s%s\nand should have been told\n%s%s", s.sql, s.told, s.comes, told, code)
			if end == "ROLLBACK" {
				break
			}
		}
	}
	if c.TxStatus() != 'I' {
		if _, code, _ := ask(c, step{sql: end}); code != "" && differs == "" {
			differs = end + " gives " + code
		}
	}
	return differs
}

func (d *deed) String() string {
	var b strings.Builder
	for _, s := range d.steps {
		fmt.Fprintf(&b, "  %s %q\n    %s%s\n", s.sql, s.params, s.told, s.comes)
	}
	return b.String()
}

func data(c *pgconn.PgConn) string {
	var b strings.Builder
	for _, sql := range hurlyData {
		told, code, _ := ask(c, step{sql: sql})
		fmt.Fprintln(&b, sql, code)
		fmt.Fprintln(&b, told)
	}
	return b.String()
}
