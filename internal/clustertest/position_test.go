package clustertest

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/clustertest/proxy"
)

// A position that a client brings is waited for on every node, with or without its epoch, and nothing is shown before it is
// there.
func TestForward_APositionIsWaitedFor(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	leader := e.lead()
	leader.query("CREATE TABLE t (n int)")
	say := func(c *pgconn.PgConn, sql string) (string, error) {
		results, err := c.Exec(t.Context(), sql).ReadAll()
		value := ""
		for _, r := range results {
			for _, row := range r.Rows {
				value = string(row[0])
			}
		}
		return value, err
	}
	for i, m := range []*member{leader, e.other(leader)} {
		c, err := pgconn.Connect(t.Context(), m.URL("skein"))
		if err != nil {
			t.Fatal(err)
		}
		must := func(sql string) string {
			t.Helper()
			value, err := say(c, sql)
			if err != nil {
				t.Fatalf("%s: %s: %v", m.name, sql, err)
			}
			return value
		}
		must("INSERT INTO t VALUES (1)")
		last := c.ParameterStatus("skein.last_commit")
		if got := must("SHOW skein.last_commit"); got != last || !strings.Contains(last, "@1-") {
			t.Errorf("%s: the client was told %q, and shown %q", m.name, last, got)
		}
		must("SET skein.failover_wait = '200ms'")
		for position, code := range map[string]string{
			"FF/0":                                   "57014",
			"FF/0" + last[strings.Index(last, "@"):]: "57014",
			last[:strings.Index(last, "-")] + "-5f3c9a1e": "22023",
		} {
			must("SET skein.wait_for = '" + position + "'")
			if _, err := say(c, "SELECT count(*) FROM t"); sqlState(err) != code {
				t.Errorf("%s: a read that must see %s: %v", m.name, position, err)
			}
		}
		for _, position := range []string{last, last[:strings.Index(last, "@")]} {
			must("SET skein.wait_for = '" + position + "'")
			if n := must("SELECT count(*) FROM t"); n != []string{"1", "2"}[i] {
				t.Errorf("%s: at %s there are %s rows", m.name, position, n)
			}
			for _, n := range e.members {
				if got := n.value("WAIT FOR LSN '" + position + "' WITH (TIMEOUT '20s')"); got != "success" {
					t.Errorf("%s: waiting for %s: %s", n.name, position, got)
				}
			}
		}
		_ = c.Close(t.Context())
	}
}

// What a leader has acknowledged alone, at a level that asks for no more, may be cut. Whoever waits for it is told so, on every node.
func TestForward_APositionThatWasCut(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	e.load()
	old := e.lead()
	old.query("CREATE TABLE t (n int)")
	c, err := pgconn.Connect(t.Context(), old.URL("skein"))
	if err != nil {
		t.Fatal(err)
	}
	since := e.claims.Since()
	e.network.Drop(proxy.Around(old.name, proxy.Everything)...)
	if _, err := c.Exec(t.Context(), "SET synchronous_commit = local; INSERT INTO t VALUES (1)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	lost := c.ParameterStatus("skein.last_commit")
	if lost == "" {
		t.Fatal("the client was not told of its position")
	}
	_ = c.Close(t.Context())
	e.takesOver(old, since)
	e.network.Heal()
	e.progress(20)
	e.caughtUp()
	for _, m := range e.members {
		for _, sql := range []string{
			"WAIT FOR LSN '" + lost + "' WITH (TIMEOUT '60s')",
			"WAIT FOR LSN '" + lost + "' WITH (MODE 'standby_flush', TIMEOUT '60s', NO_THROW)",
			"SET skein.wait_for = '" + lost + "'; SELECT count(*) FROM t",
			"BEGIN READ ONLY; SET LOCAL skein.wait_for = '" + lost + "'; SELECT count(*) FROM t; COMMIT",
		} {
			if _, err := m.ask(sql); sqlState(err) != "55000" {
				t.Errorf("%s: %s: %v", m.name, sql, err)
			}
		}
	}
	e.end(true)
}
