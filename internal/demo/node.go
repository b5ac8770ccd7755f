package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"skein/internal/child"
)

const (
	// stopWait is how long a node may take to stop before it is killed.
	stopWait = 30 * time.Second
	// A node that ends by itself `hasty` times in a row, each time within `short` of its start, is not started again.
	hasty = 5
	short = 5 * time.Second
	// restartPause leaves time to see how the others do without the node, and keeps one that cannot
	// start from taking the whole machine.
	restartPause = 2 * time.Second
	// connectPace and connectWait are for asking a starting node whether it serves yet.
	connectPace = 20 * time.Millisecond
	connectWait = 2 * time.Second
	// roleWait is how long a node that serves may take to learn whether it leads or whom it follows.
	roleWait = 5 * time.Second
	// logTail is how much of a node's log an error shows.
	logTail = 2000
)

// node is one child process, started as often as it dies.
type node struct {
	name       string
	dir        string
	address    string // of its PostgreSQL port
	peer       string // where other nodes connect
	joins      string // peer address of a node of the cluster; "" begins one
	executable string
	served     bool // has accepted a connection since the demo began
	failures   int  // in a row: it ended by itself soon after its start
}

func (n *node) url() string { return "postgres://skein@" + n.address + "/skein" }

func (n *node) logPath() string { return n.dir + ".log" }

type kind int

const (
	ready  kind = iota // accepts connections
	died               // and is about to be started again
	looked             // has been asked how it stands
)

// event is something that a person at the demo's terminal wants to know.
type event struct {
	kind   kind
	node   *node
	pid    int
	took   time.Duration // ready: since the process was started
	reason string        // died
	status status        // looked; of ready only the role
	at     time.Time     // looked
}

// run keeps the node's process alive until ctx is done. The error says why it gave up: a node that
// never served is not tried again, because the reason is most likely one that a person must mend.
//
// The goroutine keeps its thread because the kernel sends the signal of child.Attributes when the
// thread that started the child ends, not the process (golang.org/issue/27505).
func (n *node) run(ctx context.Context, events chan<- event) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	for {
		started := time.Now()
		pid, end, err := n.runOnce(ctx, events)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: start its process: %w", n.name, err)
		}
		if n.lost(end, time.Since(started)) {
			return fmt.Errorf("%s does not stay up (%s); the end of %s:\n%s", n.name, end, n.logPath(), tail(n.logPath()))
		}
		events <- event{kind: died, node: n, pid: pid, reason: end.String()}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// lost says whether to give a node up that has ended. Who kills one may do so as often as he likes.
func (n *node) lost(end *os.ProcessState, lived time.Duration) bool {
	switch {
	case killed(end):
		return false
	case !n.served:
		return true
	case lived > short:
		n.failures = 0
	}
	n.failures++
	return n.failures == hasty
}

// killed tells a process that somebody killed from one that gave up.
func killed(end *os.ProcessState) bool {
	status, ok := end.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// runOnce starts the process, reports when it serves, and waits for its end. When ctx is done the
// process is asked to stop, and killed if it does not.
func (n *node) runOnce(ctx context.Context, events chan<- event) (pid int, end *os.ProcessState, err error) {
	log, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = log.Close() }()

	started := time.Now()
	process := exec.CommandContext(ctx, n.executable, n.arguments()...)
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = child.Attributes()
	process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
	process.WaitDelay = stopWait
	if err := process.Start(); err != nil {
		return 0, nil, err
	}
	pid = process.Process.Pid

	alive, dead := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() {
		if role, ok := n.awaitService(alive); ok {
			n.served = true
			events <- event{kind: ready, node: n, pid: pid, took: time.Since(started), status: status{role: role}}
		}
	})
	_ = process.Wait() // what matters of the error is in the state
	dead()
	probe.Wait()
	return pid, process.ProcessState, nil
}

// arguments are those of `skein serve`.
func (n *node) arguments() []string {
	args := []string{"serve", "--dir", n.dir, "--name", n.name, "--pg-addr", n.address, "--peer-addr", n.peer, "--trust-loopback"}
	if n.joins == "" {
		return append(args, "--bootstrap")
	}
	return append(args, "--join", n.joins)
}

// awaitService connects as a client until that works, so a node that still recovers, or has no copy of
// the data yet, is not called ready. One that serves has a moment more to learn whether it leads. It gives false when
// alive is done first.
func (n *node) awaitService(alive context.Context) (role string, ok bool) {
	var served time.Time
	for {
		now, ok := n.serves(alive)
		if ok && served.IsZero() {
			served = time.Now()
		}
		if ok && (now.role == "leader" || now.upstream != "" || time.Since(served) > roleWait) {
			return now.role, true
		}
		select {
		case <-time.After(connectPace):
		case <-alive.Done():
			return "", false
		}
	}
}

func (n *node) serves(alive context.Context) (now status, ok bool) {
	ctx, cancel := context.WithTimeout(alive, connectWait)
	defer cancel()
	conn := n.call(ctx)
	if conn == nil {
		return status{}, false
	}
	defer hangUp(conn)
	now, err := ask(ctx, conn)
	return now, err == nil
}

// tail gives the end of a file, or what kept it from being read.
func tail(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content[max(0, len(content)-logTail):]))
}
