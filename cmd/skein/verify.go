package main

import (
	"context"
	"os"

	"skein/internal/shell"
)

type verifyCommand struct {
	URL string `name:"url" placeholder:"URL" help:"The node to ask, as for skein sql: the leader, which asks all the others. Without it that of the demo."`
}

func (c *verifyCommand) Run(ctx context.Context) error {
	return shell.Verify(ctx, shell.Options{ConnString: c.URL, Out: os.Stdout, Err: os.Stderr})
}
