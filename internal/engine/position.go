package engine

import (
	"strings"

	"skein/internal/history"
)

// positionHint shows what parsePosition takes.
const positionHint = "It is a position as skein.last_commit shows it, as in 0/1A2B@7-5f3c9a1e, or an LSN alone, as in 0/1A2B."

// position is what a client asks to be reached: a bookmark or, if it is bare, an LSN alone.
type position struct {
	history.Bookmark
	bare bool
}

func parsePosition(s string) (p position, err error) {
	if strings.Contains(s, "@") {
		p.Bookmark, err = history.ParseBookmark(s)
		return p, err
	}
	p.bare = true
	p.LSN, err = history.ParseLSN(s)
	return p, err
}
