package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// postgres is a cluster of its own. PostgreSQL refuses to run as root, so root starts it as the
// user that Debian's package made.
type postgres struct {
	bin     string
	dir     string
	data    string
	log     string
	leader  *postgres // whom this one follows; nil: it leads
	node    string    // the name that the leader knows a follower by
	at      address
	process *process
}

// settings give PostgreSQL the memory it would have in earnest, and the same promise as Skein's: a
// commit returns after one fdatasync, which commits that come together share.
var settings = []string{
	"shared_buffers=1GB",
	"fsync=on",
	"synchronous_commit=on",
	"wal_sync_method=fdatasync",
	"full_page_writes=on",
	"max_wal_size=4GB",
	"listen_addresses=127.0.0.1",
	"unix_socket_directories=",
}

func newPostgres(bin, dir string) *postgres {
	return &postgres{bin: bin, dir: dir, data: filepath.Join(dir, "postgres"), log: filepath.Join(dir, "postgres.log")}
}

// follower is a standby with a slot of its own, so that it can be away.
func (p *postgres) follower(name string) server {
	s := newPostgres(p.bin, p.dir)
	s.data, s.log = filepath.Join(p.dir, "postgres-"+name), filepath.Join(p.dir, "postgres-"+name+".log")
	s.leader, s.node = p, name
	return s
}

func (p *postgres) name() string     { return "PostgreSQL" }
func (p *postgres) address() address { return p.at }
func (p *postgres) pid() int         { return p.process.command.Process.Pid }

func (p *postgres) create(ctx context.Context) error {
	if err := os.Mkdir(p.data, 0o700); err != nil {
		return err
	}
	attributes, err := unprivileged()
	if err != nil {
		return err
	}
	if attributes != nil {
		if err := os.Chown(p.data, int(attributes.Credential.Uid), int(attributes.Credential.Gid)); err != nil {
			return err
		}
	}
	if p.at.port, err = freePort(); err != nil {
		return err
	}
	if p.leader != nil {
		return p.copyLeader(ctx, attributes)
	}
	initdb := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"),
		"--pgdata", p.data, "--username", "skein", "--auth", "trust", "--encoding", "UTF8", "--locale", "C")
	initdb.SysProcAttr, initdb.Dir = attributes, p.data
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, output)
	}

	single := exec.CommandContext(ctx, filepath.Join(p.bin, "postgres"), "--single", "-D", p.data, "postgres")
	single.SysProcAttr, single.Dir = attributes, p.data
	stdin, err := single.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		_, _ = stdin.Write([]byte("CREATE DATABASE skein\n"))
		_ = stdin.Close()
	}()
	if output, err := single.CombinedOutput(); err != nil {
		return fmt.Errorf("create database: %w\n%s", err, output)
	}
	return nil
}

// copyLeader fills the empty directory from the running leader and makes a slot there.
func (p *postgres) copyLeader(ctx context.Context, attributes *syscall.SysProcAttr) error {
	leader := fmt.Sprintf("host=127.0.0.1 port=%d user=skein sslmode=disable application_name=%s", p.leader.at.port, p.node)
	backup := exec.CommandContext(ctx, filepath.Join(p.bin, "pg_basebackup"), "--pgdata", p.data, "--dbname", leader,
		"--checkpoint", "fast", "--wal-method", "stream", "--create-slot", "--slot", p.node, "--write-recovery-conf")
	backup.SysProcAttr, backup.Dir = attributes, p.data
	if output, err := backup.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, output)
	}
	return nil
}

func (p *postgres) start(ctx context.Context, maxSessions int) error {
	args := []string{"-D", p.data, "-p", strconv.Itoa(p.at.port), "-c", "max_connections=" + strconv.Itoa(maxSessions)}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	attributes, err := unprivileged()
	if err != nil {
		return err
	}
	command := exec.Command(filepath.Join(p.bin, "postgres"), args...)
	command.SysProcAttr, command.Dir = attributes, p.data
	p.process, err = startProcess(ctx, command, p.log, p.at)
	return err
}

// stop asks for the fast shutdown, which does not wait for clients to leave.
func (p *postgres) stop() error {
	running := p.process
	p.process = nil
	return running.stop(syscall.SIGINT)
}

func (p *postgres) remove() error { return os.RemoveAll(p.data) }

func (p *postgres) logMeter(ctx context.Context) (meter, error) {
	before, err := query(ctx, p, "SELECT pg_current_wal_insert_lsn()")
	if err != nil {
		return nil, err
	}
	return func() (int64, error) {
		bytes, err := query(ctx, p, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '"+before+"')::bigint")
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(bytes, 10, 64)
	}, nil
}

// unprivileged gives what makes root start a process as postgres; nil for anybody else.
func unprivileged() (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
