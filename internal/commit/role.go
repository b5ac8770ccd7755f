package commit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/replog"
)

var (
	errLapsed = errors.New("this node has ceased to lead")

	// ErrPassed refuses an epoch that has begun already, or a later one of which was promised.
	ErrPassed = errors.New("the epoch has passed")
)

// leadership is the time for which this node writes in one epoch; its zero value stands for following. Whoever
// waits for an acknowledgement waits for one of the leadership that wrote the entry: that a later one, here, has come to the
// same LSN says nothing about it.
type leadership struct {
	epoch  history.Epoch
	rule   rule
	rounds rounds
	keys   keys
	over   context.Context // ends with it
	end    context.CancelFunc
}

func (l *leadership) leads() bool { return l.epoch != 0 }

// Leading says whether this node writes.
func (p *Pipeline) Leading() bool { return p.role.Load().leads() }

// Leads is the epoch that this node leads, 0 while it follows.
func (p *Pipeline) Leads() history.Epoch { return p.role.Load().epoch }

// Epoch is that of the newest entry. Like all that status asks it waits for nobody: an append of a large
// transaction holds the log's order for long.
func (p *Pipeline) Epoch() history.Epoch { return history.Epoch(p.newest.Load()) }

// Lead begins an epoch, 0 for the next: from then on this node writes. It fails with ErrPassed if the log has
// entries of that epoch, or a later one was promised. Its first entry is on disk before anybody
// else can see it, so that no epoch ever begins twice. Nothing is shown above what had been shown before
// until Configure says whose acknowledgement counts and that first entry is acknowledged; but what the node writes
// goes on from the log's end.
//
// Nothing is received, applied by Follow or cut meanwhile.
func (p *Pipeline) Lead(ctx context.Context, epoch history.Epoch) error {
	if p.Leading() {
		return fmt.Errorf("lead epoch %d: this node leads epoch %d", epoch, p.Leads())
	}
	if err := p.applyTail(); err != nil {
		return fmt.Errorf("apply the end of the log: %w", err)
	}
	head := p.log.Head()
	if epoch == 0 {
		epoch = max(head.Epoch+1, p.promise.made())
	}
	if made := p.promise.made(); epoch <= head.Epoch || epoch < made {
		return fmt.Errorf("%w: lead epoch %d, with the log at %v and epoch %d promised", ErrPassed, epoch, head, made)
	}
	if err := fault.Hit("lead.append"); err != nil {
		return err
	}
	p.log.Fence(epoch)
	lsn, err := p.log.Append(&replog.Entry{Epoch: epoch, Kind: replog.EpochStart, Time: time.Now().UnixMicro()}, nil)
	if err != nil {
		return err
	}
	if err := p.log.Wait(ctx, lsn); err != nil {
		return err
	}
	p.advance() // what the leader of before has said to be committed: as a leader this node asks others
	p.newest.Store(uint64(epoch))
	if err := p.begin(epoch, lsn); err != nil {
		return err
	}
	p.advance()
	return fault.Hit("lead.begun")
}

// begin makes this node the leader, unless it has promised not to be one since.
func (p *Pipeline) begin(epoch history.Epoch, first history.LSN) error {
	l := &leadership{epoch: epoch}
	l.over, l.end = context.WithCancel(context.Background())
	l.rule.first = first
	l.keys.begin(first)
	p.roles.Lock()
	defer p.roles.Unlock()
	if promised := p.promise.made(); epoch < promised {
		return fmt.Errorf("%w: lead epoch %d, with epoch %d promised", ErrPassed, epoch, promised)
	}
	p.role.Store(l)
	return nil
}

// StepDown makes a leader a follower: when it returns, nothing is appended any more but what Receive brings, and no
// commit is acknowledged any more but such as followers are known to have. Everything above what readers see stays, as
// if it had been received, until it is committed or cut. Whoever waits for an acknowledgement goes on waiting.
//
// A commit that is being appended comes to its end first, which may take as long as the disk does.
func (p *Pipeline) StepDown() { p.stepDown(p.Leads() + 1) }

// stepDown ends a leadership of a lower epoch.
func (p *Pipeline) stepDown(below history.Epoch) {
	a := &p.applier
	a.applying.Lock()
	defer a.applying.Unlock()
	led := p.abdicate(below)
	if led == nil {
		return
	}
	head := p.log.Fence(led.epoch + 1)
	a.applied.Store(uint64(head.LSN)) // a leader's pages are there before its log entry is
	a.last.Store(0)
	p.ending.Store(false)
	p.options.Logger.Info("ceased to lead", "epoch", led.epoch, "head", head, "visible", p.Visible())
}

// abdicate takes the leadership away, and has nobody hear any more of what it comes to. It gives the one that was.
func (p *Pipeline) abdicate(below history.Epoch) *leadership {
	p.roles.Lock()
	defer p.roles.Unlock()
	led := p.role.Load()
	if !led.leads() || led.epoch >= below {
		return nil
	}
	p.ending.Store(true)
	next := &leadership{}
	next.rule.configure(led.rule.current(), p.log.Flushed.Load) // for status
	p.role.Store(next)
	p.learnt.Store(max(p.learnt.Load(), uint64(p.visible.Load())))
	led.rule.fail(errLapsed)
	led.end()
	d := &p.degrading
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget()
	return led
}
