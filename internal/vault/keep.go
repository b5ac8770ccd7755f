package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/replog"
)

const (
	// maxKept bounds the pages that are kept with a tail: 256 MB before they are packed.
	maxKept = 1 << 16

	// maxSearch bounds the pages that are read to find the rows that go on at certain pages, and searchPages how far from such
	// a page these are looked for.
	maxSearch   = 1 << 15
	searchPages = 8192

	// maxWalk bounds the pages that are read to know those of tables without rowid.
	maxWalk = 1 << 18
)

// Before is all databases as they were before a tail.
type Before interface {
	// Size is how many pages a database had; 0 if there was none.
	Size(id history.DatabaseID) uint32
	// Read copies a page.
	Read(id history.DatabaseID, no uint32, dst []byte) error
}

// Keep writes a tail to path: the entries that save writes, as they are in the log, and from before what is
// needed to understand them. Without before, because nobody has that any more, missing says why. temp is a directory for what
// does not fit in memory.
//
// A tail that is there already is left as it is: what is known of the time before it does not become more. After a crash the
// file is there as a whole or not at all.
func Keep(path string, save func(io.Writer) error, before Before, missing, temp string) error {
	if old, err := Open(path, temp); err == nil {
		whole := old.whole
		if err := old.Close(); err != nil || whole {
			return err
		}
	}
	f, err := os.OpenFile(path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := save(f); err != nil {
		return closing(f, err)
	}
	if err := closing(f, appendPages(f, before, missing, temp)); err != nil {
		return err
	}
	if err := fault.Hit("vault.rename"); err != nil {
		return err
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return replog.SyncDir(filepath.Dir(path))
}

const newSuffix = ".new"

// appendPages writes what follows the entries, and makes the file durable.
func appendPages(f *os.File, before Before, missing, temp string) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	k := keeper{file: f, end: end, before: before, temp: temp, databases: map[history.DatabaseID]*kept{}}
	k.summary.missing = missing
	if before != nil {
		if err := k.gather(); err != nil {
			if !unclear(err) && !errors.Is(err, errBefore) {
				return err
			}
			k.summary.missing = err.Error() // the entries are what must not be lost
		}
	}
	if err := k.count(); err != nil {
		return err
	}
	w := &writer{w: io.NewOffsetWriter(f, end)}
	if err := k.write(w); err != nil {
		return err
	}
	w.bytes(footer(end))
	if w.err != nil {
		return w.err
	}
	return f.Sync()
}

// errBefore is of a page that could not be read as it was before.
var errBefore = errors.New("cannot read what was there before")

// keeper finds out what to keep.
type keeper struct {
	file      *os.File
	end       int64 // of the entries
	before    Before
	temp      string
	databases map[history.DatabaseID]*kept
	summary   summary
	searched  int // pages read by searches
}

// kept is one database of a tail.
type kept struct {
	*database
	size    uint32
	touched map[uint32]bool
	links   map[uint32]uint32 // who was whose parent before the tail, from the pages upwards that this touches
	rows    map[uint32]uint32 // chains before the tail
}

// count notes how many transactions there are, and of what time.
func (k *keeper) count() error {
	s := &k.summary
	_, err := eachEntry(k.file, k.end, func(e *replog.Entry) error {
		if e.Kind == replog.Transaction && !e.More {
			s.transactions++
		}
		if s.first == 0 {
			s.first = e.Time
		}
		s.last = e.Time
		return nil
	})
	return err
}

// gather finds the pages that have to be kept, by reading the tail as it will be read.
func (k *keeper) gather() error {
	s := &scratch{dir: k.temp}
	defer func() { _ = s.close() }() // it has no name
	_, err := eachEntry(k.file, k.end, func(e *replog.Entry) error {
		if e.Kind != replog.Transaction {
			return nil
		}
		d := k.databases[e.Database]
		if d == nil {
			d = k.open(e.Database, s)
		}
		return replog.EachRange(e.Body, func(no uint32, _ int, _ []byte) error {
			if no <= d.size {
				d.touched[no] = true
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, d := range k.databases {
		if err := k.place(d); err != nil && !unclear(err) {
			return err
		}
		d.pages.needed = map[uint32]bool{}
		if err := d.begin(); err != nil && !unclear(err) { // so does who reads the tail
			return err
		}
	}
	t := transactions{databases: map[history.DatabaseID]*database{}, scratch: s}
	for id, d := range k.databases {
		t.databases[id] = d.database
	}
	_, err = eachEntry(k.file, k.end, func(e *replog.Entry) error {
		if k.needed() > maxKept {
			return fmt.Errorf("%w: more than %d pages are needed to show what has changed", errAbsent, maxKept)
		}
		return t.take(e, nil)
	})
	return err
}

func (k *keeper) needed() (n int) {
	for _, d := range k.databases {
		n += len(d.pages.needed)
	}
	return n
}

func (k *keeper) open(id history.DatabaseID, s *scratch) *kept {
	size := k.before.Size(id)
	first := func(no uint32, dst []byte) error {
		if err := k.before.Read(id, no, dst); err != nil {
			return fmt.Errorf("%w: page %d of database %d: %w", errBefore, no, id, err)
		}
		return nil
	}
	d := &kept{database: newDatabase(id, size, first, s), size: size, touched: map[uint32]bool{}, links: map[uint32]uint32{}, rows: map[uint32]uint32{}}
	k.databases[id] = d
	return d
}

// place finds which tables the pages belong to that the tail touches.
func (k *keeper) place(d *kept) error {
	if d.size == 0 {
		return nil
	}
	if err := d.begin(); err != nil {
		return err
	}
	defer func() {
		for child, parent := range d.links {
			d.link(child, parent)
		}
		maps.Copy(d.chains, d.rows)
	}()
	f := &finder{state: d.now(), searched: &k.searched, links: d.links}
	for _, t := range d.schema.ordered {
		if n, err := f.node(t.root); err == nil && n.interior() && !t.WithoutRowid {
			f.trees = append(f.trees, t.root)
		}
	}
	var long []uint32
	for _, no := range slices.Sorted(maps.Keys(d.touched)) {
		b, err := f.page(no)
		if err != nil {
			return err
		}
		switch b[headerAt(no)] {
		case tableLeaf, tableInterior:
			_, err = f.byRowid(no, b)
		case indexLeaf, indexInterior:
			err = f.withoutRowid(no, d.schema)
		default:
			long = append(long, no)
		}
		if err != nil && !unclear(err) {
			return err
		}
	}
	for _, no := range long {
		free, err := f.isFree(no)
		if err != nil && !unclear(err) {
			return err
		}
		if free {
			continue
		}
		if d.rows[no], err = f.row(no); err != nil && !unclear(err) {
			return err
		}
	}
	return nil
}

// write writes what is kept.
func (k *keeper) write(w *writer) error {
	w.summary(k.summary)
	w.u32(uint32(len(k.databases)))
	page := make([]byte, pageSize)
	left := maxKept
	for _, id := range slices.Sorted(maps.Keys(k.databases)) {
		d := k.databases[id]
		w.u32(uint32(id))
		w.u32(d.size)
		w.links(d.links)
		w.links(d.rows)
		list := slices.Sorted(maps.Keys(d.pages.needed))
		list = list[:min(len(list), left)]
		left -= len(list)
		w.u32(uint32(len(list)))
		for _, no := range list {
			if err := k.before.Read(id, no, page); err != nil {
				return err
			}
			w.page(no, page)
		}
	}
	return w.err
}

// finder finds out where pages belong, as things were before the tail.
type finder struct {
	state
	trees    []uint32 // roots of tables with more than one page, the one that was found last first
	nodes    map[uint32]node
	walked   map[uint32]uint32 // pages of tables without rowid, and their parents
	free     map[uint32]bool
	links    map[uint32]uint32 // the result: parents
	searched *int
}

// byRowid finds the table that a page is of by looking for its first row in each, and says whether there is one.
func (f *finder) byRowid(no uint32, b []byte) (bool, error) {
	if f.schema.roots[no] != nil {
		return true, nil
	}
	n, err := parseNode(no, b, f.usable)
	if err != nil || n.cells == 0 {
		return false, err
	}
	first, err := n.cell(0)
	if err != nil {
		return false, err
	}
	for i, root := range f.trees {
		way, err := f.wayTo(root, first.rowid, no)
		if err != nil && !unclear(err) {
			return false, err
		}
		if way == nil || err != nil {
			continue
		}
		for at := range way[1:] {
			f.links[way[at+1]] = way[at]
		}
		copy(f.trees[1:i+1], f.trees[:i])
		f.trees[0] = root
		return true, nil
	}
	return false, nil
}

// wayTo gives the pages from a root down to a page, if the way to a row leads there; nil if it does not.
func (f *finder) wayTo(root uint32, rowid int64, no uint32) (way []uint32, err error) {
	at := root
	for range maxDepth {
		if way = append(way, at); at == no {
			return way, nil
		}
		n, err := f.interiorNode(at)
		if err != nil || n.kind != tableInterior {
			return nil, err
		}
		low, high := 0, n.cells
		for low < high {
			mid := (low + high) / 2
			c, err := n.cell(mid)
			if err != nil {
				return nil, err
			}
			if c.rowid >= rowid {
				high = mid
			} else {
				low = mid + 1
			}
		}
		at = n.right
		if low < n.cells {
			c, err := n.cell(low)
			if err != nil {
				return nil, err
			}
			at = c.child
		}
	}
	return nil, errNotDecoded
}

// interiorNode is node, with those at hand that are met again and again.
func (f *finder) interiorNode(no uint32) (node, error) {
	if n, ok := f.nodes[no]; ok {
		return n, nil
	}
	n, err := f.node(no)
	if err != nil || !n.interior() {
		return n, err
	}
	if f.nodes == nil || len(f.nodes) > 4*cachedNodes {
		f.nodes = map[uint32]node{}
	}
	f.nodes[no] = n
	return n, nil
}

// withoutRowid finds the table without rowid that a page is of. All other pages of this kind are of indexes.
func (f *finder) withoutRowid(no uint32, s *schema) error {
	if f.walked == nil {
		f.walked = map[uint32]uint32{}
		for _, t := range s.ordered {
			if !t.WithoutRowid {
				continue
			}
			if err := f.descend(t.root, maxDepth); err != nil {
				return err
			}
		}
	}
	for range maxDepth {
		parent := f.walked[no]
		if parent == 0 {
			break
		}
		f.links[no], no = parent, parent
	}
	return nil
}

// descend notes the pages below one. Leaves are known by their parents, and only the first of these is read.
func (f *finder) descend(no uint32, depth int) error {
	if depth == 0 || len(f.walked) > maxWalk {
		return fmt.Errorf("%w: a table without rowid has too many pages", errNotDecoded)
	}
	n, err := f.node(no)
	if err != nil || !n.interior() {
		return err
	}
	leaves, first := false, true
	return n.children(func(child uint32) error {
		if first {
			c, err := f.node(child)
			if err != nil {
				return err
			}
			leaves, first = !c.interior(), false
		}
		if f.walked[child] = no; leaves {
			return nil
		}
		return f.descend(child, depth-1)
	})
}

// isFree says whether nobody uses a page.
func (f *finder) isFree(no uint32) (free bool, err error) {
	if f.free == nil {
		f.free, err = f.freePages()
	}
	return f.free[no], err
}

// row finds the row that goes on at a page, which is most likely near: the leaf that it is on; 0 if it is not found.
func (f *finder) row(no uint32) (leaf uint32, err error) {
	for i := uint32(1); i < searchPages && *f.searched < maxSearch; i++ {
		for _, at := range [2]uint32{no - i, no + i} {
			if at == 0 || at > f.size || i >= no && at < no {
				continue
			}
			ok, err := f.goesOn(at, no)
			if err != nil && !unclear(err) {
				return 0, err
			}
			if !ok {
				continue
			}
			b, err := f.page(at)
			if err != nil {
				return 0, err
			}
			if ok, err := f.byRowid(at, b); err != nil || ok {
				return at, err
			}
		}
	}
	return 0, nil
}

// goesOn says whether a page is a leaf with a row that goes on at another.
func (f *finder) goesOn(at, no uint32) (bool, error) {
	*f.searched++
	n, err := f.node(at)
	if err != nil || n.kind != tableLeaf {
		return false, err
	}
	for i := range n.cells {
		c, err := n.cell(i)
		if err != nil {
			return false, err
		}
		left := (c.size - int64(len(c.local)) + int64(f.usable) - 5) / int64(f.usable-4)
		for next := c.overflow; next != 0 && left > 0; left-- {
			if next == no {
				return true, nil
			}
			*f.searched++
			b, err := f.page(next)
			if err != nil {
				return false, err
			}
			next = binary.BigEndian.Uint32(b)
		}
	}
	return false, nil
}

// freePages are those of the free list.
func (f *finder) freePages() (map[uint32]bool, error) {
	free := map[uint32]bool{}
	b, err := f.page(1)
	if err != nil {
		return nil, err
	}
	for next := binary.BigEndian.Uint32(b[32:]); next != 0 && !free[next]; next = binary.BigEndian.Uint32(b) {
		free[next] = true
		if b, err = f.page(next); err != nil {
			return nil, err
		}
		for i := range min(binary.BigEndian.Uint32(b[4:]), uint32(f.usable/4-2)) {
			if no := binary.BigEndian.Uint32(b[8+4*i:]); no > 0 && no < math.MaxUint32 {
				free[no] = true
			}
		}
	}
	return free, nil
}
