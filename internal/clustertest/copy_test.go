package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
)

// grown makes a cluster of one node with some megabytes in several databases, and a ledger.
func grown(t *testing.T) (*cluster, *nodetest.Ledger) {
	t.Helper()
	c := newCluster(t, 0)
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, c.leader.Node)
	c.load(l, 3)()
	c.leader.query("CREATE TABLE filler AS SELECT a, hex(randomblob(1000)) AS b FROM generate_series(1, 1500) g(a)")
	return c, l
}

// C03, C06: a snapshot is cut off again and again, with everything that there is to lose at it, while
// clients write. It goes on where it was.
func TestCopy_C03_CutOff(t *testing.T) {
	t.Parallel()
	c, l := grown(t)
	f := c.add("n2", c.leader)
	f.link.Each(func(n int) (up, down proxy.Plan) {
		cut := []int64{50, 300, 1000, 5000, 100_000, 700_000, 1_500_000, 2_000_000}
		if n >= len(cut) {
			return
		}
		return up, proxy.Plan{Cut: true, CutAt: cut[n]}
	})
	wait := c.load(l, 4)
	f.start()
	if f.link.Bytes(proxy.Down) == 0 {
		t.Error("nothing has travelled")
	}
	wait()
	c.end(l)
}

// C01: the follower is killed at every step of taking a copy; the next process goes on.
func TestCopy_C01_KilledAtEveryStep(t *testing.T) {
	t.Parallel()
	c, l := grown(t)
	f := c.add("n2", c.leader)
	for _, faults := range []string{
		"install.sums=kill:1", "install.begun=kill:1", "install.page=kill:1", "install.page=kill:4", "install.synced=kill:1", "file.rename=kill:1", "file.rename=kill:2",
		"install.checkpoint=kill:1", "fetch.installed=kill:1", "fetch.removed=kill:1", "log.create=kill:1", "log.spare=kill:1", "install.commit=kill:1",
	} {
		f.launch(faults)
		if err := f.AwaitServing(t); err == nil {
			t.Errorf("the node serves, and should have ended at %s", faults)
		}
		f.Kill()
	}
	f.start()
	c.equal()
	l.Check(t, f.Node)

	// The same for a node that has a copy, which is too old.
	f.Kill()
	c.trimmed(f)
	for _, faults := range []string{
		"install.begun=kill:1", "install.page=kill:2", "install.synced=kill:1", "install.checkpoint=kill:1",
		"fetch.installed=kill:1", "fetch.removed=kill:1", "log.create=kill:1", "install.commit=kill:1",
	} {
		f.launch(faults)
		_ = f.AwaitEnd(t)
	}
	f.start()
	c.end(l)
}

// C03: the leader is killed while it sends a copy.
func TestCopy_C03_LeaderKilled(t *testing.T) {
	t.Parallel()
	c, l := grown(t)
	f := c.add("n2", c.leader)
	f.link.Each(func(n int) (up, down proxy.Plan) { return up, proxy.Plan{HoldAt: 600_000 * int64(1-min(n, 2)/2)} })
	f.launch("")
	for n := range 2 {
		want := 600_000 * int64(n+1)
		nodetest.Await(t, "half of the copy is there", func() error {
			if got := f.link.Bytes(proxy.Down); got < want {
				return fmt.Errorf("%d bytes of %d", got, want)
			}
			return nil
		})
		c.leader.restart()
		f.link.Cut()
	}
	f.serves()
	c.load(l, 1)()
	c.end(l)
}

// C08: bytes of a copy are changed on their way; the follower does not take them for pages.
func TestCopy_C08_FlippedByte(t *testing.T) {
	t.Parallel()
	c, l := grown(t)
	f := c.add("n2", c.leader)
	f.link.Each(func(n int) (up, down proxy.Plan) {
		flip := []int64{100, 700, 40_000, 1_000_000}
		if n >= len(flip) {
			return
		}
		return up, proxy.Plan{Flip: true, FlipAt: flip[n]}
	})
	f.start()
	c.end(l)
}

// An older copy saves most of the way: what is equal does not travel again.
func TestCopy_OnlyWhatDiffersTravels(t *testing.T) {
	t.Parallel()
	c, l := grown(t)
	f := c.follower(c.leader)
	c.equal()
	whole := f.link.Bytes(proxy.Down)
	f.Kill()
	c.leader.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
	c.leader.query("CREATE TABLE hot (a int PRIMARY KEY, b text); INSERT INTO hot SELECT a, hex(randomblob(500)) FROM generate_series(1, 200) g(a)")
	nodetest.Await(t, "the log is trimmed", func() error {
		for range 30 {
			c.leader.query("UPDATE hot SET b = hex(randomblob(500))")
		}
		return c.isTrimmed(f)
	})
	before := f.link.Bytes(proxy.Down)
	f.start()
	f.connected(true)
	if again := f.link.Bytes(proxy.Down) - before; again > whole/4 {
		t.Errorf("%d bytes travelled to a node that had most of it; the first time %d", again, whole)
	}
	c.end(l)
}

// B06, B07: a page of a follower's file is damaged. Nobody is given what it says, and it is replaced from another node.
func TestCopy_B06_DamagedPage(t *testing.T) {
	t.Parallel()
	c, l := grown(t)
	f := c.follower(c.leader)
	c.equal()
	f.Stop(t) // now all is in the files
	f.start()
	c.equal()
	name := largest(t, filepath.Join(f.dir, "db"))
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for page := int64(3); page < info.Size()/4096; page += 97 {
		b := make([]byte, 1)
		if _, err := file.ReadAt(b, page*4096+2000); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x40
		if _, err := file.WriteAt(b, page*4096+2000); err != nil {
			t.Fatal(err)
		}
		damaged++
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	rows := c.leader.query("SELECT node, result, damaged, coalesce(detail, '') FROM skein_verify() WHERE result <> 'ok'")
	if len(rows) != 1 || rows[0][0] != f.name || rows[0][1] != "repaired" || rows[0][2] != fmt.Sprint(damaged) {
		t.Errorf("skein_verify: %v, want %d pages of %s repaired\n%s", rows, damaged, f.name, tail(f.Log(), 6))
	}
	c.end(l)
}

func largest(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files in %s: %v, %v", dir, files, err)
	}
	var name string
	var size int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size && !strings.Contains(f, ".spill") {
			name, size = f, info.Size()
		}
	}
	return name
}
