package clients_test

import (
	"strconv"
	"testing"
)

// pgbench's three protocols and three built-in scripts, on tables made in both of its ways.
func TestPgbench(t *testing.T) {
	pgbench := program(t, "pgbench")
	for _, steps := range []string{"dtgvpf", "dtGvpf"} {
		t.Run(steps, func(t *testing.T) {
			run(t, "", pgbench, "-i", "-I", steps, "-s", "1", "-q", server)
			for table, rows := range map[string]string{"accounts": "100000", "tellers": "10", "branches": "1"} {
				if got := value(t, "SELECT count(*) FROM pgbench_"+table); got != rows {
					t.Errorf("pgbench_%s has %s rows, want %s", table, got, rows)
				}
			}
			for _, protocol := range []string{"simple", "extended", "prepared"} {
				for _, script := range []string{"tpcb-like", "simple-update", "select-only"} {
					t.Run(protocol+" "+script, func(t *testing.T) { pgbenchRun(t, pgbench, protocol, script) })
				}
			}
		})
	}
}

// pgbenchRun checks that every transaction took place exactly once: each leaves a row in
// pgbench_history with the amount by which it changed an account.
func pgbenchRun(t *testing.T, pgbench, protocol, script string) {
	const clients, transactions = 8, 25
	run(t, "", pgbench, "-M", protocol, "-b", script, "-c", strconv.Itoa(clients), "-j", "2", "-t", strconv.Itoa(transactions), "-n", server)

	moved := value(t, "SELECT coalesce(sum(delta), 0) FROM pgbench_history")
	if got := value(t, "SELECT sum(abalance) FROM pgbench_accounts"); got != moved {
		t.Errorf("accounts hold %s, the history says %s", got, moved)
	}
	tellers := value(t, "SELECT sum(tbalance) FROM pgbench_tellers")
	if branches := value(t, "SELECT sum(bbalance) FROM pgbench_branches"); branches != tellers {
		t.Errorf("branches hold %s, tellers %s", branches, tellers)
	}
}

// Without -n pgbench vacuums its tables and empties the history before it begins.
func TestPgbenchTidiesUpFirst(t *testing.T) {
	pgbench := program(t, "pgbench")
	run(t, "", pgbench, "-i", "-s", "1", "-q", server)
	for range 2 {
		run(t, "", pgbench, "-t", "10", server)
	}
	if got := value(t, "SELECT count(*) FROM pgbench_history"); got != "10" {
		t.Errorf("%s rows in the history, want those of the second run only", got)
	}
}

// A pipeline sends many statements before one Sync.
func TestPgbenchPipeline(t *testing.T) {
	pgbench := program(t, "pgbench")
	script := t.TempDir() + "/pipeline.sql"
	write(t, script, `\set aid random(1, 1000)
\startpipeline
UPDATE pipeline_rows SET n = n + 1 WHERE id = 1;
UPDATE pipeline_rows SET n = n + 1 WHERE id = 2;
SELECT n FROM pipeline_rows WHERE id = :aid;
\endpipeline
`)
	value(t, "DROP TABLE IF EXISTS pipeline_rows; CREATE TABLE pipeline_rows (id int PRIMARY KEY, n int NOT NULL); INSERT INTO pipeline_rows VALUES (1, 0), (2, 0); SELECT 1")
	run(t, "", pgbench, "-M", "prepared", "-f", script, "-c", "2", "-t", "20", "-n", server)
	if got := value(t, "SELECT sum(n) FROM pipeline_rows"); got != "80" {
		t.Errorf("sum %s, want 80", got)
	}
}
