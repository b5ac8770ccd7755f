package vault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// place is where a row is.
type place struct {
	page uint32
	cell int
}

// found are the rows of a set of pages, by key.
type found struct {
	set
	table *Table
	at    map[string]place
	nodes map[uint32]node // that were read last
}

// cachedNodes is how many pages are kept at hand while rows are compared.
const cachedNodes = 1024

func (f *found) node(no uint32) (node, error) {
	if n, ok := f.nodes[no]; ok {
		return n, nil
	}
	n, err := f.set.node(no)
	if err == nil {
		if len(f.nodes) == cachedNodes {
			clear(f.nodes)
		}
		f.nodes[no] = n
	}
	return n, err
}

// find notes where each row is.
func find(s set, t *Table) (*found, error) {
	f := &found{set: s, table: t, at: map[string]place{}, nodes: map[uint32]node{}}
	for _, no := range s.pages {
		n, err := f.node(no)
		if err != nil {
			return nil, err
		}
		for i := range n.cells {
			c, err := n.cell(i)
			if err != nil {
				return nil, err
			}
			key, err := f.key(c)
			if err != nil {
				return nil, err
			}
			if f.at[key] = (place{no, i}); len(f.at) > maxRows {
				return nil, fmt.Errorf("%w: it has changed more than %d rows at once", errAbsent, maxRows)
			}
		}
	}
	return f, nil
}

// key gives what rows are compared by: of ordinary tables the rowid, so that keys sort as rowids do.
func (f *found) key(c cell) (string, error) {
	if !f.table.WithoutRowid {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(c.rowid)^1<<63)
		return string(b[:]), nil
	}
	b, err := f.payload(c, nil)
	if err != nil {
		return "", err
	}
	values, err := parseRecord(b)
	if err != nil || len(values) < len(f.table.key) {
		return "", errNotDecoded
	}
	var key strings.Builder
	for _, v := range values[:len(f.table.key)] {
		text := v.SQL()
		fmt.Fprintf(&key, "%d:%s,", len(text), text)
	}
	return key.String(), nil
}

// cell gives the cell of a row.
func (f *found) cell(key string) (cell, error) {
	at := f.at[key]
	n, err := f.node(at.page)
	if err != nil {
		return cell{}, err
	}
	return n.cell(at.cell)
}

// rows gives the rows of a table that a transaction has changed.
func (m *members) rows(now *Table) ([]Change, error) {
	old := m.was.tables[now.Name]
	if same := m.was.roots[now.root]; old == nil && same != nil && !m.gone[now.root] {
		old = same // by another name
	}
	before, after, err := m.sets(old, now)
	if err != nil || len(before.pages)+len(after.pages) == 0 {
		return nil, err
	}
	was, err := find(before, cmpOr(old, now))
	if err != nil {
		return nil, err
	}
	is, err := find(after, now)
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(was.at)+len(is.at))
	for key := range was.at {
		keys = append(keys, key)
	}
	for key := range is.at {
		if _, both := was.at[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var changes []Change
	for _, key := range keys {
		c, changed, err := m.row(key, was, is)
		if err != nil {
			return changes, err
		}
		if changed {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

func cmpOr(t, or *Table) *Table {
	if t != nil {
		return t
	}
	return or
}

// row compares one row. It notes where rows go on that are on pages of the tail: a later transaction may write to these alone.
func (m *members) row(key string, was, is *found) (c Change, changed bool, err error) {
	from, had := was.at[key]
	to, has := is.at[key]
	c.Table = is.table
	var old, now cell
	if had {
		if old, err = was.cell(key); err != nil {
			return c, false, err
		}
	}
	if has {
		if now, err = is.cell(key); err != nil {
			return c, false, err
		}
	}
	same := had && has && old.size == now.size && old.overflow == now.overflow && bytes.Equal(old.local, now.local)
	if same && was.table.SQL == is.table.SQL && (now.overflow == 0 || from.page == to.page && !m.long[to.page]) {
		return c, false, nil
	}
	if had {
		if c.Before, err = was.read(old, nil); err != nil {
			return c, false, err
		}
		c.Before.Values = was.table.as(is.table, c.Before.Values)
	}
	if has {
		if c.After, err = is.read(now, func(no uint32) { m.chains[no] = to.page }); err != nil {
			return c, false, err
		}
	}
	return c, !had || !has || !slices.EqualFunc(c.Before.Values, c.After.Values, Value.equal), nil
}

// read makes a row of a cell.
func (f *found) read(c cell, chain func(uint32)) (*Row, error) {
	b, err := f.payload(c, chain)
	if err != nil {
		return nil, err
	}
	return f.table.row(c.rowid, b)
}

// row makes a row of a record. Its values do not share the record's memory.
func (t *Table) row(rowid int64, payload []byte) (*Row, error) {
	record, err := parseRecord(bytes.Clone(payload))
	if err != nil {
		return nil, err
	}
	r := &Row{Rowid: rowid, Values: make([]Value, len(t.Columns))}
	for i := range r.Values {
		r.Values[i].Kind = Missing
	}
	for i, v := range record[:min(len(record), len(t.kept))] {
		r.Values[t.kept[i]] = v
	}
	if t.rowid >= 0 {
		r.Values[t.rowid] = Value{Kind: Integer, Int: rowid}
	}
	return r, nil
}

// as brings the values of a row of t into the order of another definition of the table.
func (t *Table) as(o *Table, values []Value) []Value {
	if t.SQL == o.SQL {
		return values
	}
	list := make([]Value, len(o.Columns))
	for i, c := range o.Columns {
		list[i].Kind = Missing
		if at := slices.IndexFunc(t.Columns, func(was Column) bool { return strings.EqualFold(was.Name, c.Name) }); at >= 0 {
			list[i] = values[at]
		}
	}
	return list
}
