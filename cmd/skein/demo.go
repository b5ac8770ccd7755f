package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"skein/internal/demo"
)

type demoCommand struct {
	Nodes    int    `default:"3" help:"How many nodes. The first begins the cluster, the others join it."`
	Sync     bool   `default:"true" negatable:"" help:"Commits wait until a follower has them on disk: then none is lost when the leader is. It is for a new cluster; ALTER SYSTEM changes it later."`
	Dir      string `type:"path" help:"Where the data goes and stays. Without it: a temporary directory, deleted at the end."`
	PGPort   int    `name:"pg-port" default:"5432" help:"Port for SQL of the first node; the next ones count up."`
	HTTPPort int    `name:"http-port" default:"8432" help:"Port for HTTP of the first node; nothing listens there in this version."`
	PeerPort int    `name:"peer-port" default:"7432" help:"Port between nodes of the first node; the next ones count up."`
}

func (c *demoCommand) Run(ctx context.Context) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the demo at once

	return demo.Run(ctx, demo.Options{
		Nodes:      c.Nodes,
		Sync:       c.Sync,
		Dir:        c.Dir,
		PGPort:     c.PGPort,
		HTTPPort:   c.HTTPPort,
		PeerPort:   c.PeerPort,
		Executable: executable,
		Out:        os.Stdout,
	})
}
