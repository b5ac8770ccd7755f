package pgwire

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

func connectPgx(t testing.TB, address, user string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	conn, err := pgx.Connect(ctx, "postgres://"+user+"@"+address+"/app")
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func mustConnect(t testing.TB, address string) *pgx.Conn {
	t.Helper()
	conn, err := connectPgx(t, address, "alice:secret")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestPgx drives the server with pgx, which uses binary formats, pipelines, COPY and cancels.
func TestPgx(t *testing.T) {
	address, _ := startServer(t, newFakeHandler(t), Options{})
	ctx := context.Background()
	conn := mustConnect(t, address)

	t.Run("values return as they were sent", func(t *testing.T) {
		when := time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC)
		for _, c := range []struct {
			typ string
			in  any
		}{
			{"bool", true},
			{"int2", int16(-5)},
			{"int4", int32(math.MinInt32)},
			{"int8", int64(math.MaxInt64)},
			{"float4", float32(1.25)},
			{"float8", 1e300},
			{"text", "héllo"},
			{"bytea", []byte{0, 1, 255}},
			{"timestamptz", when},
			{"_int4", []int32{1, 2, 3}},
			{"_text", []string{"a", "b,c", `"`, ""}},
			{"_timestamptz", []time.Time{when}},
			{"uuid", [16]byte{1, 2, 3}},
			{"jsonb", map[string]any{"a": "b"}},
		} {
			for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec} {
				got := reflect.New(reflect.TypeOf(c.in))
				if err := conn.QueryRow(ctx, "echo "+c.typ, mode, c.in).Scan(got.Interface()); err != nil {
					t.Errorf("%s: %v", c.typ, err)
					continue
				}
				if when, ok := got.Elem().Interface().(time.Time); ok {
					got.Elem().Set(reflect.ValueOf(when.UTC()))
				}
				if times, ok := got.Elem().Interface().([]time.Time); ok {
					times[0] = times[0].UTC()
				}
				if !reflect.DeepEqual(got.Elem().Interface(), c.in) {
					t.Errorf("%s: sent %v, got %v", c.typ, c.in, got.Elem())
				}
			}
		}
	})
	t.Run("NULL", func(t *testing.T) {
		var n *int32
		if err := conn.QueryRow(ctx, "echo int4", nil).Scan(&n); err != nil || n != nil {
			t.Error(n, err)
		}
	})
	t.Run("errors carry their code and the connection goes on", func(t *testing.T) {
		var pgErr *pgconn.PgError
		if _, err := conn.Exec(ctx, "fail"); !errors.As(err, &pgErr) || pgErr.Code != "22012" {
			t.Error(err)
		}
		if _, err := conn.Exec(ctx, "failparse"); !errors.As(err, &pgErr) || pgErr.Position != 3 {
			t.Error(err)
		}
	})
	t.Run("many rows", func(t *testing.T) {
		rows, _ := conn.Query(ctx, "rows 100000")
		all, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err != nil || len(all) != 100000 || all[99999] != 100000 {
			t.Error(len(all), err)
		}
	})
	t.Run("a large value", func(t *testing.T) {
		var b []byte
		if err := conn.QueryRow(ctx, "bytes 1000000").Scan(&b); err != nil || len(b) != 1000000 {
			t.Error(len(b), err)
		}
		if err := conn.QueryRow(ctx, "echo bytea", b).Scan(&b); err != nil || len(b) != 1000000 {
			t.Error(len(b), err)
		}
	})
	t.Run("a batch", func(t *testing.T) {
		batch := &pgx.Batch{}
		for i := range 1000 {
			batch.Queue("echo int4", i)
		}
		results := conn.SendBatch(ctx, batch)
		for i := range 1000 {
			var n int
			if err := results.QueryRow().Scan(&n); err != nil || n != i {
				t.Fatal(i, n, err)
			}
		}
		if err := results.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a pipeline with an error", func(t *testing.T) {
		pipeline := conn.PgConn().StartPipeline(ctx)
		pipeline.SendQueryParams("rows 1", nil, nil, nil, nil)
		pipeline.SendQueryParams("fail", nil, nil, nil, nil)
		pipeline.SendQueryParams("rows 1", nil, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := pipeline.Close(); err == nil || !strings.Contains(err.Error(), "22012") {
			t.Error(err)
		}
	})
	t.Run("COPY", func(t *testing.T) {
		tag, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat("1\tx\n", 50000)), "copyin text 2")
		if err != nil || tag.RowsAffected() != 50000 {
			t.Error(tag, err)
		}
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat("1\tx\n1\n", 50000)), "copyin text 2")
		if err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Error(err)
		}
		var out strings.Builder
		if _, err := conn.PgConn().CopyTo(ctx, &out, "copyout text 3"); err != nil || out.String() != "0\t\\N\n1\t\\N\n2\t\\N\n" {
			t.Errorf("%q %v", out.String(), err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		waiting := make(chan error, 1)
		notice := make(chan struct{}, 1)
		config, _ := pgx.ParseConfig("postgres://alice:secret@" + address + "/app")
		config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { notice <- struct{}{} }
		other, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = other.Close(ctx) }()
		request := other.PgConn().CancelRequest
		go func() { _, err := other.Exec(ctx, "wait"); waiting <- err }()
		<-notice
		if err := request(ctx); err != nil {
			t.Error(err)
		}
		var pgErr *pgconn.PgError
		if err := <-waiting; !errors.As(err, &pgErr) || pgErr.Code != "57014" {
			t.Error(err)
		}
	})
	t.Run("wrong password and unknown role look alike", func(t *testing.T) {
		for _, user := range []string{"alice:wrong", "bob:secret"} {
			_, err := connectPgx(t, address, user)
			var pgErr *pgconn.PgError
			name, _, _ := strings.Cut(user, ":")
			want := fmt.Sprintf("password authentication failed for user %q", name)
			if !errors.As(err, &pgErr) || pgErr.Code != "28P01" || pgErr.Message != want {
				t.Error(err)
			}
		}
	})
}

// TestLibPQ drives the server with lib/pq, which uses text formats.
func TestLibPQ(t *testing.T) {
	address, _ := startServer(t, newFakeHandler(t), Options{})
	db, err := sql.Open("postgres", "postgres://alice:secret@"+address+"/app?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()

	var i int
	var f float64
	var s string
	var b []byte
	var when time.Time
	row := db.QueryRow("echo int8 float8 text bytea timestamptz", 7, 1.5, "héllo", []byte{1, 2}, time.Unix(1e9, 0))
	if err := row.Scan(&i, &f, &s, &b, &when); err != nil {
		t.Fatal(err)
	}
	if i != 7 || f != 1.5 || s != "héllo" || string(b) != "\x01\x02" || when.Unix() != 1e9 {
		t.Error(i, f, s, b, when)
	}
	var pqErr *pq.Error
	if _, err := db.Exec("fail"); !errors.As(err, &pqErr) || pqErr.Code != "22012" {
		t.Error(err)
	}
	stmt, err := db.Prepare("echo int4")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		if err := stmt.QueryRow(n).Scan(&i); err != nil || i != n {
			t.Error(i, err)
		}
	}
	var array []int64
	if err := db.QueryRow("echo _int8", pq.Array([]int64{1, 2})).Scan(pq.Array(&array)); err != nil || len(array) != 2 {
		t.Error(array, err)
	}
}
