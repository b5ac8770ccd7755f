package nodetest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Patch is a change to one source file, for a skein that is to misbehave.
type Patch struct {
	File     string // below the module, or below Go's own sources after "std:"
	Old, New string // Old must be there exactly once. Empty: New is a whole new file
}

// Build gives a skein with failpoints that is built from patched sources; the sources themselves stay as they are.
func Build(t testing.TB, patches ...Patch) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "skein")
	build := exec.Command("go", "build", "-tags", "failpoints", "-overlay", Overlay(t, patches...), "-o", to, "skein/cmd/skein")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build skein: %v\n%s", err, out)
	}
	return to
}

// Overlay gives a file for go's flag -overlay, with which it builds from patched sources.
func Overlay(t testing.TB, patches ...Patch) string {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, p := range patches {
		path := filepath.Join(root(t), p.File)
		if name, std := strings.CutPrefix(p.File, "std:"); std {
			path = filepath.Join(line(t, "go", "env", "GOROOT"), "src", name)
		}
		patched := overlay.Replace[path]
		text := p.New
		if p.Old != "" {
			from := path
			if patched != "" {
				from = patched
			}
			b, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), p.Old); n != 1 {
				t.Fatalf("%s holds %d times what is to be replaced: %s", p.File, n, p.Old)
			}
			text = strings.Replace(string(b), p.Old, p.New, 1)
		}
		if patched == "" {
			patched = filepath.Join(dir, strings.ReplaceAll(strings.ReplaceAll(p.File, "/", "_"), ":", "_"))
			overlay.Replace[path] = patched
		}
		if err := os.WriteFile(patched, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func root(t testing.TB) string {
	t.Helper()
	return filepath.Dir(line(t, "go", "env", "GOMOD"))
}

func line(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
