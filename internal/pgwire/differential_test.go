package pgwire

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/oid"
)

// differentialInputs are texts that the types of a group read; the test also makes new ones of them.
var differentialInputs = map[string][]string{
	"bool int2 int4 int8 float4 float8 numeric oid": {
		"1", "-1", "0", "32768", "2147483648", "9223372036854775807", " 42 ", "+7", "1.5", "-0.5", ".5", "5.", "1e3", "1.50e-3", "-0", "00.10",
		"1e15", "123456.7", "1234567.8", "1e-5", "0.0001", "inf", "-Infinity", "nan", "t", "yes", "off", "1e400", "99999999999999999999.99", "1e-400", "1_0",
	},
	"date time timetz timestamp timestamptz": {
		"1999-01-08", "January 8, 1999", "1/8/1999", "1999-Jan-08", "Jan-08-1999", "08-Jan-1999", "19990108", "1999.008", "J2451187", "Jan 8, 99 BC", "infinity", "epoch",
		"04:05:06.789", "04:05", "040506", "04:05 PM", "12:00 AM", "24:00:00", "allballs", "04:05:06-08:00", "2004-10-19 10:23:54", "2004-10-19T10:23:54.1234567Z",
		"20041019T102354", "Tue Oct 19 10:23:54 2004", "2004-10-19 10:23:54 PST", "2004-10-19 10:23:54+05:30", "2024-03-10 02:30:00", "2024-11-03 01:30:00", "0044-03-15 10:00:00 BC",
		"2004-01-19 10:23:54 Europe/Paris", "1800-01-01 00:00:00", "99999-12-31 23:59:59", "2004-10-19 10:23:54+00 AD", "2023-02-29", "4714-11-24 BC", "294276-12-31 23:59:59.999999",
		"Mon 8 Jan 1999", "990108", "12:00 nowhere", "2004-10-19 10:23:54 Nowhere/Land", "1999-01-08 04:05:06 PM", "10:20:30.5 UTC", "2020-06-31", "12:60", "2004-10-19 10:23", "99-01-08",
	},
	"interval": {
		"1 day 02:00:00", "1 year 2 months 3 days 4 hours 5 minutes 6.789 seconds", "@ 1 hour ago", "-1 mon +2 days -00:00:01", "P1Y2M3DT4H5M6S", "1-2", "3 4:05:06", "1.5 days",
		"1.5 months", "2 weeks", "90", "100:00:00", "0", "1 decade", "3 centuries", "1.5 years", "-1.5 weeks", "P1W", "PT0.5S", "1 day -1", "5:30", "5:30.5", "-1-2", "1 mon ago", "2 h 3 m 4 s",
	},
	"_int4 _text _bool _numeric": {
		"{1,2,NULL}", "{{1,2},{3,4}}", "[0:1]={1,2}", "{}", `{a,"b c","",null,"\"q\\"}`, "{t,f}", `{"1", 2 }`, `{ 1 , 2 }`, "{{},{}}", "{1,{2}}", "{{1},{2,3}}", "{1", "{,}", `{a\,b}`, `{"a"b}`, "[1:2][0:0]={{1},{2}}",
	},
	"bytea uuid json": {
		`\x00ff`, `\x 0 0`, `a\\b`, `\000\377`, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", `{"a": [1, null]}`, `"x"`, "tru", `\x0`, `\400`,
	},
}

// TestAgainstPostgreSQL compares with a real server, whose time zone must be America/New_York, what is
// printed and sent for a text, or the error with which it is refused. Of the texts that the test makes
// up, which are mostly nonsense, it compares those that both accept. Set SKEIN_POSTGRES to its URL.
func TestAgainstPostgreSQL(t *testing.T) {
	url := os.Getenv("SKEIN_POSTGRES")
	if url == "" {
		t.Skip("SKEIN_POSTGRES is not set")
	}
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	env := &Env{TimeZone: load(t, "America/New_York")}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	mutations := 20
	for group, seeds := range differentialInputs {
		for _, name := range splitWords(group) {
			typ := oid.ByName(name)
			for _, seed := range seeds {
				compareWithServer(t, conn, typ, seed, env, true)
				for range mutations {
					compareWithServer(t, conn, typ, mutate(random, seed, seeds), env, false)
				}
			}
		}
	}
}

// mutate changes a text a little, or joins it with a part of another.
func mutate(random *rand.Rand, seed string, others []string) string {
	text := []byte(seed)
	switch random.IntN(3) {
	case 0:
		text[random.IntN(len(text))] = "0123456789-+:. ,TZ{}\""[random.IntN(21)]
	case 1:
		other := others[random.IntN(len(others))]
		text = append(text[:random.IntN(len(text)+1)], other[random.IntN(len(other)):]...)
	default:
		at := random.IntN(len(text))
		text = append(text[:at:at], text[at+1:]...)
	}
	return string(text)
}

func compareWithServer(t *testing.T, conn *pgconn.PgConn, typ *oid.Type, text string, env *Env, strict bool) {
	t.Helper()
	if !bytes.Equal([]byte(text), bytes.ToValidUTF8([]byte(text), nil)) {
		return
	}
	var theirs [2][]byte
	var theirErr error
	for format := range theirs {
		r := conn.ExecParams(context.Background(), "select $1::"+typ.Name, [][]byte{[]byte(text)}, []uint32{uint32(typ.OID)}, nil, []int16{int16(format)}).Read()
		if theirErr = r.Err; theirErr != nil {
			break
		}
		theirs[format] = r.Rows[0][0]
	}
	v, err := Decode(typ.OID, -1, TextFormat, []byte(text), env)
	var pgErr *pgconn.PgError
	if !strict && (err != nil || errors.As(theirErr, &pgErr)) {
		return
	}
	if errors.As(theirErr, &pgErr) {
		switch {
		case err == nil && (typ.OID == oid.Time || typ.OID == oid.TimeTZ): // here we are more lenient about dates
		case err == nil:
			t.Errorf("%s %q: they refuse it (%s %s), we store %s", typ.Name, text, pgErr.Code, pgErr.Message, stored(v))
		case codeOf(err)[:2] != pgErr.Code[:2]: // which of several faults is found first may differ
			t.Errorf("%s %q: %s, they say %s %s", typ.Name, text, err, pgErr.Code, pgErr.Message)
		}
		return
	}
	if theirErr != nil {
		t.Fatal(theirErr)
	}
	if err != nil {
		if codeOf(err) != "0A000" {
			t.Errorf("%s %q: %v, they have %s", typ.Name, text, err, theirs[0])
		}
		return
	}
	for format := range theirs {
		ours, err := Append(nil, typ.OID, int16(format), v, env)
		if err == nil && sameFloat(typ.OID, ours, theirs[format]) {
			continue
		}
		report := t.Errorf
		if !strict && storageClass(typ.OID) == Text && typ.OID != oid.Numeric {
			report = t.Logf // nonsense that both accept, such as two zones
		}
		if err != nil || !bytes.Equal(ours, theirs[format]) {
			report("%s %q: format %d: %q %v, they have %q", typ.Name, text, format, ours, err, theirs[format])
		}
	}
}

// sameFloat: of the shortest texts that read back as the same number, PostgreSQL takes a longer one
// when the shorter is on the boundary to the next number.
func sameFloat(t oid.OID, a, b []byte) bool {
	bits := map[oid.OID]int{oid.Float4: 32, oid.Float8: 64}[t]
	if bits == 0 {
		return false
	}
	x, err1 := strconv.ParseFloat(string(a), bits)
	y, err2 := strconv.ParseFloat(string(b), bits)
	return err1 == nil && err2 == nil && x == y
}
