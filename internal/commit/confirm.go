package commit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"skein/internal/history"
)

// A leader may have been replaced without knowing it. Before it says what a read must see it therefore makes sure that, when it was
// asked, nobody else could have acknowledged anything:
//
//  1. Whoever leads a later epoch was appointed on the answers of nodes that had promised one, which satisfied every rule of the
//     cluster's list: also the one in force here at some moment after the request came, which stays in the list until this node goes by another.
//  2. That rule is satisfied without this node only if fewer than k of its followers have not promised. (Without followers: once its lease is over.)
//  3. Promises only grow. So if k of them say that they have not promised a later epoch, having read a question that was sent after
//     the request came, and this node has not either, then that was so when the request came. No lock is needed for the order.
//  4. So nothing was acknowledged in a later epoch before the request. What was in earlier ones is at or below this epoch's first entry;
//     what was in this one is visible here by then. The LSN is noted after the request came, and is no lower than that first entry.
//  5. An answer to a question of before the request proves nothing: rounds are numbered, and one counts for a request that began after it.

// round is one time of asking the followers. It asks for all who wanted to know before it began.
type round struct {
	number uint64       // 0 while it has not begun
	names  StandbyNames // whose answers count, and how many are needed
	safe   SafeTime     // if it is confirmed
	hurry  bool         // somebody waits: followers are asked, and answer, at once
	over   chan struct{}
	// confirmed is written before over is closed. Otherwise another rule has come into force, of other followers.
	confirmed bool
}

// rounds is the asking of one leadership.
type rounds struct {
	mu      sync.Mutex
	open    *round            // under way
	next    *round            // begins when open is over; nil while nobody wants it
	answers map[string]uint64 // newest round that each follower has confirmed, by its name in the rule
	hurried atomic.Uint64     // number of open, if somebody waits; 0 otherwise
}

// Question goes to followers with every message: whether they have not promised a later epoch than that.
type Question struct {
	Round uint64 // 0: nothing is asked
	Epoch history.Epoch
	Hurry bool // somebody waits for the answer
}

// ReadPosition gives what a read must see to be linearizable: every commit that met the cluster's level and whose client was told before the
// call. With a causality key it gives the newest such commit under that key, of any level, or a later one. The epoch is that of the
// leadership which says so: a node whose log has not reached it may have something else at that LSN. It takes
// until this node is known to have led when it was called, as long as ctx lasts, or ErrNotLeading.
func (p *Pipeline) ReadPosition(ctx context.Context, key string) (history.LSN, history.Epoch, error) {
	role := p.role.Load()
	if !role.leads() {
		return 0, 0, ErrNotLeading
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(role.over, func() { cancel(ErrNotLeading) })()
	if err := p.waitVisible(ctx, role.rule.first); err != nil { // what was inherited is settled only with it
		return 0, 0, ended(ctx, err)
	}
	at := p.present()
	if key != "" {
		at = role.keys.newest(key)
	}
	if err := p.confirm(ctx, role); err != nil {
		return 0, 0, err
	}
	return at, role.epoch, nil
}

// NoteCommit remembers an entry that was committed under a causality key. It is called before its client hears of it.
func (p *Pipeline) NoteCommit(key string, lsn history.LSN) { p.role.Load().keys.note(key, lsn) }

// confirm returns nil once it is known that nobody had led a later epoch when it was called.
func (p *Pipeline) confirm(ctx context.Context, role *leadership) error {
	for {
		if !role.rule.current().Bound { // nobody counts on the followers
			if p.options.MayAcknowledge != nil {
				if err := p.options.MayAcknowledge(ctx); err != nil {
					return ended(ctx, err)
				}
			}
			return p.stillLeads(role)
		}
		r := p.want(role)
		select {
		case <-r.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if r.confirmed {
			return p.stillLeads(role)
		}
	}
}

// stillLeads says whether this node has promised no later epoch than the one that it leads.
func (p *Pipeline) stillLeads(role *leadership) error {
	if p.promise.made() > role.epoch || p.role.Load() != role {
		return ErrNotLeading
	}
	return nil
}

// ended gives the reason why ctx is done, if it is.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// present is what readers see once everything that has met the cluster's level is shown: who has flushed an entry may be told of it before
// the flusher shows it.
func (p *Pipeline) present() history.LSN {
	p.show()
	return p.visible.Load()
}

// want gives a round that begins from now on.
func (p *Pipeline) want(role *leadership) *round {
	s := &role.rounds
	s.mu.Lock()
	r := s.next
	if r == nil {
		r = &round{hurry: true, over: make(chan struct{})}
		s.next = r
	}
	begun := (s.open == nil || !s.open.hurry) && p.beginRound(role)
	s.mu.Unlock()
	if begun {
		p.progressed()
	}
	return r
}

// beginRound begins the next round, if one is wanted. Everybody who wanted it has come before its rule and its LSN are looked at. If the rule
// asks no followers any more, it is over at once. The lock of rounds is held.
func (p *Pipeline) beginRound(role *leadership) bool {
	s := &role.rounds
	r := s.next
	if r == nil {
		return false
	}
	s.next = nil
	r.safe.At = p.Now() // before the rest, which is to be of no earlier moment
	c := role.rule.current()
	if !c.Bound {
		close(r.over)
		return false
	}
	s.open = r
	r.names = c.Names
	r.safe.LSN = p.present()
	r.number = p.lastRound.Add(1)
	if r.hurry {
		s.hurried.Store(r.number)
	}
	return true
}

// Question is what to ask followers now. A leader that asks nothing begins a round by it, which costs no message.
func (p *Pipeline) Question() Question {
	role := p.role.Load()
	if !role.leads() || p.visible.Load() < role.rule.first {
		return Question{}
	}
	if !role.rule.current().Bound {
		p.vouchSelf(role)
		return Question{}
	}
	s := &role.rounds
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.next = &round{over: make(chan struct{})}
		if !p.beginRound(role) {
			return Question{}
		}
	}
	return Question{s.open.number, role.epoch, s.open.hurry}
}

// Asking is the round whose answers somebody waits for, 0 if nobody does. Followers that have not been asked should be, at once.
func (p *Pipeline) Asking() uint64 { return p.role.Load().rounds.hurried.Load() }

// Accepts says whether this node has promised no later epoch than that.
func (p *Pipeline) Accepts(epoch history.Epoch) bool { return p.promise.made() <= epoch }

// Confirm notes a follower's answer: it had promised no later epoch when it had read the question of a round.
func (p *Pipeline) Confirm(name string, number uint64) {
	role := p.role.Load()
	if number == 0 || !role.leads() {
		return
	}
	if p.confirmed(role, name, number) {
		p.progressed()
	}
}

// confirmed says whether that ended a round.
func (p *Pipeline) confirmed(role *leadership, name string, number uint64) bool {
	s := &role.rounds
	s.mu.Lock()
	defer s.mu.Unlock()
	if number <= s.answers[name] {
		return false
	}
	if s.answers == nil {
		s.answers = map[string]uint64{}
	}
	s.answers[name] = number
	r := s.open
	if r == nil || !r.names.metBy(s.answers, r.number) {
		return false
	}
	s.open = nil
	s.hurried.Store(0)
	r.confirmed = true
	if p.stillLeads(role) == nil {
		p.Vouch(r.safe)
	}
	close(r.over)
	p.beginRound(role)
	return true
}

// metBy says whether enough of those that n names have confirmed a round. Which of them, preferred or not, does not matter: a
// promotion needs more of them than are left.
func (n StandbyNames) metBy(answers map[string]uint64, number uint64) bool {
	met := 0
	for name, newest := range answers {
		if newest >= number && n.priority(name) > 0 {
			met++
		}
	}
	return n.need > 0 && met >= n.need
}

// forget leaves out a follower whose connection has ended.
func (s *rounds) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.answers, name)
}

// reset ends rounds whose rule is not in force any more: those that it names may be gone for good. Whoever waits asks anew.
func (s *rounds) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range []*round{s.open, s.next} {
		if r != nil {
			close(r.over)
		}
	}
	s.open, s.next = nil, nil
	s.hurried.Store(0)
}

// Refresh has this node find out, as a leader, that it leads, for followers who want to know how fresh they are. It does not wait.
func (p *Pipeline) Refresh() {
	role := p.role.Load()
	switch {
	case !role.leads() || p.visible.Load() < role.rule.first:
	case role.rule.current().Bound:
		p.want(role)
	default:
		p.vouchSelf(role)
	}
}

// atOnce is for asking without waiting.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("not now"))
	return ctx
}()

// vouchSelf is for leaders who need no answers: what they show is all there is, unless the lease is over by now.
func (p *Pipeline) vouchSelf(role *leadership) {
	s := SafeTime{At: p.Now()} // before the rest, as in beginRound
	s.LSN = p.present()
	if may := p.options.MayAcknowledge; may != nil && may(atOnce) != nil {
		return
	}
	if p.stillLeads(role) == nil {
		p.Vouch(s)
	}
}
