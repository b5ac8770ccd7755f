package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestMain lets the test binary stand in for the skein program: the demo starts it again as a node,
// and one test starts it as a demo.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "serve":
		os.Exit(fakeNode(os.Args[2:]))
	case len(os.Args) > 2 && os.Args[1] == "demo":
		port, _ := strconv.Atoi(os.Args[2])
		fmt.Println(Run(context.Background(), options(port, os.Args[3], os.Stdout)))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var readyLine = regexp.MustCompile(`^node1 ready  postgres://skein@(\S+)/skein  process (\d+) `)

func TestKilledNodeIsStartedAgain(t *testing.T) {
	dir := t.TempDir()
	d := start(t, options(freePort(t), dir, nil))
	_, first := d.awaitReady()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.await(regexp.MustCompile(fmt.Sprintf(`^node1 died   process %d: signal: killed`, first)))
	address, second := d.awaitReady()
	if first == second {
		t.Errorf("process %d again", second)
	}

	if err := d.stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the node still listens")
	}
	if _, err := os.Stat(filepath.Join(dir, "node1.log")); err != nil {
		t.Errorf("a directory that the user named is not kept: %v", err)
	}
}

func TestTemporaryDirectoryIsRemoved(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	d := start(t, options(freePort(t), "", nil))
	d.awaitReady()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestNodeThatCannotStartEndsTheDemo(t *testing.T) {
	t.Setenv("FAKE_NODE_COMPLAINT", "this directory is of a newer format")
	d := start(t, options(freePort(t), t.TempDir(), nil))
	d.drain()
	err := <-d.ended
	if err == nil || !strings.Contains(err.Error(), "newer format") {
		t.Errorf("error %v does not say what the node said", err)
	}
}

func TestNodesDieWithADemoThatIsKilled(t *testing.T) {
	port := freePort(t)
	demo := exec.Command(os.Args[0], "demo", strconv.Itoa(port), t.TempDir())
	stdout, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	d := &running{t: t, lines: bufio.NewScanner(stdout)}
	address, _ := d.awaitReady()

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := demo.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Read(make([]byte, 1)) // returns when the node's end is gone; the test's time limit catches a node that lives on
	_ = demo.Wait()
}

func TestBadOptionsAreRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	takenPort := taken.Addr().(*net.TCPAddr).Port

	for _, test := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no nodes", func(o *Options) { o.Nodes = 0 }, "--nodes"},
		{"replication is not there yet", func(o *Options) { o.Nodes = 3 }, "replication"},
		{"port taken", func(o *Options) { o.PGPort = takenPort }, fmt.Sprintf("port %d is in use by another program; choose another with --pg-port", takenPort)},
		{"port out of range", func(o *Options) { o.PGPort = 65536 }, "--pg-port"},
		{"other port out of range", func(o *Options) { o.PeerPort = 0 }, "--peer-port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := options(freePort(t), t.TempDir(), io.Discard)
			test.change(&o)
			if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func options(port int, dir string, out io.Writer) Options {
	return Options{
		Nodes: 1, Dir: dir, PGPort: port, HTTPPort: 8432, PeerPort: 7432, Executable: os.Args[0], Out: out,
	}
}

// running is a demo whose output the test reads.
type running struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	o.Out = writer
	d := &running{t: t, lines: bufio.NewScanner(reader), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		d.ended <- Run(ctx, o)
		_ = writer.Close()
	}()
	return d
}

func (d *running) stop() error {
	d.cancel()
	d.drain()
	return <-d.ended
}

// drain reads the rest of the output, so that the demo is never kept from printing.
func (d *running) drain() {
	for d.lines.Scan() {
		d.t.Log(d.lines.Text())
	}
}

func (d *running) await(line *regexp.Regexp) []string {
	d.t.Helper()
	for d.lines.Scan() {
		d.t.Log(d.lines.Text())
		if match := line.FindStringSubmatch(d.lines.Text()); match != nil {
			return match
		}
	}
	d.t.Fatalf("the demo ended before it printed %s", line)
	return nil
}

func (d *running) awaitReady() (address string, pid int) {
	d.t.Helper()
	match := d.await(readyLine)
	pid, err := strconv.Atoi(match[2])
	if err != nil {
		d.t.Fatal(err)
	}
	return match[1], pid
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// fakeNode listens where it is told, lets clients in, and stops in order at SIGTERM.
func fakeNode(args []string) int {
	if complaint := os.Getenv("FAKE_NODE_COMPLAINT"); complaint != "" {
		fmt.Fprintln(os.Stderr, complaint)
		return 1
	}
	var address string
	for i, arg := range args {
		if arg == "--pg-addr" {
			address = args[i+1]
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for {
		conn, err := listener.Accept()
		if err != nil {
			return 0
		}
		go letIn(conn)
	}
}

func letIn(conn net.Conn) {
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = backend.Flush()
	_, _ = backend.Receive()
	_ = conn.Close()
}
