package vault

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// tree is what is known of the trees of tables: who is whose parent. It need not be known of all pages, and of one that was removed
// with what led to it, it may be known still: it leads to no root.
type tree struct {
	parent map[uint32]uint32
	kids   map[uint32][]uint32 // that it was ever the parent of
}

func newTree() tree { return tree{map[uint32]uint32{}, map[uint32][]uint32{}} }

func (t *tree) link(child, parent uint32) {
	if t.parent[child] != parent {
		t.parent[child] = parent
		t.kids[parent] = append(t.kids[parent], child)
	}
}

// root is what a page is below of, 0 if that is nothing that is known to be a table.
func (t *tree) root(no uint32, roots map[uint32]*Table) uint32 {
	for range maxDepth {
		if roots[no] != nil || no == 0 {
			return no
		}
		no = t.parent[no]
	}
	return 0
}

// members says which pages of which tables a transaction has to do with, before and after it. A page that is not known
// belongs to an index, or to nobody.
type members struct {
	*database
	before, after state
	was, is       *schema
	touched       []uint32 // pages that it has written, in order
	over          layer

	left    map[uint32]uint32 // children that written pages had: the root of the table
	listed  map[uint32]uint32 // children that written pages have: which of them
	root    map[uint32]uint32 // of the written pages that are of a table now
	removed map[uint32]uint32 // pages that are no more of the table with this root, because what led to them was removed
	moved   map[uint32]bool   // pages that a written one has for a child and that had another parent, which was not written
	gone    map[uint32]bool   // roots of tables that are no more
	long    map[uint32]bool   // leaves with a row that goes on at a page that was written
	budget  int               // pages that removed may still take
	unknown []string
}

// members finds them from the top: what a page that was written has for children now is of the same table, and what it has no
// more is not. Transactions also take pages from a table, or move them in it, without writing to them; and they write to pages that they
// take from it, so that these look as if they were still there.
func (d *database) members(over layer, before, after state, was, is *schema) *members {
	m := &members{
		database: d, before: before, after: after, was: was, is: is, over: over, touched: slices.Sorted(maps.Keys(over)),
		left: map[uint32]uint32{}, listed: map[uint32]uint32{}, root: map[uint32]uint32{}, removed: map[uint32]uint32{}, moved: map[uint32]bool{},
		gone: map[uint32]bool{}, long: map[uint32]bool{}, budget: maxSubtree,
	}
	for root, t := range was.roots {
		now := is.roots[root]
		// A table that is only called otherwise keeps its root as it is.
		m.gone[root] = now == nil || m.written(root) && now.Name != t.Name
	}
	for _, no := range m.touched {
		if root := m.rootBefore(no); root != 0 {
			m.children(before, no, func(child uint32) { m.left[child] = root })
		}
	}
	m.descend()
	for _, no := range slices.Sorted(maps.Keys(m.left)) {
		if root := m.left[no]; !m.gone[root] {
			m.remove(no, root, maxDepth)
		}
	}
	for _, no := range m.touched {
		leaf, known := m.chains[no]
		switch {
		case m.root[no] != 0 || !known:
		case leaf != 0:
			m.long[leaf] = true
		default:
			m.unknown = append(m.unknown, fmt.Sprintf("page %d, which a row or an entry of an index goes on at that could not be found", no))
		}
	}
	return m
}

func (m *members) written(no uint32) bool { _, ok := m.over[no]; return ok }

// rootBefore is the root of the table that a page was of, 0 if it was of none.
func (m *members) rootBefore(no uint32) uint32 { return m.tree.root(no, m.was.roots) }

// rootAfter is the root of the table that a page is of now, 0 if it is of none.
func (m *members) rootAfter(no uint32) uint32 {
	root, _ := m.climb(no)
	return root
}

// climb goes up from a page over pages that were not written, to a root, or to one that a written page has for a child. Where it comes to
// neither, because that is not known yet, the page is of a table if one of those that it has passed is.
func (m *members) climb(no uint32) (root uint32, passed []uint32) {
	for range maxDepth {
		if m.written(no) {
			return m.root[no], nil
		}
		if m.is.roots[no] != nil && !m.gone[no] {
			return no, nil
		}
		if parent := m.listed[no]; parent != 0 {
			return m.root[parent], nil
		}
		passed = append(passed, no)
		if no = m.parent[no]; no == 0 || m.written(no) {
			break
		}
	}
	return 0, passed
}

// descend finds which written pages are of which table now, and their children.
func (m *members) descend() {
	var queue []uint32
	enqueue := func(no, root uint32) {
		if m.root[no] == 0 {
			m.root[no] = root
			queue = append(queue, no)
		}
	}
	waiting := map[uint32][]uint32{} // written pages, by the pages above them that were not
	for _, no := range m.touched {
		if m.is.roots[no] != nil {
			enqueue(no, no)
			continue
		}
		parent := m.parent[no]
		if parent == 0 || m.written(parent) {
			continue // if a written page has it for a child, that page says so
		}
		root, passed := m.climb(parent)
		if root != 0 {
			enqueue(no, root)
		}
		for _, above := range passed {
			waiting[above] = append(waiting[above], no)
		}
	}
	for len(queue) > 0 {
		no := queue[0]
		queue = queue[1:]
		root := m.root[no]
		m.children(m.after, no, func(child uint32) {
			m.listed[child] = no
			if m.written(child) {
				enqueue(child, root)
			}
			for _, no := range waiting[child] {
				enqueue(no, root)
			}
		})
	}
}

// remove follows what a table has lost, down to where it goes on elsewhere in the table.
func (m *members) remove(no, root uint32, depth int) {
	if m.listed[no] != 0 {
		m.moved[no] = true
		return
	}
	if m.removed[no] != 0 || m.is.roots[no] != nil || depth == 0 {
		return
	}
	if m.budget--; m.budget < 0 {
		if m.budget == -1 {
			m.unknown = append(m.unknown, fmt.Sprintf("table %s has lost more than %d pages at once: not all of these rows are shown", m.was.roots[root].Name, maxSubtree))
		}
		return
	}
	m.removed[no] = root
	m.children(m.before, no, func(child uint32) { m.remove(child, root, depth-1) })
}

// children calls fn for each page below one, if it is an interior page. What is no page of a tree any more has none.
func (m *members) children(s state, no uint32, fn func(uint32)) {
	b, err := s.page(no)
	if err == nil && !isBTree(no, b) {
		return
	}
	var n node
	if err == nil {
		n, err = parseNode(no, b, s.usable)
	}
	if err == nil {
		err = n.children(func(child uint32) error {
			fn(child)
			return nil
		})
	}
	if err != nil {
		m.unknown = append(m.unknown, fmt.Sprintf("page %d of a table: %v", no, err))
	}
}

// adopt makes what was found what is known of the next transaction.
func (m *members) adopt() {
	for no := range m.removed {
		delete(m.parent, no)
	}
	for no := range m.root {
		kids := m.kids[no]
		delete(m.kids, no)
		for _, child := range kids {
			if m.parent[child] == no && m.listed[child] != no {
				delete(m.parent, child)
			}
		}
	}
	for child, parent := range m.listed {
		delete(m.parent, child)
		m.link(child, parent)
	}
}

// set is the pages of a table with rows on them that a transaction has to do with, as of before or after.
type set struct {
	state
	pages []uint32
}

// add takes a page in, if rows of the table can be on it. One that is no page of such a table any more is left out: it was
// given up by the table, and what it was written with is somebody else's.
func (s *set) add(no uint32, t *Table) error {
	b, err := s.page(no)
	if err != nil {
		return err
	}
	switch kind := b[headerAt(no)]; {
	case !t.WithoutRowid && kind == tableLeaf, t.WithoutRowid && (kind == indexLeaf || kind == indexInterior):
		s.pages = append(s.pages, no)
	}
	return nil
}

// all takes in every page of a table, and tells of each who its parent is.
func (s *set) all(t *Table, tell func(child, parent uint32)) error {
	left := maxSubtree
	return s.walk(t.root, maxDepth, func(no uint32, n node) error {
		if left--; left < 0 {
			return fmt.Errorf("%w: all of its more than %d pages were written anew", errAbsent, maxSubtree)
		}
		if tell != nil {
			_ = n.children(func(child uint32) error { // whose error the walk finds, too
				tell(child, no)
				return nil
			})
		}
		return s.add(no, t)
	})
}

// sets gives the pages of a table, before and after, between which all rows differ that the transaction has changed. A page
// that was not written has rows that only moved, unless the table has lost it, or it is new there.
func (m *members) sets(old, now *Table) (before, after set, err error) {
	before, after = set{state: m.before}, set{state: m.after}
	if old == nil {
		old = &Table{}
	}
	if old.root != 0 && old.root != now.root { // VACUUM has made it anew, and not all pages differ from what was there
		if err := before.all(old, nil); err != nil {
			return before, after, err
		}
		return before, after, after.all(now, func(child, parent uint32) { m.listed[child] = parent })
	}
	for _, no := range m.touched {
		was, is := old.root != 0 && m.rootBefore(no) == old.root, m.root[no] == now.root
		// Where only what a row goes on with was written, that row is on another page. Both may serve something else by now, and what was a
		// leaf have other leaves below it.
		if leaf := m.chains[no]; !was && !is && leaf != 0 && !m.written(leaf) && old.root == now.root && m.rootBefore(leaf) == old.root && m.rootAfter(leaf) == now.root {
			if err := errors.Join(before.add(leaf, old), after.add(leaf, now)); err != nil {
				return before, after, err
			}
		}
		if was {
			if err := before.add(no, old); err != nil {
				return before, after, err
			}
		}
		if is {
			if err := after.add(no, now); err != nil {
				return before, after, err
			}
		}
	}
	for _, no := range slices.Sorted(maps.Keys(m.removed)) {
		if m.removed[no] == old.root && old.root != 0 && !m.written(no) {
			if err := before.add(no, old); err != nil {
				return before, after, err
			}
		}
	}
	for _, no := range slices.Sorted(maps.Keys(m.listed)) {
		if m.root[m.listed[no]] == now.root && m.isNew(no) {
			if err := m.join(&after, no, now, maxDepth); err != nil {
				return before, after, err
			}
		}
	}
	return before, after, nil
}

// isNew says whether a page that has come to a table was not written for that: it had what it was to hold, from when it was last
// used.
func (m *members) isNew(no uint32) bool {
	_, had := m.left[no]
	return !had && !m.moved[no] && !m.written(no)
}

// join takes in a page that isNew says this of, and what is below it.
func (m *members) join(s *set, no uint32, t *Table, depth int) error {
	if m.budget--; m.budget < 0 || depth == 0 {
		return errAbsent
	}
	if err := s.add(no, t); err != nil {
		return err
	}
	n, err := s.node(no)
	if err != nil {
		return err
	}
	return n.children(func(child uint32) error {
		if !m.isNew(child) {
			return nil
		}
		m.listed[child] = no
		return m.join(s, child, t, depth-1)
	})
}
