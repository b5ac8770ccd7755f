package dialect_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

func TestInsertsLeaveToTheTableWhatTheyDoNotName(t *testing.T) {
	c := open(t,
		"create table key (id bigint primary key, a int default 5, b text default 'x' not null)",
		"create table numbered (id serial primary key, a int default 5, b text)",
		"insert into key values (1, 7, 'y')",
	)
	for _, test := range []struct {
		sql, want string // "!" for a primary key without a value
	}{
		{"insert into key values (2) returning *", "2|5|x"},
		{"insert into key values (3, default), (4, 6) returning id, a", "3|5/4|6"},
		{"insert into key as k values (5) returning k.id", "5"},
		{"insert into key select id + 10 from key where id = 1 returning *", "11|5|x"},
		{"insert into key (a) values (1)", "!"},
		{"insert into key (a) values (1), (2) on conflict do nothing", "!"},
		{"insert into key (a) select a from key on conflict (id) do update set a = 9", "!"},
		{"insert into key (a) select a from key where a > 100", ""},
		{"insert into key default values", "!"},
		{"insert into key values (null, 2)", "!"},
		{"insert into key (a, id) select 1, null", "!"},
		{"insert into key values (1, 2) on conflict on constraint key_pkey do update set a = 99 returning a", "99"},
		{"update key set a = default, b = default where id = 1 returning *", "1|5|x"},
		{"insert into numbered values (default, 3) returning *", "1|3|NULL"},
		{"insert into numbered (a) values (default), (8) returning *", "2|5|NULL/3|8|NULL"},
		{"insert into numbered default values returning *", "4|5|NULL"},
	} {
		t.Run(test.sql, func(t *testing.T) {
			sql, _, _ := describe(t, c, parse(t, test.sql)[0])
			got, err := fetch(c, sql)
			if test.want == "!" {
				if !errors.Is(err, sqlite3.ERROR) {
					t.Errorf("%s\n%v %v", sql, got, err)
				}
				return
			}
			if err != nil || strings.Join(got, "/") != test.want {
				t.Errorf("%s\n%q %v, want %q", sql, got, err, test.want)
			}
		})
	}
}
