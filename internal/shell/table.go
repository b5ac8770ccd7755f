package shell

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// Types whose values stand on the right of their column: int8, int2, int4, oid, float4, float8, numeric.
var rightAligned = map[uint32]bool{20: true, 21: true, 23: true, 26: true, 700: true, 701: true, 1700: true}

// table holds one result in memory, because the width of a column is known only after its last row.
type table struct {
	names  []string
	right  []bool
	widths []int
	rows   [][]string
}

func newTable(fields []pgconn.FieldDescription) *table {
	t := &table{}
	for _, f := range fields {
		t.names = append(t.names, f.Name)
		t.right = append(t.right, rightAligned[f.DataTypeOID])
		t.widths = append(t.widths, width(f.Name))
	}
	return t
}

// add takes a copy of one row's values; NULL shows as nothing.
func (t *table) add(values [][]byte) {
	row := make([]string, len(values))
	for i, value := range values {
		row[i] = printable(string(value))
		for line := range strings.SplitSeq(row[i], "\n") {
			t.widths[i] = max(t.widths[i], width(line))
		}
	}
	t.rows = append(t.rows, row)
}

func (t *table) print(out io.Writer) {
	w := bufio.NewWriter(out)
	defer w.Flush() // like fmt.Print, it has nobody to tell that the terminal is gone

	for i, name := range t.names {
		left := (t.widths[i] - width(name)) / 2
		t.cell(w, i, strings.Repeat(" ", left)+name, false, ' ')
	}
	w.WriteString("\n")
	for i := range t.names {
		if i > 0 {
			w.WriteString("+")
		}
		w.WriteString(strings.Repeat("-", t.widths[i]+2))
	}
	w.WriteString("\n")
	for _, row := range t.rows {
		t.row(w, row)
	}
	fmt.Fprintf(w, "(%s)\n\n", plural(len(t.rows), "row"))
}

// row prints one row; a value of several lines takes as many, each but its last marked with +.
func (t *table) row(w *bufio.Writer, row []string) {
	cells := make([][]string, len(row))
	height := 1
	for i, value := range row {
		cells[i] = strings.Split(value, "\n")
		height = max(height, len(cells[i]))
	}
	for n := range height {
		for i, lines := range cells {
			text, mark := "", byte(' ')
			if n < len(lines) {
				text = lines[n]
			}
			if n+1 < len(lines) {
				mark = '+'
			}
			t.cell(w, i, text, t.right[i], mark)
		}
		w.WriteString("\n")
	}
}

// cell prints one line of column i, padded to the column's width; nothing follows the last column's text.
func (t *table) cell(w *bufio.Writer, i int, text string, right bool, mark byte) {
	padding := strings.Repeat(" ", t.widths[i]-width(text))
	last := i == len(t.names)-1
	switch {
	case right:
		text = padding + text
	case !last || mark != ' ':
		text += padding
	}
	if i > 0 {
		w.WriteString("|")
	}
	w.WriteString(" " + text)
	if !last || mark != ' ' {
		w.WriteByte(mark)
	}
}

// printable keeps line ends and replaces other control characters, which would move the cursor of
// the terminal or worse.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return '�'
		}
		return r
	}, strings.ReplaceAll(s, "\t", "    "))
}

func width(s string) int { return utf8.RuneCountInString(s) }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
