// Package demo runs a whole cluster on this machine: each node is a process of its own, a child of
// the demo, so that it can be killed like a real one. The demo starts a node again when it dies; that
// another one leads meanwhile is the cluster's own doing.
//
// Run is called once, by `skein demo`. It has two goroutines per node: one starts its process, waits for
// it and restarts it, the other asks it by SQL how it stands. Only Run's own goroutine prints, from
// their events.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// maxNodes keeps a slip of the finger from starting hundreds of processes.
const maxNodes = 9

// syncSetup has every commit wait for one follower, whichever is first. A new cluster is told so.
const syncSetup = "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'"

// Options says how many nodes to start and where. Node i listens on each port plus i-1; the first begins the
// cluster, the others join it.
type Options struct {
	Nodes      int
	Sync       bool   // commits wait for a follower
	Dir        string // of the cluster, with one folder per node; "" means a temporary one
	PGPort     int
	HTTPPort   int
	PeerPort   int
	Executable string    // the skein program
	Out        io.Writer // what a person reads
}

// Run starts the nodes, says how to use them, and keeps them running until ctx is done; then it
// stops them and waits for them.
func Run(ctx context.Context, o Options) error {
	if err := check(o); err != nil {
		return err
	}
	dir, remove, err := prepareDir(o.Dir)
	if err != nil {
		return err
	}
	defer remove()

	if startedByGoRun(o.Executable) {
		var stop context.CancelFunc
		ctx, stop = endWithParent(ctx)
		defer stop()
	}
	nodes := cluster(o, dir)
	begun := &setup{}
	if _, err := os.Stat(nodes[0].dir); o.Sync && o.Nodes > 1 && errors.Is(err, fs.ErrNotExist) {
		begun.sql = syncSetup
	}
	return supervise(ctx, nodes, begun, newAnnouncer(o, nodes, dir))
}

// cluster lists the nodes: the first begins it.
func cluster(o Options, dir string) []*node {
	nodes := make([]*node, o.Nodes)
	for i := range nodes {
		name := "node" + strconv.Itoa(i+1)
		nodes[i] = &node{
			name: name, dir: filepath.Join(dir, name), executable: o.Executable,
			address: local(o.PGPort + i), peer: local(o.PeerPort + i),
		}
		if i > 0 {
			nodes[i].joins = nodes[0].peer
		}
	}
	return nodes
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// supervise runs and watches every node, each in goroutines of its own, and prints what happens to them.
// begun is run on the first that leads. When one gives up, all stop.
func supervise(ctx context.Context, nodes []*node, begun *setup, announcer *announcer) error {
	asked := ctx.Done()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	events := make(chan event)
	var running sync.WaitGroup
	for _, n := range nodes {
		running.Go(func() {
			if err := n.run(ctx, events); err != nil {
				stop(err)
			}
		})
		running.Go(func() {
			if err := n.watch(ctx, begun, events); err != nil {
				stop(err)
			}
		})
	}
	go func() { running.Wait(); close(events) }()

	for {
		select {
		case e, open := <-events:
			if !open {
				return gaveUp(ctx)
			}
			announcer.print(e)
		case <-asked:
			asked = nil // said once is enough
			announcer.stopping()
		}
	}
}

// gaveUp is the error of the node that ended the demo, or nil when somebody asked it to stop.
func gaveUp(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// check refuses what cannot work before anything is started.
func check(o Options) error {
	switch {
	case o.Nodes < 1:
		return fmt.Errorf("--nodes %d: a cluster has at least one node", o.Nodes)
	case o.Nodes > maxNodes:
		return fmt.Errorf("--nodes %d: a demo has at most %d nodes", o.Nodes, maxNodes)
	}
	for _, p := range []struct {
		flag string
		port int
	}{{"--pg-port", o.PGPort}, {"--http-port", o.HTTPPort}, {"--peer-port", o.PeerPort}} {
		if p.port < 1 || p.port+o.Nodes-1 > 65535 {
			return fmt.Errorf("%s %d: not a port that can be used", p.flag, p.port)
		}
	}
	for i := range o.Nodes {
		if err := errors.Join(checkFree("--pg-port", o.PGPort+i), checkFree("--peer-port", o.PeerPort+i)); err != nil {
			return err
		}
	}
	return nil
}

// checkFree finds a port that is taken before a node does, to name the flag that helps.
func checkFree(flag string, port int) error {
	listener, err := net.Listen("tcp", local(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d is in use by another program; choose another with %s", port, flag)
	}
	if err != nil {
		return fmt.Errorf("port %d, from %s: %w", port, flag, err)
	}
	return listener.Close()
}

// prepareDir makes the cluster's directory; remove deletes it again if it is a temporary one.
func prepareDir(dir string) (path string, remove func(), err error) {
	if dir != "" {
		path, err = filepath.Abs(dir)
		if err != nil {
			return "", nil, err
		}
		return path, func() {}, os.MkdirAll(path, 0o700)
	}
	path, err = os.MkdirTemp("", "skein-demo-")
	return path, func() { _ = os.RemoveAll(path) }, err
}
