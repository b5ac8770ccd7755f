package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	performanceFile = "docs/PERFORMANCE.md"

	// memoryTarget is what Skein may take with the idle sessions.
	memoryTarget = 200 << 20
)

// marks stand around a table in performanceFile.
type marks struct{ begin, end string }

var serverMarks = marks{
	begin: "<!-- bench: begin; `go run ./bench -update` rewrites what follows -->\n",
	end:   "<!-- bench: end -->",
}

// conditions are those under which the figures were taken; without them they mean little.
type conditions struct {
	Time     time.Time `json:"time"`
	CPUs     int       `json:"cpus"`
	Kernel   string    `json:"kernel"`
	Tmpfs    bool      `json:"tmpfs"`
	Postgres string    `json:"postgres,omitempty"`
	Scale    int       `json:"scale"`
	Seconds  float64   `json:"seconds"`
	Rounds   int       `json:"rounds"`
}

// report is the result file of the single servers, and what their table is made from.
type report struct {
	conditions
	Workloads []comparison `json:"workloads"`
	Memory    *memory      `json:"memory,omitempty"`
	Large     *large       `json:"large,omitempty"`
}

// comparison is one workload on both servers: every run, and the median of each.
type comparison struct {
	Name   string           `json:"name"`
	Target float64          `json:"target,omitempty"`
	Runs   map[string][]run `json:"runs"`
	Median map[string]run   `json:"median"`
	Ratio  float64          `json:"ratio"`
	Log    bool             `json:"log_bytes_compared"`
}

// line is a row of the printed table.
type line struct {
	name, postgres, skein string
	ratio                 float64 // 0: there is none
	target                string  // "≥ 1.6"; "" when there is none
	met                   bool
	unmeasured            bool // on one of the two, so that there is no verdict
}

// table is what is printed and published.
type table struct {
	setting string
	lines   []line
}

func newConditions(o options, dir string) conditions {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return conditions{
		Time: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Kernel: strings.TrimSpace(string(kernel)),
		Tmpfs: onTmpfs(dir), Scale: o.scale, Seconds: o.duration.Seconds(), Rounds: o.rounds,
	}
}

func newComparison(w workload, runs map[string][]run) comparison {
	c := comparison{Name: w.name, Target: w.target, Log: w.log, Runs: runs, Median: map[string]run{}}
	for name, several := range runs {
		c.Median[name] = median(several)
	}
	c.Ratio = c.Median["Skein"].TPS / c.Median["PostgreSQL"].TPS
	return c
}

// median is the whole run in the middle, so that its figures belong together.
func median(runs []run) run {
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b run) int { return int(a.TPS - b.TPS) })
	return sorted[len(sorted)/2]
}

func (r *report) table() table { return table{r.setting(), r.lines()} }

func (r *report) lines() []line {
	var lines []line
	for _, c := range r.Workloads {
		l := line{
			name:     c.Name + ", per second",
			postgres: fmt.Sprintf("%.0f", c.Median["PostgreSQL"].TPS),
			skein:    fmt.Sprintf("%.0f", c.Median["Skein"].TPS),
			ratio:    c.Ratio,
		}
		if c.Target > 0 {
			l.target, l.met = "≥ "+strconv.FormatFloat(c.Target, 'g', -1, 64), c.Ratio >= c.Target
		}
		lines = append(lines, l)
		if h, ok := c.Median[hollowName]; ok {
			lines = append(lines, line{
				name: c.Name + ", by a program that only answers", postgres: l.postgres,
				skein: fmt.Sprintf("%.0f", h.TPS), ratio: h.TPS / c.Median["PostgreSQL"].TPS,
			})
		}
		if c.Log {
			lines = append(lines, logLine(c))
		}
	}
	if r.Memory != nil {
		lines = append(lines, r.Memory.line())
	}
	if r.Large != nil {
		lines = append(lines, r.Large.lines()...)
	}
	return lines
}

func logLine(c comparison) line {
	postgres, skein := c.Median["PostgreSQL"].logBytesEach(), c.Median["Skein"].logBytesEach()
	return line{
		name:     c.Name + ", log bytes each",
		postgres: fmt.Sprintf("%.0f", postgres), skein: fmt.Sprintf("%.0f", skein),
		ratio: skein / postgres, target: "< 1", met: skein > 0 && skein < postgres,
	}
}

func (m *memory) line() line {
	postgres, skein := m.Servers["PostgreSQL"].With, m.Servers["Skein"].With
	return line{
		name:     fmt.Sprintf("resident MB with %d idle sessions", m.Sessions),
		postgres: fmt.Sprintf("%.0f", megabytes(postgres)), skein: fmt.Sprintf("%.0f", megabytes(skein)),
		ratio:  float64(skein) / float64(postgres),
		target: fmt.Sprintf("< %d MB", memoryTarget>>20), met: skein < memoryTarget,
	}
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

func (c conditions) setting() string {
	postgres := ""
	if c.Postgres != "" {
		postgres = "PostgreSQL " + c.Postgres + ", "
	}
	text := fmt.Sprintf("%s, %d CPUs, Linux %s, %spgbench scale %d, median of %d runs of %gs.",
		c.Time.Format(time.DateOnly), c.CPUs, c.Kernel, postgres, c.Scale, c.Rounds, c.Seconds)
	if c.Tmpfs {
		text += " The data lay on tmpfs, where fsync costs nothing: say nothing about commits from these figures."
	}
	return text
}

func (l line) verdict() string {
	switch {
	case l.target == "":
		return ""
	case l.unmeasured:
		return "not measured"
	case l.met:
		return "met"
	}
	return "missed"
}

func (l line) times() string {
	if l.ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", l.ratio)
}

// text is the table for a terminal.
func (t table) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "workload\tPostgreSQL\tSkein\tratio\ttarget\t")
	for _, l := range t.lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.name, l.postgres, l.skein, l.times(), l.target, l.verdict())
	}
	_ = w.Flush() // a Builder takes everything
	return t.setting + "\n\n" + b.String()
}

// markdown is the table for docs/PERFORMANCE.md.
func (t table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| workload | PostgreSQL | Skein | ratio | target | |\n| --- | ---: | ---: | ---: | --- | --- |\n", t.setting)
	for _, l := range t.lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", l.name, l.postgres, l.skein, l.times(), l.target, l.verdict())
	}
	return b.String()
}

// printed is a table in its two forms.
type printed interface {
	text() string
	markdown() string
}

// publish prints the table, writes the results to the file of -json and, with -update, puts the table
// between its marks in performanceFile.
func publish(o options, results any, t printed, between marks) error {
	fmt.Println(t.text())
	encoded, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.json, append(encoded, '\n'), 0o644); err != nil {
		return err
	}
	if !o.update {
		return nil
	}
	page, err := os.ReadFile(performanceFile)
	if err != nil {
		return err
	}
	updated, err := between.replace(string(page), t.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", performanceFile, err)
	}
	return os.WriteFile(performanceFile, []byte(updated), 0o644)
}

// replace puts the table between the marks of a page and leaves the rest as it is.
func (m marks) replace(page, table string) (string, error) {
	before, rest, found := strings.Cut(page, m.begin)
	_, after, ended := strings.Cut(rest, m.end)
	if !found || !ended {
		return "", errors.New("the marks between which the table stands are missing")
	}
	return before + m.begin + "\n" + table + "\n" + m.end + after, nil
}
