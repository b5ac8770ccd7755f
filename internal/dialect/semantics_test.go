package dialect_test

import (
	"slices"
	"strings"
	"testing"

	"skein/internal/dialect"
)

func TestQueriesAnswerAsPostgreSQL(t *testing.T) {
	c := open(t, people...)
	for _, test := range []struct {
		sql  string
		want string // rows separated by a slash
	}{
		{"select name from people order by age", "ada/bob"},
		{"select name from people order by age desc", "bob/ada"},
		{"select 'abc' ~ '^a', 'abc' !~ 'B', 'abc' ~* 'B', 'abc' !~* 'B'", "1|1|1|0"},
		{"select 'Abc' ilike 'aB%', 'Abc' like 'aB%', 'x' ~~ 'x', 'X' ~~* 'x'", "1|0|1|1"},
		{"select 1 = 1 and 'b' ~ 'B' = false", "1"},
		{"select true = 'a' ~ 'a'", "1"},
		{"select '5'::int + 1, '1.50'::numeric(5,1), cast('x' as text)", "6|1.5|x"},
		{"select 2 ^ 3", "8.0"},
		{"select 'a' || 1 + 2", "a3"},
		{"select name from people where id = any(array[2,3])", "bob"},
		{"select name from people where id = any('{1,3}'::int[])", "ada"},
		{"select name from people where id <> all(array[1])", "bob"},
		{"select name from people where 'b' = any(tags)", "ada"},
		{"select tags[2] from people", "b/NULL"},
		{"select array(select name from people order by id)", "{ada,bob}"},
		{"select name from people where (id, name) in ((1, 'ada'), (5, 'x'))", "ada"},
		{"select g from generate_series(1, 3) as g", "1/2/3"},
		{"select x, y from (values (1, 'a'), (2, 'b')) as v(x, y) where x > 1", "2|b"},
		{"select u.tag from people, unnest(tags) as u(tag)", "a/b"},
		{"select tag from people, unnest(tags) tag where id = 1 order by tag desc", "b/a"},
		{"select unnest(array[3,4])", "3/4"},
		{"select unnest(array[7,8]) v, generate_subscripts(array[7,8], 1) k", "7|1/8|2"},
		{"select generate_series(1, 2)::text || 'x'", "1x/2x"},
		{"select id, unnest(tags) as tag from people order by 2", "1|a/1|b"},
		{"select name from people where pay > 9.995", "ada"},
		{"select pay + 0.05, pay * 2, pay - 1, -pay from people where id = 1", "10.55|21.0|9.5|-10.5"},
		{"select sum(pay), avg(pay) > 10 from people", "20.49|1"},
		{"select name from people where pay * 2 between 20 and 100 or pay + 1 in (10.99)", "ada/bob"},
		{"select max(pay * 2), min(pay + 1), nullif(sum(pay), 20.49) from people", "21.0|10.99|NULL"},
		{"select name, rank() over (order by pay * 1) from people order by 2", "bob|1/ada|2"},
		{"select 'a_b' like 'a\\_b', 'axb' like 'a\\_b', 'a%' ilike 'A\\%', 'a!_' like 'a!!!_' escape '!'", "1|0|1|1"},
		{"select name from people where length(name) = '3' and id = '1'", "ada"},
		{"select 7 / age from people where id = 1 and age % 5 = 1", "0"},
		{"select name from people order by pay * 1 desc", "ada/bob"},
		{"select name from people where pay * 2 > 20", "ada"},
		{"select name from people group by name having sum(pay) > 10", "ada"},
		{"select name from people where born < '1 January 1900'", "ada"},
		{"select name from people where born = '1900-1-1'", "bob"},
		{"select born + 1, born - '1815-12-01'::date from people where id = 1", "1815-12-11|9"},
		{"select born + interval '1 month' from people where id = 1", "1816-01-10 00:00:00"},
		{"select name from people where active = 'yes'", "ada"},
		{"select name from people where code = '00000000-0000-0000-0000-00000000000{1}'::text or code = '{00000000000000000000000000000001}'", "ada"},
		{"select extract(year from born), position('d' in name), substring(name from 2 for 1) from people where id = 1", "1815|2|d"},
		{"select trim(both 'x' from 'xax'), trim(leading from ' a'), trim('  b '), overlay('abcd' placing 'X' from 2 for 2)", "a|a|b|aXd"},
		{"select 1 limit all", "1"},
		{"select id from people order by id offset 1", "2"},
		{"select id from people order by id offset 1 row fetch next 1 rows only", "2"},
		{"select id from people order by id fetch first row only", "1"},
		{"(select 1) union all (select 2 order by 1) order by 1 desc", "2/1"},
		{"select coalesce(name), greatest(1, 2), least(1, 2) from people where id = 1", "ada|2|1"},
		{"select count(*) filter (where age > 1), string_agg(name, ',' order by name desc) from people", "1|bob,ada"},
		{"select name, row_number() over (order by age) from people order by 2", "ada|1/bob|2"},
		{"select sum(id) over (order by id rows between unbounded preceding and current row) from people", "1/3"},
		{"select 'a'\n'b', E'\\x41\\n', U&'\\0041', $x$it's$x$", "ab|A\n|A|it's"},
		{"select /* a /* nested */ b */ 1 -- end", "1"},
		{"select p.name from public.people as p, pets where pets.owner_id = p.id and pets.name = 'kim'", "bob"},
		{"table pets", "1|1|rex/2|1|tom/3|2|kim"},
		{"select max(s.n) from (select count(*) n from pets group by owner_id) s", "2"},
		{"select case age when 36 then 'x' else 'y' end from people order by 1", "x/y"},
		{"select timezone('UTC', '2020-01-01 00:00:00'::timestamp) = '2020-01-01 00:00:00'::timestamp at time zone 'UTC'", "1"},
		{"select data ->> 'x', data -> 'x' from people where id = 1", "1|1"},
		{"select row(1,2) = (1,2)", "1"},
		{"select not true or true, not 1 = 2", "1|1"},
		{"select - 2 ^ 2, 2 + 3 * 4 % 5", "4.0|4"},
		{"select index, \"order\" from (select 1 as index, 2 as \"order\") x", "1|2"},
		{"select current_date = now()::date", "1"},
	} {
		if got := strings.Join(rows(t, c, test.sql), "/"); got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.sql, got, test.want)
		}
	}
}

func TestColumnNames(t *testing.T) {
	c := open(t, people...)
	for _, test := range []struct{ sql, want string }{
		{"select count(*), 1, max(age), name, p.id, 'x' from people p group by 4,5", "count,?column?,max,name,id,?column?"},
		{"select id::text, '1'::int, true, coalesce(age, 1), age + 1, upper(name) u from people", "id,int4,bool,coalesce,?column?,u"},
		{"select case when true then 1 end, exists (select 1), (select max(id) from pets), array[1], nullif(1,2)", "case,exists,max,array,nullif"},
		{"select now(), current_date, current_user, current_timestamp, extract(day from now()), 'x'::varchar(3)", "now,current_date,current_user,current_timestamp,extract,varchar"},
		{"select count from (select count(*) from people) x", "count"},
		{"insert into pets (name) values ('z') returning id, upper(name), 1 as one", "id,upper,one"},
		{"select ID, Name AS \"Full Name\" from people", "id,Full Name"},
	} {
		stmt, _, err := c.Prepare(parse(t, test.sql)[0].SQL[0])
		if err != nil {
			t.Errorf("%s\n%v", test.sql, err)
			continue
		}
		var names []string
		for i := range stmt.ColumnCount() {
			names = append(names, stmt.ColumnName(i))
		}
		stmt.Close()
		if got := strings.Join(names, ","); got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.sql, got, test.want)
		}
	}
}

func TestChangesStoreValuesInTheirForm(t *testing.T) {
	c := open(t, `create table v (id serial primary key, n numeric(8,2), d date, ts timestamptz, b bool, i int, u uuid, x bytea)`)
	for _, test := range []struct{ sql, want string }{
		{`insert into v (n, d, ts, b) values (1.5, '2020-1-2', '2020-01-02T03:04:05+02', 'yes') returning n, d, ts, b`, "1.50|2020-01-02|2020-01-02 01:04:05|1"},
		{`insert into v (n) values (12345.678) returning n`, "12345.68"},
		{`insert into v (n) values (-7) returning n`, "-7.00"},
		{`insert into v values (100, 1.005, '2020-02-29', null, null, null, null, null) returning id, n, d`, "100|1.01|2020-02-29"},
		{`update v set n = n * 1.1, i = 2.6 where id = 100 returning n, i`, "1.11|3"},
		{`insert into v (d, ts) select '2021-01-01', d from v where id = 100 returning d, ts`, "2021-01-01|2020-02-29 00:00:00"},
		{`insert into v (id, n) values (default, 1), (default, 2) returning n`, "1.00/2.00"},
		{`insert into v (n, x) values (3, '\x4142') returning x`, "AB"},
		{`insert into v (id, n) values (100, 5) on conflict (id) do update set n = excluded.n + v.n returning n`, "6.11"},
		{`insert into v (id, n) select 100, 1 from v where id = 100 on conflict (id) do nothing returning n`, ""},
		{`delete from v using (select 100 as k) q where q.k = v.id returning v.id`, "100"},
		{`update v set d = '2022-02-02' from (select 1 as k) q where q.k = v.id returning v.d`, "2022-02-02"},
	} {
		if got := strings.Join(rows(t, c, test.sql), "/"); got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.sql, got, test.want)
		}
	}
}

func TestTypeChecksRefuseWhatDoesNotFit(t *testing.T) {
	for _, test := range []struct{ typ, good, bad string }{
		{"smallint", "1", "40000"},
		{"int", "-5", "3000000000"},
		{"int", "null", "'x'"},
		{"bigint", "3000000000", "'x'"},
		{"bool", "1", "2"},
		{"real", "1.5", "'x'"},
		{"varchar(3)", "'abc'", "'abcd'"},
		{"char(3)", "'ab'", "'abcd'"},
		{"text", "'x'", "x'00'"},
		{"numeric(4,2)", "'99.99'", "'100'"},
		{"numeric", "'1.0'", "'1e5'"},
		{"numeric", "'NaN'", "'abc'"},
		{"date", "'2020-01-01'", "'2020-1-1'"},
		{"date", "'infinity'", "'x'"},
		{"timestamp", "'2020-01-01 10:00:00.5'", "'2020-01-01T10:00:00'"},
		{"timestamptz", "'2020-01-01 10:00:00'", "'2020-01-01 10:00:00+00'"},
		{"time", "'10:00:00'", "'10am'"},
		{"uuid", "'00000000-0000-0000-0000-000000000001'", "'x'"},
		{"jsonb", "'{\"a\":1}'", "'{'"},
		{"bytea", "x'00'", "'a'"},
		{"int[]", "'{1,2}'", "'1'"},
	} {
		c := open(t, "create table v (c "+test.typ+")")
		if err := c.Exec("INSERT INTO v VALUES (" + test.good + ")"); err != nil {
			t.Errorf("%s refuses %s: %v", test.typ, test.good, err)
		}
		if err := c.Exec("INSERT INTO v VALUES (" + test.bad + ")"); err == nil {
			t.Errorf("%s takes %s", test.typ, test.bad)
		} else if !strings.Contains(err.Error(), "skein_type_c") {
			t.Errorf("%s refuses %s with %v", test.typ, test.bad, err)
		}
	}
}

func TestSerialColumnsNumberTheRows(t *testing.T) {
	for _, create := range []string{
		"create table v (id serial primary key, a int)",
		"create table v (id bigserial, a int, primary key (id))",
		"create table v (id int generated always as identity primary key, a int)",
		"create table v (id bigint generated by default as identity (start with 1), a int)",
		"create table v (id serial, a int)",
	} {
		c := open(t, create)
		run(t, c, "INSERT INTO v (a) VALUES (7), (8)")
		if got := rows(t, c, "select id from v order by id"); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("%s: %v", create, got)
		}
	}
}

func rebuild(t *testing.T, create, alter string) (string, error) {
	t.Helper()
	st := parse(t, alter)[0]
	if st.Kind != dialect.AlterRebuild {
		t.Fatalf("%s is no rebuild: %v", alter, st.SQL)
	}
	c := open(t, create)
	old := schemaText(t, c, st.Rebuild.Table)
	text, err := dialect.EditTable(old, "new", st.Rebuild)
	if err != nil || text == "" {
		return text, err
	}
	run(t, c, text)
	insert, err := dialect.CopyRows(old, "new", st.Rebuild)
	if err != nil {
		return "", err
	}
	run(t, c, insert)
	if _, err := dialect.ParseTable(schemaText(t, c, "new")); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return text, nil
}

func TestAlterTableRebuilds(t *testing.T) {
	const create = `create table t (id int not null, name varchar(20) default 'x', n numeric(8,2) unique, constraint pos check (id > 0))`
	for _, test := range []struct{ alter, want, gone string }{
		{"alter table t add primary key (id)", `"id" integer CONSTRAINT "t_pkey" PRIMARY KEY NOT NULL`, ""},
		{"alter table t add constraint u unique (name)", `CONSTRAINT "u" UNIQUE ("name")`, ""},
		{"alter table t add foreign key (id) references t (n) on delete cascade", `CONSTRAINT "t_id_fkey" FOREIGN KEY ("id") references t (n) on delete cascade`, ""},
		{"alter table t drop constraint pos", "", `"pos"`},
		{"alter table t drop constraint t_n_key", "", `"t_n_key"`},
		{"alter table t alter column name type text", `"name" text`, "length"},
		{"alter table t alter name type varchar(40), alter id type bigint", `length("name") <= 40`, "<= 20"},
		{"alter table t alter column name set default 'y'", `DEFAULT 'y'`, "'x'"},
		{"alter table t alter column name drop default", "", "DEFAULT"},
		{"alter table t drop column n cascade", "", `"n"`},
		{"alter table t add column s serial", `"s" integer CONSTRAINT "skein_serial" PRIMARY KEY AUTOINCREMENT NOT NULL`, ""},
		{"alter table t add column if not exists d timestamptz default now()", `"d" timestamptz DEFAULT (now())`, ""},
		{"alter table t rename constraint pos to positive", `"positive"`, `"pos"`},
		{"alter table t alter column n set not null, add unique (id)", `CONSTRAINT "t_id_key" UNIQUE ("id")`, ""},
	} {
		got, err := rebuild(t, create, test.alter)
		if err != nil {
			t.Errorf("%s: %v", test.alter, err)
			continue
		}
		if !strings.Contains(got, test.want) || test.gone != "" && strings.Contains(got, test.gone) {
			t.Errorf("%s\ngot %s", test.alter, got)
		}
	}
}

func TestRowidColumnKeepsItsTypeWhenChanged(t *testing.T) {
	for _, test := range []struct{ create, alter, want string }{
		{"create table t (id serial primary key)", "alter table t alter column id type bigint", `"id" INTEGER NOT NULL CONSTRAINT "t_pkey" PRIMARY KEY AUTOINCREMENT`},
		{"create table t (id bigserial primary key, a int)", "alter table t add unique (a)", `"id" INTEGER NOT NULL CONSTRAINT "t_pkey" PRIMARY KEY AUTOINCREMENT`},
		{"create table t (id int primary key, a int)", "alter table t drop constraint t_pkey", `"id" int4 NOT NULL`},
		{"create table t (id bigint, a int, primary key (a, id))", "alter table t add unique (id)", `"id" bigint NOT NULL`},
	} {
		got, err := rebuild(t, test.create, test.alter)
		if err != nil || !strings.Contains(got, test.want) {
			t.Errorf("%s\ngot %s %v", test.alter, got, err)
		}
	}
}

func TestTablesKeepTheirNames(t *testing.T) {
	for _, test := range []struct{ create, want string }{
		{`create table "Mixed" (Id int, "Key" text, index int)`, `CREATE TABLE "Mixed" ("id" int4 `},
		{
			"create table t (a int references p, b int, foreign key (a, b) references q (x, y) on update cascade deferrable initially deferred)",
			`CONSTRAINT "t_a_b_fkey" FOREIGN KEY ("a", "b") references q (x, y) on update cascade deferrable initially deferred`,
		},
		{"create table t (a int unique, b int check (b > a), check (a > 1), constraint c check (b < 5))", `CONSTRAINT "t_a_key" UNIQUE`},
		{"create table t (a int check (a > 0), check (a > 1))", `CONSTRAINT "t_a_check1" check (a > 1)`},
		{"create unlogged table public.t (a bigint primary key) with (fillfactor=70) tablespace x", `CREATE TABLE "t" ("a" INTEGER CONSTRAINT "t_pkey" PRIMARY KEY NOT NULL`},
		{"create table t (a date default now(), b timestamptz default '2020-1-1', c numeric(5,2) default 1)", `DEFAULT (cast_date(now()))`},
		{"create table t (a text collate \"C\" default 'x' || 'y', b text collate nocase)", `DEFAULT ('x' || 'y')`},
		{"create temp table t (a text primary key) without rowid", `CREATE TEMP TABLE "t"`},
	} {
		c := open(t, "create table p (id int primary key)")
		got := parse(t, test.create)[0].SQL[0]
		if !strings.Contains(got, test.want) {
			t.Errorf("%s\ngot %s", test.create, got)
		}
		run(t, c, got)
	}
}

func TestArithmeticOnUnknownTypesIsNotExact(t *testing.T) {
	c := open(t, append(people, "create view wages as select name, pay * 1.1 as raised from people", "create table loose (x)")...)
	for sql, want := range map[string]bool{
		"select pay * 2, age + 1 from people":                 true,
		"select name from people":                             true,
		"select raised * 2 from wages":                        false,
		"select x + 1 from loose":                             false,
		"select sum(x) from loose":                            false,
		"select 1 + 2":                                        true,
		"select p.x * 2 from (select pay as x from people) p": true,
	} {
		st := parse(t, sql)[0]
		refs, mods := probe(t, c, st)
		if _, exact := st.Typed(dialect.Known{Refs: refs, Mods: mods}); exact != want {
			t.Errorf("%s: %v", sql, exact)
		}
	}
}

func TestViewsComputeExactly(t *testing.T) {
	c := open(t, people...)
	v := parse(t, "create or replace view wages as select name, pay * 1.1 as raised from people")[0]
	text, _, _ := describe(t, c, v.View.Query)
	run(t, c, v.SQL[0])
	run(t, c, v.View.Head+text)
	if got := rows(t, c, "select raised from wages order by name"); !slices.Equal(got, []string{"11.55", "10.989"}) {
		t.Error(got)
	}
}

func TestCreateTableAsTakesTypesOfTheQuery(t *testing.T) {
	c := open(t, people...)
	st := parse(t, "create table copy (a) as select name, pay, born + 1 as later, count(*) over () from people with no data")[0]
	_, _, results := describe(t, c, st.CreateAs.Query)
	var types []dialect.ParamType
	for _, o := range results {
		types = append(types, dialect.ParamType{OID: o, Mod: -1})
	}
	text, err := st.CreateAs.Create([]string{"name", "pay", "later", "count"}, types)
	if err != nil || !st.CreateAs.NoData {
		t.Fatal(err)
	}
	run(t, c, text)
	for _, want := range []string{`"a" varchar`, `"pay" numeric_text`, `"later" date`, `"count" bigint`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestAlterTableRefusals(t *testing.T) {
	for _, test := range []struct{ alter, want string }{
		{"alter table t drop constraint nosuch", "42704"},
		{"alter table t alter column nosuch type int", "42703"},
		{"alter table t add unique (nosuch)", "42703"},
		{"alter table t add primary key (name)", "42P16"},
		{"alter table t add column name serial", "42701"},
	} {
		if _, err := rebuild(t, "create table t (id int primary key, name text)", test.alter); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.alter, err)
		}
	}
	if got, err := rebuild(t, "create table t (id int)", "alter table t drop column if exists x"); got != "" || err != nil {
		t.Errorf("%s %v", got, err)
	}
}
