package shell

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitter(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
		rest       string
	}{
		{"two on a line", "select 1; select 2;\n", []string{"select 1;", "select 2;"}, ""},
		{"open statement", "select 1; select\n2", []string{"select 1;"}, "select\n2"},
		{"lone semicolons", ";; ; select 1;", []string{"select 1;"}, ""},
		{"single quotes", "select 'a;''b;';", []string{"select 'a;''b;';"}, ""},
		{"double quotes", `select ";" ;`, []string{`select ";" ;`}, ""},
		{"escape string", `select E'\';', 1;`, []string{`select E'\';', 1;`}, ""},
		{"backslash in a plain string", `select '\';1;`, []string{`select '\';`, "1;"}, ""},
		{"name ending in e before a quote", `select namee'\';1;`, []string{`select namee'\';`, "1;"}, ""},
		{"line comment", "select 1 -- no; end\n;", []string{"select 1 -- no; end\n;"}, ""},
		{"nested comment", "select /* ; /* ; */ ; */ 1;", []string{"select /* ; /* ; */ ; */ 1;"}, ""},
		{"dollar quotes", "select $$;$$, $a$;$$;$a$;", []string{"select $$;$$, $a$;$$;$a$;"}, ""},
		{"parameter is no quote", "select $1;$2;", []string{"select $1;", "$2;"}, ""},
		{"dollar inside a name", "select a$b$;1;", []string{"select a$b$;", "1;"}, ""},
		{"open quote", "select 'a;", nil, "select 'a;"},
		{
			"trigger", "create trigger t after insert on a begin update b set c = case when 1 then 2 end; delete from d; end; select 1;",
			[]string{"create trigger t after insert on a begin update b set c = case when 1 then 2 end; delete from d; end;", "select 1;"},
			"",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, rest := split(test.text)
			if !slices.Equal(got, test.want) || rest != test.rest {
				t.Errorf("got %q and %q, want %q and %q", got, rest, test.want, test.rest)
			}
		})
	}
}

// Whatever is typed, nothing is lost but space and lone semicolons, and it makes no difference
// whether the text comes line by line.
func FuzzSplitter(f *testing.F) {
	f.Add("select 'a;''b' /* ; */;\n select $$;\n$$ -- x\n;")
	f.Add("select E'\\'\\\\;' ; create trigger a begin\n ; end ;")
	f.Fuzz(func(t *testing.T, text string) {
		whole, rest := split(text)
		if squeeze(strings.Join(whole, "")+rest) != squeeze(text) {
			t.Errorf("%q became %q and %q", text, whole, rest)
		}

		byLine, restByLine := split(slices.Collect(strings.Lines(text))...)
		if !slices.Equal(byLine, whole) || restByLine != rest {
			t.Errorf("line by line: %q and %q, want %q and %q", byLine, restByLine, whole, rest)
		}
	})
}

func split(texts ...string) (statements []string, rest string) {
	var s splitter
	for _, text := range texts {
		s.add(text)
		for statement, ok := s.next(); ok; statement, ok = s.next() {
			statements = append(statements, statement)
		}
	}
	return statements, s.rest()
}

// squeeze drops what the splitter may drop.
func squeeze(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), ""), ";", "")
}
