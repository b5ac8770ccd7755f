package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/history"
	"skein/internal/pagestore"
)

const (
	// sumsChunk is how many pages one message of hashes covers: 256 KB of hashes for 128 MB of pages.
	sumsChunk = 32 << 10

	// shipRun is how many pages travel in one message: 512 KB.
	shipRun = 128

	// sumsAhead is how many chunks of hashes the receiver may be ahead of the pages.
	sumsAhead = 4

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

// pageRun stands at the front of hashes and of pages: which they are.
type pageRun struct {
	Database history.DatabaseID
	First    pagestore.PageNo
	Count    int
}

const pageRunBytes = 12

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

// chunksOf lists what each message of hashes covers, in the order in which both sides go through databases.
func chunksOf(databases []pagestore.ImageDB) []pageRun {
	var all []pageRun
	for _, db := range databases {
		for first := uint32(1); first <= db.Pages; first += sumsChunk {
			all = append(all, pageRun{db.ID, pagestore.PageNo(first), int(min(sumsChunk, db.Pages-first+1))})
		}
	}
	return all
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

	total, done, sent atomic.Int64 // bytes: of all databases; compared; sent because they differ
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
	if err := w.write(kindSnapshot, 0, head.At.Epoch, head.encode()); err != nil {
		return err
	}
	if err := s.pages(image); err != nil {
		if errors.Is(err, pagestore.ErrSnapshotTooOld) {
			return w.refuse(refuse(RefusedGone, "the snapshot was outlived by what changed meanwhile"))
		}
		if errors.Is(err, pagestore.ErrDamaged) {
			return w.refuse(refuse(RefusedBusy, "its own copy is damaged: %v", err))
		}
		return err
	}
	if err := w.write(kindSnapshotEnd, 0, head.At.Epoch); err != nil {
		return err
	}
	if _, err := w.expectAlive(kindSnapshotTaken); err != nil {
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

// pages answers each message of hashes with the pages that differ, and a run of none at its end.
func (s *shipment) pages(image *pagestore.Image) error {
	buf := make([]byte, shipRun*pagestore.PageSize)
	for _, due := range chunksOf(image.Databases()) {
		m, err := s.w.expectAlive(kindSums)
		if err != nil {
			return err
		}
		run, rest, err := decodePageRun(m.payload, sumsChunk)
		if err != nil {
			return err
		}
		if run != due {
			return fmt.Errorf("%w: hashes of %v where %v were due", errBadMessage, run, due)
		}
		theirs := make([]uint64, run.Count) // zero, if there are none
		if len(rest) > 0 {
			if theirs, _, err = decodeSums(rest, run.Count); err != nil {
				return err
			}
		}
		mine, err := image.Sums(run.Database, run.First, run.Count)
		if err != nil {
			return err
		}
		if err := s.differing(image, run, mine, theirs, buf); err != nil {
			return err
		}
		s.done.Add(int64(run.Count) * pagestore.PageSize)
	}
	return nil
}

func (s *shipment) differing(image *pagestore.Image, run pageRun, mine, theirs []uint64, buf []byte) error {
	for i := 0; i < run.Count; {
		if mine[i] == theirs[i] {
			i++
			continue
		}
		n := 1
		for n < shipRun && i+n < run.Count && mine[i+n] != theirs[i+n] {
			n++
		}
		if err := s.send(image, pageRun{run.Database, run.First + pagestore.PageNo(i), n}, mine[i:i+n], buf); err != nil {
			return err
		}
		i += n
	}
	return s.w.write(kindPages, 0, 0, pageRun{run.Database, run.First, 0}.encode(nil))
}

func (s *shipment) send(image *pagestore.Image, run pageRun, sums []uint64, buf []byte) error {
	numbers := make([]pagestore.PageNo, run.Count)
	for i := range numbers {
		numbers[i] = run.First + pagestore.PageNo(i)
	}
	buf = buf[:run.Count*pagestore.PageSize]
	if err := image.ReadPages(run.Database, numbers, buf); err != nil {
		return err
	}
	s.sent.Add(int64(len(buf)))
	return s.w.write(kindPages, 0, 0, run.encode(nil), encodeSums(sums), buf)
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
