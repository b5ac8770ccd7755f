package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// skein is one node, built from the source that the command is run in.
type skein struct {
	dir     string
	binary  string
	data    string
	leader  *skein // whom this one follows; nil: it leads
	node    string // the name that the leader knows a follower by
	at      address
	peer    address // where nodes connect
	process *process

	appointed bool // its cluster appoints its leader, at first the one without leader
	router    bool // it is a process without data, in front of the leader's cluster
}

func newSkein(dir string) *skein {
	return &skein{dir: dir, binary: filepath.Join(dir, "skein"), data: filepath.Join(dir, "skein-data")}
}

func (s *skein) follower(name string) server {
	return &skein{dir: s.dir, binary: s.binary, data: filepath.Join(s.dir, "skein-"+name), leader: s, node: name, appointed: s.appointed}
}

func (s *skein) name() string     { return "Skein" }
func (s *skein) address() address { return s.at }
func (s *skein) pid() int         { return s.process.command.Process.Pid }

func (s *skein) create(ctx context.Context) error {
	if s.leader == nil {
		build := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "skein/cmd/skein")
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, output)
		}
	}
	var err error
	if s.at.port, err = freePort(); err != nil {
		return err
	}
	s.peer.port, err = freePort()
	return err
}

func (s *skein) start(ctx context.Context, maxSessions int) error {
	args := []string{
		"serve", "--dir", s.data, "--pg-addr", s.at.String(), "--peer-addr", s.peer.String(),
		"--trust-loopback", "--max-connections", strconv.Itoa(maxSessions),
	}
	switch {
	case s.router:
		args = []string{"router", "--cluster", s.leader.peer.String(), "--pg-addr", s.at.String(), "--trust-loopback", "--max-connections", strconv.Itoa(maxSessions)}
	case s.leader != nil && s.appointed:
		args = append(args, "--name", s.node, "--join", s.leader.peer.String())
	case s.leader != nil:
		args = append(args, "--name", s.node, "--follow", s.leader.peer.String())
	case s.appointed:
		args = append(args, "--name", "n1", "--bootstrap")
	}
	var err error
	s.process, err = startProcess(ctx, exec.Command(s.binary, args...), s.data+".log", s.at)
	return err
}

func (s *skein) stop() error {
	running := s.process
	s.process = nil
	return running.stop(syscall.SIGTERM)
}

func (s *skein) remove() error { return os.RemoveAll(s.data) }

func (s *skein) logMeter(ctx context.Context) (meter, error) {
	before, err := s.logBytes(ctx)
	if err != nil {
		return nil, err
	}
	return func() (int64, error) {
		after, err := s.logBytes(ctx)
		return after - before, err
	}, nil
}

// logBytes is what the node has appended since it started. Its files tell nothing: segments have their
// full size from the beginning.
func (s *skein) logBytes(ctx context.Context) (int64, error) {
	bytes, err := query(ctx, s, "SELECT wal_bytes FROM pg_stat_wal")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(bytes, 10, 64)
}
