package dialect_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/oid"
	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// session is what the catalog's functions ask; nothing here needs true answers.
type session struct{ zone string }

func (session) User() string                          { return "ada" }
func (session) Database() string                      { return "main" }
func (session) PID() uint32                           { return 1 }
func (session) ApplicationName() string               { return "" }
func (s session) Setting(name string) (string, bool)  { return s.zone, name == "TimeZone" }
func (session) SetSetting(string, string, bool) error { return nil }
func (session) Now() time.Time                        { return time.Unix(1_700_000_000, 0) }

func (session) StatementTime() time.Time                           { return time.Unix(1_700_000_000, 0) }
func (session) TransactionID() int64                               { return 1 }
func (session) AdvisoryLock(int64, bool, bool, bool) (bool, error) { return true, nil }
func (session) AdvisoryUnlock(int64, bool) bool                    { return true }
func (session) TransactionCommitted(string) (bool, error)          { return false, nil }
func (session) SequenceValue(string) (int64, bool)                 { return 0, false }
func (session) LastSequenceValue() (int64, bool)                   { return 0, false }
func (session) Numbered(string, int64, bool)                       {}
func (session) AdvisoryUnlockAll()                                 {}
func (session) Fail(*sqlstate.Error)                               {}
func (session) Cluster() pgcatalog.Cluster                         { return cluster{} }

type cluster struct{}

func (cluster) Databases() []pgcatalog.Database            { return nil }
func (cluster) Roles() []pgcatalog.Role                    { return nil }
func (cluster) Settings() []pgcatalog.Setting              { return nil }
func (cluster) StoredSettings() []pgcatalog.StoredSettings { return nil }
func (cluster) Degradations() []pgcatalog.Degradation      { return nil }
func (cluster) DatabaseSize(string) int64                  { return 0 }
func (cluster) InRecovery() bool                           { return false }
func (cluster) CurrentLSN() uint64                         { return 0 }
func (cluster) WalBytes() uint64                           { return 0 }
func (cluster) StartTime() time.Time                       { return time.Unix(1_700_000_000, 0) }

func (cluster) Replication() pgcatalog.Replication { return nil }
func (cluster) Failover() pgcatalog.Failover       { return nil }

// open gives a SQLite database set up as the engine does, after running the statements in it.
func open(t *testing.T, setup ...string) *sqlite3.Conn { return openIn(t, "UTC", setup...) }

// openIn gives a database whose session is in a time zone.
func openIn(t *testing.T, zone string, setup ...string) *sqlite3.Conn {
	t.Helper()
	c, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, op := range []sqlite3.DBConfig{sqlite3.DBCONFIG_DQS_DML, sqlite3.DBCONFIG_DQS_DDL} {
		if _, err := c.Config(op, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := pgcatalog.Register(c, func() pgcatalog.Session { return session{zone} }); err != nil {
		t.Fatal(err)
	}
	run(t, c, "PRAGMA case_sensitive_like=ON")
	for _, sql := range setup {
		for _, st := range parse(t, sql) {
			for _, s := range st.SQL {
				run(t, c, s)
			}
		}
	}
	return c
}

func run(t *testing.T, c *sqlite3.Conn, sql string) {
	t.Helper()
	if err := c.Exec(sql); err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
}

func parse(t *testing.T, sql string) []*dialect.Statement {
	t.Helper()
	list, err := dialect.Parse(sql)
	if err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
	return list
}

// describe analyses a statement as the engine does before it runs one.
func describe(t *testing.T, c *sqlite3.Conn, st *dialect.Statement) (sql string, params []dialect.ParamType, results []oid.OID) {
	t.Helper()
	refs, mods := probe(t, c, st)
	sql, _ = st.Typed(dialect.Known{Refs: refs, Mods: mods, Target: target(t, c, st)})
	stmt, _, err := c.Prepare(sql)
	if err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
	defer stmt.Close()
	columns := make([]oid.OID, stmt.ColumnCount())
	for i := range columns {
		columns[i], _ = declared(t, c, stmt, i)
	}
	params, results = st.Infer(dialect.Known{Refs: refs, Mods: mods}, columns)
	return sql, params, results
}

// target is the table that a statement changes.
func target(t *testing.T, c *sqlite3.Conn, st *dialect.Statement) *dialect.Table {
	t.Helper()
	stmt, _, err := c.Prepare("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = " + sqlite3.Quote(st.Table))
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	if !stmt.Step() {
		return nil
	}
	table, err := dialect.ParseTable(stmt.ColumnText(0))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// probe gives the types of the columns of a statement's probe.
func probe(t *testing.T, c *sqlite3.Conn, st *dialect.Statement) (refs []oid.OID, mods []int32) {
	t.Helper()
	sql := st.Probe()
	if sql == "" {
		return nil, nil
	}
	stmt, _, err := c.Prepare(sql)
	if err != nil {
		t.Fatalf("probe %s\n%v", sql, err)
	}
	defer stmt.Close()
	for i := range stmt.ColumnCount() {
		o, mod := declared(t, c, stmt, i)
		refs, mods = append(refs, o), append(mods, mod)
	}
	return refs, mods
}

// declared is the type of a statement's column. SQLite calls every rowid INTEGER; the table's text
// says which type it has.
func declared(t *testing.T, c *sqlite3.Conn, stmt *sqlite3.Stmt, i int) (oid.OID, int32) {
	if stmt.ColumnDeclType(i) != "INTEGER" || stmt.ColumnTableName(i) == "" {
		return oid.Declared(stmt.ColumnDeclType(i))
	}
	table, err := dialect.ParseTable(schemaText(t, c, stmt.ColumnTableName(i)))
	if err != nil {
		t.Fatal(err)
	}
	return table.Column(stmt.ColumnOriginName(i)).Type()
}

// schemaText is the CREATE text of a table or index.
func schemaText(t *testing.T, c *sqlite3.Conn, name string) string {
	t.Helper()
	stmt, _, err := c.Prepare("SELECT sql FROM sqlite_schema WHERE name = ?")
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	if err := stmt.BindText(1, name); err != nil || !stmt.Step() {
		t.Fatalf("no table %s: %v", name, err)
	}
	return stmt.ColumnText(0)
}

// rows runs a query after describing it, and gives its rows as text, columns joined by |.
func rows(t *testing.T, c *sqlite3.Conn, sql string) []string {
	t.Helper()
	var out []string
	for _, st := range parse(t, sql) {
		text, _, _ := describe(t, c, st)
		got, err := fetch(c, text)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		out = append(out, got...)
	}
	return out
}

// fetch gives the rows of SQLite's own text, their values separated by bars.
func fetch(c *sqlite3.Conn, sql string) ([]string, error) {
	stmt, _, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	var out []string
	for stmt.Step() {
		var cells []string
		for i := range stmt.ColumnCount() {
			cell := stmt.ColumnText(i)
			if stmt.ColumnType(i) == sqlite3.NULL {
				cell = "NULL"
			}
			cells = append(cells, cell)
		}
		out = append(out, strings.Join(cells, "|"))
	}
	return out, stmt.Close()
}

// syntaxSchema is what the statements of testdata/syntax.sql are about.
var syntaxSchema = []string{
	"create table p(id int primary key)", "create table t(a int primary key, b text, c int)", "create table n(x int, y int)",
	"create table x1(a int)",
}

// refused are the statements of testdata/syntax.sql that Skein does not have, by their beginning.
var refused = []string{
	"select * from t, lateral (", "select distinct on", "with w as (insert", "select a from t group by rollup",
	"select * from t tablesample", "select b similar", "create sequence", "select nextval", "create materialized", "create function",
	"create type", "create domain", "merge into",
}

func TestSyntaxThatSQLiteLacksPrepares(t *testing.T) {
	text, err := os.ReadFile("testdata/syntax.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		t.Run(line, func(t *testing.T) {
			list, err := dialect.Parse(line)
			for _, r := range refused {
				if strings.HasPrefix(line, r) && err != nil {
					return
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			c := open(t, syntaxSchema...)
			if strings.Contains(line, "column yy") {
				run(t, c, "ALTER TABLE n RENAME COLUMN y TO yy")
			}
			for _, st := range list {
				prepareAll(t, c, st)
			}
		})
	}
}

// prepareAll prepares each piece of a statement's SQL and executes all but the last, on which it may
// depend.
func prepareAll(t *testing.T, c *sqlite3.Conn, st *dialect.Statement) {
	t.Helper()
	switch st.Kind {
	case dialect.RollbackTo, dialect.Release:
		return
	}
	for i, sql := range st.SQL {
		if st.Kind == dialect.Insert || st.Kind == dialect.Update {
			refs, mods := probe(t, c, st)
			sql, _ = st.Typed(dialect.Known{Refs: refs, Mods: mods, Target: target(t, c, st)})
		}
		stmt, _, err := c.Prepare(sql)
		if err != nil {
			if strings.Contains(err.Error(), "nosuchcol") || strings.Contains(err.Error(), "row value misused") {
				return
			}
			t.Fatalf("%s\n%v", sql, err)
		}
		stmt.Close()
		if i < len(st.SQL)-1 {
			run(t, c, sql)
		}
	}
}

func TestClientStatementsPrepare(t *testing.T) {
	text, err := os.ReadFile("testdata/clients.json")
	if err != nil {
		t.Fatal(err)
	}
	var statements []string
	if err := json.Unmarshal(text, &statements); err != nil {
		t.Fatal(err)
	}
	c := open(t, "create table sa_a (id serial not null, name varchar(20), n numeric(10,2), b boolean, j json, t timestamptz default now(), primary key (id), unique (name))",
		"create table if not exists tt(id serial primary key, name text not null default 'x', v numeric(10,2), ts timestamptz default now())")
	for _, sql := range statements {
		if _, ok := pgcatalog.Canned(sql); ok || strings.Contains(sql, "CREATE OR REPLACE FUNCTION") {
			continue
		}
		for _, st := range parse(t, sql) {
			clientStatement(t, c, st)
		}
	}
}

// clientStatement runs what makes tables, so that later statements find them, and prepares queries
// with their probes.
func clientStatement(t *testing.T, c *sqlite3.Conn, st *dialect.Statement) {
	t.Helper()
	switch st.Kind {
	case dialect.DDL:
		for _, s := range st.SQL {
			if err := c.Exec(s); err != nil && !strings.Contains(err.Error(), "already exists") {
				t.Errorf("%s\n%v", s, err)
			}
		}
	case dialect.AlterRebuild:
		old := schemaText(t, c, st.Rebuild.Table)
		if _, err := dialect.EditTable(old, "new", st.Rebuild); err != nil && !strings.Contains(err.Error(), "already exists") {
			t.Errorf("%s\n%s\n%v", st.Text, old, err)
		}
	case dialect.Select, dialect.Insert, dialect.Update, dialect.Delete:
		for _, s := range []string{st.SQL[0], st.Probe()} {
			stmt, _, err := c.Prepare(s)
			if err != nil {
				t.Errorf("%s\nbecame %s\n%v", st.Text, s, err)
				continue
			}
			stmt.Close()
		}
	}
}
