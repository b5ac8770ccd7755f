package history

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bookmark is a position that clients carry from one connection to another: a commit, in one history
// of one cluster. Epoch and LSN name it alone, since at most one leader writes in an epoch; no chain
// hash is needed, and none would fit what people copy by hand.
type Bookmark struct {
	Cluster [4]byte // the beginning of the cluster's id: enough to notice a mix-up
	Epoch   Epoch   // that wrote entry LSN
	LSN     LSN
}

// String spells a bookmark: 0/1A2B@7-5f3c9a1e is entry 0/1A2B, of epoch 7, in cluster 5f3c9a1e….
func (b Bookmark) String() string {
	var room [48]byte // more than the longest: every commit makes one
	text := append(b.LSN.appendPgLSN(room[:0]), '@')
	text = append(strconv.AppendUint(text, uint64(b.Epoch), 10), '-')
	return string(hex.AppendEncode(text, b.Cluster[:]))
}

var errBadBookmark = errors.New("not a bookmark: want an LSN, an epoch and a cluster, as in 0/1A2B@7-5f3c9a1e")

// ParseBookmark reads what String writes.
func ParseBookmark(s string) (Bookmark, error) {
	lsn, rest, _ := strings.Cut(s, "@")
	epoch, cluster, _ := strings.Cut(rest, "-")
	l, err1 := ParseLSN(lsn)
	e, err2 := strconv.ParseUint(epoch, 10, 64)
	c, err3 := hex.DecodeString(cluster)
	if err1 != nil || err2 != nil || err3 != nil || len(c) != len(Bookmark{}.Cluster) {
		return Bookmark{}, errBadBookmark
	}
	return Bookmark{Cluster: [4]byte(c), Epoch: Epoch(e), LSN: l}, nil
}

// ErrAhead means that a bookmark is of a commit that is not visible here yet.
var ErrAhead = errors.New("that position is not visible on this node yet")

// CutError means that the history of the cluster went on without the commit that a bookmark names: it
// was never acknowledged by enough nodes, or its loss was accepted.
type CutError struct {
	Bookmark Bookmark
	Last     LSN // the last entry that the cluster has of the bookmark's epoch, or of those before it
}

func (e *CutError) Error() string {
	return fmt.Sprintf("position %s is not part of the cluster's history: what it has of epoch %d ends at %s",
		e.Bookmark, uint64(e.Bookmark.Epoch), e.Last.PgLSN())
}

// OtherClusterError means that a bookmark comes from another cluster.
type OtherClusterError struct {
	Bookmark Bookmark
	Here     [4]byte
}

func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("position %s is of cluster %x…, and this is cluster %x…", e.Bookmark, e.Bookmark.Cluster, e.Here)
}

// Locate says where b stands for a node of the cluster whose readers see the entries up to visible: nil
// if they see it, or ErrAhead, or a CutError, or an OtherClusterError. Leaderships that began above
// visible decide nothing, since they may be cut themselves: what is called cut is so for ever.
//
// An LSN below the beginning of its epoch is taken as what that epoch's leader inherited.
func (h Epochs) Locate(b Bookmark, here [4]byte, visible LSN) error {
	if b.Cluster != here {
		return &OtherClusterError{b, here}
	}
	n := len(h)
	for n > 0 && h[n-1].LSN > visible {
		n--
	}
	later := n // the first leadership after b's: it ended b's
	for later > 0 && h[later-1].Epoch > b.Epoch {
		later--
	}
	last := visible
	if later < n {
		last = h[later].LSN - 1
	}
	known := b.Epoch == 0 || later > 0 && h[later-1].Epoch == b.Epoch
	switch {
	case known && b.LSN <= last:
		return nil
	case later < n:
		return &CutError{b, last}
	}
	return ErrAhead
}
