package shell

import (
	"bytes"
	"strings"
)

// splitter collects lines and cuts them into statements at the semicolons that end one: not those
// inside quotes, comments, dollar quotes or the body of a trigger. It only has to find the end; the
// server judges the rest. It remembers how far it has looked, so a statement of many lines costs
// one pass.
type splitter struct {
	text    []byte
	pos     int    // looked at up to here
	body    int    // where the current statement of a trigger's body begins
	closing string // what ends the quoted text or comment at pos; "" outside of any
	escapes bool   // a backslash hides the next byte: E'…'
	depth   int    // of nested block comments
}

// add appends text, usually one line with its line end.
func (s *splitter) add(text string) { s.text = append(s.text, text...) }

// quoted says whether the text so far ends inside quotes or a block comment.
func (s *splitter) quoted() bool { return s.closing != "" && s.closing != "\n" }

// rest gives what stands after the last complete statement, without surrounding space.
func (s *splitter) rest() string { return string(bytes.TrimSpace(s.text)) }

// next cuts off the first complete statement, with its semicolon. Lone semicolons are skipped.
func (s *splitter) next() (string, bool) {
	for s.pos < len(s.text) {
		if s.closing != "" {
			s.skipQuoted()
			continue
		}
		if s.text[s.pos] == ';' && s.endsStatement() {
			statement := string(bytes.TrimSpace(s.text[:s.pos+1]))
			*s = splitter{text: s.text[s.pos+1:]}
			if statement == ";" {
				continue
			}
			return statement, true
		}
		s.step()
	}
	return "", false
}

// step passes one byte outside quotes, or the opening of a quote or comment.
func (s *splitter) step() {
	rest := s.text[s.pos:]
	switch {
	case rest[0] == '\'':
		s.open("'", 1)
		s.escapes = s.escapeString()
	case rest[0] == '"':
		s.open(`"`, 1)
	case hasPrefix(rest, "--"):
		s.open("\n", 2)
	case hasPrefix(rest, "/*"):
		s.open("*/", 2)
		s.depth = 1
	case rest[0] == '$' && (s.pos == 0 || !wordByte(s.text[s.pos-1])):
		if tag := dollarTag(rest); tag != "" {
			s.open(tag, len(tag))
			return
		}
		s.pos++
	default:
		s.pos++
	}
}

func (s *splitter) open(closing string, length int) {
	s.closing, s.escapes = closing, false
	s.pos += length
}

// skipQuoted moves to the end of the quoted text or comment, or to the end of what is typed so far.
func (s *splitter) skipQuoted() {
	for s.pos < len(s.text) {
		rest := s.text[s.pos:]
		switch {
		case s.escapes && rest[0] == '\\':
			s.pos = min(s.pos+2, len(s.text))
		case s.depth > 0 && hasPrefix(rest, "/*"):
			s.depth++
			s.pos += 2
		case hasPrefix(rest, s.closing):
			s.pos += len(s.closing)
			if s.depth--; s.depth > 0 {
				continue
			}
			s.closing, s.depth = "", 0
			return
		default:
			s.pos++
		}
	}
}

// endsStatement tells the semicolon at pos from one inside CREATE TRIGGER … BEGIN …; …; END;
func (s *splitter) endsStatement() bool {
	if !createsTrigger(s.text[:s.pos]) {
		return true
	}
	inner := bytes.TrimSpace(s.text[s.body:s.pos])
	last := s.body > 0 && bytes.EqualFold(inner, []byte("end"))
	s.body = s.pos + 1
	return last
}

// escapeString says whether the quote that was just opened follows a lone E, as in E'it\'s'.
func (s *splitter) escapeString() bool {
	quote := s.pos - 1
	if quote < 1 || s.text[quote-1]|0x20 != 'e' {
		return false
	}
	return quote == 1 || !wordByte(s.text[quote-2])
}

// createsTrigger looks at the first words only: CREATE [TEMP|TEMPORARY] TRIGGER.
func createsTrigger(text []byte) bool {
	const enough = 4
	words := strings.Fields(strings.ToLower(string(text[:min(len(text), 200)])))
	if len(words) < enough || words[0] != "create" {
		return false
	}
	if words[1] == "temp" || words[1] == "temporary" {
		return words[2] == "trigger"
	}
	return words[1] == "trigger"
}

// dollarTag gives the opening of a dollar quote at the start of text, such as $$ or $body$, or "".
func dollarTag(text []byte) string {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '$':
			return string(text[:i+1])
		case !wordByte(c), i == 1 && c >= '0' && c <= '9':
			return ""
		}
	}
	return ""
}

func wordByte(c byte) bool {
	return c == '_' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func hasPrefix(text []byte, prefix string) bool {
	return len(text) >= len(prefix) && string(text[:len(prefix)]) == prefix
}
