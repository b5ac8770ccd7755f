package replication

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
)

const (
	// asksAtATime bounds what one node has under way at another.
	asksAtATime = 256

	// askTime is how long a question may be under way. Whoever is asked answers in half of it, if only that he does not know.
	askTime = 4 * time.Second

	// maxAskBytes bounds a question or an answer: its length comes first.
	maxAskBytes = 1 << 10
)

// Keys are cut to what the leader tells apart.
const _ = uint(maxString - commit.MaxKey)

var (
	errNobodyToAsk = errors.New("it is not known who leads")
	errAskedOther  = errors.New("another node is to be asked by now")
	errNoAnswer    = errors.New("the node that was asked does not answer")
)

// Asker asks the leader what reads must see, for all of this node's sessions, over one connection that it keeps. There is one question under way
// for each causality key, and one for "no key"; who comes meanwhile shares the next one. Its methods may be called from any goroutine.
type Asker struct {
	link Link

	mu      sync.Mutex
	address string // of the leader; "": not known
	node    string // who has to answer there; "": anybody of the cluster
	number  uint64
	waiting map[string]*asking // to be sent, by key
	sent    map[string]*asking // under way, by key
	news    chan struct{}      // one slot
}

// asking is one question.
type asking struct {
	key    string
	number uint64
	since  time.Time // sent
	done   chan struct{}
	askAnswer
}

// askAnswer is what comes back.
type askAnswer struct {
	at    history.LSN
	epoch history.Epoch
	err   error
}

// NewAsker makes the Asker of a node; its user calls Run.
func NewAsker(l Link) *Asker {
	l.setDefaults()
	return &Asker{link: l, waiting: map[string]*asking{}, sent: map[string]*asking{}, news: make(chan struct{}, 1)}
}

// Aim says whom to ask from now on; without an address nobody is asked. Questions that are under way elsewhere end with an error.
func (a *Asker) Aim(address, node string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.address != address || a.node != node {
		a.address, a.node = address, node
		nudge(a.news)
	}
}

// Ask gives what commit.Pipeline.ReadPosition gives on the leader, if the leader was asked after this was called. Every error but that of
// ctx may pass.
func (a *Asker) Ask(ctx context.Context, key string) (history.LSN, history.Epoch, error) {
	key = key[:min(len(key), commit.MaxKey)]
	a.mu.Lock()
	if a.address == "" {
		a.mu.Unlock()
		return 0, 0, errNobodyToAsk
	}
	q := a.waiting[key]
	if q == nil {
		q = &asking{key: key, done: make(chan struct{})}
		a.waiting[key] = q
		nudge(a.news)
	}
	a.mu.Unlock()
	select {
	case <-q.done:
		return q.at, q.epoch, q.err
	case <-ctx.Done():
		return 0, 0, context.Cause(ctx)
	}
}

// Run keeps the connection until ctx is done. Then, and while there is none, questions end with an error.
func (a *Asker) Run(ctx context.Context) error {
	for {
		select {
		case <-a.news:
		case <-ctx.Done():
			a.Aim("", "")
			a.fail(context.Cause(ctx))
			return nil
		}
		if address, node, wanted := a.whom(); wanted {
			a.fail(a.converse(ctx, address, node))
		}
	}
}

// whom says whom to ask, if there is a question.
func (a *Asker) whom() (address, node string, wanted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.address, a.node, len(a.waiting) > 0
}

// fail ends all questions.
func (a *Asker) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, all := range []map[string]*asking{a.waiting, a.sent} {
		for _, q := range all {
			q.err = err
			close(q.done)
		}
		clear(all)
	}
}

// converse is one connection.
func (a *Asker) converse(ctx context.Context, address, node string) error {
	if address == "" {
		return errNobodyToAsk
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dialing, stop := context.WithTimeoutCause(ctx, askTime/2, errNoAnswer)
	conn, who, err := a.link.Open(dialing, address, ToAsk)
	stop()
	if err != nil {
		return err
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer func() { _ = conn.Close() }()
	if node != "" && who.Node != node {
		return fmt.Errorf("%w: %s", errOther, who.Name)
	}
	reading.Go(func() { cancel(a.listen(conn)) })
	tick := time.NewTicker(askTime / 4)
	defer tick.Stop()
	for {
		questions, err := a.due(address, node, time.Now())
		if err != nil {
			return err
		}
		if len(questions) > 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(askTime))
			if _, err := conn.Write(questions); err != nil {
				return ended(ctx, err)
			}
		}
		select {
		case <-a.news:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// due gives what is to be sent by now: of each key one question.
func (a *Asker) due(address, node string, now time.Time) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.address != address || a.node != node {
		return nil, errAskedOther
	}
	for _, q := range a.sent {
		if now.Sub(q.since) > askTime {
			return nil, errNoAnswer
		}
	}
	var e encoder
	for key, q := range a.waiting {
		if a.sent[key] != nil || len(a.sent) >= asksAtATime {
			continue
		}
		a.number++
		q.number, q.since = a.number, now
		delete(a.waiting, key)
		a.sent[key] = q
		e.question(q.number, key)
	}
	return e.b, nil
}

// listen takes answers in until the connection ends.
func (a *Asker) listen(conn net.Conn) error {
	in := bufio.NewReader(conn)
	var buf []byte
	for {
		b, err := readAsk(in, &buf)
		if err != nil {
			return err
		}
		number, key, answer, err := decodeAnswer(b)
		if err != nil {
			return err
		}
		a.mu.Lock()
		q := a.sent[key]
		if q == nil || q.number != number {
			a.mu.Unlock()
			return fmt.Errorf("%w: an answer to nothing", errBadMessage)
		}
		delete(a.sent, key)
		q.askAnswer = answer
		close(q.done)
		if len(a.waiting) > 0 {
			nudge(a.news)
		}
		a.mu.Unlock()
	}
}

// Answering answers Askers with what position gives.
func Answering(position func(ctx context.Context, key string) (history.LSN, history.Epoch, error)) Handler {
	return func(ctx context.Context, conn net.Conn, _ Identity) {
		ctx, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		var answering sync.WaitGroup
		defer answering.Wait()
		defer cancel()
		places := make(chan struct{}, asksAtATime)
		in := bufio.NewReader(conn)
		var buf []byte
		for {
			b, err := readAsk(in, &buf)
			if err != nil {
				return
			}
			number, key, err := decodeQuestion(b)
			if err != nil {
				return
			}
			places <- struct{}{}
			answering.Go(func() {
				defer func() { <-places }()
				limited, stop := context.WithTimeoutCause(ctx, askTime/2, errNoAnswer)
				defer stop()
				var answer askAnswer
				answer.at, answer.epoch, answer.err = position(limited, key)
				_ = conn.SetWriteDeadline(time.Now().Add(askTime))
				if _, err := conn.Write(encodeAnswer(number, key, answer)); err != nil {
					cancel()
				}
			})
		}
	}
}

// readAsk reads a question or an answer. It is valid until the next one.
func readAsk(in *bufio.Reader, buf *[]byte) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.LittleEndian.Uint16(length[:]))
	if n > maxAskBytes {
		return nil, errTooLarge
	}
	if cap(*buf) < n {
		*buf = make([]byte, maxAskBytes)
	}
	b := (*buf)[:n]
	_, err := io.ReadFull(in, b)
	return b, noEOF(err)
}

// question appends one.
func (e *encoder) question(number uint64, key string) {
	e.u16(uint16(8 + 2 + len(key)))
	e.u64(number)
	e.str(key)
}

func decodeQuestion(b []byte) (number uint64, key string, err error) {
	d := decoder{b: b}
	number, key = d.u64(), d.str()
	return number, key, d.end()
}

// maxAnswerText bounds the reason why there is no answer.
const maxAnswerText = 200

func encodeAnswer(number uint64, key string, a askAnswer) []byte {
	var text string
	if a.err != nil {
		text = a.err.Error()
		text = text[:min(len(text), maxAnswerText)]
	}
	var e encoder
	e.u16(uint16(8 + 2 + len(key) + 8 + 8 + 2 + len(text)))
	e.u64(number)
	e.str(key)
	e.lsn(a.at)
	e.u64(uint64(a.epoch))
	e.str(text)
	return e.b
}

// decodeAnswer gives an error of the other side as answer.err.
func decodeAnswer(b []byte) (number uint64, key string, answer askAnswer, err error) {
	d := decoder{b: b}
	number, key = d.u64(), d.str()
	answer.at, answer.epoch = d.lsn(), history.Epoch(d.u64())
	if text := d.str(); text != "" {
		answer.err = errors.New(text)
	} else if answer.at == 0 {
		d.bad = true
	}
	return number, key, answer, d.end()
}
