package commit

import (
	"skein/internal/pagestore"
	"skein/internal/replog"
)

// transaction turns dirty pages into an entry's body. Small ones are encoded while they are prepared;
// large ones in a second pass, piece by piece, so that their body is never in memory as a whole.
type transaction struct {
	db    *pagestore.DB
	dirty []pagestore.Dirty
	pages uint32

	writes    []pagestore.Write
	unchanged []pagestore.Page // written by SQLite, but with what was there before
	after     pagestore.State
	body      []byte // of a small transaction
	large     bool
	size      int64 // of the body, or a bound for it
}

// prepare finds what really changed and what the database's checksum becomes.
func (t *transaction) prepare() error {
	t.large = len(t.dirty)*pagestore.PageSize > replog.MaxChunk
	t.writes = make([]pagestore.Write, 0, len(t.dirty))
	oldSums := make([]uint64, 0, len(t.dirty))
	old, buf := make([]byte, pagestore.PageSize), make([]byte, pagestore.PageSize)
	for _, d := range t.dirty {
		if uint32(d.No) > t.pages { // cut off again before the commit
			t.unchanged = append(t.unchanged, d.Page)
			continue
		}
		content, err := contentOf(d.Page, buf)
		if err != nil {
			return err
		}
		oldSum, err := t.db.ReadHead(d.No, old)
		if err != nil {
			return err
		}
		before := len(t.body)
		t.body = replog.AppendPage(t.body, uint32(d.No), old, content)
		changed := len(t.body) > before
		t.size += int64(len(t.body) - before)
		if t.large {
			t.body = t.body[:0]
		}
		if !changed {
			t.unchanged = append(t.unchanged, d.Page)
			continue
		}
		t.writes = append(t.writes, pagestore.Write{No: d.No, Page: d.Page, Sum: pagestore.PageSum(d.No, content)})
		oldSums = append(oldSums, oldSum)
	}
	var err error
	t.after, err = t.db.After(t.pages, t.writes, oldSums)
	return err
}

// emit hands the body on in pieces of whole pages.
func (t *transaction) emit(piece func([]byte) error) error {
	if !t.large {
		return piece(t.body)
	}
	old, buf := make([]byte, pagestore.PageSize), make([]byte, pagestore.PageSize)
	var body []byte
	for _, w := range t.writes {
		content, err := contentOf(w.Page, buf)
		if err != nil {
			return err
		}
		if _, err := t.db.ReadHead(w.No, old); err != nil {
			return err
		}
		body = replog.AppendPage(body, uint32(w.No), old, content)
		if len(body) >= replog.MaxChunk-pagestore.PageSize {
			if err := piece(body); err != nil {
				return err
			}
			body = nil // the log holds a piece back until it knows whether it is the last
		}
	}
	return piece(body)
}

// releaseUnchanged gives back the pages that the store did not take over.
func (t *transaction) releaseUnchanged() {
	for _, p := range t.unchanged {
		p.Release()
	}
}

func contentOf(p pagestore.Page, buf []byte) ([]byte, error) {
	if b := p.Bytes(); b != nil {
		return b, nil
	}
	return buf, p.Read(buf)
}
