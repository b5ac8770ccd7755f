package main

import (
	"context"

	"skein/internal/console"
)

type configCommand struct {
	Show showConfigCommand `cmd:"" help:"Show the settings of the cluster, or with --node those of one node."`
	Set  setConfigCommand  `cmd:"" help:"Change a setting of the cluster, or with --node one of one node."`
}

type showConfigCommand struct {
	clusterFlags
	Node string `env:"-" placeholder:"NODE" help:"Show its attributes: priority, never_leader, hidden, delay."`
	JSON bool   `env:"-" name:"json" help:"For programs."`
}

func (c *showConfigCommand) Run(ctx context.Context) error {
	return console.ShowConfig(ctx, c.options(c.JSON), c.Node)
}

type setConfigCommand struct {
	clusterFlags
	Node  string `env:"-" placeholder:"NODE" help:"Change one of its attributes instead: priority, never_leader, hidden."`
	Name  string `arg:"" help:"Such as failover_timeout or synchronous_standby_names."`
	Value string `arg:"" help:"As in ALTER SYSTEM SET; default is what a new cluster has."`
}

func (c *setConfigCommand) Run(ctx context.Context) error {
	return console.SetConfig(ctx, c.options(false), c.Name, c.Value, c.Node)
}
