package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// lookPace is how often each node is asked how it stands, and lookWait how long it may take to say so.
	lookPace = 250 * time.Millisecond
	lookWait = time.Second
)

// lookQuery asks a node for itself and for those who copy from it.
const lookQuery = `SELECT role, epoch, mode, problem, upstream FROM skein_status;
SELECT name, connected, state, sync_state, reason, replay_lag_bytes, replay_lag_ms, snapshot_done_bytes, snapshot_total_bytes FROM skein_replication`

// status is what one node says; the zero value stands for one that says nothing.
type status struct {
	answers   bool
	role      string
	epoch     string
	mode      string
	problem   string
	upstream  string // whom a follower copies from; "" if it does not know yet
	followers map[string]follower
}

// follower is one of those who copy from a node, as that node sees it.
type follower struct {
	connected   bool
	state, sync string
	reason      string // it lags for
	lagBytes    int64
	lag         time.Duration
	copied      int // of the copy that it takes in state backup, percent
}

// setup is what a new cluster is told, once, on the node that leads it.
type setup struct {
	sql  string // "": nothing
	done atomic.Bool
}

// run does it, unless it is done; the error says why it cannot be.
func (s *setup) run(ctx context.Context, n *node, conn *pgconn.PgConn) error {
	if s.sql == "" || s.done.Load() {
		return nil
	}
	err := conn.Exec(ctx, s.sql).Close()
	if err == nil {
		s.done.Store(true)
	}
	if refused(err) {
		return fmt.Errorf("%s: %s: %w", n.name, s.sql, err)
	}
	return nil // the next look tries again
}

// watch reports how the node stands until ctx is done.
func (n *node) watch(ctx context.Context, begun *setup, events chan<- event) error {
	var conn *pgconn.PgConn
	defer func() { hangUp(conn) }()
	for {
		look, cancel := context.WithTimeout(ctx, lookWait)
		if conn == nil {
			conn = n.call(look)
		}
		var now status
		if conn != nil {
			var err error
			if now, err = ask(look, conn); err != nil {
				hangUp(conn)
				conn, now = nil, status{}
			}
		}
		if now.role == "leader" {
			if err := begun.run(look, n, conn); err != nil {
				cancel()
				return err
			}
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		events <- event{kind: looked, node: n, status: now, at: time.Now()}
		select {
		case <-time.After(lookPace):
		case <-ctx.Done():
			return nil
		}
	}
}

// refused tells an error that will come again from that of a node that is about to stop or start, or does not lead any more.
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && !strings.HasPrefix(e.Code, "57") && e.Code != "25006"
}

// call connects to the node, or gives nil. It prefers the database that people leave alone: its
// session keeps the one that it is in from being dropped.
func (n *node) call(ctx context.Context) *pgconn.PgConn {
	for _, database := range []string{"postgres", "skein"} {
		if conn, err := pgconn.Connect(ctx, n.probeURL(database)); err == nil {
			return conn
		}
	}
	return nil
}

func (n *node) probeURL(database string) string {
	return "postgres://skein@" + n.address + "/" + database + "?sslmode=disable&application_name=skein+demo"
}

// hangUp takes its leave for a moment at most: the node may be gone.
func hangUp(conn *pgconn.PgConn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookPace)
	defer cancel()
	_ = conn.Close(ctx)
}

var errNoStatus = errors.New("the node does not say how it stands")

func ask(ctx context.Context, conn *pgconn.PgConn) (status, error) {
	results, err := conn.Exec(ctx, lookQuery).ReadAll()
	if err != nil {
		return status{}, err
	}
	if len(results) != 2 || len(results[0].Rows) != 1 {
		return status{}, errNoStatus
	}
	row := texts(results[0].Rows[0])
	s := status{answers: true, role: row[0], epoch: row[1], mode: row[2], problem: row[3], upstream: row[4], followers: map[string]follower{}}
	for _, r := range results[1].Rows {
		row := texts(r)
		f := follower{connected: row[1] == "t", state: row[2], sync: row[3], reason: row[4]}
		f.lagBytes, _ = strconv.ParseInt(row[5], 10, 64)
		ms, _ := strconv.ParseFloat(row[6], 64)
		f.lag = time.Duration(ms * float64(time.Millisecond))
		f.copied = percent(row[7], row[8])
		s.followers[row[0]] = f
	}
	return s, nil
}

func texts(row [][]byte) []string {
	out := make([]string, len(row))
	for i, v := range row {
		out[i] = string(v)
	}
	return out
}

// percent is 0 for a part of nothing.
func percent(done, total string) int {
	d, _ := strconv.ParseInt(done, 10, 64)
	t, _ := strconv.ParseInt(total, 10, 64)
	if t <= 0 {
		return 0
	}
	return int(min(d, t) * 100 / t)
}

// summary puts what all nodes say in one line. Lags and progress are coarse, so that the line changes
// only when a person would want to know.
func summary(names []string, all map[string]status) string {
	var parts []string
	var view map[string]follower // the leader's
	for _, name := range names {
		if s := all[name]; s.role == "leader" {
			view = s.followers
			parts = append(parts, fmt.Sprintf("%s leads (epoch %s, %s)%s", name, s.epoch, s.mode, trouble(s)))
		}
	}
	if view == nil {
		parts = append(parts, "no leader")
	}
	for _, name := range names {
		switch s := all[name]; {
		case s.role == "leader":
		case view == nil && s.answers:
			parts = append(parts, name+" serves reads") // its trouble is that there is no leader
		case view == nil:
			parts = append(parts, name+" does not answer")
		default:
			f, known := view[name]
			parts = append(parts, name+" "+s.as(f, known)+trouble(s))
		}
	}
	return strings.Join(parts, " · ")
}

// as says how a follower stands, as the leader sees it.
func (s status) as(f follower, known bool) string {
	switch {
	case known && f.connected && f.state == "backup":
		return fmt.Sprintf("takes a copy, %d %%", f.copied/20*20)
	case !s.answers && !f.connected:
		return "does not answer"
	case !f.connected:
		return "is not connected"
	}
	text := "in step"
	if f.state == "startup" || f.state == "catchup" {
		text = "catching up"
	}
	if behind := f.behind(); behind != "" {
		if text == "in step" {
			text = "follows"
		}
		text += ", " + behind
	}
	if f.sync != "" && f.sync != "async" {
		text += ", " + f.sync
	}
	if !s.answers {
		text += ", but does not answer"
	}
	return text
}

// behind is empty for a follower that lags less than the smallest of these steps.
func (f follower) behind() string {
	var parts []string
	for _, step := range []struct {
		bytes int64
		name  string
	}{{1e12, "1 TB"}, {100e9, "100 GB"}, {10e9, "10 GB"}, {1e9, "1 GB"}, {100e6, "100 MB"}, {10e6, "10 MB"}, {1e6, "1 MB"}} {
		if f.lagBytes >= step.bytes {
			parts = append(parts, "over "+step.name)
			break
		}
	}
	for _, step := range []struct {
		lag  time.Duration
		name string
	}{{time.Hour, "1 h"}, {10 * time.Minute, "10 min"}, {time.Minute, "1 min"}, {10 * time.Second, "10 s"}, {time.Second, "1 s"}} {
		if f.lag >= step.lag {
			parts = append(parts, "over "+step.name)
			break
		}
	}
	if len(parts) == 0 {
		return ""
	}
	text := strings.Join(parts, " and ") + " behind"
	if f.reason != "" {
		text += " (" + f.reason + ")"
	}
	return text
}

func trouble(s status) string {
	if s.problem == "" {
		return ""
	}
	return ", but: " + s.problem
}
