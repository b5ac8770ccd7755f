package main

import (
	"context"
	"errors"
	"log/slog"
)

func runNode(_ context.Context, _ *serveCommand, _ *slog.Logger) error {
	return errors.New("this build has no node")
}
