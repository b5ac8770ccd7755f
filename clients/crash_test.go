package clients_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	crashes       = 5
	crashWriters  = 4
	crashCommits  = 300 // acknowledged before each kill
	createLedgers = `CREATE TABLE debit (writer int, n int, PRIMARY KEY (writer, n)); CREATE TABLE credit (writer int, n int, PRIMARY KEY (writer, n))`
)

// Writers commit numbered transactions of two rows while the node is killed again and again. After
// each restart every acknowledged number must be there, without a gap, and in both tables.
func TestKilledNodeKeepsWhatItAcknowledged(t *testing.T) {
	if binary == "" || testing.Short() {
		t.Skip("kills a node of its own")
	}
	dir := t.TempDir()
	var acknowledged [crashWriters]int
	for crash := range crashes {
		n, err := startNode(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.command.Process.Kill() })
		if crash == 0 {
			execute(t, n.url, createLedgers)
		}
		next := checkLedgers(t, n.url, acknowledged)
		acknowledged = writeUntilKilled(t, n, next)
	}

	n, err := startNode(dir)
	if err != nil {
		t.Fatal(err)
	}
	checkLedgers(t, n.url, acknowledged)
	if err := n.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// checkLedgers gives the highest number of each writer. It may exceed what was acknowledged by the
// one whose reply the crash cut off.
func checkLedgers(t *testing.T, url string, acknowledged [crashWriters]int) (highest [crashWriters]int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for writer := range highest {
		var debits, credits, most int
		err := conn.QueryRow(t.Context(), `SELECT
			(SELECT count(*) FROM debit WHERE writer = $1), (SELECT count(*) FROM credit WHERE writer = $1),
			(SELECT coalesce(max(n), 0) FROM debit WHERE writer = $1)`, writer).Scan(&debits, &credits, &most)
		if err != nil {
			t.Fatal(err)
		}
		if debits != most || credits != most {
			t.Errorf("writer %d: numbers up to %d, but %d debits and %d credits", writer, most, debits, credits)
		}
		if most < acknowledged[writer] || most > acknowledged[writer]+1 {
			t.Errorf("writer %d: numbers up to %d, acknowledged up to %d", writer, most, acknowledged[writer])
		}
		highest[writer] = most
	}
	return highest
}

// writeUntilKilled lets the writers go on from their highest number, kills the node once enough
// commits are acknowledged, and gives the last acknowledged number of each writer.
func writeUntilKilled(t *testing.T, n *node, highest [crashWriters]int) (acknowledged [crashWriters]int) {
	t.Helper()
	commits := make(chan struct{})
	var writing sync.WaitGroup
	for writer := range highest {
		writing.Go(func() { acknowledged[writer] = commitNumbers(t, n.url, writer, highest[writer], commits) })
	}
	go func() { writing.Wait(); close(commits) }()

	count := 0
	for range commits {
		if count++; count == crashCommits {
			if err := n.end(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	if count < crashCommits {
		t.Fatalf("the writers stopped after %d commits of their own accord:\n%s", count, errors.Join(n.end(syscall.SIGKILL), errors.New(n.log.String())))
	}
	return acknowledged
}

// commitNumbers commits one number after the other until the connection breaks.
func commitNumbers(t *testing.T, url string, writer, n int, commits chan<- struct{}) (acknowledged int) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return n
	}
	defer func() { _ = conn.Close(ctx) }()
	for {
		sql := fmt.Sprintf("BEGIN; INSERT INTO debit VALUES (%d, %d); INSERT INTO credit VALUES (%d, %d); COMMIT", writer, n+1, writer, n+1)
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && !strings.HasPrefix(pgErr.Code, "57P") {
			t.Errorf("writer %d: %v", writer, err)
		}
		if err != nil {
			return n
		}
		n++
		commits <- struct{}{}
	}
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}
