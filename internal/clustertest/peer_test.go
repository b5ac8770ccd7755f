package clustertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// refusedForGood runs a node that cannot follow, and waits until it ends and has said why.
func (m *member) refusedForGood(text string) {
	m.t.Helper()
	m.launch("")
	if err := m.AwaitEnd(m.t); err == nil {
		m.t.Errorf("a node that cannot follow ends as if all were well")
	}
	if !strings.Contains(m.Log(), text) {
		m.t.Errorf("a node that cannot follow ends without saying %q:\n%s", text, m.Log())
	}
}

// remove takes a node out of what is compared in the end.
func (c *cluster) remove(m *member) {
	var rest []*member
	for _, o := range c.members {
		if o != m {
			rest = append(rest, o)
		}
	}
	c.members = rest
}

// G19: a node of another cluster, and a node that follows itself, are sent away for good with a reason that a person
// understands. The cluster does not notice.
func TestPeer_G19_WrongCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	s := newSeries(c, 1)
	s.progress(5)
	other := c.add("other", nil)
	other.start()
	other.query("CREATE TABLE precious (a int); INSERT INTO precious VALUES (1)")
	other.Stop(t)
	other.follow(c.leader)
	other.refusedForGood("cluster")
	other.follow(nil)
	other.start()
	if got := other.value("SELECT count(*) FROM precious"); got != "1" {
		t.Errorf("a node that was sent away has lost what it had")
	}
	other.Kill()
	other.follow(other)
	other.refusedForGood("itself")
	c.remove(other)
	s.progress(20)
	s.check()
	c.end()
}

// H07: a copied directory makes a second node of the same id. The one that is there stays; the other one says what is wrong,
// and does not take over until the first has gone.
func TestPeer_H07_TwoNodesWithOneID(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	f := c.members[1]
	s := newSeries(c, 1)
	s.progress(10)
	f.Kill()
	twin := c.add(f.name, c.leader)
	twin.restore(f.copied())
	c.remove(twin)
	f.start()
	f.connected(true)
	connections := f.link.Connections()
	twin.start()
	twin.says("node id")
	s.progress(20)
	if got := f.link.Connections(); got != connections {
		t.Errorf("the node that was there has connected %d times more", got-connections)
	}
	f.connected(true)
	f.Kill()
	twin.await("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'", "1")
	s.progress(10)
	twin.Kill()
	f.start()
	s.check()
	c.end()
}

// hello is the first message of a connection, as docs/FORMAT.md draws it, of some protocol version.
func hello(version uint16) []byte {
	le := binary.LittleEndian
	payload := le.AppendUint16(nil, version)
	payload = append(payload, 2)                      // to stream
	payload = append(payload, make([]byte, 32+16)...) // nonce, cluster
	for _, s := range []string{"node", "disk"} {
		payload = append(le.AppendUint16(payload, uint16(len(s))), s...)
	}
	payload = le.AppendUint64(payload, 1)
	for _, s := range []string{"stranger", "127.0.0.1:1"} {
		payload = append(le.AppendUint16(payload, uint16(len(s))), s...)
	}
	return frame(1, len(payload), payload)
}

// frame is the first one of a connection. It announces a payload of some length.
func frame(kind byte, announced int, payload []byte) []byte {
	le := binary.LittleEndian
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	h := make([]byte, 24)
	le.PutUint32(h, uint32(announced))
	h[4] = kind
	le.PutUint32(h[12:], crc32.Checksum(payload, castagnoli))
	h = le.AppendUint32(h, crc32.Checksum(h, castagnoli))
	return append(h, payload...)
}

// Strangers on the peer port: an older and a newer protocol, a frame that announces a gigabyte, noise, and silence.
// Each is sent away without harm, and costs the node next to nothing.
func TestPeer_Strangers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	s := newSeries(c, 1)
	s.progress(5)
	before := resident(t, c.leader)
	rng := rand.New(rand.NewPCG(seed(t), 1))
	noise := func() []byte {
		b := make([]byte, rng.IntN(2000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	truncated := hello(1)
	cases := map[string]struct{ send, want []byte }{
		"version 0":     {hello(0), []byte("version")},
		"version 999":   {hello(999), []byte("version")},
		"a gigabyte":    {frame(1, 1<<30, make([]byte, 1000)), nil},
		"no more comes": {truncated[:len(truncated)-3], nil},
		"SSLRequest":    {[]byte{0, 0, 0, 8, 4, 210, 22, 47}, nil},
		"HTTP":          {[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), nil},
	}
	for i := range 50 {
		cases["noise "+strconv.Itoa(i)] = struct{ send, want []byte }{noise(), nil}
	}
	for name, one := range cases {
		conn, err := net.Dial("tcp", c.leader.peer)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(one.send)
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		answer, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		if !strings.Contains(string(answer), string(one.want)) {
			t.Errorf("%s: answer %q, want one with %q", name, answer, one.want)
		}
		_ = conn.Close()
	}
	var silent []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", c.leader.peer)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	s.progress(20)
	if grown := resident(t, c.leader) - before; grown > 200<<20 {
		t.Errorf("strangers have cost %d MB", grown>>20)
	}
	for _, conn := range silent {
		_ = conn.Close()
	}
	s.check()
	c.end()
}

// resident is the memory of a process, 0 where that cannot be told.
func resident(t *testing.T, m *member) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.Process.Pid))
	if err != nil {
		return 0
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// A secret that differs, or that one side lacks, is no way in.
func TestPeer_SecretsDiffer(t *testing.T) {
	t.Parallel()
	write := func(secret string) string {
		name := t.TempDir() + "/secret"
		if err := os.WriteFile(name, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	right := write("a skein of geese, in the sky")
	c := &cluster{t: t}
	c.leader = c.add("n1", nil)
	c.leader.args = []string{"--cluster-secret-file", right}
	c.leader.start()
	c.follower(c.leader, "--cluster-secret-file", right)
	for name, args := range map[string][]string{"none": nil, "another": {"--cluster-secret-file", write("a gaggle of geese, on the ground")}} {
		stranger := c.add("stranger-"+name, c.leader)
		stranger.args = args
		stranger.refusedForGood("secret")
		if _, err := os.Stat(stranger.dir + "/db"); err == nil {
			t.Errorf("a stranger with the secret %q has got something", name)
		}
		c.remove(stranger)
	}
	c.end()
}
