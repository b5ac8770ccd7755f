package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/replog"
)

// sendBatch is how much log goes into one message, unless one frame is larger. The follower flushes once
// for all that it has got.
const sendBatch = 512 << 10

// unreadMost is how much may be on its way to a follower, not known to have been read there, for a message to be sent by a goroutine
// that must not wait. It fits into the buffer that every connection has.
const unreadMost = 8 << 10

// State of a sender, in PostgreSQL's words.
type State string

// The states. Only acks of a follower that is streaming count for commits.
const (
	StateStartup   State = "startup"   // agreeing on where to begin
	StateCatchup   State = "catchup"   // has not had everything yet since it connected
	StateStreaming State = "streaming" // has had everything once
	StateBackup    State = "backup"    // takes a snapshot
)

var (
	errImpossibleAck = errors.New("acknowledges what was not sent")
	errNewerEpoch    = errors.New("the follower has heard of a newer leader")
)

// sender feeds one follower over one connection. Three goroutines: pump sends the log, pulse the
// committed LSN and heartbeats, and run itself reads acks. Where standbys are waited for, whoever flushes sends, and whoever finds out what is
// committed tells, if that takes no wait: to wake a goroutine for it takes longer than to do it.
type sender struct {
	peer    *Peer
	w       *wire
	who     Identity
	cancel  context.CancelCauseFunc
	pid     uint32
	since   time.Time
	reader  *replog.Reader
	feeding chan struct{} // one slot, for whoever uses the reader: pump, but while it sleeps

	poke  chan struct{} // one slot: committed has grown
	hurry chan struct{} // one slot: something is to be asked or told at once
	pace  pace          // of messages that no client waits for

	target  history.LSN // head when the follower connected: with that on its disk it has everything it may have acknowledged before
	base    history.LSN // it had this when it connected
	cuts    int64       // of this node's log, as of when they began to agree: the follower has what was there then
	started atomic.Bool
	epoch   atomic.Uint64 // of the newest entry sent
	sent    atomic.Uint64 // newest entry sent or being sent
	told    atomic.Uint64 // min(committed, sent) as last told
	atEnd   atomic.Bool   // pump has once had nothing left to send
	asked   atomic.Uint64 // newest round that was asked
	echoed  atomic.Int64  // newest of the follower's readings that a pulse gave back
	stamp   atomic.Int64  // of the newest message
	read    atomic.Int64  // so many bytes, at least, the follower has read
	due     atomic.Int64  // a SafeTime from then on, by this node's clock, is to be told at once; 0: none is
	clocks  readings

	mu      sync.Mutex
	state   State
	ack     ack
	flags   uint8 // of the ack
	current bool  // the ack is of the epoch that is sent
	ackedAt time.Time
	trip    time.Duration // last round trip
}

// run agrees with the follower where to begin, and sends until the connection or ctx ends.
func (s *sender) run(ctx context.Context) error {
	s.cuts = s.peer.pipeline.Log().Cuts()
	at, err := s.agree()
	if err != nil {
		return err
	}
	log := s.peer.pipeline.Log()
	reader, err := log.NewReader(at)
	if err != nil {
		return s.w.refuse(refuse(RefusedBusy, "its log moved on meanwhile: %v", err))
	}
	defer reader.Close()
	defer func() { s.feeding <- struct{}{} }() // for ever: nobody uses the reader any more
	s.reader = reader
	s.start()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = s.w.close() })
	defer stop()
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel(nil)
	sending.Go(func() { cancel(s.pump(ctx)) })
	sending.Go(func() { cancel(s.pulse(ctx)) })
	err = s.listen()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// maxRounds bounds the conversation about where to begin: a few comparisons, a cut, and once more.
const maxRounds = 16

// agree answers offers until one can be continued. The slot is taken before the answer, so that what
// was promised is not trimmed.
func (s *sender) agree() (history.LSN, error) {
	var o offer
	for range maxRounds {
		if err := s.hear(&o); err != nil {
			return 0, err
		}
		at, done, err := s.judge(o)
		if done || err != nil {
			return at, err
		}
	}
	return 0, s.w.refuse(refuse(RefusedProtocol, "your log does not become one that can be continued"))
}

// hear reads an offer, or positions that were asked for to judge the last one by.
func (s *sender) hear(o *offer) error {
	m, err := s.w.read()
	if err != nil {
		return err
	}
	if err := s.w.check(m, kindOffer, kindPast); err != nil {
		return err
	}
	if m.kind == kindOffer {
		*o, err = decodeOffer(m.payload)
		return err
	}
	more, err := decodePast(m.payload)
	o.Past = append(o.Past, more...)
	return err
}

// judge answers one offer. done says that entries come next, from behind at.
func (s *sender) judge(o offer) (at history.LSN, done bool, err error) {
	p := s.peer
	log := p.pipeline.Log()
	p.slots.use(s.who.Name, s.who.Node, min(o.Head.LSN, log.Received()), time.Now())
	mine := past{head: log.Head(), epochs: log.Epochs(), first: log.First(), at: log.At}
	v, refused := mine.decide(o)
	if refused != nil {
		return 0, false, s.w.refuse(refused)
	}
	s.epoch.Store(uint64(mine.epochs.Last()))
	switch v.Action {
	case actCut:
		p.slots.use(s.who.Name, s.who.Node, v.At.LSN, time.Now())
	case actSnapshot:
		// What the follower has now it will not need; the snapshot's own slot begins at its LSN.
		p.slots.useForCopy(s.who.Name, s.who.Node, p.pipeline.Visible(), time.Now())
	}
	if err := s.w.write(kindVerdict, 0, mine.epochs.Last(), v.encode()); err != nil {
		return 0, false, err
	}
	switch v.Action {
	case actStream:
		s.mu.Lock()
		s.target, s.base = mine.head.LSN, v.At.LSN
		s.mu.Unlock()
		return v.At.LSN, true, nil
	case actSnapshot:
		return 0, false, fmt.Errorf("it needs a snapshot: %s", v.Reason)
	}
	return 0, false, nil
}

func (s *sender) start() {
	s.sent.Store(uint64(s.base))
	s.mu.Lock()
	s.state = StateCatchup
	s.ack = ack{}
	s.mu.Unlock()
	s.peer.mu.Lock()
	s.started.Store(true)
	s.peer.list()
	s.peer.mu.Unlock()
	s.peer.Logger.Info("a follower streams", "name", s.who.Name, "node", s.who.Node, "from", s.base, "head", s.target)
}

// pump sends whatever the log releases.
func (s *sender) pump(ctx context.Context) error {
	for {
		asleep, err := s.feed(ctx)
		if err == nil && asleep {
			err = s.reader.Wait(ctx)
		}
		if err != nil {
			return fmt.Errorf("send the log to %s: %w", s.who.Name, err)
		}
	}
}

// feed sends until there is nothing left. asleep says that the reader will be woken.
func (s *sender) feed(ctx context.Context) (asleep bool, err error) {
	s.feeding <- struct{}{}
	defer func() { <-s.feeding }()
	for {
		b, ok, err := s.reader.TryNext(sendBatch)
		if err != nil {
			return false, err
		}
		if !ok {
			if !s.atEnd.Swap(true) {
				s.settle()
			}
			return s.reader.Sleep(), nil
		}
		if err := s.tell(kindEntries, 0, b); err != nil {
			return false, err
		}
		if s.news() {
			nudge(s.poke)
		}
		switch {
		case s.peer.pipeline.Synchronous():
			s.pace.count(time.Now())
		case len(b.Frames) < sendBatch/2:
			s.pace.hold(ctx)
		}
	}
}

// sendNow sends what the log has just released, in the goroutine that is about to write it to the disk, if that takes no wait.
// Otherwise pump will.
func (s *sender) sendNow() {
	select {
	case s.feeding <- struct{}{}:
	default:
		return
	}
	defer func() { <-s.feeding }()
	room := s.room()
	if room <= 0 || !s.w.tryBegin() {
		return
	}
	defer s.w.end()
	b, ok, err := s.reader.Rest(room)
	if err == nil && ok {
		s.pace.count(time.Now())
		err = s.put(kindEntries, 0, b)
	}
	if err != nil {
		s.cancel(fmt.Errorf("send the log to %s: %w", s.who.Name, err))
	}
}

// tellNow tells the committed LSN, if that takes no wait and it is time for it.
func (s *sender) tellNow() bool {
	if s.room() <= 0 || !s.w.tryBegin() {
		return false
	}
	defer s.w.end()
	if !s.news() || s.sendsSoon() {
		return true
	}
	if !s.pace.free(time.Now()) && !s.peer.appliedIsAwaited() {
		return false
	}
	if err := s.put(kindHeartbeat, 0, replog.Batch{}); err != nil {
		s.cancel(err)
	}
	return true
}

// room is how many bytes can be written without a wait, 0 or less if that is not certain: what is on its way already counts.
func (s *sender) room() int {
	return unreadMost - wireHeader - pulseBytes - int(s.w.sent.Load()-s.read.Load())
}

// tell sends a message that begins with a pulse. What it says of the committed LSN, and notes as told, goes out
// behind the entries that this is about: the follower takes nothing for committed that it does not have. After a
// cut it says nothing more: what is committed since may be another history than the follower's.
func (s *sender) tell(k kind, flags uint8, b replog.Batch) error {
	s.w.begin()
	defer s.w.end()
	return s.put(k, flags, b)
}

// put is tell for whoever has the connection's turn.
func (s *sender) put(k kind, flags uint8, b replog.Batch) error {
	p := s.peer
	now := time.Now()
	if len(b.Frames) >= 16 {
		s.epoch.Store(max(s.epoch.Load(), binary.LittleEndian.Uint64(b.Frames[8:])))
	}
	if b.Last > 0 {
		p.times.note(b.Last, now)
		s.sent.Store(uint64(b.Last))
	}
	pulse := pulse{
		Committed: p.pipeline.Committed(), Head: p.pipeline.Log().Received(),
		Clock: now.UnixMicro(), Stamp: int64(now.Sub(p.began)),
	}
	if p.pipeline.Log().Cuts() != s.cuts { // looked at after Committed
		return fmt.Errorf("feed %s: %w", s.who.Name, replog.ErrCut)
	}
	s.told.Store(uint64(min(pulse.Committed, history.LSN(s.sent.Load()))))
	s.stamp.Store(pulse.Stamp)
	flags |= s.ask(&pulse) | p.awaits(now)
	var head [pulseBytes]byte
	return s.w.put(k, flags, history.Epoch(s.epoch.Load()), pulse.encode(head[:0]), b.Frames)
}

// ask adds what a follower must know to be fresh: a question, and the answer to what it can know since others have been asked.
func (s *sender) ask(to *pulse) (flags uint8) {
	q := s.peer.pipeline.Question()
	to.Round, to.Epoch = q.Round, q.Epoch
	s.asked.Store(max(s.asked.Load(), q.Round))
	safe := s.peer.pipeline.SafeTime()
	if due := s.due.Load(); due != 0 && int64(safe.At) >= due {
		s.due.CompareAndSwap(due, 0)
	}
	if echo := s.clocks.by(safe.At); echo > 0 {
		to.Safe, to.Echo = safe.LSN, echo
		s.echoed.Store(int64(echo))
	}
	if q.Hurry {
		return flagAwaitsAnswer
	}
	return 0
}

// hasToAsk says whether a follower is to be asked or told something at once.
func (s *sender) hasToAsk() bool {
	due := s.due.Load()
	return s.peer.pipeline.Asking() > s.asked.Load() || due != 0 && int64(s.peer.pipeline.SafeAt()) >= due
}

// fresh says whether a follower that has just read its clock knows enough of how fresh it is.
func (s *sender) fresh(reading time.Duration) bool {
	return reading-time.Duration(s.echoed.Load()) < s.peer.Heartbeat/2
}

// news says whether the follower could show more than it knows it may.
func (s *sender) news() bool {
	return min(uint64(s.peer.pipeline.Committed()), s.sent.Load()) > s.told.Load()
}

// sendsSoon says whether entries are about to go, which tell the committed LSN on their way. What was appended is released by the next
// flush, for which somebody waits.
func (s *sender) sendsSoon() bool {
	return s.sent.Load() < uint64(s.peer.pipeline.Log().Received()) && !s.peer.appliedIsAwaited()
}

// pulse tells the committed LSN as soon as it grows, for followers show nothing above it, and speaks up
// when there is nothing to say. Then it wants to be answered: how fresh a follower is, it knows from its own clock, which it sends.
func (s *sender) pulse(ctx context.Context) error {
	tick := time.NewTicker(s.peer.Heartbeat)
	defer tick.Stop()
	for {
		flags := uint8(0)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.hurry:
			if !s.hasToAsk() {
				continue
			}
		case <-s.poke:
			if !s.peer.appliedIsAwaited() {
				s.pace.hold(ctx) // the next entries may tell it on their way
			}
			if !s.news() || s.sendsSoon() {
				continue
			}
		case <-tick.C:
			flags = flagAwaitsAnswer
		}
		if err := s.tell(kindHeartbeat, flags, replog.Batch{}); err != nil {
			return err
		}
	}
}

// listen reads acks.
func (s *sender) listen() error {
	for {
		m, err := s.w.expect(kindAck)
		if err != nil {
			return err
		}
		a, err := decodeAck(m.payload)
		if err != nil {
			return err
		}
		if m.epoch > history.Epoch(s.epoch.Load()) {
			return fmt.Errorf("%w: epoch %d", errNewerEpoch, m.epoch)
		}
		if a.Received > max(history.LSN(s.sent.Load()), s.base) || a.Flushed > a.Received || a.Visible > a.Flushed || a.Round > s.asked.Load() {
			return fmt.Errorf("%w: %+v", errImpossibleAck, a)
		}
		s.note(a, m.flags, m.epoch == history.Epoch(s.epoch.Load()))
	}
}

// note takes an ack in. Those of an older epoch are only shown: the follower may not know yet who leads.
func (s *sender) note(a ack, flags uint8, current bool) {
	p := s.peer
	now := time.Now()
	s.clocks.note(p.pipeline.Now(), a.Reading)
	if sent := s.w.sent.Load(); a.Stamp == s.stamp.Load() { // in this order: that message, and all before it
		s.read.Store(sent)
	}
	s.mu.Lock()
	s.ack, s.flags, s.current, s.ackedAt = a, flags, current, now
	if a.Stamp > 0 {
		s.trip = max(now.Sub(p.began)-time.Duration(a.Stamp)-time.Duration(a.Held), 0)
	}
	s.mu.Unlock()
	p.slots.advance(s.who.Name, a.Flushed, now)
	s.settle()
	if !s.fresh(a.Reading) {
		s.refresh()
	}
}

// refresh has the follower told of a SafeTime from now on, or from when it was not fresh first.
func (s *sender) refresh() {
	p := s.peer.pipeline
	s.due.CompareAndSwap(0, int64(p.Now()))
	if int64(p.SafeAt()) < s.due.Load() {
		p.Refresh()
	}
	if s.hasToAsk() {
		nudge(s.hurry)
	}
}

// settle has the newest ack counted, if the follower has caught up.
func (s *sender) settle() {
	p := s.peer
	s.mu.Lock()
	a, now := s.ack, time.Now()
	caughtUp := s.state == StateCatchup && s.atEnd.Load() && !s.ackedAt.IsZero() && a.Flushed >= s.target
	if caughtUp {
		s.state = StateStreaming
	}
	counts := s.state == StateStreaming && s.current
	s.mu.Unlock()
	if caughtUp {
		p.Logger.Info("a follower has caught up", "name", s.who.Name, "at", a.Flushed, "after", now.Sub(s.since).Round(time.Millisecond))
	}
	if counts {
		p.pipeline.Acknowledge(p.countAs(s.who), commit.Progress{Received: a.Received, Flushed: a.Flushed, Applied: a.Visible})
		p.pipeline.Confirm(p.countAs(s.who), a.Round)
	}
}

// progress is the newest ack, or what the follower had at first.
func (s *sender) progress() ack {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ackedAt.IsZero() {
		return ack{Received: s.base, Flushed: s.base}
	}
	return s.ack
}
