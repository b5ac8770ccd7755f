package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/nodetest"
)

// namer repeats each transaction under one token until it is told that it is done.
type namer struct {
	id       int
	urls     []string // of any node
	random   *rand.Rand
	conn     *pgconn.PgConn
	done     atomic.Int64 // transactions
	earlier  int          // that an earlier try had done
	attempts int
	failed   atomic.Pointer[error]
}

// try makes one attempt. It says whether the transaction is done.
func (n *namer) try(ctx context.Context, number int64) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	n.attempts++
	if n.conn == nil {
		conn, err := pgconn.Connect(ctx, n.urls[n.random.IntN(len(n.urls))])
		if err != nil {
			n.failed.Store(&err)
			return false
		}
		n.conn = conn
	}
	texts := []string{
		fmt.Sprintf("SET skein.transaction_token = 'client %d, number %d'", n.id, number),
		"BEGIN",
		fmt.Sprintf("INSERT INTO named VALUES (%d, %d)", n.id, number),
		fmt.Sprintf("INSERT INTO named VALUES (%d, %d)", n.id, -number),
		"COMMIT",
	}
	if n.random.IntN(2) == 0 { // a single statement
		texts = []string{texts[0], fmt.Sprintf("INSERT INTO named VALUES (%d, %d), (%d, %d)", n.id, number, n.id, -number)}
	}
	for _, sql := range texts {
		_, err := n.conn.Exec(ctx, sql).ReadAll()
		if err == nil {
			continue
		}
		var told *pgconn.PgError
		done := errors.As(err, &told) && told.Code == "23505" && told.ConstraintName == "skein_transaction_token"
		if done {
			n.earlier++
		} else {
			n.failed.Store(&err)
		}
		if n.conn.IsClosed() || n.random.IntN(2) == 0 {
			n.leave()
		} else if _, err := n.conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil { // of a block, if there is one
			n.leave()
		}
		return done
	}
	return true
}

func (n *namer) leave() {
	if n.conn != nil {
		_ = n.conn.Close(context.Background())
		n.conn = nil
	}
}

func (n *namer) run(ctx context.Context) {
	defer n.leave()
	for ctx.Err() == nil {
		if n.try(ctx, n.done.Load()+1) {
			n.done.Add(1)
		}
	}
}

// T7: whatever becomes of the leader, and whichever node a client is connected to, a transaction that is named and repeated is done once.
func TestFailover_T7_WhatIsNamedIsDoneOnce(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.lead().query("CREATE TABLE named (client int, number int)")
	var urls []string
	for _, m := range e.members {
		urls = append(urls, m.URL("skein")+"?connect_timeout=2")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	seed := seed(t)
	var clients []*namer
	var working sync.WaitGroup
	for i := range 6 {
		n := &namer{id: i, urls: urls, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		clients = append(clients, n)
		working.Go(func() { n.run(ctx) })
	}
	everybodyGoesOn := func() {
		t.Helper()
		for _, n := range clients {
			before := n.done.Load()
			nodetest.Await(t, "a client goes on", func() error {
				if n.done.Load() < before+5 {
					err := new(error)
					if last := n.failed.Load(); last != nil {
						err = last
					}
					return fmt.Errorf("client %d: %d done; its last error: %w", n.id, n.done.Load(), *err)
				}
				return nil
			})
		}
	}
	for round := range 4 {
		everybodyGoesOn()
		old := e.lead()
		if round == 2 {
			e.switchover("")
			continue
		}
		old.Kill()
		e.takesOver(old, e.claims.Since())
		old.start()
		e.caughtUp()
	}
	everybodyGoesOn()
	stop()
	working.Wait()

	total, earlier, attempts := int64(0), 0, 0
	for _, n := range clients {
		done := n.done.Load()
		total, earlier, attempts = total+done, earlier+n.earlier, attempts+n.attempts
		for _, row := range e.lead().query(fmt.Sprintf("SELECT abs(number), count(*), count(DISTINCT number) FROM named WHERE client = %d GROUP BY 1 HAVING count(*) <> 2 OR count(DISTINCT number) <> 2", n.id)) {
			t.Errorf("client %d, transaction %s: %s rows, %s of them different", n.id, row[0], row[1], row[2])
		}
		got := e.lead().value(fmt.Sprintf("SELECT count(DISTINCT abs(number)) || ' ' || max(number) FROM named WHERE client = %d", n.id))
		if got != fmt.Sprintf("%d %d", done, done) && got != fmt.Sprintf("%d %d", done+1, done+1) { // the last one may not have heard of it
			t.Errorf("client %d has done %d: %s are there", n.id, done, got)
		}
	}
	t.Logf("%d done by %d attempts; of %d it was learnt later", total, attempts, earlier)
	e.end(true)
}
