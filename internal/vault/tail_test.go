package vault_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/vault"
)

func (r *rig) saveTail(after history.LSN) string {
	r.t.Helper()
	name, err := r.SaveTail(after)
	if err != nil {
		r.t.Fatal(err)
	}
	return name
}

func (r *rig) open(name string) *vault.Tail {
	r.t.Helper()
	t, err := vault.Open(name, r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = t.Close() })
	return t
}

// all reads every transaction of a tail.
func all(t *testing.T, tail *vault.Tail) (list []*vault.Transaction) {
	t.Helper()
	if err := tail.Each(func(x *vault.Transaction) error {
		list = append(list, x)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTailsAreListedOldestFirst(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.stop()
	dir := commit.VaultDir(r.dir)
	if list, err := vault.List(dir); err != nil || len(list) > 0 {
		t.Fatal("before there is a vault:", list, err)
	}
	r.write("CREATE TABLE t (a)")
	fork := r.Visible()
	r.write("INSERT INTO t VALUES (1)")
	r.saveTail(fork)
	r.write("INSERT INTO t VALUES (2)")
	r.saveTail(fork)
	old := filepath.Join(dir, "1-3-3-00000000000000ff.log") // as it was kept before rows could be shown
	f, err := os.Create(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Log().Save(f, fork+1, fork+1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"something.log", "1-2-3-00000000000000aa.log.new"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "log-123"), 0o700); err != nil { // of a follower whose data were damaged
		t.Fatal(err)
	}
	list, err := vault.List(dir)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, tail := range list {
		if tail.Epoch != 1 || tail.From != fork+1 || tail.First.IsZero() || tail.Last.Before(tail.First) || tail.Bytes == 0 || tail.Transactions != int64(tail.To-fork) {
			t.Errorf("%+v", tail)
		}
		if whole := tail.Path != old; whole != (tail.Missing == "") {
			t.Errorf("%s: missing is %q", tail.Path, tail.Missing)
		}
	}
	if list[2].To != fork+2 || list[2].Name() != strings.TrimSuffix(vault.FileName(fork+1, r.Log().Head()), ".log") {
		t.Errorf("the last is %+v", list[2])
	}
	x := all(t, r.open(old))
	if len(x) != 1 || x[0].LSN != fork+1 || len(x[0].Unknown) == 0 || len(x[0].Changes) > 0 {
		t.Errorf("of what was kept without pages: %+v", x)
	}
	if err := list[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if list, err := vault.List(dir); err != nil || len(list) != 2 {
		t.Error(list, err)
	}
}

// A checkpoint has written over what there was before. The entries are kept all the same, and it is said why they cannot be shown.
func TestATailThatWasCheckpointedIsKeptWithoutItsRows(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.stop()
	r.write("CREATE TABLE t (a)")
	fork := r.Visible()
	r.write("INSERT INTO t VALUES (1)")
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	r.write("INSERT INTO t VALUES (2)")
	tail := r.open(r.saveTail(fork))
	if !strings.Contains(tail.Missing, "checkpoint") || tail.Transactions != 2 {
		t.Errorf("%+v", tail)
	}
	if list := all(t, tail); len(list) != 2 || len(list[0].Unknown) == 0 || len(list[1].Unknown) == 0 {
		t.Errorf("%+v", list)
	}
}

// A node is killed after it has kept its tail, and before it was done with it. When it comes again it knows less.
func TestATailThatIsThereIsNotReplacedByLess(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.stop()
	r.write("CREATE TABLE t (a)")
	fork := r.Visible()
	r.write("INSERT INTO t VALUES (1)")
	name := r.saveTail(fork)
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if again := r.saveTail(fork); again != name {
		t.Fatalf("%s after %s", again, name)
	}
	tail := r.open(name)
	if list := all(t, tail); tail.Missing != "" || len(list) != 1 || len(list[0].Changes) != 1 || list[0].Changes[0].SQL() != `INSERT INTO "t" ("a") VALUES (1)` {
		t.Errorf("%+v: %+v", tail, list)
	}
	// One that was cut off, by whatever, is made again.
	if err := os.Truncate(name, tail.Bytes-5); err != nil {
		t.Fatal(err)
	}
	if r.saveTail(fork); r.open(name).Missing == "" {
		t.Error("a tail without its end was taken for whole")
	}
}

// One transaction is larger than a piece of the log, and than what is kept in memory.
func TestALargeTransactionIsShown(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.stop()
	r.write("CREATE TABLE t (id INTEGER PRIMARY KEY, b TEXT)")
	r.write("INSERT INTO t SELECT value, hex(randomblob(400)) FROM generate_series(1, 20000)")
	fork := r.Visible()
	r.write("UPDATE t SET b = 'short' || id WHERE id % 2 = 0")
	r.write("DELETE FROM t WHERE id > 19990")
	tail := r.open(r.saveTail(fork))
	list := all(t, tail)
	if len(list) != 2 || len(list[0].Unknown)+len(list[1].Unknown) > 0 || len(list[0].Changes) != 10_000 || len(list[1].Changes) != 10 {
		t.Fatalf("%d transactions of %d", len(list), tail.Transactions)
	}
	for i, c := range list[0].Changes {
		if want := fmt.Sprintf(`UPDATE "t" SET "b" = 'short%d' WHERE "id" = %d`, 2*i+2, 2*i+2); c.SQL() != want || len(c.Before.Values[1].Bytes) != 800 {
			t.Fatalf("change %d: %s", i, c.SQL())
		}
	}
	if got := list[1].Changes[9]; got.Kind() != "delete" || got.Before.Rowid != 20_000 || !slices.Equal(got.Table.Key(), []string{"id"}) {
		t.Errorf("%+v", got)
	}
}

// Everything goes at once, without one of its pages being written.
func TestATableThatIsEmptiedIsShownRowByRowAsFarAsThatGoes(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.stop()
	r.write("CREATE TABLE t (id INTEGER PRIMARY KEY, b TEXT); CREATE TABLE large (id INTEGER PRIMARY KEY, b BLOB)")
	r.write("INSERT INTO t SELECT value, hex(randomblob(100)) FROM generate_series(1, 3000)")
	r.write("INSERT INTO large SELECT value, randomblob(3900) FROM generate_series(1, 17000)")
	fork := r.Visible()
	r.write("DELETE FROM t")
	r.write("DELETE FROM large")
	r.write("INSERT INTO large VALUES (1, 'x')")
	list := all(t, r.open(r.saveTail(fork)))
	if len(list) != 3 || len(list[0].Changes) != 3000 || len(list[0].Unknown) > 0 {
		t.Fatalf("%+v", list[0].Unknown)
	}
	if n := len(list[1].Changes); n < 10_000 || n >= 17_000 || len(list[1].Unknown) != 1 {
		t.Errorf("%d rows, unknown %v", n, list[1].Unknown)
	}
	if len(list[2].Changes) != 1 || len(list[2].Unknown) > 0 {
		t.Errorf("%+v", list[2])
	}
}

// Long rows of a table went on at pages that another table has now, and the leaf that they were on is no leaf any more.
func TestAPageThatALongRowWentOnAtBelongsToAnotherTable(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.stop()
	r.write("CREATE TABLE t (id INTEGER PRIMARY KEY, doc, n INT); CREATE TABLE u (id INTEGER PRIMARY KEY, doc, n INT)")
	fork := r.Visible()
	r.write("INSERT INTO t VALUES (1, zeroblob(300000), 2)")
	r.write("DELETE FROM t")
	for i := range 200 { // both take pages that are free
		r.write(fmt.Sprintf("BEGIN; INSERT INTO t VALUES (%[1]d, zeroblob(500), 2); INSERT INTO u VALUES (%[1]d, zeroblob(500), 2); COMMIT", i))
	}
	r.write("BEGIN; UPDATE t SET n = 3; UPDATE u SET n = 3; COMMIT")
	list := all(t, r.open(r.saveTail(fork)))
	shown := map[string]int{}
	for _, c := range list[len(list)-1].Changes {
		shown[c.Table.Name]++
	}
	if shown["t"] != 200 || shown["u"] != 200 {
		t.Errorf("of 200 rows each that were changed, these are shown: %v", shown)
	}
}
