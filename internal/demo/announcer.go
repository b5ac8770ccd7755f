package demo

import (
	"fmt"
	"io"
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

// hints says what to try, once every node serves. The first node leads.
func (a *announcer) hints() {
	first, command := a.nodes[0], commandName(a.executable)
	fmt.Fprintf(a.out, `
Try it from another terminal:

  psql %s
  %s sql %s     the same without psql
`, first.url(), command, first.url())
	if len(a.nodes) > 1 {
		second := a.nodes[1]
		fmt.Fprintf(a.out, "  %s sql %s     a follower: it shows, and refuses to change, what the leader has committed\n", command, second.url())
		fmt.Fprintf(a.out, "  kill -9 %d     any node dies on the spot, is started again, and has every commit that was acknowledged\n", a.pids[second])
	} else {
		fmt.Fprintf(a.out, "  kill -9 %d     the node dies on the spot, is started again, and has every commit that was acknowledged\n", a.pids[first])
	}
	fmt.Fprintln(a.out)
	if !a.kept {
		fmt.Fprintln(a.out, "Ctrl-C stops the demo and deletes its data; with --dir it is kept.")
		return
	}
	fmt.Fprintf(a.out, "Ctrl-C stops the demo; the data stays in %s, and the next run with this --dir continues with it.\n", a.dir)
}

// commandName is what a person types to run this program: `go run` leaves nothing to call by name.
func commandName(executable string) string {
	if startedByGoRun(executable) {
		return "go run ./cmd/skein"
	}
	return executable
}
