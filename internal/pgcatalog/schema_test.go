package pgcatalog

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/oid"
)

func TestEveryRowHasEveryColumn(t *testing.T) {
	db, s := testDB(t)
	if _, err := runPG(t, db, clientSchema); err != nil {
		t.Fatal(err)
	}
	cat := &catalog{conn: db, session: func() Session { return s }}
	schema, err := cat.loadSchema()
	if err != nil {
		t.Fatal(err)
	}
	for i := range relations {
		r := &relations[i]
		for _, f := range r.fields() {
			if typ := strings.TrimPrefix(f.name, "x"); typ == "" {
				t.Errorf("%s has a column without a name", r.name)
			}
		}
		if r.rows == nil {
			continue
		}
		b := &rowBuilder{catalog: cat, schema: schema}
		r.rows(b)
		for _, row := range b.rows {
			if len(row) != len(r.fields()) {
				t.Errorf("%s: a row of %d values for %d columns", r.name, len(row), len(r.fields()))
				break
			}
		}
	}
}

func TestColumnsAreDeclaredWithTheirTypes(t *testing.T) {
	db, _ := testDB(t)
	stmt, _, err := db.Prepare("SELECT oid, relname, relkind, relhasindex, reltuples, reloptions, relnatts, relacl, relpartbound FROM pg_class")
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	want := []oid.OID{oid.OIDType, oid.Name, oid.Char, oid.Bool, oid.Float4, oid.TextArray, oid.Int2, oid.AclitemArray, oid.PgNodeTree}
	for i, w := range want {
		if got, _ := oid.Declared(stmt.ColumnDeclType(i)); got != w {
			t.Errorf("%s is declared %q: type %d, want %d", stmt.ColumnName(i), stmt.ColumnDeclType(i), got, w)
		}
	}
}

func TestCatalogFollowsTheTransaction(t *testing.T) {
	db, s := testDB(t)
	tables := func() string {
		s.now = s.now.Add(time.Second)
		return strings.Join(rows(t, db, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200 ORDER BY 1"), " ")
	}
	run := func(sql string) {
		t.Helper()
		if err := db.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE TABLE a(x)")
	if got := tables(); got != "a" {
		t.Fatalf("after the first table: %q", got)
	}
	run("BEGIN; CREATE TABLE b(x)")
	if got := tables(); got != "a b" {
		t.Fatalf("inside the transaction: %q", got)
	}
	// The next DDL gives the schema cookie the number that the rolled back one had.
	run("ROLLBACK; CREATE TABLE c(x)")
	if got := tables(); got != "a c" {
		t.Fatalf("after rollback and another table: %q", got)
	}
	run("CREATE TEMP TABLE d(x int4)")
	if got := rows(t, db, "SELECT c.relname, n.nspname, c.relpersistence FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'd'"); len(got) != 1 || got[0] != "d|pg_temp_1|t" {
		t.Fatalf("temporary table: %q", got)
	}
}

func TestNothingIsKeptBetweenStatements(t *testing.T) {
	db, s := testDB(t)
	cat := &catalog{conn: db, session: func() Session { return s }}
	table := &catalogTable{catalog: cat, relation: relationByName("pg_type"), fields: relationByName("pg_type").fields()}
	cursor, err := table.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := cursor.Filter(0, ""); err != nil {
		t.Fatal(err)
	}
	if cat.caches == nil {
		t.Fatal("rows are not kept while the cursor is open")
	}
	if err := cursor.(*catalogCursor).Close(); err != nil {
		t.Fatal(err)
	}
	if cat.caches != nil {
		t.Fatal("rows are kept after the last cursor is closed")
	}
}

func TestBooleansCompareWithText(t *testing.T) {
	db, _ := testDB(t)
	if err := db.Exec("CREATE TABLE a(x int4 PRIMARY KEY, y text UNIQUE)"); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, db, "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indisprimary = 'f'"); len(got) != 1 || got[0] != "a_y_key" {
		t.Errorf("indisprimary = 'f' gives %q", got)
	}
	if got := rows(t, db, "SELECT count(*) FROM pg_class WHERE oid = '1259'"); got[0] != "1" {
		t.Errorf("oid = '1259' gives %q", got)
	}
}

func TestDefinitionsReadBack(t *testing.T) {
	db, _ := testDB(t)
	if err := db.Exec(`
		CREATE TABLE p(a int4, b int4, PRIMARY KEY (a, b));
		CREATE TABLE c(id INTEGER PRIMARY KEY AUTOINCREMENT, "Odd name" varchar(5) NOT NULL DEFAULT ('it''s'), n numeric_text(8,2) COLLATE numeric DEFAULT ('0.00'),
			ok bool NOT NULL DEFAULT (1), d date DEFAULT (current_date_()), k int4 DEFAULT (cast_int4('7')) CHECK (k > 0 AND cast_text(k) <> '9'),
			x int4, y int4, CONSTRAINT skein_type_k CHECK (k BETWEEN 1 AND 2), CONSTRAINT both CHECK (x < y),
			FOREIGN KEY (x, y) REFERENCES p(a, b) ON UPDATE SET NULL ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, UNIQUE (x, y));
		CREATE UNIQUE INDEX c_expr ON c(lower("Odd name") DESC, k COLLATE BINARY) WHERE (k > 3);
		CREATE TABLE numbered(id integer CONSTRAINT skein_serial PRIMARY KEY AUTOINCREMENT NOT NULL);
		CREATE VIEW w AS SELECT id FROM c`); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		"SELECT group_concat(adbin, ' ; ') FROM (SELECT * FROM pg_attrdef WHERE adrelid = cast_regclass('c') ORDER BY adnum)": "nextval('c_id_seq'::regclass) ; 'it''s'::character varying ; 0.00 ; true ; CURRENT_DATE ; '7'::integer",
		"SELECT group_concat(conname || ' ' || pg_get_constraintdef(oid), ' ; ') FROM (SELECT * FROM pg_constraint WHERE conrelid = cast_regclass('c'))": "c_pkey PRIMARY KEY (id) ; c_k_check CHECK ((k > 0 AND k::text <> '9')) ; both CHECK ((x < y)) ; " +
			"c_x_y_fkey FOREIGN KEY (x, y) REFERENCES p(a, b) ON UPDATE SET NULL ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED ; c_x_y_key UNIQUE (x, y)",
		"SELECT pg_get_indexdef(cast_regclass('c_expr'))":                                                               `CREATE UNIQUE INDEX c_expr ON public.c USING btree (lower("Odd name") DESC, k) WHERE (k > 3)`,
		"SELECT pg_get_indexdef(cast_regclass('c_expr'), 2, 0)":                                                         "k",
		"SELECT indkey || '/' || indoption || '/' || indexprs FROM pg_index WHERE indexrelid = cast_regclass('c_expr')": `0 6/3 0/lower("Odd name")`,
		"SELECT (SELECT count(*) FROM pg_constraint WHERE conrelid = cast_regclass('numbered')) + (SELECT count(*) FROM pg_index WHERE indrelid = cast_regclass('numbered'))": "0",
		"SELECT wal_bytes || ' ' || wal_records FROM pg_stat_wal":                                             "4242 4294967338",
		"SELECT pg_get_viewdef('w')":                                                                          " SELECT id FROM c;",
		"SELECT pg_get_serial_sequence('c', 'id')":                                                            "public.c_id_seq",
		"SELECT pg_get_serial_sequence('c', 'k')":                                                             "NULL",
		"SELECT regclass_out(cast_regclass('public.c'))":                                                      "c",
		"SELECT confkey || conkey FROM pg_constraint WHERE contype = 'f'":                                     "{1,2}{7,8}",
		"SELECT unique_constraint_name || ' ' || delete_rule FROM information_schema_referential_constraints": "p_pkey CASCADE",
	} {
		if got := rows(t, db, sql); len(got) != 1 || got[0] != want {
			t.Errorf("%s\n got %q\nwant %q", sql, got, want)
		}
	}
}

func TestSequencesBehindSerialColumns(t *testing.T) {
	db, _ := testDB(t)
	if _, err := db.Config(sqlite3.DBCONFIG_DEFENSIVE, true); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, x int4)"); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{
		{"SELECT nextval('a_id_seq')", "1"},
		{"INSERT INTO a(x) VALUES (1) RETURNING id", "2"},
		{"SELECT setval('a_id_seq', 10)", "10"},
		{"INSERT INTO a(x) VALUES (1) RETURNING id", "11"},
		{"SELECT setval(pg_get_serial_sequence('a', 'id'), 20, 0)", "20"},
		{"INSERT INTO a(x) VALUES (1) RETURNING id", "20"},
		{"SELECT last_value FROM pg_sequences", "20"},
	} {
		if got := rows(t, db, step[0]); len(got) != 1 || got[0] != step[1] {
			t.Errorf("%s = %q, want %s", step[0], got, step[1])
		}
	}
}

func TestSleepEndsWhenTheStatementIsCancelled(t *testing.T) {
	db, _ := testDB(t)
	ctx, cancel := context.WithCancel(t.Context())
	old := db.SetInterrupt(ctx)
	defer db.SetInterrupt(old)
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := tryRows(db, "SELECT pg_sleep(60)"); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Fatalf("pg_sleep gave %v", err)
	}
}

func TestCannedTakesNoFunctionCalls(t *testing.T) {
	q := cannedQueries[1]
	for condition, want := range map[string]bool{
		"true AND ct.relname = 'tt'":                       true,
		"true AND (ct.relname = $1 OR n.nspname IN ('a'))": true,
		"true AND load_extension('x') = 1":                 false,
		"true AND \"load_extension\" ('x') = 1":            false,
		"true; DROP TABLE a":                               false,
		"true AND 1 = (SELECT 1)":                          false,
	} {
		if _, ok := Canned(q.head + " " + condition + " " + q.tail); ok != want {
			t.Errorf("condition %q: taken %v", condition, ok)
		}
	}
	if _, ok := Canned("SELECT * FROM pg_class WHERE relname = 'x'"); ok {
		t.Error("an ordinary query is replaced")
	}
	params, results := CannedTypes(cannedQueries[len(cannedQueries)-1].head + strings.Repeat(" pg_type", 20) + " " + cannedQueries[len(cannedQueries)-1].tail)
	if len(params) != 1 || params[0] != oid.OIDArray || results[5] != oid.OIDType {
		t.Errorf("types of asyncpg's query: %v, %v", params, results)
	}
}

func TestCannedQueriesPrepare(t *testing.T) {
	db, _ := testDB(t)
	for _, q := range cannedQueries {
		stmt, _, err := db.Prepare(strings.Replace(q.replacement, "%s", "1", 1))
		if err != nil {
			t.Errorf("%.60s…: %v", q.head, err)
			continue
		}
		stmt.Close()
	}
	got := rows(t, db, strings.ReplaceAll(cannedQueries[len(cannedQueries)-1].replacement, "?1", "'{1007}'"))
	if len(got) != 2 || !strings.HasPrefix(got[0], "23|pg_catalog|int4|b|NULL|NULL") || !strings.HasPrefix(got[1], "1007|pg_catalog|_int4|b|NULL|23|,") {
		t.Errorf("asyncpg's look at int4[]: %q", got)
	}
}
