package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// skein is one node, built from the source that the command is run in.
type skein struct {
	dir     string
	binary  string
	data    string
	at      address
	process *process
}

// lookPace is how often the size of Skein's log is read during a run: more often than a segment of
// 64 MB can be filled and trimmed.
const lookPace = 200 * time.Millisecond

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
	g, err := newGrowth(filepath.Join(s.data, "log"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-time.After(lookPace):
				_ = g.look() // the last look tells
			case <-ctx.Done():
			}
		}
	})
	return func() (int64, error) {
		cancel()
		looking.Wait()
		err := g.look()
		return g.bytes(), err
	}, nil
}
