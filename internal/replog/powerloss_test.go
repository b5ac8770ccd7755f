package replog

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"skein/internal/history"
)

var (
	powerLosses = flag.Int("powerlosses", 150, "crashes that TestLog_A07_PowerLoss goes through")
	powerSeed   = flag.Uint64("powerseed", 0, "its seed; 0 for a new one")
)

var errPowerLoss = errors.New("the power has gone")

// simDisk is a disk that loses its power after so many steps, and with it whatever was not synced: of the
// bytes of a file any part, of names everything after some step.
type simDisk struct {
	mu     sync.Mutex // spares are made beside the appends
	left   int
	inodes map[*os.File]*inode
	names  map[string]*inode // that are durable
	opened map[string]*inode // names as of the start
	steps  []func(map[string]*inode)
}

type inode struct {
	durable []byte
	writes  []write // since the last sync
}

type write struct {
	at   int64
	data []byte
}

func newSimDisk(t *testing.T, dir string, steps int) *simDisk {
	t.Helper()
	d := &simDisk{left: steps, inodes: map[*os.File]*inode{}, names: map[string]*inode{}, opened: map[string]*inode{}}
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		i := &inode{durable: b}
		d.names[e.Name()], d.opened[e.Name()] = i, i
	}
	return d
}

// killed gives the disk as the next process finds it: nothing is lost, but what was not synced still is not.
func (d *simDisk) killed() *simDisk {
	next := &simDisk{left: 1 << 30, inodes: map[*os.File]*inode{}, names: d.names, opened: maps.Clone(d.names), steps: d.steps}
	for _, step := range d.steps {
		step(next.opened)
	}
	return next
}

func (d *simDisk) step() error {
	if d.left <= 0 {
		return errPowerLoss
	}
	d.left--
	return nil
}

// of finds a file's inode, by its name when the log has opened it rather than made it.
func (d *simDisk) of(f *os.File) *inode {
	if d.inodes[f] == nil {
		d.inodes[f] = d.opened[filepath.Base(f.Name())]
	}
	return d.inodes[f]
}

func (d *simDisk) create(name string) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	f, err := osDisk{}.create(name)
	if err != nil {
		return nil, err
	}
	i := &inode{}
	d.inodes[f] = i
	d.steps = append(d.steps, func(names map[string]*inode) { names[filepath.Base(name)] = i })
	return f, nil
}

func (d *simDisk) writeAt(f *os.File, b []byte, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	i := d.of(f)
	i.writes = append(i.writes, write{at, bytes.Clone(b)})
	return osDisk{}.writeAt(f, b, at)
}

func (d *simDisk) sync(f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	i := d.of(f)
	for _, w := range i.writes {
		i.put(w.at, w.data)
	}
	i.writes = nil
	return nil
}

func (i *inode) put(at int64, b []byte) {
	for int64(len(i.durable)) < at+int64(len(b)) {
		i.durable = append(i.durable, 0)
	}
	copy(i.durable[at:], b)
}

func (d *simDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	d.steps = append(d.steps, func(names map[string]*inode) {
		names[filepath.Base(to)] = names[filepath.Base(from)]
		delete(names, filepath.Base(from))
	})
	return os.Rename(from, to)
}

func (d *simDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	d.steps = append(d.steps, func(names map[string]*inode) { delete(names, filepath.Base(name)) })
	return os.Remove(name)
}

func (d *simDisk) syncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	for _, step := range d.steps {
		step(d.names)
	}
	d.steps = nil
	return nil
}

// restart gives a directory with what the power loss has left.
func (d *simDisk) restart(t *testing.T, rng *rand.Rand) string {
	t.Helper()
	for _, step := range d.steps[:rng.IntN(len(d.steps)+1)] {
		step(d.names)
	}
	dir := t.TempDir()
	for name, i := range d.names {
		i.lose(rng)
		if err := os.WriteFile(filepath.Join(dir, name), i.durable, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// lose has some blocks of what was not synced reach the disk, and some become garbage.
func (i *inode) lose(rng *rand.Rand) {
	mode := rng.IntN(6)
	block := int64(512)
	if rng.IntN(2) == 0 {
		block = 4096
	}
	end := int64(0)
	for _, w := range i.writes {
		end = max(end, w.at+int64(len(w.data)))
	}
	torn := rng.Int64N(end + 1)
	for _, w := range i.writes {
		for at := w.at; at < w.at+int64(len(w.data)); {
			stop := min((at/block+1)*block, w.at+int64(len(w.data)))
			part := w.data[at-w.at : stop-w.at]
			switch {
			case mode == 0: // nothing reaches the disk
			case mode == 1, mode == 2 && at < torn, mode >= 3 && rng.IntN(3) > 0:
				i.put(at, part)
			case mode == 4:
				garbage := make([]byte, len(part))
				for j := range garbage {
					garbage[j] = byte(rng.Uint32())
				}
				i.put(at, garbage)
			}
			at = stop
		}
	}
	i.writes = nil
}

// TestLog_A07_PowerLoss crashes one log again and again, at any step of appending, rolling, trimming and
// recovering: each time every entry that was flushed must be there, in order and whole, none but those
// that were appended, and the log must open and go on without help.
func TestLog_A07_PowerLoss(t *testing.T) {
	seed := *powerSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-powerseed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	dir := t.TempDir()
	bodies := map[history.LSN][]byte{} // as last appended
	var flushed, from history.LSN
	found := 0
	d := newSimDisk(t, dir, 1<<30)
	restart := func() {
		if rng.IntN(3) == 0 {
			d = d.killed()
			return
		}
		dir = d.restart(t, rng)
		d = newSimDisk(t, dir, 1<<30)
	}
	crashes := *powerLosses
	if testing.Short() {
		crashes = min(crashes, 40)
	}
	for crash := range crashes {
		if crash > 0 && rng.IntN(3) == 0 {
			d.left = rng.IntN(4) // while it recovers
		}
		options := testOptions
		options.disk, options.SegmentBytes = d, int64(4+rng.IntN(3))*MaxChunk // what it was before does not matter
		start, last := from, from
		var body []byte
		l, rec, err := Open(dir, start, options, func(e *Entry) error {
			if e.Chunk == 0 {
				body = body[:0]
			}
			body = append(body, e.Body...)
			if e.More {
				return nil
			}
			if e.LSN != last+1 || !bytes.Equal(body, bodies[e.LSN]) {
				t.Fatalf("crash %d: entry %d after %d is not what was appended", crash, e.LSN, last)
			}
			last = e.LSN
			if rng.IntN(4) == 0 {
				from = last // databases that fill the memory are checkpointed while they recover
			}
			return nil
		})
		if errors.Is(err, errPowerLoss) {
			restart()
			continue
		}
		if err != nil {
			t.Fatalf("crash %d, from %d, flushed %d: %v", crash, start, flushed, err)
		}
		if last < flushed || rec.Head.LSN != last {
			t.Fatalf("crash %d: the log ends at %d (%v), but %d was flushed", crash, last, rec.Head, flushed)
		}
		found += rec.Entries
		flushed = last // what was read back is durable now
		d.left = rng.IntN(30)
		for d.left > 0 {
			flushed, from = live(t, rng, l, bodies, flushed, from)
		}
		flushed = max(flushed, l.Flushed.Load())
		l.spareWG.Wait()
		_ = l.Close(false)
		restart()
	}
	t.Logf("%d entries were read back", found)
}

// live appends some entries, waits for them, and trims.
func live(t *testing.T, rng *rand.Rand, l *Log, bodies map[history.LSN][]byte, flushed, from history.LSN) (history.LSN, history.LSN) {
	t.Helper()
	for range 1 + rng.IntN(3) {
		pieces := 1
		if rng.IntN(3) == 0 {
			pieces = 1 + rng.IntN(7)
		}
		var whole []byte
		lsn, err := l.AppendChunks(&Entry{Epoch: 1, Kind: Transaction, Time: rng.Int64()}, int64(pieces)*MaxChunk, func(emit func([]byte) error) error {
			for range pieces {
				piece := make([]byte, MaxChunk)
				if pieces == 1 {
					piece = piece[:rng.IntN(2000)]
				}
				for i := 0; i < len(piece); i += 8 {
					v := rng.Uint64()
					for j := i; j < min(i+8, len(piece)); j++ {
						piece[j] = byte(v >> (8 * (j - i)))
					}
				}
				whole = append(whole, piece...)
				bodies[l.head.LSN+1] = whole // its beginning may reach the disk, but is no entry
				if err := emit(piece); err != nil {
					return err
				}
			}
			if pieces > 1 && rng.IntN(5) == 0 {
				return errGivenUp
			}
			return nil
		}, func(lsn history.LSN) { bodies[lsn] = whole })
		l.spareWG.Wait()
		if err != nil && !errors.Is(err, errGivenUp) && !errors.Is(err, errPowerLoss) {
			t.Fatalf("append entry %d: %v", lsn, err)
		}
	}
	if rng.IntN(4) == 0 {
		return flushed, from // nobody waits
	}
	if err := l.Wait(context.Background(), l.Head().LSN); err == nil {
		flushed = l.Head().LSN
	} else if !errors.Is(err, errPowerLoss) {
		t.Fatal(err)
	}
	if rng.IntN(4) == 0 {
		from = flushed - history.LSN(rng.Uint64N(uint64(flushed-from)+1)) // a checkpoint
		if err := l.Trim(from); err != nil && !errors.Is(err, errPowerLoss) {
			t.Fatal(err)
		}
	}
	return flushed, from
}

var errGivenUp = errors.New("the transaction has found its own disk full")
