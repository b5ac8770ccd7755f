package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"skein/internal/history"
)

// Retain has the log kept from the LSN that keep gives, for followers that will ask for it; 0 is no wish.
// keep bounds itself: what it holds is not given up for a full disk.
func (p *Pipeline) Retain(keep func() history.LSN) { p.retain.Store(&keep) }

// Kick has the checkpointer look whether it is due.
func (p *Pipeline) Kick() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Run flushes and checkpoints until ctx is done, then flushes what is left and checkpoints once more.
// An error means that the disk has failed: the node must end, and nothing is acknowledged any more.
func (p *Pipeline) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	flusher := make(chan error, 1)
	go func() {
		err := p.log.Run(ctx)
		if err != nil {
			p.role.Load().rule.fail(err)
			p.visible.Fail(err)
		}
		cancel(err)
		flusher <- err
	}()
	var watcher sync.WaitGroup
	watcher.Go(func() { p.watchStandbys(ctx) })
	err := p.checkpoints(ctx)
	cancel(err)
	watcher.Wait()
	err = errors.Join(err, <-flusher)
	why := err
	if why == nil {
		why = errStopped
	}
	p.role.Load().rule.fail(why) // whoever waits
	p.visible.Fail(why)
	if err != nil {
		return err
	}
	return p.store.Checkpoint(p.Visible())
}

var errStopped = errors.New("the node has stopped")

// checkpoints runs one whenever enough log or memory has gathered.
func (p *Pipeline) checkpoints(ctx context.Context) error {
	pace := time.NewTicker(hintPace)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pace.C:
			p.hint.push()
			p.absolve()
			continue
		case <-p.kick:
		}
		if !p.due() && !p.store.DropPending() {
			continue
		}
		held, before := p.store.HeldBytes(), p.log.Bytes()
		// What made it due may still be on its way to the disk, and nothing else may come to kick.
		if err := p.log.Wait(ctx, p.log.Head().LSN); err != nil {
			continue // the node is stopping, or the flusher says why it fails
		}
		if err := p.Checkpoint(); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				return err
			}
			p.options.Logger.Error("checkpoint found the disk full; it will be tried again", "error", err)
			continue
		}
		p.done.Store(before)
		p.relieve(held)
	}
}

// due says whether enough log or memory has gathered since the last checkpoint. Every commit asks.
func (p *Pipeline) due() bool {
	return p.log.Bytes()-p.done.Load() >= p.options.CheckpointLogBytes ||
		p.store.HeldBytes() >= p.store.MaxBytes()/2 || p.store.SpilledBytes() >= p.store.MaxBytes()
}

// Checkpoint moves everything committed into the base files and gives up the log before it.
func (p *Pipeline) Checkpoint() error {
	err := p.store.Checkpoint(p.Visible())
	p.full.Store(errors.Is(err, syscall.ENOSPC))
	if err != nil {
		return err
	}
	return p.trim()
}

// trim gives up the log that neither recovery nor a follower needs.
func (p *Pipeline) trim() error {
	keep := p.store.CheckpointLSN()
	if wish := p.retain.Load(); wish != nil {
		if lsn := (*wish)(); lsn > 0 {
			keep = min(keep, lsn)
		}
	}
	return p.log.Trim(keep)
}

// room refuses what would be pending beyond the memory, but not in the system database: there it is said
// whose acknowledgement counts, and that the leader goes on without it.
func (p *Pipeline) room(id history.DatabaseID) error {
	if id != history.SystemDatabase && p.store.HeldBytes() > 2*p.store.MaxBytes() && p.Visible() < p.log.Flushed.Load() && p.Synchronous() {
		return ErrTooMuchPending
	}
	return p.makeRoom()
}

// makeRoom refuses more while page versions fill the memory and the disk has no room for them: a log that
// compresses well could go on long after the databases cannot.
func (p *Pipeline) makeRoom() error {
	if !p.full.Load() || p.store.HeldBytes() <= p.store.MaxBytes() {
		return nil
	}
	err := p.Checkpoint()
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// relieve ends the oldest snapshots while versions that only they need fill the memory.
func (p *Pipeline) relieve(before int64) {
	if p.store.HeldBytes() <= p.store.MaxBytes() || before <= p.store.MaxBytes() {
		return
	}
	ended := false
	for _, db := range p.store.All() {
		if db.KillOldest(p.Visible()) {
			ended = true
			p.options.Logger.Warn("ended the oldest snapshot: old page versions fill the memory", "database", db.ID, "bytes", p.store.HeldBytes())
		}
	}
	if ended {
		p.Kick() // look whether that was enough
	}
}

// Close closes the files after Run has returned; clean says that Run returned without error.
func (p *Pipeline) Close(clean bool) error {
	return errors.Join(p.log.Close(clean), p.store.Close(), p.hint.close(), p.promise.file.Close())
}
