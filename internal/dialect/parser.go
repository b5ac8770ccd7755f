package dialect

import (
	"errors"
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// maxDepth bounds how deep expressions and queries nest: the parser recurses, and so does SQLite.
const maxDepth = 200

// parser reads one statement's tokens and edits them. A failure is sticky: the parser then stands
// at the end of the tokens, so that every loop ends, and makes no further edit. There are two: err
// refuses the statement; lost means syntax that only SQLite may know, so the statement goes on with
// the edits of what was understood.
type parser struct {
	src   string
	toks  []token // ends with tokenEnd
	i     int
	depth int // of nesting, bounded
	nest  int // queries around the present place
	err   error
	lost  bool
	st    *Statement

	storing   int       // the nest at which select lists are stored by INSERT; 0 for none
	view      bool      // the statement is the query of a view
	rowCalls  *rowCalls // those of the select list that is being read; nil elsewhere
	marking   bool      // leave marks for Typed, see mark
	marks     int       // used so far
	nullGiven bool      // COPY had NULL, for which the empty string is a value of its own
}

func (p *parser) tok() *token { return &p.toks[p.i] }

// peek gives the token n further on.
func (p *parser) peek(n int) *token { return &p.toks[min(p.i+n, len(p.toks)-1)] }

func (p *parser) dead() bool { return p.lost || p.err != nil }

func (p *parser) end() bool { return p.tok().kind == tokenEnd }

func (p *parser) next() *token {
	t := p.tok()
	if t.kind != tokenEnd {
		p.i++
	}
	return t
}

// is says whether the coming tokens are these keywords or operators.
func (p *parser) is(words ...string) bool {
	for n, w := range words {
		if !p.peek(n).is(w) {
			return false
		}
	}
	return true
}

// isAny says whether the next token is one of the words.
func (p *parser) isAny(words ...string) bool {
	for _, w := range words {
		if p.tok().is(w) {
			return true
		}
	}
	return false
}

// accept skips the words if they come next.
func (p *parser) accept(words ...string) bool {
	if !p.is(words...) {
		return false
	}
	p.i += len(words)
	return true
}

// drop skips the words if they come next and leaves them out for SQLite.
func (p *parser) drop(words ...string) bool {
	start := p.i
	if !p.accept(words...) {
		return false
	}
	p.remove(start, p.i)
	return true
}

// expect skips the words or refuses the statement.
func (p *parser) expect(words ...string) {
	for _, w := range words {
		if !p.accept(w) {
			p.syntaxError()
			return
		}
	}
}

// want skips a word of a query, or hands the rest of the query to SQLite.
func (p *parser) want(word string) bool {
	if p.accept(word) {
		return true
	}
	p.lose()
	return false
}

// lose gives up on the rest of the statement; SQLite will judge it.
func (p *parser) lose() {
	p.lost = true
	p.i = len(p.toks) - 1
}

func (p *parser) fail(err *sqlstate.Error) {
	if p.err == nil {
		p.err = err
	}
	p.i = len(p.toks) - 1
}

// refuse fails with an error at the given token.
func (p *parser) refuse(at int, code sqlstate.Code, format string, args ...any) {
	p.fail(sqlstate.New(code, format, args...).At(p.position(at)))
}

// unsupported fails with 0A000 at the given token.
func (p *parser) unsupported(at int, what string) {
	p.refuse(at, sqlstate.FeatureNotSupported, "%s not supported", what)
}

func (p *parser) position(at int) int {
	return characterAt(p.src, p.toks[min(at, len(p.toks)-1)].pos)
}

func (p *parser) syntaxError() {
	t := p.tok()
	if t.kind == tokenEnd {
		p.refuse(p.i, sqlstate.SyntaxError, "syntax error at end of input")
		return
	}
	p.refuse(p.i, sqlstate.SyntaxError, "syntax error at or near \"%s\"", p.src[t.pos:t.end])
}

// finish refuses what is left over after a utility statement.
func (p *parser) finish() {
	if !p.dead() && !p.end() {
		p.syntaxError()
	}
}

// enter counts a level of nesting and says whether it is still allowed.
func (p *parser) enter() bool {
	p.depth++
	if p.depth > maxDepth && !p.dead() {
		p.refuse(p.i, sqlstate.ProgramLimitExceeded, "statement is nested too deeply")
	}
	return !p.dead()
}

func (p *parser) leave() { p.depth-- }

// The edits. An inner construct is finished before the one around it, so what comes later goes
// outside: before the prefix and after the suffix.

func (p *parser) before(i int, s string) {
	if !p.dead() && i < len(p.toks) {
		p.toks[i].pre = s + p.toks[i].pre
	}
}

func (p *parser) after(i int, s string) {
	if !p.dead() && i >= 0 {
		p.toks[i].post += s
	}
}

func (p *parser) wrap(i, j int, left, right string) {
	p.before(i, left)
	p.after(j-1, right)
}

func (p *parser) replace(i int, s string) {
	if !p.dead() {
		p.toks[i].out = s
	}
}

func (p *parser) remove(i, j int) {
	for ; i < j && !p.dead(); i++ {
		p.toks[i].out = ""
	}
}

// collapse puts s in the place of the tokens from i to j with all their edits.
func (p *parser) collapse(i, j int, s string) {
	if p.dead() {
		return
	}
	for k := i; k < j; k++ {
		p.toks[k].pre, p.toks[k].out, p.toks[k].post = "", "", ""
	}
	p.toks[i].out = s
}

// text renders the tokens from i to j as they are edited by now.
func (p *parser) text(i, j int) string { return p.render(p.toks[i:j]) }

// render writes tokens with their edits. Spaces are kept as one space, and added where two pieces
// would run together.
func (p *parser) render(toks []token) string {
	var b strings.Builder
	var last byte
	for i := range toks {
		t := &toks[i]
		space := t.space && t.pre+t.out != ""
		for _, s := range [3]string{t.pre, t.out, t.post} {
			if s == "" {
				continue
			}
			shown := p.unmarked(s)
			if b.Len() > 0 && (space && last != ' ' || shown != "" && joins(last, shown[0])) {
				b.WriteByte(' ')
				last = ' '
			}
			space = false
			b.WriteString(s)
			if shown != "" {
				last = shown[len(shown)-1]
			}
		}
	}
	return b.String()
}

// joins says whether two neighbouring bytes of different tokens would be read as one.
func joins(a, b byte) bool {
	switch {
	case isIdentPart(a) && isIdentPart(b):
		return true
	case a == '\'' || a == '"' || a == '-':
		return a == b
	case a == '/':
		return b == '*'
	}
	return false
}

// name reads an identifier, and quotes it where SQLite would take it for a keyword.
func (p *parser) name() string {
	t := p.tok()
	if !t.name() {
		p.syntaxError()
		return ""
	}
	p.quote(p.i)
	p.i++
	return t.word
}

// quote makes sure that SQLite reads the token as an identifier.
func (p *parser) quote(i int) {
	if t := &p.toks[i]; t.kind == tokenWord && sqliteReserved[t.word] {
		p.replace(i, quoteIdent(t.word))
	}
}

// number reads an integer with an optional sign.
func (p *parser) integer() (int64, bool) {
	sign := int64(1)
	at := p.i
	if p.accept("-") {
		sign = -1
	} else {
		p.accept("+")
	}
	t := p.tok()
	if t.kind != tokenNumber || len(t.word) > 18 {
		p.i = at
		return 0, false
	}
	var n int64
	for _, c := range []byte(t.word) {
		if !isDigit(c) {
			p.i = at
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	p.i++
	return sign * n, true
}

// stringValue reads a string literal.
func (p *parser) stringValue() string {
	if p.tok().kind != tokenString {
		p.syntaxError()
		return ""
	}
	return p.next().word
}

// dottedName reads a possibly qualified name of a table or another object, drops the schemas that
// SQLite does not have, and gives the last part.
func (p *parser) dottedName() string {
	start := p.i
	name := p.name()
	for p.is(".") && p.peek(1).name() {
		p.i++
		name = p.name()
	}
	return p.unqualify(start, p.i, name)
}

// unqualify edits the name in tokens i to j: pg_catalog and public vanish, information_schema
// becomes part of the name, pg_temp becomes temp.
func (p *parser) unqualify(i, j int, name string) string {
	if j-i >= 5 && p.toks[i+2].name() && p.st != nil {
		// database.schema.table: the database can only be the current one.
		p.remove(i, i+2)
		i += 2
	}
	if j-i < 3 {
		return name
	}
	switch p.toks[i].word {
	case "pg_catalog", "public":
		p.remove(i, i+2)
	case "pg_temp":
		p.replace(i, "temp")
	case "information_schema":
		p.remove(i, i+2)
		name = "information_schema_" + asciiLower(name)
		p.replace(i+2, name)
	}
	return name
}

// newStatement parses the statement in toks, which end with tokenEnd.
func newStatement(src string, toks []token, view bool) (*Statement, error) {
	last := toks[len(toks)-2]
	st := &Statement{Text: src[toks[0].pos:last.end]}
	p := &parser{src: src, toks: toks, st: st, view: view}
	if err := p.parameters(); err != nil {
		return nil, err
	}
	if err := p.denied(); err != nil {
		return nil, err
	}
	p.statement()
	if p.err != nil {
		return nil, p.err
	}
	return st, nil
}

// nested parses the rest of the tokens as a statement of its own, for PREPARE, DECLARE, EXPLAIN and
// COPY. It must be a query or a change of rows.
func (p *parser) nested(end int) *Statement { return p.within(end, false) }

// within is nested, for the query of a view or not.
func (p *parser) within(end int, view bool) *Statement {
	if p.dead() {
		return nil
	}
	if end <= p.i || !p.isAny("select", "with", "values", "table", "insert", "update", "delete", "replace", "(") {
		p.syntaxError()
		return nil
	}
	toks := append([]token(nil), p.toks[p.i:end]...)
	stop := p.toks[end].pos
	toks = append(toks, token{kind: tokenEnd, pos: stop, end: stop})
	st, err := newStatement(p.src, toks, view)
	if err != nil {
		var e *sqlstate.Error
		if errors.As(err, &e) {
			p.fail(e)
		}
		return nil
	}
	p.i = end
	return st
}

// parameters counts the statement's $n.
func (p *parser) parameters() error {
	const most = 32766 // SQLite's limit; PostgreSQL's is 65535
	for i := range p.toks {
		t := &p.toks[i]
		if t.kind != tokenParam {
			continue
		}
		n := 0
		for _, c := range []byte(t.word) {
			n = min(n*10+int(c-'0'), most+1)
		}
		if n == 0 {
			return sqlstate.New(sqlstate.UndefinedParameter, "there is no parameter $0").At(p.position(i))
		}
		if n > most {
			return sqlstate.New(sqlstate.ProgramLimitExceeded, "parameter number is above %d", most).At(p.position(i))
		}
		p.st.NumParams = max(p.st.NumParams, n)
	}
	if p.st.NumParams > 0 {
		p.st.ParamTypes = make([]oid.OID, p.st.NumParams)
	}
	return nil
}

// denied refuses, wherever they stand, the names by which SQL could leave the store. It looks at
// every token because a statement that the parser does not understand goes to SQLite all the same.
func (p *parser) denied() error {
	for i := range p.toks {
		t := &p.toks[i]
		if !t.name() {
			continue
		}
		word := asciiLower(t.word)
		switch {
		case word == "load_extension", word == "fts3_tokenizer", word == "sqlite_dbpage":
		case strings.HasPrefix(word, "pragma_") && !readOnlyPragmas[word[len("pragma_"):]]:
		default:
			continue
		}
		return sqlstate.New(sqlstate.InsufficientPrivilege, "%s is not allowed", word).At(p.position(i))
	}
	return nil
}
