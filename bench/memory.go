package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// spareSessions is how many more than the idle ones a server must allow for.
const spareSessions = 20

// memory is the resident memory of each server, in bytes, freshly started: without a session and
// with many idle ones, each of which has run a statement.
type memory struct {
	Sessions int                     `json:"sessions"`
	Servers  map[string]serverMemory `json:"servers"`
}

type serverMemory struct {
	Before int64 `json:"before_bytes"`
	With   int64 `json:"with_bytes"`
}

func compareMemory(ctx context.Context, sessions int, servers []server) (*memory, error) {
	m := &memory{Sessions: sessions, Servers: map[string]serverMemory{}}
	for _, s := range servers {
		if err := s.stop(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		if err := s.start(ctx, sessions+spareSessions); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		measured, err := measureMemory(ctx, sessions, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		progress("%-10s %d idle sessions: %d MB, before %d MB", s.name(), sessions, measured.With>>20, measured.Before>>20)
		m.Servers[s.name()] = measured
	}
	return m, nil
}

func measureMemory(ctx context.Context, sessions int, s server) (serverMemory, error) {
	var m serverMemory
	var err error
	if m.Before, err = resident(s.pid()); err != nil {
		return m, err
	}
	conns := make([]*pgconn.PgConn, 0, sessions)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close(ctx)
		}
	}()
	for i := range sessions {
		conn, err := pgconn.Connect(ctx, s.address().url())
		if err != nil {
			return m, fmt.Errorf("session %d: %w", i+1, err)
		}
		conns = append(conns, conn)
		sql := fmt.Sprintf("SELECT abalance FROM pgbench_accounts WHERE aid = %d", i+1)
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return m, fmt.Errorf("session %d: %w", i+1, err)
		}
	}
	m.With, err = resident(s.pid())
	return m, err
}

// resident sums the memory of a process and its children, by Linux's proportional set size: a page
// that several processes share counts once, so PostgreSQL's shared buffers are not counted per session.
func resident(pid int) (int64, error) {
	sum, err := proportional(pid)
	if err != nil {
		return 0, err
	}
	running, err := children(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range running {
		if part, err := proportional(child); err == nil { // one that has just ended has no memory
			sum += part
		}
	}
	return sum, nil
}

// children are the processes that a process has started and that run.
func children(pid int) ([]int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var all []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has just ended has no children
		}
		for child := range strings.FieldsSeq(string(text)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return nil, err
			}
			all = append(all, id)
		}
	}
	return all, nil
}

var pssLine = regexp.MustCompile(`(?m)^Pss:\s+([0-9]+) kB`)

func proportional(pid int) (int64, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	match := pssLine.FindSubmatch(rollup)
	if match == nil {
		return 0, fmt.Errorf("no Pss line in smaps_rollup of process %d", pid)
	}
	kilobytes, err := strconv.ParseInt(string(match[1]), 10, 64)
	return kilobytes << 10, err
}
