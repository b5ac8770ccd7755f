package replog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skein/internal/history"
)

// openWith is open with options and from an entry on.
func openWith(t *testing.T, dir string, from history.LSN, options Options) (*opened, error) {
	t.Helper()
	o := &opened{}
	body := []byte{}
	l, rec, err := Open(dir, from, options, func(e *Entry) error {
		body = append(body, e.Body...)
		if !e.More {
			o.got = append(o.got, fmt.Sprintf("%d %s", e.LSN, short(body)))
			body = body[:0]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	o.Log, o.rec = l, rec
	o.stop = func(clean bool) {
		cancel()
		if err := errors.Join(<-done, l.Close(clean)); err != nil {
			t.Fatal(err)
		}
	}
	return o, nil
}

func mustOpenWith(t *testing.T, dir string, from history.LSN, options Options) *opened {
	t.Helper()
	o, err := openWith(t, dir, from, options)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// put appends an entry of an epoch and does not wait.
func (o *opened) put(t *testing.T, epoch history.Epoch, kind Kind, body string) history.LSN {
	t.Helper()
	lsn, err := o.Append(&Entry{Epoch: epoch, Kind: kind, Database: 2, Body: []byte(body)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

func (o *opened) flush(t *testing.T) {
	t.Helper()
	if err := o.Wait(t.Context(), o.Received()); err != nil {
		t.Fatal(err)
	}
}

func (o *opened) reader(t *testing.T, after history.LSN) *Reader {
	t.Helper()
	r, err := o.NewReader(after)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// drain gives everything that a reader can have, with its entries spelled out.
func drain(t *testing.T, r *Reader, size int) (frames []byte, entries []string) {
	t.Helper()
	var scratch, body []byte
	for {
		b, ok, err := r.TryNext(size)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return frames, entries
		}
		if len(b.Frames) == 0 {
			t.Fatal("an empty batch")
		}
		last := history.LSN(0)
		if err := EachFrame(b.Frames, &scratch, func(e *Entry) error {
			if e.Chunk == 0 {
				body = body[:0]
			}
			body = append(body, e.Body...)
			if !e.More {
				entries = append(entries, fmt.Sprintf("%d %s", e.LSN, short(body)))
				last = e.LSN
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if last != b.Last {
			t.Fatalf("the batch's last entry is %d, it says %d", last, b.Last)
		}
		frames = append(frames, b.Frames...)
	}
}

// fill appends entries of many sizes, some in pieces, some given up.
func (o *opened) fill(t *testing.T, rng *rand.Rand, epoch history.Epoch, n int) {
	t.Helper()
	for range n {
		pieces, size := 1, rng.IntN(3000)
		if rng.IntN(8) == 0 {
			pieces, size = 1+rng.IntN(6), MaxChunk-rng.IntN(9)
		}
		giveUp := pieces > 1 && rng.IntN(3) == 0
		_, err := o.AppendChunks(&Entry{Epoch: epoch, Kind: Transaction, Database: 2}, int64(pieces)*MaxChunk, func(emit func([]byte) error) error {
			for range pieces {
				if err := emit(noise(rng, size)); err != nil {
					return err
				}
			}
			if giveUp {
				return errGivenUp
			}
			return nil
		}, nil)
		if err != nil && !errors.Is(err, errGivenUp) {
			t.Fatal(err)
		}
		if rng.IntN(4) == 0 {
			o.flush(t)
		}
	}
	o.flush(t)
}

func noise(rng *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte('a' + rng.IntN(16))
	}
	return b
}

// A follower's log, fed in batches of any size and restarted now and then, is the leader's.
func TestFollower_FramesArriveAsTheyAre(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	for _, ringBytes := range []int{1, 300 << 10, defaultRingBytes} { // all from files, some, none
		options := testOptions
		options.ringBytes = ringBytes
		leader := mustOpenWith(t, t.TempDir(), 0, options)
		dir := t.TempDir()
		follower := mustOpenWith(t, dir, 0, options)
		r := leader.reader(t, 0)
		for round := range 8 {
			leader.fill(t, rng, history.Epoch(1+round/4), 20)
			for {
				b, ok, err := r.TryNext(1 + rng.IntN(600<<10))
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				head, err := follower.AppendFrames(b.Frames, 0)
				if err != nil {
					t.Fatal(err)
				}
				if want, err := leader.At(head.LSN); err != nil || head != want {
					t.Fatalf("the follower stands at %v, the leader's entry at %v, %v", head, want, err)
				}
				if rng.IntN(20) > 0 {
					continue
				}
				follower.flush(t)
				follower.stop(rng.IntN(2) == 0)
				follower = mustOpenWith(t, dir, 0, options)
				if follower.Head() != head {
					t.Fatalf("after a restart the follower stands at %v, not at %v", follower.Head(), head)
				}
				r = leader.reader(t, head.LSN)
			}
		}
		follower.flush(t)
		if follower.Head() != leader.Head() || !slices.Equal(follower.Epochs(), leader.Epochs()) || follower.Received() != leader.Head().LSN {
			t.Fatalf("follower %v %v, leader %v %v", follower.Head(), follower.Epochs(), leader.Head(), leader.Epochs())
		}
		_, want := drain(t, leader.reader(t, 0), 1<<20)
		_, got := drain(t, follower.reader(t, 0), 100<<10)
		if !slices.Equal(got, want) {
			t.Fatalf("the follower's entries differ: %d of them, the leader has %d", len(got), len(want))
		}
		leader.stop(true)
		follower.stop(true)
	}
}

// From any entry on, a reader gives what one from the beginning gives, and At the position of each.
func TestReader_BeginsAtAnyEntry(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 2))
	for _, ringBytes := range []int{1, 400 << 10, defaultRingBytes} {
		options := testOptions
		options.ringBytes = ringBytes
		dir := t.TempDir()
		o := mustOpenWith(t, dir, 0, options)
		o.fill(t, rng, 1, 40)
		o.fill(t, rng, 3, 20)
		for range 2 {
			_, all := drain(t, o.reader(t, 0), 1<<20)
			if len(all) != int(o.Received()) {
				t.Fatalf("%d entries of %d", len(all), o.Received())
			}
			since := int64(1 << 60)
			for after := range o.Received() + 1 {
				frames, got := drain(t, o.reader(t, after), 200<<10)
				if !slices.Equal(got, all[after:]) {
					t.Fatalf("after %d: %v, want %v", after, got, all[after:])
				}
				p, err := o.At(after)
				if err != nil || p.LSN != after || after > 0 && len(frames) > 0 && !chains(frames, p) {
					t.Fatalf("entry %d is at %v, %v", after, p, err)
				}
				bytes := o.BytesSince(after)
				if bytes > since || (bytes == 0) != (after == o.Received()) {
					t.Fatalf("%d bytes after entry %d, %d after the one before", bytes, after, since)
				}
				if off := bytes - int64(len(frames)); off > 8*MaxChunk || off < -8*MaxChunk {
					t.Fatalf("%d bytes after entry %d, not %d", bytes, after, len(frames))
				}
				since = bytes
			}
			if _, err := o.NewReader(o.Received() + 1); !errors.Is(err, ErrNotYet) {
				t.Fatalf("beyond the head: error %v, want %v", err, ErrNotYet)
			}
			if _, err := o.At(o.Received() + 1); !errors.Is(err, ErrNotYet) {
				t.Fatalf("beyond the head: error %v, want %v", err, ErrNotYet)
			}
			o.stop(true)
			o = mustOpenWith(t, dir, 0, options)
		}
		o.stop(true)
	}
}

func chains(frames []byte, p history.Position) bool {
	f, ok := readFrame(frames)
	return ok && f.chain == p.Chain && f.lsn == p.LSN+1
}

func TestReader_WaitsForTheFlushThatTakesTheEntry(t *testing.T) {
	o := mustOpen(t, t.TempDir())
	defer o.stop(true)
	r := o.reader(t, 0)
	got := make(chan string)
	go func() {
		for {
			b, err := r.Next(t.Context(), 1<<20)
			if err != nil {
				close(got)
				return
			}
			var scratch []byte
			_ = EachFrame(b.Frames, &scratch, func(e *Entry) error {
				got <- string(e.Body)
				return nil
			})
		}
	}()
	for i := range 200 {
		want := fmt.Sprint("entry ", i)
		o.put(t, 1, Transaction, want)
		o.FlushSoon()
		if g := <-got; g != want {
			t.Fatalf("read %q, want %q", g, want)
		}
	}
}

func TestReader_EndsWithItsContextAndWithTheLog(t *testing.T) {
	o := mustOpen(t, t.TempDir())
	r := o.reader(t, 0)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := r.Next(ctx, 1); !errors.Is(err, enough) {
		t.Fatalf("error %v, want %v", err, enough)
	}
	if len(o.sleepers) != 0 {
		t.Fatal("the log still wakes a reader that has gone")
	}
	ended := make(chan error)
	go func() { _, err := r.Next(t.Context(), 1); ended <- err }()
	o.stop(true)
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Fatalf("error %v, want %v", err, ErrClosed)
	}
}

func TestFollower_RefusesWhatIsNotNext(t *testing.T) {
	leader := mustOpen(t, t.TempDir())
	defer leader.stop(true)
	rng := rand.New(rand.NewPCG(5, 3))
	leader.put(t, 1, EpochStart, "")
	leader.put(t, 1, Transaction, "a")
	leader.put(t, 2, EpochStart, "")
	leader.appendLarge(t, rng, 3)
	leader.flush(t)
	all, _ := drain(t, leader.reader(t, 0), 8<<20)
	var frames [][]byte
	for rest := all; len(rest) > 0; {
		f, _ := readFrame(rest)
		frames, rest = append(frames, rest[:f.size]), rest[f.size:]
	}
	follower := mustOpen(t, t.TempDir())
	defer follower.stop(true)
	refused := func(what string, b []byte) {
		t.Helper()
		before, pieces, bytes := follower.Head(), follower.chunk, follower.Bytes()
		head, err := follower.AppendFrames(b, 0)
		if !errors.Is(err, ErrNotNext) || head != before || follower.Head() != before || follower.chunk != pieces || follower.Bytes() != bytes {
			t.Fatalf("%s: error %v, head %v; before %v", what, err, head, before)
		}
	}
	accepted := func(b []byte) {
		t.Helper()
		if _, err := follower.AppendFrames(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	refused("the second entry first", frames[1])
	accepted(frames[0])
	refused("the first entry again", frames[0])
	refused("an entry too far", frames[2])
	for at := range frames[1] {
		if at >= hintAt && at < hintAt+4 || at >= frameHeader+1 {
			continue // the leader's own hint, and padding
		}
		b := bytes.Clone(frames[1])
		b[at] ^= 1
		refused(fmt.Sprint("a flipped bit in byte ", at), b)
	}
	for n := 1; n < len(frames[1]); n++ {
		refused("part of a frame", frames[1][:n])
	}
	// A good frame before a bad one stays.
	head, err := follower.AppendFrames(slices.Concat(frames[1], frames[0]), 0)
	if !errors.Is(err, ErrNotNext) || head.LSN != 2 || follower.Received() != 2 {
		t.Fatalf("error %v, head %v, received %d", err, head, follower.Received())
	}
	accepted(frames[2])
	refused("the second piece first", frames[4])
	accepted(frames[3])
	refused("the third piece after the first", frames[5])
	accepted(frames[4])
	accepted(slices.Concat(frames[3], frames[4])) // it begins again, on a new connection
	accepted(frames[5])
	if follower.Head() != leader.Head() {
		t.Fatalf("follower %v, leader %v", follower.Head(), leader.Head())
	}
	other := mustOpen(t, t.TempDir())
	defer other.stop(true)
	other.put(t, 3, EpochStart, "")
	for range 4 {
		other.put(t, 3, Transaction, "x")
	}
	other.flush(t)
	if b, _ := drain(t, other.reader(t, 4), 8<<20); true {
		refused("an entry of another history", b)
	}
	if _, err := follower.Append(&Entry{Epoch: 1}, nil); !errors.Is(err, ErrNotNext) {
		t.Fatalf("an entry of an epoch that is over: error %v, want %v", err, ErrNotNext)
	}
}

// fullDisk has no room for new files.
type fullDisk struct {
	osDisk
	full bool
}

func (d *fullDisk) create(name string) (*os.File, error) {
	if d.full {
		return nil, &os.PathError{Op: "create", Path: name, Err: syscall.ENOSPC}
	}
	return d.osDisk.create(name)
}

func TestFollower_AFullDiskRefusesABatchWholeAndTakesItLater(t *testing.T) {
	leader := mustOpen(t, t.TempDir())
	defer leader.stop(true)
	d := &fullDisk{}
	options := testOptions
	options.disk = d
	follower := mustOpenWith(t, t.TempDir(), 0, options)
	defer follower.stop(true)
	rng := rand.New(rand.NewPCG(5, 4))
	leader.put(t, 1, EpochStart, "")
	leader.flush(t)
	r := leader.reader(t, 0)
	d.full = true // a new epoch needs no room
	b, _ := drain(t, r, 1<<20)
	if _, err := follower.AppendFrames(b, 0); err != nil {
		t.Fatal(err)
	}
	follower.spareWG.Wait()
	d.full = true
	refusals := 0
	for range 40 {
		leader.fill(t, rng, 1, 1)
		b, _ := drain(t, r, 1<<20)
		before := follower.Head()
		head, err := follower.AppendFrames(b, 0)
		follower.spareWG.Wait()
		if errors.Is(err, syscall.ENOSPC) {
			if refusals++; head != before {
				t.Fatalf("the head went from %v to %v", before, head)
			}
			d.full = false
			_, err = follower.AppendFrames(b, 0)
			follower.spareWG.Wait()
			d.full = true
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if refusals == 0 || follower.Head() != leader.Head() {
		t.Fatalf("%d refusals, follower %v, leader %v", refusals, follower.Head(), leader.Head())
	}
}

func TestEpochsOutliveTheEntriesThatBeganThem(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	rng := rand.New(rand.NewPCG(5, 5))
	want := history.Epochs{}
	for _, epoch := range []history.Epoch{1, 2, 5} {
		want = append(want, history.Start{Epoch: epoch, LSN: o.put(t, epoch, EpochStart, "")})
		o.fill(t, rng, epoch, 40)
	}
	for clean := range 2 {
		from := o.Received()
		if err := o.Trim(from); err != nil {
			t.Fatal(err)
		}
		if got := o.Epochs(); !slices.Equal(got, want) {
			t.Fatalf("epochs %v, want %v", got, want)
		}
		o.stop(clean == 0)
		o = mustOpenWith(t, dir, from, testOptions)
	}
	if got := o.Epochs(); !slices.Equal(got, want) || o.First() < 10 {
		t.Fatalf("epochs %v, want %v; the log begins at %d", got, want, o.First())
	}
	o.stop(true)
	if err := os.Remove(filepath.Join(dir, epochsFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := openWith(t, dir, o.Received(), testOptions); !errors.Is(err, ErrDamaged) {
		t.Fatalf("without the file: error %v, want %v", err, ErrDamaged)
	}
}

func TestACreatedLogGoesOnBehindItsPosition(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	at := history.Position{Epoch: 4, LSN: 1000, Chain: 77}
	epochs := history.Epochs{{Epoch: 1, LSN: 1}, {Epoch: 4, LSN: 900}}
	if err := Create(dir, testOptions, at, epochs); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, testOptions, at, epochs); !errors.Is(err, ErrExists) {
		t.Fatalf("error %v, want %v", err, ErrExists)
	}
	for range 2 {
		o := mustOpenWith(t, dir, at.LSN, testOptions)
		if o.Head() != at || !slices.Equal(o.Epochs(), epochs) || o.First() != 1001 {
			t.Fatalf("head %v, epochs %v, first %d", o.Head(), o.Epochs(), o.First())
		}
		if p, err := o.At(1000); err != nil || p != at {
			t.Fatalf("position %v, %v", p, err)
		}
		if _, err := o.At(999); !errors.Is(err, ErrTrimmed) {
			t.Fatalf("error %v, want %v", err, ErrTrimmed)
		}
		if _, err := o.NewReader(999); !errors.Is(err, ErrTrimmed) {
			t.Fatalf("error %v, want %v", err, ErrTrimmed)
		}
		o.stop(false)
	}
	o := mustOpenWith(t, dir, at.LSN, testOptions)
	r := o.reader(t, 1000)
	if lsn := o.put(t, 4, Transaction, "next"); lsn != 1001 {
		t.Fatalf("the next entry is %d", lsn)
	}
	o.flush(t)
	if _, got := drain(t, r, 1<<20); fmt.Sprint(got) != "[1001 next]" {
		t.Fatalf("read %v", got)
	}
	o.stop(true)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, testOptions, history.Position{}, nil); err != nil {
		t.Fatal(err)
	}
	o = mustOpen(t, dir)
	defer o.stop(true)
	if o.Head() != (history.Position{}) {
		t.Fatalf("head %v", o.Head())
	}
}

func TestOnFlushFollowsEachFlush(t *testing.T) {
	var o *opened
	seen := make(chan history.LSN, 1)
	options := testOptions
	options.OnFlush = func() {
		// No lock is held: this would not return otherwise.
		_ = o.Head()
		seen <- o.Flushed.Load()
	}
	o = mustOpenWith(t, t.TempDir(), 0, options)
	defer o.stop(true)
	for range 3 {
		lsn := o.add(t, "by whoever waits")
		if got := <-seen; got < lsn {
			t.Fatalf("flushed %d, want %d", got, lsn)
		}
		lsn = o.put(t, 1, Transaction, "by the flusher")
		o.FlushSoon()
		if got := <-seen; got < lsn {
			t.Fatalf("flushed %d, want %d", got, lsn)
		}
	}
}

// A reader that sleeps may be used by whoever flushes, before the disk is: then its own goroutine is left alone.
func TestWhoeverFlushesReadsForOneThatSleeps(t *testing.T) {
	var o *opened
	var r *Reader
	room := 0
	var read []history.LSN
	options := testOptions
	options.OnRelease = func() {
		if r == nil {
			return
		}
		b, ok, err := r.Rest(room)
		if err != nil {
			t.Error(err)
		}
		if ok {
			read = append(read, b.Last)
		}
	}
	o = mustOpenWith(t, t.TempDir(), 0, options)
	defer o.stop(true)
	r = o.reader(t, 0)
	if !r.Sleep() {
		t.Fatal("there is something to read in an empty log")
	}
	room = 1 << 10
	for i := range 3 {
		lsn := o.add(t, "small")
		if len(read) != i+1 || len(r.wake) != 0 {
			t.Fatalf("entry %d: read up to %d, woken %d times", lsn, read, len(r.wake))
		}
	}
	o.add(t, string(noise(rand.New(rand.NewPCG(1, 2)), 8<<10)))
	if len(read) != 3 || len(r.wake) != 1 {
		t.Fatalf("read up to %d, woken %d times", read, len(r.wake))
	}
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, entries := drain(t, r, 1<<20); len(entries) != 1 {
		t.Fatalf("read %d entries", len(entries))
	}
}

func TestALogThatEndsBeforeWhatIsKnownToBeFlushedIsLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.add(t, "a")
	o.add(t, "b")
	o.stop(false)
	path := lastSegment(t, dir)
	flip(t, path, frame2+frameHeader)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	options := testOptions
	options.Flushed = 2
	if _, err := openWith(t, dir, 0, options); !errors.Is(err, ErrDamaged) {
		t.Fatalf("error %v, want %v", err, ErrDamaged)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Fatalf("the segment was changed, or %v", err)
	}
	if _, err := openWith(t, t.TempDir(), 0, options); !errors.Is(err, ErrDamaged) {
		t.Fatalf("no log: error %v, want %v", err, ErrDamaged)
	}
	options.Flushed = 1
	mustOpenWith(t, dir, 0, options).stop(true)
}

// The leader's disk was up to date with each of three entries; the follower's had none of them when its power went,
// and the last of the three is what reached it. That is no damage.
func TestFollower_WhatTheLeaderHadFlushedProvesNothingHere(t *testing.T) {
	leader := mustOpen(t, t.TempDir())
	defer leader.stop(true)
	for _, b := range []string{"a", "b", "c"} {
		leader.add(t, b)
	}
	frames, _ := drain(t, leader.reader(t, 0), 1<<20)
	for together := range 2 {
		dir := t.TempDir()
		follower := mustOpen(t, dir)
		for rest := frames; len(rest) > 0; {
			n := len(rest)
			if f, _ := readFrame(rest); together == 0 {
				n = f.size
			}
			if _, err := follower.AppendFrames(rest[:n], 0); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		follower.flush(t)
		follower.stop(false)
		flip(t, lastSegment(t, dir), frame2)
		follower = mustOpen(t, dir)
		if fmt.Sprint(follower.got) != "[1 a]" {
			t.Fatalf("replayed %v", follower.got)
		}
		// One by one it has them on its disk, and that does prove something.
		for rest := frames[72:]; len(rest) > 0; rest = rest[72:] {
			if _, err := follower.AppendFrames(rest[:72], 0); err != nil {
				t.Fatal(err)
			}
			follower.flush(t)
		}
		follower.stop(false)
		flip(t, lastSegment(t, dir), frame2)
		if _, err := open(t, dir); !errors.Is(err, ErrDamaged) {
			t.Fatalf("error %v, want %v", err, ErrDamaged)
		}
	}
}

func TestAHintThatDoesNotCheckProvesNothing(t *testing.T) {
	header := make([]byte, frameHeader)
	for _, lsn := range []history.LSN{1, 7, 1 << 20, 1<<40 + 3} {
		binary.LittleEndian.PutUint64(header[16:], uint64(lsn))
		for _, n := range []history.LSN{1, min(lsn, 5), min(lsn, 1<<hintBits-1)} {
			putHint(header, lsn, n)
			if got := hintOf(header); got != n {
				t.Fatalf("hint %d of entry %d reads %d", n, lsn, got)
			}
			for bit := range 32 {
				header[hintAt+bit/8] ^= 1 << (bit % 8)
				if got := hintOf(header); got != 0 {
					t.Fatalf("hint %d of entry %d, bit %d flipped, reads %d", n, lsn, bit, got)
				}
				header[hintAt+bit/8] ^= 1 << (bit % 8)
			}
		}
		putHint(header, lsn, 1<<hintBits)
		if got := hintOf(header); got != 0 {
			t.Fatalf("a count that does not fit reads %d", got)
		}
	}
}

// slowDisk syncs when it is told to.
type slowDisk struct {
	osDisk
	slow    atomic.Bool
	syncing chan struct{} // a sync has begun
	finish  chan struct{} // it may end
}

func (d *slowDisk) sync(f *os.File) error {
	if d.slow.Load() && strings.HasSuffix(f.Name(), spareSuffix) {
		d.syncing <- struct{}{}
		<-d.finish
	}
	return d.osDisk.sync(f)
}

// Entries travel while they are being written. The first of an epoch does not: if the leader lost it, it would
// begin the same epoch again, with another one.
func TestReader_GetsWhatIsBeingFlushedUnlessItBeginsAnEpoch(t *testing.T) {
	d := &slowDisk{syncing: make(chan struct{}), finish: make(chan struct{})}
	options := testOptions
	options.disk = d
	o := mustOpenWith(t, t.TempDir(), 0, options)
	r := o.reader(t, 0)
	for _, step := range []struct {
		epoch  history.Epoch
		kind   Kind
		during string
		after  string
	}{
		{1, EpochStart, "[]", "[1 ]"},
		{1, Transaction, "[2 x]", "[]"},
		{2, EpochStart, "[]", "[3 ]"},
		{2, Transaction, "[4 x]", "[]"},
	} {
		lsn := o.put(t, step.epoch, step.kind, strings.Repeat("x", int(step.kind)%2))
		o.spareWG.Wait()
		d.slow.Store(true)
		o.FlushSoon()
		<-d.syncing
		if _, got := drain(t, r, 1<<20); fmt.Sprint(got) != step.during {
			t.Errorf("while entry %d is being flushed: %v, want %v", lsn, got, step.during)
		}
		if o.Stalled() == 0 {
			t.Errorf("while entry %d is being flushed nothing is", lsn)
		}
		d.slow.Store(false)
		d.finish <- struct{}{}
		if err := o.Wait(t.Context(), lsn); err != nil {
			t.Fatal(err)
		}
		for o.Stalled() != 0 { // whoever waited for the flush may be told before the write has been struck off
			if t.Context().Err() != nil {
				t.Fatalf("entry %d is flushed, and its write has not returned", lsn)
			}
			time.Sleep(time.Millisecond)
		}
		if _, got := drain(t, r, 1<<20); fmt.Sprint(got) != step.after {
			t.Errorf("once entry %d is flushed: %v, want %v", lsn, got, step.after)
		}
	}
	o.stop(true)
}

// A status that asks for the head while a large entry is being appended is answered: the appender waits for the
// disk, with the lock that gives the order.
func TestTheHeadIsToldWhileALargeEntryWaitsForTheDisk(t *testing.T) {
	l, _, err := Open(t.TempDir(), 0, testOptions, nil)
	if err != nil {
		t.Fatal(err)
	}
	throttled := make(chan error)
	go func() { // without a flusher it waits
		_, err := l.AppendChunks(&Entry{Epoch: 1, Kind: Transaction}, 80*MaxChunk, func(emit func([]byte) error) error {
			rng := rand.New(rand.NewPCG(5, 6))
			for range 80 {
				if err := emit(noise(rng, MaxChunk)); err != nil {
					return err
				}
			}
			return nil
		}, nil)
		throttled <- err
	}()
	<-l.wake // it has asked for a flush
	if head, epochs := l.Head(), l.Epochs(); head.LSN != 0 || len(epochs) != 0 {
		t.Fatalf("head %v, epochs %v", head, epochs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.FlushSoon()
	if err := <-throttled; err != nil {
		t.Fatal(err)
	}
	if head, epochs := l.Head(), l.Epochs(); head.LSN != 1 || len(epochs) != 1 {
		t.Fatalf("head %v, epochs %v", head, epochs)
	}
	cancel()
	if err := errors.Join(<-done, l.Close(true)); err != nil {
		t.Fatal(err)
	}
}

// A file of epochs is written in place, one slot after the other, and grows when they are full.
func TestManyEpochsComeBack(t *testing.T) {
	dir := t.TempDir()
	options := testOptions
	options.disk = lazyDisk{}
	var want history.Epochs
	for epoch := history.Epoch(1); epoch <= 600; {
		o := mustOpenWith(t, dir, 0, options)
		if got := o.Epochs(); !slices.Equal(got, want) {
			t.Fatalf("%d epochs, want %d", len(got), len(want))
		}
		for range 75 {
			want = append(want, history.Start{Epoch: epoch, LSN: o.put(t, epoch, EpochStart, "")})
			epoch++
		}
		o.flush(t)
		o.stop(epoch%2 == 0)
	}
	b, err := os.ReadFile(filepath.Join(dir, epochsFile))
	if err != nil {
		t.Fatal(err)
	}
	var s epochFile
	if got, ok := s.read(b); !ok || !slices.Equal(got, want) {
		t.Fatalf("%d epochs, want %d", len(got), len(want))
	}
	at := int64((s.next-1)%2) * s.slot
	b[at+100] ^= 1 // the newest save was torn
	var before epochFile
	if got, ok := before.read(b); !ok || !slices.Equal(got, want[:len(want)-1]) || before.next != s.next-1 {
		t.Fatalf("%d epochs, want %d", len(got), len(want)-1)
	}
}

// A flush can come between a segment's header and its first frame. A reader that has read everything then has
// nothing to read: not in the segment that it is in, and not in the new one.
func TestReader_WaitsWhileANewSegmentHasOnlyItsHeader(t *testing.T) {
	o := mustOpenWith(t, t.TempDir(), 0, Options{SegmentBytes: 4 * MaxChunk})
	defer o.stop(true)
	r := o.reader(t, 0)
	defer r.Close()
	for range 3 {
		o.put(t, 1, Transaction, "goose")
		o.flush(t)
	}
	if _, entries := drain(t, r, 1<<20); len(entries) != 3 {
		t.Fatalf("read %q", entries)
	}
	o.order.Lock()
	err := errors.Join(o.reserve(MaxChunk*4), o.roll(4, false))
	o.order.Unlock()
	o.flushing.Lock()
	_, flushErr := o.flushPending()
	o.flushing.Unlock()
	if err := errors.Join(err, flushErr); err != nil {
		t.Fatal(err)
	}
	if b, ok, err := r.TryNext(1 << 20); ok || err != nil {
		t.Fatalf("read %d bytes, %v, where only a header is", len(b.Frames), err)
	}
	if !r.Sleep() {
		t.Fatal("the reader goes round and round")
	}
	r.Rise()
	o.put(t, 1, Transaction, "gander")
	o.flush(t)
	if _, entries := drain(t, r, 1<<20); len(entries) != 1 || !strings.HasPrefix(entries[0], "4 ") {
		t.Fatalf("read %q", entries)
	}
	if _, entries := drain(t, o.reader(t, 0), 1<<20); len(entries) != 4 {
		t.Fatalf("a new reader reads %q", entries)
	}
}
