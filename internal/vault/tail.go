package vault

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"skein/internal/history"
	"skein/internal/replog"
)

const tailSuffix = ".log"

// Tail is entries that a node has given up, in a file.
type Tail struct {
	Path         string
	Epoch        history.Epoch // of the last entry
	From, To     history.LSN   // first and last entry
	Chain        history.Hash  // after the last entry
	Bytes        int64         // of the file
	Transactions int64
	First, Last  time.Time // of the commits, by the clock of the leader that made them
	// Missing says why row changes cannot be shown, or not all; "" if nothing is missing.
	Missing string

	file  *os.File
	end   int64 // of the entries
	whole bool  // what is behind the entries is there
	parts map[history.DatabaseID]part
	temp  string
}

// Name is what a tail is called: the name of its file without directory and ending.
func (t *Tail) Name() string {
	base := filepath.Base(t.Path)
	return base[:len(base)-len(filepath.Ext(base))]
}

// List describes the tails in a node's vault, oldest first. They are closed. Files that are no tails are left out.
func List(dir string) ([]*Tail, error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*Tail
	for _, n := range names {
		if n.IsDir() || filepath.Ext(n.Name()) != tailSuffix {
			continue
		}
		t, err := Open(filepath.Join(dir, n.Name()), "")
		if errors.Is(err, errNoTail) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := t.Close(); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *Tail) int {
		return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
	})
	return list, nil
}

var errNoTail = errors.New("not a tail of the vault")

// Remove deletes a tail for ever. Nothing else does: how long what was lost may be wanted is for people to say.
func (t *Tail) Remove() error {
	if err := os.Remove(t.Path); err != nil {
		return err
	}
	return replog.SyncDir(filepath.Dir(t.Path))
}

// FileName is what the file of a tail is called.
func FileName(from history.LSN, head history.Position) string {
	return fmt.Sprintf("%d-%d-%d-%016x%s", head.Epoch, from, head.LSN, uint64(head.Chain), tailSuffix)
}

// Open opens a tail. temp is a directory for what does not fit in memory while it is read; "" is the system's.
func Open(path, temp string) (*Tail, error) {
	t := &Tail{Path: path, temp: temp, parts: map[history.DatabaseID]part{}}
	if n, _ := fmt.Sscanf(filepath.Base(path), "%d-%d-%d-%x.log", &t.Epoch, &t.From, &t.To, &t.Chain); n != 4 {
		return nil, fmt.Errorf("%s: %w", path, errNoTail)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	t.file = f
	if err := t.read(); err != nil {
		return nil, closing(f, fmt.Errorf("%s: %w", path, err))
	}
	return t, nil
}

func (t *Tail) read() error {
	st, err := t.file.Stat()
	if err != nil {
		return err
	}
	t.Bytes = st.Size()
	if t.end, t.whole, err = entriesEnd(t.file, t.Bytes); err != nil {
		return err
	}
	var s summary
	if t.whole {
		r := &reader{r: io.NewSectionReader(t.file, t.end, t.Bytes-footerBytes-t.end)}
		s = r.summary()
		for range r.count(20) {
			p := r.part()
			t.parts[p.id] = p
		}
		t.whole = r.err == nil
	}
	if !t.whole {
		t.parts = nil
		k := keeper{file: t.file, end: t.end}
		if err := k.count(); err != nil {
			return err
		}
		if s = k.summary; s.missing == "" {
			s.missing = "nothing was kept beside the entries themselves"
		}
	}
	t.Transactions, t.First, t.Last, t.Missing = int64(s.transactions), timeOf(s.first), timeOf(s.last), s.missing
	return nil
}

// Close closes the file.
func (t *Tail) Close() error { return t.file.Close() }

// Transaction is one that was lost.
type Transaction struct {
	Epoch    history.Epoch
	LSN      history.LSN
	Time     time.Time // of its commit
	Database history.DatabaseID
	DDL      []DDL
	Changes  []Change
	// Unknown says what could not be found out about it.
	Unknown []string
}

// Pages is how many pages of its database the tail has from before.
func (t *Tail) Pages(id history.DatabaseID) int { return len(t.parts[id].pages) }

// Databases lists those that the tail has changed, as far as it was kept what they were.
func (t *Tail) Databases() (ids []history.DatabaseID) {
	for id := range t.parts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Each calls fn for every transaction, in order. What it is given is fn's to keep.
func (t *Tail) Each(fn func(*Transaction) error) error {
	s := &scratch{dir: t.temp}
	r := transactions{databases: map[history.DatabaseID]*database{}, scratch: s, tail: t}
	at, err := eachEntry(t.file, t.end, func(e *replog.Entry) error { return r.take(e, fn) })
	if err == nil && at < t.end {
		err = fmt.Errorf("%s: byte %d: %w", t.Path, at, replog.ErrDamaged)
	}
	return errors.Join(err, s.close())
}

// transactions puts entries together and follows the databases through them.
type transactions struct {
	databases map[history.DatabaseID]*database
	scratch   *scratch
	tail      *Tail // where databases are found that are not known yet; nil: all are

	over layer // of the entry under way
	torn bool  // its beginning is missing
}

// take takes in a piece of an entry. With the last of a transaction it calls fn, if there is any.
func (r *transactions) take(e *replog.Entry, fn func(*Transaction) error) error {
	if e.Kind != replog.Transaction {
		return nil
	}
	d := r.databases[e.Database]
	if d == nil {
		d = r.open(e.Database)
	}
	if e.Chunk == 0 {
		r.forget()
		r.over = layer{}
	}
	if r.over == nil { // the log began within it
		r.torn, r.over = true, layer{}
	}
	if err := d.pages.change(r.over, e.Body); err != nil {
		return fmt.Errorf("entry %d: %w", e.LSN, err)
	}
	if e.More {
		return nil
	}
	x := &Transaction{Epoch: e.Epoch, LSN: e.LSN, Time: timeOf(e.Time), Database: e.Database}
	diff, err := d.apply(r.over, e.Pages)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.LSN, err)
	}
	x.DDL, x.Changes, x.Unknown = diff.ddl, diff.changes, diff.unknown
	if r.torn {
		x.Unknown = append(x.Unknown, "its beginning is missing")
	}
	r.over, r.torn = nil, false
	if fn == nil {
		return nil
	}
	return fn(x)
}

// forget lets go of a beginning without an end.
func (r *transactions) forget() {
	for _, slot := range r.over {
		r.scratch.release(slot)
	}
	r.over, r.torn = nil, false
}

func (r *transactions) open(id history.DatabaseID) *database {
	t := r.tail
	p, ok := t.parts[id]
	if !ok && t.Missing != "" {
		p.size = 1<<32 - 1 // nobody knows
	}
	d := newDatabase(id, p.size, func(no uint32, dst []byte) error {
		at, ok := p.pages[no]
		if !ok {
			return errAbsent
		}
		return readPage(t.file, t.end+at, dst)
	}, r.scratch)
	for child, parent := range p.parent {
		d.link(child, parent)
	}
	for no, leaf := range p.chains {
		d.chains[no] = leaf
	}
	r.databases[id] = d
	return d
}
