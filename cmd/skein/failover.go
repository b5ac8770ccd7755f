package main

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"skein/internal/console"
)

type failoverCommand struct {
	clusterFlags
	To             string `env:"-" placeholder:"NODE" help:"Who is to lead."`
	AcceptDataLoss bool   `env:"-" help:"Promote it even though acknowledged commits may be lost. What is at stake is shown first, and recorded."`
	DryRun         bool   `env:"-" help:"Change nothing; say who would lead, what would be lost, and why the others would not."`
	Yes            bool   `env:"-" short:"y" help:"Do not ask."`
}

func (c *failoverCommand) Validate() error {
	if c.To == "" && !c.DryRun {
		return errors.New("say who is to lead with --to NODE, or look first with --dry-run")
	}
	return nil
}

func (c *failoverCommand) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	return console.Failover(ctx, c.options(false), console.FailoverOptions{To: c.To, AcceptDataLoss: c.AcceptDataLoss, DryRun: c.DryRun, Yes: c.Yes})
}
