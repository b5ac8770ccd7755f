package dialect

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

func TestKindsAndTags(t *testing.T) {
	for _, test := range []struct {
		sql  string
		kind Kind
		tag  string
	}{
		{"select 1", Select, "SELECT"},
		{"VALUES (1)", Select, "SELECT"},
		{"table t", Select, "SELECT"},
		{"with a as (select 1) select * from a", Select, "SELECT"},
		{"with a as (select 1) insert into t select * from a", Insert, "INSERT"},
		{"with a as (select 1) delete from t where x in (select * from a)", Delete, "DELETE"},
		{"insert into t default values", Insert, "INSERT"},
		{"replace into t values (1)", Insert, "INSERT"},
		{"insert or replace into t values (1)", Insert, "INSERT"},
		{"update t set a = 1", Update, "UPDATE"},
		{"delete from t", Delete, "DELETE"},
		{"explain analyze select 1", Explain, "EXPLAIN"},
		{"explain (analyze, format text) select 1", Explain, "EXPLAIN"},
		{"begin", Begin, "BEGIN"},
		{"BEGIN;", Begin, "BEGIN"},
		{"start transaction read only", Begin, "START TRANSACTION"},
		{"commit work", Commit, "COMMIT"},
		{"end", Commit, "COMMIT"},
		{"abort", Rollback, "ROLLBACK"},
		{"rollback and chain", Rollback, "ROLLBACK"},
		{"rollback to savepoint s", RollbackTo, "ROLLBACK"},
		{"savepoint s", Savepoint, "SAVEPOINT"},
		{"release s", Release, "RELEASE"},
		{"set transaction isolation level serializable", SetTransaction, "SET"},
		{"set session characteristics as transaction read only", SetTransaction, "SET"},
		{"set constraints all deferred", SetConstraints, "SET CONSTRAINTS"},
		{"set role none", Set, "SET"},
		{"reset all", Reset, "RESET"},
		{"show server_version", Show, "SHOW"},
		{"discard all", Discard, "DISCARD ALL"},
		{"deallocate all", Deallocate, "DEALLOCATE ALL"},
		{"deallocate prepare x", Deallocate, "DEALLOCATE"},
		{"close all", CloseCursor, "CLOSE CURSOR ALL"},
		{"close c", CloseCursor, "CLOSE CURSOR"},
		{"listen a", Listen, "LISTEN"},
		{"unlisten *", Unlisten, "UNLISTEN"},
		{"notify a, 'x'", Notify, "NOTIFY"},
		{"lock table t in exclusive mode nowait", Lock, "LOCK TABLE"},
		{"truncate a, b", Truncate, "TRUNCATE TABLE"},
		{"vacuum (full, analyze) t", Vacuum, "VACUUM"},
		{"analyze t", Analyze, "ANALYZE"},
		{"reindex table t", Reindex, "REINDEX"},
		{"checkpoint", Checkpoint, "CHECKPOINT"},
		{"comment on table t is 'x'", Comment, "COMMENT"},
		{"create database d", CreateDatabase, "CREATE DATABASE"},
		{"drop database if exists d with (force)", DropDatabase, "DROP DATABASE"},
		{"alter database d set timezone to 'UTC'", AlterDatabase, "ALTER DATABASE"},
		{"alter system set synchronous_standby_names = 'ANY 1 (*)'", AlterSystem, "ALTER SYSTEM"},
		{"alter system reset all", AlterSystem, "ALTER SYSTEM"},
		{"alter role all in database d reset all", AlterRole, "ALTER ROLE"},
		{"create user u password 'x'", CreateRole, "CREATE ROLE"},
		{"alter role u with nologin", AlterRole, "ALTER ROLE"},
		{"drop role if exists a, b", DropRole, "DROP ROLE"},
		{"grant all on t to public", Grant, "GRANT"},
		{"revoke all on t from public", Revoke, "REVOKE"},
		{"create schema if not exists s", CreateSchema, "CREATE SCHEMA"},
		{"drop schema s cascade", DropSchema, "DROP SCHEMA"},
		{"alter table t add primary key (a)", AlterRebuild, "ALTER TABLE"},
		{"alter table t add column a int", DDL, "ALTER TABLE"},
		{"alter table t rename to u", DDL, "ALTER TABLE"},
		{"alter table t owner to ada", NoOp, "ALTER TABLE"},
		{"create table t as select 1", CreateTableAs, "SELECT"},
		{"create table t (a int)", DDL, "CREATE TABLE"},
		{"create unique index on t (a)", DDL, "CREATE INDEX"},
		{"create or replace view v as select 1", DDL, "CREATE VIEW"},
		{"create extension if not exists \"uuid-ossp\"", NoOp, "CREATE EXTENSION"},
		{"drop type if exists mood", NoOp, "DROP TYPE"},
		{"pragma table_info(t)", Pragma, "SELECT"},
		{"execute p (1, 'a')", Execute, "EXECUTE"},
	} {
		list, err := Parse(test.sql)
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %d statements, %v", test.sql, len(list), err)
			continue
		}
		if st := list[0]; st.Kind != test.kind || st.Tag != test.tag {
			t.Errorf("%s: kind %d, tag %s", test.sql, st.Kind, st.Tag)
		}
	}
}

func only(t *testing.T, sql string) *Statement {
	t.Helper()
	list, err := Parse(sql)
	if err != nil || len(list) != 1 {
		t.Fatalf("%s: %d statements, %v", sql, len(list), err)
	}
	return list[0]
}

func TestStatementsAreSplit(t *testing.T) {
	for _, test := range []struct {
		sql  string
		want []string
	}{
		{"", nil},
		{" -- nothing\n ; /* ; */ ;", nil},
		{"select 1; select ';' ;", []string{"select 1", "select ';'"}},
		{"select $a$;$a$; commit", []string{"select $a$;$a$", "commit"}},
		{
			"create trigger g after insert on t begin update t set a = case when 1 then 2 end; delete from u; end; select 1",
			[]string{"create trigger g after insert on t begin update t set a = case when 1 then 2 end; delete from u; end", "select 1"},
		},
	} {
		list, err := Parse(test.sql)
		if err != nil {
			t.Errorf("%s: %v", test.sql, err)
			continue
		}
		var got []string
		for _, st := range list {
			got = append(got, st.Text)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %q", test.sql, got)
		}
	}
}

func TestRefusalsNameCodeAndPosition(t *testing.T) {
	for _, test := range []struct {
		sql      string
		code     sqlstate.Code
		position int
	}{
		{"selec 1", "42601", 1},
		{"select 'a", "42601", 8},
		{"select \"a", "42601", 8},
		{"select $$a", "42601", 8},
		{"/* a", "42601", 1},
		{"select 1a", "42601", 8},
		{"begin foo", "42601", 7},
		{"commit and", "42601", 0},
		{"é", "42601", 1},
		{"select 'é'; begin foo", "42601", 19},
		{"select a::nosuch", "42704", 11},
		{"select a::point", "0A000", 11},
		{"select distinct on (a) * from t", "0A000", 17},
		{"select a similar to 'x'", "0A000", 10},
		{"select a @@ b", "0A000", 10},
		{"select a < any(b)", "0A000", 10},
		{"with a as (delete from t returning *) select 1", "0A000", 12},
		{"merge into t using u on true when matched then delete", "0A000", 1},
		{"create table t (a int, a text)", "42701", 0},
		{"create table t (a int primary key, b int primary key)", "42P16", 0},
		{"create table t (a mood)", "42704", 19},
		{"create table t (like u)", "0A000", 17},
		{"create table t (a int) partition by range (a)", "0A000", 24},
		{"create index on t using gin (a)", "0A000", 25},
		{"create sequence s", "0A000", 8},
		{"attach database 'x' as y", "0A000", 1},
		{"detach y", "0A000", 1},
		{"vacuum into 'x'", "0A000", 8},
		{"pragma journal_mode = off", "42501", 8},
		{"pragma writable_schema = on", "42501", 8},
		{"pragma table_info(t); pragma main.journal_mode", "42501", 0},
		{"select load_extension('x')", "42501", 8},
		{"select * from pragma_journal_mode", "42501", 15},
		{"copy t from '/etc/passwd'", "0A000", 13},
		{"copy t to program 'x'", "0A000", 11},
		{"copy t from stdin (format xml)", "22023", 27},
		{"copy t from stdin csv delimiter 'ab'", "0A000", 33},
		{"truncate t cascade", "0A000", 12},
		{"prepare transaction 'x'", "0A000", 9},
		{"select $0", "42P02", 8},
		{"select $40000", "54000", 8},
		{"explain explain select 1", "42601", 9},
		{"explain create table t (a int)", "42601", 9},
		{"declare c cursor for delete from t", "42601", 22},
		{"set x", "42601", 0},
	} {
		_, err := Parse(test.sql)
		var e *sqlstate.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", test.sql, err)
			continue
		}
		if e.Code != test.code || test.position > 0 && e.Position != test.position {
			t.Errorf("%s: %v at %d", test.sql, err, e.Position)
		}
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	for _, sql := range []string{
		"select " + strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000),
		"select " + strings.Repeat("- ", 5000) + "1",
		"select " + strings.Repeat("not ", 5000) + "1",
		strings.Repeat("(select ", 5000) + "1" + strings.Repeat(")", 5000),
		"select 1 from " + strings.Repeat("(", 5000) + "t" + strings.Repeat(")", 5000),
		"select " + strings.Repeat("case when ", 5000) + "1",
		"select " + strings.Repeat("array[", 5000) + "1",
		"select array" + strings.Repeat("[", 5000) + "1",
	} {
		_, err := Parse(sql)
		var e *sqlstate.Error
		if !errors.As(err, &e) || e.Code != sqlstate.ProgramLimitExceeded {
			t.Errorf("%.30s: %v", sql, err)
		}
	}
	if _, err := Parse("select 1" + strings.Repeat(" + 1", 5000)); err != nil {
		t.Errorf("a long chain: %v", err)
	}
}

func TestIndexesWithoutNamesAreNumbered(t *testing.T) {
	st := only(t, "create unique index on t (a, lower(b))")
	if got := st.Index.Name(0) + " " + st.Index.Name(1) + " " + st.Index.Name(2); got != "t_a_lower_idx t_a_lower_idx1 t_a_lower_idx2" {
		t.Error(got)
	}
	if got, want := st.Index.SQL("x"), `CREATE UNIQUE INDEX "x" ON "t" (a, lower(b))`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSQLiteSyntaxIsPassedOn(t *testing.T) {
	for _, sql := range []string{
		"insert or ignore into t(a) values(?)",
		"select * from t where a glob 'x*' and b is not 3",
		"select * from t not indexed",
		"select json_extract(j, '$.a') as a, j->'$.a' as b from t",
		"create table t (a int, b any) strict",
		"create virtual table f using fts5(a, b)",
		"select * from f where f match 'x'",
		"create trigger g after insert on t begin insert into u values (new.a); end",
		"select total(a) as a, group_concat(b) as b from t",
		"update or rollback t set a = 1 where rowid = 3",
		"select iif(a, 1, 2) as a from t where a == 1 or a << 2 = ~a",
		"select * from json_each('[1]')",
	} {
		if got := only(t, sql).SQL[0]; got != sql {
			t.Errorf("%s\nbecame %s", sql, got)
		}
	}
}

func TestTransactionModes(t *testing.T) {
	st := only(t, "begin transaction isolation level repeatable read, read only deferrable")
	if want := (TxnOptions{Isolation: "repeatable read", ReadOnly: On, Deferrable: On}); *st.Txn != want {
		t.Errorf("%+v", *st.Txn)
	}
	st = only(t, "set session characteristics as transaction isolation level read committed read write")
	if want := (TxnOptions{Isolation: "read committed", ReadOnly: Off, Session: true}); *st.Txn != want {
		t.Errorf("%+v", *st.Txn)
	}
	if st = only(t, "commit and chain"); !st.Txn.Chain {
		t.Error("commit and chain")
	}
	if st = only(t, "commit and no chain"); st.Txn.Chain {
		t.Error("commit and no chain")
	}
}

func TestVariables(t *testing.T) {
	for _, test := range []struct {
		sql  string
		want Variable
	}{
		{"set client_min_messages to warning", Variable{Name: "client_min_messages", Value: "warning"}},
		{"SET Extra_Float_Digits = 3", Variable{Name: "extra_float_digits", Value: "3"}},
		{"set local x.y = 'A b'", Variable{Name: "x.y", Value: "A b", Local: true}},
		{"set session timezone to default", Variable{Name: "timezone", Default: true}},
		{"set time zone 'UTC'", Variable{Name: "timezone", Value: "UTC"}},
		{"set time zone interval '+00:00' hour to minute", Variable{Name: "timezone", Value: "+00:00"}},
		{"set time zone -7", Variable{Name: "timezone", Value: "-7"}},
		{"set time zone local", Variable{Name: "timezone", Default: true}},
		{"set names 'utf8'", Variable{Name: "client_encoding", Value: "utf8"}},
		{"set search_path to \"$user\", public", Variable{Name: "search_path", Value: "\"$user\", public"}},
		{"set datestyle = iso, mdy", Variable{Name: "datestyle", Value: "iso, mdy"}},
		{"set role none", Variable{Name: "role", Value: "none"}},
		{"set session authorization default", Variable{Name: "session_authorization", Default: true}},
		{"set schema 'x'", Variable{Name: "search_path", Value: "x"}},
		{"show time zone", Variable{Name: "timezone"}},
		{"show transaction isolation level", Variable{Name: "transaction_isolation"}},
		{"show all", Variable{Name: "all"}},
		{"reset session authorization", Variable{Name: "session_authorization", Default: true}},
	} {
		got := *only(t, test.sql).Set
		got.Values = nil
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v", test.sql, got)
		}
	}
}

func TestCopyOptions(t *testing.T) {
	for _, test := range []struct {
		sql  string
		want CopyOptions
	}{
		{"copy t from stdin", CopyOptions{From: true, Table: "t", Format: "text", Delimiter: '\t', Null: `\N`}},
		{`COPY  tt ( name , "B" ) FROM STDIN `, CopyOptions{From: true, Table: "tt", Columns: []string{"name", "B"}, Format: "text", Delimiter: '\t', Null: `\N`}},
		{"copy pgbench_accounts from stdin with (freeze on)", CopyOptions{From: true, Table: "pgbench_accounts", Format: "text", Delimiter: '\t', Null: `\N`}},
		{"copy t to stdout (format csv, header)", CopyOptions{Table: "t", Format: "csv", Delimiter: ',', Header: true, Quote: '"', Escape: '"'}},
		{
			"copy t to stdout with csv header delimiter as ';' null 'NULL' quote '''' force quote *",
			CopyOptions{Table: "t", Format: "csv", Delimiter: ';', Null: "NULL", Header: true, Quote: '\'', Escape: '\'', ForceQuote: []string{"*"}},
		},
		{`copy public."tt" ("name") from stdin binary;`, CopyOptions{From: true, Table: "tt", Columns: []string{"name"}, Format: "binary", Delimiter: '\t', Null: `\N`}},
		{"copy binary t to stdout", CopyOptions{Table: "t", Format: "binary", Delimiter: '\t', Null: `\N`}},
		{
			"copy t from stdin (format csv, header match, force_null (a), null '')",
			CopyOptions{From: true, Table: "t", Format: "csv", Delimiter: ',', Header: true, HeaderMatch: true, Quote: '"', Escape: '"', ForceNull: []string{"a"}},
		},
		{"copy (select a::int from t) to stdout", CopyOptions{Format: "text", Delimiter: '\t', Null: `\N`}},
	} {
		got := *only(t, test.sql).Copy
		if !got.From && (got.Query == nil || len(got.Query.SQL) != 1) {
			t.Errorf("%s: no query", test.sql)
		}
		got.Query = nil
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", test.sql, got, test.want)
		}
	}
}

func TestCursors(t *testing.T) {
	st := only(t, `DECLARE "c 1" NO SCROLL CURSOR WITH HOLD FOR SELECT 1`)
	if c := st.Cursor; c.Name != "c 1" || !c.Hold || c.Scroll != Off || c.Query.Kind != Select {
		t.Errorf("%+v", c)
	}
	for sql, want := range map[string]CursorStmt{
		"fetch c":                       {Name: "c", Count: 1},
		"fetch 5 from c":                {Name: "c", Count: 5},
		"FETCH FORWARD 2000 FROM \"c\"": {Name: "c", Count: 2000},
		"fetch all in c":                {Name: "c", Count: 1, All: true},
		"fetch last c":                  {Name: "c", Direction: Absolute, Count: -1},
		"move backward all from c":      {Name: "c", Direction: Backward, Count: 1, All: true},
		"fetch relative -3 from c":      {Name: "c", Direction: Relative, Count: -3},
		"fetch prior from c":            {Name: "c", Direction: Backward, Count: 1},
	} {
		if got := *only(t, sql).Cursor; got != want {
			t.Errorf("%s: %+v", sql, got)
		}
	}
}

func TestRoles(t *testing.T) {
	got := *only(t, "create user ada with encrypted password 'x' superuser nocreatedb connection limit 5 valid until '2030-01-01'").Role
	want := RoleStmt{Name: "ada", HasPassword: true, Password: "x", Login: On, Superuser: On, CreateDB: Off, HasConnLimit: true, ConnLimit: 5, ValidUntil: "2030-01-01"}
	if got != want {
		t.Errorf("%+v", got)
	}
	got = *only(t, "alter role ada password null").Role
	if want := (RoleStmt{Name: "ada", HasPassword: true}); got != want {
		t.Errorf("%+v", got)
	}
	if st := only(t, "alter user all in database d set time zone 'UTC'"); st.Role.Name != "" || st.Role.Database != "d" || st.Set.Name != "timezone" {
		t.Errorf("alter role all in database: %+v %+v", st.Role, st.Set)
	}
	if st := only(t, `alter role "all" in database d reset timezone`); st.Role.Name != "all" || !st.Set.Default {
		t.Errorf("alter role \"all\" in database: %+v %+v", st.Role, st.Set)
	}
	if st := only(t, "alter system set skein.sync_timeout to default"); st.Set.Name != "skein.sync_timeout" || !st.Set.Default {
		t.Errorf("alter system: %+v", st.Set)
	}
	if st := only(t, "alter role ada set timezone to 'UTC'"); st.Set == nil || st.Set.Value != "UTC" {
		t.Errorf("%+v", st.Set)
	}
}

func TestPrepare(t *testing.T) {
	st := only(t, "prepare p (int, text) as select $1, $2")
	if p := st.Prepare; p.Name != "p" || !reflect.DeepEqual(p.Types, []oid.OID{oid.Int4, oid.Text}) || p.Query.NumParams != 2 || st.NumParams != 0 {
		t.Errorf("%+v", p)
	}
	if st = only(t, "execute p (1 + 2, 'a'::text)"); st.SQL[0] != "SELECT 1 + 2, cast_text('a')" {
		t.Error(st.SQL)
	}
}

func TestFlags(t *testing.T) {
	if st := only(t, "select a from t for no key update of t skip locked"); !st.ForUpdate || st.SQL[0] != "select a from t" {
		t.Errorf("%+v", st)
	}
	for sql, want := range map[string]bool{"select 1 + 2": false, "select a + 1": true, "select sum(a) from t": true, "select a from t": false, "select -1": false, "select -a": true} {
		if st := only(t, sql); st.Arithmetic != want {
			t.Errorf("%s: %v", sql, st.Arithmetic)
		}
	}
	if st := only(t, "delete from t returning *"); !st.Returning || st.Table != "t" {
		t.Errorf("%+v", st)
	}
}

func FuzzParse(f *testing.F) {
	for _, sql := range []string{
		"select a::int, $1 from t where b = any($2) order by 1 limit 5 offset 2 for update",
		"insert into t (a, b) values (default, 1.5), (default, '2020-01-01') on conflict (a) do update set b = excluded.b returning *",
		"create table if not exists t (id serial primary key, n numeric(10,2) default 1, unique (n), check (n > 0)) with (fillfactor=10)",
		"alter table t add column x int default now(), drop constraint y, alter column z type varchar(3) using z::text",
		"with r as (select 1) select case when x then 'y' end, array[1,2][1], trim(both 'x' from y), a at time zone 'utc' from r, lateral unnest(z) w(q)",
		"copy (select 1) to stdout with (format csv, header, null '')", "set time zone interval '1' hour", "E'\\x41' U&\"\\0041\" $a$b$a$",
		"create trigger t after insert on x begin select 1; end; attach 'x' as y; pragma user_version",
		"\x01<\x80\x80\x81 select '1' + 2", "execute p(1)", "wait for lsn '0/1A2B@7-5f3c9a1e' with (mode standby_flush, timeout -1.5, no_throw false)", "delete from a using b where a.x = b.x",
	} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		list, err := Parse(sql)
		var e *sqlstate.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("not an Error: %v", err)
		}
		for _, st := range list {
			checkStatement(t, st)
		}
	})
}

// checkStatement demands what holds for the output of any text.
func checkStatement(t *testing.T, st *Statement) {
	if st.Kind == 0 || st.Tag == "" {
		t.Fatalf("unclassified: %q", st.Text)
	}
	if len(st.ParamTypes) != st.NumParams {
		t.Fatalf("%d types for %d parameters", len(st.ParamTypes), st.NumParams)
	}
	outputs := append([]string{st.Probe()}, st.SQL...)
	for _, o := range []oid.OID{0, oid.Numeric, oid.Timestamptz, oid.Int4, oid.Bool} {
		refs, mods := make([]oid.OID, 20), make([]int32, 20)
		for i := range refs {
			refs[i], mods[i] = o, -1
		}
		typed, _ := st.Typed(Known{Refs: refs, Mods: mods})
		outputs = append(outputs, typed)
	}
	for _, sql := range outputs {
		if sql == "" {
			continue
		}
		if strings.IndexByte(sql, markByte) >= 0 && strings.IndexByte(st.Text, markByte) < 0 {
			t.Fatalf("a mark is left: %q", sql)
		}
		toks, err := tokenize(sql)
		if err != nil {
			t.Fatalf("%q became %q: %v", st.Text, sql, err)
		}
		for _, word := range []string{"attach", "detach"} {
			if toks[0].is(word) {
				t.Fatalf("%q became %q", st.Text, sql)
			}
		}
		if toks[0].is("vacuum") || toks[0].is("pragma") && st.Kind != Pragma {
			t.Fatalf("%q became %q", st.Text, sql)
		}
		for i := range toks {
			if toks[i].is(";") && !isTrigger(toks) {
				t.Fatalf("%q became several: %q", st.Text, sql)
			}
			if toks[i].name() && strings.EqualFold(toks[i].word, "load_extension") {
				t.Fatalf("%q became %q", st.Text, sql)
			}
		}
	}
	params, _ := st.Infer(Known{}, make([]oid.OID, 3))
	if len(params) != st.NumParams {
		t.Fatalf("%d parameters typed of %d", len(params), st.NumParams)
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add(`CREATE TABLE "t" ("id" integer CONSTRAINT "t_pkey" PRIMARY KEY AUTOINCREMENT NOT NULL, b text DEFAULT (now()), CHECK (b > 1)) WITHOUT ROWID`)
	f.Fuzz(func(t *testing.T, sql string) {
		table, err := ParseTable(sql)
		if err != nil {
			return
		}
		if _, err := ParseTable(table.String()); err != nil && len(table.Columns) > 0 {
			t.Fatalf("%q became %q: %v", sql, table.String(), err)
		}
	})
}

func BenchmarkPointSelect(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("SELECT abalance FROM pgbench_accounts WHERE aid = $1"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInsertOfThousandRows(b *testing.B) {
	sql := "insert into t (a, b, c) values (1, 'x', 2.5)" + strings.Repeat(", (1, 'x', 2.5)", 999)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(sql); err != nil {
			b.Fatal(err)
		}
	}
}
