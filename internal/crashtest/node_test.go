package crashtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	// Not used here: with it `go test` runs these tests again when the server changes.
	_ "skein/internal/node"
)

const (
	startWait = 30 * time.Second
	startPace = 5 * time.Millisecond
)

var binary string // skein with failpoints

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "crashtest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "skein")
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", binary, "skein/cmd/skein")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build skein: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

var errEndedStarting = errors.New("the node ended while starting")

// node is a running `skein serve`. Its log segments, checkpoints and memory are small, so that rolls,
// checkpoints and spills are frequent.
type node struct {
	address string
	process *os.Process
	log     bytes.Buffer  // complete once ended is closed
	ended   chan struct{} // closed when the process is gone
	state   error         // how it ended
}

// start gives a node that lets clients in; it fails where SKEIN_FAULT has the given content.
func start(t *testing.T, dir, faults string) (*node, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "serve", "--dir", dir, "--pg-addr", address, "--trust-loopback",
		"--log-segment-bytes", "1048576", "--checkpoint-log-bytes", "300000", "--max-version-bytes", "1000000")
	command.Env = append(os.Environ(), "SKEIN_FAULT="+faults)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n := &node{address: address, ended: make(chan struct{})}
	command.Stdout, command.Stderr = &n.log, &n.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	n.process = command.Process
	go func() {
		n.state = command.Wait()
		close(n.ended)
	}()
	t.Cleanup(n.kill)
	for deadline := time.Now().Add(startWait); ; {
		conn, err := pgconn.Connect(context.Background(), n.url("skein"))
		if err == nil {
			return n, conn.Close(context.Background())
		}
		if time.Now().After(deadline) {
			n.kill()
			t.Fatalf("the node does not serve: %v\n%s", err, n.log.String())
		}
		select {
		case <-n.ended:
			return n, fmt.Errorf("%w (%w):\n%s", errEndedStarting, n.state, n.log.String())
		case <-time.After(startPace):
		}
	}
}

// mustStart starts a node without faults: whatever happened before, that must need no help.
func mustStart(t *testing.T, dir string) *node {
	t.Helper()
	n, err := start(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) url(database string) string {
	return "postgres://skein@" + n.address + "/" + database
}

func (n *node) kill() {
	_ = n.process.Kill()
	<-n.ended
}

// stop ends the node in order.
func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-n.ended
	if n.state != nil {
		t.Fatalf("the node did not stop in order: %v\n%s", n.state, n.log.String())
	}
}
