package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"

	"skein/internal/node"
)

// minSecret keeps an empty file, or a short word, from being taken for a secret.
const minSecret = 16

// runNode serves until ctx is done.
func runNode(ctx context.Context, c *serveCommand, logger *slog.Logger) error {
	secret, err := readSecret(c.ClusterSecretFile)
	if err != nil {
		return err
	}
	n, err := node.Open(node.Options{
		Dir: c.Dir, Name: c.Name, PGAddr: c.PGAddr, Trust: c.TrustLoopback, MaxConnections: c.MaxConnections, Logger: logger,
		PeerAddr: c.PeerAddr, Advertise: c.AdvertisePeerAddr, Follow: c.Follow, ApplyDelay: c.MinApplyDelay, Secret: secret,
		Bootstrap: c.Bootstrap, Join: c.Join, Witness: c.Witness, Moved: c.Moved, AdvertisePG: c.AdvertisePGAddr,
		CheckpointLogBytes: c.CheckpointLogBytes, SegmentBytes: c.LogSegmentBytes, MaxVersionBytes: c.MaxVersionBytes,
		TempBytes: c.MaxTempBytes,
		Copying:   newBar(os.Stderr),
	})
	if err != nil {
		return err
	}
	logger.Info("ready for PostgreSQL clients", "address", n.PGAddr().String())
	return n.Run(ctx)
}

func readSecret(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if secret = bytes.TrimSpace(secret); len(secret) < minSecret {
		return nil, fmt.Errorf("%s: a cluster secret has at least %d characters; make one with: head -c 32 /dev/urandom | base64", file, minSecret)
	}
	return secret, nil
}
