package clients_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
)

// nodes is a leader and two that follow it.
type nodes struct{ leader, follower, other *node }

// The cluster that all tests share, once one of them has asked for it.
var (
	cluster nodes
	begin   sync.Once
	failed  error
)

// threeNodes gives the cluster.
func threeNodes(t *testing.T) nodes {
	t.Helper()
	if binary == "" || testing.Short() {
		t.Skip("starts a cluster of its own")
	}
	if begin.Do(func() { failed = cluster.start() }); failed != nil {
		t.Fatal(failed)
	}
	return cluster
}

func (c *nodes) start() error {
	dir, err := os.MkdirTemp(filepath.Dir(binary), "cluster")
	if err != nil {
		return err
	}
	var peers []string
	for i, n := range []**node{&c.leader, &c.follower, &c.other} {
		name := fmt.Sprintf("n%d", i+1)
		peer, err := freeAddress()
		if err != nil {
			return err
		}
		args := []string{"--name", name, "--peer-addr", peer}
		if i == 0 {
			args = append(args, "--bootstrap")
		}
		for _, p := range peers {
			args = append(args, "--join", p)
		}
		peers = append(peers, peer)
		if *n, err = startNode(filepath.Join(dir, name), args...); err != nil {
			return err
		}
	}
	return nil
}

// stopCluster ends it, if it was started.
func stopCluster() {
	for _, n := range []*node{cluster.leader, cluster.follower, cluster.other} {
		if n != nil {
			_ = n.end(syscall.SIGKILL)
		}
	}
}

// host is where a node listens.
func (n *node) host() string {
	u, _ := url.Parse(n.url)
	return u.Host
}

// hosts is how to connect to one of several nodes, in the form that all drivers of libpq's kind understand.
func hosts(attributes string, all ...*node) string {
	var names, ports []string
	for _, n := range all {
		name, port, _ := strings.Cut(n.host(), ":")
		names, ports = append(names, name), append(ports, port)
	}
	return fmt.Sprintf("host=%s port=%s user=skein dbname=skein sslmode=disable connect_timeout=10 target_session_attrs=%s",
		strings.Join(names, ","), strings.Join(ports, ","), attributes)
}

// Everything that the tests of this package do, they can do at a node that follows. Sessions that have nothing to do with each
// other see each other's work there, for their reads are strong.
func TestEverythingOnAFollower(t *testing.T) {
	c := threeNodes(t)
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.skip", "Random|Killed|AnswersAsSQLite", "-test.parallel", "1")
	command.Env = append(os.Environ(), "SKEIN_CLIENTS_URL="+c.follower.url, "PGOPTIONS=-c skein.read_consistency=strong")
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// whichNode is what drivers with several hosts ask for, and which nodes may answer.
var whichNode = []struct {
	attributes string
	leader     bool // may be a leader
	follower   bool
}{
	{"any", true, true},
	{"read-write", true, false},
	{"primary", true, false},
	{"standby", false, true},
	{"read-only", false, true},
	{"prefer-standby", false, true},
}

// Drivers that know several hosts find the one that they ask for, whichever stands first.
func TestHostsAreToldApart(t *testing.T) {
	c := threeNodes(t)
	for driver, ask := range map[string]func(t *testing.T, to string) string{
		"pgx": func(t *testing.T, to string) string {
			conn, err := pgx.Connect(t.Context(), to)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			return conn.PgConn().Conn().RemoteAddr().String()
		},
		"pq": func(t *testing.T, to string) string {
			db, err := sql.Open("postgres", to)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			return whoAnswers(t, c, func(q string, answer *string) error { return db.QueryRowContext(t.Context(), q).Scan(answer) })
		},
		"psql": func(t *testing.T, to string) string {
			psql := program(t, "psql")
			return whoAnswers(t, c, func(q string, answer *string) error {
				*answer = strings.TrimSpace(run(t, "", psql, "-At", "-c", q, to))
				return nil
			})
		},
	} {
		for _, test := range whichNode {
			if driver == "pq" && test.attributes == "read-only" {
				continue // it does not take a standby for one, whatever the server
			}
			for order, all := range map[string][]*node{"leader first": {c.leader, c.follower}, "follower first": {c.follower, c.leader}} {
				t.Run(driver+"/"+test.attributes+"/"+order, func(t *testing.T) {
					at := ask(t, hosts(test.attributes, all...))
					if at == c.leader.host() && !test.leader || at == c.follower.host() && !test.follower {
						t.Errorf("%s is asked for, and %s answers; the leader is %s", test.attributes, at, c.leader.host())
					}
				})
			}
		}
	}
}

// whoAnswers gives the address of the node that a driver is connected to.
func whoAnswers(t *testing.T, c nodes, ask func(sql string, answer *string) error) string {
	t.Helper()
	var recovering string
	if err := ask("SELECT pg_is_in_recovery()::text", &recovering); err != nil {
		t.Fatal(err)
	}
	if recovering == "true" {
		return c.follower.host()
	}
	return c.leader.host()
}

// Errors that a follower passes on have all the fields that the leader gives them.
func TestErrorsOfForwardedStatements(t *testing.T) {
	c := threeNodes(t)
	leader, follower := c.leader.connect(t), c.follower.connect(t)
	for _, sql := range []string{"CREATE TABLE passed_on (id int PRIMARY KEY, CONSTRAINT positive CHECK (id > 0))", "INSERT INTO passed_on VALUES (1)"} {
		if _, err := follower.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for sql, code := range map[string]string{
		"INSERT INTO passed_on VALUES (1)":  "23505",
		"INSERT INTO passed_on VALUES (-1)": "23514",
		"INSERT INTO nowhere VALUES (1)":    "42P01",
		"INSERT INTO passed_on VALUE (1)":   "42601",
		"CREATE TABLE passed_on (a int)":    "42P07",
		"DROP TABLE nowhere":                "42P01",
	} {
		_, err := leader.Exec(t.Context(), sql)
		want, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || want.Code != code {
			t.Errorf("%s at the leader: %v, want %s", sql, err, code)
			continue
		}
		_, err = follower.Exec(t.Context(), sql)
		if got, ok := errors.AsType[*pgconn.PgError](err); !ok || *got != *want {
			t.Errorf("%s: %+v, and at the leader %+v", sql, got, want)
		}
	}
	db, err := sql.Open("postgres", c.follower.url+"?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), "INSERT INTO passed_on VALUES ($1)", 1)
	if got, ok := errors.AsType[*pq.Error](err); !ok || got.Code != "23505" || got.Constraint != "passed_on_pkey" {
		t.Errorf("lib/pq: %#v", err)
	}
}

// connect opens a connection for as long as the test runs.
func (n *node) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), n.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// A pool lends its connections for one transaction at a time, each to another node. What belongs together is tied by a key, which
// is set for the transaction and leaves nothing behind.
func TestPgxPoolOverAllNodes(t *testing.T) {
	c := threeNodes(t)
	config, err := pgxpool.ParseConfig(c.leader.url + "?pool_max_conns=6")
	if err != nil {
		t.Fatal(err)
	}
	var turn atomic.Int64
	config.BeforeConnect = func(_ context.Context, one *pgx.ConnConfig) error {
		n := []*node{c.leader, c.follower, c.other}[turn.Add(1)%3]
		u, err := pgconn.ParseConfig(n.url)
		if err != nil {
			return err
		}
		one.Host, one.Port = u.Host, u.Port
		return nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "CREATE TABLE visit (visitor int, n int, PRIMARY KEY (visitor, n))"); err != nil {
		t.Fatal(err)
	}
	var visitors sync.WaitGroup
	for v := range 4 {
		visitors.Go(func() {
			for n := range 25 {
				err := errors.Join(visit(t.Context(), pool, v, n), counted(t.Context(), pool, v, n+1))
				if err != nil {
					t.Errorf("visitor %d: %v", v, err)
					return
				}
			}
		})
	}
	visitors.Wait()
	for range 6 {
		var key string
		if err := pool.QueryRow(t.Context(), "SHOW skein.causality_key").Scan(&key); err != nil || key != "" {
			t.Errorf("a connection has kept the key %q (%v)", key, err)
		}
	}
}

// tied runs a transaction under the key of a visitor.
func tied(ctx context.Context, pool *pgxpool.Pool, visitor int, mode pgx.TxAccessMode, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{AccessMode: mode}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL skein.causality_key = 'visitor %d'", visitor)); err != nil {
			return err
		}
		return do(tx)
	})
}

func visit(ctx context.Context, pool *pgxpool.Pool, visitor, n int) error {
	return tied(ctx, pool, visitor, pgx.ReadWrite, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO visit VALUES ($1, $2)", visitor, n)
		return err
	})
}

// counted checks that a visitor's own visits are seen.
func counted(ctx context.Context, pool *pgxpool.Pool, visitor, want int) error {
	return tied(ctx, pool, visitor, pgx.ReadOnly, func(tx pgx.Tx) error {
		var got int
		err := tx.QueryRow(ctx, "SELECT count(*) FROM visit WHERE visitor = $1", visitor).Scan(&got)
		if err == nil && got != want {
			err = fmt.Errorf("%d visits are seen of %d", got, want)
		}
		return err
	})
}

// The position that a driver is told after a write is good for another driver on another node.
func TestPositionsTravelBetweenDrivers(t *testing.T) {
	c := threeNodes(t)
	conn := c.follower.connect(t)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE letter (n int)"); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		if _, err := conn.Exec(t.Context(), "INSERT INTO letter VALUES ($1)", n); err != nil {
			t.Fatal(err)
		}
		at := conn.PgConn().ParameterStatus("skein.last_commit")
		if at == "" {
			t.Fatal("no position was reported")
		}
		db, err := sql.Open("postgres", c.other.url+"?sslmode=disable&options="+url.QueryEscape("-c skein.wait_for="+at))
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM letter").Scan(&got); err != nil || got != n+1 {
			t.Errorf("%d letters of %d are seen (%v)", got, n+1, err)
		}
		_ = db.Close()
	}
}

// A statement that runs elsewhere is cancelled as if it ran here.
func TestForwardedStatementsAreCancelled(t *testing.T) {
	c := threeNodes(t)
	conn := c.follower.connect(t)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE endless (n int)"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "INSERT INTO endless WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i % 1000 + 1 FROM n) SELECT i FROM n")
		done <- err
	}()
	for {
		if err := conn.PgConn().CancelRequest(t.Context()); err != nil { // may come before the statement: ask until one hits
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "57014" {
				t.Errorf("error %v, want 57014", err)
			}
			return
		case <-time.After(startPace):
		}
	}
}
