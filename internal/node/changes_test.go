package node

import (
	"context"
	"slices"
	"testing"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
)

func TestChangesOfACutTailAreNotWaitedFor(t *testing.T) {
	c := newChanges()
	for _, lsn := range []history.LSN{10, 20, 30} {
		c.add(lsn)
	}
	c.add(15) // after a cut to 14
	if want := []history.LSN{10, 15}; !slices.Equal(c.all, want) || c.oldest() != 10 {
		t.Fatalf("%v, want %v", c.all, want)
	}
	c.read(12)
	if c.oldest() != 15 {
		t.Fatalf("the oldest is %d, want 15", c.oldest())
	}
	c.read(15)
	c.add(15) // a further piece of the same entry
	if c.oldest() != 15 {
		t.Fatalf("the oldest is %d, want 15", c.oldest())
	}
	c.read(100)
	if c.oldest() != 0 {
		t.Fatalf("the oldest is %d, want none", c.oldest())
	}
}

// The new change has a lower LSN than the one that is waited for, which will not come.
func TestAChangeAfterACutEndsTheWait(t *testing.T) {
	p, _, err := commit.Open(t.TempDir(), commit.Options{SegmentBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(true) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := &term{pipeline: p, system: newChanges()}
	for _, lsn := range []history.LSN{10, 5} {
		m.system.add(lsn)
		if shown, err := m.shows(ctx, 10); shown || err != nil {
			t.Fatalf("after a change at %d: %v %v, want that it is looked at anew", lsn, shown, err)
		}
	}
}
