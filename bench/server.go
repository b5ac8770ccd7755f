package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// usualSessions is PostgreSQL's max_connections for everything but the memory measurement.
	usualSessions = 200
	startWait     = 5 * time.Minute // a new follower may copy everything first
	startPace     = 5 * time.Millisecond
	stopWait      = time.Minute
)

// server is one of the two that are compared. Both listen on a port of 127.0.0.1, with user skein,
// database skein and no password.
type server interface {
	name() string
	create(ctx context.Context) error                 // makes its directory and what it needs to start
	start(ctx context.Context, maxSessions int) error // returns when it accepts connections
	stop() error                                      // in order; does nothing when it does not run
	address() address
	logMeter(ctx context.Context) (meter, error) // counts what it writes to its log from now on
	pid() int                                    // of the process that listens
	follower(name string) server                 // one of the same kind that follows this one
	remove() error                               // deletes the data of one that is stopped
}

// meter gives the bytes written since it was made.
type meter func() (int64, error)

type address struct{ port int }

func (a address) String() string { return fmt.Sprintf("127.0.0.1:%d", a.port) }

func (a address) url() string {
	return fmt.Sprintf("postgres://skein@127.0.0.1:%d/skein?sslmode=disable", a.port)
}

// process is a server's program, with its output in a file that an error quotes.
type process struct {
	command *exec.Cmd
	ended   chan error
	logPath string
}

// startProcess starts the program and waits until it lets a client in.
func startProcess(ctx context.Context, command *exec.Cmd, logPath string, at address) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command: command, ended: make(chan error, 1), logPath: logPath}
	go func() { p.ended <- command.Wait() }()

	for deadline := time.Now().Add(startWait); ; {
		conn, err := pgconn.Connect(ctx, at.url())
		if err == nil {
			return p, conn.Close(ctx)
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(err, p.stop(os.Kill))
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("it ended while starting:\n%s", p.output())
		case <-time.After(startPace):
		}
	}
}

func (p *process) stop(signal os.Signal) error {
	if p == nil {
		return nil
	}
	if err := p.command.Process.Signal(signal); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopWait):
		_ = p.command.Process.Kill()
		<-p.ended
		return fmt.Errorf("it did not stop within %s:\n%s", stopWait, p.output())
	}
}

func (p *process) output() string {
	text, _ := os.ReadFile(p.logPath)
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

// query asks over a connection of its own.
func query(ctx context.Context, s server, sql string) (string, error) {
	conn, err := pgconn.Connect(ctx, s.address().url())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	return ask(ctx, conn, sql)
}

// ask gives the first column of the first row, "" when there is none.
func ask(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return "", nil
	}
	return string(results[0].Rows[0][0]), nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// onTmpfs says that fsync costs nothing in dir, so that no figure about commits means anything.
func onTmpfs(dir string) bool {
	const tmpfsMagic = 0x01021994
	var stat syscall.Statfs_t
	return syscall.Statfs(dir, &stat) == nil && int64(stat.Type) == tmpfsMagic
}
