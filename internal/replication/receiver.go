package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/rest"
)

const (
	// flushEvery bounds what is received before it is made durable, when the network never pauses.
	flushEvery = 4 << 20

	// appliedPace is how late an upstream may learn what readers here see, when nobody waits for it.
	appliedPace = 10 * time.Millisecond

	firstRetry, lastRetry = 50 * time.Millisecond, 2 * time.Second
)

// NeedSnapshot is what Follow ends with when this node's log cannot become the upstream's.
type NeedSnapshot struct {
	Reason string
	// Fork is the last entry that both logs are known to have in common, 0 if none is. What lies above it
	// here may exist nowhere else, if Diverged, and should be kept before it is overwritten.
	Fork     history.LSN
	Diverged bool
	// Reread says that pages are damaged, or are not what they should be: see FetchOptions.
	Reread bool
}

func (n *NeedSnapshot) Error() string { return "a snapshot is needed: " + n.Reason }

var errStale = errors.New("the upstream is of an older epoch than this node")

// receiver copies one upstream's log over one connection.
type receiver struct {
	peer  *Peer
	w     *wire
	under history.Epoch    // in whose name everything comes
	shows history.Position // see Upstream
	base  history.LSN
	pid   uint32
	poke  chan struct{} // one slot: readers see more

	epoch   atomic.Uint64 // highest that the upstream has spoken in
	shown   atomic.Uint64 // visible as last acked
	awaited atomic.Bool   // somebody waits for us to show its commit
	takes   atomic.Bool   // receive takes a message in, and will look for news then

	mu      sync.Mutex
	pulse   pulse
	heard   time.Time     // when pulse came
	answer  uint64        // newest round that was confirmed
	reading time.Duration // newest that was sent
}

// Upstream is a node to copy from.
type Upstream struct {
	Address    string
	Node, Disk string        // who has to answer there; "": anybody of the cluster
	Under      history.Epoch // in whose name: see commit.Pipeline.Promise
	// Shows is what the upstream's log must have come to before anything here is taken back for its sake. One that was
	// appointed, say, must have begun its epoch: before, it is no better than this node.
	Shows history.Position
}

var (
	errOther  = errors.New("another node answers at the upstream's address")
	errNotYet = errors.New("the upstream does not have yet what the cluster said that it has")
)

// is says whether it is the node and the disk that are expected, "" for any.
func (i Identity) is(node, disk string) error {
	if node == "" || i.Node == node && i.Disk == disk {
		return nil
	}
	return fmt.Errorf("%w: %s, with node id %s and disk id %s", errOther, i.Name, i.Node, i.Disk)
}

// Follow copies the log of an upstream until ctx is done, and connects again whenever that fails. It ends with
// *NeedSnapshot, with a *Refused that is not temporary, or with what made this node's own log fail.
func (p *Peer) Follow(ctx context.Context, u Upstream) error {
	p.setUpstream(u.Address)
	defer p.setUpstream("")
	var retry pacer
	for {
		streamed, err := p.followOnce(ctx, u)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if final(err) {
			return err
		}
		if streamed {
			retry = pacer{}
		}
		if retry.changed(err) {
			p.Logger.Warn("the connection to the upstream has ended; trying again", "upstream", u.Address, "error", err)
		}
		p.setTrouble(err)
		_ = rest.For(ctx, retry.next())
	}
}

// final says whether connecting again cannot help.
func final(err error) bool {
	var refused *Refused
	if errors.As(err, &refused) {
		return !refused.Temporary()
	}
	return errors.As(err, new(*NeedSnapshot)) || errors.As(err, new(*storageFailed))
}

// storageFailed is an error of this node itself.
type storageFailed struct{ err error }

func (s *storageFailed) Error() string { return s.err.Error() }
func (s *storageFailed) Unwrap() error { return s.err }

// pacer paces reconnecting, with jitter so that followers of one leader do not come all at once.
type pacer struct {
	wait time.Duration
	said string
}

func (b *pacer) next() time.Duration {
	b.wait = min(max(2*b.wait, firstRetry), lastRetry)
	return b.wait/2 + rand.N(b.wait/2)
}

// changed says whether err is another one than the last: each is told once.
func (b *pacer) changed(err error) bool {
	text := err.Error()
	if text == b.said {
		return false
	}
	b.said = text
	return true
}

func (p *Peer) setUpstream(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream, p.trouble = address, ""
}

func (p *Peer) setTrouble(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = err.Error()
}

// followOnce is one connection. streamed says that it came as far as entries.
func (p *Peer) followOnce(ctx context.Context, u Upstream) (streamed bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w, who, err := p.dial(ctx, u.Address, toStream)
	if err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = w.close() }()
	if err := who.is(u.Node, u.Disk); err != nil {
		return false, err
	}
	conn, err := plain(w.conn, p.Timeout)
	if err != nil {
		return false, err
	}
	w.conn = conn
	stop := context.AfterFunc(ctx, func() { _ = w.close() })
	defer stop()
	r := &receiver{peer: p, w: w, under: u.Under, shows: u.Shows, pid: p.pid(), poke: make(chan struct{}, 1)}
	if err := r.agree(); err != nil {
		return false, ended(ctx, err)
	}
	p.receiver.Store(r)
	defer p.receiver.Store(nil)
	p.Logger.Info("following", "upstream", who.Name, "address", u.Address, "from", r.base)
	var acking sync.WaitGroup
	defer acking.Wait()
	defer cancel(nil)
	acking.Go(func() { cancel(r.acks(ctx)) })
	err = r.receive(ctx)
	return true, ended(ctx, err)
}

// agree offers this node's log until the upstream can continue it.
func (r *receiver) agree() error {
	for {
		head, err := r.offer()
		if err != nil {
			return err
		}
		v, err := r.verdict(head)
		if err != nil {
			return err
		}
		switch v.Action {
		case actStream:
			r.base = v.At.LSN
			r.peer.pipeline.Regain(v.Head)
			return nil
		}
		if epoch := history.Epoch(r.epoch.Load()); epoch < r.shows.Epoch || v.Head < r.shows.LSN {
			return fmt.Errorf("%w: its log ends at %d in epoch %d, and not at %v or later", errNotYet, v.Head, epoch, r.shows)
		}
		if v.Action == actSnapshot {
			return &NeedSnapshot{Reason: v.Reason, Fork: v.At.LSN, Diverged: v.Diverged}
		}
		if err := r.cut(head, v); err != nil {
			return err
		}
	}
}

func (r *receiver) offer() (history.Position, error) {
	pipeline := r.peer.pipeline
	head := pipeline.Log().Head()
	o := offer{Head: head, Epochs: pipeline.Log().Epochs(), Visible: pipeline.Visible()}
	return head, r.w.write(kindOffer, 0, head.Epoch, o.encode())
}

// verdict reads the answer, and on the way says what it is asked.
func (r *receiver) verdict(head history.Position) (verdict, error) {
	for {
		m, err := r.w.expect(kindVerdict)
		if err != nil {
			return verdict{}, err
		}
		v, err := decodeVerdict(m.payload)
		if err != nil {
			return v, err
		}
		if m.epoch < head.Epoch {
			return v, fmt.Errorf("%w: %d, and this one of %d", errStale, m.epoch, head.Epoch)
		}
		r.epoch.Store(uint64(m.epoch))
		if v.Action != actCompare {
			return v, nil
		}
		var have []history.Position
		for _, lsn := range v.Ask {
			at, err := r.peer.pipeline.Log().At(lsn)
			if err != nil {
				at = history.Position{LSN: lsn} // equal to nothing
			}
			have = append(have, at)
		}
		if err := r.w.write(kindPast, 0, head.Epoch, encodePast(have)); err != nil {
			return v, err
		}
	}
}

// cut takes the tail back that the upstream does not have, once it is sure that the rest is the same.
func (r *receiver) cut(head history.Position, v verdict) error {
	pipeline := r.peer.pipeline
	if v.At.LSN >= head.LSN {
		return fmt.Errorf("%w: told to cut at %d a log that ends at %d", errBadMessage, v.At.LSN, head.LSN)
	}
	snapshot := func(reason string) error {
		return &NeedSnapshot{Reason: reason, Fork: v.At.LSN, Diverged: true}
	}
	mine, err := pipeline.Log().At(v.At.LSN)
	if err != nil {
		return snapshot(fmt.Sprintf("the logs part after %d, which this one no longer holds", v.At.LSN))
	}
	if mine != v.At {
		return snapshot(fmt.Sprintf("the pasts before %d differ", v.At.LSN+1))
	}
	err = pipeline.CutBack(v.At.LSN, r.under)
	switch {
	case errors.Is(err, commit.ErrCommittedTail):
		return snapshot(err.Error())
	case errors.Is(err, commit.ErrPromised):
		return err
	case err != nil:
		return &storageFailed{fmt.Errorf("cut back to %d: %w", v.At.LSN, err)}
	}
	return nil
}

// receive takes entries in: everything that has arrived is appended, then flushed once, then acked. What
// brings no entries is answered by acks, in its time.
func (r *receiver) receive(ctx context.Context) error {
	pipeline := r.peer.pipeline
	if err := r.sendAck(); err != nil {
		return err
	}
	unflushed := 0
	for {
		m, err := r.w.read()
		if err != nil {
			return err
		}
		if err := r.w.check(m, kindEntries, kindHeartbeat); err != nil {
			return err
		}
		n, err := r.take(m)
		if err != nil {
			return err
		}
		switch {
		case m.flags&flagAwaitsAnswer != 0 && r.unanswered(), r.awaited.Load() && r.news():
			if err := r.sendAck(); err != nil {
				return err
			}
		case r.news():
			nudge(r.poke)
		}
		unflushed += n
		if r.w.more() && unflushed < flushEvery {
			continue
		}
		if unflushed == 0 {
			continue
		}
		if m.flags&flagAwaitsReceived != 0 {
			if err := pipeline.AcksReceived(); err != nil {
				return &storageFailed{err}
			}
			if err := r.sendAck(); err != nil {
				return err
			}
		}
		unflushed = 0
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
}

// settle makes what was received durable, and acks it. What is little is applied here then: the upstream has its answer to
// deal with meanwhile.
func (r *receiver) settle(ctx context.Context) error {
	apply := r.peer.pipeline.StandIn()
	defer apply()
	if _, err := r.peer.pipeline.Flush(ctx); err != nil {
		return &storageFailed{fmt.Errorf("flush what was received: %w", err)}
	}
	return r.sendAck()
}

// take appends one message's entries and gives how many bytes they were.
func (r *receiver) take(m message) (int, error) {
	r.takes.Store(true)
	defer r.takes.Store(false)
	pipeline := r.peer.pipeline
	if uint64(m.epoch) < r.epoch.Load() {
		return 0, fmt.Errorf("%w: %d after %d", errStale, m.epoch, r.epoch.Load())
	}
	r.epoch.Store(uint64(m.epoch))
	p, frames, err := decodePulse(m.payload)
	if err != nil {
		return 0, err
	}
	if len(frames) > 0 {
		if _, err := pipeline.Receive(frames, r.under); err != nil {
			return 0, fmt.Errorf("append what was received: %w", err)
		}
	}
	r.awaited.Store(m.flags&flagAwaitsApplied != 0)
	r.mu.Lock()
	r.pulse, r.heard = p, time.Now()
	reading := r.reading
	r.mu.Unlock()
	if p.Echo > reading {
		return 0, fmt.Errorf("%w: it gives a reading back that it has not got", errBadMessage)
	}
	pipeline.LearnCommitted(p.Committed, r.under) // as far as this node has it
	if p.Echo > 0 {
		pipeline.Vouch(commit.SafeTime{LSN: p.Safe, At: p.Echo})
		r.peer.progressed() // those who copy from here know more by that, too
	}
	return len(frames), nil
}

// unanswered says whether the newest pulse wants an answer that has not been given.
func (r *receiver) unanswered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pulse.Round == 0 || r.pulse.Round > r.answer
}

// news says whether readers see more than the upstream was told.
func (r *receiver) news() bool { return uint64(r.peer.pipeline.Visible()) > r.shown.Load() }

// acks speaks up when readers see more, at once if somebody waits for that, and while a flush takes long.
func (r *receiver) acks(ctx context.Context) error {
	tick := time.NewTicker(r.peer.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.poke:
			if !r.awaited.Load() {
				_ = rest.For(ctx, appliedPace)
			}
			if !r.news() {
				continue
			}
		case <-tick.C:
		}
		if err := r.sendAck(); err != nil {
			return err
		}
	}
}

func (r *receiver) sendAck() error {
	pipeline := r.peer.pipeline
	visible := pipeline.Visible() // first: the others may only be higher
	flushed := pipeline.Log().Flushed.Load()
	received := flushed
	if pipeline.AcknowledgesReceived() { // otherwise nobody waits for it, and this node need not answer for it after a crash
		received = max(pipeline.Log().Received(), flushed)
	}
	now := time.Now()
	r.mu.Lock()
	if q := r.pulse; q.Round > r.answer && pipeline.Accepts(q.Epoch) { // in this order: the question has been read
		r.answer = q.Round
	}
	r.reading = max(r.reading, pipeline.Now())
	a := ack{
		Received: received, Flushed: flushed, Applied: max(pipeline.Applied(), visible), Visible: visible,
		Clock: now.UnixMicro(), Stamp: r.pulse.Stamp, Held: int64(now.Sub(r.heard)), Round: r.answer, Reading: r.reading,
	}
	r.mu.Unlock()
	r.shown.Store(max(r.shown.Load(), uint64(visible)))
	var flags uint8
	if pipeline.ApplyPaused() {
		flags |= flagPaused
	}
	var b [64]byte
	return r.w.write(kindAck, flags, history.Epoch(r.epoch.Load()), a.encode(b[:0]))
}
