package dialect

import (
	"sync"
	"testing"

	"skein/internal/oid"
)

// A statement is cached and shared: describing it must not change it.
func TestSessionsDescribeOneStatementTogether(t *testing.T) {
	st := only(t, "insert into t (a, b) values ($1, '2020-01-01') on conflict (a) do update set b = excluded.b + 1 returning a + 1, b")
	want, _ := st.Typed(Known{Refs: []oid.OID{oid.Int4, oid.Date, oid.Date, oid.Int4}, Mods: []int32{-1, -1, -1, -1}})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				st.Infer(Known{}, make([]oid.OID, 2))
				if got, _ := st.Typed(Known{Refs: []oid.OID{oid.Int4, oid.Date, oid.Date, oid.Int4}, Mods: []int32{-1, -1, -1, -1}}); got != want {
					t.Errorf("%s, then %s", want, got)
				}
				st.Probe()
			}
		})
	}
	group.Wait()
}
