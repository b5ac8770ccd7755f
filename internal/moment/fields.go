package moment

import "strings"

// fieldKind is what a field of a date or time looks like, before its meaning is known.
type fieldKind int

const (
	numberField fieldKind = iota // digits, perhaps with a point
	dateField                    // parts joined by -, / or ., or the name of a zone
	timeField                    // digits with a colon
	offsetField                  // a sign and digits
	wordField                    // letters, perhaps after a sign
)

type field struct {
	kind fieldKind
	text string // in lower case
}

const (
	maxFields = 25
	// PostgreSQL keeps the fields, each with a zero byte behind it, in a buffer that is longer for timestamps.
	maxFieldBytes     = 129
	maxTimestampBytes = 153
)

// splitter cuts the text of a date or time where PostgreSQL does.
type splitter struct {
	rest   string
	fields []field
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isSpace(c byte) bool  { return c == ' ' || c >= '\t' && c <= '\r' }
func isPrint(c byte) bool  { return c > ' ' && c < 0x7f }

func split(text string, maxBytes int) ([]field, bool) {
	s := splitter{rest: strings.ToLower(text), fields: make([]field, 0, 8)}
	size := 0
	for s.rest != "" {
		c := s.rest[0]
		switch {
		case isSpace(c):
			s.rest = s.rest[1:]
			continue
		case isDigit(c):
			s.number()
		case c == '.':
			s.add(numberField, 1+prefix(s.rest[1:], isDigit))
		case isLetter(c):
			s.word()
		case c == '+' || c == '-':
			if !s.signed() {
				return nil, false
			}
		case isPrint(c): // other punctuation only separates
			s.rest = s.rest[1:]
			continue
		default:
			return nil, false
		}
		size += len(s.fields[len(s.fields)-1].text) + 1
		if len(s.fields) > maxFields || size > maxBytes {
			return nil, false
		}
	}
	return s.fields, true
}

// prefix counts the first bytes of text that all satisfy ok.
func prefix(text string, ok func(byte) bool) int {
	n := 0
	for n < len(text) && ok(text[n]) {
		n++
	}
	return n
}

func (s *splitter) add(kind fieldKind, n int) {
	s.fields = append(s.fields, field{kind, s.rest[:n]})
	s.rest = s.rest[n:]
}

// number reads what begins with a digit: a time, a date whose month may be a name, or a number.
func (s *splitter) number() {
	n := prefix(s.rest, isDigit)
	if n == len(s.rest) {
		s.add(numberField, n)
		return
	}
	switch delimiter := s.rest[n]; delimiter {
	case ':':
		s.add(timeField, n+prefix(s.rest[n:], func(c byte) bool { return isDigit(c) || c == ':' || c == '.' }))
	case '-', '/', '.':
		s.date(n+1, delimiter)
	default:
		s.add(numberField, n)
	}
}

// date reads on after the first delimiter of a date.
func (s *splitter) date(n int, delimiter byte) {
	if n == len(s.rest) || !isDigit(s.rest[n]) {
		s.add(dateField, n+prefix(s.rest[n:], func(c byte) bool { return isDigit(c) || isLetter(c) || c == delimiter }))
		return
	}
	n += prefix(s.rest[n:], isDigit)
	switch {
	case n < len(s.rest) && s.rest[n] == delimiter:
		s.add(dateField, n+prefix(s.rest[n:], func(c byte) bool { return isDigit(c) || c == delimiter }))
	case delimiter == '.':
		s.add(numberField, n)
	default:
		s.add(dateField, n)
	}
}

// word reads letters, and on where they begin a date (Jan-08-1999) or the name of a zone.
func (s *splitter) word() {
	n := prefix(s.rest, isLetter)
	if n < len(s.rest) {
		c := s.rest[n]
		_, known := words[s.rest[:n]]
		if c == '-' || c == '/' || c == '.' || (c == '+' || isDigit(c)) && !known {
			s.add(dateField, n+prefix(s.rest[n:], func(c byte) bool { return isDigit(c) || isLetter(c) || strings.IndexByte("+-/_.:", c) >= 0 }))
			return
		}
	}
	s.add(wordField, n)
}

// signed reads a sign, spaces, and an offset or an infinity.
func (s *splitter) signed() bool {
	sign := s.rest[:1]
	s.rest = strings.TrimLeft(s.rest[1:], " \t\n\v\f\r")
	switch {
	case s.rest == "":
		return false
	case isDigit(s.rest[0]):
		s.add(offsetField, prefix(s.rest, func(c byte) bool { return isDigit(c) || c == ':' || c == '.' || c == '-' }))
	case isLetter(s.rest[0]):
		s.add(wordField, prefix(s.rest, isLetter))
	default:
		return false
	}
	last := &s.fields[len(s.fields)-1]
	last.text = sign + last.text
	return true
}
