package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// awaitLimit bounds every wait for a follower.
	awaitLimit = 15 * time.Minute
	awaitPace  = time.Millisecond
)

// cluster is a leader with followers, of one of the systems that are compared.
type cluster struct {
	leader    server
	followers []follower
	running   int // the first ones of followers run
	made      int // followers ever, for their names
}

// follower is a server with the name that its leader keeps a slot under.
type follower struct {
	server
	slot string
}

func (c *cluster) name() string { return c.leader.name() }

// newFollower makes one that has a name and no data.
func (c *cluster) newFollower() follower {
	c.made++
	slot := "n" + strconv.Itoa(c.made)
	return follower{server: c.leader.follower(slot), slot: slot}
}

// create adds stopped followers.
func (c *cluster) create(ctx context.Context, n int) error {
	for len(c.followers) < n {
		f := c.newFollower()
		if err := f.create(ctx); err != nil {
			return fmt.Errorf("follower %s: %w", f.slot, err)
		}
		c.followers = append(c.followers, f)
	}
	return nil
}

// stop stops the followers. The leader is left to whoever made it.
func (c *cluster) stop() {
	for _, f := range c.followers {
		_ = f.stop()
	}
}

// arrange makes n followers run, has commits wait for one of them if they are to be synchronous, and
// returns when the followers have everything that the leader has.
func (c *cluster) arrange(ctx context.Context, n int, synchronous bool) error {
	names, waitedFor := "", 0
	if synchronous {
		names, waitedFor = "ANY 1 (*)", n
	}
	for c.running > n {
		if err := c.followers[c.running-1].stop(); err != nil {
			return err
		}
		c.running--
	}
	for c.running < n {
		if err := c.followers[c.running].start(ctx, usualSessions); err != nil {
			return err
		}
		c.running++
	}
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
		if _, err := query(ctx, c.leader, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	const standbys = `SELECT count(*) || ' ' || count(CASE WHEN sync_state IN ('sync', 'quorum') THEN 1 END)
		FROM pg_stat_replication WHERE state = 'streaming'`
	if err := await(ctx, c.leader, standbys, fmt.Sprintf("%d %d", n, waitedFor)); err != nil {
		return fmt.Errorf("%d followers: %w", n, err)
	}
	return c.level(ctx)
}

// level waits until the followers that run have everything that the leader has.
func (c *cluster) level(ctx context.Context) error {
	at, err := c.position(ctx)
	if err != nil {
		return err
	}
	for _, f := range c.followers[:c.running] {
		if err := f.awaitReplayed(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// position is the end of the leader's log. All that was committed stands before it.
func (c *cluster) position(ctx context.Context) (string, error) {
	return query(ctx, c.leader, "SELECT pg_current_wal_flush_lsn()")
}

func (f follower) awaitReplayed(ctx context.Context, lsn string) error {
	return await(ctx, f, "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '"+lsn+"') >= 0", "t")
}

func (f follower) awaitReceived(ctx context.Context, lsn string) error {
	return await(ctx, f, "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '"+lsn+"') >= 0", "t")
}

// await asks until the answer is the wanted one. A connection that breaks is made again: a server may
// end its sessions on the way.
func await(ctx context.Context, s server, sql, wanted string) error {
	ctx, cancel := context.WithTimeout(ctx, awaitLimit)
	defer cancel()
	var conn *pgconn.PgConn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for last := "none"; ; {
		var err error
		if conn == nil || conn.IsClosed() {
			conn, err = pgconn.Connect(ctx, s.address().url())
		}
		if err == nil {
			last, err = ask(ctx, conn, sql)
			if err == nil && last == wanted {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: wanted %q, the last answer was %q: %w, %w", sql, wanted, last, ctx.Err(), err)
		case <-time.After(awaitPace):
		}
	}
}
