package clients_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const psqlTables = `
DROP TABLE IF EXISTS egg; DROP VIEW IF EXISTS heavy; DROP TABLE IF EXISTS goose;
CREATE TABLE goose (id serial PRIMARY KEY, name text NOT NULL UNIQUE, weight numeric(5,2), seen timestamptz DEFAULT now());
CREATE TABLE egg (id bigint PRIMARY KEY, goose int REFERENCES goose (id), laid date, CHECK (id > 0));
CREATE INDEX egg_laid ON egg (laid);
CREATE VIEW heavy AS SELECT name FROM goose WHERE id > 1;
INSERT INTO goose (name, weight) VALUES ('Akka', 4.50), ('Yksi', NULL);
`

// Each script runs in one psql that stops at the first error; `want` must appear in its output in
// this order.
func TestPsql(t *testing.T) {
	psql := program(t, "psql")
	dir := t.TempDir()
	for _, test := range []struct {
		name   string
		script string
		want   []string
	}{
		{"results", `SELECT id, name, weight FROM goose ORDER BY id;`, []string{"id | name | weight", "1 | Akka |   4.50", "2 | Yksi |", "(2 rows)"}},
		{"types have their names", `SELECT 1 AS i, 'x'::text AS t, true AS b, 1.5 AS n, now() AS ts \gdesc`, []string{"i ", "integer", "t ", "text", "b ", "boolean", "n ", "numeric", "timestamp with time zone"}},
		{"command tags", `INSERT INTO egg VALUES (1, 1, '2026-03-01'), (2, 1, '2026-03-02'); UPDATE egg SET goose = 2; DELETE FROM egg;`, []string{"INSERT 0 2", "UPDATE 2", "DELETE 2"}},
		{"returning", `INSERT INTO goose (name) VALUES ('Kolme') RETURNING id, name;`, []string{"3 | Kolme", "INSERT 0 1"}},
		{"several statements at once", `SELECT 1 AS one\; SELECT 2 AS two;`, []string{"one", "two"}},
		{"variables", "\\set who Akka\nSELECT weight FROM goose WHERE name = :'who';", []string{"4.50"}},
		{"gset", "SELECT count(*) AS n FROM heavy \\gset\n\\echo there are :n", []string{"there are "}},
		{"transaction", "BEGIN; INSERT INTO goose (name) VALUES ('gone'); SAVEPOINT s; DELETE FROM goose WHERE name = 'gone'; ROLLBACK TO s; SELECT count(*) AS kept FROM goose WHERE name = 'gone'; ROLLBACK; SELECT count(*) AS left_over FROM goose WHERE name = 'gone';", []string{"BEGIN", "SAVEPOINT", "ROLLBACK", "kept", "1", "ROLLBACK", "left_over", "0"}},
		{"prepare", "PREPARE p (int) AS SELECT name FROM goose WHERE id = $1; EXECUTE p (1); DEALLOCATE p;", []string{"PREPARE", "Akka", "DEALLOCATE"}},
		{"cursor", "BEGIN; DECLARE c CURSOR FOR SELECT id FROM goose ORDER BY id; FETCH 1 FROM c; CLOSE c; COMMIT;", []string{"DECLARE CURSOR", "1", "CLOSE CURSOR", "COMMIT"}},
		{"copy in and out", "\\copy egg (id, goose) from '" + dir + "/eggs.csv' csv header\n\\copy (SELECT id, goose FROM egg ORDER BY id) to '" + dir + "/out.txt'\nCOPY egg (id) TO STDOUT;\nDELETE FROM egg;", []string{"COPY 2", "COPY 2", "10\n11\n", "DELETE 2"}},
		{"show and set", "SHOW server_version_num; SET application_name = 'goose'; SHOW application_name; RESET application_name;", []string{"1500", "SET", "goose", "RESET"}},
		{"explain", "EXPLAIN SELECT * FROM goose WHERE id = 1;", []string{"QUERY PLAN", "goose"}},
		{"vacuum and analyze", "VACUUM; VACUUM ANALYZE goose; ANALYZE;", []string{"VACUUM", "VACUUM", "ANALYZE"}},
		{`\d`, `\d`, []string{"List of relations", "egg", "goose", "heavy", "view"}},
		{`\dt`, `\dt`, []string{"egg", "table", "goose"}},
		{`\dt with a pattern`, `\dt e*`, []string{"egg"}},
		{`\d table`, `\d goose`, []string{`Table "public.goose"`, "id ", "integer", "not null", "name ", "text", "weight", "numeric(5,2)", "timestamp with time zone", "now()", "Indexes:", "goose_pkey", "PRIMARY KEY", "UNIQUE", "Referenced by:", "FOREIGN KEY (goose) REFERENCES goose(id)"}},
		{`\d table with a check and a reference`, `\d egg`, []string{"bigint", "date", "egg_laid", "Check constraints:", "id > 0", "Foreign-key constraints:"}},
		{`\d view`, `\d heavy`, []string{`View "public.heavy"`, "name"}},
		{`\d index`, `\d egg_laid`, []string{`Index "public.egg_laid"`, "laid", "btree"}},
		{`\di`, `\di`, []string{"egg_laid", "index", "goose_pkey"}},
		{`\dv`, `\dv`, []string{"heavy"}},
		{`\dn`, `\dn`, []string{"public"}},
		{`\du`, `\du`, []string{"Superuser"}},
		{`\df`, `\df pg_catalog.now`, []string{"now"}},
		{`\l`, `\l`, []string{"List of databases", "UTF8"}},
		{`\conninfo`, `\conninfo`, []string{"You are connected to database"}},
		{"crosstabview, gx and gexec", "SELECT name, id, weight FROM goose \\crosstabview\nSELECT name FROM goose WHERE id = 1 \\gx\nSELECT 'SELECT 42 AS answer' \\gexec", []string{"Akka", "RECORD 1", "answer", "42"}},
		{`\dt+ and its kin`, `\d+ \dt+ \di+ \ds+ \dv+ \dn+ \dT+ \df+ now \l+ \du+ \dx \dp \z \drds \dd \dD \dC \do \dO \dF \des \dAo \dy \dconfig \dRp \dX`, []string{"goose"}},
		{`\sv`, `\sv heavy`, []string{"CREATE OR REPLACE VIEW public.heavy"}},
		{`\timing`, "\\timing on\nSELECT 1;", []string{"Time:"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			write(t, filepath.Join(dir, "eggs.csv"), "id,goose\n10,1\n11,2\n")
			run(t, psqlTables, psql, "-q", "-v", "ON_ERROR_STOP=1", server)
			got := run(t, test.script, psql, "-v", "ON_ERROR_STOP=1", server)
			rest := got
			for _, want := range test.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("%q is missing or out of order in\n%s", want, got)
				}
				rest = after
			}
		})
	}
}

func TestPsqlShowsErrors(t *testing.T) {
	psql := program(t, "psql")
	run(t, psqlTables, psql, "-q", "-v", "ON_ERROR_STOP=1", server)
	for _, test := range []struct{ name, sql, state, detail string }{
		{"syntax", "SELEC 1", "42601", "LINE 1:"},
		{"unknown table", "SELECT * FROM swan", "42P01", "swan"},
		{"unknown column", "SELECT beak FROM goose", "42703", "beak"},
		{"not null", "INSERT INTO goose (name) VALUES (NULL)", "23502", "COLUMN NAME:  name"},
		{"unique", "INSERT INTO goose (name) VALUES ('Akka')", "23505", "CONSTRAINT NAME:  goose_name_key"},
		{"foreign key", "INSERT INTO egg (id, goose) VALUES (1, 99)", "23503", "TABLE NAME:  egg"},
		{"check", "INSERT INTO egg (id) VALUES (-1)", "23514", "CONSTRAINT NAME:  egg_id_check"},
		{"bad number", "SELECT 'x'::int", "22P02", "integer"},
		{"bad date", "INSERT INTO egg (id, laid) VALUES (1, 'yesterweek')", "22007", "yesterweek"},
		{"table exists", "CREATE TABLE goose (a int)", "42P07", "goose"},
		{"unknown database", "DROP DATABASE no_such_database", "3D000", "no_such_database"},
	} {
		t.Run(test.name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), psql, "-X", "-v", "VERBOSITY=verbose", "-c", test.sql, server)
			output, err := command.CombinedOutput()
			if err == nil {
				t.Fatalf("no error:\n%s", output)
			}
			for _, want := range []string{"ERROR:  " + test.state, test.detail} {
				if !strings.Contains(string(output), want) {
					t.Errorf("%q is missing in\n%s", want, output)
				}
			}
		})
	}
}

func TestPsqlListsDatabases(t *testing.T) {
	psql := program(t, "psql")
	_ = exec.CommandContext(t.Context(), psql, "-X", "-c", "DROP DATABASE second", server).Run()
	run(t, "", psql, "-X", "-c", "CREATE DATABASE second", server)
	if list := run(t, "", psql, "-X", "-lqtA", server); !strings.Contains(list, "second|") {
		t.Errorf("no database second in\n%s", list)
	}
	elsewhere := server[:strings.LastIndex(server, "/")] + "/second"
	run(t, "CREATE TABLE only_there (a int); INSERT INTO only_there VALUES (1);", psql, "-v", "ON_ERROR_STOP=1", elsewhere)
	if got := value(t, "SELECT count(*) FROM pg_class WHERE relname = 'only_there'"); got != "0" {
		t.Error("a table of one database is seen in another")
	}
	run(t, "", psql, "-X", "-c", "DROP DATABASE second", server)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
