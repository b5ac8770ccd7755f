package pgwire

import (
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

func load(t testing.TB, zone string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func codeOf(err error) string {
	var e *sqlstate.Error
	if errors.As(err, &e) {
		return string(e.Code)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// stored spells a Value for comparison: i7, f1.5, t'x', b'00ff', null.
func stored(v Value) string {
	switch v.Kind {
	case Int:
		return "i" + string(appendInt(nil, v.Int))
	case Float:
		return "f" + string(appendFloat(nil, v.Float, 64, nil))
	case Text:
		return string(v.Bytes)
	case Blob:
		return "b" + hex.EncodeToString(v.Bytes)
	}
	return "null"
}

// TestTextInput: what is stored for a text parameter, and what a client then reads. The expectations
// are PostgreSQL's.
func TestTextInput(t *testing.T) {
	env := &Env{TimeZone: load(t, "America/New_York"), Now: time.Date(2024, 2, 29, 17, 30, 0, 0, time.UTC)}
	for _, c := range []struct {
		typ         oid.OID
		in          string
		stored, out string // out "" is stored; a SQLSTATE in stored is an error
	}{
		{oid.Bool, "t", "i1", "t"},
		{oid.Bool, " TRUE ", "i1", "t"},
		{oid.Bool, "of", "i0", "f"},
		{oid.Bool, "o", "22P02", ""},
		{oid.Bool, "", "22P02", ""},
		{oid.Int2, "-32768", "i-32768", "-32768"},
		{oid.Int2, "32768", "22003", ""},
		{oid.Int4, " 42 ", "i42", "42"},
		{oid.Int4, "1_000", "22P02", ""},
		{oid.Int4, "0x10", "22P02", ""},
		{oid.Int8, "9223372036854775808", "22003", ""},
		{oid.OIDType, "-1", "i4294967295", "4294967295"},
		{oid.Float8, "1.5", "f1.5", "1.5"},
		{oid.Float8, "0.1", "f0.1", "0.1"},
		{oid.Float8, "1e15", "f1e+15", "1e+15"},
		{oid.Float8, "123456789012345", "f123456789012345", "123456789012345"},
		{oid.Float8, "1e-5", "f1e-05", "1e-05"},
		{oid.Float8, "-0", "f-0", "-0"},
		{oid.Float8, "inf", "fInfinity", "Infinity"},
		{oid.Float8, "-Infinity", "f-Infinity", "-Infinity"},
		{oid.Float8, "NaN", "0A000", ""},
		{oid.Float8, "1e400", "22003", ""},
		{oid.Float8, "1e-400", "22003", ""},
		{oid.Float8, "0x1p4", "22P02", ""},
		{oid.Float4, "1234567", "f1234567", "1.234567e+06"},
		{oid.Float4, "0.1", "f0.10000000149011612", "0.1"},
		{oid.Numeric, "012.30", "12.30", ""},
		{oid.Numeric, "-.5", "-0.5", ""},
		{oid.Numeric, "5.", "5", ""},
		{oid.Numeric, "1.5e3", "1500", ""},
		{oid.Numeric, "1.50e-3", "0.00150", ""},
		{oid.Numeric, "-0.00", "0.00", ""},
		{oid.Numeric, "nan", "NaN", ""},
		{oid.Numeric, "-inf", "-Infinity", ""},
		{oid.Numeric, "1e200000", "22003", ""},
		{oid.Numeric, ".", "22P02", ""},
		{oid.Numeric, "1 2", "22P02", ""},
		{oid.Numeric, "79228162514264337593543950335.000000000000000001", "79228162514264337593543950335.000000000000000001", ""},
		{oid.Text, "", "", ""},
		{oid.Text, "a\x00b", "22021", ""},
		{oid.Text, "\xff", "22021", ""},
		{oid.Char, "abc", "a", ""},
		{oid.Name, strings.Repeat("x", 70), strings.Repeat("x", 63), ""},
		{oid.Bytea, `\xDEad`, "bdead", `\xdead`},
		{oid.Bytea, `\x de ad `, "bdead", `\xdead`},
		{oid.Bytea, `a\\b\000`, "b615c6200", `\x615c6200`},
		{oid.Bytea, `\xabc`, "22023", ""},
		{oid.Bytea, `\q`, "22P02", ""},
		{oid.UUID, "{A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", ""},
		{oid.UUID, "a0eebc99", "22P02", ""},
		{oid.JSON, `{"a": 1}`, `{"a": 1}`, ""},
		{oid.JSONB, `{"a": }`, "22P02", ""},
		{oid.PgLSN, "1/ff", "1/FF", ""},

		{oid.Date, "1999-01-08", "1999-01-08", ""},
		{oid.Date, "January 8, 1999", "1999-01-08", ""},
		{oid.Date, "1/8/1999", "1999-01-08", ""},
		{oid.Date, "1999-Jan-08", "1999-01-08", ""},
		{oid.Date, "Jan-08-1999", "1999-01-08", ""},
		{oid.Date, "08-Jan-1999", "1999-01-08", ""},
		{oid.Date, "19990108", "1999-01-08", ""},
		{oid.Date, "1999.008", "1999-01-08", ""},
		{oid.Date, "J2451187", "1999-01-08", ""},
		{oid.Date, "January 8, 99 BC", "0099-01-08 BC", ""},
		{oid.Date, "0044-03-15 BC", "0044-03-15 BC", ""},
		{oid.Date, "infinity", "infinity", ""},
		{oid.Date, "-infinity", "-infinity", ""},
		{oid.Date, "epoch", "1970-01-01", ""},
		{oid.Date, "today", "2024-02-29", ""},
		{oid.Date, "tomorrow", "2024-03-01", ""},
		{oid.Date, "2023-02-29", "22008", ""},
		{oid.Date, "2023-13-01", "22008", ""},
		{oid.Date, "0000-01-01", "22008", ""},
		{oid.Date, "500000000000000000-01-01", "22008", ""},
		{oid.Date, "abc", "22007", ""},
		{oid.Date, "", "22007", ""},
		{oid.Date, "2020-01-01 10:00:00", "2020-01-01", ""},
		{oid.Date, "5874898-01-01", "22008", ""},

		{oid.Time, "04:05:06.789", "04:05:06.789", ""},
		{oid.Time, "04:05", "04:05:00", ""},
		{oid.Time, "040506", "04:05:06", ""},
		{oid.Time, "04:05 PM", "16:05:00", ""},
		{oid.Time, "12:00 AM", "00:00:00", ""},
		{oid.Time, "24:00:00", "24:00:00", ""},
		{oid.Time, "allballs", "00:00:00", ""},
		{oid.Time, "25:00", "22008", ""},
		{oid.Time, "2020-01-01 04:05:06", "04:05:06", ""},
		{oid.TimeTZ, "04:05:06-08:00", "04:05:06-08", ""},
		{oid.TimeTZ, "04:05:06.5+05:30", "04:05:06.5+05:30", ""},
		{oid.TimeTZ, "2024-07-01 04:05:06 America/New_York", "04:05:06-04", ""},

		{oid.Timestamp, "2004-10-19 10:23:54", "2004-10-19 10:23:54", ""},
		{oid.Timestamp, "2004-10-19T10:23:54.1234567Z", "2004-10-19 10:23:54.123457", ""},
		{oid.Timestamp, "2004-10-19 10:23:54.120+02", "2004-10-19 10:23:54.12", ""},
		{oid.Timestamp, "20041019T102354", "2004-10-19 10:23:54", ""},
		{oid.Timestamp, "Tue Oct 19 10:23:54 2004", "2004-10-19 10:23:54", ""},
		{oid.Timestamp, "2004-10-19", "2004-10-19 00:00:00", ""},
		{oid.Timestamp, "0044-03-15 10:00:00 BC", "0044-03-15 10:00:00 BC", ""},
		{oid.Timestamp, "now", "2024-02-29 12:30:00", ""},
		{oid.Timestamp, "294277-01-01 00:00:00", "22008", ""},
		{oid.Timestamp, "2004-10-19 24:00:00", "2004-10-20 00:00:00", ""},

		// Text output is in the session's zone, New York.
		{oid.Timestamptz, "2004-10-19 10:23:54+02", "2004-10-19 08:23:54", "2004-10-19 04:23:54-04"},
		{oid.Timestamptz, "2004-01-19 10:23:54", "2004-01-19 15:23:54", "2004-01-19 10:23:54-05"},
		{oid.Timestamptz, "2004-01-19 10:23:54 Europe/Paris", "2004-01-19 09:23:54", "2004-01-19 04:23:54-05"},
		{oid.Timestamptz, "2004-01-19 10:23:54 PST", "2004-01-19 18:23:54", "2004-01-19 13:23:54-05"},
		{oid.Timestamptz, "2024-03-10 02:30:00", "2024-03-10 07:30:00", "2024-03-10 03:30:00-04"}, // skipped
		{oid.Timestamptz, "2024-11-03 01:30:00", "2024-11-03 06:30:00", "2024-11-03 01:30:00-05"}, // twice
		{oid.Timestamptz, "1800-01-01 00:00:00", "1800-01-01 04:56:02", "1800-01-01 00:00:00-04:56:02"},
		{oid.Timestamptz, "infinity", "infinity", "infinity"},
		{oid.Timestamptz, "2004-01-19 10:23:54 Nowhere/Land", "22023", ""},
		{oid.Timestamptz, "2004-01-19 10:23:54+16", "22009", ""},

		{oid.Interval, "1 day 02:00:00", "1 day 02:00:00", ""},
		{oid.Interval, "1 year 2 months 3 days 4 hours 5 minutes 6.789 seconds", "1 year 2 mons 3 days 04:05:06.789", ""},
		{oid.Interval, "@ 1 hour ago", "-01:00:00", ""},
		{oid.Interval, "-1 mon +2 days -00:00:01", "-1 mons +2 days -00:00:01", ""},
		{oid.Interval, "P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06", ""},
		{oid.Interval, "1-2", "1 year 2 mons", ""},
		{oid.Interval, "3 4:05:06", "3 days 04:05:06", ""},
		{oid.Interval, "1.5 days", "1 day 12:00:00", ""},
		{oid.Interval, "1.5 months", "1 mon 15 days", ""},
		{oid.Interval, "2 weeks", "14 days", ""},
		{oid.Interval, "90", "00:01:30", ""},
		{oid.Interval, "100:00:00", "100:00:00", ""},
		{oid.Interval, "0", "00:00:00", ""},
		{oid.Interval, "1 fortnight", "22007", ""},
		{oid.Interval, "9999999999 years", "22008", ""},

		{oid.Int4Array, "{1, 2,NULL}", "{1,2,NULL}", ""},
		{oid.Int4Array, "{{1,2},{3,4}}", "{{1,2},{3,4}}", ""},
		{oid.Int4Array, "[0:1]={1,2}", "[0:1]={1,2}", ""},
		{oid.Int4Array, "{}", "{}", ""},
		{oid.Int4Array, "{a}", "22P02", ""},
		{oid.Int4Array, "{1,{2}}", "22P02", ""},
		{oid.Int4Array, "{{1},{2,3}}", "22P02", ""},
		{oid.Int4Array, "{1", "22P02", ""},
		{oid.Int4Array, "{1}x", "22P02", ""},
		{oid.Int4Array, "[1:3]={1,2}", "22P02", ""},
		{oid.TextArray, `{a,"b c","","NULL",null,"\"q\\"}`, `{a,"b c","","NULL",NULL,"\"q\\"}`, ""},
		{oid.BoolArray, "{true,false,NULL}", "{t,f,NULL}", ""},
		{oid.ByteaArray, `{"\\x01"}`, `{"\\x01"}`, ""},
		{oid.TimestamptzArray, `{"2004-10-19 10:23:54+02"}`, `{"2004-10-19 08:23:54"}`, `{"2004-10-19 04:23:54-04"}`},
	} {
		v, err := Decode(c.typ, -1, TextFormat, []byte(c.in), env)
		if err != nil {
			if codeOf(err) != c.stored {
				t.Errorf("%s %q: %v, want %s", typeName(c.typ), c.in, err, c.stored)
			}
			continue
		}
		if stored(v) != c.stored {
			t.Errorf("%s %q: stored %s, want %s", typeName(c.typ), c.in, stored(v), c.stored)
			continue
		}
		want := c.out
		if want == "" {
			want = c.stored
		}
		if out, err := Append(nil, c.typ, TextFormat, v, env); err != nil || string(out) != want {
			t.Errorf("%s %q: printed %q %v, want %q", typeName(c.typ), c.in, out, err, want)
		}
		// The binary form must lead back to the same value.
		raw, err := Append([]byte{}, c.typ, BinaryFormat, v, env)
		if err != nil {
			t.Errorf("%s %q: binary: %v", typeName(c.typ), c.in, err)
			continue
		}
		if back, err := Decode(c.typ, -1, BinaryFormat, raw, env); err != nil || stored(back) != c.stored {
			t.Errorf("%s %q: through binary %x: %s %v, want %s", typeName(c.typ), c.in, raw, stored(back), err, c.stored)
		}
	}
}

// TestBinaryForms: bytes as PostgreSQL sends them.
func TestBinaryForms(t *testing.T) {
	for _, c := range []struct {
		typ oid.OID
		in  string
		hex string
	}{
		{oid.Int2, "258", "0102"},
		{oid.Int8, "-1", "ffffffffffffffff"},
		{oid.Float4, "1.5", "3fc00000"},
		{oid.Numeric, "12345.678", "00030001000000030001" + "0929" + "1a7c"},
		{oid.Numeric, "-0.0001", "0001ffff400000040001"},
		{oid.Numeric, "0.00", "0000000000000002"},
		{oid.Numeric, "10000", "00010001000000000001"},
		{oid.Date, "2000-01-02", "00000001"},
		{oid.Date, "infinity", "7fffffff"},
		{oid.Timestamp, "2000-01-01 00:00:01", "00000000000f4240"},
		{oid.Timestamptz, "1999-12-31 23:59:59+00", "fffffffffff0bdc0"},
		{oid.Interval, "1 mon 2 days 00:00:01", "00000000000f42400000000200000001"},
		{oid.TimeTZ, "00:00:01+01", "00000000000f4240fffff1f0"},
		{oid.UUID, "00112233-4455-6677-8899-aabbccddeeff", "00112233445566778899aabbccddeeff"},
		{oid.JSONB, "1", "0131"},
		{oid.Int4Array, "{1,NULL}", "0000000100000001000000170000000200000001" + "0000000400000001ffffffff"},
		{oid.Int4Array, "{}", "000000000000000000000017"},
	} {
		v, err := Decode(c.typ, -1, TextFormat, []byte(c.in), nil)
		if err != nil {
			t.Fatal(c.in, err)
		}
		raw, err := Append(nil, c.typ, BinaryFormat, v, nil)
		if err != nil || hex.EncodeToString(raw) != c.hex {
			t.Errorf("%s %q: %x %v, want %s", typeName(c.typ), c.in, raw, err, c.hex)
		}
	}
}

// TestValueOfAnotherClass: SQLite's columns hold what they like; see Append.
func TestValueOfAnotherClass(t *testing.T) {
	text := func(s string) Value { return Value{Kind: Text, Bytes: []byte(s)} }
	for _, c := range []struct {
		typ  oid.OID
		in   Value
		want string
	}{
		{oid.Text, Value{Kind: Int, Int: 7}, "7"},
		{oid.Text, Value{Kind: Float, Float: 1e20}, "1e+20"},
		{oid.Text, Value{Kind: Blob, Bytes: []byte{0xff}}, `\xff`},
		{oid.Numeric, Value{Kind: Float, Float: 1.5}, "1.5"},
		{oid.Numeric, Value{Kind: Float, Float: 1e20}, "100000000000000000000"},
		{oid.Numeric, Value{Kind: Int, Int: -3}, "-3"},
		{oid.Numeric, text("abc"), "22P02"},
		{oid.Int4, text("12"), "12"},
		{oid.Int4, text("abc"), "22P02"},
		{oid.Int4, Value{Kind: Float, Float: 3}, "3"},
		{oid.Int4, Value{Kind: Float, Float: 3.5}, "22P02"},
		{oid.Int4, Value{Kind: Int, Int: math.MaxInt64}, "22003"},
		{oid.Float8, Value{Kind: Int, Int: 3}, "3"},
		{oid.Float8, text("2.5"), "2.5"},
		{oid.Bool, Value{Kind: Int, Int: 5}, "t"},
		{oid.Bool, text("no"), "f"},
		{oid.Bytea, text("abc"), `\x616263`},
		{oid.Date, text("2020-01-01 10:00:00"), "2020-01-01"},
		{oid.Date, Value{Kind: Int, Int: 5}, "22007"},
		{oid.Timestamp, text("2020-01-01"), "2020-01-01 00:00:00"},
		{oid.Regclass, Value{Kind: Int, Int: 1259}, "1259"},
		{oid.Void, text("x"), ""},
	} {
		out, err := Append(nil, c.typ, TextFormat, c.in, nil)
		got := string(out)
		if err != nil {
			got = codeOf(err)
		}
		if got != c.want {
			t.Errorf("%s of %s: %s, want %s", typeName(c.typ), stored(c.in), got, c.want)
		}
	}
}

func TestModifiers(t *testing.T) {
	for _, c := range []struct {
		typ      oid.OID
		args, in string
		want     string
	}{
		{oid.Numeric, "4,2", "12.345", "12.35"},
		{oid.Numeric, "4,2", "-0.005", "-0.01"},
		{oid.Numeric, "4,2", "99.995", "22003"},
		{oid.Numeric, "4,2", "1", "1.00"},
		{oid.Numeric, "2", "9.4", "9"},
		{oid.Numeric, "2", "99.5", "22003"},
		{oid.Varchar, "3", "äöü", "äöü"},
		{oid.Varchar, "3", "abc  ", "abc"},
		{oid.Varchar, "3", "abcd", "22001"},
		{oid.Timestamp, "0", "2000-01-01 00:00:00.5", "2000-01-01 00:00:01"},
		{oid.Timestamp, "3", "1999-01-01 00:00:00.12345", "1999-01-01 00:00:00.123"},
	} {
		v, err := Decode(c.typ, oid.Modifier(c.typ, c.args), TextFormat, []byte(c.in), nil)
		got := stored(v)
		if err != nil {
			got = codeOf(err)
		}
		if got != c.want {
			t.Errorf("%s(%s) %q: %s, want %s", typeName(c.typ), c.args, c.in, got, c.want)
		}
	}
}

func TestSettingsOfOutput(t *testing.T) {
	blob := Value{Kind: Blob, Bytes: []byte("a\\\x00\xff")}
	if out, _ := Append(nil, oid.Bytea, TextFormat, blob, &Env{ByteaOutput: "escape"}); string(out) != `a\\\000\377` {
		t.Errorf("escape: %s", out)
	}
	third := Value{Kind: Float, Float: 1.0 / 3}
	if out, _ := Append(nil, oid.Float8, TextFormat, third, &Env{ExtraFloatDigits: -10}); string(out) != "0.33333" {
		t.Errorf("digits: %s", out)
	}
	million := Value{Kind: Float, Float: 1e20}
	if out, _ := Append(nil, oid.Float8, TextFormat, million, &Env{ExtraFloatDigits: -10}); string(out) != "1e+20" {
		t.Errorf("digits: %s", out)
	}
}

// TestBadBinary: binary parameters that cannot be values of their type.
func TestBadBinary(t *testing.T) {
	for _, c := range []struct {
		typ oid.OID
		hex string
	}{
		{oid.Int4, "00"},
		{oid.Bool, ""},
		{oid.Numeric, "00010000000000002710"}, // a digit of 10000
		{oid.Numeric, "ffff000000000000"},     // more digits than there are
		{oid.Numeric, "0000000012340000"},     // no such sign
		{oid.Timestamp, "00"},                 //
		{oid.Timestamp, "7ffffffffffffffe"},   // beyond the last year
		{oid.UUID, "00"},                      //
		{oid.JSONB, "0231"},                   // version 2
		{oid.Int4Array, "00000007"},           // seven dimensions
		{oid.Int4Array, "0000000100000000000000190000000100000001" + "0000000131"}, // text elements
		{oid.Int4Array, "0000000100000000000000177fffffff00000001"},                // announced, not sent
		{oid.Text, "ff"},
	} {
		raw, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := Decode(c.typ, -1, BinaryFormat, raw, nil); err == nil {
			t.Errorf("%s %s: %s", typeName(c.typ), c.hex, stored(v))
		}
	}
}
