package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"skein/internal/console"
)

// clusterFlags say which cluster a command is about.
type clusterFlags struct {
	URL string `name:"url" placeholder:"URL" help:"Any node of the cluster, as for psql; several hosts may be named. Without it: PGHOST, PGPORT, …, else the nodes of the demo."`
}

func (f clusterFlags) options(json bool) console.Options {
	return console.Options{
		ConnString: f.URL, In: os.Stdin, Out: os.Stdout, JSON: json,
		Terminal: !json && os.Getenv("NO_COLOR") == "" && isTerminal(os.Stdin) && isTerminal(os.Stdout),
	}
}

type statusCommand struct {
	clusterFlags
	Watch bool `env:"-" short:"w" help:"Show it again and again, until Ctrl-C."`
	JSON  bool `env:"-" name:"json" help:"For programs; with --watch one line for each change."`
}

func (c *statusCommand) Run(ctx context.Context) error {
	if !c.Watch {
		return console.Status(ctx, c.options(c.JSON))
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return console.Watch(ctx, c.options(c.JSON))
}
