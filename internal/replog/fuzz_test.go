package replog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"skein/internal/history"
)

// lazyDisk syncs nothing: for what is not about the disk.
type lazyDisk struct{ osDisk }

func (lazyDisk) sync(*os.File) error { return nil }

// FuzzAppendFrames gives a follower frames that are right but for what the fuzzer does to them; with repair
// their CRCs are made right again, as those of a hostile sender would be. What it accepts follows by its chain, can be read
// back as it came, and can be replayed.
func FuzzAppendFrames(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add([]byte{0, 16, 9}, true)
	f.Add([]byte{0, 38, 1, 0, 37, 2, 1, 8, 5}, true)
	f.Add([]byte{1, 37, 1, 2, 0, 200}, true)
	options := testOptions
	options.disk = lazyDisk{}
	dir, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		f.Fatal(err)
	}
	l, _, err := Open(dir, 0, options, nil)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		_ = errors.Join(<-done, l.Close(false), os.RemoveAll(dir))
	})
	f.Fuzz(func(t *testing.T, edits []byte, repair bool) {
		before := l.Head()
		frames := following(t, before)
		for ; len(edits) >= 3; edits = edits[3:] {
			frame := frames[int(edits[0])%len(frames)]
			frame[int(edits[1])%len(frame)] ^= edits[2]
		}
		if repair {
			for _, frame := range frames {
				if n := int(binary.LittleEndian.Uint32(frame)); frameHeader+n <= len(frame) {
					binary.LittleEndian.PutUint32(frame[4:], frameCRC(frame[:frameHeader+n]))
				}
			}
		}
		sent, appended := slices.Concat(frames...), l.Bytes()
		head, err := l.AppendFrames(sent, 0)
		if err != nil && !errors.Is(err, ErrNotNext) || head != l.Head() {
			t.Fatalf("head %v, not %v: %v", head, l.Head(), err)
		}
		if err := l.Wait(t.Context(), head.LSN); err != nil {
			t.Fatal(err)
		}
		r, err := l.NewReader(before.LSN)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for r.head.LSN < head.LSN {
			b, ok, err := r.TryNext(1 << 20)
			if err != nil || !ok {
				t.Fatalf("after %v, of %v: %v", r.head, head, err)
			}
			got = append(got, b.Frames...)
		}
		// A piece that an earlier run has left may come before; one of this run that has no end, behind.
		if want := withoutHints(upTo(sent[:l.Bytes()-appended], head.LSN)); head != before && !bytes.Contains(withoutHints(got), want) {
			t.Fatalf("what is read is not what was sent")
		}
		if head.LSN > 2000 {
			if err := l.Cut(0); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// withoutHints gives frames without what each node has of its own, and without padding.
func withoutHints(frames []byte) []byte {
	var b []byte
	for len(frames) > 0 {
		f, ok := readFrame(frames)
		if !ok {
			return b
		}
		b = append(b, frames[:hintAt]...)
		b = append(b, frames[hintAt+4:frameHeader+f.content]...)
		frames = frames[f.size:]
	}
	return b
}

// following gives frames for a log that ends at head: an entry of one, and one of two that begins an epoch.
func following(t *testing.T, head history.Position) [][]byte {
	t.Helper()
	var frames [][]byte
	at := head
	add := func(e Entry) {
		e.LSN, e.Chain, e.Kind, e.Database = head.LSN+1, at.Chain, Transaction, 2
		frame, sum, err := appendFrame(nil, &e, 1)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
		at.Chain = sum
		if !e.More {
			head.LSN++
		}
	}
	add(Entry{Epoch: head.Epoch, Body: []byte("one")})
	add(Entry{Epoch: head.Epoch + 1, Body: []byte("the first piece"), More: true})
	add(Entry{Epoch: head.Epoch + 1, Body: []byte("the second"), Chunk: 1})
	return frames
}

func FuzzDecodeSmallFiles(f *testing.F) {
	f.Add(encodeEpochs(history.Epochs{{Epoch: 1, LSN: 1}, {Epoch: 3, LSN: 70}}, 7), encodeCut(cut{history.Position{Epoch: 1, LSN: 2, Chain: 3}, 4, 500}))
	f.Fuzz(func(t *testing.T, epochs, record []byte) {
		if h, n, ok := decodeEpochs(epochs); ok && !bytes.HasPrefix(epochs, encodeEpochs(h, n)) {
			t.Fatalf("%v was read from other bytes", h)
		}
		if c, ok := decodeCut(record); ok && !bytes.Equal(encodeCut(c), record) {
			t.Fatalf("%v was read from other bytes", c)
		}
	})
}
