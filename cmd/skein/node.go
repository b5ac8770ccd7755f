package main

import (
	"context"
	"log/slog"
	"os"
	"runtime"

	"skein/internal/node"
)

// runNode serves until ctx is done.
func runNode(ctx context.Context, c *serveCommand, logger *slog.Logger) error {
	if os.Getenv("GOMAXPROCS") == "" {
		// The flusher is in fdatasync most of the time, and the runtime takes a while to notice that its
		// processor is free for others. On two cores one more is worth a factor of three in updates.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	n, err := node.Open(node.Options{
		Dir: c.Dir, PGAddr: c.PGAddr, Trust: c.TrustLoopback, MaxConnections: c.MaxConnections, Logger: logger,
	})
	if err != nil {
		return err
	}
	logger.Info("ready for PostgreSQL clients", "address", n.PGAddr().String())
	return n.Run(ctx)
}
