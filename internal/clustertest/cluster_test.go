package clustertest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// together is how many clusters run at a time: most of them wait for something.
const together = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(together)
	}
	if testing.Short() {
		os.Exit(m.Run()) // nothing is started
	}
	os.Exit(nodetest.Main(m))
}

func seed(t *testing.T) uint64 {
	t.Helper()
	return nodetest.Seed(t, "CLUSTERTEST_SEED")
}

// cluster is a leader and those that follow it, directly or not.
type cluster struct {
	t       *testing.T
	leader  *member
	members []*member // the leader too
	binary  string    // of all processes, if they are not what is tested
}

// member is a node through all of its processes.
type member struct {
	*nodetest.Node // the newest process

	t        *testing.T
	name     string
	dir      string
	address  string // for clients
	peer     string // for other nodes
	upstream *member
	link     *proxy.Proxy // in front of upstream, or of the node that it last was; nil on the first leader, and where leaders are appointed
	args     []string
	env      []string
	binary   string
	within   []string // see nodetest.Options
}

// newCluster runs a leader and so many followers of it, which have their copies.
func newCluster(t *testing.T, followers int) *cluster {
	t.Helper()
	c := &cluster{t: t}
	c.leader = c.add("n1", nil)
	c.leader.start()
	for range followers {
		c.follower(c.leader)
	}
	return c
}

// follower adds a node that follows upstream, starts it, and waits until it serves.
func (c *cluster) follower(upstream *member, args ...string) *member {
	c.t.Helper()
	m := c.add(fmt.Sprintf("n%d", len(c.members)+1), upstream)
	m.args = args
	m.start()
	return m
}

// add makes a node that does not run yet.
func (c *cluster) add(name string, upstream *member) *member {
	c.t.Helper()
	if testing.Short() {
		c.t.Skip("runs processes")
	}
	m := &member{t: c.t, name: name, dir: filepath.Join(c.t.TempDir(), name), address: nodetest.Address(), peer: nodetest.Address(), binary: c.binary}
	m.env = []string{clockVariable + "=" + m.clock()}
	c.members = append(c.members, m)
	c.t.Cleanup(func() {
		if m.Node != nil && c.t.Failed() {
			c.t.Logf("%s ended with %v:\n%s", m.name, m.State(), tail(m.Log(), logLines()))
		}
	})
	if upstream != nil {
		m.follow(upstream)
	}
	return m
}

// followers are all members but the leader.
func (c *cluster) followers() []*member {
	return slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return m == c.leader })
}

// follow has the next process follow upstream; nil: it leads.
func (m *member) follow(upstream *member) {
	m.t.Helper()
	m.upstream = upstream
	switch {
	case upstream == nil:
	case m.link == nil:
		m.link = proxy.New(m.t, upstream.peer)
	default:
		m.link.To(upstream.peer)
	}
}

func (m *member) options() nodetest.Options {
	o := nodetest.Options{Dir: m.dir, Name: m.name, Address: m.address, PeerAddress: m.peer, Args: m.args, Env: m.env, Binary: m.binary, Within: m.within}
	if m.upstream != nil && m.link != nil {
		o.Follow = m.link.Address()
	}
	return o
}

// launch starts a process and does not wait for it.
func (m *member) launch(faults string) {
	m.t.Helper()
	o := m.options()
	o.Faults = faults
	m.Node = nodetest.Launch(m.t, o)
}

// start starts a process and waits until it serves.
func (m *member) start() {
	m.t.Helper()
	m.launch("")
	m.serves()
}

func (m *member) serves() {
	m.t.Helper()
	if err := m.AwaitServing(m.t); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
}

// restart kills the process and starts another.
func (m *member) restart() {
	m.t.Helper()
	m.Kill()
	m.start()
}

func (m *member) signal(s syscall.Signal) {
	m.t.Helper()
	if err := m.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

// pause stops the process where it is; resume lets it go on. A paused process can be killed.
func (m *member) pause()  { m.t.Helper(); m.signal(syscall.SIGSTOP) }
func (m *member) resume() { m.t.Helper(); m.signal(syscall.SIGCONT) }

func (m *member) wipe() {
	m.t.Helper()
	if err := os.RemoveAll(m.dir); err != nil {
		m.t.Fatal(err)
	}
}

// copied copies the directory of a node that does not run, and gives the copy's name.
func (m *member) copied() string {
	m.t.Helper()
	to := filepath.Join(m.t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(m.dir)); err != nil {
		m.t.Fatal(err)
	}
	return to
}

// restore puts a copy in place of the directory.
func (m *member) restore(from string) {
	m.t.Helper()
	m.wipe()
	if err := os.CopyFS(m.dir, os.DirFS(from)); err != nil {
		m.t.Fatal(err)
	}
}

// ask runs SQL on a connection of its own and gives the rows of the last statement, as text.
func (m *member) ask(sql string) ([][]string, error) { return m.askIn("skein", sql) }

func (m *member) askIn(database, sql string) ([][]string, error) {
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, m.URL(database))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	var rows [][]string
	for _, r := range results[len(results)-1].Rows {
		var row []string
		for _, v := range r {
			row = append(row, string(v))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// query is ask where it must work.
func (m *member) query(sql string) [][]string {
	m.t.Helper()
	rows, err := m.ask(sql)
	if err != nil {
		m.t.Fatalf("%s: %s: %v\n%s", m.name, sql, err, m.Log())
	}
	return rows
}

// value is the only value of a query.
func (m *member) value(sql string) string {
	m.t.Helper()
	rows := m.query(sql)
	if len(rows) != 1 || len(rows[0]) != 1 {
		m.t.Fatalf("%s: %s: %v, want one value", m.name, sql, rows)
	}
	return rows[0][0]
}

// await waits until a query on m gives want.
func (m *member) await(sql, want string) {
	m.t.Helper()
	m.awaitIn("skein", sql, want)
}

func (m *member) awaitIn(database, sql, want string) {
	m.t.Helper()
	nodetest.Await(m.t, fmt.Sprintf("%s has %q for %s", m.name, want, sql), func() error {
		rows, err := m.askIn(database, sql)
		if err != nil {
			return err
		}
		var got []string
		for _, r := range rows {
			got = append(got, strings.Join(r, "|"))
		}
		if s := strings.Join(got, "\n"); s != want {
			return fmt.Errorf("it has %q", s)
		}
		return nil
	})
}

// status is what skein_status says of positions: head, flushed and visible.
func (m *member) status() (s [3]string, err error) {
	rows, err := m.ask("SELECT head_lsn, flushed_lsn, visible_lsn FROM skein_status")
	if err != nil {
		return s, err
	}
	return [3]string(rows[0]), nil
}

// flushed waits until m has on its disk what upstream has now.
func (m *member) flushed(upstream *member) {
	m.t.Helper()
	want := upstream.value("SELECT head_lsn FROM skein_status")
	m.await("SELECT flushed_lsn >= '"+want+"' FROM skein_status", "t")
}

// unacknowledged waits until a leader has so many entries on its own disk, or more, that are not acknowledged.
func (m *member) unacknowledged(n int) {
	m.t.Helper()
	m.await(fmt.Sprintf("SELECT flushed_lsn = head_lsn AND head_lsn - visible_lsn >= %d FROM skein_status", n), "t")
}

// connected waits until m streams from its upstream, or until the upstream has noticed that it does not.
func (m *member) connected(yes bool) {
	m.t.Helper()
	n := "0"
	if yes {
		n = "1"
	}
	m.upstream.await(fmt.Sprintf("SELECT count(*) FROM pg_stat_replication WHERE application_name = '%s' AND state = 'streaming'", m.name), n)
}

// synchronous has commits wait for followers as names says; "" for none.
func (c *cluster) synchronous(names string) {
	c.t.Helper()
	c.leader.query("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
}

// equal waits until nobody lags. Nobody may write meanwhile.
func (c *cluster) equal() {
	c.t.Helper()
	nodetest.Await(c.t, "all nodes stand at the same entry", func() error {
		want, err := c.leader.status()
		if err != nil {
			return err
		}
		if want[0] != want[1] || want[0] != want[2] {
			return fmt.Errorf("the leader has head, flushed and visible at %v", want)
		}
		for _, m := range c.members {
			got, err := m.status()
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			if got != want {
				return fmt.Errorf("%s is at %v, the leader at %v\n%s", m.name, got, want, tail(m.Log(), 6))
			}
		}
		return nil
	})
}

// tail is the last lines of a log.
func tail(log string, lines int) string {
	all := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// verify has the nodes compare themselves, each with those that follow it, and fails unless all are whole and equal.
func (c *cluster) verify() {
	c.t.Helper()
	c.equal()
	for _, m := range c.members {
		m.verify(c.members)
	}
}

// verify has m compare itself with those of all that follow it.
func (m *member) verify(all []*member) {
	m.t.Helper()
	want := map[string]bool{m.name: true}
	for _, f := range all {
		if f.upstream == m {
			want[f.name] = true
			f.connected(true)
		}
	}
	if len(want) == 1 && m.upstream != nil {
		return
	}
	rows := m.query("SELECT node, coalesce(database, ''), result, lsn, checksum, coalesce(detail, '') FROM skein_verify()")
	sums := map[string]string{}
	for _, r := range rows {
		node, database, result, at := r[0], r[1], r[2], r[3]+" "+r[4]
		delete(want, node)
		if result != "ok" {
			m.t.Errorf("skein_verify on %s: %v", m.name, r)
		}
		if sums[database] == "" {
			sums[database] = at
		}
		if sums[database] != at {
			m.t.Errorf("skein_verify on %s: database %s stands at %q and on %s at %q", m.name, database, sums[database], node, at)
		}
	}
	if len(want) > 0 {
		m.t.Errorf("skein_verify on %s has not compared %v: %v", m.name, want, rows)
	}
}

// end checks that all nodes are identical and keep what the ledgers were promised; then it stops them in order and
// compares their files.
func (c *cluster) end(ledgers ...*nodetest.Ledger) {
	c.t.Helper()
	c.verify()
	for _, l := range ledgers {
		for _, m := range c.members {
			l.Check(c.t, m.Node)
		}
	}
	for _, m := range append(c.followers(), c.leader) {
		m.Stop(c.t)
	}
	for _, m := range c.followers() {
		if err := sameFiles(filepath.Join(c.leader.dir, "db"), filepath.Join(m.dir, "db")); err != nil {
			c.t.Errorf("%s: %v", m.name, err)
		}
	}
}

// sameFiles compares the databases of two nodes that were stopped in order.
func sameFiles(a, b string) error {
	var problems []error
	names := func(dir string) []string {
		list, err := filepath.Glob(filepath.Join(dir, "*.db"))
		problems = append(problems, err)
		for i := range list {
			list[i] = filepath.Base(list[i])
		}
		return list
	}
	mine, theirs := names(a), names(b)
	if !slices.Equal(mine, theirs) {
		return fmt.Errorf("databases %v and %v", mine, theirs)
	}
	for _, name := range mine {
		x, err := os.ReadFile(filepath.Join(a, name))
		problems = append(problems, err)
		y, err := os.ReadFile(filepath.Join(b, name))
		problems = append(problems, err)
		if !bytes.Equal(x, y) {
			problems = append(problems, fmt.Errorf("%s differs: %d and %d bytes", name, len(x), len(y)))
		}
	}
	return errors.Join(problems...)
}

// vault lists the tails that a node has kept.
func (m *member) vault() []string {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "vault", "*"))
	if err != nil {
		m.t.Fatal(err)
	}
	return files
}

// says waits until the node's log holds a text.
func (m *member) says(text string) {
	m.t.Helper()
	nodetest.Await(m.t, fmt.Sprintf("%s says %q", m.name, text), func() error {
		if log := m.Log(); !strings.Contains(log, text) {
			return errors.New(log)
		}
		return nil
	})
}

// more waits until so many more bytes have come down the link of m, which says that replication goes on.
func (m *member) more(bytes int64) {
	m.t.Helper()
	want := m.link.Bytes(proxy.Down) + bytes
	nodetest.Await(m.t, "more is sent to "+m.name, func() error {
		if got := m.link.Bytes(proxy.Down); got < want {
			return fmt.Errorf("%d bytes of %d", got, want)
		}
		return nil
	})
}

func asError[E error](err error, target *E) bool { return errors.As(err, target) }

// logLines is how much of a node's log a failed test shows: CLUSTERTEST_LOG lines, or 20.
func logLines() int {
	if n, err := strconv.Atoi(os.Getenv("CLUSTERTEST_LOG")); err == nil {
		return n
	}
	return 20
}
