package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

var replicationMarks = marks{
	begin: "<!-- bench -replication: begin; `go run ./bench -replication -update` rewrites what follows -->\n",
	end:   "<!-- bench -replication: end -->",
}

// usualFollowers are made at the beginning; most measurements let one of them run.
const usualFollowers = 2

// sample is what one round of a measurement found, by the key of the figure.
type sample map[string]float64

// measurement is something done to a cluster, and the figures that come of it.
type measurement struct {
	name    string
	once    bool // long enough to need no rounds
	shares  bool // gives parts of a processor, which not every machine can
	take    func(ctx context.Context, o options, c *cluster, round int) (sample, error)
	figures []figure
}

// figure is a line of the table, made from the medians of the samples.
type figure struct {
	key    string
	name   string
	digits int  // behind the point
	alone  bool // the systems do not compare, so there is no ratio
	target string
	met    func(postgres, skein float64) bool
}

func atLeast(limit float64) func(postgres, skein float64) bool {
	return func(_, skein float64) bool { return skein >= limit }
}

func below(limit float64) func(postgres, skein float64) bool {
	return func(_, skein float64) bool { return skein < limit }
}

func atLeastTimes(ratio float64) func(postgres, skein float64) bool {
	return func(postgres, skein float64) bool { return skein >= ratio*postgres }
}

func belowPostgres(postgres, skein float64) bool { return skein < postgres }

func measurements(o options) []measurement {
	all := []measurement{
		synchronous(64, "on", 3),
		synchronous(1, "on", 2),
		synchronous(64, "remote_apply", 3),
		synchronous(1, "remote_apply", 0),
		visibility("async", false),
		visibility("on", true),
		asynchronous(64, ""),
		asynchronousApart(64),
		asynchronous(1, ""),
		applySpeed(),
		catchUp(o),
		newCopy(o),
	}
	return slices.DeleteFunc(all, func(m measurement) bool { return !o.run.MatchString(m.name) })
}

// replication is the result file, and what the table is made from.
type replication struct {
	conditions
	Measurements []measured `json:"measurements"`
}

type measured struct {
	Name    string              `json:"name"`
	Samples map[string][]sample `json:"samples"`          // by server
	Failed  map[string]string   `json:"failed,omitempty"` // by server
	figures []figure
}

// benchReplication goes on after a measurement that failed: a run takes long, and the others are worth
// having. It fails in the end.
func benchReplication(ctx context.Context, o options, under conditions, servers []server) error {
	var clusters []*cluster
	for _, s := range servers {
		c := &cluster{leader: s}
		defer c.stop()
		if err := c.create(ctx, usualFollowers); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		clusters = append(clusters, c)
	}
	r := &replication{conditions: under}
	var failed []error
	missing := sharesMissing()
	for _, m := range measurements(o) {
		if m.shares && missing != "" {
			progress("%s is left out: %s", m.name, missing)
			continue
		}
		result := take(ctx, o, m, clusters)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for server, problem := range result.Failed {
			failed = append(failed, fmt.Errorf("%s, %s: %s", m.name, server, problem))
		}
		r.Measurements = append(r.Measurements, result)
	}
	return errors.Join(append(failed, publish(o, r, r.table(), replicationMarks))...)
}

// take does the rounds of a measurement on the clusters in turn; who begins changes with each round.
func take(ctx context.Context, o options, m measurement, clusters []*cluster) measured {
	result := measured{Name: m.name, Samples: map[string][]sample{}, Failed: map[string]string{}, figures: m.figures}
	rounds := o.rounds
	if m.once {
		rounds = 1
	}
	for round := range rounds {
		turn := slices.Clone(clusters)
		if round%2 == 1 {
			slices.Reverse(turn)
		}
		for _, c := range turn {
			one, err := m.take(ctx, o, c, round)
			if err != nil {
				progress("%-10s %s: %v", c.name(), m.name, err)
				result.Failed[c.name()] = err.Error()
				continue
			}
			progress("%-10s %-45s%s", c.name(), m.name, one)
			result.Samples[c.name()] = append(result.Samples[c.name()], one)
		}
	}
	return result
}

func (s sample) String() string {
	var text string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		text += fmt.Sprintf("  %s %.4g", key, s[key])
	}
	return text
}

func (r *replication) table() table {
	t := table{setting: r.setting()}
	for _, m := range r.Measurements {
		for _, f := range m.figures {
			t.lines = append(t.lines, m.line(f))
		}
	}
	return t
}

func (m measured) line(f figure) line {
	postgres, skein := m.median("PostgreSQL", f.key), m.median("Skein", f.key)
	l := line{name: f.name, postgres: f.show(postgres), skein: f.show(skein), target: f.target}
	if postgres == nil || skein == nil {
		l.unmeasured = true
		return l
	}
	if !f.alone && *postgres != 0 {
		l.ratio = *skein / *postgres
	}
	l.met = f.met != nil && f.met(*postgres, *skein)
	return l
}

// median is of the one figure; nil when the server was not measured.
func (m measured) median(server, key string) *float64 {
	var values []float64
	for _, s := range m.Samples[server] {
		values = append(values, s[key])
	}
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	return &values[len(values)/2]
}

func (f figure) show(value *float64) string {
	if value == nil {
		return "–"
	}
	return strconv.FormatFloat(*value, 'f', f.digits, 64)
}
