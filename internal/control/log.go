package control

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// quiet gives Raft's own log at debug level: it tells of every message that did not get through, and
// what matters of that is told as what came of it.
func quiet(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Info})
	l.RegisterSink(sink{to})
	return l
}

type sink struct{ to *slog.Logger }

func (s sink) Accept(_ string, _ hclog.Level, text string, args ...any) {
	s.to.Log(context.Background(), slog.LevelDebug, "raft: "+text, args...)
}
