package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pgcatalog"
)

// keptDegradations bounds the record of degradations.
const keptDegradations = 1000

// RecordDegraded writes down that from an LSN on commits are acknowledged without followers, and returns
// when that is on the leader's own disk: it must be there before the first such commit.
func (e *Engine) RecordDegraded(ctx context.Context, from history.LSN, reason string) error {
	return e.record(ctx, func(c *conn) error {
		now := strconv.FormatInt(time.Now().UnixMicro(), 10)
		if err := c.query("UPDATE degradations SET ended = CAST(?1 AS INTEGER) WHERE ended = 0", nil, now); err != nil {
			return err
		}
		if err := c.query("INSERT INTO degradations VALUES (NULL, CAST(?1 AS INTEGER), 0, CAST(?2 AS INTEGER), 0, 0, ?3)", nil, now, lsnText(from), reason); err != nil {
			return err
		}
		return c.query("DELETE FROM degradations WHERE id <= (SELECT max(id) FROM degradations) - CAST(?1 AS INTEGER)", nil, strconv.Itoa(keptDegradations))
	})
}

// RecordRestored writes down that followers are waited for again, how many commits the leader alone has
// acknowledged, and the first and the last of them; zeros if there was none.
func (e *Engine) RecordRestored(ctx context.Context, first, last history.LSN, commits int64) error {
	return e.record(ctx, func(c *conn) error {
		return c.query("UPDATE degradations SET ended = CAST(?1 AS INTEGER), from_lsn = max(from_lsn, CAST(?2 AS INTEGER)), to_lsn = CAST(?3 AS INTEGER), commits = CAST(?4 AS INTEGER) WHERE ended = 0", nil,
			strconv.FormatInt(time.Now().UnixMicro(), 10), lsnText(first), lsnText(last), strconv.FormatInt(commits, 10))
	})
}

// endDegradation ends what a leader was doing alone that was lost meanwhile: whoever begins to lead waits for followers again, until that takes too
// long. How many commits these were nobody can tell any more; at most those up to the log's end.
func endDegradation(c *conn, head history.LSN) error {
	return c.query("UPDATE degradations SET ended = CAST(?1 AS INTEGER), to_lsn = CAST(?2 AS INTEGER), commits = max(0, CAST(?2 AS INTEGER) - from_lsn + 1) WHERE ended = 0", nil,
		strconv.FormatInt(time.Now().UnixMicro(), 10), lsnText(head))
}

func lsnText(lsn history.LSN) string { return strconv.FormatUint(uint64(lsn), 10) }

func (e *Engine) record(ctx context.Context, fn func(*conn) error) error {
	lsn, err := e.system.write(ctx, nil, fn)
	if err == nil {
		_, err = e.storage.Wait(ctx, lsn, commit.Local)
	}
	if err != nil {
		return fmt.Errorf("record degradation: %w", err)
	}
	return nil
}

// Degradations reads the record. What cannot be read is shown as empty: a catalog table has no errors.
func (c cluster) Degradations() []pgcatalog.Degradation {
	e := c.s.engine
	system, err := e.system.reader(c.s.message)
	if err != nil {
		return nil
	}
	defer e.system.giveReader(system)
	system.begin(c.s.message, nil)
	var all []pgcatalog.Degradation
	_ = system.query("SELECT began, ended, from_lsn, to_lsn, commits, reason FROM degradations ORDER BY id", func(st *sqlite3.Stmt) {
		d := pgcatalog.Degradation{
			Began: time.UnixMicro(st.ColumnInt64(0)), From: history.LSN(st.ColumnInt64(2)), To: history.LSN(st.ColumnInt64(3)),
			Commits: st.ColumnInt64(4), Reason: st.ColumnText(5),
		}
		if ended := st.ColumnInt64(1); ended > 0 {
			d.Ended = time.UnixMicro(ended)
		}
		all = append(all, d)
	})
	return all
}
