package replication

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"skein/internal/commit"
	"skein/internal/pagestore"
)

// scatter commits transactions of some random pages each, with random content, up to a random size of the database.
func (s *node) scatter(r *rand.Rand, most uint32) {
	s.t.Helper()
	for range 1 + r.IntN(4) {
		pages := map[pagestore.PageNo]bool{}
		for range 1 + r.IntN(5) {
			pages[pagestore.PageNo(1+r.Uint32N(most))] = true
		}
		var list []pagestore.PageNo
		for no := range pages {
			list = append(list, no)
		}
		s.noise(r.Uint64(), list...)
		if r.IntN(3) == 0 {
			s.shrink(1 + r.Uint32N(most))
		}
		if r.IntN(3) == 0 {
			if err := s.Checkpoint(); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// shrink commits a transaction that leaves the database with fewer pages, if it has more.
func (s *node) shrink(pages uint32) {
	s.t.Helper()
	db := s.Store().DB(testDB)
	if db.Head().Pages <= pages {
		return
	}
	p := pagestore.NewPage()
	clear(p.Bytes())
	copy(p.Bytes(), "shrunk")
	lsn, err := s.Commit(db, db.Head().LSN, []pagestore.Dirty{{No: 1, Page: p}}, pages)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Wait(context.Background(), lsn, commit.Local); err != nil {
		s.t.Fatal(err)
	}
}

// A leader that acknowledges by itself loses its follower, goes on, shows and checkpoints what nobody else has, and is
// killed or stopped. The follower leads. The old leader becomes its follower, by way of a copy that is cut off now and then,
// and so on with exchanged roles.
func TestADeposedLeaderGivesUpWhatItHasShown(t *testing.T) {
	for i := range 4 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			seed := rand.Uint64()
			inBubble(t, func(t *testing.T, n *network) {
				t.Logf("seed %d", seed)
				r := rand.New(rand.NewPCG(seed, 0))
				most := 40 + r.Uint32N(2000)
				leader := n.start("a", dirOf(t, "a")).lead("", commit.SyncConfig{})
				follower := n.start("b", dirOf(t, "b")).follow("a")
				for range 5 {
					leader.scatter(r, most)
					leader.sameAs(follower)
					follower.stop(true)
					tail := r.IntN(5) > 0
					if tail {
						leader.scatter(r, most)
					}
					head := leader.Visible()
					dir := leader.dir
					if r.IntN(2) == 0 {
						dir = killed(t, leader)
					}
					leader.stop(true)
					follower = n.start(follower.name, follower.dir).lead("", commit.SyncConfig{})
					follower.scatter(r, most)
					old := n.start(leader.name, dir).follow(follower.name)
					if tail {
						old.givesUp(head)
						old.stop(true)
						old = n.refetched(r, old, follower.name)
					}
					leader, follower = follower, old
				}
				leader.write(7, 3)
				leader.sameAs(follower)
				follower.stop(true)
				leader.stop(true)
			})
		})
	}
}

// killed gives a copy of the node's directory as a killed process leaves it.
func killed(t *testing.T, s *node) string {
	dir := filepath.Join(dirOf(t, s.name), "copy")
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// givesUp waits until the node knows that it must, and keeps its tail.
func (s *node) givesUp(head any) {
	s.t.Helper()
	var need *NeedSnapshot
	if err := <-s.followed; !errors.As(err, &need) || !need.Diverged || need.Reread {
		s.t.Fatalf("shown up to %v, it does not give that up: %v", head, err)
	}
	if name, err := s.SaveTail(need.Fork); err != nil || name == "" {
		s.t.Fatalf("tail in %q, %v", name, err)
	}
}

// refetched brings a stopped node to follow by a copy. Attempts are cut off before.
func (n *network) refetched(r *rand.Rand, s *node, from string) *node {
	n.t.Helper()
	l := n.link(s.name)
	for r.IntN(3) > 0 {
		at := 500 + r.Int64N(60_000)
		if r.IntN(3) == 0 {
			at = r.Int64N(2_000)
		}
		n.between(s.name, from).cutAfter(back, at)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		_, err := l.Fetch(ctx, from, s.dir, FetchOptions{SegmentBytes: testSegment})
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			n.t.Fatal(err)
		}
		if err == nil {
			return n.start(s.name, s.dir).follow(from)
		}
	}
	var last Progress
	if _, err := l.Fetch(context.Background(), from, s.dir, FetchOptions{SegmentBytes: testSegment, Progress: func(p Progress) { last = p }}); err != nil {
		n.t.Fatal(err)
	}
	if last.Done != last.Total || last.Moved > last.Total {
		n.t.Errorf("%+v", last)
	}
	f := n.start(s.name, s.dir)
	if f.Store().Reread() > 0 {
		n.t.Error("the copy was read at its start")
	}
	return f.follow(from)
}
