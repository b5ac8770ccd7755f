package main

import (
	"context"
	"os"

	"skein/internal/shell"
)

type sqlCommand struct {
	Command    []string `short:"c" sep:"none" placeholder:"SQL" help:"Run this instead of reading standard input; may be given again."`
	Connection string   `arg:"" optional:"" help:"URL or key=value text, as for psql. Without it: PGHOST, PGPORT, PGUSER, PGDATABASE, else whichever node of the demo leads."`
}

func (c *sqlCommand) Run(ctx context.Context) error {
	return shell.Run(ctx, shell.Options{
		ConnString:  c.Connection,
		Commands:    c.Command,
		Interactive: len(c.Command) == 0 && isTerminal(os.Stdin),
		In:          os.Stdin,
		Out:         os.Stdout,
		Err:         os.Stderr,
	})
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
