package clients_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"
)

// The same SQL goes over the wire, as a simple and as an extended query, and straight into SQLite
// in this process; the answers must be the same. The files have the form of SQLite's sqllogictest,
// without expected rows:
//
//	statement ok | statement error
//	query <one letter per column: I integer, R real, T text, B boolean> [rowsort]
func TestWireAnswersAsSQLiteDoes(t *testing.T) {
	files, err := filepath.Glob("testdata/sqllogic/*.test")
	if err != nil || len(files) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".test"), func(t *testing.T) {
			p := newPair(t)
			for _, r := range readRecords(t, file) {
				p.compare(t, r)
			}
		})
	}
}

// A seeded stream of random queries over one table, in the manner of sqllogictest's select files.
func TestRandomQueriesAnswerAsInSQLite(t *testing.T) {
	const seeds, queries = 4, 150
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			g := generator{rand.New(rand.NewPCG(seed, 0))}
			p := newPair(t)
			p.compare(t, record{sql: "CREATE TABLE t (a int, b int, c int, d int, e int)"})
			for range 30 {
				p.compare(t, record{sql: "INSERT INTO t VALUES (" + g.list(5, g.value) + ")"})
			}
			for range queries {
				p.compare(t, g.query())
			}
		})
	}
}

type record struct {
	file    string
	line    int
	sql     string
	fails   bool
	types   string // of a query's columns; "" for a statement
	rowsort bool
}

func readRecords(t *testing.T, file string) []record {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var records []record
	line := 1
	for block := range strings.SplitSeq(string(text), "\n\n") {
		r := record{file: file, line: line}
		line += strings.Count(block, "\n") + 2
		head, sql, _ := strings.Cut(block, "\n")
		words := strings.Fields(head)
		switch {
		case strings.HasPrefix(head, "#"):
			continue
		case head == "statement ok":
		case head == "statement error":
			r.fails = true
		case len(words) > 1 && words[0] == "query":
			r.types, r.rowsort = words[1], slices.Contains(words, "rowsort")
		default:
			t.Fatalf("%s:%d: %q is no record", file, r.line, head)
		}
		r.sql = strings.TrimSpace(sql)
		records = append(records, r)
	}
	return records
}

// pair is an empty database on the server and one in this process.
type pair struct {
	wire   *pgconn.PgConn
	sqlite *sqlite3.Conn
}

func newPair(t *testing.T) pair {
	t.Helper()
	execute(t, server, "DROP DATABASE IF EXISTS sqllogic")
	execute(t, server, "CREATE DATABASE sqllogic")
	wire, err := pgconn.Connect(t.Context(), server[:strings.LastIndex(server, "/")]+"/sqllogic")
	if err != nil {
		t.Fatal(err)
	}
	sqlite, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = wire.Close(t.Context())
		_ = sqlite.Close()
	})
	// As on every connection of Skein's.
	if err := sqlite.Exec("PRAGMA case_sensitive_like=ON; PRAGMA foreign_keys=ON; PRAGMA recursive_triggers=ON"); err != nil {
		t.Fatal(err)
	}
	return pair{wire, sqlite}
}

func (p pair) compare(t *testing.T, r record) {
	t.Helper()
	want, err := askSQLite(p.sqlite, r)
	if (err != nil) != r.fails {
		t.Fatalf("%s:%d: SQLite itself: %v\n%s", r.file, r.line, err, r.sql)
	}
	results := []*pgconn.Result{askSimple(t, p.wire, r.sql)}
	if r.types != "" && !changes(r.sql) {
		results = append(results, p.wire.ExecParams(t.Context(), r.sql, nil, nil, nil, nil).Read())
	}
	for _, result := range results {
		if (result.Err != nil) != r.fails {
			t.Errorf("%s:%d: %v\n%s", r.file, r.line, result.Err, r.sql)
			continue
		}
		if got := wireRows(result, r); !slices.Equal(got, want) {
			t.Errorf("%s:%d: %s\ngot  %s\nwant %s", r.file, r.line, r.sql, got, want)
		}
	}
}

// changes says that a query must not be asked twice.
func changes(sql string) bool { return strings.Contains(sql, "RETURNING") }

func askSimple(t *testing.T, conn *pgconn.PgConn, sql string) *pgconn.Result {
	t.Helper()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if len(results) == 0 {
		return &pgconn.Result{Err: err}
	}
	last := results[len(results)-1]
	last.Err = err
	return last
}

func wireRows(result *pgconn.Result, r record) []string {
	var rows []string
	for _, values := range result.Rows {
		cells := make([]string, len(values))
		for i, value := range values {
			cells[i] = wireCell(value, typeOf(r, i))
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	return ordered(rows, r)
}

func wireCell(value []byte, letter byte) string {
	text := string(value)
	switch {
	case value == nil:
		return "NULL"
	case letter == 'B' && (text == "t" || text == "f"):
		return map[string]string{"t": "1", "f": "0"}[text]
	case letter == 'R':
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return strconv.FormatFloat(f, 'g', -1, 64)
		}
	}
	return text
}

func askSQLite(conn *sqlite3.Conn, r record) ([]string, error) {
	if r.types == "" {
		return nil, conn.Exec(r.sql)
	}
	statement, _, err := conn.Prepare(r.sql)
	if err != nil {
		return nil, err
	}
	defer func() { _ = statement.Close() }()
	var rows []string
	for statement.Step() {
		cells := make([]string, statement.ColumnCount())
		for i := range cells {
			switch {
			case statement.ColumnType(i) == sqlite3.NULL:
				cells[i] = "NULL"
			case typeOf(r, i) == 'R':
				cells[i] = strconv.FormatFloat(statement.ColumnFloat(i), 'g', -1, 64)
			default:
				cells[i] = statement.ColumnText(i)
			}
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	return ordered(rows, r), statement.Err()
}

// typeOf gives the letter of column i; a column without one is compared as text.
func typeOf(r record, i int) byte {
	if i < len(r.types) {
		return r.types[i]
	}
	return 'T'
}

func ordered(rows []string, r record) []string {
	if r.rowsort {
		slices.Sort(rows)
	}
	return rows
}

// generator makes queries over t (a, b, c, d, e) whose values stay small.
type generator struct{ *rand.Rand }

func (g generator) pick(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g generator) list(n int, item func() string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = item()
	}
	return strings.Join(items, ", ")
}

func (g generator) value() string {
	if g.IntN(10) == 0 {
		return "NULL"
	}
	return strconv.Itoa(g.IntN(100))
}

func (g generator) column() string { return g.pick("a", "b", "c", "d", "e") }

func (g generator) number(depth int) string {
	if depth == 0 {
		return g.pick(g.column(), g.column(), strconv.Itoa(g.IntN(100)))
	}
	a, b := g.number(depth-1), g.number(depth-1)
	switch g.IntN(8) {
	case 0:
		return "(" + a + " + " + b + ")"
	case 1:
		return "(" + a + " - " + b + ")"
	case 2:
		return g.column() + " * " + strconv.Itoa(g.IntN(10))
	case 3:
		return "abs(" + a + ")"
	case 4:
		return "coalesce(" + a + ", " + b + ", 0)"
	case 5:
		return "CASE WHEN " + g.condition(depth-1) + " THEN " + a + " ELSE " + b + " END"
	case 6:
		return "CASE " + g.column() + " WHEN " + g.column() + " THEN " + a + " WHEN 50 THEN " + b + " END"
	}
	return "(SELECT " + g.pick("count(*)", "min(x.b)", "max(x.c)", "sum(x.d)") + " FROM t AS x WHERE x." + g.column() + " < t." + g.column() + ")"
}

func (g generator) condition(depth int) string {
	if depth == 0 {
		return g.column() + g.pick(" < ", " > ", " = ", " <> ", " <= ", " >= ") + g.number(0)
	}
	a, b := g.condition(depth-1), g.condition(depth-1)
	switch g.IntN(7) {
	case 0:
		return "(" + a + " AND " + b + ")"
	case 1:
		return "(" + a + " OR " + b + ")"
	case 2:
		return "NOT (" + a + ")"
	case 3:
		return g.column() + g.pick(" IS NULL", " IS NOT NULL")
	case 4:
		return g.number(0) + g.pick(" BETWEEN ", " NOT BETWEEN ") + g.number(0) + " AND " + g.number(0)
	case 5:
		return g.column() + g.pick(" IN (", " NOT IN (") + g.list(3, g.value) + ")"
	}
	return "EXISTS (SELECT 1 FROM t AS x WHERE x." + g.column() + g.pick(" < ", " = ") + "t." + g.column() + ")"
}

func (g generator) query() record {
	if g.IntN(3) == 0 {
		return record{types: "IIII", rowsort: true, sql: fmt.Sprintf(
			"SELECT %s, count(*), sum(%s), max(%s) FROM t WHERE %s GROUP BY 1",
			g.column(), g.number(0), g.number(1), g.condition(1),
		)}
	}
	columns := 1 + g.IntN(4)
	return record{types: strings.Repeat("I", columns), rowsort: true, sql: fmt.Sprintf(
		"SELECT %s FROM t WHERE %s", g.list(columns, func() string { return g.number(2) }), g.condition(2),
	)}
}
