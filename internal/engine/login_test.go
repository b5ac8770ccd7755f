package engine

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

// login tries to connect with pgx and with lib/pq and gives the SQLSTATE, on which they must agree.
func login(t *testing.T, r *rig, settings ...string) string {
	t.Helper()
	code := ""
	c, err := pgconn.Connect(t.Context(), r.dsn(settings...))
	if err == nil {
		_ = c.Close(t.Context())
	} else {
		var e *pgconn.PgError
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		code = e.Code
	}
	db, err := sql.Open("postgres", r.dsn(settings...))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var e *pq.Error
	if err := db.PingContext(t.Context()); err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e != nil && string(e.Code) != code || e == nil && code != "" {
		t.Errorf("pgx got %q, lib/pq %v", code, e)
	}
	return code
}

func TestLogins(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	steps := []struct {
		sql      string
		settings string
		code     string
	}{
		{"", "", ""}, // trusted: no role has a password
		{"", "user=nobody", "28000"},
		{"create role alice login password 'secret'", "user=alice password=secret", ""},
		{"", "user=alice password=wrong", "28P01"},
		{"", "user=alice", "28P01"},
		{"", "", "28P01"}, // no trust any more
		{"", "user=nobody password=secret", "28P01"},
		{"alter role skein password 'pässwörd'", "password=pässwörd", ""},
		{"alter role alice password 'changed'", "user=alice password=secret", "28P01"},
		{"", "user=alice password=changed", ""},
		{"alter role alice nologin", "user=alice password=changed", "28P01"},
		{"alter role alice login", "user=alice password=changed dbname=nothing", "3D000"},
		{"alter role alice password null", "user=alice password=changed", "28P01"},
		{"drop role alice", "user=alice password=changed", "28P01"},
		{"create role bob login password 'SCRAM-SHA-256$4096:c2FsdA==$x:y'", "user=bob password=x", "28P01"},
		{"drop role bob; alter role skein password null", "", ""},
	}
	for _, step := range steps {
		if step.sql != "" {
			if code, _ := run(t, c, step.sql); code != "" {
				t.Fatalf("%s: %s", step.sql, code)
			}
		}
		if got := login(t, r, step.settings); got != step.code {
			t.Errorf("%s; login with %q gave %q, want %q", step.sql, step.settings, got, step.code)
		}
	}
}
