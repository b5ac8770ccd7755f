package engine

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/dialect"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
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

// A write may be refused because the node follows, and the node may lead by the time that the client is told why.
func TestARefusalThatIsOverIsNotTheClientsDoing(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for _, test := range []struct {
		name  string
		tx    transaction
		moves bool
	}{
		{"outside of a transaction", transaction{}, true},
		{"in one that began when it followed", transaction{implicit: true, readOnly: true, unasked: true}, true},
		{"in one that was to read only", transaction{block: true, readOnly: true}, false},
	} {
		s := &Session{engine: r.engine, out: &pgwire.Conn{}, settings: r.session(c).settings, statement: &dialect.Statement{Kind: dialect.Insert, Tag: "INSERT"}, tx: test.tx}
		var e *sqlstate.Error
		if err := s.refuseWrite(); !errors.As(err, &e) || e.Code != sqlstate.ReadOnlyTransaction || e.NotHere != test.moves {
			t.Errorf("%s: %v, to be tried elsewhere: %v", test.name, err, e != nil && e.NotHere)
		}
	}
}
