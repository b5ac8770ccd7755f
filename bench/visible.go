package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	visibleCommits = 1000
	visiblePace    = 5 * time.Millisecond // between commits: the follower is idle when one comes
	visiblePoll    = 50 * time.Microsecond
	visibleTarget  = 2 // ms
	roundTrips     = 500
)

// visibility is how long after the reply to a commit a session on an idle follower sees it.
func visibility(mode string, synchronous bool) measurement {
	name := "commit to visible, " + mode
	return measurement{
		name: name,
		take: func(ctx context.Context, _ options, c *cluster, _ int) (sample, error) {
			for _, sql := range []string{
				"DROP TABLE IF EXISTS visible",
				"CREATE TABLE visible (id int PRIMARY KEY, n int)",
				"INSERT INTO visible VALUES (1, 0)",
			} {
				if _, err := query(ctx, c.leader, sql); err != nil {
					return nil, err
				}
			}
			if err := c.arrange(ctx, 1, synchronous); err != nil {
				return nil, err
			}
			return measureVisible(ctx, c.leader, c.followers[0])
		},
		figures: []figure{
			{key: "median_ms", name: name + ", median ms", digits: 2, target: fmt.Sprintf("< %d ms", visibleTarget), met: below(visibleTarget)},
			{key: "p99_ms", name: name + ", p99 ms", digits: 2, target: "< PostgreSQL's", met: belowPostgres},
		},
	}
}

// measureVisible takes the median round trip of the same SELECT off every time: a commit that the first
// SELECT shows was visible at once. It rests between questions: a reader that asks without a pause takes the
// processors from the very follower that it waits for, and from the disk of a virtual machine.
func measureVisible(ctx context.Context, leader, follower server) (sample, error) {
	writer, err := prepared(ctx, leader, "UPDATE visible SET n = $1 WHERE id = 1")
	if err != nil {
		return nil, err
	}
	defer func() { _ = writer.Close(ctx) }()
	reader, err := prepared(ctx, follower, "SELECT n FROM visible WHERE id = 1")
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close(ctx) }()

	trips := make([]time.Duration, 0, roundTrips)
	for range roundTrips {
		start := time.Now()
		if _, err := execPrepared(ctx, reader); err != nil {
			return nil, err
		}
		trips = append(trips, time.Since(start))
	}
	trip := quantile(trips, 0.5)

	commits := make([]time.Duration, 0, visibleCommits)
	latencies := make([]time.Duration, 0, visibleCommits)
	pace := time.NewTicker(visiblePace)
	defer pace.Stop()
	for n := 1; n <= visibleCommits; n++ {
		<-pace.C
		wanted := strconv.Itoa(n)
		sent := time.Now()
		if _, err := execPrepared(ctx, writer, wanted); err != nil {
			return nil, err
		}
		committed := time.Now()
		commits = append(commits, committed.Sub(sent))
		for {
			seen, err := execPrepared(ctx, reader)
			if err != nil {
				return nil, err
			}
			if seen == wanted {
				break
			}
			rest(visiblePoll)
		}
		latencies = append(latencies, max(0, time.Since(committed)-trip))
	}
	return sample{
		"median_ms":     milliseconds(quantile(latencies, 0.5)),
		"p99_ms":        milliseconds(quantile(latencies, 0.99)),
		"max_ms":        milliseconds(quantile(latencies, 1)),
		"round_trip_ms": milliseconds(trip),
		// A slow disk shows here too, and with synchronous commits only here.
		"commit_median_ms": milliseconds(quantile(commits, 0.5)),
		"commit_p99_ms":    milliseconds(quantile(commits, 0.99)),
	}, nil
}

// rest is time.Sleep for less than a millisecond, which the runtime rounds up to when nothing else runs.
func rest(d time.Duration) {
	left := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&left, nil) // a signal may wake it early
}

// prepared connects and prepares the statement without a name.
func prepared(ctx context.Context, s server, sql string) (*pgconn.PgConn, error) {
	conn, err := pgconn.Connect(ctx, s.address().url())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Prepare(ctx, "", sql, nil); err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

// execPrepared gives the first column of the first row, "" when there is none.
func execPrepared(ctx context.Context, conn *pgconn.PgConn, parameters ...string) (string, error) {
	values := make([][]byte, len(parameters))
	for i, p := range parameters {
		values[i] = []byte(p)
	}
	result := conn.ExecPrepared(ctx, "", values, nil, nil).Read()
	if result.Err != nil || len(result.Rows) == 0 {
		return "", result.Err
	}
	return string(result.Rows[0][0]), nil
}

// quantile sorts the values.
func quantile(values []time.Duration, q float64) time.Duration {
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
