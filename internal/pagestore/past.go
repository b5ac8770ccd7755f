package pagestore

import (
	"errors"
	"fmt"

	"skein/internal/history"
	"skein/internal/replog"
)

// pastMemory bounds the pages that a Past keeps in memory: beyond it they are in a file.
const pastMemory = 64 << 20

// ErrCheckpointed means that base files hold more than is asked for, and nobody has what was there before.
var ErrCheckpointed = errors.New("a checkpoint has written over what was there before")

// Past is all databases as they were as of one LSN, also where readers have gone further since: then it is made from the base
// files and the log. It is for one goroutine, and to be closed soon: no checkpoint runs meanwhile.
type Past struct {
	store *Store
	lsn   history.LSN
	from  history.LSN

	image     *Image // where the versions as of the LSN are still there
	databases map[history.DatabaseID]*DB
	usage     usage
	spill     *Spill
	begun     bool // an entry of which the last piece has not come
}

// Past goes back to lsn. Entries above From, up to lsn, are to be given to Redo before the first page is read. It is
// ErrCheckpointed if base files hold entries above lsn.
func (s *Store) Past(lsn history.LSN) (*Past, error) {
	image, err := s.Pin(lsn)
	if err != nil {
		return nil, err
	}
	if image.LSN == lsn {
		return &Past{store: s, lsn: lsn, from: lsn, image: image}, nil
	}
	image.Close()
	s.checkpointing.Lock()
	if at := max(s.record.at, s.record.reach); at > lsn {
		s.checkpointing.Unlock()
		return nil, fmt.Errorf("go back to entry %d: %w: they hold entry %d", lsn, ErrCheckpointed, at)
	}
	p := &Past{store: s, lsn: lsn, from: s.record.at, databases: map[history.DatabaseID]*DB{}}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, db := range s.everyLocked() {
		if base, ok := s.record.states[db.ID]; ok {
			p.databases[db.ID] = p.open(db, base)
		}
	}
	return p, nil
}

// open gives a database of its own on the base file of db.
func (p *Past) open(db *DB, base State) *DB {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return &DB{
		ID: db.ID, base: db.base, usage: &p.usage, sums: db.sums, base0: base, floor: base.LSN, states: []State{base},
		pages: map[PageNo]*version{}, pins: map[history.LSN]*pin{},
	}
}

// From is where Redo has to begin.
func (p *Past) From() history.LSN { return p.from }

// Redo replays one entry, or one piece of one, up to the LSN that it goes back to.
func (p *Past) Redo(e *replog.Entry) error {
	if e.Kind != replog.Transaction || e.LSN > p.lsn {
		return nil
	}
	if p.begun && e.Chunk == 0 { // what was redone of it cannot be taken back
		return fmt.Errorf("go back to entry %d: %w: the beginning of entry %d was given up", p.lsn, errMissingPiece, e.LSN)
	}
	p.begun = e.More
	db := p.databases[e.Database]
	if db == nil {
		db = &DB{ID: e.Database, usage: &p.usage, states: []State{{}}, pages: map[PageNo]*version{}, pins: map[history.LSN]*pin{}}
		p.databases[e.Database] = db
	}
	return db.redo(e, p.room)
}

// room gives the file for further pages once memory is full, nil before.
func (p *Past) room() (*Spill, error) {
	if p.spill != nil || p.usage.memory.Load() < pastMemory {
		return p.spill, nil
	}
	var err error
	p.spill, err = NewSpill(p.store.options.TempDir)
	return p.spill, err
}

// Size is how many pages a database had, 0 if there was none.
func (p *Past) Size(id history.DatabaseID) uint32 {
	if p.image != nil {
		s, err := p.image.snapshot(id)
		if err != nil {
			return 0
		}
		return s.at.Pages
	}
	if db := p.databases[id]; db != nil {
		return db.Head().Pages
	}
	return 0
}

// Read copies a page.
func (p *Past) Read(id history.DatabaseID, no uint32, dst []byte) error {
	if p.image != nil {
		return p.image.ReadPages(id, []PageNo{PageNo(no)}, dst)
	}
	db := p.databases[id]
	if db == nil {
		return errUnknownDatabase
	}
	_, err := db.read(PageNo(no), db.Head(), dst)
	return err
}

// Close lets everything go.
func (p *Past) Close() {
	if p.image != nil {
		p.image.Close()
		return
	}
	for _, db := range p.databases {
		db.forget()
	}
	if p.spill != nil {
		p.spill.Close()
	}
	p.store.checkpointing.Unlock()
}
