package engine

import "strings"

// numbers are those that the session has from the sequences of serial and identity columns. They are its own affair: other sessions
// draw from the same sequences meanwhile. Rolling back does not take them back.
type numbers struct {
	of    map[string]int64 // by table, in lower case
	drawn string           // the table whose sequence gave the last one; setval gives none
}

// note remembers a number; 0 is none.
func (n *numbers) note(table string, number int64, drawn bool) {
	if table == "" || number == 0 {
		return
	}
	if n.of == nil {
		n.of = map[string]int64{}
	}
	table = strings.ToLower(table)
	n.of[table] = number
	if drawn {
		n.drawn = table
	}
}
