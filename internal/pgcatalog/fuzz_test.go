package pgcatalog

import (
	"strings"
	"testing"
	"time"
)

func FuzzNumericCollation(f *testing.F) {
	for _, s := range [][2]string{{"1.0", "1"}, {"-0", "0.00"}, {"-1.5", "-1.50"}, {"10", "9"}, {"NaN", "Infinity"}, {"1e3", "1000"}, {"", "x"}, {".5", "0.5"}, {"-", "-1"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		got := compareNumericText([]byte(a), []byte(b))
		if back := compareNumericText([]byte(b), []byte(a)); back != -got && back*got >= 0 && (back != 0 || got != 0) {
			t.Fatalf("%q against %q is %d, the other way round %d", a, b, got, back)
		}
		x, okX := parseDecimal(a)
		y, okY := parseDecimal(b)
		if okX && okY && !strings.ContainsAny(a+b, " \t\n+") && sign3(got) != sign3(compareDecimals(x, y)) {
			t.Fatalf("%q against %q is %d, by value %d", a, b, got, compareDecimals(x, y))
		}
	})
}

func sign3(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func FuzzDecimalReadsBack(f *testing.F) {
	for _, s := range []string{"0", "-0.0", "1e5", "1e-5", "12.3400", "NaN", "-inf", "99999999999999999999.9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseDecimal(s)
		if !ok {
			return
		}
		text := formatDecimal(plain(d))
		again, ok := parseDecimal(text)
		if !ok || compareDecimals(d, again) != 0 || formatDecimal(plain(again)) != text {
			t.Fatalf("%q prints as %q", s, text)
		}
	})
}

func FuzzArrayReadsBack(f *testing.F) {
	for _, s := range []string{"{}", "{1,2}", `{"a b",NULL,"NULL"}`, "{{1,2},{3,4}}", `{"\\","\""}`, "1 2 3", "[0:1]={1,2}", "{a", "{,}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseArray(s)
		if err != nil {
			return
		}
		text := a.String()
		again, err := parseArray(text)
		if err != nil || again.String() != text || len(again.elements) != len(a.elements) {
			t.Fatalf("%q prints as %q: %v", s, text, err)
		}
	})
}

func FuzzIntervalReadsBack(f *testing.F) {
	for _, s := range []string{"1 day", "-1 mon +2 days -03:04:05.6", "P1Y2M", "1.5 years ago", "@ 3 hours", "1-2", "04:05"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := parseInterval(s)
		if !ok {
			return
		}
		const far = 1 << 40 // beyond what PostgreSQL's interval holds
		if max(v.months, -v.months, v.days, -v.days) > far || max(v.micros, -v.micros) > far<<10 {
			return
		}
		if again, ok := parseInterval(v.String()); !ok || again != v {
			t.Fatalf("%q prints as %q, which reads as %v", s, v, again)
		}
	})
}

func FuzzSchemaText(f *testing.F) {
	f.Add(`CREATE TABLE "a b"(x int PRIMARY KEY, y text DEFAULT (cast_text('x')) CHECK (y <> ')'), FOREIGN KEY (y) REFERENCES z(q) ON DELETE SET NULL)`)
	f.Add("CREATE UNIQUE INDEX i ON t(lower(a) COLLATE b DESC, c) WHERE d > 1 -- end")
	f.Add("CREATE TABLE t(a, [b] x(((, `c` '")
	f.Fuzz(func(t *testing.T, sql string) {
		if len(sql) > 10000 {
			return
		}
		for _, tok := range lex(sql) {
			if tok.start < 0 || tok.end > len(sql) || tok.start >= tok.end {
				t.Fatalf("token %+v of %q", tok, sql)
			}
		}
		parseTable(sql)
		parseIndex(sql)
		spell(sql)
		Canned(sql)
		plainCondition(sql)
	})
}

func FuzzTemplates(f *testing.F) {
	f.Add("YYYY-MM-DD HH24:MI:SS", "2024-02-29 10:11:12")
	f.Add(`FM"x"DDth Month 999,999.00`, "12")
	f.Add("FM", "")
	f.Fuzz(func(t *testing.T, format, value string) {
		formatTimeTemplate(time.Date(2024, 2, 29, 1, 2, 3, 4000, time.UTC), format)
		if d, ok := parseDecimal(value); ok && len(value) < 50 {
			formatNumberTemplate(d, format)
		}
		_, _ = parseTemplate(value, format)
		likeMatch([]rune(value), []rune(format), []rune(`\`))
		translatePattern(format)
		replacementTemplate(format)
	})
}
