package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"skein/internal/failover"
	"skein/internal/rest"
)

const (
	// attemptTimeout is how long one attempt to have a command carried out may take, and retryPause how
	// long to wait for a coordinator before the next.
	attemptTimeout = time.Second
	retryPause     = 50 * time.Millisecond
)

// Refused is the error of a command that was not carried out. Its text says what to do.
type Refused struct{ Text string }

func (r *Refused) Error() string { return r.Text }

// asked is a request that has come to the coordinator.
type asked struct {
	request
	answered chan answer // one slot
}

func (a *asked) reply(r answer) { a.answered <- r }

// Do has a command carried out, and gives the State that it led to, or one after that. It waits for a coordinator until
// ctx ends. Its error is *Refused if nothing was done; after ctx it may have been done or not.
func (c *Control) Do(ctx context.Context, cmd failover.Command) (failover.State, error) {
	a, err := c.carry(ctx, request{ID: rand.Text(), Command: &cmd})
	if err != nil {
		return failover.State{}, err
	}
	c.learn(a.State)
	return a.State, nil
}

// Observe asks the coordinator for what it decides by.
func (c *Control) Observe(ctx context.Context) (failover.State, failover.Facts, error) {
	a, err := c.carry(ctx, request{})
	return a.State, a.Facts, err
}

// carry brings a request to the coordinator, wherever that is.
func (c *Control) carry(ctx context.Context, r request) (answer, error) {
	tried := 0
	return insist(ctx, func(ctx context.Context) (answer, error) {
		a := c.handle(ctx, r)
		for hops := 0; a.Elsewhere != nil && hops < 2; hops++ { // it may have moved on meanwhile
			var err error
			if a, err = ask(ctx, c.dialCommand, *a.Elsewhere, r); err != nil {
				return answer{}, err
			}
		}
		if a.Elsewhere == nil && a.Again == errNobody.Error() {
			// A node that has not been spoken to since it started can only ask around.
			if all := c.State().Members; len(all) > 0 {
				m := all[tried%len(all)]
				tried++
				if m.ID != c.o.Self {
					return ask(ctx, c.dialCommand, place{m.ID, m.PeerAddr}, r)
				}
			}
		}
		return a, nil
	})
}

func (c *Control) dialCommand(ctx context.Context, address string) (net.Conn, error) {
	return c.o.Dial(ctx, address, Command)
}

// Join asks a member at address to make this node a member as well, and gives the State in which it is one. It is
// for a node that has no Control yet.
func Join(ctx context.Context, dial func(ctx context.Context, address string, what Channel) (net.Conn, error), address string, self failover.Member) (failover.State, error) {
	cmd := failover.Command{Kind: failover.JoinCommand, Member: self}
	r := request{ID: rand.Text(), Command: &cmd}
	dialCommand := func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, address, Command) }
	a, err := insist(ctx, func(ctx context.Context) (answer, error) {
		a, err := ask(ctx, dialCommand, place{Address: address}, r)
		if err != nil || a.Elsewhere == nil {
			return a, err
		}
		return ask(ctx, dialCommand, *a.Elsewhere, r)
	})
	return a.State, err
}

var errNobody = errors.New("nobody coordinates the cluster now: no more than half of the nodes that vote can reach each other")

// insist tries until there is a definite answer, or ctx ends.
func insist(ctx context.Context, try func(context.Context) (answer, error)) (answer, error) {
	var why error
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		a, err := try(attempt)
		cancel()
		switch {
		case err == nil && a.Refused != "":
			return answer{}, &Refused{a.Refused}
		case err == nil && a.Again == "" && a.Elsewhere == nil:
			return a, nil
		case err == nil && a.Again != "":
			err = errors.New(a.Again)
		case err == nil:
			err = errNobody
		}
		if slow := net.Error(nil); why == nil || !errors.As(err, &slow) || !slow.Timeout() { // which says the least
			why = err
		}
		if rest.For(ctx, retryPause) != nil {
			return answer{}, fmt.Errorf("the cluster has not answered: %w (%w)", why, context.Cause(ctx))
		}
	}
}

// ask makes one request of the node at a place.
func ask(ctx context.Context, dial func(context.Context, string) (net.Conn, error), at place, r request) (answer, error) {
	if at.Address == "" {
		return answer{}, fmt.Errorf("it is not known where to reach node %s, which coordinates the cluster", at.Node)
	}
	conn, err := dial(ctx, at.Address)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	m := newMessages(conn)
	if err := m.send(r, attemptTimeout); err != nil {
		return answer{}, err
	}
	var a answer
	if err := m.receive(&a, 2*attemptTimeout); err != nil {
		return answer{}, err
	}
	return a, nil
}

// serveCommand answers another node's request.
func (c *Control) serveCommand(ctx context.Context, m *messages) error {
	var r request
	if err := m.receive(&r, helloTimeout); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return m.send(c.handle(ctx, r), helloTimeout)
}

// handle answers a request, or says who can.
func (c *Control) handle(ctx context.Context, r request) answer {
	k := c.present.Load()
	if k == nil {
		if at, ok := c.coordinator(); ok {
			return answer{Elsewhere: &at}
		}
		return answer{Again: errNobody.Error()}
	}
	a := &asked{request: r, answered: make(chan answer, 1)}
	taken := k.tell(ctx, func() {
		if r.Command == nil {
			a.reply(answer{State: k.state, Facts: k.facts()})
			return
		}
		k.waiting = append(k.waiting, a)
	})
	if !taken {
		return answer{Again: "the coordinator has changed"}
	}
	select {
	case got := <-a.answered:
		return got
	case <-k.done: // one that was taken last may have been answered still
		select {
		case got := <-a.answered:
			return got
		default:
			return answer{Again: "the coordinator has changed"}
		}
	case <-ctx.Done():
		return answer{Again: "the coordinator does not answer: " + context.Cause(ctx).Error()}
	}
}
