package node

import (
	"slices"
	"testing"

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
