package demo

import (
	"fmt"
	"io"
)

// announcer turns events into the lines that a person reads. Every ready line has the same form, so
// a script can read the address and the process id from it.
type announcer struct {
	out        io.Writer
	nodes      []*node
	dir        string
	kept       bool // dir is not removed at the end
	executable string
	ready      int // nodes that have served at least once
}

func (a *announcer) print(e event) {
	switch e.kind {
	case ready:
		fmt.Fprintf(a.out, "%s ready  %s  process %d  (%.1f s)\n", e.node.name, e.node.url(), e.pid, e.took.Seconds())
		if a.ready++; a.ready == len(a.nodes) {
			a.hints(e.pid)
		}
	case died:
		fmt.Fprintf(a.out, "%s died   process %d: %s; starting it again …\n", e.node.name, e.pid, e.reason)
	}
}

func (a *announcer) stopping() { fmt.Fprintln(a.out, "\nStopping …") }

// hints says what to try. The first node stands for all.
func (a *announcer) hints(pid int) {
	first := a.nodes[0]
	fmt.Fprintf(a.out, `
Try it from another terminal:

  psql %s
  %s sql %s     the same without psql
  kill -9 %d     the node dies on the spot, is started again, and has every commit that was acknowledged

`, first.url(), commandName(a.executable), first.url(), pid)
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
