package clients_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	// Not used here: with it `go test` runs these tests again when the server changes.
	_ "skein/internal/node"
)

const (
	startWait = time.Minute
	startPace = 20 * time.Millisecond
)

// node is a running `skein serve`.
type node struct {
	url     string
	command *exec.Cmd
	log     bytes.Buffer // complete once ended has been received from
	ended   chan error
}

// startNode starts a node on a free port and returns once it lets clients in.
func startNode(dir string, args ...string) (*node, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	n := &node{
		url:     "postgres://skein@" + address + "/skein",
		command: exec.Command(binary, append([]string{"serve", "--dir", dir, "--pg-addr", address, "--trust-loopback"}, args...)...),
		ended:   make(chan error, 1),
	}
	n.command.Stdout, n.command.Stderr = &n.log, &n.log
	if err := n.command.Start(); err != nil {
		return nil, err
	}
	go func() { n.ended <- n.command.Wait() }()

	for deadline := time.Now().Add(startWait); ; {
		conn, err := pgconn.Connect(context.Background(), n.url)
		if err == nil {
			return n, conn.Close(context.Background())
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("the node does not serve: %w", err), n.end(syscall.SIGKILL))
		}
		select {
		case <-n.ended:
			return nil, fmt.Errorf("the node ended while starting:\n%s", n.log.String())
		case <-time.After(startPace):
		}
	}
}

// end sends the signal and waits. A node that is asked to stop must do so in order.
func (n *node) end(signal syscall.Signal) error {
	if err := n.command.Process.Signal(signal); err != nil {
		return err
	}
	err := <-n.ended
	if signal == syscall.SIGKILL || err == nil {
		return nil
	}
	return fmt.Errorf("the node did not stop in order: %w\n%s", err, n.log.String())
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}
