package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// largeTarget is the most memory that Skein may take while it works on a table of many rows.
const largeTarget = 1 << 30

// large is a table loaded by COPY and then worked on as a whole, on freshly started servers.
type large struct {
	Rows    int                    `json:"rows"`
	Servers map[string]largeResult `json:"servers"`
}

type largeResult struct {
	CopySeconds   float64 `json:"copy_seconds"`
	VacuumSeconds float64 `json:"vacuum_seconds"`
	IndexSeconds  float64 `json:"index_seconds"`
	PeakBytes     int64   `json:"peak_bytes"` // of the process that listens
}

func compareLarge(ctx context.Context, rows int, servers []server) (*large, error) {
	l := &large{Rows: rows, Servers: map[string]largeResult{}}
	for _, s := range servers {
		if err := s.stop(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		if err := s.start(ctx, usualSessions); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		result, err := measureLarge(ctx, rows, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		progress("%-10s %d rows: COPY %.1f s, VACUUM %.1f s, CREATE INDEX %.1f s, peak %d MB", s.name(), rows,
			result.CopySeconds, result.VacuumSeconds, result.IndexSeconds, result.PeakBytes>>20)
		l.Servers[s.name()] = result
	}
	return l, nil
}

func measureLarge(ctx context.Context, rows int, s server) (largeResult, error) {
	var r largeResult
	conn, err := pgconn.Connect(ctx, s.address().url())
	if err != nil {
		return r, err
	}
	defer func() { _ = conn.Close(ctx) }()

	if _, err := conn.Exec(ctx, "CREATE TABLE large (id bigint PRIMARY KEY, name text, n int)").ReadAll(); err != nil {
		return r, err
	}
	start := time.Now()
	if _, err := conn.CopyFrom(ctx, &rowReader{rows: rows}, "COPY large FROM STDIN"); err != nil {
		return r, fmt.Errorf("COPY: %w", err)
	}
	r.CopySeconds = time.Since(start).Seconds()
	for _, step := range []struct {
		sql     string
		seconds *float64
	}{
		{"VACUUM", &r.VacuumSeconds},
		{"CREATE INDEX large_n ON large (n)", &r.IndexSeconds},
	} {
		start := time.Now()
		if _, err := conn.Exec(ctx, step.sql).ReadAll(); err != nil {
			return r, fmt.Errorf("%s: %w", step.sql, err)
		}
		*step.seconds = time.Since(start).Seconds()
	}
	if r.PeakBytes, err = peak(s.pid()); err != nil {
		return r, err
	}
	count, err := query(ctx, s, "SELECT count(*) FROM large")
	if err == nil && count != strconv.Itoa(rows) {
		err = fmt.Errorf("%s rows of %d", count, rows)
	}
	if err == nil {
		_, err = query(ctx, s, "DROP TABLE large")
	}
	return r, err
}

// rowReader makes COPY's text as it is read, so that the data takes no memory here.
type rowReader struct {
	rows, made int
	line       []byte
}

func (r *rowReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.line) == 0 {
			if r.made == r.rows {
				break
			}
			r.made++
			// A multiplicative hash: the index is built from values in no order.
			r.line = fmt.Appendf(r.line[:0], "%d\tgoose number %d\t%d\n", r.made, r.made, uint32(r.made)*2654435761%1_000_000)
		}
		copied := copy(p[n:], r.line)
		r.line = r.line[copied:]
		n += copied
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

var peakLine = regexp.MustCompile(`(?m)^VmHWM:\s+([0-9]+) kB`)

// peak is the most memory that a process has had resident since it was started.
func peak(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	match := peakLine.FindSubmatch(status)
	if match == nil {
		return 0, fmt.Errorf("no VmHWM line in the status of process %d", pid)
	}
	kilobytes, err := strconv.ParseInt(string(match[1]), 10, 64)
	return kilobytes << 10, err
}

// lines shows seconds; the ratio is of speeds, as for the workloads: above 1 Skein is faster.
func (l *large) lines() []line {
	postgres, skein := l.Servers["PostgreSQL"], l.Servers["Skein"]
	speed := func(name string, a, b float64) line {
		return line{
			name:     fmt.Sprintf("%s, %d rows, seconds", name, l.Rows),
			postgres: fmt.Sprintf("%.1f", a), skein: fmt.Sprintf("%.1f", b), ratio: a / b,
		}
	}
	return []line{
		speed("COPY", postgres.CopySeconds, skein.CopySeconds),
		speed("VACUUM", postgres.VacuumSeconds, skein.VacuumSeconds),
		speed("CREATE INDEX", postgres.IndexSeconds, skein.IndexSeconds),
		{
			name: fmt.Sprintf("peak resident MB with %d rows", l.Rows), postgres: "–", skein: fmt.Sprintf("%.0f", megabytes(skein.PeakBytes)),
			target: fmt.Sprintf("< %d MB", largeTarget>>20), met: skein.PeakBytes < largeTarget,
		},
	}
}
