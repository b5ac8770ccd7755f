package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/pgcatalog"
)

// tokenCount counts the tokens that the default database remembers.
func (r *rig) tokenCount() (n int) {
	r.t.Helper()
	_, err := r.database(DefaultDatabase).write(r.t.Context(), nil, func(c *conn) error {
		return c.query("SELECT count(*) FROM "+pgcatalog.TokensTable, func(st *sqlite3.Stmt) { n = st.ColumnInt(0) })
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// between runs fn where a client's session is used.
func (r *rig) between(c *pgconn.PgConn, fn func(*Session)) {
	r.t.Helper()
	r.engine.mu.RLock()
	s := r.engine.sessions[c.PID()]
	r.engine.mu.RUnlock()
	done := make(chan struct{})
	s.out.Between(func() {
		defer close(done)
		fn(s)
	})
	<-done
}

func TestOldTokensGo(t *testing.T) {
	const most = 40
	r := &rig{t: t, dir: t.TempDir(), tokens: most}
	r.start()
	t.Cleanup(func() {
		r.allGone()
		r.stop()
	})
	c := r.dial()
	defer c.Close(t.Context())
	named := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			run(t, c, fmt.Sprintf("SET skein.transaction_token = 't%d'", i))
			if code, _ := run(t, c, fmt.Sprintf("INSERT INTO t VALUES (%d)", i)); code != "" {
				t.Fatal(i, code)
			}
		}
	}
	known := func(i int) bool {
		code, value := run(t, c, fmt.Sprintf("SELECT skein_transaction_status('t%d')", i))
		if code != "" || value != "committed" && value != "unknown" {
			t.Fatalf("status: %s %q", code, value)
		}
		return value == "committed"
	}
	run(t, c, "CREATE TABLE t (n int)")
	named(0, 200)
	if n := r.tokenCount(); n < most || n >= most+tokensSweep {
		t.Errorf("%d tokens are remembered, not %d", n, most)
	}
	for i := 200 - most; i < 200; i++ {
		if !known(i) {
			t.Errorf("token %d of 200 is forgotten", i)
		}
	}
	if known(0) {
		t.Error("the oldest token is remembered")
	}
	if code, _ := run(t, c, "SET skein.transaction_token = 't199'"); code != "" {
		t.Fatal(code)
	}
	if code, _ := run(t, c, "INSERT INTO t VALUES (199)"); code != "23505" {
		t.Errorf("a token is used twice: %q", code)
	}

	run(t, c, "SET skein.transaction_token = ''")
	run(t, c, "ALTER SYSTEM SET skein.transaction_token_retention = '1h'")
	r.arrive(DefaultDatabase, fmt.Sprintf("UPDATE %s SET at = %d", pgcatalog.TokensTable, time.Now().Add(-61*time.Minute).UnixMicro()))
	named(200, 200+tokensSweep)
	if n := r.tokenCount(); n > tokensSweep {
		t.Errorf("%d tokens are remembered, of which %d are not old", n, tokensSweep)
	}
	if known(199) || !known(200) {
		t.Error("the wrong ones have gone")
	}
}

// What a power cut has left of the log, however much that is, has the rows of a transaction and its name, or neither: so each
// can be repeated until it is done once.
func TestATokenIsThereExactlyWithItsTransaction(t *testing.T) { // T7, I6
	const transactions = 40
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	write := func(c *pgconn.PgConn, i int) string {
		run(t, c, fmt.Sprintf("SET skein.transaction_token = 't%d'", i))
		code, _ := run(t, c, fmt.Sprintf("BEGIN; INSERT INTO t VALUES (%d, 'first'); INSERT INTO t VALUES (%d, 'second'); COMMIT", i, i))
		if code != "" {
			run(t, c, "ROLLBACK")
		}
		return code
	}
	first := newRig(t)
	c := first.dial("synchronous_commit=off")
	run(t, c, "CREATE TABLE t (n int, half text)")
	start := first.pipeline.Log().Bytes()
	for i := range transactions {
		if code := write(c, i); code != "" {
			t.Fatal(i, code)
		}
	}
	_ = c.Close(t.Context())
	first.allGone()
	end := first.pipeline.Log().Bytes()
	if err := first.pipeline.Log().Wait(t.Context(), first.pipeline.Log().Head().LSN); err != nil {
		t.Fatal(err)
	}
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(first.dir)); err != nil {
		t.Fatal(err)
	}

	for range 8 {
		r := &rig{t: t, dir: t.TempDir()}
		if err := os.CopyFS(r.dir, os.DirFS(killed)); err != nil {
			t.Fatal(err)
		}
		forget(t, r.dir, end-start-random.Int64N(end-start))
		r.start()
		c := r.dial()
		kept := 0
		for i := range transactions {
			_, rows := run(t, c, fmt.Sprintf("SELECT count(*) FROM t WHERE n = %d", i))
			_, status := run(t, c, fmt.Sprintf("SELECT skein_transaction_status('t%d')", i))
			if rows+" "+status != "2 committed" && rows+" "+status != "0 unknown" {
				t.Errorf("transaction %d: %s rows, %s", i, rows, status)
			}
			code := write(c, i)
			if rows == "2" && code != "23505" || rows == "0" && code != "" {
				t.Errorf("transaction %d, with %s rows, again: %q", i, rows, code)
			}
			if rows == "2" {
				kept++
			}
		}
		if _, value := run(t, c, "SELECT count(*) || ' ' || count(DISTINCT n) FROM t"); value != fmt.Sprintf("%d %d", 2*transactions, transactions) {
			t.Errorf("in the end there are %s", value)
		}
		t.Logf("%d of %d transactions were kept", kept, transactions)
		_ = c.Close(t.Context())
		r.allGone()
		r.stop()
	}
}

// forget takes the last bytes of a node's log away, as a power cut does that comes before they are on the disk, and what the node
// knew of them.
func forget(t *testing.T, dir string, bytes int64) {
	t.Helper()
	if err := os.Remove(filepath.Join(commit.LogDir(dir), "committed")); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(commit.LogDir(dir), "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("the log has %d segments: %v", len(logs), err)
	}
	content, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	end := int64(len(strings.TrimRight(string(content), "\x00")))
	for i := max(end-bytes, 0); i < end; i++ {
		content[i] = 0
	}
	if err := os.WriteFile(logs[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestThatAClientHearsItsPositionCostsNothingButTheText(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	defer c.Close(t.Context())
	if code, _ := run(t, c, "CREATE TABLE t (n int)"); code != "" {
		t.Fatal(code)
	}
	lsn := r.pipeline.Visible()
	r.between(c, func(s *Session) {
		if n := testing.AllocsPerRun(20, func() { lsn++; s.committed(lsn, "") }); n > 1 {
			t.Errorf("it allocates %v times", n)
		}
		if want := fmt.Sprintf("%s@1-01000000", lsn.PgLSN()); s.Setting("skein.last_commit") != want {
			t.Errorf("the position is %s, not %s", s.Setting("skein.last_commit"), want)
		}
	})
}
