package pagestore

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"skein/internal/history"
)

func TestACheckpointFileIsReadAsItWasWrittenOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	want := record{at: 5, reach: 7, states: map[history.DatabaseID]State{2: {5, 3, 99}, 4: {5, 0, 0}}}
	if err := want.write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := readRecord(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %+v (%v), want %+v", got, err, want)
	}
	path := filepath.Join(dir, checkpointFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, at int, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := readRecord(dir); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) && !errors.Is(err, errOlderFormat) {
			t.Errorf("%s at %d: read %+v (%v)", what, at, r, err)
		}
	}
	for i := range whole {
		try("cut off", i, whole[:i])
		b := append([]byte(nil), whole...)
		b[i] ^= 0x41
		try("a wrong byte", i, b)
	}
	try("one byte more", len(whole), append(whole, 0))
}
