package engine

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"skein/internal/pgwire"
)

// memFile is a file in memory.
type memFile struct{ data []byte }

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if n := copy(b, f.data[min(off, int64(len(f.data))):]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.data = append(f.data[:off], b...)
	return len(b), nil
}

func (f *memFile) Close() error { return nil }

// heldRows makes the result of a cursor, some rows of which are larger than what is read at a time.
func heldRows(t *testing.T, random *rand.Rand, n int) (*held, [][]pgwire.Value) {
	t.Helper()
	h := &held{file: &memFile{}}
	var rows [][]pgwire.Value
	for range n {
		size := random.IntN(2000)
		if random.IntN(50) == 0 {
			size = random.IntN(3 * heldWindow)
		}
		row := []pgwire.Value{
			{},
			{Kind: pgwire.Int, Int: int64(random.Uint64())},
			{Kind: pgwire.Float, Float: random.NormFloat64()},
			{Kind: pgwire.Text, Bytes: bytes.Repeat([]byte("é"), size)},
			{Kind: pgwire.Blob, Bytes: []byte{}},
		}
		rows = append(rows, row)
		if err := h.add(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	return h, rows
}

func TestARowOfAHeldResultIsWhatItWasWhicheverWayItIsReached(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h, rows := heldRows(t, random, 400)
	at := 0
	for range 2000 {
		if at += random.IntN(21) - 10; random.IntN(40) == 0 {
			at = random.IntN(len(rows))
		}
		at = min(max(at, 0), len(rows)-1)
		if err := h.seek(int64(at + 1)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(h.row, rows[at]) {
			t.Fatalf("row %d is another", at)
		}
	}
}

// A flipped bit in the temporary file may give another value, as in any file without checksums, but is never more than an error.
func TestADamagedHeldResultIsAnError(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	whole, _ := heldRows(t, random, 20)
	data := whole.file.(*memFile).data
	refused := 0
	for range 3000 {
		torn := slices.Clone(data)
		torn[random.IntN(len(torn))] ^= 1 << random.IntN(8)
		h := &held{file: &memFile{torn}, bytes: whole.bytes, count: whole.count}
		for _, no := range []int64{whole.count, 1} {
			if err := h.seek(no); err != nil {
				if !errors.Is(err, errHeld) {
					t.Fatal(err)
				}
				refused++
				break
			}
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

func TestACursorThatIsHeldTakesNoMoreThanTheTemporarySpace(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), temp: 8 << 20}
	r.start()
	t.Cleanup(func() { r.stop() })
	c := r.dial()
	run(t, c, "CREATE TABLE t (a int PRIMARY KEY, b text)")
	run(t, c, "INSERT INTO t SELECT n, '"+strings.Repeat("x", 1000)+"' FROM generate_series(1, 3000) n")
	if code, _ := run(t, c, "DECLARE k SCROLL CURSOR WITH HOLD FOR SELECT * FROM t ORDER BY a"); code != "" {
		t.Fatal(code)
	}
	if r.space.UsedBytes() < 3000*1000 {
		t.Errorf("the temporary files have %d bytes", r.space.UsedBytes())
	}
	if code, got := run(t, c, "FETCH ABSOLUTE 2345 FROM k"); code != "" || got != "2345" {
		t.Errorf("row 2345: %s %s", code, got)
	}
	if code, _ := run(t, c, "DECLARE k2 CURSOR WITH HOLD FOR SELECT t.b, u.b FROM t, t u"); code != "53400" {
		t.Errorf("a result that is larger than the temporary space: %q", code)
	}
	run(t, c, "CLOSE k")
	if r.space.UsedBytes() != 0 {
		t.Errorf("%d bytes are left", r.space.UsedBytes())
	}
}
