package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"skein/internal/history"
)

const (
	// maxDepth is more levels than a b-tree of 2^32 pages can have.
	maxDepth = 24

	// maxPayload bounds what is read of one row.
	maxPayload = 1 << 30

	// maxSubtree bounds the pages that are looked through because a transaction has let go of them without writing to them, as
	// DELETE without WHERE does.
	maxSubtree = 1 << 14

	// maxRows bounds the rows of one table that one transaction is compared by.
	maxRows = 4 << 20

	utf8Encoding = 1
)

// database follows one database through a tail.
type database struct {
	id     history.DatabaseID
	pages  pages
	usable int

	schema *schema
	tree
	chains map[uint32]uint32 // a page that a row goes on at: the leaf that the row is on; 0 if that was not found
}

func newDatabase(id history.DatabaseID, size uint32, first func(uint32, []byte) error, s *scratch) *database {
	return &database{
		id: id, tree: newTree(), chains: map[uint32]uint32{},
		pages: pages{scratch: s, first: first, changed: layer{}, size: size, least: size},
	}
}

// state is the database before a transaction, or after it.
type state struct {
	*database
	over layer
	size uint32
}

func (d *database) now() state                      { return state{d, nil, d.pages.size} }
func (d *database) with(over layer, n uint32) state { return state{d, over, n} }

func (s state) page(no uint32) ([]byte, error) {
	b := make([]byte, pageSize)
	return b, s.pages.read(no, s.over, s.size, b)
}

func (s state) node(no uint32) (node, error) {
	b, err := s.page(no)
	if err != nil {
		return node{}, err
	}
	return parseNode(no, b, s.usable)
}

// payload puts a cell's content together. chain, if any, is told of each page that it goes on at.
func (s state) payload(c cell, chain func(uint32)) ([]byte, error) {
	if c.overflow == 0 {
		return c.local, nil
	}
	if c.size > maxPayload || c.size > int64(s.size)*pageSize {
		return nil, errNotDecoded
	}
	b := slices.Clone(c.local)
	for next := c.overflow; int64(len(b)) < c.size; {
		if chain != nil {
			chain(next)
		}
		page, err := s.page(next)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(page)
		b = append(b, page[4:4+min(int64(s.usable-4), c.size-int64(len(b)))]...)
	}
	return b, nil
}

// header reads what page 1 says of the whole database.
func (s state) header() error {
	page, err := s.page(1)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(page), "SQLite format 3\x00") {
		return fmt.Errorf("%w: it is no database of SQLite", errNotDecoded)
	}
	s.database.usable = pageSize - int(page[20])
	if encoding := binary.BigEndian.Uint32(page[56:]); encoding != utf8Encoding {
		return fmt.Errorf("%w: its texts are not UTF-8", errNotDecoded)
	}
	return nil
}

// loadSchema reads sqlite_schema.
func (s state) loadSchema() (*schema, error) {
	if s.size == 0 {
		return newSchema(nil, map[uint32]bool{1: true}), nil
	}
	if err := s.header(); err != nil {
		return nil, err
	}
	var objects []object
	pages := map[uint32]bool{}
	err := s.walk(1, maxDepth, func(no uint32, n node) error {
		pages[no] = true
		if n.kind != tableLeaf {
			return nil
		}
		for i := range n.cells {
			c, err := n.cell(i)
			if err != nil {
				return err
			}
			b, err := s.payload(c, func(no uint32) { pages[no] = true })
			if err != nil {
				return err
			}
			row, err := parseRecord(b)
			if err != nil {
				return err
			}
			if o, ok := objectOf(row); ok {
				objects = append(objects, o)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite_schema: %w", err)
	}
	return newSchema(objects, pages), nil
}

// walk calls fn for every page of a tree, parents first.
func (s state) walk(root uint32, depth int, fn func(no uint32, n node) error) error {
	if depth == 0 {
		return fmt.Errorf("%w: tree without an end", errNotDecoded)
	}
	n, err := s.node(root)
	if err != nil {
		return err
	}
	if err := fn(root, n); err != nil {
		return err
	}
	return n.children(func(no uint32) error { return s.walk(no, depth-1, fn) })
}

// Change is what a transaction did to one row.
type Change struct {
	Table         *Table
	Before, After *Row // nil: there was none
}

// Row of a table. Values are as Table.Columns.
type Row struct {
	Rowid  int64 // not in a table without
	Values []Value
}

// difference is what one transaction has changed of a database.
type difference struct {
	ddl     []DDL
	changes []Change
	unknown []string // what could not be found out
}

// apply finds what a transaction has changed, and makes its state the present one.
func (d *database) apply(over layer, size uint32) (difference, error) {
	diff, err := d.compare(over, size)
	if err != nil && unclear(err) {
		diff.unknown, err = append(diff.unknown, err.Error()), nil
	}
	d.pages.adopt(over, size)
	return diff, err
}

func (d *database) compare(over layer, size uint32) (diff difference, err error) {
	before, after := d.now(), d.with(over, size)
	if d.schema == nil {
		if err := d.begin(); err != nil {
			return diff, err
		}
	}
	was, is := d.schema, d.schema
	if changed, err := d.touchesSchema(over); err != nil {
		return diff, err
	} else if changed {
		if is, err = after.loadSchema(); err != nil {
			d.schema = nil
			return diff, err
		}
		diff.ddl = ddl(was, is)
	}
	m := d.members(over, before, after, was, is)
	for _, t := range is.ordered {
		if internal(t.Name) {
			continue
		}
		changes, err := m.rows(t)
		if err != nil && !unclear(err) {
			return diff, err
		}
		if err != nil {
			m.unknown = append(m.unknown, fmt.Sprintf("table %s: %v", t.Name, err))
		}
		diff.changes = append(diff.changes, changes...)
	}
	diff.unknown = m.unknown
	d.schema = is
	m.adopt()
	return diff, nil
}

// unclear says whether an error is about what was kept, and not about this machine.
func unclear(err error) bool { return errors.Is(err, errNotDecoded) || errors.Is(err, errAbsent) }

// begin reads the schema as it is now.
func (d *database) begin() (err error) {
	d.schema, err = d.now().loadSchema()
	return err
}

// touchesSchema says whether a transaction may have changed sqlite_schema. Page 1 is written by most: behind the file's header it
// is the root of it.
func (d *database) touchesSchema(over layer) (bool, error) {
	for no := range over {
		if no != 1 && d.schema.pages[no] {
			return true, nil
		}
	}
	slot, ok := over[1]
	if !ok {
		return false, nil
	}
	if slot == absent || d.pages.size == 0 {
		return true, nil
	}
	old, err := d.now().page(1)
	if err != nil {
		return false, err
	}
	page := make([]byte, pageSize)
	if err := d.pages.scratch.get(slot, page); err != nil {
		return false, err
	}
	return string(old[40:44]) != string(page[40:44]) || string(old[100:]) != string(page[100:]), nil
}
