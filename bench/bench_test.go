package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const output = `transaction type: <builtin: select only>
scaling factor: 10
query mode: prepared
number of clients: 16
number of transactions actually processed: 198765
number of failed transactions: 0 (0.000%)
latency average = 0.805 ms
initial connection time = 21.338 ms
tps = 19876.543210 (without initial connection time)
`

func TestOutputOfPgbench(t *testing.T) {
	got, err := parseOutput(output)
	if err != nil {
		t.Fatal(err)
	}
	if want := (run{TPS: 19876.54321, LatencyMS: 0.805, Transactions: 198765}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for name, bad := range map[string]string{
		"failed transactions": strings.Replace(output, "failed transactions: 0", "failed transactions: 3", 1),
		"no summary":          "pgbench: error: connection refused",
	} {
		if _, err := parseOutput(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTableHasRatiosAndVerdicts(t *testing.T) {
	w := workload{name: "updates", target: 3, log: true}
	r := &report{
		Workloads: []comparison{newComparison(w, map[string][]run{
			"PostgreSQL": {{TPS: 900, Transactions: 10, LogBytes: 3000}, {TPS: 1000, Transactions: 10, LogBytes: 4000}, {TPS: 5000}},
			"Skein":      {{TPS: 2000, Transactions: 10, LogBytes: 2000}},
		})},
		Memory: &memory{Sessions: 1000, Servers: map[string]serverMemory{"PostgreSQL": {With: 2000 << 20}, "Skein": {With: 100 << 20}}},
	}
	table := r.table().markdown()
	for _, want := range []string{
		"| updates, per second | 1000 | 2000 | 2.00 | ≥ 3 | missed |",
		"| updates, log bytes each | 400 | 200 | 0.50 | < 1 | met |",
		"| resident MB with 1000 idle sessions | 2000 | 100 | 0.05 | < 200 MB | met |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("no line %s in\n%s", want, table)
		}
	}
	if !strings.Contains(r.table().text(), "missed") {
		t.Error("the terminal's table has no verdicts")
	}
}

func TestTableIsReplacedBetweenTheMarks(t *testing.T) {
	m := serverMarks
	page := "# Title\n" + m.begin + "old\n" + m.end + "\nrest\n"
	got, err := m.replace(page, "new\n")
	if err != nil || got != "# Title\n"+m.begin+"\nnew\n\n"+m.end+"\nrest\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := m.replace("no marks", "new"); err == nil {
		t.Error("a page without marks was taken")
	}
	published, err := os.ReadFile(filepath.Join("..", performanceFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []marks{serverMarks, replicationMarks} {
		if _, err := m.replace(string(published), "new"); err != nil {
			t.Errorf("%s: %v", performanceFile, err)
		}
	}
}

func TestResidentMemoryOfThisProcess(t *testing.T) {
	bytes, err := resident(os.Getpid())
	if err != nil {
		t.Skip("this system does not tell: ", err)
	}
	if bytes < 1<<20 {
		t.Errorf("%d bytes", bytes)
	}
}

func TestRoutedFiguresHaveVerdicts(t *testing.T) {
	r := &routing{Share: 0.1, Figures: []routed{
		{Name: "a trip", Value: "40 µs"},
		{Name: "a write", Value: "60 µs", Target: "≤ 50 µs"},
		{Name: "a read", Value: "20 µs", Target: "≤ 50 µs", Met: true},
	}}
	for _, want := range []string{"| a trip | 40 µs |  |  |", "| a write | 60 µs | ≤ 50 µs | missed |", "| a read | 20 µs | ≤ 50 µs | met |"} {
		if table := r.markdown(); !strings.Contains(table, want) {
			t.Errorf("no line %q in\n%s", want, table)
		}
	}
}

// A process under a share gets no more than that.
func TestAShareIsKept(t *testing.T) {
	if missing := sharesMissing(); missing != "" {
		t.Skip(missing)
	}
	s, err := newShare("test", 0.5)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.give(0.2), s.give(0.9), s.give(0)); err != nil {
		t.Error(err)
	}
	if err := s.give(0.01); err == nil {
		t.Error("a share that the kernel does not take was given")
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
}
