package engine

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A value is the same whether it is written into the statement or bound to it, in whatever zone: a parameter is in the form of the columns
// when it meets its cast, a literal is not.
func TestAParameterIsWhatTheLiteralIs(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	queries := []string{
		"SELECT ?", "SELECT (?)::text", "SELECT coalesce(?, NULL)::text", "SELECT x::text FROM (SELECT ? AS x) s", "SELECT concat(?, '!')",
		"SELECT json_build_array(?)::text", "SELECT max(x)::text FROM (VALUES (?)) v(x)", "SELECT x FROM (VALUES (?)) v(x)", "SELECT (?)::text::@::text",
		"SELECT array[?]::text",
	}
	for _, zone := range []string{"UTC", "Europe/Paris", "America/New_York"} {
		run(t, c, "SET timezone = '"+zone+"'")
		for typ, values := range map[string][]string{
			"timestamptz": {"2026-11-24 02:59:23+00", "2026-07-01 12:00", "infinity", "0044-03-15 BC"}, "timestamptz(0)": {"2026-11-24 02:59:23.6+00"},
			"timestamp": {"2026-11-24 02:59:23.5+03", "-infinity"}, "date": {"2026-11-24"}, "time": {"12:30:01.5"}, "timetz": {"12:30:01+05", "12:30"},
			"interval": {"1 day 02:03:04.5", "-1 mon"}, "numeric": {"1.10", "NaN", "1e20"}, "numeric(6,2)": {"3.14159"}, "float8": {"1.10", "1e300"},
			"bool": {"t", "false"}, "int4": {"-7"}, "int8": {"9223372036854775807"}, "uuid": {"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
			"json": {`{"a": 1}`}, "jsonb": {`{"b":1,"a":[1, 2]}`}, "bytea": {`\x00ff`}, "text": {"é"}, "varchar(2)": {"abc"},
		} {
			for _, value := range values {
				for _, query := range queries {
					query = strings.ReplaceAll(query, "@", typ)
					cast := func(v string) string { return strings.ReplaceAll(query, "?", v+"::"+typ) }
					literal := cell(c.ExecParams(t.Context(), cast("'"+value+"'"), nil, nil, nil, nil).Read())
					if bound := cell(c.ExecParams(t.Context(), cast("$1"), [][]byte{[]byte(value)}, nil, nil, nil).Read()); bound != literal {
						t.Errorf("%s of %q in %s: the parameter gives %s, the literal %s", query, value, zone, bound, literal)
					}
				}
			}
		}
	}
}

func cell(res *pgconn.Result) string {
	if res.Err != nil || len(res.Rows) == 0 {
		return "error: " + res.Err.Error()
	}
	return string(res.Rows[0][0])
}
