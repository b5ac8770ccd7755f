package pgcatalog

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
)

var update = flag.Bool("update", false, "write the answers into testdata")

// clientSchema is what the clients in testdata/clients.txt had created.
const clientSchema = `
	create table tt(id serial primary key, name text not null default 'x', v numeric(10,2), ts timestamptz default now());
	create index on tt(name);
	create table us(id bigserial, name varchar(40), n numeric, b boolean, t timestamptz, primary key (id));
	create index idx_us_name on us(name);
	create table sa_a(id serial not null, name varchar(20), n numeric(10,2), b boolean, j json, t timestamp with time zone default now(), primary key (id), unique (name));
	create table sa_c(id serial not null, a_id integer, primary key (id), foreign key (a_id) references sa_a(id));
	create table app_p(id bigserial not null primary key, name varchar(40) not null unique, t timestamp with time zone not null, n numeric(10,2), j jsonb);
	create table app_q(id bigserial not null primary key, p_id bigint not null, constraint app_q_p_id_c2f6828b_fk_app_p_id foreign key (p_id) references app_p(id) on delete cascade deferrable initially deferred, check (p_id > 0));
	create table kn(id serial primary key, name varchar(20), created_at timestamptz not null default current_timestamp, j json, d numeric(8,2));
	create table te(id serial not null, name varchar(20) not null, d timestamp with time zone not null default now(), j jsonb, constraint "UQ_te" unique (name), constraint "PK_te" primary key (id));
	create table pgbench_accounts(aid int primary key, bid int, abalance int, filler char(84));
	create view v as select id, name from tt where id > 3`

// runPG translates a text and runs it, giving the rows of its last statement.
func runPG(t *testing.T, db *sqlite3.Conn, sql string) ([]string, error) {
	t.Helper()
	if replacement, ok := Canned(sql); ok {
		return tryRows(db, replacement)
	}
	statements, err := dialect.Parse(sql)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range statements {
		for _, text := range s.SQL {
			if out, err = tryRows(db, text); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func TestClientsReadTheCatalog(t *testing.T) {
	db, _ := testDB(t)
	if _, err := runPG(t, db, clientSchema); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "clients.txt")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(strings.TrimRight(string(raw), "\n"), "\n\n# ")
	for i, section := range sections[1:] {
		query, want, _ := strings.Cut(section, "\n----")
		want = strings.TrimPrefix(want, "\n")
		_, sql, _ := strings.Cut(query, "\n")
		got, err := runPG(t, db, oidNames.ReplaceAllStringFunc(sql, func(name string) string {
			return strconv.Itoa(int(ObjectOID(KindTable, strings.Trim(name, "{}"))))
		}))
		answer := fmt.Sprintf("%s\n(%d rows)", strings.Join(got, "\n"), len(got))
		if err != nil {
			answer = "error: " + err.Error()
		}
		answer = strings.TrimPrefix(answer, "\n")
		for _, r := range tableOIDs() {
			answer = strings.ReplaceAll(answer, r[0], r[1])
		}
		if sections[i+1] = query + "\n----\n" + answer; answer != want && !*update {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", query, answer, want)
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(strings.Join(sections, "\n\n# ")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var oidNames = regexp.MustCompile(`\{[a-z][a-z_]+\}`)

// tableOIDs gives the OID of each table as text, and how the transcript spells it.
func tableOIDs() [][2]string {
	var out [][2]string
	for _, name := range []string{"tt", "us", "sa_a", "sa_c", "app_p", "app_q", "kn", "te"} {
		out = append(out, [2]string{strconv.Itoa(int(ObjectOID(KindTable, name))), "{" + name + "}"})
	}
	return out
}
