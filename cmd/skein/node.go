package main

import (
	"context"
	"log/slog"

	"skein/internal/node"
)

// runNode serves until ctx is done.
func runNode(ctx context.Context, c *serveCommand, logger *slog.Logger) error {
	n, err := node.Open(node.Options{
		Dir: c.Dir, PGAddr: c.PGAddr, Trust: c.TrustLoopback, MaxConnections: c.MaxConnections, Logger: logger,
		CheckpointLogBytes: c.CheckpointLogBytes, SegmentBytes: c.LogSegmentBytes, MaxVersionBytes: c.MaxVersionBytes,
	})
	if err != nil {
		return err
	}
	logger.Info("ready for PostgreSQL clients", "address", n.PGAddr().String())
	return n.Run(ctx)
}
