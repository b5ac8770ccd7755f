package clustertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/claims"
	"skein/internal/nodetest"
)

// again is how long clients wait before they connect again.
const again = 5 * time.Millisecond

// series is a set of writers, each of which inserts 1, 2, 3 … and goes on to the next number only when the one before
// was acknowledged, through any number of lost connections; and of readers, which look at all of them
// at once. So whatever a reader sees of a writer must have no hole, and what readers see of all
// writers, on whatever node, must be stages of one history.
type series struct {
	c       *cluster
	anyone  bool // writers look for the leader by themselves, and nobody is it for sure
	writers []*writer
	stop    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	seen  map[string]bool // every stage that anybody has seen
	wrong []string
}

type writer struct {
	number int
	acked  atomic.Int64
}

// newSeries makes the table and starts so many writers to the leader, and a reader on every node.
func newSeries(c *cluster, writers int) *series {
	c.t.Helper()
	return (&series{c: c}).begin(writers, claims.To(c.leader.URL("skein")))
}

func (s *series) begin(writers int, url func() string) *series {
	c := s.c
	c.t.Helper()
	c.leader.query("CREATE TABLE series (writer int, n int, pad text, PRIMARY KEY (writer, n))")
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.seen = cancel, map[string]bool{}
	for i := range writers {
		w := &writer{number: i}
		s.writers = append(s.writers, w)
		s.running.Go(func() { s.write(ctx, w, url) })
	}
	for _, m := range c.members {
		s.running.Go(func() { s.read(ctx, m.name, claims.To(m.URL("skein"))) })
	}
	c.t.Cleanup(s.end)
	return s
}

// end stops writers and readers.
func (s *series) end() {
	s.stop()
	s.running.Wait()
}

// write is idempotent, so that what was lost can be tried again; a number that is there already is
// acknowledged only when what showed it is.
func (s *series) write(ctx context.Context, w *writer, url func() string) {
	each(ctx, url, func(conn *pgx.Conn) error {
		for {
			n := w.acked.Load() + 1
			ctx, cancel := s.patience(ctx)
			_, err := conn.Exec(ctx, "INSERT INTO series VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", w.number, n, strings.Repeat("x", int(n*37%400)))
			cancel()
			if err != nil {
				return err
			}
			w.acked.Store(n)
		}
	})
}

// patience is for one reply: there may be another node that would give one.
func (s *series) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if !s.anyone {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, claims.DefaultTimeout)
}

// each calls do with one connection after the other until ctx is done.
func each(ctx context.Context, url func() string, do func(*pgx.Conn) error) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, url())
		if err == nil {
			_ = do(conn)
			_ = conn.Close(context.Background())
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
}

// stage is how far each writer has come, as one snapshot shows it.
type stage []int64

func (s *series) read(ctx context.Context, node string, url func() string) {
	last := make(stage, len(s.writers)) // also of earlier processes: a node does not forget what it has shown
	each(ctx, url, func(conn *pgx.Conn) error {
		for {
			acked := s.acked()
			now, err := s.look(ctx, node, conn)
			if err != nil {
				return err
			}
			if behind(now, last) {
				s.fail("%s showed %v after %v", node, now, last)
			}
			if !s.anyone && node == s.c.leader.name && behind(now, acked) {
				s.fail("the leader shows %v, and %v was acknowledged before", now, acked)
			}
			last = now
			select {
			case <-time.After(again):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

func (s *series) acked() stage {
	a := make(stage, len(s.writers))
	for i, w := range s.writers {
		a[i] = w.acked.Load()
	}
	return a
}

// look reads one stage.
func (s *series) look(ctx context.Context, node string, conn *pgx.Conn) (stage, error) {
	now := make(stage, len(s.writers))
	var number int
	var count, least, most int64
	rows, err := conn.Query(ctx, "SELECT writer, count(*), min(n), max(n) FROM series GROUP BY writer")
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&number, &count, &least, &most}, func() error {
			if least != 1 || count != most {
				s.fail("%s shows %d rows of writer %d from %d to %d", node, count, number, least, most)
			}
			now[number] = most
			return nil
		})
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42P01" {
		return now, nil // the table has not arrived: a node that has shown it before goes back
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[fmt.Sprint([]int64(now))] = true
	return now, nil
}

// behind says whether a lacks something of b.
func behind(a, b stage) bool {
	for i := range a {
		if a[i] < b[i] {
			return true
		}
	}
	return false
}

func (s *series) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

// check ends the series, and looks at every node once more. It may be called when all nodes are equal.
func (s *series) check() {
	t := s.c.t
	t.Helper()
	s.end()
	s.c.equal()
	acked := s.acked()
	for _, m := range s.c.members {
		conn, err := pgx.Connect(t.Context(), m.URL("skein"))
		if err != nil {
			t.Fatal(err)
		}
		now, err := s.look(t.Context(), m.name, conn)
		if err != nil {
			t.Fatal(err)
		}
		if behind(now, acked) {
			s.fail("%s has %v, and %v was acknowledged", m.name, now, acked)
		}
		s.stages(t, func(seen stage) {
			if behind(now, seen) {
				s.fail("%s has %v, and %v was seen", m.name, now, seen)
			}
		})
		_ = conn.Close(t.Context())
	}
	for _, wrong := range s.wrong {
		t.Error(wrong)
	}
	s.oneHistory(t)
	t.Logf("%v acknowledged, %d stages seen", acked, len(s.seen))
}

// stages calls do with each that anybody has seen.
func (s *series) stages(t *testing.T, do func(stage)) {
	t.Helper()
	s.mu.Lock()
	seen := slices.Collect(maps.Keys(s.seen))
	s.mu.Unlock()
	for _, text := range seen {
		var one stage
		for _, f := range strings.Fields(strings.Trim(text, "[]")) {
			var n int64
			if _, err := fmt.Sscan(f, &n); err != nil {
				t.Fatal(err)
			}
			one = append(one, n)
		}
		do(one)
	}
}

// oneHistory checks that the stages that anybody has seen follow each other (J1: no long fork).
func (s *series) oneHistory(t *testing.T) {
	var stages []stage
	s.stages(t, func(one stage) { stages = append(stages, one) })
	sum := func(s stage) (n int64) {
		for _, v := range s {
			n += v
		}
		return n
	}
	slices.SortFunc(stages, func(a, b stage) int { return int(sum(a) - sum(b)) })
	for i := 1; i < len(stages); i++ {
		if behind(stages[i], stages[i-1]) {
			t.Errorf("one reader has seen %v, another one %v: these are no stages of one history", stages[i-1], stages[i])
		}
	}
}

// progress waits until every writer has so many more acknowledged.
func (s *series) progress(n int64) {
	s.c.t.Helper()
	for _, w := range s.writers {
		want := w.acked.Load() + n
		nodetest.Await(s.c.t, fmt.Sprintf("writer %d goes on", w.number), func() error {
			if got := w.acked.Load(); got < want {
				return fmt.Errorf("%d of %d; the leader says:\n%s", got, want, tail(s.c.leader.Log(), 6))
			}
			return nil
		})
	}
}
