package gameday

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skein/internal/claims"
	"skein/internal/nodetest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run()) // nothing is started
	}
	os.Exit(nodetest.Main(m))
}

func own(t *testing.T, names string) (_ *Own, dir string) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs processes")
	}
	dir = t.TempDir()
	o, err := NewOwn(t.Context(), nodetest.Binary(), dir, 3, names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o, dir
}

// A round of each kind, with a cluster of its own: leaders change, and nothing is lost.
func TestRun(t *testing.T) {
	o, _ := own(t, "ANY 1 (*)")
	var out bytes.Buffer
	r, err := Run(t.Context(), Options{Cluster: o, Faults: []Fault{Kill, Switchover}, Rounds: 1, Clients: 2, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Kept() || !r.Lossless || r.Lost > 0 || r.Acknowledged == 0 || len(r.Rounds) != 2 || len(r.Summaries) != 2 {
		t.Errorf("report: %+v", r)
	}
	before := uint64(1)
	for _, one := range r.Rounds {
		if one.Epoch <= before || one.Pause <= 0 || (one.Rejoin > 0) != (one.Fault != Switchover) {
			t.Errorf("after epoch %d: %+v", before, one)
		}
		before = one.Epoch
	}
	r.Text(&out)
	t.Logf("%s", out.Bytes())
	var b bytes.Buffer
	var back Report
	if err := r.JSON(&b); err != nil || json.Unmarshal(b.Bytes(), &back) != nil || back.Acknowledged != r.Acknowledged || back.Rounds[1].Pause != r.Rounds[1].Pause {
		t.Errorf("as JSON (error %v): %s", err, b.Bytes())
	}
}

// The processes of a demo are found by their command lines, whoever has started them.
func TestDemo(t *testing.T) {
	o, dir := own(t, "")
	d, err := NewDemo(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Addresses(); strings.Join(got, " ") != strings.Join(o.Addresses(), " ") {
		t.Fatalf("addresses %v, want %v", got, o.Addresses())
	}
	victim := o.nodes[2]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.Pause(ctx, victim.Node); err != nil {
		t.Fatal(err)
	}
	if err := d.Kill(ctx, victim.Node); err != nil { // which it can be while it stands still
		t.Fatal(err)
	}
	<-victim.ended
	if _, err := d.pid(victim.Node); err == nil {
		t.Error("a dead node has a process")
	}
	if err := o.Start(ctx, victim.Node); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(ctx, victim.Node); err != nil {
		t.Fatal(err)
	}
	if err := d.Resume(ctx, victim.Node); err != nil {
		t.Fatal(err)
	}
	if _, err := NewDemo(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a demo is found where there is none")
	}
}

func TestCommands(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	c := &Commands{Nodes: []string{"h1:1"}, KillWith: `echo "killed $GAMEDAY_NODE $GAMEDAY_ADDRESS" >> ` + trace, PauseWith: "echo no >&2; false"}
	n := Node{"node1", "h1:1"}
	if err := c.Kill(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(trace); err != nil || string(got) != "killed node1 h1:1\n" {
		t.Errorf("the command was given %q, error %v", got, err)
	}
	if err := c.Start(t.Context(), n); err != nil {
		t.Errorf("without a command nodes are started by others: %v", err)
	}
	if err := c.Pause(t.Context(), n); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("a command that fails: %v", err)
	}
	if err := c.Resume(t.Context(), n); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("a command that is not there: %v", err)
	}
}

func TestReport(t *testing.T) {
	r := Report{Nodes: 3}
	for i := range 200 {
		r.Rounds = append(r.Rounds, Round{Fault: Kill, Pause: float64(200 - i), Rejoin: float64(i + 1), Failed: 1})
	}
	r.Rounds = append(r.Rounds, Round{Fault: Switchover, Pause: 7})
	r.summarize()
	want := []Summary{
		{Kill, 200, Spread{101, 198, 200}, &Spread{101, 198, 200}, 200},
		{Switchover, 1, Spread{7, 7, 7}, nil, 0},
	}
	got, _ := json.Marshal(r.Summaries)
	if expected, _ := json.Marshal(want); !bytes.Equal(got, expected) {
		t.Errorf("summaries\n%s, want\n%s", got, expected)
	}
	r.Problems = []string{"3 acknowledged writes are lost"}
	var b bytes.Buffer
	if r.Text(&b); r.Kept() || !strings.Contains(b.String(), "WRONG: 3 acknowledged") {
		t.Errorf("a cluster that has not kept its word is told so:\n%s", b.Bytes())
	}
}

func TestFailures(t *testing.T) {
	at := func(told int, o claims.Outcome, code string) claims.Write {
		return claims.Write{Told: time.Duration(told), Outcome: o, Code: code}
	}
	writes := []claims.Write{at(1, claims.Unknown, ""), at(5, claims.Unknown, "57P01"), at(6, claims.Acknowledged, ""), at(7, claims.Refused, "25006"), at(8, claims.Unknown, "57P01")}
	count, codes := failures(writes, 5)
	if count != 3 || codes["57P01"] != 2 || codes["25006"] != 1 || len(codes) != 2 {
		t.Errorf("%d: %v", count, codes)
	}
}
