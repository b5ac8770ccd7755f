package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	_ "github.com/lib/pq"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/sqlstate"
)

// newStandby gives a follower whose log ends where a leader's ended.
func newStandby(t *testing.T, first *rig) *rig {
	t.Helper()
	first.allGone()
	first.stop()
	first.stop = func() {}
	r := &rig{t: t, dir: first.dir, standby: true}
	r.start()
	t.Cleanup(func() {
		r.allGone()
		r.stop()
	})
	return r
}

func (r *rig) promote() {
	r.t.Helper()
	if err := r.pipeline.Lead(r.t.Context(), 0); err != nil {
		r.t.Fatal(err)
	}
	if err := r.engine.Promote(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// A leader that went on alone is lost. Whoever leads next waits for followers again, and says so.
func TestALeaderEndsWhatTheOneBeforeDidAlone(t *testing.T) {
	first := newRig(t)
	if err := first.engine.RecordDegraded(t.Context(), 2, "nobody answers"); err != nil {
		t.Fatal(err)
	}
	r := newStandby(t, first)
	r.promote()
	c := r.dial()
	defer func() { _ = c.Close(t.Context()) }()
	if _, got := run(t, c, "SELECT ended IS NOT NULL AND to_lsn >= from_lsn AND commits > 0 FROM skein_degradations"); got != "t" {
		t.Errorf("it shows %q", got)
	}
}

func TestSessionsStayWhenTheirNodeIsPromoted(t *testing.T) {
	first := newRig(t)
	c := first.dial()
	for _, sql := range []string{
		"CREATE TABLE t (a int primary key, b int)", "INSERT INTO t VALUES (1, 1)", "CREATE DATABASE before",
		"ALTER SYSTEM SET lock_timeout = '7s'",
	} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	_ = c.Close(t.Context())
	r := newStandby(t, first)

	idle, block, reader := r.dial(), r.dial(), r.dial()
	for _, c := range []*pgconn.PgConn{idle, block, reader} {
		if c.ParameterStatus("in_hot_standby") != "on" {
			t.Error("a follower's session is not told that it is one")
		}
	}
	if code, _ := run(t, idle, "INSERT INTO t VALUES (2, 2)"); code != "25006" {
		t.Errorf("a write on a follower: %q", code)
	}
	if _, err := reader.Prepare(t.Context(), "p", "SELECT count(*) FROM t", nil); err != nil {
		t.Fatal(err)
	}
	if code, _ := run(t, block, "BEGIN"); code != "" {
		t.Fatal(code)
	}
	run(t, block, "SELECT 1 FROM t")

	if err := r.engine.Promote(t.Context()); err == nil {
		t.Error("promoted over a storage that follows")
	}
	if err := r.pipeline.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if code, _ := run(t, idle, "INSERT INTO t VALUES (2, 2)"); code != "25006" {
		t.Errorf("a write before the engine is promoted: %q", code)
	}
	before := r.rule
	if err := r.engine.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.rule.Names.String() != before.Names.String() || r.pipeline.Visible() != r.pipeline.Log().Received() {
		t.Errorf("visible %d of %d: the new leadership has not been told its rule", r.pipeline.Visible(), r.pipeline.Log().Received())
	}
	if err := r.engine.Promote(t.Context()); err == nil {
		t.Error("promoted twice")
	}
	// Told without having asked.
	waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for idle.ParameterStatus("in_hot_standby") != "off" {
		if _, err := idle.ReceiveMessage(waiting); err != nil {
			t.Fatalf("an idle session hears nothing: %v", err)
		}
	}
	if code, _ := run(t, idle, "INSERT INTO t VALUES (2, 2)"); code != "" {
		t.Errorf("a write after the promotion: %q", code)
	}
	if b, err := history.ParseBookmark(idle.ParameterStatus("skein.last_commit")); err != nil || b.Epoch != r.pipeline.Leads() || b.LSN != r.pipeline.Log().Received() {
		t.Errorf("the client is told of position %v: %v", b, err)
	}
	if code, _ := run(t, block, "INSERT INTO t VALUES (3, 3)"); code != "25006" {
		t.Errorf("a block that began on a follower writes: %q", code)
	}
	run(t, block, "ROLLBACK")
	if code, _ := run(t, block, "INSERT INTO t VALUES (3, 3)"); code != "" {
		t.Errorf("after its end: %q", code)
	}
	if got := reader.ExecPrepared(t.Context(), "p", nil, nil, nil).Read(); got.Err != nil || string(got.Rows[0][0]) != "3" {
		t.Errorf("a statement that was prepared before: %v %v", got.Rows, got.Err)
	}
	for _, sql := range []string{"CREATE TABLE u (a int)", "CREATE DATABASE later", "DROP DATABASE before", "CREATE ROLE gander"} {
		if code, _ := run(t, idle, sql); code != "" {
			t.Errorf("%s: %s", sql, code)
		}
	}
	again := r.dial()
	if code, value := run(t, again, "SELECT pg_is_in_recovery()"); code != "" || value != "f" || again.ParameterStatus("in_hot_standby") != "off" {
		t.Errorf("a new session is on a follower: %s %s", code, value)
	}
	for _, c := range []*pgconn.PgConn{idle, block, reader, again} {
		_ = c.Close(t.Context())
	}
}

// A CREATE and a DROP DATABASE that nobody has acknowledged are inherited; they take effect with the new leadership.
func TestAPromotedEngineInheritsWhatIsPending(t *testing.T) {
	first := newRig(t)
	c := first.dial()
	for _, sql := range []string{"CREATE DATABASE doomed", "ALTER SYSTEM SET synchronous_standby_names = 'gander'"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	for i, sql := range []string{"CREATE DATABASE pending", "DROP DATABASE doomed"} {
		c := first.dial()
		c.Exec(t.Context(), sql)
		first.awaited(int64(i + 1))
	}
	first.end(nil)
	r := newStandby(t, first)
	c = r.dial()
	if code, value := run(t, c, "SELECT count(*) FROM pg_database WHERE datname IN ('doomed', 'pending')"); code != "" || value != "1" {
		t.Errorf("before: %s %s databases", code, value)
	}
	r.promote()
	if _, value := run(t, c, "SELECT count(*) FROM pg_database WHERE datname IN ('doomed', 'pending')"); value != "1" {
		t.Errorf("promoted, with nothing acknowledged: %s databases", value)
	}
	if refused, err := pgconn.Connect(t.Context(), r.dsn("dbname=doomed")); err == nil {
		t.Error("somebody may write to a database behind its end in the log")
		_ = refused.Close(t.Context())
	}
	r.acknowledge("gander", "applied")
	r.eventually("the databases are what the log says", func() bool {
		return r.engine.database("pending") != nil && r.engine.database("doomed") == nil
	})
	if code, _ := run(t, r.dial("dbname=pending"), "SELECT 1"); code != "" {
		t.Error(code)
	}
}

// What each session of a leader hears when its node ceases to lead.
func TestSessionsAtADemotion(t *testing.T) { // G22, G23, E10
	r := newRig(t)
	var sessions sync.WaitGroup
	type told struct{ name, errors string }
	heard := make(chan told, 16)
	session := func(name string, before []string, last string) {
		c := r.dial()
		for _, sql := range before {
			if code, _ := run(t, c, sql); code != "" {
				t.Fatal(name, sql, code)
			}
		}
		if last != "" {
			c.Frontend().Send(&pgproto3.Query{String: last})
			if err := c.Frontend().Flush(); err != nil {
				t.Fatal(err)
			}
			r.running(c.PID())
		}
		sessions.Go(func() {
			var words []string
			for {
				m, err := c.Frontend().Receive()
				if err != nil {
					break
				}
				if e, ok := m.(*pgproto3.ErrorResponse); ok {
					words = append(words, fmt.Sprintf("%s %s (%s)", e.Severity, e.Code, e.Detail))
				}
			}
			heard <- told{name, strings.Join(words, ", ")}
		})
	}
	setup := r.dial()
	for _, sql := range []string{"CREATE TABLE t (a int primary key)", "CREATE DATABASE other", "ALTER SYSTEM SET synchronous_standby_names = 'gander'"} {
		if code, _ := run(t, setup, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	_ = setup.Close(t.Context())
	r.acknowledge("gander", "applied")
	session("idle", nil, "")
	session("with a temporary table, a lock and a prepared statement", []string{"CREATE TEMP TABLE u (a int)", "SELECT pg_advisory_lock(1)", "PREPARE p AS SELECT 1"}, "")
	session("waits for an acknowledgement", nil, "INSERT INTO t VALUES (1)")
	r.awaited(1)
	session("idle in a transaction that has written", []string{"BEGIN ISOLATION LEVEL READ COMMITTED", "INSERT INTO t VALUES (2)"}, "")
	session("waits to write", nil, "INSERT INTO t VALUES (3)")
	r.queued(1)
	session("runs a long statement", nil, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
	session("waits for a lock", nil, "SELECT pg_advisory_lock(1)")
	session("sleeps", nil, "SELECT pg_sleep(100000)")

	if _, err := r.pipeline.Promise(5); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.end(sqlstate.New(sqlstate.AdminShutdown, "terminating connection due to administrator command").WithDetail("the leader has changed; connect again"))
	sessions.Wait()
	t.Logf("everybody was told within %v", time.Since(began))
	close(heard)
	const farewell = "FATAL 57P01 (the leader has changed; connect again)"
	for h := range heard {
		want := farewell
		if h.name == "waits for an acknowledgement" {
			if !strings.HasPrefix(h.errors, "ERROR 08007 ") || !strings.HasSuffix(h.errors, farewell) {
				t.Errorf("%s: %s", h.name, h.errors)
			}
			continue
		}
		if h.errors != want {
			t.Errorf("%s: %s", h.name, h.errors)
		}
	}
	r.allGone()
}

// What a leader's engine has in its caches of a tail that is cut is not seen through the next one.
func TestAnEngineThatIsOpenedAgainAfterADemotionSeesTheOtherHistory(t *testing.T) { // G22
	a := newRig(t)
	c := a.dial()
	for _, sql := range []string{"CREATE TABLE t (a integer primary key, b text)", "INSERT INTO t VALUES (1, 'common')"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	if _, err := a.pipeline.Promise(3); err != nil { // only to have everything on disk
		t.Fatal(err)
	}
	if err := a.pipeline.Lead(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
	a.allGone()
	if err := a.endService(nil); err != nil {
		t.Fatal(err)
	}
	a.serve(t.Context(), slog.New(slog.NewTextHandler(complaint{t}, &slog.HandlerOptions{Level: slog.LevelError})))

	b := &rig{t: t, dir: t.TempDir()}
	if err := os.CopyFS(b.dir, os.DirFS(a.dir)); err != nil {
		t.Fatal(err)
	}
	c = a.dial()
	kept := a.pipeline.Visible()
	if code, _ := run(t, c, "ALTER SYSTEM SET synchronous_standby_names = 'gander'"); code != "" {
		t.Fatal(code)
	}
	run(t, c, "SET synchronous_commit = local")
	for _, sql := range []string{"INSERT INTO t VALUES (2, 'lost')", "CREATE TABLE lost (a int)", "UPDATE t SET b = 'changed and lost' WHERE a = 1"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	if _, value := run(t, c, "SELECT b FROM t WHERE a = 1"); value != "changed and lost" {
		t.Errorf("the session does not see what it has written: %s", value)
	}
	kept = min(kept, a.pipeline.Visible())
	if _, err := a.pipeline.Promise(8); err != nil {
		t.Fatal(err)
	}
	if err := a.endService(errors.New("demoted")); err != nil {
		t.Fatal(err)
	}

	b.start()
	other := b.dial()
	for _, sql := range []string{"INSERT INTO t VALUES (2, 'kept')", "CREATE TABLE kept (a int)", "INSERT INTO t VALUES (3, 'kept too')"} {
		if code, _ := run(t, other, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	if err := a.pipeline.CutBack(kept, 8); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() { followed <- a.pipeline.Follow(ctx) }()
	a.serve(t.Context(), slog.New(slog.NewTextHandler(complaint{t}, &slog.HandlerOptions{Level: slog.LevelError})))
	read := a.dial()
	if _, value := run(t, read, "SELECT group_concat(b) FROM t"); value != "common" {
		t.Errorf("after the cut: %s", value)
	}
	frames, err := b.pipeline.Log().NewReader(kept)
	if err != nil {
		t.Fatal(err)
	}
	head := b.pipeline.Log().Received()
	for a.pipeline.Log().Received() < head {
		batch, err := frames.Next(t.Context(), 1<<20)
		if err == nil {
			_, err = a.pipeline.Receive(batch.Frames, 8)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	frames.Close()
	if _, err := a.pipeline.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.pipeline.LearnCommitted(head, 8)
	if err := a.pipeline.VisibleMark().Wait(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	a.engine.Replicated(history.SystemDatabase, head)
	for sql, want := range map[string]string{
		"SELECT group_concat(b) FROM t":                                                 "common,kept,kept too",
		"SELECT count(*) FROM pg_class WHERE relname IN ('lost', 'kept')":               "1",
		"SELECT count(*) FROM pg_class WHERE relname = 'kept'":                          "1",
		"SELECT setting = '' FROM pg_settings WHERE name = 'synchronous_standby_names'": "t",
	} {
		if code, value := run(t, read, sql); code != "" || value != want {
			t.Errorf("%s: %s %q, want %q", sql, code, value, want)
		}
	}
	stop()
	if err := <-followed; err != nil {
		t.Error(err)
	}
	a.promote()
	if code, _ := run(t, read, "INSERT INTO t VALUES (4, 'and on')"); code != "" {
		t.Error(code)
	}
	if _, value := run(t, read, "PRAGMA integrity_check"); value != "" && value != "ok" {
		t.Error(value)
	}
	_ = read.Close(t.Context())
	_ = other.Close(t.Context())
	b.allGone()
	b.stop()
}

func TestWritesArePausedAndGoOn(t *testing.T) {
	r := newRig(t)
	c, w := r.dial(), r.dial()
	for _, sql := range []string{"CREATE TABLE t (a int)", "CREATE DATABASE other"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	ctx := t.Context()

	// An open transaction stands in the way, and is told of.
	run(t, w, "BEGIN ISOLATION LEVEL READ COMMITTED")
	run(t, w, "INSERT INTO t VALUES (1)")
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	_, err := r.engine.PauseWrites(short)
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), fmt.Sprintf("a transaction that has written is still open in database \"skein\", of the session with pid %d", w.PID())) {
		t.Fatalf("with a transaction open: %v", err)
	}
	other := r.dial("dbname=other")
	for _, c := range []*pgconn.PgConn{c, other} { // nothing is left of it
		if code, _ := run(t, c, "SELECT pg_is_in_recovery()"); code != "" {
			t.Fatal(code)
		}
	}
	if code, _ := run(t, other, "CREATE TABLE t (a int)"); code != "" {
		t.Fatal(code)
	}

	// It waits for the transaction, and for those who have queued before; not for those who come after.
	order := make(chan string, 8)
	var waiting sync.WaitGroup
	insert := func(name string) {
		c := r.dial()
		waiting.Go(func() {
			if code, _ := run(t, c, "INSERT INTO t VALUES (9)"); code != "" {
				t.Error(name, code)
			}
			order <- name
		})
	}
	insert("before")
	r.queued(1)
	paused := make(chan func(), 1)
	go func() {
		resume, err := r.engine.PauseWrites(ctx)
		if err != nil {
			t.Error(err)
		}
		paused <- resume
	}()
	r.queued(2)
	insert("after")
	r.queued(3)
	if code, _ := run(t, w, "COMMIT"); code != "" {
		t.Fatal(code)
	}
	resume := <-paused
	if got := <-order; got != "before" {
		t.Errorf("%s was first", got)
	}
	head := r.pipeline.Log().Received()
	for _, test := range []struct{ db, set, sql, code string }{
		{"", "lock_timeout", "INSERT INTO t VALUES (9)", "55P03"},
		{"", "statement_timeout", "INSERT INTO t VALUES (9)", "57014"},
		{"", "lock_timeout", "CREATE TABLE u (a int)", "55P03"},
		{"", "lock_timeout", "CREATE DATABASE more", "55P03"},
		{"", "statement_timeout", "CREATE DATABASE more", "57014"},
		{"", "lock_timeout", "DROP DATABASE other", "55P03"},
		{"", "lock_timeout", "ALTER SYSTEM SET lock_timeout = 1", "55P03"},
		{"", "lock_timeout", "CREATE ROLE gander", "55P03"},
		{"", "lock_timeout", "VACUUM", "55P03"},
		{"", "lock_timeout", "SELECT a FROM t FOR UPDATE", "55P03"},
		{"", "lock_timeout", "TRUNCATE t", "55P03"},
		{"", "lock_timeout", "CREATE TEMP TABLE v (a int)", "55P03"},
		{"dbname=other", "lock_timeout", "INSERT INTO t VALUES (1)", "55P03"},
		{"dbname=other", "lock_timeout", "SELECT count(*) FROM t", ""},
	} {
		c := r.dial(test.db)
		run(t, c, "SET "+test.set+" = '20ms'")
		if test.sql == "DROP DATABASE other" {
			_ = other.Close(ctx)
			r.gone(other.PID())
		}
		if code, _ := run(t, c, test.sql); code != test.code {
			t.Errorf("%s with a %s while writes are paused: %q, want %q", test.sql, test.set, code, test.code)
		}
		_ = c.Close(ctx)
		r.gone(c.PID())
	}
	copying := r.dial()
	run(t, copying, "SET lock_timeout = '20ms'")
	var refused *pgconn.PgError
	if _, err := copying.CopyFrom(ctx, strings.NewReader("7\n"), "COPY t FROM STDIN"); !errors.As(err, &refused) || refused.Code != "55P03" {
		t.Errorf("COPY: %v", err)
	}
	if r.pipeline.Log().Received() != head {
		t.Error("something was written while writes are paused")
	}
	// A second pause waits for the first.
	short, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
	if _, err := r.engine.PauseWrites(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	cancel()
	resume()
	resume()
	waiting.Wait()
	if got := <-order; got != "after" {
		t.Errorf("%s was next", got)
	}
	for _, sql := range []string{"INSERT INTO t VALUES (9)", "CREATE DATABASE more", "DROP DATABASE other"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Errorf("%s afterwards: %s", sql, code)
		}
	}
	again, err := r.engine.PauseWrites(ctx)
	if err != nil {
		t.Fatal(err)
	}
	again()
	for _, c := range []*pgconn.PgConn{c, w, copying} {
		_ = c.Close(ctx)
	}
}

// A database that is made known while a pause lasts is paused, too.
func TestANewDatabaseTakesPartInAPause(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	run(t, c, "ALTER SYSTEM SET synchronous_standby_names = 'gander'")
	c.Exec(t.Context(), "CREATE DATABASE pending")
	r.awaited(1)
	resume, err := r.engine.PauseWrites(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.acknowledge("gander", "applied")
	r.eventually("the database is there", func() bool { return r.engine.database("pending") != nil })
	w := r.dial("dbname=pending")
	run(t, w, "SET lock_timeout = '20ms'")
	if code, _ := run(t, w, "CREATE TABLE t (a int)"); code != "55P03" {
		t.Errorf("a write in it: %q", code)
	}
	resume()
	run(t, w, "SET synchronous_commit = local")
	if code, _ := run(t, w, "CREATE TABLE t (a int)"); code != "" {
		t.Errorf("afterwards: %q", code)
	}
	_ = w.Close(t.Context())
	r.acknowledge("gander", "applied")
	_ = c.Close(t.Context())
}

// Drivers of Go that know several hosts find the new leader by themselves.
func TestDriversFindTheLeaderAmongSeveralHosts(t *testing.T) { // G22
	first := newRig(t)
	c := first.dial()
	run(t, c, "CREATE TABLE t (a int)")
	_ = c.Close(t.Context())
	r := newStandby(t, first)
	leader := newRig(t)
	host := func(r *rig) (string, string) { h, p, _ := strings.Cut(r.address, ":"); return h, p }
	h1, p1 := host(r)
	h2, p2 := host(leader)
	dsn := fmt.Sprintf("host=%s,%s port=%s,%s user=skein dbname=skein sslmode=disable target_session_attrs=", h1, h2, p1, p2)
	for _, attrs := range []string{"read-write", "primary"} {
		p, err := pgx.Connect(t.Context(), dsn+attrs)
		if err != nil {
			t.Fatal(attrs, err)
		}
		var standby bool
		if err := p.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
			t.Errorf("pgx, %s: on a follower: %v %v", attrs, standby, err)
		}
		_ = p.Close(t.Context())
		db, err := sql.Open("postgres", dsn+attrs)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRowContext(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
			t.Errorf("lib/pq, %s: on a follower: %v %v", attrs, standby, err)
		}
		_ = db.Close()
	}
	r.promote()
	leader.allGone()
	leader.stop()
	leader.stop = func() {}
	p, err := pgx.Connect(t.Context(), dsn+"read-write")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Exec(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
		t.Error(err)
	}
	_ = p.Close(t.Context())
}

// The client cancels, or its statement_timeout is over, while its commit waits for followers: it hears that the
// outcome is unknown, nobody is shown it, and it comes true later.
func TestACancelWhileWaitingLeavesTheOutcomeUnknown(t *testing.T) { // J21
	r := newRig(t)
	setup := r.dial()
	for _, sql := range []string{"CREATE TABLE t (a int)", "ALTER SYSTEM SET synchronous_standby_names = 'gander'"} {
		if code, _ := run(t, setup, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	p, err := pgx.Connect(t.Context(), r.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(context.Background()) }()
	unknown := func(err error) bool {
		var e *pgconn.PgError
		return errors.As(err, &e) && e.Code == "08007"
	}
	late := func(limit int) error {
		_, err := p.Exec(t.Context(), fmt.Sprintf("SET statement_timeout = %d", limit))
		if err == nil {
			_, err = p.Exec(t.Context(), "INSERT INTO t VALUES (1)")
		}
		for again := err; again != nil; { // that may be too slow as well
			_, again = p.Exec(t.Context(), "SET statement_timeout = 0")
		}
		return err
	}
	limit := 50
	err = late(limit)
	for e := (*pgconn.PgError)(nil); errors.As(err, &e) && e.Code == "57014"; err = late(limit) { // before it had committed: nothing was done
		limit *= 2
	}
	if !unknown(err) {
		t.Errorf("at its timeout: %v", err)
	}
	cancelled := make(chan error, 1)
	go func() {
		r.awaited(1)
		cancelled <- p.PgConn().CancelRequest(t.Context())
	}()
	if _, err := p.Exec(t.Context(), "INSERT INTO t VALUES (2)"); !unknown(err) {
		t.Errorf("cancelled: %v", err)
	}
	if err := <-cancelled; err != nil {
		t.Fatal(err)
	}
	if _, value := run(t, setup, "SELECT count(*) FROM t"); value != "0" {
		t.Errorf("%s rows are shown that no follower has", value)
	}
	r.acknowledge("gander", "flushed")
	if _, value := run(t, setup, "SELECT count(*) FROM t"); value != "2" {
		t.Errorf("%s rows are shown once followers have them", value)
	}
	_ = setup.Close(t.Context())
}

// A node that ceases to lead, and leads again, does so with an engine of its own: nothing of the old one counts.
func TestAnEngineThatHasLedDoesNotWriteInALaterEpoch(t *testing.T) { // I2, G22
	r := newRig(t)
	c, open, reader, queued, vacuum := r.dial(), r.dial(), r.dial(), r.dial(), r.dial()
	for _, sql := range []string{"CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	run(t, open, "BEGIN ISOLATION LEVEL READ COMMITTED")
	run(t, open, "INSERT INTO t VALUES (2)")
	run(t, reader, "BEGIN")
	run(t, reader, "SELECT * FROM t")
	codes := make(chan string, 2)
	for i, w := range []struct {
		c   *pgconn.PgConn
		sql string
	}{{queued, "INSERT INTO t VALUES (3)"}, {vacuum, "VACUUM"}} {
		go func() {
			code, _ := run(t, w.c, w.sql)
			codes <- code
		}()
		r.queued(i + 1)
	}
	r.pipeline.StepDown()
	if err := r.pipeline.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.pipeline.Configure(commit.SyncConfig{Level: commit.On})
	head := r.pipeline.Log().Received()
	if code, _ := run(t, open, "COMMIT"); code != "40001" {
		t.Errorf("a transaction of the epoch before commits: %q", code)
	}
	if code, _ := run(t, reader, "INSERT INTO t VALUES (5)"); code != "40001" {
		t.Errorf("a transaction of the epoch before that has only read writes: %q", code)
	}
	for range 2 {
		if code := <-codes; code != "40001" {
			t.Errorf("who has waited to write since the epoch before: %q", code)
		}
	}
	for _, sql := range []string{"INSERT INTO t VALUES (4)", "VACUUM", "CREATE ROLE gander"} {
		if code, _ := run(t, c, sql); code != "25006" {
			t.Errorf("%s: %q", sql, code)
		}
	}
	if now := r.pipeline.Log().Received(); now != head {
		t.Errorf("%d entries were written", now-head)
	}
	if _, value := run(t, c, "SELECT count(*) FROM t"); value != "1" {
		t.Errorf("%s rows", value)
	}
	for _, c := range []*pgconn.PgConn{c, open, reader, queued, vacuum} {
		_ = c.Close(t.Context())
	}
}

// Between a commit and the moment that its client begins to wait, the leadership may end, and another begin that
// soon has an entry of the same number.
func TestACommitIsNotAcknowledgedByALaterLeadership(t *testing.T) { // I1, I6
	r := newRig(t)
	c := r.dial()
	if code, _ := run(t, c, "CREATE TABLE t (a int)"); code != "" {
		t.Fatal(code)
	}
	r.written = func() {
		before := r.pipeline.Log().Received() - 1
		r.pipeline.Configure(commit.SyncConfig{Names: mustNames(t, "nobody"), Level: commit.On})
		r.pipeline.StepDown()
		if r.pipeline.Visible() > before {
			return // seen already: cannot be taken back
		}
		if err := r.pipeline.CutBack(before, commit.AnyEpoch); err != nil {
			t.Error(err)
		}
		if err := r.pipeline.Lead(context.Background(), 0); err != nil {
			t.Error(err)
		}
		r.pipeline.Configure(commit.SyncConfig{Level: commit.On})
	}
	if code, _ := run(t, c, "INSERT INTO t VALUES (1)"); code != "08007" {
		t.Errorf("the client of an entry that was cut hears %q", code)
	}
	_ = c.Close(t.Context())
}

func mustNames(t *testing.T, names string) commit.StandbyNames {
	t.Helper()
	n, err := commit.ParseStandbyNames(names)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestATurnSaysSinceWhenItIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w turn
		began := time.Now()
		if err := w.take(t.Context()); err != nil || !w.heldSince().Equal(began) {
			t.Error(err, w.heldSince())
		}
		mine := w.line()
		time.Sleep(time.Second)
		w.give()
		<-mine
		if held := time.Since(w.heldSince()); held != 0 {
			t.Errorf("a new holder has had the turn for %v", held)
		}
		w.give()
		time.Sleep(time.Second)
		if !w.try() || time.Since(w.heldSince()) != 0 {
			t.Error("the turn was free")
		}
	})
}

func TestWhoWaitsForFollowersDoesNotStandInTheWayOfAPause(t *testing.T) {
	r := newRig(t)
	setup := r.dial()
	for _, sql := range []string{"CREATE TABLE t (a int)", "ALTER SYSTEM SET synchronous_standby_names = 'gander'"} {
		if code, _ := run(t, setup, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	var waiting sync.WaitGroup
	for i, sql := range []string{"INSERT INTO t VALUES (1)", "VACUUM", "CREATE DATABASE later", "CREATE ROLE goose"} {
		c := r.dial()
		waiting.Go(func() {
			if code, _ := run(t, c, sql); code != "" {
				t.Error(sql, code)
			}
			_ = c.Close(context.Background())
		})
		r.awaited(int64(i + 1))
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		resume, err := r.engine.PauseWrites(short)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		resume()
	}
	r.acknowledge("gander", "applied")
	waiting.Wait()
	_ = setup.Close(t.Context())
}

func TestDraftsEndBeforeWritesArePaused(t *testing.T) {
	r := newRig(t)
	c, w, late := r.dial(), r.dial(), r.dial()
	must := func(c *pgconn.PgConn, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if code, _ := run(t, c, sql); code != "" {
				t.Fatal(sql, code)
			}
		}
	}
	must(c, "CREATE TABLE t (a int)")
	must(w, "BEGIN", "INSERT INTO t VALUES (1)")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, err := r.engine.PauseWrites(short)
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), fmt.Sprintf("a transaction that has written is still open in database \"skein\", of the session with pid %d", w.PID())) {
		t.Fatalf("with a draft open: %v", err)
	}

	paused := make(chan func(), 1)
	go func() {
		resume, err := r.engine.PauseWrites(t.Context())
		if err != nil {
			t.Error(err)
		}
		paused <- resume
	}()
	r.eventually("drafts are to end", func() bool {
		r.engine.drafts.mu.Lock()
		defer r.engine.drafts.mu.Unlock()
		return r.engine.drafts.ended != nil
	})
	must(c, "INSERT INTO t VALUES (2)")             // all others go on
	must(late, "BEGIN", "INSERT INTO t VALUES (3)") // with its turn
	var committing sync.WaitGroup
	committing.Go(func() {
		if code, _ := run(t, w, "COMMIT"); code != "" {
			t.Error(code)
		}
	})
	r.queued(1)
	must(late, "COMMIT")
	committing.Wait()
	(<-paused)()
	must(late, "BEGIN", "INSERT INTO t VALUES (4)")
	must(c, "INSERT INTO t VALUES (5)")
	must(late, "COMMIT")
	if _, rows := run(t, c, "SELECT count(*) FROM t"); rows != "5" {
		t.Error(rows)
	}
}
