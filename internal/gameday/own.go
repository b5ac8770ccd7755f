package gameday

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"skein/internal/child"
	"skein/internal/rest"
)

// stopWait is how long all nodes together may take to stop before they are killed.
const stopWait = 15 * time.Second

// Own is a cluster of processes of this one, on this machine.
type Own struct {
	executable string
	nodes      []*process
}

// process is a node of an Own, through all of its processes.
type process struct {
	Node
	args []string
	log  string

	running *os.Process
	ended   chan struct{} // closed when the newest process is gone
}

// NewOwn starts so many nodes in dir, with a log each, and has commits wait for the followers that names says; "" is none.
func NewOwn(ctx context.Context, executable, dir string, nodes int, names string) (*Own, error) {
	o := &Own{executable: executable}
	var peers []string
	for i := range nodes {
		sql, peer, err := freeAddresses()
		if err != nil {
			return nil, err
		}
		name := "node" + strconv.Itoa(i+1)
		p := &process{Node: Node{name, sql}, log: filepath.Join(dir, name+".log")}
		p.args = []string{"serve", "--dir", filepath.Join(dir, name), "--name", name, "--pg-addr", sql, "--peer-addr", peer, "--trust-loopback"}
		if i == 0 {
			p.args = append(p.args, "--bootstrap")
		}
		for _, other := range peers {
			p.args = append(p.args, "--join", other)
		}
		peers = append(peers, peer)
		o.nodes = append(o.nodes, p)
	}
	for _, p := range o.nodes {
		if err := o.start(p); err != nil {
			o.Close()
			return nil, err
		}
	}
	if err := o.configure(ctx, names); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func freeAddresses() (sql, peer string, err error) {
	var all [2]string
	for i := range all {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer func() { _ = l.Close() }() // only when both are known, so that they differ
		all[i] = l.Addr().String()
	}
	return all[0], all[1], nil
}

// configure waits until the first node takes writes, and all others are there.
func (o *Own) configure(ctx context.Context, names string) error {
	ctx, cancel := context.WithTimeout(ctx, wholeWait)
	defer cancel()
	for {
		err := o.setUp(ctx, names)
		if err == nil {
			return nil
		}
		for _, p := range o.nodes {
			select {
			case <-p.ended:
				log, _ := os.ReadFile(p.log)
				return fmt.Errorf("%s does not stay up:\n%s", p.Name, log[max(0, len(log)-2000):])
			default:
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the cluster does not begin: %w", err)
		}
		_ = rest.For(ctx, pollPace)
	}
}

func (o *Own) setUp(ctx context.Context, names string) error {
	n, err := ask(ctx, o.nodes[0].Address, len(o.nodes)-1)
	if err != nil {
		return err
	}
	if names == "" || n.mode != "asynchronous" {
		return nil
	}
	conn, err := pgx.Connect(ctx, "postgres://skein@"+n.Address+"/skein")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err = conn.Exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'"); err != nil {
		return err
	}
	return fmt.Errorf("commits do not wait for %s yet", names)
}

// Addresses are those of the nodes' SQL ports.
func (o *Own) Addresses() []string {
	var all []string
	for _, p := range o.nodes {
		all = append(all, p.Address)
	}
	return all
}

func (o *Own) process(n Node) *process {
	return o.nodes[slices.IndexFunc(o.nodes, func(p *process) bool { return p.Node == n })]
}

// start keeps the thread on which the process is started; see child.Attributes.
func (o *Own) start(p *process) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	command := exec.Command(o.executable, p.args...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = child.Attributes()
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		defer func() { _ = log.Close() }()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.running, p.ended = command.Process, ended
	return nil
}

// Kill ends a node's process without a word to it.
func (o *Own) Kill(_ context.Context, n Node) error {
	p := o.process(n)
	if err := p.running.Kill(); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// Start begins another process of a node.
func (o *Own) Start(_ context.Context, n Node) error { return o.start(o.process(n)) }

// Pause stops a process where it is.
func (o *Own) Pause(_ context.Context, n Node) error {
	return o.process(n).running.Signal(syscall.SIGSTOP)
}

// Resume lets it go on.
func (o *Own) Resume(_ context.Context, n Node) error {
	return o.process(n).running.Signal(syscall.SIGCONT)
}

// Close stops all nodes in order.
func (o *Own) Close() {
	signal := func(s syscall.Signal) {
		for _, p := range o.nodes {
			if p.running != nil {
				_ = p.running.Signal(s)
			}
		}
	}
	signal(syscall.SIGCONT)
	signal(syscall.SIGTERM)
	late := time.AfterFunc(stopWait, func() { signal(syscall.SIGKILL) })
	defer late.Stop()
	for _, p := range o.nodes {
		if p.running != nil {
			<-p.ended
		}
	}
}
