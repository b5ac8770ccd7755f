package dialect_test

import (
	"slices"
	"strings"
	"testing"

	"skein/internal/dialect"
	"skein/internal/oid"
)

func TestValuesChangeTheirFormWithTheirType(t *testing.T) {
	c := openIn(t, "America/New_York",
		"create table v (id int primary key, b boolean, ts timestamp, tz timestamptz, d date, n numeric(8,2), x bytea, s text, j jsonb)",
		`insert into v values (1, true, '2024-01-02 03:04:05', '2024-01-02 03:04:05', '2024-01-02', '1.50', x'0102', 'hey', '{"k": [1]}')`,
	)
	for _, test := range []struct{ sql, want string }{
		{"select b::text, (not b)::varchar, (id > 1)::text, b || '', concat(b), array_agg(b) from v", "true|false|false|true|t|{t}"},
		{"select tz::text, tz::timestamp, tz::date, tz || '', ts::text from v", "2024-01-01 22:04:05-05|2024-01-01 22:04:05|2024-01-01|2024-01-01 22:04:05-05|2024-01-02 03:04:05"},
		{"select ts::timestamptz, d::timestamptz, tz::timestamptz(0) from v", "2024-01-02 08:04:05|2024-01-02 05:00:00|2024-01-02 03:04:05"},
		{"select to_char(tz, 'YYYY-MM-DD HH24:MI TZ OF'), to_char(ts, 'HH24:MI') from v", "2024-01-01 22:04 EST -05|03:04"},
		{"select date_trunc('day', tz), date_trunc('day', ts) from v", "2024-01-01 05:00:00|2024-01-02 00:00:00"},
		{"select extract(hour from tz), extract(hour from ts), extract(timezone from tz), extract(epoch from tz), date_part('day', tz) from v", "22|3|-18000|1704164645.000000|1.0"},
		{"select ts at time zone 'Europe/Berlin', tz at time zone 'Europe/Berlin', timezone('UTC', ts) from v", "2024-01-02 02:04:05|2024-01-02 04:04:05|2024-01-02 03:04:05"},
		{"select d < ts, d = date_trunc('day', ts), ts > tz, tz::date = d from v", "1|1|1|0"},
		{"insert into v (id, ts, d, s) select 2, tz, tz, b from v returning ts, d, s", "2024-01-01 22:04:05|2024-01-01|true"},
		{"update v set tz = ts where id = 1 returning tz", "2024-01-02 08:04:05"},
		{"select array(select id from v where id > 9), array(select id from v order by id desc)", "{}|{2,1}"},
		{`select x || '\x03'::bytea = '\x010203'::bytea from v where id = 1`, "1"},
		{"select json_build_object('b', b, 'n', n, 'ts', ts, 'tz', tz, 'j', j) from v where id = 1", `{"b" : true, "n" : 1.50, "ts" : "2024-01-02T03:04:05", "tz" : "2024-01-02T03:04:05-05:00", "j" : {"k": [1]}}`},
		{"select 0.1 + 0.2, 1.10, 7.0 / 2, -1.50, round(2.5), 2.5::int, 1.50::text", "0.3|1.10|3.5000000000000000|-1.50|3|3|1.50"},
		{"select array[1,2] || 3, 0 || array[1], array[1] || array[2], array[1] || '{7}', array[1,2] @> array[2], array[1] <@ array[2], array[1] && array[2,1]", "{1,2,3}|{0,1}|{1,2}|{1,7}|1|0|1"},
		{`select j #> '{k,0}', j #>> '{k,0}', j @> '{"k": [1]}', j ? 'k', j ?| array['x','k'], j ?& array['x','k'], j || '{"a": 2}' from v where id = 1`, `1|1|1|1|1|0|{"a": 2, "k": [1]}`},
		{"select coalesce(n, 0.00), coalesce(null, n, 1), case when b then 2.50 else n end from v where id = 1", "1.50|1.50|2.50"},
		{"select substring('hello' from 'e(.)'), substring('hello' from 2 for 2)", "l|el"},
		{"select g from generate_series(date '2024-01-31', '2024-02-02', '1 day') g", "2024-01-31 00:00:00/2024-02-01 00:00:00/2024-02-02 00:00:00"},
		{"delete from v using (select 2 as k) q where q.k = v.id returning v.id", "2"},
	} {
		if got := strings.Join(rows(t, c, test.sql), "/"); got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.sql, got, test.want)
		}
	}
}

func TestParametersHaveTheTypesThatTheClientGives(t *testing.T) {
	c := open(t)
	st := parse(t, "select $1, $2 || 'x', array[$1], * from unnest($3::int8[])")[0]
	refs, mods := probe(t, c, st)
	params, results := st.Infer(dialect.Known{Refs: refs, Mods: mods, Declared: []oid.OID{oid.UUID, oid.TextArray}}, make([]oid.OID, 4))
	if params[0].OID != oid.UUID || params[1].OID != oid.TextArray || params[2].OID != oid.Int8Array {
		t.Error(params)
	}
	if want := []oid.OID{oid.UUID, oid.TextArray, oid.UUIDArray, oid.Int8}; !slices.Equal(results, want) {
		t.Errorf("%v, want %v", results, want)
	}
}
