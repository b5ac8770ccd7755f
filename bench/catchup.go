package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	loadClients = 64

	applyTarget   = 5   // times the execution on the leader
	catchUpTarget = 100 // MB of log per second
	copyTarget    = 300 // MB per second

	// fillBytes is what one COPY adds to the database that a new follower copies, in rows of fillRow bytes.
	fillBytes = 128 << 20
	fillRow   = 1000
)

// applySpeed has a follower receive without applying, and then apply what it has.
func applySpeed() measurement {
	return measurement{
		name: "apply speed",
		take: func(ctx context.Context, o options, c *cluster, _ int) (sample, error) {
			if err := c.arrange(ctx, 1, false); err != nil {
				return nil, err
			}
			return measureApply(ctx, o, c)
		},
		figures: []figure{
			{key: "executed_per_second", name: "commits executed by the leader, per second"},
			{key: "applied_per_second", name: "commits applied by the follower, per second"},
			{
				key: "times", name: "apply as a multiple of execution", digits: 1, alone: true,
				target: fmt.Sprintf("≥ %d", applyTarget), met: atLeast(applyTarget),
			},
		},
	}
}

func measureApply(ctx context.Context, o options, c *cluster) (sample, error) {
	f := c.followers[0]
	if _, err := query(ctx, f, "SELECT pg_wal_replay_pause()"); err != nil {
		return nil, err
	}
	resumed := false
	defer func() {
		if !resumed {
			_, _ = query(ctx, f, "SELECT pg_wal_replay_resume()")
		}
	}()
	if err := await(ctx, f, "SELECT pg_get_wal_replay_pause_state()", "paused"); err != nil {
		return nil, err
	}
	one, err := updates(loadClients).run(ctx, o, c.leader)
	if err != nil {
		return nil, err
	}
	end, err := c.position(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.awaitReceived(ctx, end); err != nil {
		return nil, err
	}

	start := time.Now()
	resumed = true
	if _, err := query(ctx, f, "SELECT pg_wal_replay_resume()"); err != nil {
		return nil, err
	}
	if err := f.awaitReplayed(ctx, end); err != nil {
		return nil, err
	}
	took := time.Since(start).Seconds()
	applied := float64(one.Transactions) / took
	return sample{
		"executed_per_second": one.TPS, "applied_per_second": applied, "times": applied / one.TPS,
		"applied_mb_per_second": megabytes(one.LogBytes) / took, "seconds": took,
	}, nil
}

// catchUp is a follower whose process was away, from its start until it has everything.
func catchUp(o options) measurement {
	name := fmt.Sprintf("catch-up after %d commits", o.commits)
	return measurement{
		name: name, once: true,
		take: measureCatchUp,
		figures: []figure{
			{key: "seconds", name: name + ", seconds from the follower's start", digits: 1},
			{key: "commits_per_second", name: name + ", commits per second"},
			{
				key: "mb_per_second", name: name + ", MB of log per second",
				target: fmt.Sprintf("≥ %d", catchUpTarget), met: atLeast(catchUpTarget),
			},
		},
	}
}

func measureCatchUp(ctx context.Context, o options, c *cluster, _ int) (sample, error) {
	// Once with the follower, so that it is away and not new.
	for _, running := range []int{1, 0} {
		if err := c.arrange(ctx, running, false); err != nil {
			return nil, err
		}
	}
	load := updates(loadClients)
	load.transactions = o.commits / loadClients
	one, err := load.run(ctx, o, c.leader)
	if err != nil {
		return nil, err
	}
	end, err := c.position(ctx)
	if err != nil {
		return nil, err
	}
	f := c.followers[0]
	start := time.Now()
	if err := f.start(ctx, usualSessions); err != nil {
		return nil, err
	}
	c.running = 1
	accepts := time.Since(start).Seconds()
	if err := f.awaitReplayed(ctx, end); err != nil {
		return nil, err
	}
	took := time.Since(start).Seconds()
	return sample{
		"seconds": took, "accepts_seconds": accepts, "commits_per_second": float64(one.Transactions) / took,
		"mb_per_second": megabytes(one.LogBytes) / took, "mb": megabytes(one.LogBytes),
	}, nil
}

// newCopy is a new follower, from nothing until it has everything.
func newCopy(o options) measurement {
	name := fmt.Sprintf("new follower, %d MB", o.megabytes)
	return measurement{
		name: name,
		take: measureNewCopy,
		figures: []figure{
			{key: "seconds", name: name + ", seconds", digits: 1},
			{
				key: "mb_per_second", name: name + ", MB per second",
				target: fmt.Sprintf("≥ %d", copyTarget), met: atLeast(copyTarget),
			},
		},
	}
}

func measureNewCopy(ctx context.Context, o options, c *cluster, _ int) (_ sample, err error) {
	if err := c.arrange(ctx, 0, false); err != nil {
		return nil, err
	}
	size, err := fill(ctx, c.leader, int64(o.megabytes)<<20)
	if err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	if _, err := query(ctx, c.leader, "CHECKPOINT"); err != nil {
		return nil, err
	}
	end, err := c.position(ctx)
	if err != nil {
		return nil, err
	}
	f := c.newFollower()
	defer func() {
		if dropErr := c.drop(ctx, f); err == nil {
			err = dropErr
		}
	}()
	start := time.Now()
	if err := f.create(ctx); err != nil {
		return nil, err
	}
	if err := f.start(ctx, usualSessions); err != nil {
		return nil, err
	}
	if err := f.awaitReplayed(ctx, end); err != nil {
		return nil, err
	}
	took := time.Since(start).Seconds()
	return sample{"seconds": took, "mb_per_second": megabytes(size) / took, "mb": megabytes(size)}, nil
}

// drop removes a follower and what its leader keeps for it.
func (c *cluster) drop(ctx context.Context, f follower) error {
	if err := f.stop(); err != nil {
		return err
	}
	if err := f.remove(); err != nil {
		return err
	}
	const active = "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '%s'"
	if err := await(ctx, c.leader, fmt.Sprintf(active, f.slot), "0"); err != nil {
		return err
	}
	_, err := query(ctx, c.leader, "SELECT pg_drop_replication_slot('"+f.slot+"')")
	return err
}

// fill loads rows until the database has the size, which it returns.
func fill(ctx context.Context, s server, wanted int64) (int64, error) {
	conn, err := pgconn.Connect(ctx, s.address().url())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := ask(ctx, conn, "CREATE TABLE IF NOT EXISTS filler (id bigint PRIMARY KEY, body text)"); err != nil {
		return 0, err
	}
	for {
		text, err := ask(ctx, conn, "SELECT pg_database_size('skein')")
		if err != nil {
			return 0, err
		}
		size, err := strconv.ParseInt(text, 10, 64)
		if err != nil || size >= wanted {
			return size, err
		}
		text, err = ask(ctx, conn, "SELECT coalesce(max(id), 0) FROM filler")
		if err != nil {
			return 0, err
		}
		last, err := strconv.Atoi(text)
		if err != nil {
			return 0, err
		}
		rows := newNoise(last)
		if _, err := conn.CopyFrom(ctx, rows, "COPY filler FROM STDIN"); err != nil {
			return 0, err
		}
	}
}

// noise is COPY's text of rows that compress badly, so that no copy looks faster than it is.
type noise struct {
	random  *rand.ChaCha8
	id, end int
	line    []byte
}

func newNoise(last int) *noise {
	var seed [32]byte
	copy(seed[:], strconv.Itoa(last))
	return &noise{random: rand.NewChaCha8(seed), id: last, end: last + fillBytes/fillRow}
}

func (r *noise) Read(p []byte) (int, error) {
	if len(r.line) == 0 {
		if r.id == r.end {
			return 0, io.EOF
		}
		r.id++
		var raw [fillRow * 3 / 4]byte
		_, _ = r.random.Read(raw[:]) // never fails
		r.line = fmt.Appendf(r.line[:0], "%d\t", r.id)
		r.line = base64.StdEncoding.AppendEncode(r.line, raw[:])
		r.line = append(r.line, '\n')
	}
	n := copy(p, r.line)
	r.line = r.line[n:]
	return n, nil
}
