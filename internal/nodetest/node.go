package nodetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/child"
	// Not used here: with it `go test` runs tests again when the server changes.
	_ "skein/internal/node"
)

const (
	// patience is how long a condition may take to come true. Nothing takes this long.
	patience  = 60 * time.Second
	firstPoll = 2 * time.Millisecond
	lastPoll  = 50 * time.Millisecond
)

// ErrEndedStarting is of a node that was gone before it let clients in.
var ErrEndedStarting = errors.New("the node ended while starting")

var binary string // skein with failpoints

// Main is for TestMain: it builds skein with failpoints, runs the tests, and gives the exit status. With
// NODETEST_BINARY it takes that instead, which may be built with the race detector.
func Main(m *testing.M) int {
	if binary = os.Getenv("NODETEST_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "nodetest")
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

// Binary is the skein that Main has built.
func Binary() string { return binary }

// Options of a Node. Only Dir is required.
type Options struct {
	Dir         string
	Address     string // for clients; a new one
	PeerAddress string // for other nodes; none
	Follow      string // peer address of the node to copy from; none: it leads
	Name        string
	Faults      string // content of SKEIN_FAULT, see package fault
	Args        []string
	Env         []string
	Binary      string   // given by Build; what Main has built
	Within      []string // a command that becomes the one behind it, such as ip netns exec
}

// small makes log segments, checkpoints and memory small, so that rolls, checkpoints and spills are frequent.
var small = []string{"--log-segment-bytes", "1048576", "--checkpoint-log-bytes", "300000", "--max-version-bytes", "1000000"}

// Node is a running `skein serve`.
type Node struct {
	Options
	Process *os.Process
	Ended   chan struct{} // closed when the process is gone

	log   output
	state error // how it ended
}

// output gathers what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

// Launch starts a node and does not wait for it. It is killed when the test ends.
func Launch(t testing.TB, o Options) *Node {
	t.Helper()
	if o.Address == "" {
		o.Address = Address()
	}
	args := append([]string{"serve", "--dir", o.Dir, "--pg-addr", o.Address}, small...)
	if strings.HasPrefix(o.Address, "127.") {
		args = append(args, "--trust-loopback")
	}
	for _, flag := range []struct{ name, value string }{{"--name", o.Name}, {"--peer-addr", o.PeerAddress}, {"--follow", o.Follow}} {
		if flag.value != "" {
			args = append(args, flag.name, flag.value)
		}
	}
	return launch(t, o, append(args, o.Args...))
}

// Router gives a running `skein router`, with which clients can connect, in front of nodes whose peer addresses are given.
func Router(t testing.TB, cluster []string, args ...string) *Node {
	t.Helper()
	address := Address()
	n := launch(t, Options{Address: address}, append([]string{"router", "--cluster", strings.Join(cluster, ","), "--pg-addr", address}, args...))
	Await(t, "the router lets clients in", func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, n.Log())
		}
		return conn.Close()
	})
	return n
}

func launch(t testing.TB, o Options, args []string) *Node {
	t.Helper()
	args = slices.Concat(o.Within, []string{cmp.Or(o.Binary, binary)}, args)
	command := exec.Command(args[0], args[1:]...)
	command.Env = append(append(os.Environ(), "SKEIN_FAULT="+o.Faults), o.Env...)
	command.SysProcAttr = child.Attributes()
	n := &Node{Options: o, Ended: make(chan struct{})}
	command.Stdout, command.Stderr = &n.log, &n.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	n.Process = command.Process
	go func() {
		n.state = command.Wait()
		close(n.Ended)
	}()
	t.Cleanup(n.Kill)
	return n
}

// Start gives a node that lets clients in, or the error ErrEndedStarting.
func Start(t testing.TB, o Options) (*Node, error) {
	t.Helper()
	n := Launch(t, o)
	return n, n.AwaitServing(t)
}

// MustStart starts a node without faults: whatever happened before, that must need no help.
func MustStart(t testing.TB, dir string) *Node {
	t.Helper()
	n, err := Start(t, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// AwaitServing waits until clients get in; the only error is ErrEndedStarting.
func (n *Node) AwaitServing(t testing.TB) error {
	t.Helper()
	var ended error
	Await(t, "the node serves", func() error {
		conn, err := pgconn.Connect(context.Background(), n.URL("skein"))
		if err == nil {
			return conn.Close(context.Background())
		}
		select {
		case <-n.Ended:
			ended = fmt.Errorf("%w (%w):\n%s", ErrEndedStarting, n.state, n.Log())
			return nil
		default:
			return fmt.Errorf("%w\n%s", err, n.Log())
		}
	})
	return ended
}

// Await polls until is gives nil, and fails the test with its last error when that never happens.
func Await(t testing.TB, what string, is func() error) {
	t.Helper()
	pause := firstPoll
	for deadline := time.Now().Add(patience); ; pause = min(2*pause, lastPoll) {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(pause)
	}
}

// URL is where a client finds a database of this node.
func (n *Node) URL(database string) string {
	return "postgres://skein@" + n.Address + "/" + database
}

// Log is what the process has written so far.
func (n *Node) Log() string {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return n.log.b.String()
}

// State is how the process ended, once Ended is closed.
func (n *Node) State() error { return n.state }

// Kill ends the process without a word to it. It may be gone already.
func (n *Node) Kill() {
	_ = n.Process.Kill()
	<-n.Ended
}

// AwaitEnd waits until the node has ended by itself, and gives how.
func (n *Node) AwaitEnd(t testing.TB) error {
	t.Helper()
	select {
	case <-n.Ended:
	case <-time.After(patience):
		t.Fatalf("the node does not end:\n%s", n.Log())
	}
	return n.state
}

// Stop ends the node in order.
func (n *Node) Stop(t testing.TB) {
	t.Helper()
	if err := n.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if n.AwaitEnd(t) != nil {
		t.Fatalf("the node did not stop in order: %v\n%s", n.state, n.Log())
	}
}

var ports atomic.Int32

// Address is one on this machine that nothing listens on. It stays free until its user listens there, for
// every test process has an IP address of its own where the system knows all of 127.0.0.0/8.
func Address() string {
	pid := os.Getpid()
	host := fmt.Sprintf("127.%d.%d.%d", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff)
	for range 100 {
		address := net.JoinHostPort(host, strconv.Itoa(10000+int(ports.Add(1))))
		l, err := net.Listen("tcp", address)
		if err == nil && l.Close() == nil {
			return address
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
