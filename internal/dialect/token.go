package dialect

import (
	"strings"
	"unicode/utf8"

	"skein/internal/sqlstate"
)

type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // unquoted identifier or keyword; word is in lower case
	tokenQuoted           // quoted identifier; word is what stands between the quotes
	tokenString           // any kind of string literal; word is its value
	tokenNumber
	tokenBlob  // x'…'
	tokenParam // $n; word is the digits
	tokenOp    // operator or punctuation
)

// token is one lexical element with its edits: pre + out + post is what SQLite gets.
type token struct {
	kind     tokenKind
	space    bool // spaces or comments stood before it
	pos, end int  // bytes of the source
	word     string
	out      string
	pre      string
	post     string
}

// is says whether the token is the given keyword, in lower case, or operator.
func (t *token) is(word string) bool {
	return t.word == word && (t.kind == tokenWord || t.kind == tokenOp)
}

// name says whether the token can be an identifier.
func (t *token) name() bool { return t.kind == tokenWord || t.kind == tokenQuoted }

type lexer struct {
	src   string
	pos   int
	space bool
	toks  []token
}

// tokenize reads the whole text. The last token is always tokenEnd.
func tokenize(src string) ([]token, error) {
	l := &lexer{src: src, toks: make([]token, 0, len(src)/4+4)}
	if n := strings.IndexByte(src, 0); n >= 0 {
		return nil, l.fail(sqlstate.CharacterNotInRepertoire, n, "invalid byte sequence for encoding \"UTF8\": 0x00")
	}
	for {
		more, err := l.next()
		if err != nil {
			return nil, err
		}
		if !more {
			return l.toks, nil
		}
	}
}

func (l *lexer) next() (bool, error) {
	if err := l.skipSpace(); err != nil {
		return false, err
	}
	if l.pos >= len(l.src) {
		l.toks = append(l.toks, token{kind: tokenEnd, pos: len(l.src), end: len(l.src)})
		return false, nil
	}
	c, c1 := l.src[l.pos], l.at(1)
	switch {
	case c == '\'':
		return true, l.quotedString(1, false)
	case (c == 'e' || c == 'E') && c1 == '\'':
		return true, l.quotedString(2, true)
	case (c == 'n' || c == 'N') && c1 == '\'':
		return true, l.quotedString(2, false)
	case (c == 'x' || c == 'X') && c1 == '\'':
		return true, l.blob()
	case (c == 'b' || c == 'B') && c1 == '\'':
		return false, l.fail(sqlstate.FeatureNotSupported, l.pos, "bit string literals are not supported")
	case (c == 'u' || c == 'U') && c1 == '&' && l.at(2) == '\'':
		return true, l.unicodeString()
	case (c == 'u' || c == 'U') && c1 == '&' && l.at(2) == '"':
		return true, l.unicodeIdentifier()
	case c == '"' || c == '`':
		return true, l.quotedIdentifier()
	case isIdentStart(c):
		l.identifier()
	case isDigit(c) || c == '.' && isDigit(c1):
		return true, l.number()
	case c == '$' && isDigit(c1):
		l.parameter()
	case c == '$':
		return true, l.dollarString()
	default:
		l.operator()
	}
	return true, nil
}

func (l *lexer) at(n int) byte {
	if l.pos+n < len(l.src) {
		return l.src[l.pos+n]
	}
	return 0
}

func (l *lexer) add(kind tokenKind, start int, word, out string) {
	l.toks = append(l.toks, token{kind: kind, space: l.space, pos: start, end: l.pos, word: word, out: out})
}

// fail makes an error at a byte offset of the text.
func (l *lexer) fail(code sqlstate.Code, pos int, format string, args ...any) error {
	return sqlstate.New(code, format, args...).At(characterAt(l.src, pos))
}

// characterAt turns a byte offset into the 1-based character position that clients expect.
func characterAt(src string, pos int) int {
	return utf8.RuneCountInString(src[:min(pos, len(src))]) + 1
}

func (l *lexer) skipSpace() error {
	start := l.pos
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case isSpace(c):
			l.pos++
		case c == '-' && l.at(1) == '-':
			if n := strings.IndexByte(l.src[l.pos:], '\n'); n >= 0 {
				l.pos += n + 1
			} else {
				l.pos = len(l.src)
			}
		case c == '/' && l.at(1) == '*':
			if err := l.skipComment(); err != nil {
				return err
			}
		default:
			l.space = l.pos > start
			return nil
		}
	}
	l.space = l.pos > start
	return nil
}

// skipComment skips a block comment; PostgreSQL nests them, SQLite does not.
func (l *lexer) skipComment() error {
	start, depth := l.pos, 0
	for l.pos < len(l.src) {
		switch {
		case l.src[l.pos] == '/' && l.at(1) == '*':
			depth++
			l.pos += 2
		case l.src[l.pos] == '*' && l.at(1) == '/':
			depth--
			l.pos += 2
			if depth == 0 {
				return nil
			}
		default:
			l.pos++
		}
	}
	return l.fail(sqlstate.SyntaxError, start, "unterminated /* comment")
}

func (l *lexer) identifier() {
	start := l.pos
	for l.pos < len(l.src) && isIdentPart(l.src[l.pos]) {
		l.pos++
	}
	word := asciiLower(l.src[start:l.pos])
	l.add(tokenWord, start, word, word)
}

func (l *lexer) quotedIdentifier() error {
	start, quote := l.pos, l.src[l.pos]
	word, err := l.untilQuote(1, quote, "unterminated quoted identifier")
	if err != nil {
		return err
	}
	if word == "" {
		return l.fail(sqlstate.SyntaxError, start, "zero-length delimited identifier")
	}
	l.add(tokenQuoted, start, word, quoteIdent(word))
	return nil
}

// untilQuote reads text in which a doubled quote stands for one, starting skip bytes further on.
func (l *lexer) untilQuote(skip int, quote byte, unterminated string) (string, error) {
	start := l.pos
	l.pos += skip
	from, doubled := l.pos, false
	for l.pos < len(l.src) {
		if l.src[l.pos] != quote {
			l.pos++
			continue
		}
		if l.at(1) == quote {
			doubled = true
			l.pos += 2
			continue
		}
		text := l.src[from:l.pos]
		l.pos++
		if doubled {
			text = strings.ReplaceAll(text, string([]byte{quote, quote}), string(quote))
		}
		return text, nil
	}
	return "", l.fail(sqlstate.SyntaxError, start, "%s", unterminated)
}

func (l *lexer) quotedString(skip int, escapes bool) error {
	start := l.pos
	value, err := l.stringPart(skip, escapes)
	for err == nil && l.continued() {
		var more string
		more, err = l.stringPart(1, escapes)
		value += more
	}
	if err != nil {
		return err
	}
	return l.addString(start, value)
}

func (l *lexer) addString(start int, value string) error {
	if !utf8.ValidString(value) {
		return l.fail(sqlstate.CharacterNotInRepertoire, start, "invalid byte sequence for encoding \"UTF8\"")
	}
	if strings.IndexByte(value, 0) >= 0 {
		return l.fail(sqlstate.CharacterNotInRepertoire, start, "invalid byte sequence for encoding \"UTF8\": 0x00")
	}
	l.add(tokenString, start, value, quoteString(value))
	return nil
}

// continued moves to the next part of a literal that goes on after a line break, as standard SQL
// allows, and says whether there is one.
func (l *lexer) continued() bool {
	p, line := l.pos, false
	for p < len(l.src) && isSpace(l.src[p]) {
		line = line || l.src[p] == '\n' || l.src[p] == '\r'
		p++
	}
	if !line || p >= len(l.src) || l.src[p] != '\'' {
		return false
	}
	l.pos = p
	return true
}

func (l *lexer) stringPart(skip int, escapes bool) (string, error) {
	if !escapes {
		return l.untilQuote(skip, '\'', "unterminated quoted string")
	}
	start := l.pos
	l.pos += skip
	var b strings.Builder
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\'' && l.at(1) == '\'':
			b.WriteByte('\'')
			l.pos += 2
		case c == '\'':
			l.pos++
			return b.String(), nil
		case c == '\\' && l.pos+1 < len(l.src):
			if err := l.escape(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
			l.pos++
		}
	}
	return "", l.fail(sqlstate.SyntaxError, start, "unterminated quoted string")
}

// escape reads one backslash escape of an E'…' literal.
func (l *lexer) escape(b *strings.Builder) error {
	start := l.pos
	c := l.src[l.pos+1]
	l.pos += 2
	switch {
	case c == 'b':
		b.WriteByte('\b')
	case c == 'f':
		b.WriteByte('\f')
	case c == 'n':
		b.WriteByte('\n')
	case c == 'r':
		b.WriteByte('\r')
	case c == 't':
		b.WriteByte('\t')
	case c >= '0' && c <= '7':
		l.pos--
		b.WriteByte(byte(l.digits(3, 8)))
	case c == 'x' && digitOf(l.at(0)) < 16:
		b.WriteByte(byte(l.digits(2, 16)))
	case c == 'u' || c == 'U':
		n := 4
		if c == 'U' {
			n = 8
		}
		from := l.pos
		r := rune(l.digits(n, 16))
		if l.pos-from != n || !utf8.ValidRune(r) {
			return l.fail(sqlstate.SyntaxError, start, "invalid Unicode escape")
		}
		b.WriteRune(r)
	default:
		b.WriteByte(c)
	}
	return nil
}

// digits reads up to n digits of the given base.
func (l *lexer) digits(n, base int) int64 {
	var v int64
	for i := 0; i < n && l.pos < len(l.src); i++ {
		d := digitOf(l.src[l.pos])
		if d >= base {
			break
		}
		v = v*int64(base) + int64(d)
		l.pos++
	}
	return v
}

func digitOf(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return 99
}

func (l *lexer) unicodeString() error {
	start := l.pos
	raw, err := l.untilQuote(3, '\'', "unterminated quoted string")
	if err != nil {
		return err
	}
	value, err := l.unicode(start, raw)
	if err != nil {
		return err
	}
	return l.addString(start, value)
}

func (l *lexer) unicodeIdentifier() error {
	start := l.pos
	raw, err := l.untilQuote(3, '"', "unterminated quoted identifier")
	if err != nil {
		return err
	}
	value, err := l.unicode(start, raw)
	if err != nil {
		return err
	}
	if value == "" || strings.IndexByte(value, 0) >= 0 {
		return l.fail(sqlstate.SyntaxError, start, "invalid delimited identifier")
	}
	l.add(tokenQuoted, start, value, quoteIdent(value))
	return nil
}

// unicode decodes the \XXXX and \+XXXXXX escapes of U&'…'.
func (l *lexer) unicode(start int, raw string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			b.WriteByte(raw[i])
			i++
			continue
		}
		if strings.HasPrefix(raw[i:], `\\`) {
			b.WriteByte('\\')
			i += 2
			continue
		}
		n, from := 4, i+1
		if strings.HasPrefix(raw[i:], `\+`) {
			n, from = 6, i+2
		}
		if from+n > len(raw) {
			return "", l.fail(sqlstate.SyntaxError, start, "invalid Unicode escape")
		}
		sub := lexer{src: raw[from : from+n]}
		r := rune(sub.digits(n, 16))
		if sub.pos != n || !utf8.ValidRune(r) {
			return "", l.fail(sqlstate.SyntaxError, start, "invalid Unicode escape")
		}
		b.WriteRune(r)
		i = from + n
	}
	return b.String(), nil
}

func (l *lexer) blob() error {
	start := l.pos
	text, err := l.untilQuote(2, '\'', "unterminated hexadecimal string literal")
	if err != nil {
		return err
	}
	for i := range len(text) {
		if digitOf(text[i]) > 15 {
			return l.fail(sqlstate.SyntaxError, start, "invalid hexadecimal digit in string literal")
		}
	}
	l.add(tokenBlob, start, text, "x'"+text+"'")
	return nil
}

func (l *lexer) dollarString() error {
	start := l.pos
	p := l.pos + 1
	for p < len(l.src) && isIdentPart(l.src[p]) && l.src[p] != '$' {
		p++
	}
	if p >= len(l.src) || l.src[p] != '$' {
		return l.fail(sqlstate.SyntaxError, start, "syntax error at or near \"$\"")
	}
	tag := l.src[start : p+1]
	n := strings.Index(l.src[p+1:], tag)
	if n < 0 {
		return l.fail(sqlstate.SyntaxError, start, "unterminated dollar-quoted string")
	}
	value := l.src[p+1 : p+1+n]
	l.pos = p + 1 + n + len(tag)
	return l.addString(start, value)
}

func (l *lexer) number() error {
	start := l.pos
	if l.src[l.pos] == '0' && (l.at(1)|0x20) == 'x' && digitOf(l.at(2)) < 16 {
		for l.pos += 2; digitOf(l.at(0)) < 16; {
			l.pos++
		}
		return l.addNumber(start)
	}
	l.skipDigits()
	if l.at(0) == '.' && l.at(1) != '.' {
		l.pos++
		l.skipDigits()
	}
	if l.at(0)|0x20 == 'e' {
		n := 1
		if l.at(1) == '+' || l.at(1) == '-' {
			n = 2
		}
		if isDigit(l.at(n)) {
			l.pos += n
			l.skipDigits()
		}
	}
	return l.addNumber(start)
}

func (l *lexer) addNumber(start int) error {
	if isIdentStart(l.at(0)) {
		end := l.pos
		for end < len(l.src) && isIdentPart(l.src[end]) {
			end++
		}
		return l.fail(sqlstate.SyntaxError, start, "trailing junk after numeric literal at or near \"%s\"", l.src[start:end])
	}
	l.add(tokenNumber, start, l.src[start:l.pos], l.src[start:l.pos])
	return nil
}

func (l *lexer) skipDigits() {
	for isDigit(l.at(0)) {
		l.pos++
	}
}

func (l *lexer) parameter() {
	start := l.pos
	l.pos++
	l.skipDigits()
	digits := l.src[start+1 : l.pos]
	l.add(tokenParam, start, digits, "?"+digits)
}

// operator reads the longest operator by PostgreSQL's rules: it may not hold the start of a comment,
// and it ends in + or - only if it also has one of ~ ! @ # % ^ & |.
func (l *lexer) operator() {
	start := l.pos
	if l.src[l.pos] == ':' && (l.at(1) == ':' || l.at(1) == '=') {
		l.pos += 2
	} else if !isOperator(l.src[l.pos]) {
		_, n := utf8.DecodeRuneInString(l.src[l.pos:])
		l.pos += n
	} else {
		l.pos = l.operatorEnd()
	}
	text := l.src[start:l.pos]
	l.add(tokenOp, start, text, text)
}

func (l *lexer) operatorEnd() int {
	end, special := l.pos, false
	for end < len(l.src) && isOperator(l.src[end]) {
		if rest := l.src[end:]; end > l.pos && (strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*")) {
			break
		}
		special = special || strings.IndexByte("~!@#%^&|?", l.src[end]) >= 0
		end++
	}
	for end-l.pos > 1 && !special && (l.src[end-1] == '+' || l.src[end-1] == '-') {
		end--
	}
	return end
}

func isOperator(c byte) bool { return strings.IndexByte("+-*/<>=~!@#%^&|?", c) >= 0 }

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isIdentStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isIdentPart(c byte) bool { return isIdentStart(c) || isDigit(c) || c == '$' }

// asciiLower folds an identifier as PostgreSQL does in UTF-8: ASCII letters only.
func asciiLower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] >= 'A' && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// quoteIdent writes a name so that SQLite reads exactly this name.
func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteString writes a string literal.
func quoteString(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
