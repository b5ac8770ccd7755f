package shell

import (
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// printError shows an error or a notice: what happened, where in the statement, and what may help.
func printError(w io.Writer, e *pgconn.PgError, sql string) {
	fmt.Fprintf(w, "%s:  %s\n", e.Severity, e.Message)
	if line, number, column, ok := locate(sql, int(e.Position)); ok {
		label := fmt.Sprintf("LINE %d: ", number)
		fmt.Fprintf(w, "%s%s\n%s^\n", label, line, strings.Repeat(" ", len(label)+column))
	}
	if e.Detail != "" {
		fmt.Fprintf(w, "DETAIL:  %s\n", e.Detail)
	}
	if e.Hint != "" {
		fmt.Fprintf(w, "HINT:  %s\n", e.Hint)
	}
	if e.Code != "" && e.Code != "00000" {
		fmt.Fprintf(w, "SQLSTATE:  %s\n", e.Code)
	}
}

// locate finds the line that holds the position-th character, counted from 1, and how many
// characters stand before it there.
func locate(sql string, position int) (line string, number, column int, ok bool) {
	characters := []rune(sql)
	if position < 1 || position > len(characters) {
		return "", 0, 0, false
	}
	before := string(characters[:position-1])
	start := strings.LastIndexByte(before, '\n') + 1
	line, _, _ = strings.Cut(sql[start:], "\n")
	return strings.ReplaceAll(line, "\t", " "), strings.Count(before, "\n") + 1, width(before[start:]), true
}
