package replog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Whenever the power goes, and whatever it leaves of what was not synced, the file can be read, and holds what was
// written last, or what was being written.
func TestATwinSurvivesPowerCuts(t *testing.T) { // P1
	rng := rand.New(rand.NewPCG(*powerSeed, 3))
	dir := t.TempDir()
	var written, trying []byte
	d := newSimDisk(t, dir, 0)
	for cut := range 600 {
		d.left = rng.IntN(12)
		twin, got, err := openTwin(d, filepath.Join(dir, "twin"))
		if errors.Is(err, errPowerLoss) {
			dir = d.restart(t, rng)
			d = newSimDisk(t, dir, 0)
			continue
		}
		if err != nil {
			t.Fatalf("after %d power cuts: %v", cut, err)
		}
		if !bytes.Equal(got, written) && !bytes.Equal(got, trying) {
			t.Fatalf("after %d power cuts: %q, with %q written and %q being written", cut, got, written, trying)
		}
		written = got
		for err == nil {
			trying = make([]byte, 1+rng.IntN(MaxTwin))
			for i := range trying {
				trying[i] = byte(rng.Uint32())
			}
			if err = twin.Write(trying); err == nil {
				written = trying
			}
		}
		if !errors.Is(err, errPowerLoss) {
			t.Fatal(err)
		}
		_ = twin.Close()
		if rng.IntN(3) == 0 {
			d = d.killed()
			continue
		}
		dir = d.restart(t, rng)
		d = newSimDisk(t, dir, 0)
	}
	if written == nil {
		t.Error("nothing was ever written")
	}
}

func TestATwinSurvivesDamageToEitherCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "twin")
	twin, got, err := OpenTwin(path)
	if err != nil || got != nil {
		t.Fatal(got, err)
	}
	for _, s := range []string{"first", "second", ""} {
		if err := twin.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]int64{{}, {9}, {20}, {twinBytes}, {twinBytes + 5}, {2*twinBytes - 1}, {0, twinBytes}, {30, twinBytes + 30}} {
			spoilt := filepath.Join(t.TempDir(), "twin")
			damaged := bytes.Clone(b)
			for _, at := range bad {
				damaged[at] ^= 1
			}
			if err := os.WriteFile(spoilt, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			again, got, err := OpenTwin(spoilt)
			if len(bad) == 2 {
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("with both copies damaged: %q %v", got, err)
				}
				continue
			}
			if err != nil || string(got) != s || got == nil {
				t.Errorf("with byte %v changed: %q %v, want %q", bad, got, err, s)
				continue
			}
			_ = again.Close()
		}
	}
	if err := twin.Write(make([]byte, MaxTwin+1)); err == nil {
		t.Error("more than fits was written")
	}
	if err := twin.Close(); err != nil {
		t.Error(err)
	}
}
