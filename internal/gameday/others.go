package gameday

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"skein/internal/rest"
)

// Commands is a cluster that somebody else runs. Each command is a shell's, which finds the node in $GAMEDAY_NODE and
// $GAMEDAY_ADDRESS.
type Commands struct {
	Nodes                 []string // addresses
	KillWith, StartWith   string   // an empty StartWith: somebody starts dead nodes by himself
	PauseWith, ResumeWith string
}

// Addresses are those of the nodes' SQL ports.
func (c *Commands) Addresses() []string { return c.Nodes }

// Kill ends a node's process.
func (c *Commands) Kill(ctx context.Context, n Node) error {
	return shell(ctx, "--kill", c.KillWith, n)
}

// Start begins another one.
func (c *Commands) Start(ctx context.Context, n Node) error {
	if c.StartWith == "" {
		return nil
	}
	return shell(ctx, "--start", c.StartWith, n)
}

// Pause stops a process where it is.
func (c *Commands) Pause(ctx context.Context, n Node) error {
	return shell(ctx, "--pause", c.PauseWith, n)
}

// Resume lets it go on.
func (c *Commands) Resume(ctx context.Context, n Node) error {
	return shell(ctx, "--resume", c.ResumeWith, n)
}

func shell(ctx context.Context, flag, command string, n Node) error {
	if command == "" {
		return fmt.Errorf("a cluster that somebody else runs needs %s COMMAND, which is given the node in $GAMEDAY_NODE and $GAMEDAY_ADDRESS", flag)
	}
	run := exec.CommandContext(ctx, "sh", "-c", command)
	run.Env = append(os.Environ(), "GAMEDAY_NODE="+n.Name, "GAMEDAY_ADDRESS="+n.Address)
	if out, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", flag, command, err, bytes.TrimSpace(out))
	}
	return nil
}

// Demo is the cluster of a `skein demo --dir` on this machine, which starts dead nodes by itself. Its processes are
// found by their command lines.
type Demo struct {
	dir   string
	nodes []served
}

// served is a process of `skein serve`.
type served struct {
	Node
	pid int
}

// NewDemo finds the nodes of the demo that has its data in dir.
func NewDemo(dir string) (*Demo, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	d := &Demo{dir: dir}
	if d.nodes, err = d.find(); err == nil && len(d.nodes) == 0 {
		err = fmt.Errorf("no process of a demo has its data in %s: start one with skein demo --dir %[1]s", dir)
	}
	return d, err
}

// find lists the nodes' processes, in order of their names.
func (d *Demo) find() ([]served, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, errors.New("processes can be found by their command lines on Linux only; give --kill and --start")
	}
	var found []served
	for _, line := range lines {
		content, err := os.ReadFile(line)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var args []string
		for _, a := range bytes.Split(bytes.TrimRight(content, "\x00"), []byte{0}) {
			args = append(args, string(a))
		}
		dir := after(args, "--dir")
		if len(args) < 2 || args[1] != "serve" || filepath.Dir(dir) != d.dir {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line)))
		if err != nil {
			return nil, err
		}
		found = append(found, served{Node{after(args, "--name"), after(args, "--pg-addr")}, pid})
	}
	slices.SortFunc(found, func(a, b served) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return found, nil
}

// after is the argument that follows a flag.
func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// Addresses are those of the nodes' SQL ports.
func (d *Demo) Addresses() []string {
	var all []string
	for _, n := range d.nodes {
		all = append(all, n.Address)
	}
	return all
}

// Kill ends a node's process without a word to it.
func (d *Demo) Kill(ctx context.Context, n Node) error {
	pid, err := d.signal(n, syscall.SIGKILL)
	for err == nil && ctx.Err() == nil && syscall.Kill(pid, 0) == nil {
		if now, found := d.pid(n); found == nil && now != pid || found != nil {
			break // it waits for the demo to notice
		}
		_ = rest.For(ctx, pollPace)
	}
	return err
}

// Start waits until the demo has started the node again.
func (d *Demo) Start(ctx context.Context, n Node) error {
	for {
		_, err := d.pid(n)
		if err == nil || ctx.Err() != nil {
			return err
		}
		_ = rest.For(ctx, pollPace)
	}
}

// Pause stops a process where it is.
func (d *Demo) Pause(_ context.Context, n Node) error {
	_, err := d.signal(n, syscall.SIGSTOP)
	return err
}

// Resume lets it go on.
func (d *Demo) Resume(_ context.Context, n Node) error {
	_, err := d.signal(n, syscall.SIGCONT)
	return err
}

func (d *Demo) signal(n Node, s syscall.Signal) (pid int, err error) {
	if pid, err = d.pid(n); err != nil {
		return 0, err
	}
	return pid, syscall.Kill(pid, s)
}

// pid is that of a node's present process.
func (d *Demo) pid(n Node) (int, error) {
	all, err := d.find()
	if err != nil {
		return 0, err
	}
	for _, one := range all {
		if one.Node == n {
			return one.pid, nil
		}
	}
	return 0, fmt.Errorf("%s has no process", n.Name)
}
