package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
)

// ErrNotVerified says that what Verify has shown is not all well.
var ErrNotVerified = errors.New("not every database is known to be whole and the same on every node")

const (
	verifyQuery = "SELECT node, database, lsn, pages, damaged, repaired, result, detail FROM skein_verify()"
	resultAt    = 6 // its column in verifyQuery
)

// Verify has a node read every page of every database and compare itself with the nodes that it is connected
// with, and shows what came of it. It takes as long as the disks need; Ctrl-C cancels it. The error is ErrNotVerified when a page
// is damaged and could not be repaired, databases differ, or a node could not be asked, be it that it is away.
func Verify(ctx context.Context, options Options) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	s, err := connect(ctx, options)
	if err != nil {
		return err
	}
	defer func() { _ = s.conn.Close(ctx) }()

	results, err := s.conn.Exec(ctx, verifyQuery).ReadAll()
	if err != nil {
		s.showError(err, "")
		return ErrFailed
	}
	if len(results) != 1 || len(results[0].FieldDescriptions) <= resultAt {
		return errors.New("the server does not answer as a node of Skein does")
	}
	t, wrong := newTable(results[0].FieldDescriptions), 0
	for _, row := range results[0].Rows {
		t.add(row)
		if result := string(row[resultAt]); result != "ok" && result != "repaired" {
			wrong++
		}
	}
	t.print(options.Out)
	if wrong > 0 {
		return fmt.Errorf("%w: %d of %d rows say why", ErrNotVerified, wrong, len(results[0].Rows))
	}
	return nil
}
