package engine

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A follower's log may end in what the cluster is about to cut. A client that has seen as much of the cluster's history
// elsewhere must not be shown that in its place.
func TestWhatWasSeenElsewhereDoesNotShowWhatIsPendingHere(t *testing.T) { // I8, T1
	r := newRig(t)
	c := r.dial()
	for _, sql := range []string{"CREATE TABLE t (a int)", "ALTER SYSTEM SET synchronous_standby_names = 'gander'"} {
		if code, _ := run(t, c, sql); code != "" {
			t.Fatal(sql, code)
		}
	}
	writer := r.dial()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = writer.Exec(t.Context(), "INSERT INTO t VALUES (1)").ReadAll()
	}()
	r.awaited(1)

	reader := r.dial()
	s := r.session(reader)
	head := r.pipeline.Log().Received()
	if visible := r.pipeline.Visible(); head <= visible {
		t.Fatalf("the log ends at %d and readers see %d of it", head, visible)
	}
	s.Raise(head)
	if got := s.Floor(); got != head {
		t.Errorf("the floor is %d, want %d", got, head)
	}
	if _, value := run(t, reader, "SELECT count(*) FROM t"); value != "0" {
		t.Errorf("%s rows, of which none is acknowledged", value)
	}
	r.acknowledge("gander", "flushed")
	<-done
	if _, value := run(t, reader, "SELECT count(*) FROM t"); value != "1" {
		t.Errorf("%s rows, want the one that was acknowledged", value)
	}
}

func (r *rig) session(c *pgconn.PgConn) *Session {
	r.engine.mu.RLock()
	defer r.engine.mu.RUnlock()
	return r.engine.sessions[c.PID()]
}
