package main

import (
	"context"
	"fmt"
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
	at      address
	process *process
}

func newSkein(dir string) *skein {
	return &skein{dir: dir, binary: filepath.Join(dir, "skein"), data: filepath.Join(dir, "skein-data")}
}

func (s *skein) name() string     { return "Skein" }
func (s *skein) address() address { return s.at }
func (s *skein) pid() int         { return s.process.command.Process.Pid }

func (s *skein) create(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "skein/cmd/skein")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	var err error
	s.at.port, err = freePort()
	return err
}

func (s *skein) start(ctx context.Context, maxSessions int) error {
	command := exec.Command(s.binary, "serve",
		"--dir", s.data, "--pg-addr", "127.0.0.1:"+strconv.Itoa(s.at.port), "--trust-loopback",
		"--max-connections", strconv.Itoa(maxSessions))
	var err error
	s.process, err = startProcess(ctx, command, filepath.Join(s.dir, "skein.log"), s.at)
	return err
}

func (s *skein) stop() error {
	running := s.process
	s.process = nil
	return running.stop(syscall.SIGTERM)
}

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
