package sqlitevfs

import (
	"bytes"
	"encoding/binary"

	"skein/internal/pagestore"
)

// SQLite keeps its change counter on page 1, and a second time beside the version of the library that wrote it.
const (
	counterAt, counterEnd           = 24, 28
	counterAgainAt, counterAgainEnd = 92, 96
)

// header is page 1 as its connection is shown it. SQLite takes its cache for valid as long as the change counter on that
// page stands still, and writes the page with every commit for the counter's sake alone. Here the counter is the
// connection's own: it moves when the connection comes to stand on a state that it has not made itself. So
// page 1 is stored, logged and applied by followers only when something else of it has changed, and it is read only
// when it has.
//
// A commit raises the counter by one, which counts only if there is a commit; any other state raises it by two. So what SQLite has
// written for a commit that was refused is never taken for another state.
type header struct {
	counter uint32
	state   pagestore.State // that the counter stands for

	page []byte // nil before the first read
	sum  uint64 // of page, as it is stored
}

// standsOn notes the state that the connection reads from now on.
func (h *header) standsOn(s pagestore.State) {
	if s != h.state {
		h.counter, h.state = h.counter+2, s
	}
}

// committed notes that SQLite has made the state, and what it has written as the counter.
func (h *header) committed(counter uint32, s pagestore.State) { h.counter, h.state = counter, s }

// read gives what stands at a byte of page 1.
func (h *header) read(s *pagestore.Snapshot, at int, dst []byte) error {
	if err := h.load(s); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(h.page[counterAt:], h.counter)
	binary.BigEndian.PutUint32(h.page[counterAgainAt:], h.counter)
	copy(dst, h.page[at:])
	return nil
}

// load has page be the snapshot's.
func (h *header) load(s *pagestore.Snapshot) error {
	sum, err := s.Sum(1)
	if err != nil || h.page != nil && h.sum == sum {
		return err
	}
	page := h.page
	if page == nil {
		page = make([]byte, pagestore.PageSize)
	}
	h.page = nil
	if err := s.ReadPage(1, page); err != nil {
		return err
	}
	h.page, h.sum = page, sum
	return nil
}

// sameAs says whether content differs from the snapshot's page 1 in the counter at most.
func (h *header) sameAs(content []byte, s *pagestore.Snapshot) (bool, error) {
	if s.State().Pages == 0 {
		return false, nil
	}
	if err := h.load(s); err != nil {
		return false, err
	}
	return bytes.Equal(content[:counterAt], h.page[:counterAt]) &&
		bytes.Equal(content[counterEnd:counterAgainAt], h.page[counterEnd:counterAgainAt]) &&
		bytes.Equal(content[counterAgainEnd:], h.page[counterAgainEnd:]), nil
}

func counterOf(page []byte) uint32 { return binary.BigEndian.Uint32(page[counterAt:]) }
