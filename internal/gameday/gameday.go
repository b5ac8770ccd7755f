// Package gameday breaks a running cluster on purpose, round after round, while clients write to it, and measures
// what they notice: how long nothing is acknowledged, what fails, and whether anything acknowledged is lost.
//
// A cluster is its nodes' addresses and somebody who has power over their processes: an own cluster, that of a demo on this
// machine, or any other by commands that an operator gives. Run is called once and does one round after the other.
package gameday

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"skein/internal/claims"
	"skein/internal/rest"
)

// Fault is what happens in a round.
type Fault string

// The faults.
const (
	Kill       Fault = "kill"       // kill -9 of the leader, which is started again
	Pause      Fault = "pause"      // SIGSTOP of the leader until another one leads
	Switchover Fault = "switchover" // an orderly change of leader
)

const (
	warmUp      = 300 * time.Millisecond // of a round, at least; and up to as much more
	startPause  = time.Second            // a dead node stays dead for so long
	wholeWait   = 2 * time.Minute
	takeOver    = time.Minute
	aftermath   = 300 * time.Millisecond // after a switchover that still belongs to it
	askWait     = 2 * time.Second
	pollPace    = 10 * time.Millisecond
	leaderQuery = "SELECT node, role, epoch, mode FROM skein_status"
)

// Options of Run.
type Options struct {
	Cluster Cluster
	Faults  []Fault // of rounds, in turn
	Rounds  int     // of each
	Clients int
	Level   string    // at which clients commit; "" is the cluster's
	Out     io.Writer // a line for every round
}

// Cluster is what a game day is played with.
type Cluster interface {
	// Addresses are those of the nodes' SQL ports.
	Addresses() []string
	// Kill ends a node's process without a word to it; Start begins another one, if nobody else does.
	Kill(ctx context.Context, n Node) error
	Start(ctx context.Context, n Node) error
	// Pause stops a process where it is, and Resume lets it go on.
	Pause(ctx context.Context, n Node) error
	Resume(ctx context.Context, n Node) error
}

// Node is one of a cluster's.
type Node struct{ Name, Address string }

// game is one Run.
type game struct {
	Options
	writers *claims.Writers
	table   string
	mode    string // of acknowledging, as the leader calls it at the beginning

	reported int // lost entries, before the first round
}

// Run plays the rounds and tells what it has seen. The error says why it could not go on; what a cluster did wrong is in the Report.
func Run(ctx context.Context, o Options) (*Report, error) {
	g := &game{Options: o, table: fmt.Sprintf("gameday_%d", time.Now().Unix())}
	leader, err := g.whole(ctx)
	if err != nil {
		return nil, err
	}
	g.mode = leader.mode
	options := claims.Options{URL: claims.To(claims.URL("skein", o.Cluster.Addresses()...)), Clients: o.Clients, Level: o.Level, Table: g.table}
	if g.writers, err = claims.Start(ctx, options); err != nil {
		return nil, err
	}
	defer g.writers.Stop()
	if g.reported, err = g.reports(ctx); err != nil {
		return nil, err
	}
	r := &Report{
		Nodes: len(o.Cluster.Addresses()), Clients: o.Clients, Level: o.Level, Mode: g.mode,
		Lossless: o.Level != "local" && o.Level != "off" && g.mode != "asynchronous",
	}
	for i := range o.Rounds {
		for _, f := range o.Faults {
			round, err := g.play(ctx, f)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", i+1, f, err)
			}
			r.Rounds = append(r.Rounds, round)
			fmt.Fprintf(o.Out, "%3d  %s\n", i+1, round)
		}
	}
	return r, g.judge(ctx, r)
}

func (g *game) play(ctx context.Context, f Fault) (Round, error) {
	leader, err := g.whole(ctx)
	if err != nil {
		return Round{}, err
	}
	if _, err := g.writers.AwaitFrom(ctx, g.writers.Since()); err != nil {
		return Round{}, err
	}
	_ = rest.For(ctx, warmUp+rand.N(warmUp))
	r := Round{Fault: f, Leader: leader.Name}
	r.at = g.writers.Since()
	switch f {
	case Kill:
		err = g.kill(ctx, leader, &r)
	case Pause:
		err = g.pause(ctx, leader, &r)
	case Switchover:
		err = g.switchover(ctx, leader, &r)
	}
	r.Failed, r.Codes = failures(g.writers.Writes(), r.at)
	return r, err
}

// kill measures from when the process is gone; the one that takes its place is started a moment after another node leads.
func (g *game) kill(ctx context.Context, leader node, r *Round) error {
	if err := g.Cluster.Kill(ctx, leader.Node); err != nil {
		return err
	}
	if err := g.takenOver(ctx, r, g.writers.Since()); err != nil {
		return err
	}
	_ = rest.For(ctx, startPause)
	began := time.Now()
	if err := g.Cluster.Start(ctx, leader.Node); err != nil {
		return err
	}
	if _, err := g.whole(ctx); err != nil {
		return err
	}
	r.Rejoin = milliseconds(time.Since(began))
	return nil
}

func (g *game) pause(ctx context.Context, leader node, r *Round) error {
	if err := g.Cluster.Pause(ctx, leader.Node); err != nil {
		return err
	}
	err := g.takenOver(ctx, r, g.writers.Since())
	if err == nil {
		_ = rest.For(ctx, startPause)
	}
	began := time.Now()
	if err := errors.Join(err, g.Cluster.Resume(ctx, leader.Node)); err != nil {
		return err
	}
	if _, err := g.whole(ctx); err != nil {
		return err
	}
	r.Rejoin = milliseconds(time.Since(began))
	return nil
}

// takenOver waits for the first acknowledgement of a write that was sent after since.
func (g *game) takenOver(ctx context.Context, r *Round, since time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, takeOver, fmt.Errorf("nothing was acknowledged for %v", takeOver))
	defer cancel()
	w, err := g.writers.AwaitFrom(ctx, since)
	if err != nil {
		return err
	}
	r.Pause = milliseconds(w.Told - since)
	r.Successor, r.Epoch = w.Leader.Address, w.Leader.Epoch
	return nil
}

func (g *game) switchover(ctx context.Context, leader node, r *Round) error {
	from := g.writers.Since()
	asking, cancel := context.WithTimeout(ctx, takeOver)
	defer cancel()
	conn, err := pgx.Connect(asking, claims.URL("skein", leader.Address))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(asking, "SELECT skein_switchover()"); err != nil {
		r.Said = err.Error() // the session may end with the leadership that it was part of
	}
	now, err := g.whole(asking)
	for err == nil && now.Name == leader.Name && asking.Err() == nil { // the leader answers before its leadership ends
		_ = rest.For(asking, pollPace)
		now, err = g.whole(asking)
	}
	if err != nil {
		return fmt.Errorf("%s was to hand over: %s %w", leader.Name, r.Said, err)
	}
	r.Successor, r.Epoch = now.Address, now.epoch
	if _, err := g.writers.AwaitFrom(asking, g.writers.Since()); err != nil {
		return err
	}
	_ = rest.For(ctx, aftermath)
	_, pause := claims.LongestPause(g.writers.Writes(), from, g.writers.Since())
	r.Pause = milliseconds(pause)
	return nil
}

// reports is how many lost entries the cluster's history tells of.
func (g *game) reports(ctx context.Context) (int, error) {
	conn, err := claims.Connect(ctx, claims.Options{URL: claims.To(claims.URL("skein", g.Cluster.Addresses()...))})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	return claims.Reported(ctx, conn)
}

// judge reads what is there in the end.
func (g *game) judge(ctx context.Context, r *Report) error {
	g.writers.Stop()
	if _, err := g.whole(ctx); err != nil {
		return err
	}
	conn, err := claims.Connect(ctx, claims.Options{URL: claims.To(claims.URL("skein", g.Cluster.Addresses()...))})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	have, err := claims.Read(ctx, conn, g.table)
	if err != nil {
		return err
	}
	reported, err := claims.Reported(ctx, conn)
	if err != nil {
		return err
	}
	writes := g.writers.Writes()
	v := claims.Hold(writes, have)
	r.Acknowledged, r.Unknown, r.Arrived, r.Lost = v.Acknowledged, v.Unknown, v.Arrived, len(v.Lost)
	r.Problems = append(v.Problems(r.Lossless), claims.Leaders(writes)...)
	if r.Reported = reported - g.reported; !r.Lossless {
		r.Problems = append(r.Problems, v.Counted(r.Reported)...)
	}
	r.summarize()
	_, err = conn.Exec(ctx, "DROP TABLE "+g.table)
	return err
}

// node is one as it describes itself.
type node struct {
	Node
	role  string
	epoch uint64
	mode  string
}

// whole waits until one node leads and all others stream from it, and gives the leader.
func (g *game) whole(ctx context.Context) (node, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeWait)
	defer cancel()
	for {
		leader, err := g.look(ctx)
		if err == nil || ctx.Err() != nil {
			return leader, err
		}
		_ = rest.For(ctx, pollPace)
	}
}

func (g *game) look(ctx context.Context) (node, error) {
	var leader node
	for _, address := range g.Cluster.Addresses() {
		n, err := ask(ctx, address, len(g.Cluster.Addresses())-1)
		switch {
		case err != nil:
			return node{}, fmt.Errorf("%s: %w", address, err)
		case n.role == "leader" && leader.role != "":
			return node{}, fmt.Errorf("%s and %s both lead", leader.Name, n.Name)
		case n.role == "leader":
			leader = n
		}
	}
	if leader.role == "" {
		return node{}, errors.New("nobody leads")
	}
	return leader, nil
}

// ask has a node describe itself. A leader must have so many followers that stream.
func ask(ctx context.Context, address string, followers int) (node, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, "postgres://skein@"+address+"/skein?application_name=gameday")
	if err != nil {
		return node{}, err
	}
	defer func() { _ = conn.Close(ctx) }()
	n := node{Node: Node{Address: address}}
	if err := conn.QueryRow(ctx, leaderQuery).Scan(&n.Name, &n.role, &n.epoch, &n.mode); err != nil || n.role != "leader" {
		return n, err
	}
	var streaming int
	err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").Scan(&streaming)
	if err == nil && streaming != followers {
		err = fmt.Errorf("%d of %d followers stream", streaming, followers)
	}
	return n, err
}
