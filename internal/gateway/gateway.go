// Package gateway is a router as a process of its own: one address in front of a cluster, with no data. It lets clients in whom
// the cluster's roles let in, and has package router run their statements, writes at the leader and reads on the nodes
// that its pool chooses.
//
// Run owns every goroutine. Nothing survives the process but what the cluster has.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"skein/internal/engine"
	"skein/internal/pgwire"
	"skein/internal/pool"
	"skein/internal/replication"
	"skein/internal/replog"
	"skein/internal/router"
	"skein/internal/sqlstate"
)

// Options of a Gateway. Only Cluster is required.
type Options struct {
	Cluster        []string // peer addresses of some of its nodes
	PGAddr         string   // where clients connect; 127.0.0.1:5432
	Listener       net.Listener
	Secret         []byte // the cluster's
	Trust          bool   // every client is who it says it is
	MaxConnections int    // sessions at a time; 1000
	NodeSessions   int    // sessions that read on one node; 0: any number
	LeaderReads    int    // reads that the leader takes at a time while no other node can be read; 16
	MaxLag         time.Duration
	Prefer         pool.Preference
	Logger         *slog.Logger
}

// Gateway is one that listens.
type Gateway struct {
	options  Options
	listener net.Listener
	name     string

	pool   *pool.Pool
	router *router.Router

	mu      sync.Mutex
	cluster replog.Cluster
}

// Open listens. Clients that connect wait for Run.
func Open(o Options) (*Gateway, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.PGAddr == "" {
		o.PGAddr = "127.0.0.1:5432"
	}
	if len(o.Cluster) == 0 {
		return nil, errors.New("no node of the cluster is named")
	}
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", o.PGAddr); err != nil {
			return nil, err
		}
	}
	g := &Gateway{options: o, listener: l, name: "router-" + hostname()}
	g.pool = pool.New(pool.Options{
		Addresses: o.Cluster, Rule: pool.Rule{Prefer: o.Prefer, MaxLag: o.MaxLag, Places: o.NodeSessions}, Leading: o.LeaderReads,
		Dial: g.dial, Logger: o.Logger,
	})
	g.router = router.New(router.Options{Cluster: leaders{g.pool}, Pool: g.pool, Logger: o.Logger})
	return g, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// PGAddr is where clients connect.
func (g *Gateway) PGAddr() net.Addr { return g.listener.Addr() }

// Run serves until ctx is done.
func (g *Gateway) Run(ctx context.Context) error {
	server := pgwire.NewServer(handler{g.router, g.pool, g.options.Logger}, pgwire.Options{
		MaxConnections: g.options.MaxConnections, Trust: g.options.Trust, Trusts: g.trusts, Ready: g.ready, Logger: g.options.Logger,
	})
	g.router.Enter(engine.Hollow(g.options.Logger))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.pool.Run(ctx) })
	group.Go(func() error { return g.router.Run(ctx) })
	group.Go(func() error { return server.Serve(ctx, g.listener) })
	return group.Wait()
}

// trusts lets in without a password whom every node of the cluster would: somebody of this machine, on which all of them run,
// while no role has one.
func (g *Gateway) trusts(remote net.Addr) bool {
	a, ok := remote.(*net.TCPAddr)
	return ok && a.IP.IsLoopback() && g.pool.Open()
}

// dial opens a connection to a node. The first one tells which cluster this is; from then on no other is spoken with.
func (g *Gateway) dial(ctx context.Context, address string, why replication.Purpose) (net.Conn, replication.Identity, error) {
	l := replication.Link{Identity: replication.Identity{Node: g.id(), Name: g.name}, Secret: g.options.Secret, Logger: g.options.Logger}
	g.mu.Lock()
	l.Cluster = g.cluster
	g.mu.Unlock()
	if l.Cluster == (replog.Cluster{}) {
		who, err := l.Identify(ctx, address)
		if err != nil {
			return nil, who, err
		}
		if l.Cluster, err = g.join(who.Cluster); err != nil {
			return nil, who, fmt.Errorf("%s: %w", address, err)
		}
	}
	return l.Open(ctx, address, why)
}

var errNewNode = errors.New("the node belongs to no cluster yet")

// join notes the cluster, and gives the one that was there first.
func (g *Gateway) join(c replog.Cluster) (replog.Cluster, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c == (replog.Cluster{}) {
		return c, errNewNode
	}
	if g.cluster == (replog.Cluster{}) {
		g.cluster = c
	}
	return g.cluster, nil
}

// id is of this process alone.
func (g *Gateway) id() string { return processID }

var processID = func() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}()

// leaders is the pool as a router sees it.
type leaders struct{ *pool.Pool }

func (l leaders) Leader() (router.Leader, bool) {
	now, ok := l.Pool.Leader()
	return router.Leader{Name: now.Name, Address: now.Address, Epoch: now.Epoch}, ok
}

func (l leaders) Dial(ctx context.Context, to router.Leader) (net.Conn, error) {
	return l.Pool.Dial(ctx, to.Address)
}

// handler checks passwords with what the cluster knows of them.
type handler struct {
	*router.Router
	pool   *pool.Pool
	logger *slog.Logger
}

// loginTime is how long a node is waited for that can check a password.
const loginTime = 5 * time.Second

// Verifier asks the cluster.
func (h handler) Verifier(role string) (string, bool) {
	c := h.credentials(role)
	return c.Verifier, c.Known
}

// MockSecret asks the cluster.
func (h handler) MockSecret() []byte { return h.credentials("").Mock }

func (h handler) credentials(role string) pool.Credentials {
	ctx, stop := context.WithTimeout(context.Background(), loginTime)
	defer stop()
	c, err := h.pool.Credentials(ctx, role)
	if err != nil {
		h.logger.Warn("a password cannot be checked", "role", role, "error", err)
	}
	return c
}

var errNobody = sqlstate.New(sqlstate.CannotConnectNow, "no node of the cluster answers").
	WithHint("Try again in a moment.")

// ready waits for a node that can check a password.
func (g *Gateway) ready(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, loginTime)
	defer stop()
	if g.pool.Await(ctx) != nil {
		return errNobody
	}
	return nil
}
