package clients_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

const driverTable = `
DROP TABLE IF EXISTS flight;
CREATE TABLE flight (
	id bigint PRIMARY KEY, name text, leader boolean, height double precision, cargo bytea,
	price numeric(12,2), started timestamptz, day date, tag uuid
)`

var takeoff = time.Date(2026, 3, 1, 6, 30, 0, 123456000, time.UTC)

// flight is one row with a value of each type that a program commonly uses.
type flight struct {
	id      int64
	name    string
	leader  bool
	height  float64
	cargo   []byte
	price   string // exact decimal digits: money must not become floating point
	started time.Time
	missing *string
}

var akka = flight{1, "Akka 'of' Kebnekaise ö", true, 8848.25, []byte{0, 1, 0xff}, "1234567890.10", takeoff, nil}

func (f flight) check(t *testing.T, want flight) {
	t.Helper()
	if f.id != want.id || f.name != want.name || f.leader != want.leader || f.height != want.height ||
		string(f.cargo) != string(want.cargo) || f.price != want.price || !f.started.Equal(want.started) || f.missing != nil {
		t.Errorf("read %+v, wrote %+v", f, want)
	}
}

const (
	insertFlight = "INSERT INTO flight (id, name, leader, height, cargo, price, started) VALUES ($1, $2, $3, $4, $5, $6, $7)"
	selectFlight = "SELECT id, name, leader, height, cargo, price, started, tag FROM flight WHERE id = $1"
)

func connectPgx(t *testing.T, options string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server+"?"+options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), driverTable); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestPgxRoundTripInEveryMode(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			conn := connectPgx(t, "default_query_exec_mode="+mode)
			_, err := conn.Exec(t.Context(), insertFlight, akka.id, akka.name, akka.leader, akka.height, akka.cargo, akka.price, akka.started)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time from the statement cache, where there is one
				var got flight
				err := conn.QueryRow(t.Context(), selectFlight, akka.id).
					Scan(&got.id, &got.name, &got.leader, &got.height, &got.cargo, &got.price, &got.started, &got.missing)
				if err != nil {
					t.Fatal(err)
				}
				got.check(t, akka)
			}
		})
	}
}

func TestPgxCopyFromAndBatch(t *testing.T) {
	conn := connectPgx(t, "")
	const rows = 1000
	copied, err := conn.CopyFrom(t.Context(), pgx.Identifier{"flight"}, []string{"id", "name", "height", "started"},
		pgx.CopyFromSlice(rows, func(i int) ([]any, error) {
			return []any{int64(i), "goose", float64(i) / 2, takeoff}, nil
		}))
	if err != nil || copied != rows {
		t.Fatalf("copied %d, %v", copied, err)
	}

	batch := &pgx.Batch{}
	for i := range 10 {
		batch.Queue("UPDATE flight SET leader = true WHERE id = $1", int64(i))
	}
	batch.Queue("SELECT count(*) FROM flight WHERE leader")
	results := conn.SendBatch(t.Context(), batch)
	for range 10 {
		if tag, err := results.Exec(); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s, %v", tag, err)
		}
	}
	var leaders int64
	if err := errors.Join(results.QueryRow().Scan(&leaders), results.Close()); err != nil || leaders != 10 {
		t.Errorf("%d leaders, %v", leaders, err)
	}
}

func TestPgxErrorsCarryTheirFields(t *testing.T) {
	conn := connectPgx(t, "")
	_, err := conn.Exec(t.Context(), "INSERT INTO flight (id) VALUES (1), (1)")
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pgErr.Code != "23505" || pgErr.ConstraintName != "flight_pkey" || pgErr.TableName != "flight" {
		t.Errorf("%#v", err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("after an error: %v", err)
	}
}

func TestPgxTransactions(t *testing.T) {
	conn := connectPgx(t, "")
	tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.Serializable})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO flight (id) VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	inner, err := tx.Begin(t.Context()) // a savepoint
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Exec(t.Context(), "INSERT INTO flight (id) VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(inner.Rollback(t.Context()), tx.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := value(t, "SELECT count(*) FROM flight"); got != "1" {
		t.Errorf("%s rows, want the one that was not rolled back", got)
	}

	readOnly, err := conn.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	_, err = readOnly.Exec(t.Context(), "DELETE FROM flight")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "25006" {
		t.Errorf("a write in a read-only transaction: %v", err)
	}
	if err := readOnly.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}

// pgx asks for cancellation over a second connection when a context ends.
func TestPgxCancelsAStatement(t *testing.T) {
	conn := connectPgx(t, "")
	const endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i % 1000 + 1 FROM n) SELECT count(*) FROM n"
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), endless)
		done <- err
	}()
	for cancelled := false; !cancelled; {
		if err := conn.PgConn().CancelRequest(t.Context()); err != nil { // may come before the statement: ask until one hits
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "57014" {
				t.Errorf("error %v, want 57014", err)
			}
			cancelled = true
		case <-time.After(startPace):
		}
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("the session after a cancelled statement: %v", err)
	}
}

func TestLibPq(t *testing.T) {
	db, err := sql.Open("postgres", server+"?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), driverTable); err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), insertFlight, akka.id, akka.name, akka.leader, akka.height, akka.cargo, akka.price, akka.started)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := db.PrepareContext(t.Context(), selectFlight)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = statement.Close() }()
	var got flight
	err = statement.QueryRowContext(t.Context(), akka.id).
		Scan(&got.id, &got.name, &got.leader, &got.height, &got.cargo, &got.price, &got.started, &got.missing)
	if err != nil {
		t.Fatal(err)
	}
	got.check(t, akka)

	_, err = db.ExecContext(t.Context(), "INSERT INTO flight (id) VALUES ($1)", akka.id)
	if pqErr, ok := errors.AsType[*pq.Error](err); !ok || pqErr.Code != "23505" {
		t.Errorf("duplicate key: %v", err)
	}
	copyWithLibPq(t, db)
}

func copyWithLibPq(t *testing.T, db *sql.DB) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	statement, err := tx.PrepareContext(t.Context(), "COPY flight (id, name) FROM STDIN")
	if err != nil {
		t.Fatal(err)
	}
	for id := 10; id < 20; id++ {
		if _, err := statement.ExecContext(t.Context(), id, "tab\tand\\backslash"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := statement.ExecContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(statement.Close(), tx.Commit()); err != nil {
		t.Fatal(err)
	}
	if got := value(t, `SELECT count(*) FROM flight WHERE name = E'tab\tand\\backslash'`); got != "10" {
		t.Errorf("%s rows copied, want 10", got)
	}
}
