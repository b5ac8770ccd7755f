package clients_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A view's columns have types whatever they are computed from, also where views stand on views.
func TestColumnsOfViewsHaveTypes(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `
		DROP VIEW IF EXISTS flock_summary_more; DROP VIEW IF EXISTS flock_summary; DROP TABLE IF EXISTS flock_member;
		CREATE TABLE flock_member (id int PRIMARY KEY, name text, weight numeric(6,2), seen timestamptz, leads bool);
		INSERT INTO flock_member VALUES (1, 'Akka', 4.5, '2026-03-01 06:30Z', true), (2, 'Yksi', 3, NULL, false);
		CREATE VIEW flock_summary AS SELECT count(*) AS n, sum(weight) AS heavy, max(seen) AS last, bool_or(leads) AS led, max(seen)::date AS day FROM flock_member;
		CREATE VIEW flock_summary_more AS SELECT n + 1 AS more, heavy * 2 AS heavier, NOT led AS lost FROM flock_summary`,
		pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string][]uint32{
		"SELECT * FROM flock_summary":                                      {pgtype.Int8OID, pgtype.NumericOID, pgtype.TimestamptzOID, pgtype.BoolOID, pgtype.DateOID},
		"SELECT last, n FROM flock_summary WHERE n > 0":                    {pgtype.TimestamptzOID, pgtype.Int8OID},
		"SELECT * FROM flock_summary_more":                                 {pgtype.Int8OID, pgtype.NumericOID, pgtype.BoolOID},
		"SELECT s.n, m.heavier FROM flock_summary s, flock_summary_more m": {pgtype.Int8OID, pgtype.NumericOID},
	} {
		d, err := conn.Prepare(t.Context(), "", sql)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		for _, f := range d.Fields {
			got = append(got, f.DataTypeOID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", sql, got, want)
		}
	}
	var n int64
	var heavier string
	if err := conn.QueryRow(t.Context(), "SELECT s.n, m.heavier::text FROM flock_summary s, flock_summary_more m").Scan(&n, &heavier); err != nil || n != 2 || heavier != "15.00" {
		t.Error(n, heavier, err)
	}
	if _, err := conn.Exec(t.Context(), "DROP VIEW flock_summary_more; DROP VIEW flock_summary; DROP TABLE flock_member", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Error(err)
	}
}
