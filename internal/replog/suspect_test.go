package replog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// What does not read at the log's end is cut in any case. Whether it may have been acknowledged depends on what is left
// of it.
func TestLog_A07_ATornEndIsToldFromOneThatWasWhole(t *testing.T) { // P5
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = byte(rand.Uint32()) | 1
	}
	for _, test := range []struct {
		name    string
		body    []byte
		spoil   func(frame []byte, before []byte) // of the last entry, and the bytes that were there before it
		suspect bool
	}{
		{"nothing reached the disk", noise, func(f, _ []byte) { clear(f) }, false},
		{"a bit of the body has changed", noise, func(f, _ []byte) { f[900] ^= 1 }, true},
		{"a bit of a small body has changed", noise[:100], func(f, _ []byte) { f[100] ^= 1 }, true},
		{"a bit of the length has changed", noise, func(f, _ []byte) { f[2] ^= 0x80 }, true},
		{"a bit of the length has changed, and it could be one", noise, func(f, _ []byte) { f[1] ^= 0x80 }, true},
		{"the length of a small one is another", noise[:100], func(f, _ []byte) { f[0], f[1], f[2] = 7, 7, 2 }, true},
		{"a bit of the LSN has changed", noise, func(f, _ []byte) { f[17] ^= 1 }, true},
		{"a bit of the chain has changed", noise, func(f, _ []byte) { f[25] ^= 1 }, true},
		{"a bit of the CRC has changed", noise, func(f, _ []byte) { f[5] ^= 1 }, true},
		{"only the beginning reached the disk", noise, func(f, _ []byte) { clear(f[1000:]) }, false},
		{"only the beginning of a small one did", noise[:400], func(f, _ []byte) { clear(f[300:]) }, false},
		{"a sector in the middle did not", noise, func(f, _ []byte) { clear(f[600:2000]) }, false},
		{"in its place are frames that the file held before", noise, func(f, before []byte) { copy(f[600:], before[600:]) }, false},
		{"in place of its end begins a frame that ends behind it", noise, func(f, _ []byte) {
			old, _, err := appendFrame(nil, &Entry{Epoch: 1, LSN: 1, Kind: Transaction, Body: noise}, 1)
			if err != nil {
				t.Fatal(err)
			}
			copy(f[2000:cap(f)], old)
		}, false},
	} {
		dir := t.TempDir()
		o := mustOpen(t, dir)
		o.add(t, "kept")
		start := o.at
		lsn := o.add(t, string(test.body))
		if err := o.Wait(t.Context(), lsn); err != nil {
			t.Fatal(err)
		}
		o.stop(false)
		path := lastSegment(t, dir)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		frame := b[start : int(start)+frameHeader+len(test.body)]
		var before []byte
		for len(before) < len(frame) { // entries below the head, as in a recycled file
			if before, _, err = appendFrame(before, &Entry{Epoch: 1, LSN: 1, Kind: Transaction, Body: []byte("an old one")}, 1); err != nil {
				t.Fatal(err)
			}
		}
		test.spoil(frame, before)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}

		asked := 0
		veto := errors.New("not yet")
		options := testOptions
		options.OnSuspect = func() error { asked++; return veto }
		_, _, err = Open(dir, 0, options, func(*Entry) error { return nil })
		if test.suspect {
			if !errors.Is(err, veto) || asked != 1 {
				t.Errorf("%s: %v, asked %d times", test.name, err, asked)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
				t.Errorf("%s: the log was changed before anybody had noted that (%v)", test.name, err)
			}
		} else if err != nil || asked != 0 {
			t.Errorf("%s: %v, asked %d times", test.name, err, asked)
		}
		o = mustOpen(t, dir)
		if o.Head().LSN != 1 || test.suspect != o.rec.Suspect {
			t.Errorf("%s: the log ends at %v, suspect %v", test.name, o.Head(), o.rec.Suspect)
		}
		o.stop(true)
	}
}

// The whole of a small file is there, or the one before it, whenever the power goes; once writeFile has returned, it is.
func TestAFileIsReplacedAsAWhole(t *testing.T) { // P1
	rng := rand.New(rand.NewPCG(uint64(*powerSeed), 3))
	content := func(n uint64) []byte {
		return binary.LittleEndian.AppendUint64(bytes.Repeat([]byte{byte(n)}, 5000), n)
	}
	for steps := range 12 {
		for range 20 {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "file"), content(1), 0o600); err != nil {
				t.Fatal(err)
			}
			d := newSimDisk(t, dir, steps)
			err := writeFile(d, filepath.Join(dir, "file"), content(2))
			after := d.restart(t, rng)
			got, readErr := os.ReadFile(filepath.Join(after, "file"))
			switch {
			case readErr != nil || !bytes.Equal(got, content(1)) && !bytes.Equal(got, content(2)):
				t.Fatalf("power lost after %d steps: neither what was there nor what was written (%v)", steps, readErr)
			case err == nil && !bytes.Equal(got, content(2)):
				t.Fatalf("power lost after %d steps: what was written is gone", steps)
			case err != nil && !errors.Is(err, errPowerLoss):
				t.Fatal(err)
			case steps >= 5 && err != nil:
				t.Fatalf("%d steps are not enough", steps)
			}
		}
	}
}

func TestAFencedLogTakesNothingOfALowerEpoch(t *testing.T) { // P1
	o, from := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	o.add(t, "first") // of epoch 1
	if at := o.Fence(3); at != o.Head() {
		t.Errorf("fenced at %v, with the head at %v", at, o.Head())
	}
	o.Fence(2)
	head := o.Head()
	if _, err := o.Append(&Entry{Epoch: 2, Kind: Transaction}, nil); !errors.Is(err, ErrFenced) || o.Head() != head {
		t.Errorf("an entry of epoch 2: %v", err)
	}
	if _, err := o.Append(&Entry{Epoch: 3, Kind: Transaction}, nil); err != nil {
		t.Errorf("an entry of epoch 3: %v", err)
	}
	from.Fence(7)
	if err := o.Wait(t.Context(), head.LSN); err != nil {
		t.Fatal(err)
	}
	frames, err := os.ReadFile(lastSegment(t, o.dir))
	if err != nil {
		t.Fatal(err)
	}
	_, size, _ := measure(frames[segmentHeader:])
	frames = frames[segmentHeader : segmentHeader+size]
	if _, err := from.AppendFrames(frames, 6); !errors.Is(err, ErrFenced) || from.Head().LSN != 0 {
		t.Errorf("received under epoch 6: %v", err)
	}
	if _, err := from.AppendFrames(frames, 7); err != nil || from.Head().LSN != 1 {
		t.Errorf("received under epoch 7: %v", err)
	}
	o.stop(true)
	from.stop(true)
}
