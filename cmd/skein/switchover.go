package main

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"skein/internal/console"
)

type switchoverCommand struct {
	clusterFlags
	To     string `env:"-" placeholder:"NODE" help:"Who is to lead. Without it: whoever fits best."`
	At     string `env:"-" placeholder:"TIME" help:"Not now but at 22:30, at \"2006-01-02 22:30\", or in +90m."`
	Cancel bool   `env:"-" help:"Give up the one that was asked for."`
}

func (c *switchoverCommand) Validate() error {
	if c.Cancel && (c.To != "" || c.At != "") {
		return errors.New("--cancel stands alone")
	}
	return nil
}

func (c *switchoverCommand) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	if c.Cancel {
		return console.CancelSwitchover(ctx, c.options(false))
	}
	return console.Switchover(ctx, c.options(false), c.To, c.At)
}
