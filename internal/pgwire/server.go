package pgwire

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Options of a Server. The zero value of each field means the default named with it.
type Options struct {
	MaxConnections     int           // sessions at a time; 100
	MaxUnauthenticated int           // connections that have not proved who they are; 1000
	AuthTimeout        time.Duration // from accept to the first ReadyForQuery; 10 s
	WriteTimeout       time.Duration // for one write of up to 32 KB to a client that does not read; 60 s
	MaxMessageBytes    int           // of an authenticated client; 64 MiB
	ScramIterations    int           // shown for unknown roles: those of new passwords; 4096
	Trust              bool          // anyone is who they say they are: no password
	Logger             *slog.Logger  // discards
}

// Server accepts PostgreSQL connections and runs their sessions.
type Server struct{ options Options }

// NewServer makes a server that asks h for sessions.
func NewServer(h Handler, o Options) *Server { return &Server{options: o} }

// Serve accepts connections from l until ctx is done. Then every session gets 57P01, and Serve
// returns when all of them have ended. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return nil }
