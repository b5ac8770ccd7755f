package commit_test

import (
	"fmt"
	"os"
	"testing"

	"skein/internal/commit"
)

// BenchmarkRecovery replays one-row updates, the smallest entries and so the slowest to replay per
// byte. MB/s is of log.
func BenchmarkRecovery(b *testing.B) {
	dir := b.TempDir()
	o := testOptions
	o.SegmentBytes, o.CheckpointLogBytes, o.MaxVersionBytes = 0, 1<<40, 1<<40
	r, err := open(b, dir, o)
	if err != nil {
		b.Fatal(err)
	}
	c := r.conn()
	r.write(c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER, c TEXT)")
	r.write(c, "INSERT INTO t SELECT i, 0, hex(zeroblob(40)) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100000) SELECT i FROM n)")
	c.file.PinHead(true)
	st, _, err := c.Prepare("UPDATE t SET b = b + ?1 WHERE a = ?2")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200_000 {
		_ = st.BindInt(1, i)
		_ = st.BindInt(2, i*7919%100_000+1)
		if err := st.Exec(); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := r.Wait(b.Context(), c.file.TakeCommit(), commit.Local); err != nil {
		b.Fatal(err)
	}
	crashed := b.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		b.Fatal(err)
	}
	_ = st.Close()
	closeAll(c)
	r.stop(true)

	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		copied := fmt.Sprintf("%s/%d", b.TempDir(), i)
		if err := os.CopyFS(copied, os.DirFS(crashed)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		p, rec, err := commit.Open(copied, o)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(rec.Bytes)
		b.ReportMetric(float64(rec.Entries)/rec.Took.Seconds(), "entries/s")
		b.StopTimer()
		if err := p.Close(false); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
