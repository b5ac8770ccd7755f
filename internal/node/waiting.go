package node

import (
	"context"
	"net"
	"sync"
	"time"

	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// reusable is a listener that outlives its servers.
type reusable struct{ net.Listener }

// again gives what the next server listens on. Closing that only ends its Accept.
func (l reusable) again() net.Listener {
	if d, ok := l.Listener.(deadliner); ok {
		_ = d.SetDeadline(time.Time{})
	}
	return &lent{Listener: l.Listener}
}

type deadliner interface{ SetDeadline(time.Time) error }

// lent is a reusable listener in the hands of one server. Servers close theirs from two places, and the second
// may come when the listener is another server's already.
type lent struct {
	net.Listener
	once sync.Once
}

func (l *lent) Close() (err error) {
	l.once.Do(func() {
		if d, ok := l.Listener.(deadliner); ok {
			err = d.SetDeadline(time.Now())
		} else {
			err = l.Listener.Close()
		}
	})
	return err
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
