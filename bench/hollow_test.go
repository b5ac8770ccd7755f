package main

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestHollowServerAnswersWhatPgbenchAsks(t *testing.T) {
	h := newHollow(t.TempDir())
	if err := h.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.start(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.Connect(t.Context(), h.address().url())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := ask(t.Context(), conn, "select count(*) from pgbench_branches"); n != "1" || err != nil {
		t.Errorf("branches: %q, %v", n, err)
	}
	if _, err := ask(t.Context(), conn, "select from pg_catalog.pg_class"); err == nil {
		t.Error("a question about partitions was answered")
	}
	for sql, want := range map[string]string{"SELECT 1": "SELECT 1", "UPDATE x": "UPDATE 1"} {
		if _, err := conn.Prepare(t.Context(), "p", sql, nil); err != nil {
			t.Fatal(err)
		}
		if r := conn.ExecPrepared(t.Context(), "p", nil, nil, nil).Read(); r.CommandTag.String() != want || r.Err != nil {
			t.Errorf("%s: %q, %v", sql, r.CommandTag, r.Err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
}
