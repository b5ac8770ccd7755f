package main

import (
	"context"

	"skein/internal/console"
)

type historyCommand struct {
	clusterFlags
	JSON bool `env:"-" name:"json" help:"For programs."`
}

func (c *historyCommand) Run(ctx context.Context) error {
	return console.History(ctx, c.options(c.JSON))
}
