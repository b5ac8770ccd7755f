package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// settle is how long the cluster must have stood the same before it is told: what one death or one burst of
// writes sets off goes through states that nobody needs to read.
const settle = time.Second

// announcer turns events into the lines that a person reads. Every ready line has the same form, so
// a script can read the address and the process id from it.
type announcer struct {
	out        io.Writer
	nodes      []*node
	dir        string
	kept       bool // dir is not removed at the end
	executable string
	pids       map[*node]int // of nodes that have served at least once
	ended      bool

	statuses map[string]status
	told     string // of the cluster, last
	now      string // how it stands, and since when
	since    time.Time
}

func newAnnouncer(o Options, nodes []*node, dir string) *announcer {
	return &announcer{
		out: o.Out, nodes: nodes, dir: dir, kept: o.Dir != "", executable: o.Executable,
		pids: map[*node]int{}, statuses: map[string]status{},
	}
}

func (a *announcer) print(e event) {
	switch e.kind {
	case ready:
		fmt.Fprintf(a.out, "%s ready  %s  process %d  %s  (%.1f s)\n", e.node.name, e.node.url(), e.pid, e.status.role, e.took.Seconds())
		before := len(a.pids)
		if a.pids[e.node] = e.pid; len(a.pids) > before && len(a.pids) == len(a.nodes) {
			a.hints()
		}
	case died:
		fmt.Fprintf(a.out, "%s died   process %d: %s; starting it again in %.0f seconds …\n", e.node.name, e.pid, e.reason, restartPause.Seconds())
	case looked:
		a.look(e)
	}
}

// look tells how the cluster stands when that has changed and stays so. Until every node has served
// once, their ready lines say enough.
func (a *announcer) look(e event) {
	a.statuses[e.node.name] = e.status
	if len(a.pids) < len(a.nodes) || len(a.nodes) == 1 || a.ended {
		return
	}
	names := make([]string, len(a.nodes))
	for i, n := range a.nodes {
		names[i] = n.name
	}
	if line := summary(names, a.statuses); line != a.now {
		a.now, a.since = line, e.at
	}
	if a.now != a.told && e.at.Sub(a.since) >= settle {
		a.told = a.now
		fmt.Fprintf(a.out, "cluster      %s\n", a.told)
	}
}

func (a *announcer) stopping() {
	a.ended = true
	fmt.Fprintln(a.out, "\nStopping …")
}

// hints says what to try, once every node serves.
func (a *announcer) hints() {
	command := commandName(a.executable)
	lines := [][2]string{
		{"psql " + a.target(), ""},
		{command + " sql" + a.argument(""), "the same without psql"},
	}
	if len(a.nodes) > 1 {
		lines = append(lines,
			[2]string{command + " status --watch" + a.argument("--url "), "who leads, what could be lost now, and what happens"},
			[2]string{fmt.Sprintf("kill -9 %d", a.pids[a.leader()]), "the leader dies on the spot; another node leads, with every commit that was acknowledged"},
			[2]string{command + " switchover" + a.argument("--url "), "the leadership moves in order: writes wait for a moment, and nobody has to connect again"},
		)
	} else {
		lines = append(lines, [2]string{fmt.Sprintf("kill -9 %d", a.pids[a.nodes[0]]), "the node dies on the spot, is started again, and has every commit that was acknowledged"})
	}
	fmt.Fprint(a.out, "\nTry it from another terminal:\n\n")
	for _, l := range lines {
		fmt.Fprintln(a.out, "  "+l[0])
		if l[1] != "" {
			fmt.Fprintln(a.out, "      "+l[1])
		}
	}
	fmt.Fprintln(a.out)
	if !a.kept {
		fmt.Fprintln(a.out, "A node that dies is started again. Ctrl-C stops the demo and deletes its data; with --dir it is kept.")
		return
	}
	fmt.Fprintf(a.out, "A node that dies is started again. Ctrl-C stops the demo; the data stays in %s, and the next run with this --dir continues with it.\n", a.dir)
}

// leader is the node that leads as far as is known, else the first.
func (a *announcer) leader() *node {
	for _, n := range a.nodes {
		if a.statuses[n.name].role == "leader" {
			return n
		}
	}
	return a.nodes[0]
}

// target is where psql finds the node that can be written to, whichever that is.
func (a *announcer) target() string {
	if len(a.nodes) == 1 {
		return a.nodes[0].url()
	}
	addresses := make([]string, len(a.nodes))
	for i, n := range a.nodes {
		addresses[i] = n.address
	}
	return "'postgres://skein@" + strings.Join(addresses, ",") + "/skein?target_session_attrs=read-write'"
}

// argument is what this program needs to be told to find the nodes: nothing where it looks by itself.
func (a *announcer) argument(flag string) string {
	if strings.HasSuffix(a.nodes[0].address, ":5432") && len(a.nodes) <= 3 {
		return ""
	}
	return " " + flag + a.target()
}

// commandName is what a person types to run this program: `go run` leaves nothing to call by name.
func commandName(executable string) string {
	if startedByGoRun(executable) {
		return "go run ./cmd/skein"
	}
	return executable
}
