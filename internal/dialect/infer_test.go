package dialect_test

import (
	"fmt"
	"slices"
	"testing"

	"skein/internal/oid"
)

var people = []string{
	`create table people (id bigserial primary key, name varchar(20) not null, age int, height real, pay numeric(10,2),
		born date, seen timestamptz default now(), active boolean default true, tags text[], data jsonb, code uuid)`,
	`create table pets (id serial primary key, owner_id bigint references people(id), name text)`,
	`insert into people (name, age, height, pay, born, active, tags, data, code) values
		('ada', 36, 1.6, 10.50, '1815-12-10', true, '{a,b}', '{"x":1}', '00000000-0000-0000-0000-000000000001'),
		('bob', null, 1.8, 9.99, '1900-01-01', false, '{}', null, null)`,
	`insert into pets (owner_id, name) values (1, 'rex'), (1, 'tom'), (2, 'kim')`,
}

func TestParameterTypes(t *testing.T) {
	c := open(t, people...)
	for _, test := range []struct {
		sql  string
		want string
	}{
		{"select * from people where id = $1", "20"},
		{"select * from people where $1 = name and age > $2", "1043 23"},
		{"select * from people p where p.age between $1 and $2", "23 23"},
		{"select * from people where id in ($1, $2)", "20 20"},
		{"select * from people where id = any($1)", "1016"},
		{"select * from people where name = any($1::text[])", "1009"},
		{"select * from people limit $1 offset $2", "20 20"},
		{"select $1::int, $2::text, $3", "23 25 25"},
		{"insert into people (name, age, pay, seen) values ($1, $2, $3, $4)", "1043/24 23 1700/655366 1184"},
		{"insert into pets values ($1, $2, $3)", "23 20 25"},
		{"insert into pets (owner_id, name) select $1, $2", "20 25"},
		{"update people set age = age + $1, active = $2 where id = $3", "23 16 20"},
		{"update people set (name, age) = ($1, $2)", "1043/24 23"},
		{"delete from people where born < $1", "1082"},
		{"select * from people where name like $1 and lower(name) = $2", "25 25"},
		{"select coalesce(age, $1) from people", "23"},
		{"select case when id = $1 then age else $2 end from people", "20 23"},
		{"select * from pets where owner_id in (select id from people where name = $1)", "1043"},
		{"select * from pets t where exists (select 1 from people p where p.id = t.owner_id and p.height > $1)", "700"},
		{"with x as (select id, age from people) select * from x where age = $1", "23"},
		{"select * from (select count(*) as n, age from people group by age) q where n > $1", "20"},
		{"select * from people where active = $1 and data->>'x' = $2", "16 25"},
		{"select age from people group by age having count(*) > $1", "20"},
		{"insert into pets (name) values ($1) on conflict (id) do update set name = $2 where pets.owner_id = $3", "25 25 20"},
		{"select * from people join pets on pets.owner_id = people.id and pets.name = $1", "25"},
		{"select * from people where seen > now() - $1::interval", "1186"},
		{"select $1", "25"},
		{"select * from people where (id, name) = ($1, $2)", "20 1043"},
		{"select * from people where code = $1", "2950"},
	} {
		_, params, _ := describe(t, c, parse(t, test.sql)[0])
		got := ""
		for _, p := range params {
			got += fmt.Sprint(" ", p.OID)
			if p.Mod >= 0 {
				got += fmt.Sprint("/", p.Mod)
			}
		}
		if got != " "+test.want {
			t.Errorf("%s\ngot  %s\nwant  %s\nprobe %s", test.sql, got, test.want, parse(t, test.sql)[0].Probe())
		}
	}
}

func TestResultTypes(t *testing.T) {
	c := open(t, people...)
	for _, test := range []struct {
		sql  string
		want []oid.OID
	}{
		{"select id, name, age, pay, tags from people", []oid.OID{oid.Int8, oid.Varchar, oid.Int4, oid.Numeric, oid.TextArray}},
		{"select count(*), sum(age), sum(pay), avg(age), max(seen) from people", []oid.OID{oid.Int8, oid.Int8, oid.Numeric, oid.Float8, oid.Timestamptz}},
		{"select 1, 3000000000, 1.5, 'x', true, null", []oid.OID{oid.Int4, oid.Int8, oid.Numeric, oid.Text, oid.Bool, oid.Text}},
		{"select age + 1, age * id, height / 2, name || 'x' from people", []oid.OID{oid.Int4, oid.Int8, oid.Float4, oid.Text}},
		{"select age > 1, name like 'a%', id in (1), born is null, not active, exists (select 1) from people", []oid.OID{oid.Bool, oid.Bool, oid.Bool, oid.Bool, oid.Bool, oid.Bool}},
		{"select coalesce(age, 0), nullif(name, ''), case when true then seen end, greatest(age, id) from people", []oid.OID{oid.Int4, oid.Varchar, oid.Timestamptz, oid.Int8}},
		{"select now(), current_date, length(name), lower(name), version() from people", []oid.OID{oid.Timestamptz, oid.Date, oid.Int4, oid.Text, oid.Text}},
		{"select (select max(born) from people), array[1,2], tags[1] from people", []oid.OID{oid.Date, oid.Int4Array, oid.Text}},
		{"select * from (select count(*) as n, max(born) from people) q", []oid.OID{oid.Int8, oid.Date}},
		{"with q as (select id, id * 2 as d from people) select d, id from q", []oid.OID{oid.Int8, oid.Int8}},
		{"select 1, p.*, count(*) over () from pets p", []oid.OID{oid.Int4, oid.Int4, oid.Int8, oid.Text, oid.Int8}},
		{"select age from people union all select 1", []oid.OID{oid.Int4}},
		{"insert into people (name) values ('x') returning id, age + 1", []oid.OID{oid.Int8, oid.Int4}},
		{"update people set age = 1 returning *", []oid.OID{oid.Int8, oid.Varchar, oid.Int4, oid.Float4, oid.Numeric, oid.Date, oid.Timestamptz, oid.Bool, oid.TextArray, oid.JSONB, oid.UUID}},
		{"select born + 1, seen - seen, seen + interval '1 day', born - born from people", []oid.OID{oid.Date, oid.Interval, oid.Timestamptz, oid.Int4}},
		{"select x.n from (values (1), (2)) as x(n)", []oid.OID{oid.Int4}},
		{"select bid from generate_series(1, 3) as bid", []oid.OID{oid.Int4}},
		{"select 'people'::regclass, '1'::int8, pay::float8, data -> 'x', data ->> 'x' from people", []oid.OID{oid.Regclass, oid.Int8, oid.Float8, oid.JSONB, oid.Text}},
		{"values (1, 'a')", []oid.OID{oid.Int4, oid.Text}},
		{"select extract(year from seen), date_trunc('day', seen) from people", []oid.OID{oid.Numeric, oid.Timestamptz}},
	} {
		_, _, got := describe(t, c, parse(t, test.sql)[0])
		if !slices.Equal(got, test.want) {
			t.Errorf("%s\ngot  %v\nwant %v\nprobe %s", test.sql, got, test.want, parse(t, test.sql)[0].Probe())
		}
	}
}
