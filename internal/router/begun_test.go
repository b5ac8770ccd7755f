package router

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"skein/internal/history"
)

// restarted is a node that has just started to follow: it does not know how old is what it has.
type restarted struct {
	disk    *disk
	behind  history.LSN // the leader has so much more
	cut     bool        // no leader answers
	delayed bool
	asked   int
}

func (f *restarted) Visible() history.LSN             { return f.disk.Visible() }
func (f *restarted) Staleness() (time.Duration, bool) { return 0, false }
func (f *restarted) Locate(history.Bookmark) error    { return nil }
func (f *restarted) Delayed() bool                    { return f.delayed }

func (f *restarted) Await(ctx context.Context, lsn history.LSN) error { return f.disk.Await(ctx, lsn) }

func (f *restarted) ReadPosition(context.Context, string) (history.LSN, error) {
	f.asked++
	if f.cut {
		return 0, errors.New("nobody leads")
	}
	return f.Visible() + f.behind, nil
}

// A session that has seen nothing yet is promised nothing of what others have done. But who connects again to a node that was away for a moment
// does not find less than before.
func TestTheFirstReadOnANodeThatHasJustStarted(t *testing.T) {
	for _, test := range []struct {
		name   string
		node   restarted
		level  string
		asked  int // by two reads
		leader bool
	}{
		{"it has what the leader has", restarted{}, "session", 1, false},
		{"it has less", restarted{behind: 1}, "session", 1, true},
		{"nobody leads", restarted{cut: true}, "session", 1, false},
		{"it is to have less", restarted{behind: 1, delayed: true}, "session", 0, false},
		{"and that will do", restarted{behind: 1}, "eventual", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, e := newDisk(t)
			l := &leaders{t: t}
			node := &test.node
			node.disk = d
			r := New(Options{Cluster: l, Fresh: node, Name: "here"})
			r.Enter(e)
			f := l.client(r)
			for _, sql := range []string{"CREATE TABLE t (a int)", "SET skein.read_wait = '1ms'", "SET skein.read_consistency = '" + test.level + "'"} {
				if got := query(t, f, sql); !strings.HasSuffix(got, "[I]") {
					t.Fatal(sql, got)
				}
			}
			d.following.Store(true)
			l.mu.Lock()
			l.answers = []answering{then(done("SELECT 1", 'I'))}
			l.mu.Unlock()
			const read = "SELECT a FROM t"
			want, heard := []string{"SELECT-0 [I]", "SELECT-0 [I]"}, []string(nil)
			if test.leader {
				want[0], heard = "SELECT-1 [I]", []string{"[" + read + "]"}
			}
			for _, want := range want {
				if got := query(t, f, read); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if !slices.Equal(l.got, heard) || node.asked != test.asked {
				t.Errorf("the leader heard %q and was asked for its position %d times, want %q and %d", l.got, node.asked, heard, test.asked)
			}
		})
	}
}
