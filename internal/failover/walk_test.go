package failover

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var (
	walks   = flag.Int("walks", 200, "how many random histories TestWalks tries")
	seed    = flag.Uint64("seed", 1, "of the first of them")
	tally   = flag.Bool("tally", false, "TestWalks goes on after a violation and counts them")
	healing = flag.Bool("heal", true, "TestWalks mends everything in the end and waits for a leader")
	story   = flag.String("story", "", "file for what happened in the walk that was in violation")
)

const steps = 600

// walk tries one random history and says what was violated, "" if nothing was.
func walk(seed uint64) (wrong string, m *model) {
	m = newModel(seed)
	m.tracing = *story != ""
	defer func() {
		switch v := recover().(type) {
		case nil:
		case violation:
			wrong = string(v)
		default:
			panic(v)
		}
	}()
	m.settleIn()
	for range steps {
		m.step()
	}
	if !*healing {
		return "", m
	}
	if wrong := m.heal(); wrong != "" {
		return "I10: " + wrong, m
	}
	return "", m
}

// TestWalks tries random histories. A seed that it prints shows the same one again.
func TestWalks(t *testing.T) {
	violations, first := 0, 0
	for i := range *walks {
		wrong, m := walk(*seed + uint64(i))
		if wrong == "" {
			continue
		}
		violations++
		if first == 0 {
			first = i + 1
			t.Errorf("-seed %d: %s", *seed+uint64(i), wrong)
			if *story != "" {
				if err := os.WriteFile(*story, []byte(strings.Join(m.trace, "\n")), 0o644); err != nil {
					t.Error(err)
				}
			}
		}
		if !*tally {
			break
		}
	}
	if violations > 0 {
		t.Logf("caught in walk %d; %d of %d walks", first, violations, *walks)
	}
}
