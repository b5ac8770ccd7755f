package failover

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutations are mistakes, each of which breaks the argument for safety in one place: in the decisions, or in what a
// node of the model does. Random walks must find each of them.
var mutations = []mutation{
	{
		"answers count without a promise", "elect.go",
		"return d.honest(m, o) && o.Promise == d.Epoch", "return d.honest(m, o)",
	},
	{
		"positions are compared by LSN only", "elect.go",
		"return b.Position.Less(a.Position)", "return b.Position.LSN < a.Position.LSN",
	},
	{
		"entries of before commit without an epoch start", "model_test.go",
		"if mark < n.start {", "if false {",
	},
	{
		"one answer too few", "rules.go",
		"max(1, len(r.Members)-r.K+1)", "max(1, len(r.Members)-r.K)",
	},
	{
		"tainted nodes count", "elect.go",
		`o.Tainted == "" &&`, "",
	},
	{
		"older rules go before the new one is settled", "settle.go",
		"d.Rules = append(d.Rules, rule)", "d.Rules = []Rule{rule}",
	},
	{
		"older rules go at an appointment", "elect.go",
		"d.Rules = append(d.Rules, rule)", "d.Rules = []Rule{rule}",
	},
	{
		"a leader on its own is replaced like an asynchronous one", "rules.go",
		"return r.K > 0 && members >= r.needed()", "return members >= r.needed() || r.K == 0",
	},
	{
		"an asynchronous leader's lease is not waited for", "elect.go",
		"if d.facts.LeaseOver ||", "if true ||",
	},
	{
		"a leader begins its epoch twice", "model_test.go",
		"if n.position().Epoch >= d.Epoch {", "if n.position().Epoch > d.Epoch {",
	},
	{
		"whoever was appointed last is enough by itself", "rules.go",
		"a.Node == r.Leader ||", "true ||",
	},
	{
		"a node of the rule's own epoch is enough", "rules.go",
		"a.Position.Epoch > r.Epoch", "a.Position.Epoch >= r.Epoch",
	},
	{
		"a rule counts as never used although its leader began", "rules.go",
		"a.Node == r.Leader && a.Position.Epoch < r.Epoch", "a.Node == r.Leader && a.Position.Epoch <= r.Epoch",
	},
	{
		"the candidate does not wait for what its source had", "elect.go",
		"if higher(source, to) {", "if false {",
	},
	{
		"a source need not show the goal before the candidate cuts", "model_test.go",
		"if source && !up.shows(d.Goal) || !source && up.leading != d.Epoch {", "if !source && up.leading != d.Epoch {",
	},
	{
		"a node acknowledges what it has not flushed", "model_test.go",
		"epoch, incarnation, flushed := d.Epoch, n.incarnation, n.flushed", "epoch, incarnation, flushed := d.Epoch, n.incarnation, len(n.log)",
	},
	{
		"a leader has settled a rule as soon as it uses it", "model_test.go",
		"if mark >= n.goal &&", "if",
	},
}

type mutation struct{ name, file, right, wrong string }

var verdict = regexp.MustCompile(`caught in walk (\d+); (\d+) of (\d+) walks`)

// TestMutations runs TestWalks on the five that every version of these rules must be tried with; TestSoakMutations on all.
func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the package once for each mutation")
	}
	mutate(t, mutations[:5], "-walks", "3000")
}

func mutate(t *testing.T, mutations []mutation, flags ...string) {
	for _, m := range mutations {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			args := []string{"test", "-vet=off", "-overlay", overlay(t, m), "-run", "^TestWalks$", "-heal=false"}
			out, err := exec.Command("go", append(args, flags...)...).CombinedOutput()
			if err == nil {
				t.Fatalf("not caught:\n%s", out)
			}
			found := verdict.FindStringSubmatch(string(out))
			if found == nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("caught in walk %s; %s of %s walks", found[1], found[2], found[3])
		})
	}
}

// overlay makes a file that has go build take a changed copy of one source file.
func overlay(t *testing.T, m mutation) string {
	source, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.right); n != 1 {
		t.Fatalf("%s has %q %d times: bring the mutation up to date", m.file, m.right, n)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, m.file)
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.right, m.wrong, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
