package pgwire

import (
	"bytes"
	"strconv"
)

// parseArray reads a literal such as {1,NULL,"a b"}, {{1,2},{3,4}} or [0:1]={1,2}. Elements may share
// memory with data.
func parseArray(data []byte) (array, error) {
	p := arrayParser{rest: data, whole: data, depth: -1}
	p.skipSpace()
	if len(p.rest) > 0 && p.rest[0] == '[' {
		if err := p.bounds(); err != nil {
			return array{}, err
		}
	}
	if len(p.rest) == 0 || p.rest[0] != '{' {
		return array{}, p.bad("Array value must start with \"{\" or dimension information.")
	}
	if err := p.level(0); err != nil {
		return array{}, err
	}
	if p.skipSpace(); len(p.rest) > 0 {
		return array{}, p.bad("Junk after closing right brace.")
	}
	return p.finish()
}

type arrayParser struct {
	rest, whole []byte
	array
	given []int // sizes announced by bounds
	depth int   // level on which the elements stand; -1 until the first is seen
}

func (p *arrayParser) bad(detail string) error { return badArray(p.whole, detail) }

func (p *arrayParser) skipSpace() { p.rest = bytes.TrimLeft(p.rest, " \t\n\r\v\f") }

// bounds reads [lower:upper]... and the equals sign.
func (p *arrayParser) bounds() error {
	for len(p.rest) > 0 && p.rest[0] == '[' {
		inner, rest, closed := bytes.Cut(p.rest[1:], []byte("]"))
		lower, upper, ranged := bytes.Cut(inner, []byte(":"))
		if !ranged {
			lower, upper = []byte("1"), inner
		}
		l, ok1 := signedNumber(lower)
		u, ok2 := signedNumber(upper)
		if !closed || !ok1 || !ok2 || u < l || u-l >= maxElements || len(p.given) == maxDimensions {
			return p.bad("Specified array dimensions are not valid.")
		}
		p.lower, p.given = append(p.lower, int(l)), append(p.given, int(u-l+1))
		p.rest = rest
	}
	if p.skipSpace(); len(p.rest) == 0 || p.rest[0] != '=' {
		return p.bad("Missing \"=\" after array dimensions.")
	}
	p.rest = p.rest[1:]
	p.skipSpace()
	return nil
}

func signedNumber(text []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(text), 10, 32)
	return n, err == nil && text[0] != '+'
}

// level reads one pair of braces and what is in it. An empty pair is only allowed as the whole.
func (p *arrayParser) level(depth int) error {
	if depth == maxDimensions {
		return p.bad("The number of array dimensions exceeds the maximum allowed.")
	}
	p.rest = p.rest[1:]
	if depth == len(p.sizes) {
		p.sizes = append(p.sizes, -1)
	}
	count := 0
	for {
		p.skipSpace()
		if len(p.rest) == 0 {
			return p.bad("Unexpected end of input.")
		}
		if p.rest[0] == '}' && count == 0 {
			break
		}
		if err := p.item(depth); err != nil {
			return err
		}
		count++
		p.skipSpace()
		if len(p.rest) == 0 {
			return p.bad("Unexpected end of input.")
		}
		if p.rest[0] == '}' {
			break
		}
		if p.rest[0] != ',' {
			return p.bad("Unexpected array element.")
		}
		p.rest = p.rest[1:]
	}
	p.rest = p.rest[1:]
	if p.sizes[depth] >= 0 && p.sizes[depth] != count || count == 0 && depth > 0 {
		return p.bad("Multidimensional arrays must have sub-arrays with matching dimensions.")
	}
	p.sizes[depth] = count
	return nil
}

// item reads an element or an inner array; on one level all are of one kind.
func (p *arrayParser) item(depth int) error {
	if p.rest[0] == '{' {
		if p.depth >= 0 && p.depth <= depth {
			return p.bad("Unexpected \"{\" character.")
		}
		return p.level(depth + 1)
	}
	if p.depth < 0 && len(p.sizes) == depth+1 {
		p.depth = depth
	}
	if p.depth != depth {
		return p.bad("Unexpected array element.")
	}
	element, err := p.element()
	p.elements = append(p.elements, element)
	return err
}

func (p *arrayParser) element() ([]byte, error) {
	if p.rest[0] == '"' {
		return p.quoted()
	}
	end, escaped := 0, false
	for ; end < len(p.rest) && !delimits(p.rest[end]); end++ {
		if p.rest[end] == '\\' && end+1 < len(p.rest) {
			escaped = true
			end++
		}
	}
	raw := p.rest[:end:end]
	p.rest = p.rest[end:]
	if escaped {
		return unescape(raw), nil
	}
	raw = bytes.TrimRight(raw, " \t\n\r\v\f")
	switch {
	case len(raw) == 0:
		return nil, p.bad("Unexpected array element.")
	case bytes.EqualFold(raw, []byte("null")):
		return nil, nil
	}
	return raw, nil
}

func delimits(c byte) bool { return c == ',' || c == '{' || c == '}' || c == '"' }

func (p *arrayParser) quoted() ([]byte, error) {
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '"':
			raw := p.rest[1:i:i]
			p.rest = p.rest[i+1:]
			return unescape(raw), nil
		}
	}
	return nil, p.bad("Unexpected end of input.")
}

// unescape removes backslashes; the result is never nil.
func unescape(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' && i+1 < len(raw) {
			i++
		}
		out = append(out, raw[i])
	}
	return out
}

func (p *arrayParser) finish() (array, error) {
	a := p.array
	if len(a.elements) == 0 {
		if len(a.sizes) > 1 || p.given != nil {
			return a, p.bad("Specified array dimensions do not match array contents.")
		}
		return array{}, nil
	}
	if p.given == nil {
		for range a.sizes {
			a.lower = append(a.lower, 1)
		}
		return a, nil
	}
	if len(p.given) != len(a.sizes) {
		return a, p.bad("Specified array dimensions do not match array contents.")
	}
	for i := range p.given {
		if p.given[i] != a.sizes[i] {
			return a, p.bad("Specified array dimensions do not match array contents.")
		}
	}
	return a, nil
}
