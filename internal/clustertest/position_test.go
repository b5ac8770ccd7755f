package clustertest

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
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
