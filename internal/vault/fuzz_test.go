package vault

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// realPages gives the pages of a database that SQLite has made, of all kinds.
func realPages(t testing.TB) [][]byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Exec(`PRAGMA page_size=4096;
		CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b REAL); CREATE INDEX t_a ON t (a);
		CREATE TABLE w (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID;
		INSERT INTO t SELECT value, hex(randomblob(value % 90)), value * 1.5 FROM generate_series(1, 3000);
		INSERT INTO t VALUES (-5, randomblob(9000), NULL), (9000000000000000000, '', 1e300);
		INSERT INTO w SELECT 'key ' || value, zeroblob(value) FROM generate_series(1, 900);
		DELETE FROM t WHERE id BETWEEN 500 AND 900`)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for ; len(b) >= pageSize; b = b[pageSize:] {
		all = append(all, b[:pageSize])
	}
	return all
}

// FuzzNode reads a page as one of a b-tree: whatever is on it, nothing outside is read, and nothing is believed.
func FuzzNode(f *testing.F) {
	for i, b := range realPages(f) {
		if i < 12 {
			f.Add(uint32(i+1), 4096, b)
		}
	}
	f.Fuzz(func(_ *testing.T, no uint32, usable int, b []byte) {
		page := make([]byte, pageSize)
		copy(page, b)
		n, err := parseNode(max(no, 1), page, max(480, min(usable, pageSize)))
		if err != nil {
			return
		}
		for i := range n.cells {
			c, err := n.cell(i)
			if err != nil {
				continue
			}
			_, _ = parseRecord(c.local)
		}
		_ = n.children(func(uint32) error { return nil })
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{3, 1, 15, 7, 'x'})
	f.Fuzz(func(_ *testing.T, b []byte) {
		values, err := parseRecord(b)
		if err == nil {
			for _, v := range values {
				_ = v.SQL()
			}
		}
	})
}

func FuzzCreateTable(f *testing.F) {
	f.Add(`CREATE TABLE "a b" (x INT, "y" TEXT DEFAULT 'z', CONSTRAINT c PRIMARY KEY (x DESC, y)) WITHOUT ROWID`)
	f.Add("CREATE TABLE t(a integer primary key, b generated always as (a) virtual, [c] decimal(10, 2) /* ) */, check (b > ')'))")
	f.Fuzz(func(t *testing.T, sql string) {
		table, err := parseTable(sql)
		if err != nil {
			return
		}
		for _, i := range append(table.kept, table.key...) {
			if i >= len(table.Columns) {
				t.Fatalf("%q: column %d of %d", sql, i, len(table.Columns))
			}
		}
	})
}

// FuzzDatabase has a transaction change a database, of which bytes are wrong anywhere.
func FuzzDatabase(f *testing.F) {
	all := realPages(f)
	f.Add(uint32(3), 100, byte(7), uint32(2), 3, byte(1))
	f.Add(uint32(1), 105, byte(0xff), uint32(1), 40, byte(9))
	f.Add(uint32(8), 3, byte(0xff), uint32(4), 0, byte(5))
	f.Fuzz(func(t *testing.T, no uint32, at int, value byte, no2 uint32, at2 int, value2 byte) {
		s := &scratch{dir: t.TempDir()}
		defer func() { _ = s.close() }()
		read := func(n uint32, dst []byte) error {
			copy(dst, all[n-1])
			if n == 1+no%uint32(len(all)) {
				dst[uint(at)%pageSize] = value
			}
			return nil
		}
		size := uint32(len(all))
		d := newDatabase(2, size, read, s)
		k := keeper{}
		kd := &kept{database: d, size: size, touched: map[uint32]bool{}, links: map[uint32]uint32{}, rows: map[uint32]uint32{}}
		for n := uint32(1); n <= size; n++ {
			kd.touched[n] = n%3 == 0 || n == 1+no2%size
		}
		_ = k.place(kd)
		over := layer{}
		page := make([]byte, pageSize)
		for n, on := range kd.touched {
			if !on {
				continue
			}
			_ = read(n, page)
			page[uint(at2)%pageSize] = value2
			slot, err := s.put(page)
			if err != nil {
				t.Fatal(err)
			}
			over[n] = slot
		}
		if _, err := d.apply(over, size-1); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzTail opens whatever lies in the vault.
func FuzzTail(f *testing.F) {
	var b bytes.Buffer
	w := &writer{w: &b}
	w.summary(summary{3, 4, 5, "why"})
	w.u32(1)
	w.u32(2)
	w.u32(9)
	w.links(map[uint32]uint32{3: 4})
	w.links(nil)
	w.u32(1)
	w.page(7, make([]byte, pageSize))
	w.bytes(footer(0))
	f.Add(b.Bytes())
	f.Add([]byte("SKEINVLT"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "1-2-3-00000000000000aa.log")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		tail, err := Open(path, t.TempDir())
		if err != nil {
			return
		}
		_ = tail.Each(func(*Transaction) error { return nil })
		page := make([]byte, pageSize)
		for _, id := range tail.Databases() {
			for _, at := range tail.parts[id].pages {
				_ = readPage(tail.file, tail.end+at, page)
			}
		}
		if err := tail.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRecordsAreReadAsSQLiteWritesThem(t *testing.T) {
	b := []byte{11, 0, 1, 4, 6, 7, 8, 9, 12, 16, 13, 17}
	b[0] = byte(len(b))
	b = append(b, 0x80)                      // 1: one byte
	b = append(b, 0x7f, 0xff, 0xff, 0xff)    // 4: four bytes
	b = append(b, 0xff, 0, 0, 0, 0, 0, 0, 1) // 6: eight bytes
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(-2.5))
	b = append(b, 1, 2)
	b = append(b, "it"...)
	values, err := parseRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"NULL", "-128", "2147483647", "-72057594037927935", "-2.5", "0", "1", "x''", "x'0102'", "''", "'it'"}
	for i, v := range values {
		if got := v.SQL(); got != want[i] {
			t.Errorf("value %d is %s, want %s", i, got, want[i])
		}
	}
	for _, v := range []struct {
		value Value
		want  string
	}{
		{Value{Kind: Text, Bytes: []byte("o'clock")}, "'o''clock'"},
		{Value{Kind: Text, Bytes: []byte{0xff, 'a'}}, "CAST(x'ff61' AS text)"},
		{Value{Kind: Text, Bytes: []byte{'a', 0}}, "CAST(x'6100' AS text)"},
		{Value{Kind: Real, Float: 3}, "3.0"},
		{Value{Kind: Real, Float: 1e300}, "1e+300"},
		{Value{Kind: Real, Float: math.Inf(-1)}, "-9e999"},
	} {
		if got := v.value.SQL(); got != v.want {
			t.Errorf("%+v is %s, want %s", v.value, got, v.want)
		}
	}
	for n := range len(b) {
		if _, err := parseRecord(b[:n]); err == nil && n > 0 {
			t.Errorf("the first %d bytes are read as a record", n)
		}
	}
}

func TestTablesAreReadFromTheirStatements(t *testing.T) {
	for sql, want := range map[string]struct {
		columns string
		key     string
		kept    string
		rowid   int
		without bool
	}{
		"CREATE TABLE t (a, b)":                                                                 {"a: b:", "", "ab", -1, false},
		"CREATE TABLE t(id INTEGER PRIMARY KEY, b)":                                             {"id:INTEGER b:", "id", "idb", 0, false},
		"CREATE TABLE t(id INTEGER PRIMARY KEY DESC, b)":                                        {"id:INTEGER b:", "id", "idb", -1, false},
		"CREATE TABLE t(id INT PRIMARY KEY, b)":                                                 {"id:INT b:", "id", "idb", -1, false},
		"create table t(b, id integer, primary key(id desc))":                                   {"b: id:integer", "id", "bid", 1, false},
		`CREATE TABLE "q""t" (a text, "b c" varchar(10), PRIMARY KEY ("b c", a)) WITHOUT ROWID`: {"a:text b c:varchar(10)", "b ca", "b ca", -1, true},
		"CREATE TABLE t (a INT, v AS (a+1), s INT GENERATED ALWAYS AS (a*2) STORED, n double precision NOT NULL DEFAULT (1), CHECK (n > 0))": {
			"a:INT v: s:INT n:double precision", "", "asn", -1, false,
		},
		"CREATE TABLE t (a numeric_text(10,2) COLLATE numeric CONSTRAINT \"skein_type_a\" CHECK (typeof(\"a\") IN ('text','null')), \"primary\" int -- the end\n)": {
			"a:numeric_text(10,2) primary:int", "", "aprimary", -1, false,
		},
	} {
		table, err := parseTable(sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		var columns, key, kept string
		for i, c := range table.Columns {
			if i > 0 {
				columns += " "
			}
			columns += c.Name + ":" + c.Type
		}
		for _, k := range table.Key() {
			key += k
		}
		for _, i := range table.kept {
			kept += table.Columns[i].Name
		}
		if columns != want.columns || key != want.key || kept != want.kept || table.rowid != want.rowid || table.WithoutRowid != want.without {
			t.Errorf("%s: columns %q, key %q, kept %q, rowid %d, %v", sql, columns, key, kept, table.rowid, table.WithoutRowid)
		}
	}
	for _, sql := range []string{"", "CREATE TABLE", "CREATE TABLE t", "CREATE TABLE t (", "CREATE TABLE t (a", "CREATE TABLE t (a,)", "CREATE TABLE t (a, PRIMARY KEY (b))", "CREATE VIRTUAL TABLE t USING fts5(a)"} {
		if table, err := parseTable(sql); err == nil {
			t.Errorf("%s: %+v", sql, table)
		}
	}
}

func TestAScratchKeepsPagesInMemoryAndBeyond(t *testing.T) {
	s := &scratch{dir: t.TempDir()}
	page := make([]byte, pageSize)
	put := func(i int) int64 {
		binary.LittleEndian.PutUint64(page, uint64(i))
		slot, err := s.put(page)
		if err != nil {
			t.Fatal(err)
		}
		return slot
	}
	const n = memorySlots + 100
	var slots []int64
	for i := range n {
		slots = append(slots, put(i))
	}
	s.release(slots[7])
	s.release(absent)
	if slots[7] = put(7); slots[7] != 7 || s.next != n {
		t.Errorf("a page that was released is not used again: %d of %d", slots[7], s.next)
	}
	for i, slot := range slots {
		if err := s.get(slot, page); err != nil || binary.LittleEndian.Uint64(page) != uint64(i) {
			t.Fatalf("page %d: %d, %v", i, page[0], err)
		}
	}
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Errorf("its file has a name: %v", left)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}
