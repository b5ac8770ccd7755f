package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

type serveCommand struct {
	Dir                string        `required:"" type:"path" help:"Directory of this node; made when it is missing."`
	PGAddr             string        `name:"pg-addr" default:"127.0.0.1:5432" help:"Where PostgreSQL clients connect. Other addresses than loopback need a role with a password."`
	HTTPAddr           string        `name:"http-addr" placeholder:"ADDRESS" help:"Not used in this version."`
	Name               string        `help:"Name of this node in synchronous_standby_names and in status; made from its id."`
	PeerAddr           string        `name:"peer-addr" placeholder:"ADDRESS" help:"Where other nodes connect, such as 127.0.0.1:7432. Other addresses than loopback need --cluster-secret-file."`
	AdvertisePeerAddr  string        `placeholder:"ADDRESS" help:"Where other nodes find this one, if not at --peer-addr."`
	Bootstrap          bool          `help:"Begin a cluster that appoints its leader by itself, with this node as its first; with --join as well, only if none of those answers. Ignored when the directory is of one already."`
	Join               []string      `placeholder:"ADDRESS" help:"Peer addresses of members of such a cluster, to become one of them. Ignored when the directory is of one already."`
	Witness            bool          `help:"Join as a node that votes on who leads and holds no data."`
	Moved              bool          `help:"Trust a directory that was copied here from another disk: the node had stopped before, and has run nowhere else since. Never for one that was restored from a backup."`
	AdvertisePGAddr    string        `name:"advertise-pg-addr" placeholder:"ADDRESS" help:"Where clients find this node, if not at --pg-addr."`
	Follow             string        `placeholder:"ADDRESS" help:"Peer address of the node to copy from, where leaders are not appointed: the leader, or another follower. Without it, --bootstrap and --join this node leads."`
	MinApplyDelay      time.Duration `help:"Show every transaction so long after its commit, as 1h; this node alone."`
	ClusterSecretFile  string        `type:"existingfile" placeholder:"FILE" help:"File with a secret that all nodes of the cluster share."`
	TrustLoopback      bool          `help:"Let every client on this machine in without a password, as any role. The demo does."`
	MaxConnections     int           `default:"1000" help:"Sessions at a time."`
	CheckpointLogBytes int64         `default:"536870912" help:"Log between two checkpoints: more makes them rarer and a restart after a crash slower."`
	LogSegmentBytes    int64         `default:"67108864" help:"Size of one file of the log; at least 1 MB."`
	MaxVersionBytes    int64         `default:"536870912" help:"Memory for page versions that are not yet checkpointed or that a snapshot still needs."`
	MaxTempBytes       int64         `default:"68719476736" help:"Temporary files of all sessions together: large sorts, temporary tables, what open transactions have changed."`
	LogLevel           slog.Level    `default:"info" help:"debug, info, warn or error."`
	LogFormat          string        `default:"text" enum:"text,json" help:"text or json."`
}

// Validate keeps a slip of the pen from opening a node to the network without passwords.
func (c *serveCommand) Validate() error {
	host, _, err := net.SplitHostPort(c.PGAddr)
	if err != nil {
		return fmt.Errorf("--pg-addr: %w", err)
	}
	if c.TrustLoopback && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("--trust-loopback needs a --pg-addr such as 127.0.0.1:5432, not %s", c.PGAddr)
	}
	return nil
}

func (c *serveCommand) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once

	logger := newLogger(c.LogLevel, c.LogFormat)
	if c.HTTPAddr != "" {
		logger.Warn("nothing listens there in this version", "flag", "--http-addr", "address", c.HTTPAddr)
	}
	oversubscribe()
	return runNode(ctx, c, logger)
}

// beyondProcessors is how many threads more than there are processors may run Go at a time; see decision 21.
const beyondProcessors = 4

// oversubscribe leaves GOMAXPROCS to whoever has set it.
func oversubscribe() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + beyondProcessors)
	}
}

func newLogger(level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
