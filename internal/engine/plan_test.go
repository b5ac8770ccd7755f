package engine

import (
	"context"
	"testing"

	"skein/internal/dialect"
	"skein/internal/oid"
)

// endsAfter is over after it was looked at so many times.
type endsAfter struct {
	context.Context
	looks int
}

func (e *endsAfter) Err() error {
	if e.looks--; e.looks < 0 {
		return context.Canceled
	}
	return nil
}

// A plan is kept for everybody: one that was interrupted before it knew all types would be wrong until the schema changes.
func TestAnInterruptedAnalysisIsNoPlan(t *testing.T) {
	r := newRig(t)
	if code, _ := run(t, r.dial(), "CREATE TABLE t (id int primary key, n numeric(8, 2)); CREATE VIEW v AS SELECT id, n FROM t"); code != "" {
		t.Fatal(code)
	}
	for _, sql := range []string{"SELECT id, n FROM t", "SELECT id, n FROM v"} {
		list, err := dialect.Parse(sql)
		if err != nil {
			t.Fatal(err)
		}
		interrupted := 0
		for looks := 0; ; looks++ {
			c, err := r.database("skein").open()
			if err != nil {
				t.Fatal(err)
			}
			over := &endsAfter{t.Context(), looks}
			c.sqlite.SetInterrupt(over)
			p, err := analyse(c, list[0], nil)
			c.sqlite.SetInterrupt(t.Context())
			c.close()
			if err != nil {
				interrupted++
				continue
			}
			if p.fields[0].Type != oid.Int4 || p.fields[1].Type != oid.Numeric {
				t.Fatalf("%s, interrupted at the %dth look: %+v", sql, looks, p.fields)
			}
			if over.looks >= 0 { // it was not
				break
			}
		}
		if interrupted == 0 {
			t.Errorf("%s was never interrupted", sql)
		}
	}
}
