package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// workload is one way of running pgbench, with the ratio to PostgreSQL that Skein must reach.
type workload struct {
	name    string
	target  float64 // of transactions per second; 0: none
	ceiling bool    // measure how far any server can get
	log     bool    // compare the bytes of log per transaction too
	level   string  // of synchronous_commit; "": the server's default
	script  string  // instead of a built-in one
	args    []string

	transactions int // of each client; 0: as many as fit into the duration
}

// updateScript changes one row by its primary key.
const updateScript = `\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
`

// distantScript is -N from a client that is as far away as the next machine room.
const distantScript = `\set aid random(1, 100000 * :scale)
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
\sleep 1 ms
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
\sleep 1 ms
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
\sleep 1 ms
END;
`

// updates are one-row updates by the number of clients, over prepared statements.
func updates(clients int) workload {
	threads := strconv.Itoa(min(2, clients))
	return workload{script: updateScript, args: []string{"-M", "prepared", "-c", strconv.Itoa(clients), "-j", threads}}
}

func workloads(o options) []workload {
	all := []workload{
		{name: "point reads, 16 clients", target: 1.6, ceiling: true, args: []string{"-S", "-M", "prepared", "-c", "16", "-j", "2"}},
		{name: "one-row updates, 64 clients", target: 3, ceiling: true, log: true, script: updateScript, args: updates(64).args},
		{name: "one-row updates, 1 client", target: 2, ceiling: true, script: updateScript, args: updates(1).args},
		{name: "update, select, insert (-N), 16 clients", target: 1, args: []string{"-N", "-M", "prepared", "-c", "16", "-j", "2"}},
		{name: "the same, 1 ms between statements", script: distantScript, args: []string{"-M", "prepared", "-c", "16", "-j", "2"}},
		{name: "tpcb, 16 clients", args: []string{"-M", "prepared", "-c", "16", "-j", "2"}},
	}
	if o.all {
		for _, mode := range []string{"simple", "extended"} {
			all = append(
				all,
				workload{name: "point reads, 16 clients, " + mode, args: []string{"-S", "-M", mode, "-c", "16", "-j", "2"}},
				workload{name: "one-row updates, 64 clients, " + mode, script: updateScript, args: []string{"-M", mode, "-c", "64", "-j", "2"}},
				workload{name: "update, select, insert (-N), 16 clients, " + mode, args: []string{"-N", "-M", mode, "-c", "16", "-j", "2"}},
				workload{name: "tpcb, 16 clients, " + mode, args: []string{"-M", mode, "-c", "16", "-j", "2"}},
			)
		}
	}
	var chosen []workload
	for _, w := range all {
		if o.run.MatchString(w.name) {
			chosen = append(chosen, w)
		}
	}
	return chosen
}

// run is what one run of pgbench measured.
type run struct {
	TPS          float64 `json:"tps"`
	LatencyMS    float64 `json:"latency_ms"`
	Transactions int64   `json:"transactions"`
	LogBytes     int64   `json:"log_bytes"`
}

func (r run) logBytesEach() float64 { return float64(r.LogBytes) / float64(max(1, r.Transactions)) }

// run runs the workload once. A checkpoint first, so that neither server pays for the run before.
func (w workload) run(ctx context.Context, o options, s server) (run, error) {
	if _, err := query(ctx, s, "CHECKPOINT"); err != nil {
		return run{}, fmt.Errorf("checkpoint: %w", err)
	}
	length := []string{"-T", strconv.Itoa(int(o.duration.Seconds()))}
	if w.transactions > 0 {
		length = []string{"-t", strconv.Itoa(w.transactions)}
	}
	// Skein's transactions are serializable: one in some ten thousand meets another at the same row and is tried again.
	args := slices.Concat(length, []string{"-s", strconv.Itoa(o.scale), "--max-tries=10"}, w.args)
	if w.script != "" {
		script, err := os.CreateTemp("", "skein-bench-*.sql")
		if err != nil {
			return run{}, err
		}
		defer func() { _ = os.Remove(script.Name()) }()
		if _, err := script.WriteString(w.script); err != nil {
			return run{}, err
		}
		if err := script.Close(); err != nil {
			return run{}, err
		}
		args = append(args, "-f", script.Name())
	}
	written, err := s.logMeter(ctx)
	if err != nil {
		return run{}, err
	}
	var environment []string
	if w.level != "" {
		environment = append(environment, "PGOPTIONS=-c synchronous_commit="+w.level)
	}
	output, err := pgbench(ctx, o, s, environment, args...)
	if err != nil {
		return run{}, err
	}
	result, err := parseOutput(output)
	if err != nil {
		return run{}, err
	}
	result.LogBytes, err = written()
	return result, err
}

// initialise fills the server with pgbench's tables; the same steps for both.
func initialise(ctx context.Context, o options, s server) (time.Duration, error) {
	start := time.Now()
	_, err := pgbench(ctx, o, s, nil, "-i", "-q", "-s", strconv.Itoa(o.scale))
	return time.Since(start), err
}

func pgbench(ctx context.Context, o options, s server, environment []string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, filepath.Join(o.pgBin, "pgbench"), append(args, s.address().url())...)
	command.Env = append(os.Environ(), environment...)
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgbench %v: %w\n%s", args, err, output)
	}
	return string(output), nil
}

var (
	tpsLine         = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	latencyLine     = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
	transactionLine = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
	failedLine      = regexp.MustCompile(`(?m)^number of failed transactions: ([1-9][0-9]*)`)
)

// parseOutput reads pgbench's summary. A run with failed transactions is no measurement.
func parseOutput(output string) (run, error) {
	if failed := failedLine.FindStringSubmatch(output); failed != nil {
		return run{}, fmt.Errorf("%s transactions failed:\n%s", failed[1], output)
	}
	var values [3]float64
	for i, line := range []*regexp.Regexp{tpsLine, latencyLine, transactionLine} {
		match := line.FindStringSubmatch(output)
		if match == nil {
			return run{}, fmt.Errorf("no line like %s in pgbench's output:\n%s", line, output)
		}
		value, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return run{}, err
		}
		values[i] = value
	}
	return run{TPS: values[0], LatencyMS: values[1], Transactions: int64(values[2])}, nil
}
