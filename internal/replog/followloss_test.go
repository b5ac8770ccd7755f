package replog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"skein/internal/history"
)

// past is a leader's history, from which a follower copies.
type past struct {
	entries []pastEntry // by LSN, from 1
	epochs  history.Epochs
}

type pastEntry struct {
	frames   [][]byte
	body     []byte
	position history.Position
}

func (p *past) head() history.Position {
	if len(p.entries) == 0 {
		return history.Position{}
	}
	return p.entries[len(p.entries)-1].position
}

func (p *past) at(lsn history.LSN) history.Position {
	if lsn == 0 {
		return history.Position{}
	}
	return p.entries[lsn-1].position
}

// cut is the history of another leader that had only the beginning of this one.
func (p *past) cut(to history.LSN) *past {
	return &past{slices.Clone(p.entries[:to]), p.epochs.Until(to)}
}

// begin adds a leadership.
func (p *past) begin(t *testing.T, epoch history.Epoch) {
	p.epochs = p.epochs.With(history.Start{Epoch: epoch, LSN: p.head().LSN + 1})
	p.add(t, epoch, EpochStart, nil)
}

// add appends an entry of some pieces.
func (p *past) add(t *testing.T, epoch history.Epoch, kind Kind, pieces [][]byte) {
	t.Helper()
	if len(pieces) == 0 {
		pieces = [][]byte{nil}
	}
	e := pastEntry{body: slices.Concat(pieces...)}
	chain := p.head().Chain
	for i, piece := range pieces {
		frame, sum, err := appendFrame(nil, &Entry{
			Epoch: epoch, LSN: p.head().LSN + 1, Chain: chain, Kind: kind, Database: 2, Body: piece, Chunk: uint16(i), More: i < len(pieces)-1,
		}, 1)
		if err != nil {
			t.Fatal(err)
		}
		e.frames = append(e.frames, frame)
		chain = sum
		e.position = history.Position{Epoch: epoch, LSN: p.head().LSN + 1, Chain: sum}
	}
	p.entries = append(p.entries, e)
}

func (p *past) grow(t *testing.T, rng *rand.Rand, n int) {
	for range n {
		pieces, size := 1, rng.IntN(1500)
		if rng.IntN(5) == 0 {
			pieces, size = 2+rng.IntN(5), MaxChunk-rng.IntN(9)
		}
		var body [][]byte
		for range pieces {
			b := make([]byte, size)
			for i := 0; i < len(b); i += 7 {
				b[i] = byte(rng.Uint32())
			}
			body = append(body, b)
		}
		p.add(t, p.epochs.Last(), Transaction, body)
	}
}

// copier is a follower's log under a disk that loses its power, and what it must hold.
type copier struct {
	t     *testing.T
	rng   *rand.Rand
	truth *past // what its upstream has
	old   *past // until a cut is known to be done: what it had before
	cutTo history.LSN
	log   *Log
	epoch history.Epoch // the newest ever used

	flushed   history.LSN
	committed history.LSN // never cut
	from      history.LSN // checkpoint
}

// TestFollower_PowerLoss crashes the log of a follower again and again, while it receives, cuts, trims and recovers:
// what was flushed is there, byte for byte as upstream, a cut is done or not begun, and the epochs are right.
func TestFollower_PowerLoss(t *testing.T) {
	seed := *powerSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-powerseed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 8))
	dir := t.TempDir()
	d := newSimDisk(t, dir, 1<<30)
	c := &copier{t: t, rng: rng, truth: &past{}}
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
	cuts, undone := 0, 0
	for crash := range crashes {
		if crash > 0 && rng.IntN(3) == 0 {
			d.left = rng.IntN(8) // while it recovers
		}
		options := testOptions
		options.disk, options.SegmentBytes = d, int64(4+rng.IntN(3))*MaxChunk
		options.ringBytes = 1 + rng.IntN(1<<20)
		options.Flushed = c.committed
		pending := c.old != nil
		if err := c.open(dir, options); errors.Is(err, errPowerLoss) {
			restart()
			continue
		} else if err != nil {
			t.Fatalf("crash %d, from %d, flushed %d: %v", crash, c.from, c.flushed, err)
		}
		if pending {
			cuts++
			if c.log.Head().LSN > c.cutTo {
				undone++
			}
		}
		d.left = rng.IntN(40)
		for d.left > 0 {
			c.live()
		}
		c.log.spareWG.Wait()
		_ = c.log.Close(false)
		restart()
	}
	t.Logf("%d entries; %d cuts were interrupted, of which %d not done", c.truth.head().LSN, cuts, undone)
}

// open recovers, and compares what is found with what must be there.
func (c *copier) open(dir string, options Options) error {
	last := c.from
	var body []byte
	var bodies [][]byte
	l, rec, err := Open(dir, c.from, options, func(e *Entry) error {
		if e.Chunk == 0 {
			body = nil
		}
		body = append(body, e.Body...)
		if e.More {
			return nil
		}
		if e.LSN != last+1 {
			c.t.Fatalf("entry %d after %d", e.LSN, last)
		}
		last = e.LSN
		bodies = append(bodies, body)
		return nil
	})
	if err != nil {
		return err
	}
	c.log = l
	if c.old != nil { // a cut was going on: the old end, or the new one
		if last > c.cutTo {
			c.truth = c.old // upstream is asked again
		}
		c.old = nil
	}
	if last < c.flushed {
		c.t.Fatalf("the log ends at %v, but %d was flushed", rec.Head, c.flushed)
	}
	for i, b := range bodies {
		if !bytes.Equal(b, c.truth.entries[int(c.from)+i].body) {
			c.t.Fatalf("entry %d is not what was received", int(c.from)+i+1)
		}
	}
	c.flushed = last
	c.check()
	return nil
}

// check compares the whole log with upstream's.
func (c *copier) check() {
	c.t.Helper()
	l, head := c.log, c.log.Head()
	if head != c.truth.at(head.LSN) || l.Received() != head.LSN {
		c.t.Fatalf("head %v, upstream %v; received %d", head, c.truth.at(head.LSN), l.Received())
	}
	if got, want := l.Epochs(), c.truth.epochs.Until(head.LSN); !slices.Equal(got, want) {
		c.t.Fatalf("epochs %v, want %v, at %v", got, want, head)
	}
	first := l.First()
	r, err := l.NewReader(first - 1)
	if errors.Is(err, ErrTrimmed) { // half of the first entry has gone
		first++
		r, err = l.NewReader(first - 1)
	}
	if errors.Is(err, errPowerLoss) {
		return
	}
	if err != nil {
		c.t.Fatalf("read from %d: %v", first, err)
	}
	var scratch, body []byte
	for {
		b, ok, err := r.TryNext(1 + c.rng.IntN(1<<20))
		if err != nil {
			c.t.Fatalf("read after %v: %v", r.head, err)
		}
		if !ok {
			break
		}
		if err := EachFrame(b.Frames, &scratch, func(e *Entry) error {
			if e.Chunk == 0 {
				body = body[:0]
			}
			if body = append(body, e.Body...); !e.More && !bytes.Equal(body, c.truth.entries[e.LSN-1].body) {
				c.t.Fatalf("a reader's entry %d is not what was received", e.LSN)
			}
			return nil
		}); err != nil {
			c.t.Fatal(err)
		}
	}
	if l.Flushed.Load() == head.LSN && r.head != head {
		c.t.Fatalf("a reader ends at %v, the log at %v", r.head, head)
	}
}

// live is one step of a follower's life.
func (c *copier) live() {
	l, rng := c.log, c.rng
	switch rng.IntN(12) {
	case 0:
		c.cut()
	case 1:
		c.checked(l.Trim(c.from))
	case 2:
		c.committed += history.LSN(rng.Uint64N(uint64(c.flushed-c.committed) + 1))
	case 3:
		c.from += history.LSN(rng.Uint64N(uint64(c.committed-c.from) + 1))
	case 4:
		if l.Flushed.Load() == l.Head().LSN {
			c.check()
		}
	case 5, 6, 7:
		c.wait()
	default:
		c.receive()
	}
}

func (c *copier) checked(err error) bool {
	c.t.Helper()
	if err != nil && !errors.Is(err, errPowerLoss) {
		c.t.Fatal(err)
	}
	return err == nil
}

func (c *copier) wait() {
	head := c.log.Head().LSN
	if c.checked(c.log.Wait(c.t.Context(), head)) {
		c.flushed = head
	}
}

// receive takes some frames; the connection may end within an entry, and that begins again.
func (c *copier) receive() {
	if len(c.truth.epochs) == 0 || c.rng.IntN(20) == 0 {
		c.epoch++
		if c.log.Head().LSN == c.truth.head().LSN {
			c.truth.begin(c.t, c.epoch)
		}
	}
	for c.truth.head().LSN < c.log.Head().LSN+4 {
		if len(c.truth.epochs) == 0 {
			return
		}
		c.truth.grow(c.t, c.rng, 1)
	}
	var frames [][]byte
	for _, e := range c.truth.entries[c.log.Head().LSN:][:1+c.rng.IntN(4)] {
		frames = append(frames, e.frames...)
	}
	frames = frames[:1+c.rng.IntN(len(frames))]
	for len(frames) > 0 {
		n := 1 + c.rng.IntN(len(frames))
		head, err := c.log.AppendFrames(slices.Concat(frames[:n]...), 0)
		c.log.spareWG.Wait()
		if !c.checked(err) {
			return
		}
		if head != c.truth.at(head.LSN) {
			c.t.Fatalf("received up to %v, upstream has %v", head, c.truth.at(head.LSN))
		}
		frames = frames[n:]
	}
}

// cut takes back a tail and goes over to another leader, who never had it.
func (c *copier) cut() {
	head := c.log.Head().LSN
	to := c.committed + history.LSN(c.rng.Uint64N(uint64(head-c.committed)+1))
	if to == head {
		return
	}
	c.old, c.cutTo = c.truth, to
	c.truth = c.truth.cut(to)
	c.epoch++
	c.truth.begin(c.t, c.epoch)
	c.flushed = min(c.flushed, to)
	if !c.checked(c.log.Cut(to)) {
		return
	}
	c.old, c.flushed = nil, to
	c.check()
}

// A power cut at any step of Create leaves no log, and it can be created then, or a whole one.
func TestCreate_PowerLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	at := history.Position{Epoch: 4, LSN: 1000, Chain: 77}
	epochs := history.Epochs{{Epoch: 1, LSN: 1}, {Epoch: 4, LSN: 900}}
	none, whole := 0, 0
	for steps := range 14 {
		for range 6 {
			dir := t.TempDir()
			d := newSimDisk(t, dir, steps)
			options := testOptions
			options.disk = d
			err := Create(dir, options, at, epochs)
			if err != nil && !errors.Is(err, errPowerLoss) {
				t.Fatal(err)
			}
			dir = d.restart(t, rng)
			options.disk = nil
			switch again := Create(dir, options, at, epochs); {
			case again == nil && err != nil:
				none++
			case errors.Is(again, ErrExists):
				whole++
			default:
				t.Fatalf("%d steps: %v, then %v", steps, err, again)
			}
			o := mustOpenWith(t, dir, at.LSN, options)
			if o.Head() != at || !slices.Equal(o.Epochs(), epochs) {
				t.Fatalf("%d steps: head %v, epochs %v", steps, o.Head(), o.Epochs())
			}
			o.stop(false)
		}
	}
	if none == 0 || whole == 0 {
		t.Fatalf("%d times no log, %d times a whole one", none, whole)
	}
}
