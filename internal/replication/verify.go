package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/rest"
)

const (
	// scrubPiece is what is read between two rests when somebody waits for the result.
	scrubPiece = 4 << 20

	// DefaultScrubEvery is how often every page is read in the background, and scrubRate how fast, in bytes
	// per second.
	DefaultScrubEvery = 24 * time.Hour
	scrubRate         = 16 << 20
)

// Verified is one database on one node.
type Verified struct {
	Identity
	Address  string
	Database history.DatabaseID
	LSN      history.LSN // that this node and the other were compared at; 0 when they were not
	Pages    int64
	Checksum uint64
	Damaged  int64 // pages whose bytes on disk are not what they should be
	Repaired int64 // of these, replaced by a good copy
	Result   string
	Detail   string
}

// The results.
const (
	VerifiedOK          = "ok"
	VerifiedDamaged     = "damaged"
	VerifiedRepaired    = "repaired"
	VerifiedDifferent   = "different"
	VerifiedUnreachable = "unreachable"
)

// scrubbed is what reading every page of a database showed.
type scrubbed struct {
	Database history.DatabaseID
	Pages    uint32
	Checksum uint64
	Damaged  uint32
	Repaired uint32
}

// Verify reads every page of every database once, on this node and on those at addresses, and compares
// their pasts. Without addresses it asks the upstream and every connected follower, and names those followers that it
// cannot ask. Damaged pages are mended where another node has them.
func (p *Peer) Verify(ctx context.Context, addresses ...string) ([]Verified, error) {
	var unasked []Verified
	if len(addresses) == 0 {
		addresses, unasked = p.others()
	}
	at, err := p.pipeline.Log().At(p.pipeline.Visible())
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	results := make([][]Verified, len(addresses)+1)
	var asking sync.WaitGroup
	for i, address := range addresses {
		asking.Go(func() { results[i+1] = p.askVerified(ctx, address, at) })
	}
	own, err := p.scrub(ctx, halfTime(ctx))
	for _, s := range own {
		results[0] = append(results[0], s.row(p.Identity, p.Address, at.LSN))
	}
	asking.Wait()
	all := slices.Concat(results...)
	// A slot may be of the time when this node led: its follower may be the upstream now.
	unasked = slices.DeleteFunc(unasked, func(v Verified) bool {
		return slices.ContainsFunc(all, func(asked Verified) bool { return asked.Node == v.Node })
	})
	return append(all, unasked...), err
}

// others lists where Verify asks, the upstream first, and the followers that it cannot ask. Whoever has a slot is
// a follower until that is dropped: otherwise a cluster of which a node is away would be found in order.
func (p *Peer) others() (addresses []string, unasked []Verified) {
	status := p.Status()
	if r := status.Receiver; r != nil {
		addresses = append(addresses, r.Address)
	}
	not := func(who Identity, why string) {
		unasked = append(unasked, Verified{Identity: who, Result: VerifiedUnreachable, Detail: why})
	}
	connected := map[string]bool{}
	for _, r := range status.Replicas {
		if !r.Connected || r.State == StateBackup {
			continue
		}
		connected[r.Name] = true
		if r.reachable() {
			addresses = append(addresses, r.Address)
		} else {
			not(r.Identity, "it does not say where its peer port is")
		}
	}
	for _, slot := range status.Slots {
		who := Identity{Name: slot.Name, Node: slot.Node}
		switch {
		case slot.Node == "" || connected[slot.Name]:
		case slot.Active:
			not(who, "it is taking a copy")
		default:
			not(who, "it is not connected; if it is gone for good, drop its replication slot")
		}
	}
	return slices.Compact(addresses), unasked
}

func (s scrubbed) row(who Identity, address string, at history.LSN) Verified {
	v := Verified{
		Identity: who, Address: address, Database: s.Database, LSN: at, Pages: int64(s.Pages), Checksum: s.Checksum,
		Damaged: int64(s.Damaged), Repaired: int64(s.Repaired), Result: VerifiedOK,
	}
	switch {
	case s.Repaired > 0 && s.Repaired == s.Damaged:
		v.Result = VerifiedRepaired
	case s.Damaged > 0:
		v.Result, v.Detail = VerifiedDamaged, "no node that can be reached has a good copy of some page"
	}
	return v
}

// scrub reads this node's databases and mends what is damaged.
func (p *Peer) scrub(ctx context.Context, pace func(bytes int) error) ([]scrubbed, error) {
	var all []scrubbed
	for _, db := range p.pipeline.Store().All() {
		snapshot := db.Snapshot(p.pipeline.Visible())
		at := snapshot.State()
		snapshot.Close()
		s := scrubbed{Database: db.ID, Pages: at.Pages, Checksum: at.Checksum}
		var bad []damage
		err := p.pipeline.Store().Scrub(ctx, db.ID, pace, func(no pagestore.PageNo, want uint64) {
			s.Damaged++
			if len(bad) < maxDamaged {
				bad = append(bad, damage{db.ID, no, want})
			}
		})
		if err != nil && p.pipeline.Store().DB(db.ID) == nil {
			continue // dropped meanwhile
		}
		for _, d := range bad {
			if _, err := p.mendOnce(ctx, d); err == nil {
				s.Repaired++
			}
		}
		all = append(all, s)
		if err != nil {
			return all, fmt.Errorf("read database %d: %w", db.ID, err)
		}
	}
	return all, nil
}

// halfTime rests as long as it reads: a node that serves keeps half of its disk.
func halfTime(ctx context.Context) func(bytes int) error {
	read, since := 0, time.Now()
	return func(n int) error {
		if read += n; read >= scrubPiece {
			_ = rest.For(ctx, time.Since(since))
			read, since = 0, time.Now()
		}
		return ctx.Err()
	}
}

// slowly reads so many bytes per second, and no more.
func slowly(ctx context.Context, bytesPerSecond int) func(bytes int) error {
	return func(n int) error {
		_ = rest.For(ctx, time.Duration(n)*time.Second/time.Duration(bytesPerSecond))
		return ctx.Err()
	}
}

// Scrub is the last reading of all pages in the background.
type Scrub struct {
	Ended             time.Time // zero: there has been none yet
	Took              time.Duration
	Pages             int64
	Damaged, Repaired int64
}

// scrubs reads every page again and again, slowly, so that damage is found while other nodes have a good copy.
func (p *Peer) scrubs(ctx context.Context) {
	if p.scrubEvery < 0 {
		return
	}
	// Not all nodes at once, and not only for nodes that run for days.
	next := p.scrubEvery/24 + rand.N(p.scrubEvery/24+1)
	for {
		if rest.For(ctx, next) != nil {
			return
		}
		next = p.scrubEvery
		began := time.Now()
		all, err := p.scrub(ctx, slowly(ctx, scrubRate))
		if ctx.Err() != nil {
			return
		}
		s := Scrub{Ended: time.Now(), Took: time.Since(began)}
		for _, db := range all {
			s.Pages += int64(db.Pages)
			s.Damaged += int64(db.Damaged)
			s.Repaired += int64(db.Repaired)
		}
		p.mu.Lock()
		p.scrubbed = s
		p.mu.Unlock()
		switch {
		case err != nil:
			p.Logger.Error("the databases could not be read to their end", "error", err)
		case s.Damaged > 0:
			p.Logger.Error("found damaged pages", "damaged", s.Damaged, "mended", s.Repaired, "of", s.Pages)
		default:
			p.Logger.Debug("every page is as it was written", "pages", s.Pages, "took", s.Took.Round(time.Second))
		}
	}
}

// askVerified has another node do the same, and gives a row that says so when it cannot.
func (p *Peer) askVerified(ctx context.Context, address string, at history.Position) []Verified {
	who, rows, err := p.askVerifiedOnce(ctx, address, at)
	if err != nil {
		return []Verified{{Identity: who, Address: address, Result: VerifiedUnreachable, Detail: err.Error()}}
	}
	return rows
}

func (p *Peer) askVerifiedOnce(ctx context.Context, address string, at history.Position) (Identity, []Verified, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, who, err := p.dial(ctx, address, toVerify)
	if err != nil {
		return who, nil, err
	}
	defer func() { _ = w.close() }()
	var e encoder
	e.position(at)
	if err := w.write(kindVerify, 0, 0, e.b); err != nil {
		return who, nil, err
	}
	m, err := w.expectAlive(kindVerified)
	if err != nil {
		return who, nil, ended(ctx, err)
	}
	rows, err := decodeVerified(m.payload, who, address)
	return who, rows, err
}

// giveVerified answers Verify of another node, which names a point of its history. The chain hash over the
// entries covers the checksums of all databases after each of them: two nodes with the same hash there
// agree on every page, and what is left to prove is that their disks still hold what they agree on.
func (p *Peer) giveVerified(ctx context.Context, w *wire) error {
	m, err := w.expect(kindVerify)
	if err != nil {
		return err
	}
	d := decoder{b: m.payload}
	at := d.position()
	if err := d.end(); err != nil {
		return err
	}
	defer w.keepAlive(ctx, p.Heartbeat)()
	compared, detail := p.compare(ctx, at)
	all, err := p.scrub(ctx, halfTime(ctx))
	if err != nil {
		all, detail = nil, err.Error() // rows would say of databases that were not read that they are whole
	}
	var e encoder
	e.lsn(compared)
	e.str(detail)
	e.u32(uint32(len(all)))
	for _, s := range all {
		e.u32(uint32(s.Database))
		e.u32(s.Pages)
		e.u64(s.Checksum)
		e.u32(s.Damaged)
		e.u32(s.Repaired)
	}
	return w.write(kindVerified, 0, 0, e.b)
}

var errDifferentPast = errors.New("the histories differ: the same entry has another chain hash")

// compare looks whether this node's past is that of at, waiting a moment for it to get there.
func (p *Peer) compare(ctx context.Context, at history.Position) (history.LSN, string) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	if err := p.pipeline.VisibleMark().Wait(ctx, at.LSN); err != nil {
		return 0, fmt.Sprintf("it has not come to entry %d within %s", at.LSN, p.Timeout)
	}
	mine, err := p.pipeline.Log().At(at.LSN)
	if err != nil {
		return 0, fmt.Sprintf("its log no longer tells about entry %d", at.LSN)
	}
	if mine != at {
		return at.LSN, errDifferentPast.Error()
	}
	return at.LSN, ""
}

func decodeVerified(b []byte, who Identity, address string) ([]Verified, error) {
	d := decoder{b: b}
	at, detail := d.lsn(), d.str()
	n := int(d.u32())
	if n*24 > len(d.b) {
		return nil, errBadMessage
	}
	var rows []Verified
	for range n {
		s := scrubbed{Database: history.DatabaseID(d.u32()), Pages: d.u32(), Checksum: d.u64(), Damaged: d.u32(), Repaired: d.u32()}
		row := s.row(who, address, at)
		if detail != "" {
			row.Detail = detail
		}
		if detail == errDifferentPast.Error() {
			row.Result = VerifiedDifferent
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 && detail != "" {
		rows = append(rows, Verified{Identity: who, Address: address, LSN: at, Result: VerifiedUnreachable, Detail: detail})
	}
	return rows, d.end()
}
