package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// router runs a router process in front of the cluster.
func (e *elected) router(args ...string) *nodetest.Node {
	e.t.Helper()
	var peers []string
	for _, m := range e.members {
		peers = append(peers, e.addr[m])
	}
	return nodetest.Router(e.t, peers, append([]string{"--trust-loopback"}, args...)...)
}

// patron is a client of a router that keeps one connection, whatever happens behind it. It writes 1, 2, 3 …, and reads after
// each what all patrons have written.
type patron struct {
	id     int
	acked  atomic.Int64
	unsure int // outcomes that were unknown
	seen   int64
	wrong  error
}

// run ends with ctx, or with what must not be.
func (p *patron) run(ctx context.Context, url string) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		p.wrong = err
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for ctx.Err() == nil && p.wrong == nil {
		if err := p.turn(conn); err != nil {
			p.wrong = fmt.Errorf("client %d, which had %d acknowledged: %w", p.id, p.acked.Load(), err)
		}
	}
}

func (p *patron) turn(conn *pgx.Conn) error {
	ctx, stop := context.WithTimeout(context.Background(), progressWait) // whoever is told nothing for so long is stuck
	defer stop()
	n := p.acked.Load() + 1
	_, err := conn.Exec(ctx, "INSERT INTO visits VALUES ($1, $2) ON CONFLICT DO NOTHING", p.id, n)
	var told *pgconn.PgError
	switch {
	case errors.As(err, &told) && told.Code == "08007": // its leader is dead, and it may be repeated
		p.unsure++
		return nil
	case err != nil:
		return fmt.Errorf("write: %w", err)
	}
	p.acked.Store(n)
	var own, count, all int64
	if err := conn.QueryRow(ctx, "SELECT coalesce(max(n), 0), count(*), (SELECT count(*) FROM visits) FROM visits WHERE client = $1", p.id).
		Scan(&own, &count, &all); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	switch {
	case own != n || count != n:
		return fmt.Errorf("it reads %d rows up to %d after it has written %d", count, own, n)
	case all < p.seen:
		return fmt.Errorf("it reads %d rows after %d", all, p.seen)
	}
	p.seen = all
	return nil
}

// Behind a router clients keep their connections when the node that they read on is killed, and when the leader is. Only
// what was on its way to the leader is of unknown outcome; nothing that was acknowledged is lost, and no read goes back.
func TestRouter_I_NodesDieAndClientsStay(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	e.lead().query("CREATE TABLE visits (client int, n int, PRIMARY KEY (client, n))")
	r := e.router()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var patrons []*patron
	var visiting sync.WaitGroup
	for i := range 6 {
		p := &patron{id: i}
		patrons = append(patrons, p)
		visiting.Go(func() { p.run(ctx, r.URL("skein")) })
	}
	goOn := func() {
		t.Helper()
		for _, p := range patrons {
			before := p.acked.Load()
			nodetest.Await(t, fmt.Sprintf("client %d goes on", p.id), func() error {
				if now := p.acked.Load(); now < before+5 {
					return fmt.Errorf("%d were acknowledged before, now %d\n%s", before, now, tail(r.Log(), 20))
				}
				return nil
			})
		}
	}
	goOn()
	for _, m := range e.members {
		if m == e.leader {
			continue
		}
		m.Kill()
		goOn()
		m.launch("")
		m.serves()
	}
	for _, p := range patrons {
		if p.unsure > 0 {
			t.Errorf("client %d was told %d times that an outcome is unknown, and only nodes that it reads on were killed", p.id, p.unsure)
		}
	}
	e.caughtUp()
	killed, since := e.leader, e.claims.Since()
	killed.Kill()
	e.takesOver(killed, since)
	goOn()
	killed.launch("")
	killed.serves()
	goOn()
	stop()
	visiting.Wait()
	for _, p := range patrons {
		if p.wrong != nil {
			t.Errorf("%v\n%s", p.wrong, tail(r.Log(), 40))
		}
		rows := e.lead().query(fmt.Sprintf("SELECT count(*) FROM visits WHERE client = %d", p.id))
		if got := rows[0][0]; got < fmt.Sprint(p.acked.Load()) && len(got) <= len(fmt.Sprint(p.acked.Load())) {
			t.Errorf("client %d: %s rows, and %d were acknowledged", p.id, got, p.acked.Load())
		}
	}
	e.end(true)
}

// readers asks so many clients of a router, all connected at once so that they spread, where they read.
func readers(t *testing.T, r *nodetest.Node, clients int) []string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), progressWait)
	defer stop()
	var names []string
	for range clients {
		conn, err := pgx.Connect(ctx, r.URL("skein"))
		if err != nil {
			t.Errorf("%v\n%s", err, tail(r.Log(), 20))
			return nil
		}
		defer func() { _ = conn.Close(context.Background()) }()
		var name string
		if err := conn.QueryRow(ctx, "SELECT node FROM skein_status").Scan(&name); err != nil {
			t.Errorf("%v\n%s", err, tail(r.Log(), 20))
			return nil
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// I11: a follower that lags gets no reads until it has caught up. When all of them do, the leader reads, and clients get
// their answers; a session that had a follower gets one again.
func TestRouter_I11_FollowersThatLagGetNoReads(t *testing.T) {
	e := newElected(t, 3, "")
	e.load()
	leader := e.lead()
	leader.query("ALTER SYSTEM SET skein.automatic_failover = off") // a machine with much to do must not change who is who
	var followers []*member
	for _, m := range e.members {
		if m != leader {
			followers = append(followers, m)
		}
	}
	slices.SortFunc(followers, func(a, b *member) int { return strings.Compare(a.name, b.name) })
	one, two := followers[0], followers[1]
	r := e.router("--max-lag", "1s", "--max-leader-reads", "2")
	read := func(want ...string) {
		t.Helper()
		nodetest.Await(t, fmt.Sprintf("reads run on %v", want), func() error {
			if got := readers(t, r, 8); !slices.Equal(got, want) {
				return fmt.Errorf("they run on %v\n%s", got, tail(r.Log(), 10))
			}
			return nil
		})
	}
	read(one.name, two.name)

	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	session, err := pgx.Connect(ctx, r.URL("skein"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close(context.Background()) }()
	stands := func(what, want string) {
		t.Helper()
		nodetest.Await(t, what, func() error {
			var name string
			if err := session.QueryRow(ctx, "SELECT node FROM skein_status").Scan(&name); err != nil {
				t.Fatalf("%v\n%s", err, tail(r.Log(), 20))
			}
			if name != want {
				return fmt.Errorf("it reads on %s\n%s", name, tail(r.Log(), 20))
			}
			return nil
		})
	}

	heal := e.network.Drop(proxy.Between(leader.name, one.name, proxy.Replication)...)
	read(two.name)
	stands("an old session has left the follower that lags", two.name)
	healTwo := e.network.Drop(proxy.Between(leader.name, two.name, proxy.Replication)...)
	read(leader.name)
	var reading sync.WaitGroup
	for range 8 { // more than the leader takes at a time: they wait, and none fails
		reading.Go(func() { readers(t, r, 3) })
	}
	reading.Wait()
	stands("all followers lag, and an old session reads on the leader", leader.name)
	healTwo()
	read(two.name)
	stands("an old session reads on a follower again", two.name)
	heal()
	read(one.name, two.name)
	e.end(false)
}

// A router lets in whom the cluster's roles let in, and nobody else.
func TestRouter_ChecksPasswords(t *testing.T) {
	e := newElected(t, 2, "")
	e.load()
	e.lead().query("CREATE ROLE visitor LOGIN PASSWORD 'right'; ALTER ROLE visitor SET skein.read_wait = '70ms'")
	var peers []string
	for _, m := range e.members {
		peers = append(peers, e.addr[m])
	}
	r := nodetest.Router(t, peers)
	try := func(user, password string) (string, error) {
		ctx, stop := context.WithTimeout(t.Context(), progressWait)
		defer stop()
		conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://%s:%s@%s/skein", user, password, r.Address))
		if err != nil {
			return "", err
		}
		defer func() { _ = conn.Close(ctx) }()
		var value string
		err = conn.QueryRow(ctx, "SELECT current_user || ' ' || current_setting('skein.read_wait')").Scan(&value)
		return value, err
	}
	var told *pgconn.PgError
	for _, test := range [][2]string{{"visitor", "wrong"}, {"visitor", ""}, {"skein", "right"}, {"skein", ""}, {"nobody", "right"}} {
		if _, err := try(test[0], test[1]); !errors.As(err, &told) || told.Code != "28P01" {
			if test[1] == "" && err != nil { // the client does not even try
				continue
			}
			t.Errorf("%s with the password %q: %v", test[0], test[1], err)
		}
	}
	nodetest.Await(t, "the role can log in", func() error { // the follower may not know of it yet
		if value, err := try("visitor", "right"); err != nil || value != "visitor 70ms" {
			return fmt.Errorf("%q, %w\n%s", value, err, tail(r.Log(), 10))
		}
		return nil
	})
	e.end(false)
}

// A router takes so many sessions and no more, ends those that are idle for too long, and has a session be one, wherever it reads.
func TestRouter_Sessions(t *testing.T) {
	e := newElected(t, 2, "")
	e.load()
	for _, sql := range []string{"CREATE TABLE visits (n int)", "CREATE ROLE dozer LOGIN", "ALTER ROLE dozer SET idle_session_timeout = '300ms'"} {
		e.lead().query(sql)
	}
	e.caughtUp()
	r := e.router("--max-connections", "3")
	ctx, stop := context.WithTimeout(t.Context(), progressWait)
	defer stop()
	connect := func(user string) (*pgx.Conn, error) {
		return pgx.Connect(ctx, strings.Replace(r.URL("skein"), "skein@", user+"@", 1))
	}
	var conns []*pgx.Conn
	for range 3 {
		conn, err := connect("skein")
		if err != nil {
			t.Fatalf("%v\n%s", err, tail(r.Log(), 10))
		}
		conns = append(conns, conn)
	}
	var told *pgconn.PgError
	if _, err := connect("skein"); !errors.As(err, &told) || told.Code != "53300" {
		t.Errorf("one session too many: %v", err)
	}
	for _, conn := range conns[1:] {
		_ = conn.Close(ctx)
	}
	var dozer *pgx.Conn
	nodetest.Await(t, "there is room again", func() (err error) {
		dozer, err = connect("dozer")
		return err
	})
	if _, err := dozer.Exec(ctx, "SELECT count(*) FROM visits"); err != nil {
		t.Error(err)
	}
	if _, err := dozer.PgConn().ReceiveMessage(ctx); !errors.As(err, &told) || told.Code != "57P05" {
		t.Errorf("a session that is idle: %v", err)
	}

	conn := conns[0]
	for range 3 {
		if _, err := conn.Exec(ctx, "INSERT INTO visits VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		want := conn.PgConn().ParameterStatus("skein.last_commit")
		for _, sql := range []string{"SELECT current_setting('skein.last_commit')", "SHOW skein.last_commit", "SELECT current_setting('skein.last_commit') FROM visits LIMIT 1"} {
			var got string
			if err := conn.QueryRow(ctx, sql).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %q, %v; the client was told of %s", sql, got, err, want)
			}
		}
		var seen string
		if err := conn.QueryRow(ctx, "SHOW skein.last_seen").Scan(&seen); err != nil || seen == "" {
			t.Errorf("it has seen %q, %v", seen, err)
		}
	}
	_ = conn.Close(ctx)
	e.end(false)
}

// Every conversation goes through a router as it does with the leader, word by word.
func TestRouter_TheSameConversations(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	leader := e.lead()
	r := e.router()
	for i, name := range played {
		t.Run(name, func(t *testing.T) {
			database := fmt.Sprintf("through%d", i)
			leader.query("CREATE DATABASE " + database)
			for _, m := range e.members {
				m.await("SELECT count(*) FROM pg_database WHERE datname = '"+database+"'", "1")
			}
			play(t, name, r.Address, database)
		})
	}
}
