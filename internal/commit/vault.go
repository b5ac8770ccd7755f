package commit

import (
	"fmt"
	"io"
	"path/filepath"

	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
	"skein/internal/vault"
)

// VaultDir is where the node in dir keeps what it had to give up.
func VaultDir(dir string) string { return filepath.Join(dir, "vault") }

// Tail is what this node has to give up: the entries above After, of which readers have seen those up to Shown.
type Tail struct {
	After history.LSN
	Head  history.Position
	Shown history.LSN
	File  string // in the vault
}

// SaveTail keeps the entries above after in the vault, and what is needed to show which rows they have changed, as far as
// that is still there. It gives the file's name, "" where there are no entries.
func (p *Pipeline) SaveTail(after history.LSN) (string, error) {
	head := p.log.Head()
	after = max(after, p.log.First()-1) // what was trimmed is in the base files alone
	if head.LSN <= after {
		return "", nil
	}
	dir := VaultDir(p.dir)
	if err := replog.MakeDir(dir); err != nil {
		return "", err
	}
	path := filepath.Join(dir, vault.FileName(after+1, head))
	save := func(w io.Writer) error { return p.log.Save(w, after+1, head.LSN) }
	past, err := p.past(after)
	missing := ""
	var before vault.Before
	if err != nil {
		missing = err.Error()
	} else {
		before = past
		defer past.Close()
	}
	if err := vault.Keep(path, save, before, missing, TempDir(p.dir)); err != nil {
		return "", fmt.Errorf("keep a tail in the vault: %w", err)
	}
	if fn := p.options.OnTail; fn != nil {
		fn(Tail{After: after, Head: head, Shown: p.Visible(), File: path})
	}
	return path, nil
}

// past gives the databases as of an entry.
func (p *Pipeline) past(lsn history.LSN) (*pagestore.Past, error) {
	past, err := p.store.Past(lsn)
	if err != nil {
		return nil, err
	}
	if err := p.redoPast(past, lsn); err != nil {
		past.Close()
		return nil, err
	}
	return past, nil
}

func (p *Pipeline) redoPast(past *pagestore.Past, to history.LSN) error {
	if past.From() >= to {
		return nil
	}
	r, err := p.log.NewReader(past.From())
	if err != nil {
		return err
	}
	defer r.Close()
	var scratch []byte
	for last := past.From(); last < to; {
		b, ok, err := r.TryNext(applyBatch)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %d", replog.ErrNotYet, to)
		}
		if err == nil {
			err = b.Each(&scratch, past.Redo)
		}
		if err != nil {
			return err
		}
		last = max(last, b.Last)
	}
	return nil
}
