package replog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"skein/internal/history"
)

var testOptions = Options{Cluster: Cluster{1}, SegmentBytes: 4 * MaxChunk}

// opened is a log with its flusher, and what it replayed when it was opened.
type opened struct {
	*Log
	rec  Recovery
	got  []string // "LSN body" of each replayed entry
	stop func(clean bool)
}

func open(t *testing.T, dir string) (*opened, error) {
	t.Helper()
	o := &opened{}
	body := []byte{}
	l, rec, err := Open(dir, 0, testOptions, func(e *Entry) error {
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

func mustOpen(t *testing.T, dir string) *opened {
	t.Helper()
	o, err := open(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func short(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%s…%d", b[:8], len(b))
	}
	return string(b)
}

func (o *opened) add(t *testing.T, body string) history.LSN {
	t.Helper()
	lsn, err := o.Append(&Entry{Epoch: 1, Kind: Transaction, Database: 2, Body: []byte(body)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Wait(t.Context(), lsn); err != nil {
		t.Fatal(err)
	}
	return lsn
}

func TestEntriesComeBackInOrderAfterACleanStop(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	for _, b := range []string{"a", "bb", "ccc"} {
		o.add(t, b)
	}
	head := o.Head()
	o.stop(true)
	o = mustOpen(t, dir)
	defer o.stop(true)
	if want := "[1 a 2 bb 3 ccc]"; fmt.Sprint(o.got) != want {
		t.Fatalf("replayed %v, want %v", o.got, want)
	}
	if !o.rec.Clean || o.Head() != head {
		t.Fatalf("clean %v, head %v; want true, %v", o.rec.Clean, o.Head(), head)
	}
	if lsn := o.add(t, "d"); lsn != 4 {
		t.Fatalf("next LSN is %d, want 4", lsn)
	}
}

func TestALargeEntryIsWrittenInPiecesAcrossSegments(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.add(t, "before")
	piece := make([]byte, MaxChunk)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range piece {
		piece[i] = byte('a' + rng.IntN(16))
	}
	const pieces = 20 // 5 MB over segments of 1 MB
	lsn, err := o.AppendChunks(&Entry{Epoch: 1, Kind: Transaction}, pieces*MaxChunk, func(emit func([]byte) error) error {
		for range pieces {
			if err := emit(bytes.Clone(piece)); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Wait(t.Context(), lsn); err != nil {
		t.Fatal(err)
	}
	o.add(t, "after")
	o.stop(true)
	o = mustOpen(t, dir)
	defer o.stop(true)
	if want := fmt.Sprintf("[1 before 2 %s…%d 3 after]", piece[:8], pieces*MaxChunk); fmt.Sprint(o.got) != want {
		t.Fatalf("replayed %v, want %v", o.got, want)
	}
}

func TestALargeEntryThatWasGivenUpLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.add(t, "before")
	giveUp := errors.New("disk of temporary files is full")
	_, err := o.AppendChunks(&Entry{Epoch: 1, Kind: Transaction}, 3*MaxChunk, func(emit func([]byte) error) error {
		for range 3 {
			if err := emit(make([]byte, MaxChunk)); err != nil {
				return err
			}
		}
		return giveUp
	}, nil)
	if !errors.Is(err, giveUp) {
		t.Fatalf("error %v, want %v", err, giveUp)
	}
	if lsn := o.add(t, "after"); lsn != 2 {
		t.Fatalf("next LSN is %d, want 2", lsn)
	}
	o.stop(true)
	o = mustOpen(t, dir)
	defer o.stop(true)
	if want := "[1 before 2 after]"; fmt.Sprint(o.got) != want {
		t.Fatalf("replayed %v, want %v", o.got, want)
	}
}

func lastSegment(t *testing.T, dir string) string {
	t.Helper()
	names, err := listFiles(dir, segmentSuffix)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return filepath.Join(dir, names[len(names)-1])
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// three entries of one frame each, 72 bytes apart: header 64, body padded to 8.
const frame2 = segmentHeader + 72

func TestLog_A07_TornEntryAtTheEndOfAnUncleanLogIsCut(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.add(t, "a")
	o.add(t, "b")
	o.stop(false)
	flip(t, lastSegment(t, dir), frame2+frameHeader)
	o = mustOpen(t, dir)
	if want := "[1 a]"; fmt.Sprint(o.got) != want || o.rec.TornBytes == 0 {
		t.Fatalf("replayed %v, torn %d", o.got, o.rec.TornBytes)
	}
	o.add(t, "B")
	o.stop(false)
	o = mustOpen(t, dir)
	defer o.stop(false)
	if want := "[1 a 2 B]"; fmt.Sprint(o.got) != want {
		t.Fatalf("replayed %v, want %v", o.got, want)
	}
}

func TestLog_A09_FlippedBitInTheLastEntryAfterACleanStopIsDamage(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.add(t, "a")
	o.add(t, "b")
	o.stop(true)
	flip(t, lastSegment(t, dir), frame2+frameHeader)
	if _, err := open(t, dir); !errors.Is(err, ErrDamaged) {
		t.Fatalf("error %v, want %v", err, ErrDamaged)
	}
}

func TestLog_A10_FlippedBitInTheMiddleIsDamageEvenAfterACrash(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	for _, b := range []string{"a", "b", "c"} {
		o.add(t, b)
	}
	o.stop(false)
	for at := int64(frame2); at < frame2+frameHeader+1; at++ {
		if at >= frame2+hintAt && at < frame2+hintAt+4 {
			continue // it says nothing about its own frame
		}
		flip(t, lastSegment(t, dir), at)
		if _, err := open(t, dir); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit flipped in byte %d of entry 2: error %v, want %v", at-frame2, err, ErrDamaged)
		}
		flip(t, lastSegment(t, dir), at)
	}
}

func TestLog_A08_OldContentOfARecycledSegmentIsNeverRead(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	big := string(make([]byte, MaxChunk-100))
	var last history.LSN
	for i := range 12 { // incompressible enough: each its own letter run is not needed, size is
		b := []byte(big)
		for j := range b {
			b[j] = byte(rand.IntN(256))
		}
		_ = i
		last = o.add(t, string(b))
		if err := o.Trim(last); err != nil {
			t.Fatal(err)
		}
	}
	o.add(t, "end")
	first := o.First()
	o.stop(false)
	if first < 2 {
		t.Fatalf("nothing was trimmed: the log begins at %d", first)
	}
	var lsns []history.LSN
	l, _, err := Open(dir, first-1, testOptions, func(e *Entry) error { lsns = append(lsns, e.LSN); return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(false)
	if len(lsns) == 0 || lsns[len(lsns)-1] != last+1 || lsns[0] != first {
		t.Fatalf("read %v, want %d to %d", lsns, first, last+1)
	}
}

func TestLog_A15_SegmentWithoutAHeaderIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.add(t, "a")
	o.stop(false)
	f, _, err := makeSpare(osDisk{}, dir, 99, testOptions.SegmentBytes)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Rename(f.Name(), filepath.Join(dir, segmentName(2))); err != nil {
		t.Fatal(err)
	}
	o = mustOpen(t, dir)
	defer o.stop(false)
	if want := "[1 a]"; fmt.Sprint(o.got) != want {
		t.Fatalf("replayed %v, want %v", o.got, want)
	}
	o.add(t, "b")
}

func TestALogOfANewerFormatOrAnotherClusterIsRefused(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.stop(true)
	if _, _, err := Open(dir, 0, Options{Cluster: Cluster{9}, SegmentBytes: testOptions.SegmentBytes}, nil); !errors.Is(err, ErrForeign) {
		t.Fatalf("error %v, want %v", err, ErrForeign)
	}
	f, err := os.OpenFile(lastSegment(t, dir), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{FormatVersion + 1}, 8); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir); !errors.Is(err, ErrNewerFormat) {
		t.Fatalf("error %v, want %v", err, ErrNewerFormat)
	}
}

func TestALogThatLostItsSegmentsIsDamage(t *testing.T) {
	dir := t.TempDir()
	o := mustOpen(t, dir)
	o.add(t, "a")
	o.stop(true)
	if err := os.Remove(lastSegment(t, dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir); !errors.Is(err, ErrDamaged) {
		t.Fatalf("error %v, want %v", err, ErrDamaged)
	}
}

func TestPageChangesComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		old, page := make([]byte, PageSize), make([]byte, PageSize)
		for i := range old {
			old[i] = byte(rng.IntN(3))
		}
		copy(page, old)
		for range rng.IntN(3000) >> rng.IntN(12) {
			page[rng.IntN(PageSize)] ^= byte(rng.IntN(256))
		}
		body := AppendPage(nil, 7, old, page)
		if bytes.Equal(old, page) != (len(body) == 0) {
			t.Fatalf("%d bytes for equal=%v", len(body), bytes.Equal(old, page))
		}
		if len(body) > PageSize+3 {
			t.Fatalf("%d bytes for one page", len(body))
		}
		if err := EachRange(body, func(no uint32, off int, data []byte) error {
			if no != 7 {
				t.Fatalf("page %d", no)
			}
			copy(old[off:], data)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(old, page) {
			t.Fatal("page differs after its changes were applied")
		}
	}
}

func FuzzEachRange(f *testing.F) {
	f.Add(AppendPage(nil, 1, make([]byte, PageSize), bytes.Repeat([]byte{1, 0, 0, 0, 0, 0}, 700)[:PageSize]))
	f.Fuzz(func(t *testing.T, body []byte) {
		page := make([]byte, PageSize)
		_ = EachRange(body, func(_ uint32, off int, data []byte) error {
			if copy(page[off:], data) != len(data) {
				t.Fatal("a range goes beyond its page")
			}
			return nil
		})
	})
}

func FuzzDecodeFrame(f *testing.F) {
	frame, _, _ := appendFrame(nil, &Entry{Epoch: 1, LSN: 2, Body: bytes.Repeat([]byte("ab"), 600)}, 1)
	f.Add(frame)
	f.Fuzz(func(_ *testing.T, b []byte) {
		var e Entry
		var scratch []byte
		_, _, _ = decodeFrame(b, &e, &scratch)
	})
}
