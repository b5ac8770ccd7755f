package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/rest"
)

const (
	// maxDamaged bounds the pages that wait to be mended. More are found again by the next read of them.
	maxDamaged = 1024

	// mendPace is how long a page waits before it is asked for again.
	mendPace  = time.Second
	mendTries = 3
)

var errNoGoodCopy = errors.New("no node that can be reached has a good copy of the page")

// damage is a page of a base file that does not read as it was written.
type damage struct {
	database history.DatabaseID
	page     pagestore.PageNo
	want     uint64 // hash
}

// Damaged asks for a page to be mended from another node. It does not wait.
func (p *Peer) Damaged(database history.DatabaseID, page pagestore.PageNo, want uint64) {
	select {
	case p.damaged <- damage{database, page, want}:
	default:
	}
}

// mend fetches a page and puts it back. What was read while it was damaged was an error, never its content.
func (p *Peer) mend(ctx context.Context, d damage) {
	p.Logger.Error("a page of a database file is damaged; asking other nodes for it", "database", d.database, "page", d.page)
	from, err := "", error(nil)
	for range mendTries {
		if from, err = p.mendOnce(ctx, d); err == nil || ctx.Err() != nil {
			break
		}
		_ = rest.For(ctx, mendPace)
	}
	if err != nil && ctx.Err() != nil {
		return // the next read of the page asks again
	}
	if p.mended != nil {
		p.mended(d.database, d.page, from, err)
	}
	if err != nil {
		p.Logger.Error("a damaged page could not be mended; reads of it fail", "database", d.database, "page", d.page, "error", err)
		return
	}
	p.Logger.Warn("mended a damaged page", "database", d.database, "page", d.page, "from", from)
}

func (p *Peer) mendOnce(ctx context.Context, d damage) (from string, err error) {
	content := make([]byte, pagestore.PageSize)
	for _, address := range p.addresses() {
		if err = p.askPage(ctx, address, d, content); err == nil {
			return address, p.pipeline.Store().Repair(d.database, d.page, d.want, content)
		}
	}
	return "", errors.Join(errNoGoodCopy, err)
}

// askPage asks one node for the page with the right hash.
func (p *Peer) askPage(ctx context.Context, address string, d damage, dst []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, _, err := p.dial(ctx, address, toRepair)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	defer func() { _ = w.close() }()
	if err := w.write(kindPageWanted, 0, 0, pageRun{d.database, d.page, 1}.encode(nil), encodeSums([]uint64{d.want})); err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	m, err := w.expect(kindPage)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	if len(m.payload) != pagestore.PageSize {
		return fmt.Errorf("ask %s: %w", address, errNoGoodCopy)
	}
	copy(dst, m.payload)
	return nil
}

// givePages answers for pages by what they must contain: of whatever LSN, the content is right if its hash is.
func (p *Peer) givePages(w *wire) error {
	page := make([]byte, pagestore.PageSize)
	for {
		m, err := w.expect(kindPageWanted)
		if err != nil {
			return nil // it has what it wanted
		}
		run, rest, err := decodePageRun(m.payload, 1)
		if err != nil {
			return err
		}
		sums, _, err := decodeSums(rest, 1)
		if err != nil {
			return err
		}
		answer := page
		if !p.pipeline.Store().Find(run.Database, run.First, sums[0], page) {
			answer = nil
		}
		if err := w.write(kindPage, 0, 0, answer); err != nil {
			return err
		}
	}
}
