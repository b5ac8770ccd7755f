package pgcatalog

import (
	"regexp"
	"strings"

	"skein/internal/sqlstate"
)

// maxPatterns bounds the compiled patterns kept for a connection; past it all are forgotten, which
// costs a compilation each and needs no order of use.
const maxPatterns = 64

// maxPattern bounds a pattern's text: its compiled form is several times larger.
const maxPattern = 8 << 10

// maxLikePattern is the limit that SQLite sets for its own LIKE: matching takes time by the product of
// the lengths.
const maxLikePattern = 50000

// pattern compiles a POSIX or PCRE-like pattern as RE2, or takes it from the last times.
func (cat *catalog) pattern(s, flags string) (*regexp.Regexp, error) {
	key := flags + "/" + s
	if re := cat.patterns[key]; re != nil {
		return re, nil
	}
	if len(s) > maxPattern {
		return nil, sqlstate.New(sqlstate.ProgramLimitExceeded, "regular expression is too long")
	}
	re, err := regexp.Compile(flags + translatePattern(s))
	if err != nil {
		return nil, sqlstate.New(sqlstate.InvalidRegularExpression, "invalid regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if len(cat.patterns) >= maxPatterns || cat.patterns == nil {
		cat.patterns = make(map[string]*regexp.Regexp)
	}
	cat.patterns[key] = re
	return re, nil
}

// translatePattern turns the escapes that PostgreSQL spells otherwise: \m and \M are the ends of a
// word, \y a word's boundary, and ***: or (?i) style directors stay for RE2 to judge.
func translatePattern(s string) string {
	s = strings.TrimPrefix(s, "***:")
	return strings.NewReplacer(`\\`, `\\`, `\y`, `\b`, `\m`, `\b`, `\M`, `\b`, `\Y`, `\B`, `\Z`, `\z`).Replace(s)
}

// regexFlags reads PostgreSQL's flag letters; global is 'g'.
func regexFlags(letters string) (prefix string, global bool, err error) {
	set := ""
	for _, r := range letters {
		switch r {
		case 'g':
			global = true
		case 'i':
			set += "i"
		case 'c':
			set = strings.ReplaceAll(set, "i", "")
		case 's', 'n', 'm', 'p', 'w':
			if r != 's' {
				set += "m"
			}
		case 'x', 'q', 'e', 'b', 't':
		default:
			return "", false, sqlstate.New(sqlstate.InvalidParameterValue, "invalid regular expression option: \"%c\"", r)
		}
	}
	if !strings.Contains(set, "m") {
		set += "s" // a dot matches a newline unless told otherwise
	}
	return "(?" + set + ")", global, nil
}

// regexpMatch is text REGEXP pattern, which SQLite calls with the pattern first.
func regexpMatch(c *call) error {
	re, err := c.pattern(c.text(0), "(?s)")
	if err != nil {
		return err
	}
	return c.returnBool(re.MatchString(c.text(1)))
}

func (c *call) flagged(flagArg int) (*regexp.Regexp, bool, error) {
	prefix, global, err := regexFlags(c.textOr(flagArg, ""))
	if err != nil {
		return nil, false, err
	}
	re, err := c.pattern(c.text(1), prefix)
	return re, global, err
}

func regexpReplace(c *call) error {
	re, global, err := c.flagged(3)
	if err != nil {
		return err
	}
	s, by := c.text(0), replacementTemplate(c.text(2))
	var b strings.Builder
	last := 0
	for _, loc := range re.FindAllStringSubmatchIndex(s, matchCount(global)) {
		b.WriteString(s[last:loc[0]])
		b.Write(re.ExpandString(nil, by, s, loc))
		if last = loc[1]; b.Len() > maxText {
			return tooLong()
		}
	}
	b.WriteString(s[last:])
	return c.returnText(b.String())
}

func matchCount(global bool) int {
	if global {
		return -1
	}
	return 1
}

// replacementTemplate turns \1 and \& into Go's ${1} and ${0}.
func replacementTemplate(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			b.WriteString("$$")
		case s[i] == '\\' && i+1 < len(s):
			i++
			switch {
			case isDigit(s[i]):
				b.WriteString("${" + s[i:i+1] + "}")
			case s[i] == '&':
				b.WriteString("${0}")
			default:
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// regexpFind gives the groups of the first match as an array, or the whole of it without groups.
func regexpFind(c *call) error {
	re, _, err := c.flagged(2)
	if err != nil {
		return err
	}
	s := c.text(0)
	loc := re.FindStringSubmatchIndex(s)
	if loc == nil {
		return nil
	}
	if len(loc) > 2 {
		loc = loc[2:]
	}
	a := array{low: 1}
	for i := 0; i < len(loc); i += 2 {
		if loc[i] < 0 {
			a.elements = append(a.elements, element{null: true})
			continue
		}
		a.elements = append(a.elements, element{text: s[loc[i]:loc[i+1]]})
	}
	return c.returnText(a.String())
}

func regexpLike(c *call) error {
	re, _, err := c.flagged(2)
	if err != nil {
		return err
	}
	return c.returnBool(re.MatchString(c.text(0)))
}

func regexpCount(c *call) error {
	re, _, err := c.flagged(3)
	if err != nil {
		return err
	}
	start, err := c.intOr(2, 1)
	if err != nil {
		return err
	}
	r := []rune(c.text(0))
	from := min(max(start-1, 0), int64(len(r)))
	return c.returnInt(int64(len(re.FindAllStringIndex(string(r[from:]), -1))))
}

// regexpSubstr gives the first group of the first match, or the whole match.
func regexpSubstr(c *call) error {
	re, err := c.pattern(c.text(1), "(?s)")
	if err != nil {
		return err
	}
	m := re.FindStringSubmatch(c.text(0))
	switch {
	case m == nil:
		return nil
	case len(m) > 1:
		return c.returnText(m[1])
	}
	return c.returnText(m[0])
}

func regexpSplit(c *call) error {
	a, err := splitByPattern(c)
	if err != nil {
		return err
	}
	return c.returnText(a.String())
}

func splitByPattern(c *call) (array, error) {
	a := array{low: 1}
	if c.isNull(0) || c.isNull(1) {
		return a, nil
	}
	re, _, err := c.flagged(2)
	if err != nil {
		return a, err
	}
	for _, s := range re.Split(c.text(0), -1) {
		a.elements = append(a.elements, element{text: s})
	}
	return a, nil
}

// ilike is text MATCH pattern, which SQLite calls with the pattern first: LIKE without regard to
// case. The escape character is the backslash unless the third argument says otherwise.
func ilike(c *call) error {
	if len(c.text(0)) > maxLikePattern {
		return sqlstate.New(sqlstate.ProgramLimitExceeded, "ILIKE pattern is too long")
	}
	escape := `\`
	if len(c.arg) == 3 {
		escape = c.text(2)
	}
	return c.returnBool(likeMatch([]rune(strings.ToLower(c.text(1))), []rune(strings.ToLower(c.text(0))), []rune(strings.ToLower(escape))))
}

// likeMatch walks text and pattern together, going back to the last % when they part. It takes time
// in proportion to the product of their lengths at worst, and no stack.
func likeMatch(text, pattern, escape []rune) bool {
	t, p := 0, 0
	backT, backP := -1, -1
	for t < len(text) {
		if p < len(pattern) {
			switch ch := pattern[p]; {
			case ch == '%':
				backT, backP = t, p
				p++
				continue
			case ch == '_':
				t++
				p++
				continue
			case len(escape) == 1 && ch == escape[0] && p+1 < len(pattern):
				if text[t] == pattern[p+1] {
					t++
					p += 2
					continue
				}
			case ch == text[t]:
				t++
				p++
				continue
			}
		}
		if backP < 0 {
			return false
		}
		backT++
		t, p = backT, backP+1
	}
	for p < len(pattern) && pattern[p] == '%' {
		p++
	}
	return p == len(pattern)
}
