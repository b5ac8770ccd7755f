package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"skein/internal/history"
	"skein/internal/pagestore"
)

const (
	// digestBlock is how many pages have one digest: the hash of their hashes.
	digestBlock = 512

	// askDigests, askHashes and askPages are the most pages that one message may ask these of: 16 KB of digests, 256 KB of
	// hashes, 512 KB of pages.
	askDigests = 1 << 20
	askHashes  = 32 << 10
	askPages   = 128

	// asksAhead is how many messages may be asked before the first is answered.
	asksAhead = 32

	// snapshotPatience times Timeout is the silence that ends a snapshot: both sides wait for disks there.
	snapshotPatience = 6
)

// snapshotHead is what a snapshot will be.
type snapshotHead struct {
	At        history.Position
	Epochs    history.Epochs
	Databases []pagestore.ImageDB
}

func (s snapshotHead) encode() []byte {
	var e encoder
	e.position(s.At)
	e.epochs(s.Epochs)
	e.u32(uint32(len(s.Databases)))
	for _, db := range s.Databases {
		e.u32(uint32(db.ID))
		e.u32(db.Pages)
		e.u64(db.Checksum)
	}
	return e.b
}

func decodeSnapshotHead(b []byte) (snapshotHead, error) {
	d := decoder{b: b}
	s := snapshotHead{At: d.position(), Epochs: d.epochs()}
	n := int(d.u32())
	if n*16 > len(d.b) {
		return s, errBadMessage
	}
	for range n {
		s.Databases = append(s.Databases, pagestore.ImageDB{ID: history.DatabaseID(d.u32()), Pages: d.u32(), Checksum: d.u64()})
	}
	return s, d.end()
}

// wanted is what is asked of pages.
type wanted uint8

const (
	wantDigests wanted = iota + 1 // of each digestBlock, counted from the first page of a run
	wantHashes
	wantPages // hashes, then contents
)

// most is how many pages one message may ask it of.
func (w wanted) most() int {
	return [...]int{wantDigests: askDigests, wantHashes: askHashes, wantPages: askPages}[w]
}

// ask is for some pages of one database.
type ask struct {
	what     wanted
	database history.DatabaseID
	runs     []pagestore.Run // of that database
}

func (a ask) pages() (n int) {
	for _, r := range a.runs {
		n += r.Count
	}
	return n
}

func (a ask) encode() []byte {
	var e encoder
	e.u8(uint8(a.what))
	e.u32(uint32(a.database))
	for _, r := range a.runs {
		e.u32(uint32(r.First))
		e.u32(uint32(r.Count))
	}
	return e.b
}

func decodeAsk(b []byte) (ask, error) {
	d := decoder{b: b}
	a := ask{what: wanted(d.u8()), database: history.DatabaseID(d.u32())}
	if a.what < wantDigests || a.what > wantPages {
		return a, errBadMessage
	}
	left := a.what.most()
	for len(d.b) > 0 {
		r := pagestore.Run{Database: a.database, First: pagestore.PageNo(d.u32()), Count: int(d.u32())}
		if left -= r.Count; left < 0 || r.First == 0 || r.Count == 0 {
			d.bad = true
			break
		}
		a.runs = append(a.runs, r)
	}
	return a, d.end()
}

// asks puts runs, which are in order of databases, into as few messages as they fit in.
func asks(what wanted, runs []pagestore.Run) iter.Seq[ask] {
	return func(yield func(ask) bool) {
		a := ask{what: what}
		left := what.most()
		for _, r := range runs {
			for r.Count > 0 {
				if len(a.runs) > 0 && (left == 0 || a.database != r.Database) {
					if !yield(a) {
						return
					}
					a, left = ask{what: what}, what.most()
				}
				n := min(left, r.Count)
				a.database, a.runs = r.Database, append(a.runs, pagestore.Run{Database: r.Database, First: r.First, Count: n})
				r.First, r.Count, left = r.First+pagestore.PageNo(n), r.Count-n, left-n
			}
		}
		if len(a.runs) > 0 {
			yield(a)
		}
	}
}

// digests gives the hash of the hashes of each block of so many pages; those that are missing are of zeros.
func digests(sums []uint64, pages int) []uint64 {
	list := make([]uint64, 0, (pages+digestBlock-1)/digestBlock)
	var block [8 * digestBlock]byte
	for from := 0; from < pages; from += digestBlock {
		n := min(digestBlock, pages-from)
		clear(block[:])
		for i := range min(n, max(len(sums)-from, 0)) {
			binary.LittleEndian.PutUint64(block[8*i:], sums[from+i])
		}
		list = append(list, xxh3.Hash(block[:8*n]))
	}
	return list
}

// pageRun is a page that is to be repaired.
type pageRun pagestore.Run

func (r pageRun) encode(dst []byte) []byte {
	e := encoder{dst}
	e.u32(uint32(r.Database))
	e.u32(uint32(r.First))
	e.u32(uint32(r.Count))
	return e.b
}

func decodePageRun(b []byte, most int) (pageRun, []byte, error) {
	d := decoder{b: b}
	r := pageRun{history.DatabaseID(d.u32()), pagestore.PageNo(d.u32()), int(d.u32())}
	if r.Count > most || r.First == 0 {
		d.bad = true
	}
	return r, d.b, d.end()
}

func decodeSums(b []byte, n int) ([]uint64, []byte, error) {
	if len(b) < 8*n {
		return nil, nil, errBadMessage
	}
	sums := make([]uint64, n)
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return sums, b[8*n:], nil
}

// shipment is a snapshot on its way to another node.
type shipment struct {
	who   Identity
	w     *wire
	since time.Time
	at    history.LSN

	total, done, sent atomic.Int64 // bytes: of all databases; known to be equal, or sent; sent because they differ
}

// ship sends the databases as they are now, without those pages that the other side has already. The log
// behind them is kept, from before they are pinned.
func (p *Peer) ship(ctx context.Context, w *wire, who Identity) error {
	w.timeout = snapshotPatience * p.Timeout
	if _, err := w.expect(kindSnapshotWanted); err != nil {
		return err
	}
	if err := p.reserve(who); err != nil {
		return w.refuse(err)
	}
	defer p.slots.release(who.Name)
	stop := w.keepAlive(ctx, p.Heartbeat)
	defer stop()

	image, err := p.pipeline.Store().Pin(p.pipeline.Visible())
	if err != nil {
		return w.refuse(refuse(RefusedBusy, "it cannot give a snapshot now: %v", err))
	}
	defer image.Close()
	head := snapshotHead{Databases: image.Databases(), Epochs: p.pipeline.Log().Epochs().Until(image.LSN)}
	if head.At, err = p.pipeline.Log().At(image.LSN); err != nil {
		return w.refuse(refuse(RefusedBusy, "it cannot give a snapshot now: %v", err))
	}
	s := &shipment{who: who, w: w, since: time.Now(), at: image.LSN}
	for _, db := range head.Databases {
		s.total.Add(int64(db.Pages) * pagestore.PageSize)
	}
	p.shipping(s, true)
	defer p.shipping(s, false)
	p.Logger.Info("sending a snapshot", "name", who.Name, "at", head.At, "bytes", s.total.Load())
	// The frame's epoch is the one that this node's log has come to, which nobody may have acknowledged yet.
	if err := w.write(kindSnapshot, 0, p.pipeline.Log().Head().Epoch, head.encode()); err != nil {
		return err
	}
	if err := s.answer(image); err != nil {
		if errors.Is(err, pagestore.ErrSnapshotTooOld) {
			return w.refuse(refuse(RefusedGone, "the snapshot was outlived by what changed meanwhile"))
		}
		if errors.Is(err, pagestore.ErrDamaged) {
			return w.refuse(refuse(RefusedBusy, "its own copy is damaged: %v", err))
		}
		return err
	}
	p.Logger.Info("sent a snapshot", "name", who.Name, "at", head.At, "bytes", s.sent.Load(), "took", time.Since(s.since).Round(time.Millisecond))
	return nil
}

// reserve has the log kept for a node that takes a snapshot, and will stream from where it stands.
func (p *Peer) reserve(who Identity) error {
	p.mu.Lock()
	r := p.replicas[who.Name]
	taken := r != nil && r.sender != nil && r.who.Node != who.Node
	p.mu.Unlock()
	if taken || who.Name == "" {
		return refuse(RefusedDuplicate, "another node streams under your name %q", who.Name)
	}
	p.slots.useForCopy(who.Name, who.Node, p.pipeline.Visible(), time.Now())
	return nil
}

func (p *Peer) shipping(s *shipment, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.pids++
		p.snapshots[s] = p.pids
		return
	}
	delete(p.snapshots, s)
}

// answer gives what is asked for until everything is taken. The receiver compares, and says how much it found to differ.
func (s *shipment) answer(image *pagestore.Image) error {
	buf := make([]byte, askPages*pagestore.PageSize)
	for {
		m, err := s.w.expectAlive(kindAsk, kindDiffering, kindSnapshotTaken)
		switch {
		case err != nil:
			return err
		case m.kind == kindSnapshotTaken:
			return nil
		case m.kind == kindDiffering:
			d := decoder{b: m.payload}
			s.done.Store(s.total.Load() - int64(d.u64())*pagestore.PageSize)
			if err := d.end(); err != nil {
				return err
			}
			continue
		}
		a, err := decodeAsk(m.payload)
		if err != nil {
			return err
		}
		if err := s.give(image, a, buf); err != nil {
			return err
		}
	}
}

func (s *shipment) give(image *pagestore.Image, a ask, buf []byte) error {
	var hashes []uint64
	for _, r := range a.runs {
		sums, err := image.Sums(r.Database, r.First, r.Count)
		if err != nil {
			return err
		}
		if len(sums) != r.Count {
			return fmt.Errorf("%w: %v is asked for", errBadMessage, r)
		}
		if a.what == wantDigests {
			sums = digests(sums, r.Count)
		}
		hashes = append(hashes, sums...)
	}
	if a.what != wantPages {
		return s.w.write(kindGiven, 0, 0, encodeSums(hashes))
	}
	numbers := make([]pagestore.PageNo, 0, askPages)
	for _, r := range a.runs {
		for i := range r.Count {
			numbers = append(numbers, r.First+pagestore.PageNo(i))
		}
	}
	buf = buf[:len(numbers)*pagestore.PageSize]
	if err := image.ReadPages(a.database, numbers, buf); err != nil {
		return err
	}
	s.sent.Add(int64(len(buf)))
	s.done.Add(int64(len(buf)))
	return s.w.write(kindGiven, 0, 0, encodeSums(hashes), buf)
}

func encodeSums(sums []uint64) []byte {
	b := make([]byte, 0, 8*len(sums))
	for _, s := range sums {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	return b
}

// keepAlive sends heartbeats until stop, so that the other side tells a long wait from a dead connection.
func (w *wire) keepAlive(ctx context.Context, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := w.write(kindHeartbeat, 0, 0); err != nil {
					return // whoever reads finds out why
				}
			}
		}
	})
	return func() {
		cancel()
		_ = w.conn.SetWriteDeadline(time.Now()) // a heartbeat that nobody takes must not hold this up
		beating.Wait()
	}
}

// expectAlive is expect where heartbeats may come before.
func (w *wire) expectAlive(kinds ...kind) (message, error) {
	for {
		m, err := w.read()
		if err != nil {
			return m, err
		}
		if m.kind != kindHeartbeat {
			return m, w.check(m, kinds...)
		}
	}
}
