package pgcatalog

import (
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// fakeSession is a session of postgres on database postgres.
type fakeSession struct {
	nobody
	settings map[string]string
	now      time.Time
	err      *sqlstate.Error
	locks    map[int64]bool
}

func (s *fakeSession) PID() uint32 { return 42 }
func (s *fakeSession) Setting(name string) (string, bool) {
	v, ok := s.settings[strings.ToLower(name)]
	return v, ok
}

func (s *fakeSession) SetSetting(name, value string, _ bool) error {
	s.settings[strings.ToLower(name)] = value
	return nil
}
func (s *fakeSession) Now() time.Time           { return s.now }
func (s *fakeSession) StatementTime() time.Time { return s.now }
func (s *fakeSession) TransactionID() int64     { return 7 }
func (s *fakeSession) AdvisoryLock(key int64, _, _, _ bool) (bool, error) {
	held := s.locks[key]
	s.locks[key] = true
	return !held, nil
}

func (s *fakeSession) AdvisoryUnlock(key int64, _ bool) bool {
	held := s.locks[key]
	delete(s.locks, key)
	return held
}
func (s *fakeSession) Fail(err *sqlstate.Error) { s.err = err }
func (s *fakeSession) Cluster() Cluster         { return fakeCluster{} }

type fakeCluster struct{ noCluster }

func (fakeCluster) Databases() []Database {
	return []Database{{ID: 2, Name: "postgres", Owner: "postgres"}, {ID: 3, Name: "other", Owner: "app"}}
}

func (fakeCluster) Roles() []Role {
	return []Role{{Name: "postgres", Superuser: true, CreateDB: true, CreateRole: true, Login: true}, {Name: "app", Login: true}}
}

func (fakeCluster) Settings() []Setting {
	return []Setting{{Name: "TimeZone", Value: "UTC"}, {Name: "search_path", Value: `"$user", public`}}
}
func (fakeCluster) CurrentLSN() uint64 { return 0x1_0000_002a }
func (fakeCluster) WalBytes() uint64   { return 4242 }

// testDB opens a connection in memory with everything registered, as the engine sets it up.
func testDB(t testing.TB) (*sqlite3.Conn, *fakeSession) {
	t.Helper()
	db, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	s := &fakeSession{
		settings: map[string]string{"timezone": "UTC", "server_version_num": "150000"}, locks: map[int64]bool{},
		now: time.Date(2024, 2, 29, 13, 14, 15, 123456000, time.UTC),
	}
	if err := Register(db, func() Session { return s }); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("PRAGMA case_sensitive_like=ON"); err != nil {
		t.Fatal(err)
	}
	return db, s
}

// rows runs a query and gives each row with | between the cells and NULL for NULL.
func rows(t testing.TB, db *sqlite3.Conn, sql string) []string {
	t.Helper()
	out, err := tryRows(db, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func tryRows(db *sqlite3.Conn, sql string) ([]string, error) {
	stmt, _, err := db.Prepare(sql)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	var out []string
	for stmt.Step() {
		var cells []string
		for i := range stmt.ColumnCount() {
			switch stmt.ColumnType(i) {
			case sqlite3.NULL:
				cells = append(cells, "NULL")
			case sqlite3.BLOB:
				cells = append(cells, byteaOut(stmt.ColumnRawBlob(i)))
			case sqlite3.FLOAT:
				cells = append(cells, formatFloat(stmt.ColumnFloat(i)))
			default:
				cells = append(cells, stmt.ColumnText(i))
			}
		}
		out = append(out, strings.Join(cells, "|"))
	}
	return out, stmt.Err()
}

func BenchmarkOpenAlone(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		db, err := sqlite3.Open(":memory:")
		if err != nil {
			b.Fatal(err)
		}
		db.Close()
	}
}

func BenchmarkOpenAndRegister(b *testing.B) {
	b.ReportAllocs()
	s := &fakeSession{}
	for b.Loop() {
		db, err := sqlite3.Open(":memory:")
		if err != nil {
			b.Fatal(err)
		}
		if err := Register(db, func() Session { return s }); err != nil {
			b.Fatal(err)
		}
		db.Close()
	}
}

func TestEverythingRegisters(t *testing.T) {
	db, _ := testDB(t)
	if got := rows(t, db, "SELECT version(), current_database(), now(), pg_backend_pid()"); got[0] != Version+"|postgres|2024-02-29 13:14:15.123456|42" {
		t.Fatal(got)
	}
	for i := range relations {
		if _, err := tryRows(db, "SELECT * FROM "+relations[i].name); err != nil {
			t.Errorf("%s: %v", relations[i].name, err)
		}
	}
}

// BenchmarkPerRow measures one evaluation of a function, with SQLite's own abs beside it.
func BenchmarkPerRow(b *testing.B) {
	for _, expr := range []string{"max(hex('abc'))", "max(lower('abc'))", "max(numeric_add('12.30', '0.05'))", "numeric_sum('12.30')", "max(cast_int4('42'))", "max('abc' REGEXP '^a')", "max(cast_timestamptz('2024-02-29 12:30:15.5'))", "max(cast_timestamp('2024-02-29T12:30:15.5Z'))"} {
		b.Run(expr, func(b *testing.B) {
			db, _ := testDB(b)
			const n = 100000
			expr := strings.ReplaceAll(expr, "'12.30'", "'12.3' || (i % 10)")
			for b.Loop() {
				rows(b, db, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000) SELECT "+expr+" FROM c WHERE i + 0 > 0")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}
