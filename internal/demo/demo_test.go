package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
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

var readyLine = readyLineOf("node1", "leader")

func readyLineOf(name, role string) *regexp.Regexp {
	return regexp.MustCompile(`^` + name + ` ready  postgres://skein@(\S+)/skein  process (\d+)  ` + role + `  `)
}

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
	o := options(freePort(t), t.TempDir(), nil)
	d := start(t, o)
	d.drain()
	err := <-d.ended
	if err == nil || !strings.Contains(err.Error(), "newer format") {
		t.Errorf("error %v does not say what the node said", err)
	}
	if n := starts(t, o.Dir, "node1"); n != 1 {
		t.Errorf("started %d times, though nothing had changed", n)
	}
}

func TestNodeThatIsKilledWhileStartingIsStartedAgain(t *testing.T) {
	t.Setenv("FAKE_NODE_DIES_ONCE", "1")
	o := options(freePort(t), t.TempDir(), nil)
	d := start(t, o)
	d.await(regexp.MustCompile(`^node1 died .*: signal: killed`))
	d.awaitReady()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}

// kill kills a node's process. The next one serves only when back is called, however long what is told meanwhile takes.
func kill(t *testing.T, dir string, pid int) (back func()) {
	t.Helper()
	if err := os.WriteFile(heldBack(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(heldBack(dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// starts counts how often a node's process was started.
func starts(t *testing.T, dir, name string) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), "--pg-addr")
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

func TestFollowersAreStartedAndWatched(t *testing.T) {
	o := threeOptions(t)
	d := start(t, o)
	pids := d.awaitAll("node1", "node2", "node3")
	d.await(regexp.MustCompile(`^cluster      node1 leads \(epoch 1, asynchronous\) · node2 in step · node3 in step$`))

	back := kill(t, filepath.Join(o.Dir, "node2"), pids["node2"])
	d.await(regexp.MustCompile(`^node2 died .* starting it again in 2 seconds`))
	d.await(regexp.MustCompile(`^cluster      node1 leads .* · node2 does not answer · node3 in step$`))
	back()
	if _, again := d.awaitLine(readyLineOf("node2", "follower")); again == pids["node2"] {
		t.Errorf("process %d again", again)
	}
	d.await(regexp.MustCompile(`^cluster      node1 leads .* · node2 in step · node3 in step$`))

	back = kill(t, filepath.Join(o.Dir, "node1"), pids["node1"])
	d.await(regexp.MustCompile(`^cluster      no leader · node1 does not answer · node2 serves reads · node3 serves reads$`))
	back()
	d.awaitLine(readyLine)
	d.await(regexp.MustCompile(`^cluster      node1 leads .* · node2 in step · node3 in step$`))
	if err := d.stop(); err != nil {
		t.Error(err)
	}

	for name, joins := range map[string]string{"node1": "", "node2": local(o.PeerPort), "node3": local(o.PeerPort)} {
		log, err := os.ReadFile(filepath.Join(o.Dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		flags := strings.Fields(strings.SplitN(string(log), "\n", 2)[0])
		if got := flagOf(flags, "--join"); got != joins || slices.Contains(flags, "--bootstrap") != (joins == "") {
			t.Errorf("%s is started with %v, joins %q, want %q", name, flags, got, joins)
		}
	}
}

func TestSynchronousDemoConfiguresTheLeader(t *testing.T) {
	o := threeOptions(t)
	o.Sync = true
	d := start(t, o)
	d.awaitAll("node1", "node2", "node3")
	d.await(regexp.MustCompile(`^cluster      node1 leads \(epoch 1, synchronous: ANY 1 \(\*\)\) · node2 in step, quorum · `))
	if err := d.stop(); err != nil {
		t.Error(err)
	}

	d = start(t, o) // somebody may have set something else meanwhile
	d.awaitAll("node1", "node2", "node3")
	d.await(regexp.MustCompile(`^cluster      node1 leads `))
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	setting, err := os.ReadFile(filepath.Join(o.Dir, "setting"))
	if err != nil || string(setting) != syncSetup {
		t.Errorf("the leader was told %q, %v", setting, err)
	}
}

func TestHintsNameEveryHostAndTheLeader(t *testing.T) {
	for _, test := range []struct {
		name  string
		port  int
		nodes int
		want  []string
	}{
		{"where programs look by themselves", 5432, 3, []string{
			"\n  psql 'postgres://skein@127.0.0.1:5432,127.0.0.1:5433,127.0.0.1:5434/skein?target_session_attrs=read-write'\n", "\n  skein sql\n",
			"\n  skein status --watch\n", "\n  kill -9 101\n", "\n  skein switchover\n",
		}},
		{"elsewhere", 6432, 2, []string{
			"\n  skein status --watch --url 'postgres://skein@127.0.0.1:6432,127.0.0.1:6433/skein?target_session_attrs=read-write'\n",
			"\n  skein sql 'postgres://skein@127.0.0.1:6432,", "\n  kill -9 101\n",
		}},
		{"alone", 6432, 1, []string{"\n  psql postgres://skein@127.0.0.1:6432/skein\n", "\n  kill -9 100\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := &strings.Builder{}
			nodes := cluster(Options{Nodes: test.nodes, PGPort: test.port, PeerPort: 7432}, "/dir")
			a := newAnnouncer(Options{Out: out, Executable: "skein"}, nodes, "/dir")
			if test.nodes > 1 {
				a.statuses["node2"] = status{role: "leader"}
			}
			for i, n := range nodes {
				a.print(event{kind: ready, node: n, pid: 100 + i, status: status{role: "x"}})
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

func TestSettingThatIsRefusedEndsTheDemo(t *testing.T) {
	t.Setenv("FAKE_NODE_REFUSES", "ALTER SYSTEM")
	o := threeOptions(t)
	o.Sync = true
	d := start(t, o)
	d.drain()
	if err := <-d.ended; err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("error %v does not say what the node said", err)
	}
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
		{"far too many nodes", func(o *Options) { o.Nodes = 100 }, "at most"},
		{"port between nodes taken", func(o *Options) { o.PeerPort = takenPort }, "choose another with --peer-port"},
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
		Nodes: 1, Dir: dir, PGPort: port, HTTPPort: 8432, PeerPort: port + 3, Executable: os.Args[0], Out: out,
	}
}

// threeOptions are those of three nodes with free ports.
func threeOptions(t *testing.T) Options {
	o := options(freePort(t), t.TempDir(), nil)
	o.Nodes = 3
	return o
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
	return d.awaitLine(readyLine)
}

// awaitAll waits until every node is ready, in whatever order, and gives their processes.
func (d *running) awaitAll(names ...string) map[string]int {
	d.t.Helper()
	pids := map[string]int{}
	for len(pids) < len(names) {
		match := d.await(regexp.MustCompile(`^(node\d) ready  \S+  process (\d+)  `))
		pids[match[1]], _ = strconv.Atoi(match[2])
	}
	return pids
}

func (d *running) awaitLine(line *regexp.Regexp) (address string, pid int) {
	d.t.Helper()
	match := d.await(line)
	pid, err := strconv.Atoi(match[2])
	if err != nil {
		d.t.Fatal(err)
	}
	return match[1], pid
}

// freePort gives the first of six free ports in a row: three nodes' for SQL, three between them.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		first := 15000 + rand.IntN(15000) // below those that connections are given by the system
		free := true
		for i := range 6 {
			free = free && checkFree("", first+i) == nil
		}
		if free {
			return first
		}
	}
}
