package commit

import (
	"strings"
	"testing"

	"skein/internal/history"
)

func TestStandbyNamesInPostgreSQLsGrammar(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"  ":                        "",
		"a":                         "FIRST 1 (a)",
		"a, b":                      "FIRST 1 (a, b)",
		"*":                         "FIRST 1 (*)",
		"2 (a, b, c)":               "FIRST 2 (a, b, c)",
		"FIRST 2 (a,b)":             "FIRST 2 (a, b)",
		"any 1(a,b)":                "ANY 1 (a, b)",
		"ANY 2 (*)":                 "ANY 2 (*)",
		`"any", "first"`:            `FIRST 1 ("any", "first")`,
		`"a ""quoted"" (name)"`:     `FIRST 1 ("a ""quoted"" (name)")`,
		"1":                         `FIRST 1 ("1")`,
		"1, 2":                      `FIRST 1 ("1", "2")`,
		"ANY 1 (1, 2)":              `ANY 1 ("1", "2")`,
		"größe_1, $x":               "error",
		"größe_1":                   "FIRST 1 (größe_1)",
		"ANY 0 (a)":                 "error: greater than zero",
		"ANY -1 (a)":                "error",
		"ANY 3 (a, b)":              "error: only 2 named",
		"ANY 1 (a":                  "error: parentheses",
		"ANY 1 a":                   "error: parentheses",
		"ANY (a)":                   "error: a number",
		"any":                       "error: double quotes",
		"a b":                       "error: comma",
		"a,":                        "error: missing at the end",
		", a":                       "error: missing",
		"ANY 1 ()":                  "error",
		`"a`:                        "error: not closed",
		"a-b":                       "error: double quotes",
		"ANY 99999999999999999 (*)": "error",
	} {
		n, err := ParseStandbyNames(text)
		if message, bad := strings.CutPrefix(want, "error"); bad {
			if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(message, ": ")) {
				t.Errorf("%q: %v, error %v; want one with %q", text, n, err, message)
			}
			continue
		}
		if err != nil || n.String() != want {
			t.Errorf("%q: %v, error %v; want %v", text, n, err, want)
			continue
		}
		if again, err := ParseStandbyNames(n.String()); err != nil || again.String() != want {
			t.Errorf("%q reads as %v, error %v", n, again, err)
		}
	}
}

func TestWhichStandbysCount(t *testing.T) {
	standbys := []Standby{{"c", Progress{Flushed: 30}}, {"a", Progress{Flushed: 10}}, {"b", Progress{Flushed: 20}}}
	for _, test := range []struct {
		names string
		want  history.LSN
		state string // of a, b, c
	}{
		{"a", 10, "1 sync, 0 async, 0 async"},
		{"A, b", 10, "1 sync, 2 potential, 0 async"},
		{"b, a", 20, "2 potential, 1 sync, 0 async"},
		{"FIRST 2 (c, b, a)", 20, "3 potential, 2 sync, 1 sync"},
		{"FIRST 1 (gone, b, a)", 20, "3 potential, 2 sync, 0 async"},
		{"ANY 1 (a, b, c)", 30, "1 quorum, 1 quorum, 1 quorum"},
		{"ANY 2 (a, b, c)", 20, "1 quorum, 1 quorum, 1 quorum"},
		{"ANY 3 (*)", 10, "1 quorum, 1 quorum, 1 quorum"},
		{"ANY 1 (a, b)", 20, "1 quorum, 1 quorum, 0 async"},
		{"ANY 2 (a, gone)", 0, "1 quorum, 0 async, 0 async"},
		{"gone", 0, "0 async, 0 async, 0 async"},
	} {
		n, err := ParseStandbyNames(test.names)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.reached(standbys, func(p Progress) history.LSN { return p.Flushed }); got != test.want {
			t.Errorf("%s: %d is acknowledged, want %d", test.names, got, test.want)
		}
		var states []string
		for _, name := range []string{"a", "b", "c"} {
			priority, state := n.state(name, standbys)
			states = append(states, string(rune('0'+priority))+" "+state)
		}
		if got := strings.Join(states, ", "); got != test.state {
			t.Errorf("%s: states %s, want %s", test.names, got, test.state)
		}
	}
}
