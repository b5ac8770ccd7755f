// Command bench runs the same pgbench against PostgreSQL 15 and against Skein, side by side on one
// machine and one file system, and prints what came of it with the ratios that Skein must reach.
//
//	go run ./bench                    about ten minutes
//	go run ./bench -duration 2s -rounds 1 -run 'reads'
//	go run ./bench -update            also rewrites the table in docs/PERFORMANCE.md
//	go run ./bench -replication       what followers cost and how far they lag; about twenty minutes
//	go run ./bench -routing           what it costs to ask any node, and how reads scale; some minutes, without PostgreSQL
//
// Both servers are its own: a fresh cluster and a fresh directory, deleted at the end. Only one of
// them has work at a time, and they take turns within each workload, so that whatever else the
// machine does hits both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

type options struct {
	duration    time.Duration
	rounds      int
	scale       int
	run         *regexp.Regexp
	only        string
	all         bool
	sessions    int
	large       int
	replication bool
	routing     bool
	share       float64
	commits     int
	megabytes   int
	dir         string
	pgBin       string
	json        string
	update      bool
}

func parseFlags() (options, error) {
	var o options
	var run string
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "length of one run")
	flag.IntVar(&o.rounds, "rounds", 3, "runs of each workload on each server; the median counts")
	flag.IntVar(&o.scale, "scale", 10, "pgbench's scale: 100 000 accounts each")
	flag.StringVar(&run, "run", "", "only workloads whose name matches this regular expression")
	flag.StringVar(&o.only, "only", "", "only this server: PostgreSQL or Skein")
	flag.BoolVar(&o.all, "all", false, "also the workloads without a target: simple and extended protocol, tpcb")
	flag.IntVar(&o.sessions, "sessions", 1000, "idle sessions for the memory measurement; 0 leaves it out")
	flag.IntVar(&o.large, "large", 0, "rows of a table to load and index, such as 10000000; 0 leaves it out")
	flag.BoolVar(&o.replication, "replication", false, "measure replication instead of single servers")
	flag.BoolVar(&o.routing, "routing", false, "measure a cluster whose nodes take everything instead of single servers")
	flag.Float64Var(&o.share, "share", 0.1, "with -routing: part of a processor for each node where followers are compared")
	flag.IntVar(&o.commits, "commits", 1_000_000, "with -replication: commits during which a follower is away")
	flag.IntVar(&o.megabytes, "megabytes", 2048, "with -replication: size of the database that a new follower copies")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where both servers keep their data while they run")
	flag.StringVar(&o.pgBin, "postgres", "/usr/lib/postgresql/15/bin", "PostgreSQL's programs")
	flag.StringVar(&o.json, "json", "", "file for the results; bench-results.json or bench-replication.json")
	flag.BoolVar(&o.update, "update", false, "rewrite the table in "+performanceFile)
	flag.Parse()

	var err error
	if o.run, err = regexp.Compile(run); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.only != "" && o.only != "PostgreSQL" && o.only != "Skein" {
		return o, errors.New("-only takes PostgreSQL or Skein")
	}
	if o.only != "" && o.update {
		return o, errors.New("-update needs both servers, so it does not go with -only")
	}
	if o.json == "" {
		o.json = "bench-results.json"
		if o.replication {
			o.json = "bench-replication.json"
		}
		if o.routing {
			o.json = "bench-routing.json"
		}
	}
	if o.rounds < 1 || o.scale < 1 || o.duration < time.Second {
		return o, errors.New("-rounds and -scale are at least 1, -duration at least 1s")
	}
	return o, nil
}

func main() {
	o, err := parseFlags()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if _, err := os.Stat(filepath.Join(o.pgBin, "postgres")); err != nil && !o.routing {
		fmt.Printf("PostgreSQL 15 is not in %s, so there is nothing to compare with.\n"+
			"On Debian: apt-get install postgresql-15. Another place: -postgres DIR.\n", o.pgBin)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp(o.dir, "skein-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// The server of the other user must be able to pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	if o.routing {
		return benchRouting(ctx, o, dir)
	}

	servers := []server{newPostgres(o.pgBin, dir), newSkein(dir)}
	servers = slices.DeleteFunc(servers, func(s server) bool { return o.only != "" && s.name() != o.only })
	defer func() {
		for _, s := range servers {
			_ = s.stop()
		}
	}()
	if err := prepare(ctx, o, servers); err != nil {
		return err
	}
	under := newConditions(o, dir)
	if servers[0].name() == "PostgreSQL" {
		if under.Postgres, err = query(ctx, servers[0], "SHOW server_version"); err != nil {
			return err
		}
	}
	if o.replication {
		return benchReplication(ctx, o, under, servers)
	}
	return benchServers(ctx, o, under, servers, newHollow(dir))
}

// benchServers measures one server beside the other, and how far any could get.
func benchServers(ctx context.Context, o options, under conditions, servers []server, ceiling server) error {
	err := errors.Join(ceiling.create(ctx), ceiling.start(ctx, usualSessions))
	defer func() { _ = ceiling.stop() }()
	if err != nil {
		return err
	}
	r := &report{conditions: under}
	for _, w := range workloads(o) {
		measured := servers
		if w.ceiling && o.only == "" {
			measured = append(slices.Clip(servers), ceiling)
		}
		result, err := compare(ctx, o, w, measured)
		if err != nil {
			return err
		}
		r.Workloads = append(r.Workloads, result)
	}
	if o.sessions > 0 {
		if r.Memory, err = compareMemory(ctx, o.sessions, servers); err != nil {
			return err
		}
	}
	if o.large > 0 {
		if r.Large, err = compareLarge(ctx, o.large, servers); err != nil {
			return err
		}
	}
	return publish(o, r, r.table(), serverMarks)
}

// prepare starts both servers and fills them with the same data.
func prepare(ctx context.Context, o options, servers []server) error {
	for _, s := range servers {
		if err := s.create(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		if err := s.start(ctx, usualSessions); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		took, err := initialise(ctx, o, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		progress("%-10s pgbench -i -s %d took %.1f s", s.name(), o.scale, took.Seconds())
	}
	return nil
}

// compare runs one workload on the servers in turn; who begins changes with each round.
func compare(ctx context.Context, o options, w workload, servers []server) (comparison, error) {
	runs := map[string][]run{}
	for round := range o.rounds {
		turn := slices.Clone(servers)
		if round%2 == 1 {
			slices.Reverse(turn)
		}
		for _, s := range turn {
			one, err := w.run(ctx, o, s)
			if err != nil {
				return comparison{}, fmt.Errorf("%s, %s: %w", w.name, s.name(), err)
			}
			progress("%-10s %-45s %9.0f/s  %7.2f ms  %6.0f log bytes each", s.name(), w.name, one.TPS, one.LatencyMS, one.logBytesEach())
			runs[s.name()] = append(runs[s.name()], one)
		}
	}
	return newComparison(w, runs), nil
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
