package vault

import (
	"encoding/binary"
	"errors"

	"skein/internal/replog"
)

const pageSize = replog.PageSize

// Kinds of b-tree pages, as in their first byte (https://www.sqlite.org/fileformat2.html#b_tree_pages).
const (
	indexInterior = 0x02
	tableInterior = 0x05
	indexLeaf     = 0x0a
	tableLeaf     = 0x0d
)

var errNotDecoded = errors.New("page does not decode")

// node is a b-tree page.
type node struct {
	kind   byte
	cells  int
	right  uint32 // of an interior page: the last child
	b      []byte // the whole page
	at     int    // where its header is
	usable int
}

// isBTree says whether a page can be one of a b-tree, by its first byte.
func isBTree(no uint32, b []byte) bool {
	switch b[headerAt(no)] {
	case indexInterior, tableInterior, indexLeaf, tableLeaf:
		return true
	}
	return false
}

// headerAt is where the header of page no is: on the first page that of the file comes before.
func headerAt(no uint32) int {
	if no == 1 {
		return 100
	}
	return 0
}

// parseNode reads the header of page no. usable is how many bytes of a page are not reserved.
func parseNode(no uint32, b []byte, usable int) (node, error) {
	n := node{b: b, at: headerAt(no), usable: usable}
	if !isBTree(no, b) {
		return n, errNotDecoded
	}
	h := b[n.at:]
	n.kind, n.cells = h[0], int(binary.BigEndian.Uint16(h[3:]))
	if n.interior() {
		n.right = binary.BigEndian.Uint32(h[8:])
	}
	if n.pointers()+2*n.cells > usable {
		return n, errNotDecoded
	}
	return n, nil
}

func (n *node) interior() bool { return n.kind == tableInterior || n.kind == indexInterior }

// pointers is where the array of cell pointers begins.
func (n *node) pointers() int {
	if n.interior() {
		return n.at + 12
	}
	return n.at + 8
}

// cell is an entry of a b-tree page.
type cell struct {
	child    uint32 // of an interior page: what is below it
	rowid    int64  // in a table
	size     int64  // of the payload
	local    []byte // the part of the payload that is on the page
	overflow uint32 // page that it goes on at; 0: nowhere
}

// cell reads entry i.
func (n *node) cell(i int) (c cell, err error) {
	at := int(binary.BigEndian.Uint16(n.b[n.pointers()+2*i:]))
	if at < n.at || at >= n.usable {
		return c, errNotDecoded
	}
	b := n.b[at:n.usable]
	if n.interior() {
		if len(b) < 4 {
			return c, errNotDecoded
		}
		c.child, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if n.kind != tableInterior {
		size, k := varint(b)
		if k == 0 || size < 0 {
			return c, errNotDecoded
		}
		c.size, b = size, b[k:]
	}
	if n.kind == tableInterior || n.kind == tableLeaf {
		rowid, k := varint(b)
		if k == 0 {
			return c, errNotDecoded
		}
		c.rowid, b = rowid, b[k:]
	}
	if n.kind == tableInterior {
		return c, nil
	}
	local := n.localSize(c.size)
	if local > len(b) {
		return c, errNotDecoded
	}
	c.local = b[:local]
	if int64(local) == c.size {
		return c, nil
	}
	if len(b) < local+4 {
		return c, errNotDecoded
	}
	c.overflow = binary.BigEndian.Uint32(b[local:])
	return c, nil
}

// localSize is how much of a payload is on the page itself.
func (n *node) localSize(size int64) int {
	most := (n.usable-12)*64/255 - 23
	if n.kind == tableLeaf {
		most = n.usable - 35
	}
	if size <= int64(most) {
		return int(size)
	}
	least := (n.usable-12)*32/255 - 23
	local := least + int((size-int64(least))%int64(n.usable-4))
	if local > most {
		local = least
	}
	return local
}

// children calls fn for each page below an interior one.
func (n *node) children(fn func(uint32) error) error {
	if !n.interior() {
		return nil
	}
	for i := range n.cells {
		c, err := n.cell(i)
		if err != nil {
			return err
		}
		if err := fn(c.child); err != nil {
			return err
		}
	}
	return fn(n.right)
}

// varint reads SQLite's variable-length integer, and how many bytes it takes: 0 if it is not all there.
func varint(b []byte) (v int64, n int) {
	var u uint64
	for i := range min(len(b), 9) {
		if i == 8 {
			return int64(u<<8 | uint64(b[i])), 9
		}
		u = u<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return int64(u), i + 1
		}
	}
	return 0, 0
}
