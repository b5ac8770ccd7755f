package vault_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/node"
	"skein/internal/replog"
	"skein/internal/vault"
)

// session is a client of a node.
type session struct {
	t    *testing.T
	conn *pgx.Conn
}

func (s session) Query(ctx context.Context, sql string) (rows [][]*string, err error) {
	results, err := s.conn.PgConn().Exec(ctx, sql).ReadAll()
	for _, r := range results {
		for _, row := range r.Rows {
			list := make([]*string, len(row))
			for i, v := range row {
				if v != nil {
					text := string(v)
					list[i] = &text
				}
			}
			rows = append(rows, list)
		}
	}
	return rows, err
}

func (s session) exec(list ...string) {
	s.t.Helper()
	for _, sql := range list {
		if _, err := s.Query(s.t.Context(), sql); err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// text gives a result as lines of columns.
func (s session) text(sql string) string {
	s.t.Helper()
	rows, err := s.Query(s.t.Context(), sql)
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	var lines []string
	for _, row := range rows {
		var list []string
		for _, v := range row {
			if v == nil {
				list = append(list, "NULL")
			} else {
				list = append(list, *v)
			}
		}
		lines = append(lines, strings.Join(list, " "))
	}
	return strings.Join(lines, "\n")
}

// run starts a node that leads by itself.
func run(t *testing.T, dir string) (s session, stop func()) {
	t.Helper()
	n, err := node.Open(node.Options{Dir: dir, PGAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	c, err := pgx.Connect(t.Context(), "postgres://skein@"+n.PGAddr().String()+"/skein")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return session{t, c}, stop
}

// lost makes a cluster of which two nodes part after before: of the one, which is killed, a tail is kept, the other one is there.
func lost(t *testing.T, before, tail []string) (*vault.Tail, session) {
	t.Helper()
	old, present, crashed := t.TempDir(), t.TempDir(), t.TempDir()
	s, stop := run(t, old)
	s.exec(before...)
	stop()
	if err := os.CopyFS(present, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	s, stop = run(t, old)
	s.exec(tail...)
	if err := os.CopyFS(crashed, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	stop()
	kept := keep(t, crashed)
	s, _ = run(t, present)
	return kept, s
}

// keep has a node that was killed give up what it has done since its last checkpoint.
func keep(t *testing.T, dir string) *vault.Tail {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if err != nil {
		t.Fatal(err)
	}
	var identity struct {
		Cluster string `json:"cluster_id"`
	}
	if err := json.Unmarshal(b, &identity); err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(identity.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := commit.Open(dir, commit.Options{Cluster: replog.Cluster(id), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	name, err := p.SaveTail(p.Store().CheckpointLSN())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(true); err != nil {
		t.Fatal(err)
	}
	tail, err := vault.Open(name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tail.Close() })
	return tail
}

// userDatabase is the first that users have.
const userDatabase = history.DatabaseID(2)

const everyType = `CREATE TABLE every (id int PRIMARY KEY, b boolean, raw bytea, at timestamp, zoned timestamptz, day date, n numeric(10,2), f float8,
	r real, t text, vc varchar(10), j jsonb, u uuid, list int[], big bigint, iv interval, twice int GENERATED ALWAYS AS (id * 2) STORED)`

func everyValue(id int) string {
	return fmt.Sprintf(`INSERT INTO every VALUES (%d, %d %% 2 = 0, '\x00ff', '2024-01-02 03:04:05.678', '2024-01-02 03:04:05+02', '2024-02-29', 12.30, 1e100,
		2, 'it''s', '', '{"a": [1, "x"]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,NULL,3}', 9007199254740993, '1 day 02:03:04')`, id, id)
}

// A row of every type is inserted, changed and deleted on a node that is lost, and is in another session's time zone
// what it was.
func TestWhatWasLostIsAppliedAgain(t *testing.T) {
	before := []string{
		everyType, everyValue(1), everyValue(2), everyValue(3),
		"CREATE TABLE two (a text, b int, c text DEFAULT 'x', PRIMARY KEY (a, b))", "INSERT INTO two VALUES ('k', 1, 'v'), ('k', 2, 'v'), ('l', 1, NULL)",
		"CREATE TABLE free (x text, y int)", "INSERT INTO free VALUES ('p', 1), ('q', 2), ('r', 3)",
		"CREATE TABLE w (a text PRIMARY KEY, b float8) WITHOUT ROWID", "INSERT INTO w VALUES ('one', 1), ('two', 2.5)",
		"CREATE TABLE counted (id bigserial PRIMARY KEY, v text)",
	}
	tail := []string{
		everyValue(4), "UPDATE every SET b = NOT b, raw = '\\xabcd', at = 'infinity', zoned = '0044-03-15 12:00:00+00 BC', n = 99.9, f = 'Infinity', t = NULL WHERE id = 1",
		"DELETE FROM every WHERE id = 2", "UPDATE every SET id = 33 WHERE id = 3",
		"UPDATE two SET c = 'changed' WHERE a = 'k' AND b = 1", "DELETE FROM two WHERE a = 'l'", "INSERT INTO two VALUES ('m', 9)", "UPDATE two SET a = 'moved' WHERE b = 2",
		"UPDATE free SET y = 22 WHERE x = 'q'", "DELETE FROM free WHERE x = 'p'", "INSERT INTO free VALUES ('s', 4)",
		"UPDATE w SET b = 3.5 WHERE a = 'two'", "INSERT INTO w VALUES ('three', 1e300), ('four', '-Infinity')", "DELETE FROM w WHERE a = 'one'",
		"INSERT INTO counted (v) VALUES ('a'), ('b')",
	}
	kept, s := lost(t, before, tail)
	s.exec("SET TimeZone = 'Asia/Tokyo'")
	everything := []string{
		"SELECT * FROM every ORDER BY id", "SELECT * FROM two ORDER BY a, b", "SELECT * FROM free ORDER BY x", "SELECT * FROM w ORDER BY a", "SELECT * FROM counted ORDER BY id",
	}
	look := func() (all []string) {
		for _, sql := range everything {
			all = append(all, s.text(sql))
		}
		return all
	}
	untouched := look()
	var conflicts []string
	report := func(f *vault.Finding) error {
		if f.Outcome == vault.Conflict {
			conflicts = append(conflicts, fmt.Sprintf("%s: %s", f.Change.SQL(), f.Why))
		}
		return nil
	}
	dry, err := kept.Apply(t.Context(), userDatabase, s, vault.ApplyOptions{DryRun: true, Report: report})
	if err != nil || dry.Conflicts > 0 || dry.Applied < 18 {
		t.Fatalf("%+v, %v: %v", dry, err, conflicts)
	}
	if now := look(); !slices.Equal(now, untouched) {
		t.Errorf("a dry run has changed something: %s", now)
	}
	r, err := kept.Apply(t.Context(), userDatabase, s, vault.ApplyOptions{Report: report})
	if err != nil || r != dry {
		t.Fatalf("%+v after %+v, %v: %v", r, dry, err, conflicts)
	}
	got := look()

	again, err := kept.Apply(t.Context(), userDatabase, s, vault.ApplyOptions{DryRun: true, Report: report})
	if err != nil || again.Conflicts > 0 || again.Applied != 1 { // the row of the table that has no key
		t.Errorf("applied again: %+v, %v: %v", again, err, conflicts)
	}

	other, stop := run(t, t.TempDir()) // the same statements, on a node that nothing happened to
	defer stop()
	s = other
	s.exec(before...)
	s.exec(tail...)
	s.exec("SET TimeZone = 'Asia/Tokyo'")
	if want := look(); !slices.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s:\n%s\nwant\n%s", everything[i], got[i], want[i])
			}
		}
	}
}

// The cluster has gone on: some of what was lost contradicts that.
func TestWhatContradictsThePresentIsShownAndLeftAlone(t *testing.T) {
	kept, s := lost(t, []string{
		"CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE, n int)",
		"INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', 1), (4, 'd', 1), (5, 'e', 1), (6, 'f', 1)",
		"CREATE TABLE gone (id int PRIMARY KEY)", "INSERT INTO gone VALUES (1)",
	}, []string{
		"UPDATE t SET n = 2", "INSERT INTO t VALUES (7, 'g', 7), (8, 'h', 8), (9, 'i', 9)", "DELETE FROM t WHERE id = 5", "DELETE FROM gone",
		"CREATE TABLE made (x int)", "INSERT INTO made VALUES (1)", "DROP TABLE gone",
	})
	s.exec("UPDATE t SET n = 50 WHERE id = 1", "DELETE FROM t WHERE id = 2", "UPDATE t SET n = 2 WHERE id = 3", "UPDATE t SET v = 'E' WHERE id = 5", "DELETE FROM t WHERE id = 6",
		"INSERT INTO t VALUES (7, 'other', 7), (8, 'h', 8), (90, 'i', 9)", "DELETE FROM gone")
	apply := func(force bool) (string, vault.Result) {
		t.Helper()
		var list []string
		r, err := kept.Apply(t.Context(), userDatabase, s, vault.ApplyOptions{Force: force, Report: func(f *vault.Finding) error {
			line := string(f.Outcome)
			switch {
			case f.DDL != nil:
				line += " " + f.DDL.SQL()
			default:
				line += " " + f.Change.SQL()
				if f.Present != nil && f.Outcome != vault.Applied {
					line += " ("
					for i, v := range f.Present {
						if i > 0 {
							line += " "
						}
						line += *v
					}
					line += ")"
				}
			}
			if f.Outcome == vault.Conflict && f.Why == "" {
				t.Errorf("%s: no reason", line)
			}
			if !strings.Contains(line, "made") { // its statement is long
				list = append(list, line)
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(list, "\n"), r
	}
	got, r := apply(false)
	if want := `conflict UPDATE "t" SET "n" = 2 WHERE "id" = 1 (1 a 50)
conflict UPDATE "t" SET "n" = 2 WHERE "id" = 2
already UPDATE "t" SET "n" = 2 WHERE "id" = 3 (3 c 2)
applied UPDATE "t" SET "n" = 2 WHERE "id" = 4
conflict UPDATE "t" SET "n" = 2 WHERE "id" = 5 (5 E 1)
conflict UPDATE "t" SET "n" = 2 WHERE "id" = 6
conflict INSERT INTO "t" ("id", "v", "n") VALUES (7, 'g', 7) (7 other 7)
already INSERT INTO "t" ("id", "v", "n") VALUES (8, 'h', 8) (8 h 8)
conflict INSERT INTO "t" ("id", "v", "n") VALUES (9, 'i', 9)
conflict DELETE FROM "t" WHERE "id" = 5 (5 E 1)
already DELETE FROM "gone" WHERE "id" = 1
conflict DROP TABLE "gone"`; got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
	if r.Applied != 1 || r.Already != 3 || r.Forced != 0 {
		t.Errorf("%+v", r)
	}
	const rows = "SELECT id, v, n FROM t ORDER BY id"
	if got, want := s.text(rows), "1 a 50\n3 c 2\n4 d 2\n5 E 1\n7 other 7\n8 h 8\n90 i 9"; got != want {
		t.Errorf("now\n%s\nwant\n%s", got, want)
	}
	_, r = apply(true)
	if r.Forced != 6 {
		t.Errorf("%+v", r)
	}
	if got, want := s.text(rows), "1 a 2\n2 b 2\n3 c 2\n4 d 2\n6 f 2\n7 g 7\n8 h 8\n90 i 9"; got != want {
		t.Errorf("forced\n%s\nwant\n%s", got, want)
	}
}

// Not all of a tail is wanted, and somebody may think better of it.
func TestSomeOfATailIsApplied(t *testing.T) {
	kept, s := lost(t, []string{"CREATE TABLE t (id int PRIMARY KEY)"}, []string{"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)"})
	var at []history.LSN
	if err := kept.Each(func(x *vault.Transaction) error {
		if x.Database == userDatabase && len(x.Changes) > 0 {
			at = append(at, x.LSN)
		}
		return nil
	}); err != nil || len(at) != 3 {
		t.Fatal(at, err)
	}
	only := func(x *vault.Transaction) bool { return x.LSN == at[1] }
	if r, err := kept.Apply(t.Context(), userDatabase, s, vault.ApplyOptions{Only: only}); err != nil || r.Applied != 1 {
		t.Fatal(r, err)
	}
	if got := s.text("SELECT id FROM t"); got != "2" {
		t.Errorf("there are %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := kept.Apply(ctx, userDatabase, s, vault.ApplyOptions{Report: func(*vault.Finding) error { cancel(); return nil }})
	if err == nil {
		t.Error("it ends without an error though it was stopped")
	}
}
