package vault_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
	"skein/internal/sqlitevfs"
	"skein/internal/vault"
)

const testDB = history.DatabaseID(2)

// rig is a leader's storage with a connection that writes.
type rig struct {
	*commit.Pipeline
	t    testing.TB
	dir  string
	conn *sqlite3.Conn
	file *sqlitevfs.File
	stop func()
}

func newRig(t testing.TB, dir string) *rig {
	t.Helper()
	p, _, err := commit.Open(dir, commit.Options{Cluster: replog.Cluster{7}, CheckpointLogBytes: 1 << 40, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Store().Create(testDB); err != nil {
		t.Fatal(err)
	}
	v, err := sqlitevfs.Register(fmt.Sprintf("vault-%d", rand.Uint64()), p.Store(), p, sqlitevfs.NewTempSpace(commit.TempDir(dir), 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	if err := p.Lead(ctx, 0); err != nil {
		t.Fatal(err)
	}
	p.Configure(commit.SyncConfig{})
	r := &rig{Pipeline: p, t: t, dir: dir}
	if r.conn, err = sqlite3.Open(v.URI(testDB)); err != nil {
		t.Fatal(err)
	}
	if r.file, err = sqlitevfs.FileOf(r.conn); err != nil {
		t.Fatal(err)
	}
	if err := r.conn.Exec("PRAGMA page_size=4096; PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=OFF"); err != nil {
		t.Fatal(err)
	}
	r.stop = func() {
		err := r.conn.Close()
		cancel()
		if err := errors.Join(err, <-done, p.Close(true)); err != nil {
			t.Error(err)
		}
		v.Unregister()
	}
	return r
}

// write runs sql as one transaction, and gives its LSN; 0 if it has changed nothing.
func (r *rig) write(sql string) history.LSN {
	r.t.Helper()
	r.file.PinHead(true)
	if err := r.conn.Exec(sql); err != nil {
		r.t.Fatalf("%.200s: %v (%v)", sql, err, r.file.TakeError())
	}
	r.file.PinHead(false)
	lsn := r.file.TakeCommit()
	if _, err := r.Wait(r.t.Context(), lsn, commit.Local); err != nil {
		r.t.Fatal(err)
	}
	return lsn
}

// dump is everything in a database: tables, and their rows by key.
type dump map[string]content

type content struct {
	sql     string
	columns []string
	rows    map[string][]vault.Value
}

func (r *rig) rows(sql string, fn func(s *sqlite3.Stmt)) {
	r.t.Helper()
	s, _, err := r.conn.Prepare(sql)
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	defer s.Close()
	for s.Step() {
		fn(s)
	}
	if err := s.Err(); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func (r *rig) dump() dump {
	r.t.Helper()
	d := dump{}
	r.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND rootpage > 0", func(s *sqlite3.Stmt) {
		d[s.ColumnText(0)] = content{sql: s.ColumnText(1), rows: map[string][]vault.Value{}}
	})
	for name, c := range d {
		key := "rowid"
		if strings.Contains(c.sql, "WITHOUT ROWID") {
			key = "k || ':' || n"
		}
		r.rows(fmt.Sprintf(`SELECT %s, * FROM "%s"`, key, name), func(s *sqlite3.Stmt) {
			var values []vault.Value
			for i := 1; i < s.ColumnCount(); i++ {
				values = append(values, valueOf(s, i))
			}
			c.rows[s.ColumnText(0)] = values
		})
		r.rows(fmt.Sprintf(`SELECT name FROM pragma_table_info('%s')`, name), func(s *sqlite3.Stmt) { c.columns = append(c.columns, s.ColumnText(0)) })
		d[name] = c
	}
	return d
}

func valueOf(s *sqlite3.Stmt, i int) vault.Value {
	switch s.ColumnType(i) {
	case sqlite3.INTEGER:
		return vault.Value{Kind: vault.Integer, Int: s.ColumnInt64(i)}
	case sqlite3.FLOAT:
		return vault.Value{Kind: vault.Real, Float: s.ColumnFloat(i)}
	case sqlite3.TEXT:
		return vault.Value{Kind: vault.Text, Bytes: []byte(s.ColumnText(i))}
	case sqlite3.BLOB:
		return vault.Value{Kind: vault.Blob, Bytes: slices.Clone(s.ColumnRawBlob(i))}
	}
	return vault.Value{}
}

// step is one transaction of a tail with what it must be shown as.
type step struct {
	lsn           history.LSN
	sql           string
	before, after dump
}

// check compares what the vault says with what happened.
func (s step) check(t *testing.T, x *vault.Transaction) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("entry %d, %.300s: %.500s", s.lsn, s.sql, fmt.Sprintf(format, args...))
	}
	if x.LSN != s.lsn || x.Database != testDB || x.Epoch != 1 || x.Time.IsZero() {
		fail("it is %+v", x)
	}
	if len(x.Unknown) > 0 {
		fail("unknown: %v", x.Unknown)
	}
	if strings.Contains(s.sql, "RENAME") { // its rows are what they were
		s.before["other"] = content{sql: s.before["extra"].sql, columns: s.before["extra"].columns, rows: s.before["extra"].rows}
		defer delete(s.before, "other")
	}
	seen := map[string]bool{}
	for _, c := range x.Changes {
		key, known := s.key(c)
		if seen[key] {
			fail("twice: %s", key)
		}
		seen[key] = true
		name := c.Table.Name
		was, is := s.before[name], s.after[name]
		if c.Before != nil && !same(c.Table, c.Before.Values, was.columns, was.rows[known]) {
			fail("%s: before %v, want %v", key, c.Before, was.rows[known])
		}
		if c.After != nil && !same(c.Table, c.After.Values, is.columns, is.rows[known]) {
			fail("%s: after %v, want %v", key, c.After, is.rows[known])
		}
		if (c.Before == nil) != (was.rows[known] == nil) || (c.After == nil) != (is.rows[known] == nil) {
			fail("%s: %+v, and it was %v and is %v", key, c, was.rows[known], is.rows[known])
		}
	}
	for name, is := range s.after {
		was := s.before[name]
		for key := range was.rows {
			if !seen[name+" "+key] && !sameContent(was, is, key) {
				fail("missing: %s %s, which was %v and is %v", name, key, was.rows[key], is.rows[key])
			}
		}
		for key := range is.rows {
			if !seen[name+" "+key] && was.rows[key] == nil {
				fail("missing: %s %s, which is %v", name, key, is.rows[key])
			}
		}
	}
	s.checkDDL(fail, x)
}

func (s step) checkDDL(fail func(string, ...any), x *vault.Transaction) {
	want := map[string]string{}
	for name, c := range s.after {
		switch was, ok := s.before[name]; {
		case !ok || name == "other" && strings.Contains(s.sql, "RENAME"):
			want[name] = "create"
		case was.sql != c.sql:
			want[name] = "alter"
		}
	}
	for name := range s.before {
		if _, ok := s.after[name]; !ok {
			want[name] = "drop"
		}
	}
	for _, d := range x.DDL {
		if d.Type != "table" {
			continue
		}
		if want[d.Name] != d.Kind || d.Kind != "drop" && d.After != s.after[d.Name].sql || d.Kind != "create" && d.Before != s.before[d.Name].sql {
			fail("%+v, want %s", d, want[d.Name])
		}
		delete(want, d.Name)
	}
	if len(want) > 0 {
		fail("missing: %v", want)
	}
}

// key gives the name of a change for people, and the row's key in a dump.
func (s step) key(c vault.Change) (name, key string) {
	row := c.After
	if row == nil {
		row = c.Before
	}
	key = fmt.Sprint(row.Rowid)
	if c.Table.WithoutRowid {
		key = string(row.Values[1].Bytes) + ":" + fmt.Sprint(row.Values[0].Int)
	}
	return c.Table.Name + " " + key, key
}

// same compares the columns that a row has, by name.
func same(t *vault.Table, values []vault.Value, columns []string, want []vault.Value) bool {
	if want == nil {
		return false
	}
	for i, c := range t.Columns {
		if at := slices.Index(columns, c.Name); at >= 0 && values[i].Kind != vault.Missing && !equal(values[i], want[at]) {
			return false
		}
	}
	return true
}

func equal(a, b vault.Value) bool {
	if a.Kind == vault.Integer && b.Kind == vault.Real { // as SQLite keeps whole numbers of a real column
		a = vault.Value{Kind: vault.Real, Float: float64(a.Int)}
	}
	return a.Kind == b.Kind && a.Int == b.Int && a.Float == b.Float && string(a.Bytes) == string(b.Bytes)
}

// sameContent compares a row in those columns that there were and are.
func sameContent(was, is content, key string) bool {
	if is.rows[key] == nil {
		return false
	}
	for i, name := range was.columns {
		if at := slices.Index(is.columns, name); at >= 0 && !equal(was.rows[key][i], is.rows[key][at]) {
			return false
		}
	}
	return true
}

const testSchema = `
CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b REAL, UNIQUE (a, id));
CREATE INDEX t_b ON t (b);
CREATE TABLE heap (x, y TEXT DEFAULT 'd');
CREATE TABLE w (n INT, k TEXT, v BLOB, PRIMARY KEY (k, n)) WITHOUT ROWID;
CREATE INDEX w_v ON w (v);
CREATE TABLE large (id integer NOT NULL CONSTRAINT "large_pkey" PRIMARY KEY AUTOINCREMENT, head TEXT, doc TEXT, version INT, twice INT GENERATED ALWAYS AS (version * 2) STORED);
`

// statement makes a random statement.
func statement(r *rand.Rand, d dump) string {
	id := func() int { return 1 + r.IntN(300) }
	text := func(most int) string {
		return fmt.Sprintf("'%s'", strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(most)))
	}
	if _, ok := d["extra"]; ok && r.IntN(3) == 0 {
		return fmt.Sprintf("INSERT INTO extra (p, q) SELECT value, %s FROM generate_series(1, %d)", text(30), 1+r.IntN(300))
	}
	switch r.IntN(24) {
	case 0, 1, 2:
		return fmt.Sprintf("INSERT OR REPLACE INTO t (id, a, b) VALUES (%d, %s, %d.25)", id(), text(200), id())
	case 3:
		return fmt.Sprintf("INSERT INTO t (a, b) SELECT %s || value, value FROM generate_series(1, %d)", text(100), id())
	case 4, 5:
		return fmt.Sprintf("UPDATE t SET a = %s WHERE id BETWEEN %d AND %d", text(150), id(), id())
	case 6:
		return fmt.Sprintf("UPDATE OR IGNORE t SET id = id + 1000000 WHERE id = %d", id())
	case 7, 8:
		return fmt.Sprintf("DELETE FROM t WHERE id %% %d = 0", 1+r.IntN(20))
	case 9:
		return fmt.Sprintf("INSERT INTO heap SELECT randomblob(%d), value FROM generate_series(1, %d)", id(), id())
	case 10:
		return fmt.Sprintf("DELETE FROM heap WHERE rowid %% %d = 1", 1+r.IntN(5))
	case 11:
		return fmt.Sprintf("UPDATE heap SET x = %d WHERE rowid = %d", id(), id())
	case 12, 13:
		return fmt.Sprintf("INSERT OR REPLACE INTO w SELECT value, %s || value %% 7, randomblob(%d) FROM generate_series(%d, %d)", text(40), 1+r.IntN(900), id(), id())
	case 14:
		return fmt.Sprintf("UPDATE w SET v = randomblob(%d) WHERE n BETWEEN %d AND %d", 1+r.IntN(200), id(), id())
	case 15:
		return fmt.Sprintf("DELETE FROM w WHERE n %% %d = 0", 1+r.IntN(9))
	case 16, 17:
		return fmt.Sprintf("INSERT INTO large (head, doc, version) VALUES (%s, hex(randomblob(%d)), 1)", text(50), r.IntN(20_000))
	case 18, 19:
		return fmt.Sprintf("UPDATE large SET version = version + 1 WHERE id = (SELECT id FROM large ORDER BY id LIMIT 1 OFFSET %d)", r.IntN(20))
	case 20:
		return fmt.Sprintf("DELETE FROM large WHERE id %% %d = 0", 2+r.IntN(9))
	case 21:
		return "DELETE FROM " + []string{"t", "heap", "w", "large"}[r.IntN(4)]
	case 22:
		if _, ok := d["extra"]; ok {
			more := fmt.Sprintf("ALTER TABLE extra ADD COLUMN z%d TEXT DEFAULT 'new'", len(d["extra"].columns))
			return []string{"DROP TABLE extra", more, "ALTER TABLE extra RENAME TO other"}[r.IntN(3)]
		}
		if _, ok := d["other"]; ok { // a rename needs the name
			return "DROP TABLE other"
		}
		return "CREATE TABLE extra (p INT, q TEXT)"
	}
	return fmt.Sprintf("UPDATE t SET b = b + 1 WHERE id = %d", id())
}

// Whatever is done to a database, the vault shows what has changed, row by row.
func TestATailIsShownAsWhatHappened(t *testing.T) {
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			seed := rand.Uint64()
			if env, err := strconv.ParseUint(os.Getenv("SKEIN_SEED"), 10, 64); err == nil {
				seed = env
			}
			t.Logf("seed %d", seed)
			showWalk(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func showWalk(t *testing.T, rnd *rand.Rand) {
	r := newRig(t, t.TempDir())
	r.write("BEGIN;" + testSchema + "COMMIT")
	transaction := func(before dump) (history.LSN, string) {
		if rnd.IntN(40) == 0 {
			return r.write("VACUUM"), "VACUUM"
		}
		var list []string
		for range 1 + rnd.IntN(4) {
			sql := statement(rnd, before)
			list = append(list, sql)
			if strings.Contains(sql, "TABLE") {
				break
			}
		}
		if sql := strings.Join(list, "; "); !strings.Contains(sql, "extra") || len(list) == 1 {
			return r.write("BEGIN; " + sql + "; COMMIT"), sql
		}
		return r.write("BEGIN; " + list[0] + "; COMMIT"), list[0]
	}
	for range 30 + rnd.IntN(60) {
		transaction(r.dump())
		if rnd.IntN(20) == 0 {
			if err := r.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	fork := r.Visible()
	var steps []step
	before := r.dump()
	for range 40 {
		lsn, sql := transaction(before)
		after := r.dump()
		if lsn > 0 {
			steps = append(steps, step{lsn, sql, before, after})
		}
		before = after
	}
	if rnd.IntN(2) == 0 { // the process is killed, and the next one has to give the tail up
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
			t.Fatal(err)
		}
		r.stop()
		r = newRig(t, dir)
	}
	defer r.stop()
	name, err := r.SaveTail(fork)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := vault.Open(name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tail.Close() }()
	if tail.Missing != "" || tail.Transactions != int64(len(steps)) || tail.From != fork+1 {
		t.Fatalf("%+v", tail)
	}
	pages := r.Store().DB(testDB).Head().Pages
	t.Logf("%d transactions, %d pages kept where the database has %d", tail.Transactions, tail.Pages(testDB), pages)
	i := 0
	err = tail.Each(func(x *vault.Transaction) error {
		steps[i].check(t, x)
		i++
		return nil
	})
	if err != nil || i != len(steps) {
		t.Fatalf("%d of %d transactions, %v", i, len(steps), err)
	}
}

var _ = pagestore.PageSize
