package clients_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// bouncer runs PgBouncer in front of a node, where each transaction takes any of three connections, and gives how to connect to it.
func bouncer(t *testing.T, n *node) string {
	t.Helper()
	pgbouncer, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("PgBouncer is not installed (Debian: pgbouncer; clients/run --install gets it)")
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bouncer") // one that another user may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	host, port, _ := strings.Cut(n.host(), ":")
	_, listens, _ := strings.Cut(address, ":")
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
skein = host=%s port=%s dbname=skein user=skein
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
`, host, port, listens)
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o644), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Getuid() == 0 { // as which it refuses to run
		args = []string{"-u", "nobody", config}
	}
	command := exec.Command(pgbouncer, args...)
	log := &strings.Builder{}
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	url := "postgres://anybody@" + address + "/skein?default_query_exec_mode=exec" // it knows nothing of prepared statements
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			_ = conn.Close(t.Context())
			return url
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Behind a pooler each transaction has another connection. A causality key that stands in the transaction has clients read what they have
// written all the same, at a node that follows.
func TestPgBouncerByTransaction(t *testing.T) {
	c := threeNodes(t)
	url := bouncer(t, c.follower)
	setUp := c.leader.connect(t)
	for _, sql := range []string{"DROP TABLE IF EXISTS pooled", "CREATE TABLE pooled (client int, n int, PRIMARY KEY (client, n))"} {
		if _, err := setUp.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			if err := pooledClient(t, url, i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	clients.Wait()
	var rows int
	if err := setUp.QueryRow(t.Context(), "SELECT count(*) FROM pooled").Scan(&rows); err != nil || rows != 8*pooledTurns {
		t.Errorf("%d rows, %v", rows, err)
	}
}

const pooledTurns = 25

// pooledClient writes rows, fails now and then, and reads after each what it has written.
func pooledClient(t *testing.T, url string, id int) error {
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	within := func(o pgx.TxOptions, do func(tx pgx.Tx) error) error {
		return pgx.BeginTxFunc(ctx, conn, o, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL skein.causality_key = 'client:%d'", id)); err != nil {
				return err
			}
			return do(tx)
		})
	}
	for n := range pooledTurns {
		insert := func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL skein.transaction_token = 'pooled %d %d'", id, n)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO pooled VALUES ($1, $2)", id, n)
			return err
		}
		if err := within(pgx.TxOptions{}, insert); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		var rows int
		read := func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, "SELECT count(*) FROM pooled WHERE client = $1", id).Scan(&rows)
		}
		if err := within(pgx.TxOptions{AccessMode: pgx.ReadOnly}, read); err != nil || rows != n+1 {
			return fmt.Errorf("it reads %d rows after %d were written: %w", rows, n+1, err)
		}
		var told *pgconn.PgError
		if err := within(pgx.TxOptions{}, insert); !errors.As(err, &told) || told.ConstraintName != "skein_transaction_token" {
			return fmt.Errorf("the same transaction again: %w", err)
		}
	}
	return nil
}
