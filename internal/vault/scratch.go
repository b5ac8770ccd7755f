package vault

import (
	"errors"
	"fmt"
	"os"

	"skein/internal/replog"
)

// memorySlots is how many pages a scratch keeps in memory: 16 MB.
const memorySlots = 4096

// errAbsent means that a page was not kept, because Keep did not need it, or had no room for it.
var errAbsent = errors.New("page was not kept")

// scratch holds pages while a tail is read: the first in memory, further ones in an unnamed file.
type scratch struct {
	dir    string
	memory [][]byte
	file   *os.File
	next   int64
	free   []int64
}

func (s *scratch) put(b []byte) (slot int64, err error) {
	if n := len(s.free); n > 0 {
		slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		slot = s.next
		s.next++
	}
	if slot < memorySlots {
		if int(slot) == len(s.memory) {
			s.memory = append(s.memory, make([]byte, pageSize))
		}
		copy(s.memory[slot], b)
		return slot, nil
	}
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, "vault-"); err != nil {
			return 0, err
		}
		if err := os.Remove(s.file.Name()); err != nil {
			return 0, err
		}
	}
	_, err = s.file.WriteAt(b[:pageSize], slot*pageSize)
	return slot, err
}

func (s *scratch) get(slot int64, dst []byte) error {
	if slot < memorySlots {
		copy(dst, s.memory[slot])
		return nil
	}
	_, err := s.file.ReadAt(dst[:pageSize], slot*pageSize)
	return err
}

func (s *scratch) release(slot int64) {
	if slot != absent {
		s.free = append(s.free, slot)
	}
}

func (s *scratch) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// absent in the place of a slot says that the content is not known.
const absent = int64(-1)

// layer is the pages that a transaction has changed.
type layer map[uint32]int64

// pages are one database's, as of some point of the tail.
type pages struct {
	scratch *scratch
	first   func(no uint32, dst []byte) error // as of before the tail; errAbsent
	needed  map[uint32]bool                   // what was asked of first, to understand the rest; nil: nobody wants to know

	changed layer  // by the transactions up to here
	size    uint32 // by then
	least   uint32 // that the size has been: what first has beyond was cut off
}

// read copies page no, as of here or, with a layer, with what that changes. size is the database's.
func (p *pages) read(no uint32, over layer, size uint32, dst []byte) error {
	if no == 0 || no > size {
		return fmt.Errorf("%w: there is no page %d", errNotDecoded, no)
	}
	if p.needed != nil && no <= p.least {
		p.needed[no] = true
	}
	slot, ok := over[no]
	if !ok {
		return p.before(no, dst)
	}
	if slot == absent {
		return errAbsent
	}
	return p.scratch.get(slot, dst)
}

// before copies page no as of here; zeros, if it did not exist.
func (p *pages) before(no uint32, dst []byte) error {
	slot, ok := p.changed[no]
	switch {
	case ok && slot == absent:
		return errAbsent
	case ok:
		return p.scratch.get(slot, dst)
	case no <= p.least:
		return p.first(no, dst)
	}
	clear(dst[:pageSize])
	return nil
}

// change adds what a piece of a transaction changes to a layer.
func (p *pages) change(over layer, body []byte) error {
	var no uint32
	known := true
	page := make([]byte, pageSize)
	finish := func() (err error) {
		if no == 0 {
			return nil
		}
		slot := absent
		if known {
			if slot, err = p.scratch.put(page); err != nil {
				return err
			}
		}
		if old, ok := over[no]; ok {
			p.scratch.release(old)
		}
		over[no] = slot
		return nil
	}
	err := replog.EachRange(body, func(n uint32, off int, data []byte) error {
		if n != no {
			if err := finish(); err != nil {
				return err
			}
			no, known = n, true
			err := error(nil)
			if len(data) < pageSize {
				if err = p.before(n, page); errors.Is(err, errAbsent) {
					known, err = false, nil
				}
			}
			if err != nil {
				return err
			}
		}
		copy(page[off:], data)
		return nil
	})
	if err != nil {
		return err
	}
	return finish()
}

// adopt makes what a transaction has changed, and its size, the state here.
func (p *pages) adopt(over layer, size uint32) {
	for no, slot := range over {
		if old, ok := p.changed[no]; ok {
			p.scratch.release(old)
		}
		p.changed[no] = slot
	}
	if size < p.size {
		p.least = min(p.least, size)
		for no, slot := range p.changed {
			if no > size {
				p.scratch.release(slot)
				delete(p.changed, no)
			}
		}
	}
	p.size = size
}
