package commit

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"skein/internal/history"
)

// StandbyNames says whose acknowledgements count and how many are needed: PostgreSQL's
// synchronous_standby_names. The zero value names nobody.
type StandbyNames struct {
	first bool     // FIRST k: those named first; otherwise ANY k
	need  int      // k
	names []string // "*" matches every name
}

// maxNeed is more standbys than any cluster has.
const maxNeed = 1000

// Standby is a follower that is connected and streams.
type Standby struct {
	Name string
	Progress
}

// Empty says that no standby is waited for.
func (n StandbyNames) Empty() bool { return n.need == 0 }

// Select gives those of names that n names, the preferred ones first, how many of them are needed, and whether
// they are needed in that order.
func (n StandbyNames) Select(names []string) (named []string, need int, first bool) {
	for _, name := range names {
		if n.priority(name) > 0 {
			named = append(named, name)
		}
	}
	slices.SortFunc(named, func(a, b string) int {
		if d := n.priority(a) - n.priority(b); d != 0 && n.first {
			return d
		}
		return strings.Compare(a, b)
	})
	return named, n.need, n.first
}

// Require names standbys one by one. Where need is more than there are, nothing is acknowledged.
func Require(need int, first bool, names ...string) StandbyNames {
	return StandbyNames{first: first, need: need, names: names}
}

// priority is the place of a standby in the list, from 1, or 0 if it is not named. Names are compared
// without regard to case, as PostgreSQL does.
func (n StandbyNames) priority(name string) int {
	return 1 + slices.IndexFunc(n.names, func(p string) bool { return p == "*" || strings.EqualFold(p, name) })
}

// reached gives the LSN that enough of the standbys have come to, 0 while there are not enough of them. at
// picks what counts.
func (n StandbyNames) reached(standbys []Standby, at func(Progress) history.LSN) history.LSN {
	counting := n.counting(standbys)
	if len(counting) < n.need {
		return 0
	}
	lsns := make([]history.LSN, 0, 8)
	for _, s := range counting {
		lsns = append(lsns, at(s.Progress))
	}
	slices.Sort(lsns)
	return lsns[len(lsns)-n.need]
}

// counting gives the standbys whose acknowledgements count: all that are named, or with FIRST the k of
// them that are named first, of whom then each is needed.
func (n StandbyNames) counting(standbys []Standby) []Standby {
	named := make([]Standby, 0, 8)
	for _, s := range standbys {
		if n.priority(s.Name) > 0 {
			named = append(named, s)
		}
	}
	if !n.first || len(named) <= n.need {
		return named
	}
	slices.SortStableFunc(named, func(a, b Standby) int {
		if d := n.priority(a.Name) - n.priority(b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return named[:n.need]
}

// state gives what pg_stat_replication shows as sync_priority and sync_state.
func (n StandbyNames) state(name string, standbys []Standby) (priority int, state string) {
	priority = n.priority(name)
	switch {
	case n.Empty() || priority == 0:
		return 0, "async"
	case !n.first:
		return 1, "quorum"
	case slices.ContainsFunc(n.counting(standbys), func(s Standby) bool { return s.Name == name }):
		return priority, "sync"
	}
	return priority, "potential"
}

// String gives a text that ParseStandbyNames reads as the same.
func (n StandbyNames) String() string {
	if n.Empty() {
		return ""
	}
	spelled := make([]string, len(n.names))
	for i, name := range n.names {
		spelled[i] = spell(name)
	}
	method := "ANY"
	if n.first {
		method = "FIRST"
	}
	return fmt.Sprintf("%s %d (%s)", method, n.need, strings.Join(spelled, ", "))
}

// spell writes a name as it can be read again, with double quotes where it must have them.
func spell(name string) string {
	if tokens, err := standbyTokens(name); err == nil && len(tokens) == 1 && tokens[0] == (standbyToken{word, name}) && !tokens[0].keyword() {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// ParseStandbyNames reads synchronous_standby_names in PostgreSQL's grammar (syncrep_gram.y):
//
//	ANY k (name, …)    FIRST k (name, …)    k (name, …)    name, …
//
// where k alone means FIRST k and a bare list FIRST 1. An empty text names nobody. Other than in
// PostgreSQL a list shorter than k is refused: nothing could ever be acknowledged.
func ParseStandbyNames(s string) (StandbyNames, error) {
	tokens, err := standbyTokens(s)
	if err != nil || len(tokens) == 0 {
		return StandbyNames{}, err
	}
	n := StandbyNames{first: true, need: 1}
	listed := false // in parentheses, behind a number
	switch {
	case tokens[0].keyword():
		n.first = strings.EqualFold(tokens[0].text, "first")
		tokens = tokens[1:]
		if len(tokens) == 0 || tokens[0].kind != number {
			return StandbyNames{}, errors.New("a number of standbys must follow ANY or FIRST, as in ANY 1 (a, b); a standby of that name is written in double quotes")
		}
		listed = true
	case tokens[0].kind == number && len(tokens) > 1 && tokens[1].text == "(":
		listed = true
	}
	if listed {
		if n.need, err = strconv.Atoi(tokens[0].text); err != nil || n.need < 1 || n.need > maxNeed {
			return StandbyNames{}, fmt.Errorf("number of synchronous standbys (%s) must be greater than zero and at most %d", tokens[0].text, maxNeed)
		}
		if len(tokens) < 3 || tokens[1].text != "(" || tokens[len(tokens)-1].text != ")" || tokens[1].kind != mark {
			return StandbyNames{}, fmt.Errorf("a list of standbys in parentheses must follow %s", tokens[0].text)
		}
		tokens = tokens[2 : len(tokens)-1]
	}
	if n.names, err = standbyList(tokens); err != nil {
		return StandbyNames{}, err
	}
	if n.need > len(n.names) && !slices.Contains(n.names, "*") {
		return StandbyNames{}, fmt.Errorf("%d synchronous standbys are asked for but only %d named: nothing could ever be acknowledged", n.need, len(n.names))
	}
	return n, nil
}

func standbyList(tokens []standbyToken) ([]string, error) {
	var names []string
	for i, t := range tokens {
		if i%2 == 1 {
			if t.kind != mark || t.text != "," {
				return nil, fmt.Errorf("a comma is missing before %q", t.text)
			}
			continue
		}
		if t.kind == mark || t.keyword() {
			return nil, fmt.Errorf("the name of a standby is missing at %q", t.text)
		}
		names = append(names, t.text)
	}
	if len(tokens)%2 == 0 {
		return nil, errors.New("the name of a standby is missing at the end")
	}
	return names, nil
}

type standbyKind uint8

const (
	word standbyKind = iota
	quoted
	number
	mark
)

type standbyToken struct {
	kind standbyKind
	text string
}

func (t standbyToken) keyword() bool {
	return t.kind == word && (strings.EqualFold(t.text, "any") || strings.EqualFold(t.text, "first"))
}

func standbyTokens(s string) ([]standbyToken, error) {
	var tokens []standbyToken
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		t, rest, err := standbyTokenOf(s)
		if err != nil {
			return nil, err
		}
		tokens, s = append(tokens, t), rest
	}
	return tokens, nil
}

func standbyTokenOf(s string) (t standbyToken, rest string, err error) {
	switch c := s[0]; {
	case strings.IndexByte("(),", c) >= 0:
		return standbyToken{mark, s[:1]}, s[1:], nil
	case c == '*':
		return standbyToken{word, "*"}, s[1:], nil
	case c == '"':
		return quotedStandby(s)
	case c >= '0' && c <= '9':
		n := span(s, func(c byte) bool { return c >= '0' && c <= '9' })
		return standbyToken{number, s[:n]}, s[n:], nil
	case nameByte(c) && c != '$':
		n := span(s, nameByte)
		return standbyToken{word, s[:n]}, s[n:], nil
	}
	return t, "", fmt.Errorf("%q cannot stand in a list of standbys; a name with such characters is written in double quotes", s[:1])
}

func quotedStandby(s string) (t standbyToken, rest string, err error) {
	var name strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			name.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			name.WriteByte('"')
			i++
		default:
			return standbyToken{quoted, name.String()}, s[i+1:], nil
		}
	}
	return t, "", errors.New("a quoted name is not closed")
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

func span(s string, in func(byte) bool) int {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}
