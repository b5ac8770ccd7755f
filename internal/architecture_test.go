// Package internal_test checks the shape of the whole module: which package may import which.
package internal_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// layers lists the packages of internal from bottom to top. A package may import only what stands
// in a lower row, so packages of one row do not know each other. A package that is not listed fails
// the test until somebody has decided where it belongs.
var layers = [][]string{
	{"child", "fault", "oid", "rest", "sqlstate"},
	{"history", "moment"},
	{"watermark"},
	{"replog"},
	{"pagestore"},
	{"vault"},
	{"sqlitevfs"},
	{"commit"},
	{"failover"},
	{"dialect", "overview"},
	{"pgcatalog"},
	{"pgwire"},
	{"engine"},
	{"admin"},
	{"control"},
	{"replication"},
	{"pool"},
	{"router"},
	{"gateway", "node"},
	{"claims"},
	{"guarantees"},
	{"nodetest", "pgscript", "shell"},
	{"clustertest", "console", "crashtest", "demo", "gameday"},
}

const module = "skein/"

// TestImportsPointDownward reads every source file whatever its build tags, so a package that only
// a tagged build uses obeys the order too. Test files are free: an engine test may use a wire client.
func TestImportsPointDownward(t *testing.T) {
	rank := map[string]int{}
	for row, names := range layers {
		for _, name := range names {
			rank[name] = row
		}
	}

	t.Chdir("..")
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipHidden(path, entry)
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		imports, err := moduleImports(path)
		if err != nil {
			return err
		}
		from := internalName(filepath.ToSlash(filepath.Dir(path)))
		for _, problem := range upward(rank, from, imports) {
			t.Errorf("%s: %s", path, problem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpwardImportsAreNamed(t *testing.T) {
	rank := map[string]int{"oid": 0, "sqlstate": 0, "replog": 1, "engine": 2}
	for _, test := range []struct {
		name     string
		from     string
		imports  []string
		problems int
	}{
		{"downward", "engine", []string{"skein/internal/replog", "skein/internal/oid"}, 0},
		{"upward", "replog", []string{"skein/internal/engine"}, 1},
		{"sideways", "oid", []string{"skein/internal/sqlstate"}, 1},
		{"own subpackage", "engine", []string{"skein/internal/engine/pool"}, 0},
		{"a command", "engine", []string{"skein/cmd/skein"}, 1},
		{"unlisted importer", "util", nil, 1},
		{"unlisted import", "engine", []string{"skein/internal/util"}, 1},
		{"outside internal", "", []string{"skein/internal/engine"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := upward(rank, test.from, test.imports); len(got) != test.problems {
				t.Errorf("%d problems, want %d: %q", len(got), test.problems, got)
			}
		})
	}
}

// TestDurationsAreNotOfTheWallClock looks for time.Time made into nanoseconds since 1970: that is never shown to anybody, so whoever does it
// measures a duration, which a clock that is set makes hours long. The difference of two time.Time is not.
func TestDurationsAreNotOfTheWallClock(t *testing.T) {
	t.Chdir("..")
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil {
				err = skipHidden(path, entry)
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), ".UnixNano()") || strings.Contains(string(b), ".UnixMilli()") {
			t.Errorf("%s measures by the wall clock", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// upward says what is wrong with the imports of one file of package from; "" stands for a package
// outside internal, which may import everything.
func upward(rank map[string]int, from string, imports []string) []string {
	if from == "" {
		return nil
	}
	own, listed := rank[from]
	if !listed {
		return []string{fmt.Sprintf("package internal/%s has no place in the layers of architecture_test.go", from)}
	}
	var problems []string
	for _, path := range imports {
		to := internalName(strings.TrimPrefix(path, module))
		other, listed := rank[to]
		switch {
		case to == from:
		case to == "":
			problems = append(problems, "imports "+path+", which is outside internal")
		case !listed:
			problems = append(problems, "imports "+path+", which has no place in the layers")
		case other >= own:
			problems = append(problems, "imports "+path+", which does not stand below it")
		}
	}
	return problems
}

// internalName gives "engine" for internal/engine and all below it, and "" for any other path.
func internalName(path string) string {
	below, inside := strings.CutPrefix(path, "internal/")
	if !inside {
		return ""
	}
	name, _, _ := strings.Cut(below, "/")
	return name
}

// moduleImports lists the packages of this module that a file imports.
func moduleImports(path string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(name, module) {
			own = append(own, name)
		}
	}
	return own, nil
}

// skipHidden leaves out what the go command leaves out too: .git, testdata, _drafts.
func skipHidden(path string, entry fs.DirEntry) error {
	name := entry.Name()
	if path != "." && (name[0] == '.' || name[0] == '_' || name == "testdata" || name == "node_modules") {
		return filepath.SkipDir
	}
	return nil
}
