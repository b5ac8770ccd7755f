package router

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"skein/internal/commit"
	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/replog"
	"skein/internal/sqlitevfs"
)

// disk is the storage of a node that can be told whether it leads.
type disk struct {
	*commit.Pipeline
	vfs       *sqlitevfs.VFS
	following atomic.Bool
}

func (d *disk) Leads() history.Epoch {
	if d.following.Load() {
		return 0
	}
	return d.Pipeline.Leads()
}

func (d *disk) URI(id history.DatabaseID) string { return d.vfs.URI(id) }

func (d *disk) Create(id history.DatabaseID) error {
	_, err := d.Store().Create(id)
	return err
}

func (d *disk) Drop(history.DatabaseID)            {}
func (d *disk) IDs() []history.DatabaseID          { return nil }
func (d *disk) LogBytes() int64                    { return d.Log().Bytes() }
func (d *disk) Head() history.LSN                  { return d.Log().Head().LSN }
func (d *disk) SizeBytes(history.DatabaseID) int64 { return 0 }

// newDisk is that of a new node, which leads, with its engine.
func newDisk(t *testing.T) (*disk, *engine.Engine) {
	t.Helper()
	dir := t.TempDir()
	p, _, err := commit.Open(dir, commit.Options{Cluster: replog.Cluster{1}, SegmentBytes: 4 * replog.MaxChunk})
	if err != nil {
		t.Fatal(err)
	}
	vfs, err := sqlitevfs.Register(rand.Text(), p.Store(), p, sqlitevfs.NewTempSpace(commit.TempDir(dir), 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		vfs.Unregister()
		if err := p.Close(true); err != nil {
			t.Error(err)
		}
	})
	if err := p.Lead(ctx, 0); err != nil {
		t.Fatal(err)
	}
	d := &disk{Pipeline: p, vfs: vfs}
	e, err := engine.Open(ctx, d, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return d, e
}

// changing is a cluster in which it is decided at the worst moments whether this node leads.
type changing struct {
	*leaders
	blind
	disk  *disk
	begin atomic.Bool // it does, as soon as somebody asks who does
	cease atomic.Bool // and ceases when a read asks how new it must be
	next  []answering // who leads then
}

func (c *changing) Leader() (Leader, bool) {
	if c.begin.Load() {
		c.disk.following.Store(false)
		return Leader{Epoch: 1, Here: true}, true
	}
	return c.leaders.Leader()
}

func (c *changing) Visible() history.LSN { return c.disk.Visible() }

func (c *changing) ReadPosition(context.Context, string) (history.LSN, error) {
	if c.cease.Load() && !c.disk.following.Load() {
		c.begin.Store(false)
		c.disk.following.Store(true)
		c.mu.Lock()
		c.answers, c.next = append(c.answers, c.next...), nil
		c.mu.Unlock()
	}
	return 0, nil
}

// A node may cease to lead at any moment. What it has not begun by then belongs to the next leader, however it came to be run here.
func TestWhatANodeRefusesThatHasCeasedToLeadGoesToTheNextOne(t *testing.T) {
	const insert, modes = "INSERT INTO t VALUES (1)", "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
	for _, test := range []struct {
		name string
		sql  []string
		want []string
		at   int  // the statement at which the node ceases to lead
		anew bool // and begins to before, so that the statement is run again here
	}{
		{"a statement that has come", []string{insert}, []string{"INSERT-0-1 [I]"}, 0, false},
		{"a statement that is run again here", []string{insert}, []string{"INSERT-0-1 [I]"}, 0, true},
		{"a block that has only begun", []string{"BEGIN", insert, "COMMIT"}, []string{"BEGIN [T]", "INSERT-0-1 [T]", "COMMIT [I]"}, 1, false},
		{
			"a block that has been told how it runs",
			[]string{"BEGIN", modes, "SET transaction_isolation = 'serializable'", "SHOW work_mem", insert, "COMMIT"},
			[]string{"BEGIN [T]", "SET [T]", "SET [T]", "row:4MB SHOW [T]", "INSERT-0-1 [T]", "COMMIT [I]"},
			4, false,
		},
		{"a block that is begun again here", []string{"BEGIN", insert, "COMMIT"}, []string{"BEGIN [T]", "INSERT-0-1 [T]", "COMMIT [I]"}, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, e := newDisk(t)
			var answers []func(*conversation)
			for _, want := range test.want {
				tag, status, _ := strings.Cut(want, " ")
				if strings.HasPrefix(tag, "row:") { // what only reads is not begun again
					continue
				}
				answers = append(answers, done(strings.ReplaceAll(tag, "-", " "), status[1]))
			}
			c := &changing{leaders: &leaders{t: t}, disk: d, next: []answering{then(answers...)}}
			r := New(Options{Cluster: c, Fresh: c})
			r.Enter(e)
			f := c.client(r)
			for _, sql := range []string{"CREATE TABLE t (a int)", "SET skein.read_consistency = 'strong'", "SET skein.failover_wait = '1min'"} {
				if got := query(t, f, sql); !strings.HasSuffix(got, "[I]") {
					t.Fatal(sql, got)
				}
			}
			for i, sql := range test.sql {
				if i == test.at {
					d.following.Store(test.anew)
					c.begin.Store(test.anew)
					c.cease.Store(true)
				}
				if got := query(t, f, sql); got != test.want[i] {
					t.Errorf("%s: %s, want %s", sql, got, test.want[i])
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			shown := slices.DeleteFunc(test.sql, func(sql string) bool { return strings.HasPrefix(sql, "SHOW") })
			if want := []string{"[" + strings.Join(shown, "][") + "]"}; !slices.Equal(c.got, want) {
				t.Errorf("the next leader heard %q, want %q", c.got, want)
			}
		})
	}
}

// How a block runs that the end of another has begun is not known apart. It stays, and has failed.
func TestABlockThatTheEndOfAnotherHasBegunDoesNotPassForThatOne(t *testing.T) {
	for _, begins := range []string{"COMMIT AND CHAIN", "COMMIT; BEGIN ISOLATION LEVEL READ COMMITTED", "ROLLBACK; BEGIN READ WRITE"} {
		d, e := newDisk(t)
		c := &changing{leaders: &leaders{t: t}, disk: d}
		r := New(Options{Cluster: c, Fresh: c})
		r.Enter(e)
		f := c.client(r)
		for _, sql := range []string{"CREATE TABLE t (a int)", "SET skein.read_consistency = 'strong'", "BEGIN ISOLATION LEVEL SERIALIZABLE", begins} {
			if got := query(t, f, sql); got[0] < 'A' || got[0] > 'Z' {
				t.Fatal(sql, got)
			}
		}
		c.cease.Store(true)
		for _, step := range [][2]string{{"INSERT INTO t VALUES (1)", "40001 [E]"}, {"COMMIT", "ROLLBACK [I]"}} {
			if got := query(t, f, step[0]); got != step[1] {
				t.Errorf("%s; %s: %s, want %s", begins, step[0], got, step[1])
			}
		}
		c.mu.Lock()
		if len(c.got) > 0 {
			t.Errorf("%s: the next leader heard %q", begins, c.got)
		}
		c.mu.Unlock()
	}
}

// A block that goes along when its node ceases to lead, to be begun again by the next leader, is committed there once.
func TestWhatEndsABlockThatWasBegunElsewhereIsNotRunTwice(t *testing.T) {
	const end = "INSERT INTO t VALUES (1); COMMIT"
	for name, run := range map[string]func(*testing.T, *pgproto3.Frontend, string) string{"simple": query, "extended": extended} {
		t.Run(name, func(t *testing.T) {
			d, e := newDisk(t)
			l := &leaders{t: t}
			r := New(Options{Cluster: l, Fresh: blind{}})
			r.Enter(e)
			f := l.client(r)
			if got := query(t, f, "BEGIN"); got != "BEGIN [T]" {
				t.Fatal(got)
			}
			l.mu.Lock()
			l.answers = []answering{then(done("BEGIN", 'T'), hangsUp), then(done("BEGIN", 'T'), done("COMMIT", 'I'))}
			l.mu.Unlock()
			r.Leave(time.Second, errNoEngine)
			d.following.Store(true)
			next, err := engine.Open(t.Context(), d, engine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = next.Close(context.Background()) }()
			r.Enter(next)
			if got := run(t, f, end); got != "08007 [I]" {
				t.Errorf("%s: %s", end, got)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if want := []string{"[BEGIN][" + end + "]"}; !slices.Equal(l.got, want) {
				t.Errorf("the leaders heard %q, want %q", l.got, want)
			}
		})
	}
}
