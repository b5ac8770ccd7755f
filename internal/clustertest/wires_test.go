package clustertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"skein/internal/child"
	"skein/internal/nodetest"
)

// wires are a network of machines: a network namespace for each node of a cluster, on a switch that the test is at as well. What a machine
// does not hear is dropped by nftables, as a network drops it: nobody is told, connections stay open, and what is sent is sent
// again, ever more slowly. Everything is within a namespace of the test's own, and ends with it.
type wires struct {
	t      *testing.T
	number int32
	secret string // file
}

const (
	ownNetworkVariable = "CLUSTERTEST_OWN_NETWORK"
	wiresPassword      = "honk"
	wiresSQL           = 5432
	wiresPeer          = 7432
)

var wiresMade atomic.Int32

// ownNetwork runs the test once more, in a network of its own, and says whether this is that run.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	switch {
	case os.Getenv(ownNetworkVariable) != "":
		return true
	case testing.Short():
		t.Skip("runs processes")
	case os.Geteuid() != 0:
		t.Skip("makes network namespaces: needs root")
	}
	for _, tool := range []string{"unshare", "ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("makes network namespaces: needs util-linux, iproute2 and nftables, and there is no %s", tool)
		}
	}
	apart := []string{"--net", "--mount", "--"}
	if out, err := exec.Command("unshare", append(apart, "nft", "add", "table", "inet", "cut")...).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces with nftables here: %v: %s", err, out)
	}
	again := exec.Command("unshare", append(apart, os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")...)
	again.Env = append(os.Environ(), ownNetworkVariable+"=1", "NODETEST_BINARY="+nodetest.Binary(), "PGPASSWORD="+wiresPassword)
	again.SysProcAttr = child.Attributes()
	out, err := again.CombinedOutput()
	t.Logf("in a network of its own: %s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// newWired runs a cluster whose nodes have a machine each.
func newWired(t *testing.T, nodes int, names string) *elected {
	t.Helper()
	w := &wires{t: t, number: wiresMade.Add(1), secret: filepath.Join(t.TempDir(), "secret")}
	if w.number == 1 {
		w.do("mount", "-t", "tmpfs", "none", "/run") // ip keeps namespaces there
		w.do("ip", "link", "set", "lo", "up")
	}
	w.do("ip", "link", "add", w.name("switch"), "type", "bridge")
	w.do("ip", "addr", "add", w.address(254)+"/24", "dev", w.name("switch"))
	w.do("ip", "link", "set", w.name("switch"), "up")
	if err := os.WriteFile(w.secret, []byte("all geese of this flock know it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &elected{cluster: &cluster{t: t}, wires: w, addr: map[*member]string{}}
	return e.boot(nodes, names)
}

func (w *wires) do(command ...string) {
	w.t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %v: %s", command, err, out)
	}
}

// name is one that no other wires have.
func (w *wires) name(of string) string { return fmt.Sprintf("%s-%d", of, w.number) }

func (w *wires) address(host int) string { return fmt.Sprintf("10.77.%d.%d", w.number, host) }

// in runs a command on a node's machine.
func (w *wires) in(m *member, command ...string) {
	w.t.Helper()
	w.do(append(w.within(m), command...)...)
}

func (w *wires) within(m *member) []string {
	return []string{"ip", "netns", "exec", w.name(m.name)}
}

// place gives a node a machine, and its address there for other nodes. A first node begins where no password is needed, to give one to
// its only role.
func (w *wires) place(m *member, host int) string {
	w.t.Helper()
	own := w.name(m.name)
	w.do("ip", "netns", "add", own)
	w.do("ip", "link", "add", own, "type", "veth", "peer", "name", "eth0", "netns", own)
	w.do("ip", "link", "set", own, "up", "master", w.name("switch"))
	w.in(m, "ip", "link", "set", "lo", "up")
	w.in(m, "ip", "addr", "add", w.address(host)+"/24", "dev", "eth0")
	w.in(m, "ip", "link", "set", "eth0", "up")
	w.in(m, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; }")
	m.peer = fmt.Sprintf("%s:%d", w.address(host), wiresPeer)
	m.within = w.within(m)
	m.env = append(m.env, "SKEIN_CLUSTER_SECRET_FILE="+w.secret)
	if host == 1 {
		w.begin(m)
	}
	m.address = fmt.Sprintf("%s:%d", w.address(host), wiresSQL)
	return m.peer
}

// begin begins a cluster with the only node that there is, which nobody else can reach yet.
func (w *wires) begin(m *member) {
	m.address = fmt.Sprintf("127.0.0.1:%d", wiresSQL)
	m.args = []string{"--bootstrap"}
	m.launch("")
	sql := append(w.within(m), nodetest.Binary(), "sql", m.URL("skein"), "-c", "ALTER ROLE skein PASSWORD '"+wiresPassword+"'")
	nodetest.Await(w.t, "the first node has a password", func() error {
		out, err := exec.Command(sql[0], sql[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s\n%s", err, out, m.Log())
		}
		return nil
	})
	m.Stop(w.t)
}

// drop has a machine not hear what matches, until heal.
func (w *wires) drop(m *member, match string) {
	w.t.Helper()
	w.in(m, "nft", "add rule inet cut in "+match+" drop")
}

// deafen has a machine hear nothing of others.
func (w *wires) deafen(m *member, to ...*member) {
	w.t.Helper()
	for _, o := range to {
		host, _, _ := strings.Cut(o.peer, ":")
		w.drop(m, "ip saddr "+host)
	}
}

// part has two sides hear nothing of each other.
func (w *wires) part(m *member, from ...*member) {
	w.t.Helper()
	w.deafen(m, from...)
	for _, o := range from {
		w.deafen(o, m)
	}
}

// close has nothing come to a port of a machine's, nor from such a port of others.
func (w *wires) close(m *member, port int) {
	w.t.Helper()
	w.drop(m, fmt.Sprintf("tcp dport %d", port))
	w.drop(m, fmt.Sprintf("tcp sport %d", port))
}

// heal makes the network whole.
func (w *wires) heal(all ...*member) {
	w.t.Helper()
	for _, m := range all {
		w.plug(m, "up")
		w.in(m, "nft", "flush chain inet cut in")
	}
}

// plug has a machine's cable be in or not.
func (w *wires) plug(m *member, state string) {
	w.t.Helper()
	w.do("ip", "link", "set", w.name(m.name), state)
}

// F01, F03 with real packets: the leader is cut off, both ways or only one. Another one leads, and nothing is lost that was acknowledged.
func TestWires_F01_F03_LeaderCutOff(t *testing.T) {
	t.Parallel()
	wiresCutOff(t, map[string]func(e *elected, leader *member){
		"both ways":       func(e *elected, leader *member) { e.wires.part(leader, e.others(leader)...) },
		"it hears nobody": func(e *elected, leader *member) { e.wires.deafen(leader, e.others(leader)...) },
	})
}

// wiresCutOff has leaders replaced that are cut off in some way.
func wiresCutOff(t *testing.T, ways map[string]func(e *elected, leader *member)) {
	t.Helper()
	if !ownNetwork(t) {
		return
	}
	for name, cut := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newWired(t, 3, "ANY 1 (*)")
			e.cutOff(func(leader *member) { cut(e, leader) }, func() { e.wires.heal(e.members...) })
		})
	}
}

// Clients do not reach the leader, and the other nodes do. It leads on, and takes what clients send to another node.
func TestWires_OnlyThePortForClients(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	e := newWired(t, 3, "ANY 1 (*)")
	e.load()
	e.leader.query("CREATE TABLE forwarded (a int)")
	e.stays(func() {
		e.wires.close(e.leader, wiresSQL)
		time.Sleep(silence)
		e.others(e.leader)[0].query("INSERT INTO forwarded VALUES (1)")
		e.wires.heal(e.members...)
		e.progress(20)
	})
	e.caughtUp()
	e.end(true)
}
