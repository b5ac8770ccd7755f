package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	routedNodes   = 6 // a leader and what reads are spread over
	readersEach   = 6 // clients of each follower
	routedWriters = 16
	fullWriters   = 64
	routedRows    = 10_000
	routedPairs   = 600
	routedPace    = 3 * time.Millisecond // between questions: the cluster is idle when one comes
	pingBytes     = 100

	linearTarget   = 0.95
	writesTarget   = 0.95
	forwardTarget  = 100 * time.Microsecond
	boundedTarget  = 0.99
	boundedReaders = 4
	boundedPace    = 2 * time.Millisecond
	createRouted   = "CREATE TABLE routed (id int PRIMARY KEY, n int NOT NULL)"
	fillRouted     = "INSERT INTO routed SELECT g, 0 FROM generate_series(1, 10000) g"
	readRouted     = "SELECT n FROM routed WHERE id = $1"
	writeRouted    = "UPDATE routed SET n = n + 1 WHERE id = $1"
	whereRouted    = "SELECT n, pg_is_in_recovery() FROM routed WHERE id = $1" // a row, and whether a follower has answered
)

var routingMarks = marks{
	begin: "<!-- bench -routing: begin; `go run ./bench -routing -update` rewrites what follows -->\n",
	end:   "<!-- bench -routing: end -->",
}

var scaled = []int{1, 2, 3, 5}

// routing is the result file of -routing, and what its table is made from.
type routing struct {
	conditions
	Share   float64              `json:"share"` // of a processor, for each node
	Figures []routed             `json:"figures"`
	Samples map[string][]float64 `json:"samples"` // of every round
}

// routed is a line of the table.
type routed struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Target string `json:"target,omitempty"`
	Met    bool   `json:"met"`
}

func (r *routing) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", f.Name, f.Value, f.Target, f.verdict())
	}
	_ = w.Flush() // a Builder takes everything
	return r.setting() + "\n\n" + b.String()
}

func (r *routing) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| figure | | target | |\n| --- | ---: | --- | --- |\n", r.setting())
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.Name, f.Value, f.Target, f.verdict())
	}
	return b.String()
}

func (r *routing) setting() string {
	text := fmt.Sprintf("%s, %d CPUs, Linux %s, median of %d runs of %gs, each node with %g of a processor where followers are compared.",
		r.Time.Format(time.DateOnly), r.CPUs, r.Kernel, r.Rounds, r.Seconds, r.Share)
	if r.Tmpfs {
		text += " The data lay on tmpfs."
	}
	return text
}

func (f routed) verdict() string {
	return line{target: f.Target, met: f.Met}.verdict()
}

// benchRouting measures one cluster in which every node takes everything: idle first, then with many nodes of equal shares.
func benchRouting(ctx context.Context, o options, dir string) (err error) {
	r := &routing{conditions: newConditions(o, dir), Share: o.share, Samples: map[string][]float64{}}
	c := &routedCluster{}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.grow(ctx, dir, 3); err != nil {
		return err
	}
	for _, sql := range []string{createRouted, fillRouted, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'"} {
		if _, err := query(ctx, c.nodes[0], sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if err := c.addRouter(ctx); err != nil {
		return fmt.Errorf("a router process: %w", err)
	}
	if err := r.latencies(ctx, o, c); err != nil {
		return fmt.Errorf("round trips: %w", err)
	}
	if err := r.bounded(ctx, o, c); err != nil {
		return fmt.Errorf("bounded reads: %w", err)
	}
	if missing := sharesMissing(); missing != "" {
		progress("not measured, scaling: %s", missing)
		r.Figures = append(r.Figures, routed{Name: "point reads over several followers", Value: "–", Target: fmt.Sprintf("≥ %g of linear", linearTarget)})
	} else if err := r.scaling(ctx, o, c, dir); err != nil {
		return fmt.Errorf("scaling: %w", err)
	}
	return publish(o, r, r, routingMarks)
}

// routedCluster is a cluster that appoints its leader. The first node leads.
type routedCluster struct {
	nodes  []*skein
	router *skein // a process in front of them
	shares []*share
}

// addRouter starts the process, and waits until it finds the leader and a follower.
func (c *routedCluster) addRouter(ctx context.Context) error {
	one := c.nodes[0].follower("router").(*skein)
	one.router = true
	if err := one.create(ctx); err != nil {
		return err
	}
	if err := one.start(ctx, usualSessions); err != nil {
		return err
	}
	c.router = one
	if _, err := query(ctx, one, "UPDATE routed SET n = 0"); err != nil {
		return err
	}
	return await(ctx, one, "SELECT pg_is_in_recovery()", "t")
}

// grow adds nodes until there are so many, and waits until they have everything.
func (c *routedCluster) grow(ctx context.Context, dir string, n int) error {
	for len(c.nodes) < n {
		one := newSkein(dir)
		one.appointed = true
		if len(c.nodes) > 0 {
			one = c.nodes[0].follower(fmt.Sprintf("n%d", len(c.nodes)+1)).(*skein)
		}
		if err := one.create(ctx); err != nil {
			return err
		}
		if err := one.start(ctx, usualSessions); err != nil {
			return err
		}
		c.nodes = append(c.nodes, one)
	}
	for _, f := range c.nodes[1:] {
		if err := await(ctx, f, "SELECT pg_is_in_recovery()", "t"); err != nil {
			return err
		}
	}
	return await(ctx, c.nodes[0], "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", strconv.Itoa(n-1))
}

// limit gives every node the same part of a processor.
func (c *routedCluster) limit(part float64) error {
	for i, n := range append(slices.Clone(c.nodes), c.router) {
		s, err := newShare(fmt.Sprintf("n%d", i+1), part)
		if err != nil {
			return err
		}
		c.shares = append(c.shares, s)
		if err := s.add(n.pid()); err != nil {
			return err
		}
	}
	return nil
}

func (c *routedCluster) stop() error {
	var problems []error
	for _, s := range c.shares {
		problems = append(problems, s.give(0))
	}
	if c.router != nil {
		problems = append(problems, c.router.stop())
	}
	for _, n := range slices.Backward(c.nodes) {
		problems = append(problems, n.stop())
	}
	for _, s := range c.shares {
		problems = append(problems, s.remove())
	}
	return errors.Join(problems...)
}

// latencies asks an idle cluster one thing after the other, so that what the machine does otherwise hits all alike.
func (r *routing) latencies(ctx context.Context, o options, c *routedCluster) error {
	leader, follower := c.nodes[0], c.nodes[1]
	ping, err := newPing()
	if err != nil {
		return err
	}
	defer ping.close()
	conns := make([]*pgconn.PgConn, 7)
	for i, at := range []struct {
		node *skein
		sql  string
	}{{leader, writeRouted}, {follower, writeRouted}, {follower, readRouted}, {follower, readRouted}, {leader, readRouted}, {c.router, readRouted}, {c.router, writeRouted}} {
		if conns[i], err = prepared(ctx, at.node, at.sql); err != nil {
			return err
		}
		defer func() { _ = conns[i].Close(ctx) }()
	}
	// The session that writes and reads needs two statements.
	if _, err := conns[1].Prepare(ctx, "read", readRouted, nil); err != nil {
		return err
	}
	took := map[string][]time.Duration{}
	timed := func(key string, do func() error) error {
		began := time.Now()
		err := do()
		took[key] = append(took[key], time.Since(began))
		return err
	}
	one := []string{"1"}
	for range routedPairs {
		for _, step := range []struct {
			key string
			do  func() error
		}{
			{"trip", ping.once},
			{"write here", func() error { _, err := execPrepared(ctx, conns[0], one...); return err }},
			{"write away", func() error { _, err := execPrepared(ctx, conns[1], one...); return err }},
			{"own read", func() error { return conns[1].ExecPrepared(ctx, "read", [][]byte{[]byte("1")}, nil, nil).Read().Err }},
			{"read", func() error { _, err := execPrepared(ctx, conns[2], one...); return err }},
			{"routed read", func() error { _, err := execPrepared(ctx, conns[5], one...); return err }},
			{"routed write", func() error { _, err := execPrepared(ctx, conns[6], one...); return err }},
		} {
			if err := timed(step.key, step.do); err != nil {
				return fmt.Errorf("%s: %w", step.key, err)
			}
			if step.key != "write away" { // the read comes at once
				rest(routedPace)
			}
		}
	}
	m := map[string]time.Duration{}
	for key, all := range took {
		m[key] = quantile(all, 0.5)
		r.Samples[key+" us"] = []float64{float64(m[key].Microseconds())}
		progress("%-12s median %v", key, m[key])
	}
	us := func(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }
	r.Figures = append(r.Figures,
		routed{Name: "round trip of 100 bytes over loopback", Value: us(m["trip"])},
		routed{Name: "read on a follower", Value: us(m["read"])},
		routed{
			Name: "read on a follower after one's own forwarded write", Value: us(m["own read"]),
			Target: "≤ one round trip more: " + us(m["read"]+m["trip"]), Met: m["own read"] <= m["read"]+m["trip"],
		},
		routed{Name: "write on the leader", Value: us(m["write here"])},
		routed{
			Name: "write forwarded by a follower", Value: us(m["write away"]),
			Target: "≤ one round trip and 100 µs more: " + us(m["write here"]+m["trip"]+forwardTarget), Met: m["write away"] <= m["write here"]+m["trip"]+forwardTarget,
		},
		routed{Name: "read through a router process", Value: us(m["routed read"])},
		routed{Name: "write through a router process", Value: us(m["routed write"])},
	)
	return nil
}

// ping is a server that gives back what it gets, as near as nodes on this machine are to each other.
type ping struct {
	listener net.Listener
	conn     net.Conn
	buffer   [pingBytes]byte
}

func newPing() (*ping, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		var b [pingBytes]byte
		for {
			n, err := c.Read(b[:])
			if err == nil {
				_, err = c.Write(b[:n])
			}
			if err != nil {
				_ = c.Close()
				return
			}
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &ping{listener: l, conn: conn}, nil
}

func (p *ping) once() error {
	if _, err := p.conn.Write(p.buffer[:]); err != nil {
		return err
	}
	_, err := p.conn.Read(p.buffer[:]) // so little comes in one piece
	return err
}

func (p *ping) close() {
	_ = p.conn.Close()
	_ = p.listener.Close()
}

// bounded counts which reads that may be 100 ms old a follower answers itself, while the leader writes all it can.
func (r *routing) bounded(ctx context.Context, o options, c *routedCluster) error {
	writes := newLoad(ctx, c.nodes[:1], fullWriters, writeRouted, "", 0, nil)
	var local atomic.Int64
	reads := newLoad(ctx, c.nodes[1:2], boundedReaders, whereRouted, "-c skein.read_consistency=bounded -c skein.max_staleness=100ms", boundedPace,
		func(row [][]byte) {
			if string(row[1]) == "t" {
				local.Add(1)
			}
		})
	rest(o.duration)
	if _, err := reads.stop(); err != nil {
		return err
	}
	written, err := writes.stop()
	if err != nil {
		return err
	}
	read := reads.done.Load() // with the last ones
	part := float64(local.Load()) / float64(read)
	seconds := o.duration.Seconds()
	progress("bounded 100ms: %d of %d answered by the follower, at %.0f writes/s", local.Load(), read, float64(written)/seconds)
	r.Samples["bounded locally"] = []float64{part}
	r.Figures = append(r.Figures, routed{
		Name:  fmt.Sprintf("reads bounded by 100 ms that a follower answers itself, at %.0f writes per second", float64(written)/seconds),
		Value: fmt.Sprintf("%.2f %%", 100*part), Target: "≥ 99 %", Met: part >= boundedTarget,
	})
	return nil
}

// scaling reads from more and more followers of equal shares, and writes with and without readers.
func (r *routing) scaling(ctx context.Context, o options, c *routedCluster, dir string) error {
	if err := c.grow(ctx, dir, routedNodes); err != nil {
		return err
	}
	if err := c.limit(o.share); err != nil {
		return err
	}
	for round := range o.rounds {
		order := slices.Clone(scaled)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, n := range order {
			reads := newLoad(ctx, c.nodes[1:1+n], n*readersEach, readRouted, "", 0, nil)
			rest(o.duration)
			count, err := reads.stop()
			if err != nil {
				return err
			}
			rate := float64(count) / o.duration.Seconds()
			progress("point reads over %d followers: %.0f/s", n, rate)
			key := fmt.Sprintf("reads over %d", n)
			r.Samples[key] = append(r.Samples[key], rate)
		}
		for key, sql := range map[string]string{"reads by router": readRouted, "writes by router": writeRouted} {
			through := newLoad(ctx, []*skein{c.router}, routedWriters, sql, "", 0, nil)
			rest(o.duration)
			count, err := through.stop()
			if err != nil {
				return err
			}
			rate := float64(count) / o.duration.Seconds()
			progress("%s: %.0f/s", key, rate)
			r.Samples[key] = append(r.Samples[key], rate)
		}
		for _, key := range []string{"writes alone", "writes beside reads"} {
			var reads *load
			if key == "writes beside reads" {
				reads = newLoad(ctx, c.nodes[1:], (routedNodes-1)*readersEach, readRouted, "", 0, nil)
			}
			writes := newLoad(ctx, c.nodes[:1], routedWriters, writeRouted, "", 0, nil)
			rest(o.duration)
			count, err := writes.stop()
			if reads != nil {
				_, failed := reads.stop()
				err = errors.Join(err, failed)
			}
			if err != nil {
				return err
			}
			rate := float64(count) / o.duration.Seconds()
			progress("%s: %.0f/s", key, rate)
			r.Samples[key] = append(r.Samples[key], rate)
		}
	}
	single := middle(r.Samples["reads over 1"])
	for _, n := range scaled {
		rate := middle(r.Samples[fmt.Sprintf("reads over %d", n)])
		f := routed{Name: fmt.Sprintf("point reads per second over %d followers", n), Value: fmt.Sprintf("%.0f", rate)}
		if n > 1 {
			part := rate / single / float64(n)
			f.Value += fmt.Sprintf(" (%.2f of linear)", part)
			f.Target, f.Met = fmt.Sprintf("≥ %g of linear", linearTarget), part >= linearTarget
		}
		r.Figures = append(r.Figures, f)
	}
	alone, beside := middle(r.Samples["writes alone"]), middle(r.Samples["writes beside reads"])
	r.Figures = append(r.Figures,
		routed{Name: "writes per second, nobody reads", Value: fmt.Sprintf("%.0f", alone)},
		routed{
			Name: "writes per second, five followers are read from", Value: fmt.Sprintf("%.0f", beside),
			Target: fmt.Sprintf("≥ %.0f", writesTarget*alone), Met: beside >= writesTarget*alone,
		},
		routed{Name: "point reads per second through one router process", Value: fmt.Sprintf("%.0f", middle(r.Samples["reads by router"]))},
		routed{Name: "writes per second through one router process", Value: fmt.Sprintf("%.0f", middle(r.Samples["writes by router"]))},
	)
	return nil
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// load is clients that each ask one thing after the other.
type load struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	done    atomic.Int64

	mu     sync.Mutex
	failed error
}

// newLoad starts clients, spread over nodes, that run a statement for rows by chance, with pauses between. Rows go to each, if it is not nil.
func newLoad(ctx context.Context, nodes []*skein, clients int, sql, options string, pause time.Duration, each func(row [][]byte)) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	for i := range clients {
		l.running.Go(func() {
			if err := l.ask(ctx, nodes[i%len(nodes)], i, sql, options, pause, each); err != nil && ctx.Err() == nil {
				l.mu.Lock()
				l.failed = errors.Join(l.failed, err)
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *load) ask(ctx context.Context, node *skein, seed int, sql, options string, pause time.Duration, each func(row [][]byte)) error {
	config, err := pgconn.ParseConfig(node.address().url())
	if err != nil {
		return err
	}
	if options != "" {
		config.RuntimeParams["options"] = options
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Prepare(ctx, "", sql, nil); err != nil {
		return err
	}
	for n := seed * 7919; ctx.Err() == nil; n += 4099 {
		id := strconv.AppendInt(nil, int64(1+n%routedRows), 10)
		result := conn.ExecPrepared(context.WithoutCancel(ctx), "", [][]byte{id}, nil, nil).Read()
		if result.Err != nil {
			return result.Err
		}
		l.done.Add(1)
		if each != nil {
			each(result.Rows[0])
		}
		if pause > 0 {
			rest(pause)
		}
	}
	return nil
}

// stop ends the clients and says how many answers they got.
func (l *load) stop() (int64, error) {
	count := l.done.Load()
	l.cancel()
	l.running.Wait()
	return count, l.failed
}
