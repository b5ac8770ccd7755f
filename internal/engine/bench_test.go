package engine

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// pipelined is how many statements a benchmark's client sends before it reads the answers: the fewer pauses, the less depends on
// what else the machine does.
const pipelined = 400

// BenchmarkStatement measures the processor time of one prepared statement of a client, each with its Sync. Nobody waits for the
// disk. The least of all pipelines is what the statement costs; the rest is what disturbed it.
func BenchmarkStatement(b *testing.B) {
	for _, s := range []struct{ name, sql string }{
		{"read", "SELECT abalance FROM accounts WHERE aid = $1"},
		{"update", "UPDATE accounts SET abalance = abalance + 1 WHERE aid = $1"},
		{"insert", "INSERT INTO history VALUES ($1, now())"},
	} {
		b.Run(s.name, func(b *testing.B) {
			c := newBenchClient(b, s.sql)
			var took []time.Duration
			for n := 0; b.Loop(); n++ {
				before := processorTime()
				c.pipeline(func(i int) string { return fmt.Sprint((n*pipelined+i)*7919%accounts + 1) })
				took = append(took, processorTime()-before)
			}
			b.ReportMetric(float64(slices.Min(took).Nanoseconds())/pipelined/1000, "least-µs/statement")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/pipelined, "µs/statement")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// accounts is how many rows the table has: some 13 MB.
const accounts = 100_000

// benchClient has one statement prepared.
type benchClient struct {
	b    *testing.B
	wire *pgproto3.Frontend
}

func newBenchClient(b *testing.B, statement string) *benchClient {
	b.Helper()
	r := newRig(b)
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, "postgres://skein@"+r.address+"/skein?sslmode=disable")
	if err != nil {
		b.Fatal(err)
	}
	setup := fmt.Sprintf(`CREATE TABLE accounts (aid int PRIMARY KEY, abalance int, filler char(84));
		INSERT INTO accounts SELECT i, 0, '%84s' FROM generate_series(1, %d) i;
		CREATE TABLE history (aid int, mtime timestamp)`, "", accounts)
	if _, err := conn.Exec(ctx, setup).ReadAll(); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "SET synchronous_commit = off").ReadAll(); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Prepare(ctx, "s", statement, nil); err != nil {
		b.Fatal(err)
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = hijacked.Conn.Close() })
	return &benchClient{b: b, wire: pgproto3.NewFrontend(hijacked.Conn, hijacked.Conn)}
}

// pipeline runs the statement with one parameter after the other.
func (c *benchClient) pipeline(parameter func(i int) string) {
	for i := range pipelined {
		c.wire.Send(&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte(parameter(i))}})
		c.wire.Send(&pgproto3.Execute{})
		c.wire.Send(&pgproto3.Sync{})
	}
	if err := c.wire.Flush(); err != nil {
		c.b.Fatal(err)
	}
	for ready := 0; ready < pipelined; {
		m, err := c.wire.Receive()
		if err != nil {
			c.b.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			c.b.Fatal(m.Message)
		case *pgproto3.ReadyForQuery:
			ready++
		}
	}
}
