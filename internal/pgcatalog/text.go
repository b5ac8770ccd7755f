package pgcatalog

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// maxText bounds what a text function may build.
const maxText = 64 << 20

func tooLong() error {
	return sqlstate.New(sqlstate.ProgramLimitExceeded, "requested length too large")
}

func textFunctions() []function {
	return []function{
		{"lower", 1, 1, pure, mapText(strings.ToLower)},
		{"upper", 1, 1, pure, mapText(strings.ToUpper)},
		{"initcap", 1, 1, pure, mapText(initcap)},
		{"reverse", 1, 1, pure, mapText(reverse)},
		{"btrim", 1, 2, pure, func(c *call) error { return c.returnText(strings.Trim(c.text(0), c.trimSet())) }},
		{"position_", 2, 2, pure, func(c *call) error { return c.returnInt(runeIndex(c.text(1), c.text(0))) }},
		{"strpos", 2, 2, pure, func(c *call) error { return c.returnInt(runeIndex(c.text(0), c.text(1))) }},
		{"starts_with", 2, 2, pure, func(c *call) error { return c.returnBool(strings.HasPrefix(c.text(0), c.text(1))) }},
		{"split_part", 3, 3, pure, splitPart},
		{"left", 2, 2, pure, left},
		{"right", 2, 2, pure, right},
		{"lpad", 2, 3, pure, pad(true)},
		{"rpad", 2, 3, pure, pad(false)},
		{"repeat", 2, 2, pure, repeat},
		{"translate", 3, 3, pure, translate},
		{"overlay", 3, 4, pure, overlay},
		{"substr", 2, 3, pure, substr},
		{"substring", 2, 3, pure, substring},
		{"char_length", 1, 1, pure, charLength},
		{"character_length", 1, 1, pure, charLength},
		{"bit_length", 1, 1, pure, func(c *call) error { return c.returnInt(8 * int64(len(c.bytes(0)))) }},
		{"ascii", 1, 1, pure, asciiCode},
		{"chr", 1, 1, pure, chr},
		{"md5", 1, 1, pure, func(c *call) error { h := md5.Sum(c.bytes(0)); return c.returnText(hex.EncodeToString(h[:])) }},
		{"sha224", 1, 1, pure, func(c *call) error { h := sha256.Sum224(c.bytes(0)); return c.returnBlob(h[:]) }},
		{"sha256", 1, 1, pure, func(c *call) error { h := sha256.Sum256(c.bytes(0)); return c.returnBlob(h[:]) }},
		{"sha384", 1, 1, pure, func(c *call) error { h := sha512.Sum384(c.bytes(0)); return c.returnBlob(h[:]) }},
		{"sha512", 1, 1, pure, func(c *call) error { h := sha512.Sum512(c.bytes(0)); return c.returnBlob(h[:]) }},
		{"encode", 2, 2, pure, encode},
		{"decode", 2, 2, pure, decode},
		{"convert_from", 2, 2, pure, convertFrom},
		{"convert_to", 2, 2, pure, func(c *call) error { return c.returnBlob([]byte(c.text(0))) }},
		{"to_hex", 1, 1, pure, toHex},
		{"quote_ident", 1, 1, pure, mapText(quoteIdent)},
		{"quote_literal", 1, 1, pure, mapText(quoteLiteral)},
		{"quote_nullable", 1, 1, pure | nullable, quoteNullable},
		{"format", 1, -1, pure | nullable, format},
		{"gen_random_uuid", 0, 0, varying, randomUUID},
		{"uuid_generate_v4", 0, 0, varying, randomUUID},
		{"gen_random_bytes", 1, 1, varying, randomBytes},
		{"random", 0, 0, varying, func(c *call) error { return c.returnFloat(mathrand.Float64()) }},
		{"setseed", 1, 1, 0, always("")},
		{"num_nulls", 1, -1, pure | nullable, countNulls(true)},
		{"num_nonnulls", 1, -1, pure | nullable, countNulls(false)},
		{"regexp", 2, 2, pure, regexpMatch},
		{"match", 2, 2, pure, ilike}, // by exact count: SQLite keeps a two-argument MATCH that only fails
		{"match", 3, 3, pure, ilike},
		{"like_escape", 2, 2, pure, func(c *call) error { return c.returnArg(0) }},
		{"regexp_replace", 3, 4, pure, regexpReplace},
		{"regexp_match", 2, 3, pure, regexpFind},
		{"regexp_matches", 2, 3, pure, regexpFind},
		{"regexp_like", 2, 3, pure, regexpLike},
		{"regexp_count", 2, 4, pure, regexpCount},
		{"regexp_substr", 2, 2, pure, regexpSubstr},
		{"regexp_split_to_array", 2, 3, pure, regexpSplit},
	}
}

func mapText(f func(string) string) func(*call) error {
	return func(c *call) error { return c.returnText(f(c.text(0))) }
}

func initcap(s string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		first := !inWord
		inWord = unicode.IsLetter(r) || unicode.IsDigit(r)
		if first {
			return unicode.ToUpper(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func reverse(s string) string {
	r := []rune(s)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}

func (c *call) trimSet() string {
	if len(c.arg) > 1 {
		return c.text(1)
	}
	return " "
}

// runeIndex gives where sub begins in s, counting characters from 1; 0 when nowhere.
func runeIndex(s, sub string) int64 {
	i := strings.Index(s, sub)
	if i < 0 {
		return 0
	}
	return int64(utf8.RuneCountInString(s[:i])) + 1
}

func splitPart(c *call) error {
	n, err := c.int(2)
	if err != nil {
		return err
	}
	if n == 0 {
		return sqlstate.New(sqlstate.InvalidParameterValue, "field position must not be zero")
	}
	parts := []string{c.text(0)}
	if c.text(1) != "" {
		parts = strings.Split(c.text(0), c.text(1))
	}
	if n < 0 {
		n += int64(len(parts)) + 1
	}
	if n < 1 || n > int64(len(parts)) {
		return c.returnText("")
	}
	return c.returnText(parts[n-1])
}

func left(c *call) error {
	n, err := c.int(1)
	if err != nil {
		return err
	}
	r := []rune(c.text(0))
	size := int64(len(r))
	if n < 0 {
		n = max(size+n, 0)
	}
	return c.returnText(string(r[:min(n, size)]))
}

func right(c *call) error {
	n, err := c.int(1)
	if err != nil {
		return err
	}
	r := []rune(c.text(0))
	size := int64(len(r))
	if n < 0 {
		n = max(size+n, 0)
	}
	return c.returnText(string(r[size-min(n, size):]))
}

func pad(before bool) func(*call) error {
	return func(c *call) error {
		n, err := c.int(1)
		if err != nil {
			return err
		}
		if n > maxText/utf8.UTFMax {
			return tooLong()
		}
		fill := []rune(" ")
		if len(c.arg) > 2 {
			fill = []rune(c.text(2))
		}
		r := []rune(c.text(0))
		want := int(max(n, 0))
		if len(r) >= want || len(fill) == 0 {
			return c.returnText(string(r[:min(want, len(r))]))
		}
		padding := make([]rune, want-len(r))
		for i := range padding {
			padding[i] = fill[i%len(fill)]
		}
		if before {
			return c.returnText(string(padding) + string(r))
		}
		return c.returnText(string(r) + string(padding))
	}
}

func repeat(c *call) error {
	n, err := c.int(1)
	if err != nil {
		return err
	}
	s := c.text(0)
	if n <= 0 || s == "" {
		return c.returnText("")
	}
	if n > int64(maxText/len(s)) {
		return tooLong()
	}
	return c.returnText(strings.Repeat(s, int(n)))
}

func translate(c *call) error {
	from, to := []rune(c.text(1)), []rune(c.text(2))
	table := map[rune]rune{}
	for i, r := range from {
		if _, seen := table[r]; seen {
			continue
		}
		if table[r] = -1; i < len(to) {
			table[r] = to[i]
		}
	}
	return c.returnText(strings.Map(func(r rune) rune {
		if t, ok := table[r]; ok {
			return t
		}
		return r
	}, c.text(0)))
}

func overlay(c *call) error {
	s, by := []rune(c.text(0)), []rune(c.text(1))
	start, err := c.int(2)
	if err != nil {
		return err
	}
	count, err := c.intOr(3, int64(len(by)))
	if err != nil {
		return err
	}
	if start < 1 {
		return sqlstate.New("22011", "negative substring length not allowed")
	}
	size := int64(len(s))
	begin := min(start-1, size)
	end := min(max(begin+min(max(count, 0), size), 0), size)
	return c.returnText(string(s[:begin]) + string(by) + string(s[end:]))
}

// substr counts from 1; what lies before the text counts against the length.
func substr(c *call) error {
	start, err := c.int(1)
	if err != nil {
		return err
	}
	count, err := c.intOr(2, 1<<40)
	if err != nil {
		return err
	}
	if count < 0 {
		return sqlstate.New("22011", "negative substring length not allowed")
	}
	if c.arg[0].Type() == sqlite3.BLOB {
		b := c.arg[0].RawBlob()
		low, high := clipRange(start, count, int64(len(b)))
		return c.returnBlob(b[low:high])
	}
	s := c.text(0)
	if utf8.RuneCountInString(s) == len(s) {
		low, high := clipRange(start, count, int64(len(s)))
		return c.returnText(s[low:high])
	}
	r := []rune(s)
	low, high := clipRange(start, count, int64(len(r)))
	return c.returnText(string(r[low:high]))
}

// clipRange gives the half-open range of count positions from start (from 1) within size.
func clipRange(start, count, size int64) (low, high int64) {
	start = min(max(start, -1<<41), 1<<41)
	count = min(count, 1<<42)
	low = min(max(start-1, 0), size)
	return low, max(min(start-1+count, size), low)
}

// substring is substr, or with a text as second argument the part that matches a pattern.
func substring(c *call) error {
	if c.arg[1].Type() == sqlite3.TEXT && len(c.arg) == 2 && !allDigits(strings.TrimPrefix(c.text(1), "-")) {
		return regexpSubstr(c)
	}
	return substr(c)
}

func charLength(c *call) error { return c.returnInt(int64(utf8.RuneCountInString(c.text(0)))) }

func asciiCode(c *call) error {
	for _, r := range c.text(0) {
		return c.returnInt(int64(r))
	}
	return c.returnInt(0)
}

func chr(c *call) error {
	n, err := c.int(0)
	if err != nil {
		return err
	}
	if n <= 0 || n > utf8.MaxRune || !utf8.ValidRune(rune(n)) {
		return sqlstate.New(sqlstate.ProgramLimitExceeded, "requested character not valid for encoding: %d", n)
	}
	return c.returnText(string(rune(n)))
}

func encode(c *call) error {
	b := c.bytes(0)
	switch strings.ToLower(c.text(1)) {
	case "hex":
		return c.returnText(hex.EncodeToString(b))
	case "base64":
		return c.returnText(wrapLines(base64.StdEncoding.EncodeToString(b), 76))
	case "escape":
		return c.returnText(escapeBytes(b))
	}
	return sqlstate.New(sqlstate.InvalidParameterValue, "unrecognized encoding: \"%s\"", c.text(1))
}

func wrapLines(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\n")
		s = s[width:]
	}
	b.WriteString(s)
	return b.String()
}

func escapeBytes(raw []byte) string {
	var b strings.Builder
	for _, ch := range raw {
		switch {
		case ch == '\\':
			b.WriteString(`\\`)
		case ch == 0 || ch >= 0x80:
			fmt.Fprintf(&b, `\%03o`, ch)
		default:
			b.WriteByte(ch)
		}
	}
	return b.String()
}

func decode(c *call) error {
	var out []byte
	var err error
	s := c.text(0)
	switch strings.ToLower(c.text(1)) {
	case "hex":
		out, err = hex.DecodeString(strings.Map(dropSpace, s))
	case "base64":
		out, err = base64.StdEncoding.DecodeString(strings.Map(dropSpace, s))
	case "escape":
		var ok bool
		if out, ok = parseBytea(s); !ok {
			err = badText("bytea", s)
		}
	default:
		return sqlstate.New(sqlstate.InvalidParameterValue, "unrecognized encoding: \"%s\"", c.text(1))
	}
	if err != nil {
		return sqlstate.New(sqlstate.InvalidParameterValue, "invalid %s data", strings.ToLower(c.text(1)))
	}
	return c.returnBlob(out)
}

func convertFrom(c *call) error {
	b := c.bytes(0)
	if !utf8.Valid(b) {
		return sqlstate.New(sqlstate.CharacterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\"")
	}
	return c.returnText(string(b))
}

func toHex(c *call) error {
	n, err := c.int(0)
	if err != nil {
		return err
	}
	if n < 0 && n >= -1<<31 {
		return c.returnText(fmt.Sprintf("%x", uint32(n)))
	}
	return c.returnText(fmt.Sprintf("%x", uint64(n)))
}

// quoteIdent quotes an identifier unless it reads back as itself.
func quoteIdent(s string) string {
	plain := s != "" && !isDigit(s[0]) && s[0] != '$' && !reserved[s]
	for i := 0; plain && i < len(s); i++ {
		ch := s[i]
		plain = 'a' <= ch && ch <= 'z' || isDigit(ch) || ch == '_' || ch == '$'
	}
	if plain {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

func quoteNullable(c *call) error {
	if c.isNull(0) {
		return c.returnText("NULL")
	}
	return c.returnText(quoteLiteral(c.text(0)))
}

// format is PostgreSQL's: %s, %I, %L, %%, each with an optional position and width.
func format(c *call) error {
	if c.isNull(0) {
		return nil
	}
	f := c.text(0)
	var b strings.Builder
	next := 1
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			b.WriteByte(f[i])
			continue
		}
		i++
		if i < len(f) && f[i] == '%' {
			b.WriteByte('%')
			continue
		}
		start := i
		for i < len(f) && (isDigit(f[i]) || f[i] == '$' || f[i] == '-') {
			i++
		}
		if i == len(f) {
			return sqlstate.New(sqlstate.InvalidParameterValue, "unterminated format() type specifier")
		}
		width := f[start:i]
		if position, rest, ok := strings.Cut(width, "$"); ok {
			n := 0
			fmt.Sscanf(position, "%d", &n)
			next, width = n, rest
		}
		if next < 1 || next >= len(c.arg) {
			return sqlstate.New(sqlstate.InvalidParameterValue, "too few arguments for format()")
		}
		s, err := c.formatArgument(f[i], next)
		if err != nil {
			return err
		}
		b.WriteString(padTo(s, width))
		next++
	}
	return c.returnText(b.String())
}

func (c *call) formatArgument(verb byte, i int) (string, error) {
	switch verb {
	case 's':
		return c.textOr(i, ""), nil
	case 'I':
		if c.isNull(i) {
			return "", sqlstate.New("22004", "null values cannot be formatted as an SQL identifier")
		}
		return quoteIdent(c.text(i)), nil
	case 'L':
		if c.isNull(i) {
			return "NULL", nil
		}
		return quoteLiteral(c.text(i)), nil
	}
	return "", sqlstate.New(sqlstate.InvalidParameterValue, "unrecognized format() type specifier \"%c\"", verb)
}

func padTo(s, width string) string {
	n := 0
	if len(width) < 6 {
		fmt.Sscanf(strings.TrimPrefix(width, "-"), "%d", &n)
	}
	missing := n - utf8.RuneCountInString(s)
	if missing <= 0 {
		return s
	}
	if strings.HasPrefix(width, "-") {
		return s + strings.Repeat(" ", missing)
	}
	return strings.Repeat(" ", missing) + s
}

func randomUUID(c *call) error {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return c.returnText(formatUUID(hex.EncodeToString(b[:])))
}

func randomBytes(c *call) error {
	n, err := c.int(0)
	if err != nil {
		return err
	}
	if n < 1 || n > 1024 {
		return sqlstate.New(sqlstate.InvalidParameterValue, "Length not in range")
	}
	b := make([]byte, n)
	rand.Read(b) // never fails
	return c.returnBlob(b)
}

func countNulls(null bool) func(*call) error {
	return func(c *call) error {
		n := int64(0)
		for i := range c.arg {
			if c.isNull(i) == null {
				n++
			}
		}
		return c.returnInt(n)
	}
}

// prettySize is pg_size_pretty: halves round away from zero at each step.
func prettySize(n *big.Int) string {
	limit := big.NewInt(10 * 1024)
	if n.CmpAbs(limit) < 0 {
		return n.String() + " bytes"
	}
	// Each step halves twice 512, keeping one bit for the rounding.
	n = new(big.Int).Quo(n, big.NewInt(512))
	units := []string{"kB", "MB", "GB", "TB", "PB"}
	for i, unit := range units {
		if n.CmpAbs(big.NewInt(20*1024-1)) < 0 || i == len(units)-1 {
			half := big.NewInt(int64(n.Sign()))
			return new(big.Int).Quo(n.Add(n, half), big.NewInt(2)).String() + " " + unit
		}
		n.Quo(n, big.NewInt(1024))
	}
	return ""
}
