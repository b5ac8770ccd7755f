package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"skein/internal/gateway"
	"skein/internal/pool"
)

type routerCommand struct {
	Cluster           []string      `required:"" placeholder:"ADDRESS" help:"Peer addresses of nodes of the cluster, such as a:7432,b:7432. The others are found through these."`
	PGAddr            string        `name:"pg-addr" default:"127.0.0.1:5432" help:"Where PostgreSQL clients connect."`
	ClusterSecretFile string        `name:"secret-file" aliases:"cluster-secret-file" type:"existingfile" placeholder:"FILE" help:"File with the secret that all nodes of the cluster share. Without one only nodes of this machine are spoken with."`
	TrustLoopback     bool          `help:"Let every client on this machine in without a password, as any role."`
	MaxConnections    int           `default:"1000" help:"Sessions at a time."`
	MaxNodeSessions   int           `default:"0" help:"Sessions of this router that read on one node; 0 is any number."`
	MaxLeaderReads    int           `default:"16" help:"Reads that the leader is given at a time while no follower can be read; others wait."`
	MaxLag            time.Duration `default:"10s" help:"A follower that lags more gets no reads until it has come to half of that; 0 is any lag."`
	Prefer            string        `default:"least-load" enum:"least-load,least-lag" help:"Which follower a session reads on: least-load or least-lag."`
	LogLevel          slog.Level    `default:"info" help:"debug, info, warn or error."`
	LogFormat         string        `default:"text" enum:"text,json" help:"text or json."`
}

// Validate keeps a slip of the pen from opening a cluster to the network without passwords.
func (c *routerCommand) Validate() error {
	host, _, err := net.SplitHostPort(c.PGAddr)
	if err != nil {
		return fmt.Errorf("--pg-addr: %w", err)
	}
	if c.TrustLoopback && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("--trust-loopback needs a --pg-addr such as 127.0.0.1:5432, not %s", c.PGAddr)
	}
	for _, address := range c.Cluster {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("--cluster: %w", err)
		}
	}
	return nil
}

func (c *routerCommand) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once

	secret, err := readSecret(c.ClusterSecretFile)
	if err != nil {
		return err
	}
	logger := newLogger(c.LogLevel, c.LogFormat)
	g, err := gateway.Open(gateway.Options{
		Cluster: c.Cluster, PGAddr: c.PGAddr, Secret: secret, Trust: c.TrustLoopback, MaxConnections: c.MaxConnections,
		NodeSessions: c.MaxNodeSessions, LeaderReads: c.MaxLeaderReads, MaxLag: c.MaxLag, Prefer: pool.Preference(c.Prefer), Logger: logger,
	})
	if err != nil {
		return err
	}
	logger.Info("ready for PostgreSQL clients", "address", g.PGAddr().String())
	return g.Run(ctx)
}
