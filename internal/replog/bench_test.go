package replog

import (
	"context"
	"sync"
	"testing"

	"skein/internal/history"
)

var benchOptions = Options{Cluster: Cluster{1}, SegmentBytes: 16 << 20}

func benchLog(b *testing.B, replay func(*Entry) error) *Log {
	b.Helper()
	l, _, err := Open(b.TempDir(), 0, benchOptions, replay)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		_ = l.Close(false)
	})
	return l
}

// trim keeps the log small, as checkpoints do.
func trim(b *testing.B, l *Log, lsn history.LSN) {
	b.Helper()
	if lsn%50000 == 0 {
		if err := l.Trim(l.Flushed.Load()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit is one row's update: append, wait until it is on disk.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(map[int]string{1: "1client", 64: "64clients"}[clients], func(b *testing.B) {
			l := benchLog(b, nil)
			body := make([]byte, 150)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range clients {
				wg.Go(func() {
					for range b.N / clients {
						lsn, err := l.Append(&Entry{Epoch: 1, Kind: Transaction, Body: body}, nil)
						if err == nil {
							err = l.Wait(context.Background(), lsn)
						}
						if err != nil {
							b.Error(err)
							return
						}
						trim(b, l, lsn)
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkAppend is what the writer does under its turn.
func BenchmarkAppend(b *testing.B) {
	l := benchLog(b, nil)
	body := make([]byte, 150)
	b.ReportAllocs()
	for b.Loop() {
		lsn, err := l.Append(&Entry{Epoch: 1, Kind: Transaction, Body: body}, nil)
		if err != nil {
			b.Fatal(err)
		}
		trim(b, l, lsn)
	}
}

// received gives so many entries of one row as a reader gives them.
func received(b *testing.B, l *Log, entries, body int) []byte {
	b.Helper()
	for range entries {
		if _, err := l.Append(&Entry{Epoch: 1, Kind: Transaction, Body: make([]byte, body)}, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Wait(context.Background(), l.Received()); err != nil {
		b.Fatal(err)
	}
	r, err := l.NewReader(0)
	if err != nil {
		b.Fatal(err)
	}
	var all []byte
	for {
		batch, ok, err := r.TryNext(1 << 20)
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, batch.Frames...)
	}
}

// BenchmarkReceive is a follower's append of 256 KB of one-row entries at a time.
func BenchmarkReceive(b *testing.B) {
	frames := received(b, benchLog(b, nil), 1200, 150)
	first, _ := readFrame(frames)
	l := benchLog(b, nil)
	if _, err := l.AppendFrames(frames[:first.size], 0); err != nil {
		b.Fatal(err)
	}
	frames = frames[first.size:]
	b.SetBytes(int64(len(frames)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.AppendFrames(frames, 0); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := l.Cut(1); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkRead is a sender's way through the log, from memory and from the files.
func BenchmarkRead(b *testing.B) {
	for _, from := range []string{"memory", "files"} {
		b.Run(from, func(b *testing.B) {
			l := benchLog(b, nil)
			frames := received(b, l, 40000, 150)
			if from == "files" {
				l.ring = ring{end: l.ring.end}
			}
			b.SetBytes(int64(len(frames)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := l.NewReader(0)
				if err != nil {
					b.Fatal(err)
				}
				for ok := true; ok; {
					if _, ok, err = r.TryNext(256 << 10); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkCommitWithReaders is BenchmarkCommit with senders that take every entry as it is flushed.
func BenchmarkCommitWithReaders(b *testing.B) {
	l := benchLog(b, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	for range 2 {
		r, err := l.NewReader(0)
		if err != nil {
			b.Fatal(err)
		}
		readers.Go(func() {
			for {
				if _, err := r.Next(ctx, 256<<10); err != nil {
					return
				}
			}
		})
	}
	body := make([]byte, 150)
	b.ReportAllocs()
	for b.Loop() {
		lsn, err := l.Append(&Entry{Epoch: 1, Kind: Transaction, Body: body}, nil)
		if err == nil {
			err = l.Wait(ctx, lsn)
		}
		if err != nil {
			b.Fatal(err)
		}
		trim(b, l, lsn)
	}
	cancel()
	readers.Wait()
}
