package pagestore

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"skein/internal/history"
)

// Page is the content of one page, in memory or, in a transaction too large for that, in a spill
// file. Whoever holds it last calls Release. The zero Page is a page of zeros.
type Page struct {
	mem   *[PageSize]byte
	spill *Spill
	slot  int64
}

// version is a page as of one LSN. Its fields do not change once it is in a chain, but older and rest do,
// under the database's lock.
type version struct {
	lsn   history.LSN
	sum   uint64
	page  Page
	older *version
	rest  int // so many versions above it may become visible before the chain is pruned again
}

// Dirty is one page that a transaction has written and not committed.
type Dirty struct {
	No   PageNo
	Page Page
}

var buffers = sync.Pool{New: func() any { return new([PageSize]byte) }}

// NewPage gives a page in memory with undefined content.
func NewPage() Page { return Page{mem: buffers.Get().(*[PageSize]byte)} }

// Bytes is the content of a page in memory, nil for any other. It may be changed only before the
// page is committed.
func (p Page) Bytes() []byte {
	if p.mem == nil {
		return nil
	}
	return p.mem[:]
}

// Read copies the page's content.
func (p Page) Read(dst []byte) error {
	if p.mem != nil {
		copy(dst, p.mem[:])
		return nil
	}
	if p.spill == nil {
		clear(dst[:PageSize])
		return nil
	}
	if _, err := p.spill.file.ReadAt(dst[:PageSize], p.slot*PageSize); err != nil {
		return fmt.Errorf("read spilled page: %w", err)
	}
	return nil
}

// Release gives the page's memory, or its hold on the spill file, back.
func (p Page) Release() {
	if p.mem != nil {
		buffers.Put(p.mem)
	} else if p.spill != nil {
		p.spill.release()
	}
}

func (p Page) zeros() bool { return p.mem == nil && p.spill == nil }

// usage counts the bytes of page versions, over all databases of a store.
type usage struct{ memory, spilled atomic.Int64 }

// add counts n pages like p in, or out where n is negative.
func (u *usage) add(p Page, n int64) {
	switch {
	case p.mem != nil:
		u.memory.Add(n * PageSize)
	case p.spill != nil:
		u.spilled.Add(n * PageSize)
	}
}

// Spill is an unnamed temporary file with the pages of one large transaction. It lives as long as
// any page in it is held.
type Spill struct {
	file *os.File
	next int64
	held atomic.Int64
}

// NewSpill makes a spill file in dir. It is removed from the directory at once, so that nothing is
// left of it after a crash.
func NewSpill(dir string) (*Spill, error) {
	f, err := os.CreateTemp(dir, "spill-")
	if err != nil {
		return nil, fmt.Errorf("spill transaction: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("spill transaction: %w", err)
	}
	s := &Spill{file: f}
	s.held.Store(1) // the transaction's own hold
	return s, nil
}

// Put writes content as a new page of the file.
func (s *Spill) Put(content []byte) (Page, error) {
	p := Page{spill: s, slot: s.next}
	if err := p.Overwrite(content); err != nil {
		return Page{}, err
	}
	s.next++
	s.held.Add(1)
	return p, nil
}

// Overwrite replaces the content of a page that is not committed yet.
func (p Page) Overwrite(content []byte) error {
	if p.mem != nil {
		copy(p.mem[:], content)
		return nil
	}
	if _, err := p.spill.file.WriteAt(content[:PageSize], p.slot*PageSize); err != nil {
		return fmt.Errorf("spill transaction: %w", err)
	}
	return nil
}

// Close ends the transaction's own hold. Committed pages keep the file.
func (s *Spill) Close() { s.release() }

func (s *Spill) hold() { s.held.Add(1) }

func (s *Spill) release() {
	if s.held.Add(-1) == 0 {
		_ = s.file.Close() // nothing in it is needed any more
	}
}
