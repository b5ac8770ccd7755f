package router

import (
	"testing"

	"skein/internal/dialect"
)

// parse gives the one statement of a text.
func parse(t *testing.T, sql string) *dialect.Statement {
	t.Helper()
	list, err := dialect.Parse(sql)
	if err != nil || len(list) != 1 {
		t.Fatalf("%s: %d statements, %v", sql, len(list), err)
	}
	return list[0]
}

func TestWhatWritesBelongsToTheLeader(t *testing.T) { // I09, I10
	prepared := map[string]*dialect.Statement{
		"reads": parse(t, "SELECT 1"), "writes": parse(t, "DELETE FROM t"), "itself": parse(t, "EXECUTE itself"),
	}
	named := func(name string) *dialect.Statement { return prepared[name] }
	for _, test := range []struct {
		sql    string
		writes bool
	}{
		{"SELECT * FROM t", false},
		{"TABLE t", false},
		{"VALUES (1)", false},
		{"WITH x AS (SELECT 1) SELECT * FROM x", false},
		{"SELECT * FROM t FOR UPDATE", true},
		{"SELECT nextval('t_id_seq')", true},
		{"SELECT pg_advisory_lock(1)", true},
		{"SELECT pg_catalog.pg_try_advisory_xact_lock(1)", true},
		{"SELECT lastval()", true},
		{"SELECT skein_transaction_status('x')", true},
		{"SELECT 'pg_advisory_lock(1)'", false},
		{"SELECT pg_is_in_recovery()", false},
		{"EXPLAIN DELETE FROM t", false},
		{"EXPLAIN ANALYZE DELETE FROM t", true},
		{"EXPLAIN ANALYZE SELECT 1", false},
		{"INSERT INTO t VALUES (1)", true},
		{"UPDATE t SET a = 1", true},
		{"DELETE FROM t", true},
		{"TRUNCATE t", true},
		{"CREATE TABLE t (a int)", true},
		{"CREATE TEMP TABLE t (a int)", true},
		{"CREATE TABLE t AS SELECT 1", true},
		{"ALTER TABLE t ADD COLUMN b int", true},
		{"ALTER TABLE t ALTER COLUMN a TYPE text", true},
		{"DROP TABLE t", true},
		{"CREATE DATABASE d", true},
		{"CREATE ROLE r", true},
		{"ALTER ROLE r SET work_mem = '1MB'", true},
		{"VACUUM", true},
		{"ANALYZE t", true},
		{"REINDEX TABLE t", true},
		{"LOCK TABLE t", true},
		{"COPY t FROM STDIN", true},
		{"COPY t TO STDOUT", false},
		{"COPY (SELECT 1) TO STDOUT", false},
		{"PREPARE p AS INSERT INTO t VALUES (1)", true},
		{"PREPARE p AS SELECT 1", false},
		{"EXECUTE reads", false},
		{"EXECUTE writes", true},
		{"EXECUTE nobody", false},
		{"EXECUTE reads(nextval('t_id_seq'))", true},
		{"EXECUTE reads(1, 1 + lastval())", true},
		{"EXECUTE reads('nextval(1)')", false},
		{"EXECUTE itself", false},
		{"SET work_mem = '1MB'", false},
		{"SHOW ALL", false},
		{"RESET ALL", false},
		{"DISCARD ALL", false},
		{"DEALLOCATE ALL", false},
		{"COMMIT", false},
		{"ROLLBACK", false},
		{"FETCH c", false},
		{"WAIT FOR LSN '0/1'", false},
		{"CHECKPOINT", false},
	} {
		if got := writes(parse(t, test.sql), named, false); got != test.writes {
			t.Errorf("%s: %v", test.sql, got)
		}
	}
}

func TestWhereABlockRuns(t *testing.T) {
	for _, test := range []struct {
		sql      string
		readOnly bool // by default_transaction_read_only
		away     bool
	}{
		{"BEGIN", false, true},
		{"BEGIN", true, false},
		{"START TRANSACTION READ ONLY", false, false},
		{"BEGIN READ WRITE", true, true},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE", false, true},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", false, false},
	} {
		if got := writes(parse(t, test.sql), nil, test.readOnly); got != test.away {
			t.Errorf("%s, read only %v: %v", test.sql, test.readOnly, got)
		}
	}
}

func TestWhatDependsOnHowNewTheDataAre(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT * FROM t":                               true,
		"SELECT 1":                                      false,
		"SELECT * FROM pg_stat_replication":             false,
		"SELECT * FROM pg_class JOIN t ON true":         true,
		"SELECT (SELECT count(*) FROM t)":               true,
		"SELECT 1 WHERE EXISTS (SELECT 1 FROM t)":       true,
		"WITH x AS (SELECT * FROM t) SELECT * FROM x":   true,
		"SELECT * FROM information_schema.tables":       true,
		"SELECT relname FROM pg_class":                  true,
		"SELECT 't'::regclass":                          true,
		"SELECT pg_get_serial_sequence('t', 'a')":       true,
		"SELECT rolname FROM pg_roles":                  true,
		"SELECT * FROM pg_settings":                     false,
		"SELECT typname FROM pg_type":                   false,
		"SELECT * FROM skein_status":                    false,
		"SELECT pg_last_wal_replay_lsn()":               false,
		"SELECT count(*) FROM generate_series(1, 10)":   false,
		"EXPLAIN SELECT * FROM t":                       true,
		"EXPLAIN SELECT * FROM pg_stat_replication":     false,
		"COPY t TO STDOUT":                              true,
		"SHOW skein.last_commit":                        false,
		"SELECT 1 UNION SELECT a FROM t":                true,
		"SELECT a FROM pg_class ORDER BY (TABLE t)":     true,
		"SELECT * FROM public.pg_class":                 true,
		"DECLARE c CURSOR FOR SELECT * FROM t":          true,
		"SELECT * FROM t WHERE a IN (SELECT 1) LIMIT 1": true,
	} {
		if got := readsTables(parse(t, sql)); got != want {
			t.Errorf("%s: %v, want %v", sql, got, want)
		}
	}
}
