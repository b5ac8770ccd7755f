package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// dial opens a session; it is closed before the rig stops.
func (r *rig) dial(settings ...string) *pgconn.PgConn {
	r.t.Helper()
	c, err := pgconn.Connect(r.t.Context(), r.dsn(settings...))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (r *rig) dsn(settings ...string) string {
	host, port, _ := strings.Cut(r.address, ":")
	return fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable %s", host, port, DefaultRole, DefaultDatabase, strings.Join(settings, " "))
}

// run gives the SQLSTATE of a statement, "" for success, and the text of its last row's first column.
func run(t *testing.T, c *pgconn.PgConn, sql string) (code, value string) {
	t.Helper()
	results, err := c.Exec(t.Context(), sql).ReadAll()
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code, ""
	}
	if err != nil {
		t.Fatalf("%.100s: %v", sql, err)
	}
	if rows := results[len(results)-1].Rows; len(rows) > 0 {
		value = string(rows[len(rows)-1][0])
	}
	return "", value
}

// The protocol prepares EXECUTE as it does any statement, under the name, too, that it executes.
func TestEXECUTEDoesNotExecuteItself(t *testing.T) {
	c := newRig(t).dial()
	for name, sql := range map[string]string{"own": "execute own", "ping": "execute pong", "pong": "execute ping", "empty": ""} {
		if _, err := c.Prepare(t.Context(), name, sql, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"own", "ping"} {
		if code, _ := run(t, c, "execute "+name); code != "0A000" {
			t.Errorf("execute %s: %q", name, code)
		}
		var e *pgconn.PgError
		if err := c.ExecPrepared(t.Context(), name, nil, nil, nil).Read().Err; !errors.As(err, &e) || e.Code != "0A000" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if code, _ := run(t, c, "execute empty"); code != "0A000" {
		t.Errorf("execute empty: %q", code)
	}
}

func TestStatementsOutOfMemoryEndAndTheSessionGoesOn(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	if code, _ := run(t, c, "create table t (a int primary key, b bytea); insert into t values (1, 'x')"); code != "" {
		t.Fatal(code)
	}
	hungry := "select " + strings.Repeat("(zeroblob(60000000) || 'x'), ", 9) + "1"
	for _, test := range []struct{ name, before, sql, code, after string }{
		{"an aggregate too long", "", "select array_agg(b) from (" + strings.Repeat("select (zeroblob(30000000) || 'x') as b union all ", 30) + "select 'x')", "54000", ""},
		{"a sum of large values", "", "select " + strings.Repeat("length((zeroblob(60000000) || 'x')) + ", 7) + "1 from (select 1)", "53200", ""},
		{"many values in one row", "", hungry, "53200", ""},
		{"in a block", "begin; insert into t values (2, 'y')", hungry, "53200", "rollback"},
		{"after a savepoint", "begin; savepoint s; insert into t values (2, 'y')", hungry, "53200", "rollback"},
		{"writing", "", "insert into t select length(" + strings.Repeat("(zeroblob(60000000) || 'x')) + length(", 9) + "''), 'x'", "53200", ""},
		{"on a connection of its own", "create temp table s (a int)", hungry, "53200", ""},
		{"again on a connection of its own", "create temp table s2 (a int); begin; insert into t values (2, 'y')", hungry, "53200", "rollback"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.before != "" {
				if code, _ := run(t, c, test.before); code != "" {
					t.Fatal("before:", code)
				}
			}
			if code, _ := run(t, c, test.sql); code != test.code {
				t.Errorf("got %q, want %q", code, test.code)
			}
			if test.after != "" {
				if code, _ := run(t, c, test.after); code != "" {
					t.Fatal("after:", code)
				}
			}
			if code, n := run(t, c, "insert into t values (9, 'z'); delete from t where a = 9; select count(*) from t"); code != "" || n != "1" {
				t.Fatalf("afterwards: %s, %s rows", code, n)
			}
		})
	}
}

// TestTheLimitOfTemporaryFilesIsNoFullDisk: freeing disk space, which is what the hint of a full one says, would not help.
func TestTheLimitOfTemporaryFilesIsNoFullDisk(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), temp: 8 << 20}
	r.start()
	defer r.stop()
	c := r.dial()
	rows := func(n int) string {
		return fmt.Sprintf("select g as a, hex(randomblob(500)) as b from generate_series(1, %d) g", n)
	}
	for _, sql := range []string{"create table t (a int, b text)", "create temp table s (a int, b text)"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	for name, sql := range map[string]string{
		"a sort":                    "select count(*) from (" + rows(20_000) + " order by b limit 15000)",
		"a temporary table":         "insert into s " + rows(20_000),
		"a block without the turn":  "begin; insert into t values (1, hex(zeroblob(20000000)))",
		"an index of all that":      "begin; create temp table u as " + rows(6_000) + "; create index on u (b); create index on u (b, a)",
		"a set without its repeats": "select count(*) from (select distinct b from (" + rows(20_000) + "))",
	} {
		t.Run(name, func(t *testing.T) {
			c := c
			if name == "a block without the turn" { // which a session with temporary tables takes at once
				c = r.dial()
			}
			_, err := c.Exec(t.Context(), sql).ReadAll()
			var e *pgconn.PgError
			if !errors.As(err, &e) || e.Code != "53400" || !strings.Contains(e.Message, "8388608 bytes") || !strings.Contains(e.Hint, "--max-temp-bytes") {
				t.Errorf("%+v", e)
			}
			if code, n := run(t, c, "rollback; insert into t values (1, 'x'); select count(*) from t where a = 1"); code != "" || n == "0" {
				t.Errorf("afterwards: %s, %s rows", code, n)
			}
		})
	}
}

// TestMemoryOfLostConnectionsIsGivenBack: SQLite's memory is mapped, which the garbage collector does not know.
func TestMemoryOfLostConnectionsIsGivenBack(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	c := newRig(t).dial()
	mapped := func() (pages int) {
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Skip(err)
		}
		_, _ = fmt.Sscan(string(text), &pages)
		return pages
	}
	hungry := "select " + strings.Repeat("hex(zeroblob(30000000)), ", 6) + "1"
	run(t, c, hungry)
	before := mapped()
	for range 4 {
		if code, _ := run(t, c, hungry); code != "53200" {
			t.Fatal(code)
		}
	}
	if grown := (mapped() - before) * os.Getpagesize(); grown > connMemoryBytes {
		t.Errorf("%d MB are lost", grown>>20)
	}
}

func TestLargeStatements(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for _, test := range []struct{ name, sql, code string }{
		{"a long list", "select 1 in (" + strings.Repeat("1,", 100_000) + "1)", ""},
		{"deep parentheses", "select " + strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000), "54000"},
		{"deep parentheses, more", "select " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000), "54000"},
		{"a long or", "select 1 from (select 1 as a) x where a = 1" + strings.Repeat(" or a = 2", 900), ""},
		{"a long sum", "select 1" + strings.Repeat("+1", 900), "54001"},
		{"too long a sum", "select 1" + strings.Repeat("+1", 20_000), "54001"},
		{"deep subqueries", strings.Repeat("select * from (", 500) + "select 1" + strings.Repeat(") x", 500), "54000"},
		{"deep functions", "select " + strings.Repeat("abs(", 3000) + "1" + strings.Repeat(")", 3000), "54000"},
		{"deep case", "select " + strings.Repeat("case when true then ", 3000) + "1" + strings.Repeat(" end", 3000), "54000"},
		{"deep not", "select " + strings.Repeat("not ", 20_000) + "true", "54000"},
		{"deep minus", "select " + strings.Repeat("- ", 20_000) + "1", "54000"},
		{"deep with", strings.Repeat("with a as (", 300) + "select 1" + strings.Repeat(") select * from a", 300), "54000"},
		{"many unions", "select 1" + strings.Repeat(" union all select 1", 400), "54001"},
		{"too many unions", "select 1" + strings.Repeat(" union all select 1", 2000), "54000"},
		{"many joins", "select count(*) from (select 1 as a) t0" + strings.Repeat(" cross join (select 1)", 80), "54000"},
		{"many columns", "select " + strings.Repeat("1,", 1999) + "1", ""},
		{"too many columns", "select " + strings.Repeat("1,", 2100) + "1", "54011"},
		{"many statements", strings.Repeat("select 1;", 5000), ""},
		{"a long literal", "select length('" + strings.Repeat("x", 10<<20) + "')", ""},
		{"a like pattern", "select '" + strings.Repeat("a", 5000) + "' like '" + strings.Repeat("%a", 20_000) + "'", "54001"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if code, _ := run(t, c, test.sql); code != test.code {
				t.Errorf("got %q, want %q", code, test.code)
			}
			if code, n := run(t, c, "select 42"); code != "" || n != "42" {
				t.Fatalf("afterwards: %s, %s", code, n)
			}
		})
	}
}

func TestManyParameters(t *testing.T) {
	c, err := pgx.Connect(t.Context(), newRig(t).dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for _, test := range []struct {
		n    int
		code string
	}{{32766, ""}, {32767, "54000"}, {65535, "54000"}} {
		var sql strings.Builder
		args := make([]any, test.n)
		sql.WriteString("select 0 in (")
		for i := range args {
			args[i] = 1
			if i > 0 {
				sql.WriteByte(',')
			}
			fmt.Fprintf(&sql, "$%d::int", i+1)
		}
		sql.WriteByte(')')
		var in bool
		err := c.QueryRow(t.Context(), sql.String(), args...).Scan(&in)
		var e *pgconn.PgError
		if errors.As(err, &e); test.code == "" && err != nil || test.code != "" && (e == nil || e.Code != test.code) {
			t.Errorf("%d parameters: %v, want %q", test.n, err, test.code)
		}
	}
}

func TestLargeValuesComeBackAsTheyWere(t *testing.T) {
	c, err := pgx.Connect(t.Context(), newRig(t).dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), "create table t (a int primary key, b bytea, c text)"); err != nil {
		t.Fatal(err)
	}
	blob := []byte(strings.Repeat("\x00\xff'\\", 8<<20))
	text := strings.Repeat("é\n", 4<<20)
	if _, err := c.Exec(t.Context(), "insert into t values (1, $1, $2)", blob, text); err != nil {
		t.Fatal(err)
	}
	var gotBlob []byte
	var gotText string
	if err := c.QueryRow(t.Context(), "select b, c from t").Scan(&gotBlob, &gotText); err != nil {
		t.Fatal(err)
	}
	if string(gotBlob) != string(blob) || gotText != text {
		t.Error("they have changed")
	}
}

// TestReadersThatWaitForALockLeaveAConnection: whoever holds the lock needs one to give it back.
func TestReadersThatWaitForALockLeaveAConnection(t *testing.T) {
	r := newRig(t)
	holder := r.dial()
	if code, _ := run(t, holder, "select pg_advisory_lock(1)"); code != "" {
		t.Fatal(code)
	}
	waiting := make(chan error)
	const n = 80 // more than there are readers
	for range n {
		c := r.dial()
		go func() {
			_, err := c.Exec(context.Background(), "begin; select pg_advisory_xact_lock(1); commit").ReadAll()
			waiting <- err
		}()
	}
	d := r.database(DefaultDatabase)
	r.eventually("everybody waits", func() bool {
		r.engine.locks.mu.Lock()
		defer r.engine.locks.mu.Unlock()
		return len(d.slots) == 0
	})
	if code, _ := run(t, holder, "select pg_advisory_unlock(1)"); code != "" {
		t.Fatal(code)
	}
	for range n {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
}

func TestNothingIsLeftOfSessionsThatGo(t *testing.T) {
	r := newRig(t)
	first := r.dial()
	if code, _ := run(t, first, "create table t (a int)"); code != "" {
		t.Fatal(code)
	}
	before := runtime.NumGoroutine()
	for _, sql := range []string{
		"begin", "begin; insert into t values (1)", "begin; select * from t", "begin; declare c cursor for select * from t; fetch c",
		"create temp table s (a int); begin; insert into s values (1)", "select pg_advisory_lock(7)", "set statement_timeout = '1h'",
		"set idle_session_timeout = '1h'", "begin; set local idle_in_transaction_session_timeout = '1h'", "begin; savepoint s; select nothing",
	} {
		c, err := pgconn.Connect(t.Context(), r.dsn())
		if err != nil {
			t.Fatal(err)
		}
		run(t, c, sql)
		_ = c.Conn().Close() // without a goodbye
	}
	r.eventually("only one session is left", func() bool {
		r.engine.mu.RLock()
		defer r.engine.mu.RUnlock()
		return len(r.engine.sessions) == 1
	})
	r.eventually("their goroutines end", func() bool { return runtime.NumGoroutine() <= before+1 })
	if code, _ := run(t, first, "set lock_timeout = '5s'; insert into t values (1)"); code != "" {
		t.Error(code)
	}
}

func TestSessionsAtWork(t *testing.T) {
	r := newRig(t)
	first := r.dial()
	if code, _ := run(t, first, "create table t (a int primary key, n int); insert into t select g, 0 from generate_series(1, 10) g"); code != "" {
		t.Fatal(code)
	}
	const sessions, rounds = 8, 40
	done := make(chan error, sessions)
	for i := range sessions {
		c := r.dial()
		go func() { done <- transfer(c, i, rounds) }()
	}
	deadline := time.After(time.Minute)
	for range sessions {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-deadline:
			t.Fatal("they do not end")
		}
	}
	if _, n := run(t, first, "select sum(n) from t"); n != fmt.Sprint(sessions*rounds) {
		t.Errorf("the sum is %s: an update was lost", n)
	}
}

// transfer adds up in read-modify-write transactions, repeating those that could not be serialized,
// while the schema changes.
func transfer(c *pgconn.PgConn, id, rounds int) error {
	for i := 0; i < rounds; {
		sql := fmt.Sprintf("begin; select n from t where a = %d; update t set n = n + 1 where a = %[1]d; commit", i%10+1)
		switch {
		case id == 0 && i%8 == 3:
			sql = fmt.Sprintf("begin; alter table t add column c%d int; update t set n = n + 1 where a = 1; commit", i)
		case id == 1 && i%8 == 5:
			sql = fmt.Sprintf("create index t_i%d on t (n); update t set n = n + 1 where a = 2", i)
		}
		_, err := c.Exec(context.Background(), sql).ReadAll()
		var e *pgconn.PgError
		if errors.As(err, &e) && e.Code == "40001" {
			if _, err := c.Exec(context.Background(), "rollback").ReadAll(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		i++
	}
	return nil
}

func TestDraftsLeaveConnectionsToReaders(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	if code, _ := run(t, c, "CREATE TABLE t (a int)"); code != "" {
		t.Fatal(code)
	}
	block := func() *pgconn.PgConn {
		b := r.dial()
		if code, _ := run(t, b, "BEGIN"); code != "" {
			t.Fatal(code)
		}
		return b
	}
	insert := func(b *pgconn.PgConn) {
		if code, _ := run(t, b, "INSERT INTO t VALUES (1)"); code != "" {
			t.Error(code)
		}
	}
	limit := cap(r.database("skein").slots)
	var blocks []*pgconn.PgConn
	for range limit {
		b := block()
		blocks = append(blocks, b)
		if len(blocks) <= limit*3/4+1 { // the last of these has the turn
			insert(b)
		}
	}
	var waiting sync.WaitGroup
	for _, b := range blocks[limit*3/4+1:] {
		waiting.Go(func() {
			insert(b)
			if code, _ := run(t, b, "COMMIT"); code != "" {
				t.Error(code)
			}
		})
	}
	r.queued(limit - limit*3/4 - 1)
	if _, rows := run(t, c, "SELECT count(*) FROM t"); rows != "0" {
		t.Error(rows)
	}
	if code, _ := run(t, blocks[limit*3/4], "COMMIT"); code != "" {
		t.Error(code)
	}
	waiting.Wait()
	for _, b := range blocks[:limit*3/4] {
		if code, _ := run(t, b, "COMMIT"); code != "" {
			t.Error(code)
		}
	}
	if _, rows := run(t, c, "SELECT count(*) FROM t"); rows != strconv.Itoa(limit) {
		t.Error(rows)
	}
}
