package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"skein/internal/gameday"
)

type gamedayCommand struct {
	Rounds  int             `default:"50" help:"Rounds of each fault."`
	Faults  []gameday.Fault `default:"kill" enum:"kill,pause,switchover" help:"What happens to the leader: ${enum}; several take turns."`
	Clients int             `default:"4" help:"Clients that write all the time."`
	Level   string          `name:"synchronous-commit" help:"Level at which the clients commit; without it the cluster's."`
	JSON    bool            `name:"json" help:"Print the report as JSON."`

	Nodes int    `default:"3" help:"How many nodes a cluster of its own has."`
	Names string `name:"synchronous-standby-names" default:"ANY 1 (*)" help:"Followers that commits wait for in a cluster of its own; an empty text is for asynchronous replication."`

	Demo string   `type:"existingdir" placeholder:"DIR" help:"Play with the running demo whose data are in this directory."`
	Host []string `name:"node" placeholder:"ADDRESS" help:"Play with the cluster that these are all nodes of. Needs the commands below."`

	Kill   string `placeholder:"COMMAND" help:"Ends the node $$GAMEDAY_NODE at $$GAMEDAY_ADDRESS like kill -9."`
	Start  string `placeholder:"COMMAND" help:"Starts it again; without this it is expected to be started by others."`
	Pause  string `placeholder:"COMMAND" help:"Stops it as SIGSTOP does."`
	Resume string `placeholder:"COMMAND" help:"Lets it go on."`
}

// errBroken is of a cluster that has not kept its word; the report says how.
var errBroken = errors.New("the cluster has not kept its word")

func (c *gamedayCommand) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	cluster, end, err := c.cluster(ctx)
	if err != nil {
		return err
	}
	defer end()
	rounds := io.Writer(os.Stdout)
	if c.JSON {
		rounds = os.Stderr
	}
	fmt.Fprintf(rounds, "%d rounds of %v with %d clients\n", c.Rounds, c.Faults, c.Clients)
	report, err := gameday.Run(ctx, gameday.Options{
		Cluster: cluster, Faults: c.Faults, Rounds: c.Rounds, Clients: c.Clients, Level: c.Level, Out: rounds,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		err = report.JSON(os.Stdout)
	} else {
		report.Text(os.Stdout)
	}
	if err == nil && !report.Kept() {
		err = errBroken
	}
	return err
}

// cluster gives the one to play with, and what to call when the game is over.
func (c *gamedayCommand) cluster(ctx context.Context) (gameday.Cluster, func(), error) {
	switch {
	case c.Demo != "" && len(c.Host) > 0:
		return nil, nil, errors.New("--demo and --node are two clusters: give one of them")
	case c.Demo != "":
		demo, err := gameday.NewDemo(c.Demo)
		return demo, func() {}, err
	case len(c.Host) > 0:
		return &gameday.Commands{Nodes: c.Host, KillWith: c.Kill, StartWith: c.Start, PauseWith: c.Pause, ResumeWith: c.Resume}, func() {}, nil
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "skein-gameday-")
	if err != nil {
		return nil, nil, err
	}
	own, err := gameday.NewOwn(ctx, executable, dir, c.Nodes, c.Names)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, nil, err
	}
	return own, func() { own.Close(); _ = os.RemoveAll(dir) }, nil
}
