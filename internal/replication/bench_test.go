package replication

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"skein/internal/commit"
	"skein/internal/pagestore"
)

// onLoopback has a network whose nodes talk TCP.
func onLoopback(b *testing.B, names ...string) *network {
	n := newNetwork(b)
	addresses := map[string]net.Listener{}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		addresses[name] = l
	}
	n.tcp = addresses
	return n
}

// BenchmarkCommitToVisible measures, with one writer, the time from the append on the leader until an idle
// follower shows the entry.
func BenchmarkCommitToVisible(b *testing.B) {
	n := onLoopback(b, "a", "b")
	a := n.start("a", dirOf(b, "a")).lead("", commit.SyncConfig{})
	defer a.stop(true)
	f := n.start("b", dirOf(b, "b")).follow("a")
	defer f.stop(true)
	f.awaitVisible(a.write(255, 1))
	for i := 0; b.Loop(); i++ {
		lsn := a.append(byte(i), 1)
		if _, err := a.Wait(context.Background(), lsn, commit.Local); err != nil {
			b.Fatal(err)
		}
		f.awaitVisible(lsn)
	}
}

// BenchmarkSynchronousCommit measures one writer that waits for a follower's disk.
func BenchmarkSynchronousCommit(b *testing.B) {
	for _, level := range []commit.Level{commit.Local, commit.RemoteWrite, commit.On, commit.RemoteApply} {
		b.Run(level.String(), func(b *testing.B) {
			n := onLoopback(b, "a", "b")
			a := n.start("a", dirOf(b, "a")).lead("b", commit.SyncConfig{Level: commit.On})
			defer a.stop(true)
			f := n.start("b", dirOf(b, "b")).follow("a")
			defer f.stop(true)
			a.write(255, 1)
			for i := 0; b.Loop(); i++ {
				lsn := a.append(byte(i), 1)
				if _, err := a.Wait(context.Background(), lsn, level); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkManyClients measures 64 clients that wait for a follower's disk. Its CPU time is that of both nodes.
func BenchmarkManyClients(b *testing.B) {
	for _, names := range []string{"", "b"} {
		name := map[string]string{"": "asynchronous", "b": "synchronous"}[names]
		b.Run(name, func(b *testing.B) {
			n := onLoopback(b, "a", "b")
			a := n.start("a", dirOf(b, "a")).lead(names, commit.SyncConfig{Level: commit.On})
			defer a.stop(true)
			f := n.start("b", dirOf(b, "b")).follow("a")
			defer f.stop(true)
			a.write(255, pagesUpTo(1000)...)
			a.sameAs(f)
			var turn sync.Mutex
			i := 0
			before := cpuTime()
			sent := a.replica("b").BytesSent
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					turn.Lock()
					i++
					lsn := a.append(byte(i/1000), pagestore.PageNo(i%1000+1))
					turn.Unlock()
					if _, err := a.Wait(context.Background(), lsn, commit.On); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(a.replica("b").BytesSent-sent)/float64(b.N), "sent-B/op")
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCatchUp measures how fast a follower that was away gets the log, in bytes of log.
func BenchmarkCatchUp(b *testing.B) {
	const entries = 500_000
	n := onLoopback(b, "a", "b")
	n.segment = 64 << 20
	a := n.start("a", dirOf(b, "a")).lead("", commit.SyncConfig{})
	defer a.stop(true)
	r := rand.New(rand.NewPCG(1, 2))
	last := a.write(1, pagesUpTo(1000)...)
	for range entries {
		no := pagestore.PageNo(r.IntN(1000) + 1)
		last = a.commit(func(_ int, p []byte) { // what a one-row update changes
			for i := range 120 {
				p[i] = byte(r.Uint32())
			}
		}, no)
	}
	if _, err := a.Wait(context.Background(), last, commit.On); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(a.Log().BytesSince(0))
	for b.Loop() {
		dir := dirOf(b, "b")
		f := n.start("b", dir).follow("a")
		if err := f.Log().Flushed.Wait(context.Background(), last); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		start := time.Now()
		f.awaitVisible(last)
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-apply-behind")
		f.stop(true)
		b.StartTimer()
	}
}

// BenchmarkSnapshot measures a new copy, in bytes of database.
func BenchmarkSnapshot(b *testing.B) {
	const pages = 128 << 10 // 512 MB
	n := onLoopback(b, "a", "b")
	n.segment = 64 << 20
	a := n.start("a", dirOf(b, "a")).lead("", commit.SyncConfig{})
	defer a.stop(true)
	r := rand.New(rand.NewPCG(1, 2))
	for first := 1; first <= pages; first += 4096 {
		var numbers []pagestore.PageNo
		for i := range 4096 {
			numbers = append(numbers, pagestore.PageNo(first+i))
		}
		lsn := a.commit(func(_ int, p []byte) {
			for i := 0; i < len(p); i += 64 {
				p[i] = byte(r.Uint32())
			}
		}, numbers...)
		if _, err := a.Wait(context.Background(), lsn, commit.On); err != nil {
			b.Fatal(err)
		}
	}
	if err := a.Checkpoint(); err != nil {
		b.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		name := "new"
		if again {
			name = "unchanged"
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(pages * pagestore.PageSize)
			dir := dirOf(b, "b")
			l := n.link("b")
			for b.Loop() {
				if !again {
					b.StopTimer()
					dir = dirOf(b, "b")
					b.StartTimer()
				}
				if _, err := l.Fetch(context.Background(), "a", dir, FetchOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
