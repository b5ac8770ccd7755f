package engine

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"skein/internal/history"
)

// positionHint shows what checkPosition takes.
const positionHint = "It is a position as skein.last_commit shows it, as in 0/1A2B@7-5f3c9a1e, or an LSN alone, as in 0/1A2B."

var errBadPosition = errors.New("not a position")

// checkPosition takes a bookmark, or an LSN alone.
func checkPosition(s string) error {
	lsn, rest, marked := strings.Cut(s, "@")
	if _, err := history.ParseLSN(lsn); err != nil || !marked {
		return err
	}
	epoch, cluster, _ := strings.Cut(rest, "-")
	_, err := strconv.ParseUint(epoch, 10, 64)
	if id, bad := hex.DecodeString(cluster); err != nil || bad != nil || len(id) != 4 {
		return errBadPosition
	}
	return nil
}
