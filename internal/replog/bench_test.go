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
