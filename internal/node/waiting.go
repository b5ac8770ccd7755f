package node

import (
	"context"
	"net"
	"time"

	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// reusable is a listener that outlives its servers: each closes it, which here only ends its Accept.
type reusable struct{ net.Listener }

func (l reusable) Close() error {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(time.Now())
	}
	return l.Listener.Close()
}

// again makes the listener accept once more.
func (l reusable) again() net.Listener {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Time{})
	}
	return l
}

// notReady is what clients meet while a node has no data to serve: why, and how far it is.
type notReady struct{ why func() string }

func (notReady) Verifier(string) (string, bool) { return "", false }
func (notReady) MockSecret() []byte             { return nil }

func (h notReady) Connect(context.Context, *pgwire.Conn, pgwire.Startup) (pgwire.Session, error) {
	return nil, sqlstate.New(sqlstate.CannotConnectNow, "the database system is starting up").WithDetail("%s", h.why())
}

// refuse answers clients with why until ctx is done.
func (n *Node) refuse(ctx context.Context, why func() string) error {
	return pgwire.NewServer(notReady{why}, pgwire.Options{Trust: true, Logger: n.options.Logger}).Serve(ctx, n.sql.again())
}
