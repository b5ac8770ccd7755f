package main

import (
	"context"

	"skein/internal/console"
)

type membersCommand struct {
	clusterFlags
	JSON bool `env:"-" name:"json" help:"For programs."`
}

func (c *membersCommand) Run(ctx context.Context) error {
	return console.Members(ctx, c.options(c.JSON))
}

type removeCommand struct {
	clusterFlags
	Node string `arg:"" help:"Name of the node, which may be dead. Its directory stays as it is."`
}

func (c *removeCommand) Run(ctx context.Context) error {
	return console.Remove(ctx, c.options(false), c.Node)
}
