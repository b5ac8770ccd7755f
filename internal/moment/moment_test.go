package moment

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

var datetimeTypes = []oid.OID{oid.Date, oid.Time, oid.TimeTZ, oid.Timestamp, oid.Timestamptz}

// TestAsPostgreSQL reads each text of the table as each type in each zone.
func TestAsPostgreSQL(t *testing.T) {
	table, err := os.ReadFile("testdata/postgresql.txt")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 24, 3, 15, 0, 0, time.UTC)
	zones := []*time.Location{time.UTC, zone(t, "Europe/Paris"), zone(t, "America/New_York")}
	text, answers := "", 0
	for line := range strings.Lines(string(table)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#':
			continue
		case line[0] == '"':
			if text, err = strconv.Unquote(line); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		want := strings.Split(strings.TrimSpace(rest), " | ")
		typ := oid.ByName(name)
		for i, in := range zones {
			got := answer(typ.OID, text, Reference{Zone: in, Now: now})
			if want := want[min(i, len(want)-1)]; got != want {
				t.Errorf("%s %q in %s: %s, PostgreSQL says %s", name, text, in, got, want)
			}
			answers++
		}
	}
	if answers < 5000 {
		t.Errorf("the table has %d answers only", answers)
	}
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// answer is what the table says: what is printed, or the error.
func answer(t oid.OID, text string, at Reference) string {
	i, err := Parse(t, []byte(text), at)
	var refused *sqlstate.Error
	if errors.As(err, &refused) {
		return string(refused.Code) + " " + strings.Replace(refused.Message, `"`+text+`"`, "%", 1)
	}
	out, err := AppendText(nil, t, Append(nil, t, i), at.Zone)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func TestNow(t *testing.T) {
	at := Reference{Zone: zone(t, "America/New_York"), Now: time.Date(2024, 7, 1, 2, 3, 4, 5678000, time.UTC)}
	for i, want := range []string{"2024-06-30", "22:03:04.005678", "22:03:04.005678-04", "2024-06-30 22:03:04.005678", "2024-06-30 22:03:04.005678-04"} {
		if got := answer(datetimeTypes[i], "now", at); got != want {
			t.Errorf("%s: %s, want %s", oid.ByOID(datetimeTypes[i]).Name, got, want)
		}
	}
}

func TestRound(t *testing.T) {
	for _, test := range []struct {
		text string
		mod  int32
		want string
	}{
		{"1999-01-01 00:00:00.5", 0, "1999-01-01 00:00:00"},
		{"1999-12-31 23:59:58.49", 0, "1999-12-31 23:59:58"},
		{"2000-01-01 00:00:00.5", 0, "2000-01-01 00:00:01"},
		{"2000-01-01 00:00:00.123456", 3, "2000-01-01 00:00:00.123"},
		{"2000-01-01 00:00:00.123456", -1, "2000-01-01 00:00:00.123456"},
		{"infinity", 0, "infinity"},
	} {
		i, err := Parse(oid.Timestamp, []byte(test.text), Reference{})
		if err != nil {
			t.Fatal(err)
		}
		i.N = Round(i.N, test.mod)
		if got := string(Append(nil, oid.Timestamp, i)); got != test.want {
			t.Errorf("%s to %d digits: %s, want %s", test.text, test.mod, got, test.want)
		}
	}
}

func TestZones(t *testing.T) {
	utc := At(time.Date(2020, 1, 1, 10, 0, 0, 0, time.UTC))
	for _, test := range []struct{ name, atTimeZone, session string }{
		{"UTC", "10:00:00+00", "10:00:00+00"},
		{"utc", "10:00:00+00", "10:00:00+00"},
		{"Europe/Paris", "11:00:00+01", "11:00:00+01"},
		{"america/new_york", "05:00:00-05", "05:00:00-05"},
		{"PST8PDT", "02:00:00-08", "02:00:00-08"},
		{"UTC+3", "07:00:00-03", "07:00:00-03"},
		{"<X>-3", "13:00:00+03", "13:00:00+03"},
		{"PST", "02:00:00-08", ""}, // SET TimeZone takes no abbreviations
		{"MSK", "13:00:00+03", ""},
		{"+05", "05:00:00-05", "15:00:00+05"}, // POSIX counts to the west, SET TimeZone reads hours
		{"5", "05:00:00-05", "15:00:00+05"},
		{"-3.5", "", "06:30:00-03:30"},
		{"-03:30:00", "06:30:00-03:30", "06:30:00-03:30"}, // an interval
		{"", "", ""},
		{"Local", "", ""},
		{"Nowhere", "", ""},
		{"../UTC", "", ""},
		{"+25", "", ""},
	} {
		for i, load := range []func(string) (*time.Location, error){LoadZone, SessionZone} {
			got, want := "", []string{test.atTimeZone, test.session}[i]
			if z, err := load(test.name); err == nil {
				got = strings.TrimPrefix(string(AppendIn(nil, utc, z)), "2020-01-01 ")
			}
			if got != want {
				t.Errorf("%q: %q, want %q", test.name, got, want)
			}
		}
	}
}

// FuzzParse: what is read is printed so that it reads as the same, and the canonical form reads the
// same at once as at length.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"January 8, 1999", "1/8/1999", "J2451187", "19990108T040506.789-0800", "Tue Oct 19 10:23:54 2004 PST", "today 12:00", "99 BC Jan 3", "1999.008",
		"2004-10-19 10:23:54 America/New_York", "allballs", "12:00 AM", "4714-11-24 BC", "294276-12-31 23:59:59.999999", "2024-02-29 23:59:59.5",
		"2024-02-29 24:00:00", "2024-02-29 23:59:60", "0000-01-01 01:02:03", "2024-02-29", "01:02:03.123456", "2024-02-29 01:02:03.", "2024-03-10 02:30:00",
		"2024-02-29T12:30:15Z", "2024-02-29 12:30:15.123-05:30", "2024-02-29 12:30:15+16", "2024-02-29 12:30:15+05:60",
	} {
		f.Add(seed)
	}
	at := Reference{Zone: zone(f, "America/New_York"), Now: time.Date(2024, 2, 29, 1, 2, 3, 4000, time.UTC)}
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range datetimeTypes {
			i, err := Parse(typ, []byte(text), at)
			if slow, other := parseAny(typ, []byte(text), at); slow != i || (err == nil) != (other == nil) {
				t.Fatalf("%s %q reads as %v, %v and as %v, %v", oid.ByOID(typ).Name, text, i, err, slow, other)
			}
			if err != nil {
				continue
			}
			stored := Append(nil, typ, i)
			if again, err := ParseStored(typ, stored); err != nil || again != i {
				t.Fatalf("%s %q: stored as %s, which reads as %v, not %v: %v", oid.ByOID(typ).Name, text, stored, again, i, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	at := Reference{Zone: zone(b, "America/New_York")}
	for _, text := range []string{"2024-02-29 12:30:15.123456", "2024-02-29T12:30:15.123456Z", "2024-02-29 12:30:15.123+00:00", "2024-02-29 12:30:15.123 +00:00", "2024-02-29 12:30:15 PST"} {
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(oid.Timestamptz, []byte(text), at); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
