package shell

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

type direction int

const (
	noCopy direction = iota
	copyIn
	copyOut
)

// copyDirection recognises COPY … FROM STDIN and COPY … TO STDOUT, whose data travels beside the
// statement: a Query message alone would leave both sides waiting for each other.
func copyDirection(sql string) direction {
	words := strings.Fields(strings.ToLower(strings.TrimRight(sql, "; \t\r\n")))
	if len(words) == 0 || words[0] != "copy" {
		return noCopy
	}
	for i := 1; i+1 < len(words); i++ {
		switch words[i] + " " + strings.TrimRight(words[i+1], ";(") {
		case "from stdin":
			return copyIn
		case "to stdout":
			return copyOut
		}
	}
	return noCopy
}

// copyLines hands on the input up to the line \. that ends COPY's data, or up to the input's end.
type copyLines struct {
	in   *bufio.Reader
	line string
	done bool
}

func (c *copyLines) Read(p []byte) (int, error) {
	for c.line == "" {
		if c.done {
			return 0, io.EOF
		}
		line, err := c.in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		c.done = err != nil || strings.TrimRight(line, "\r\n") == `\.`
		if strings.TrimRight(line, "\r\n") != `\.` {
			c.line = line
		}
	}
	n := copy(p, c.line)
	c.line = c.line[n:]
	return n, nil
}
