package commit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/replog"
)

const (
	promiseFile    = "promise" // in the node's directory: it outlives log and databases
	promiseMagic   = "SKEINPRO"
	promiseVersion = 1
	promiseHeader  = 24
	maxTaint       = 1000

	// AnyEpoch is that of a leader that was set by configuration: nobody else is ever promised.
	AnyEpoch history.Epoch = math.MaxUint64
)

// ErrPromised refuses what comes in the name of an epoch below one that this node has promised.
var ErrPromised = errors.New("this node has promised a later epoch")

// vow is what a node must know of itself after any crash, to be believed.
type vow struct {
	epoch history.Epoch // promised
	// received says that the node has acknowledged what was not on its disk, or was about to.
	received bool
	taint    string // why it may lack something that it has acknowledged; "" if it cannot
}

// promise keeps a vow in a file. What is promised counts in memory first: see Pipeline.Promise. The file has its room
// from the start: a node whose disk is full must be able to promise.
type promise struct {
	epoch atomic.Uint64 // promised: no lower than in the file. Raised while Pipeline.roles is held
	kept  atomic.Uint64 // promised, and in the file
	noted atomic.Bool   // since this start, and in the file: received

	writing atomic.Pointer[time.Time] // since when the file is being written; nil while it is not

	mu    sync.Mutex // held across the write of the file: the next one is of the vow after it
	saved vow        // as in the file
	file  *replog.Twin

	taint  atomic.Pointer[string] // nil: none. The file may say one still
	regain atomic.Uint64          // LSN with which the taint ends; 0: not known yet
}

// openPromise reads what the node has promised; a node without the file has not promised anything.
func openPromise(path string) (*promise, error) {
	file, b, err := replog.OpenTwin(path)
	p := &promise{file: file}
	var v vow
	switch {
	case err == nil && b == nil:
		if err := file.Write(encodeVow(v)); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return nil, fmt.Errorf("write the node's promise: %w", err)
		}
	case err == nil:
		ok := false
		if v, ok = decodeVow(b); !ok {
			err = errors.Join(fmt.Errorf("%w: it is of another version of Skein", replog.ErrNewerFormat), file.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s says for which leader this node may speak, and it must not go on without; remove the node from the cluster and let it join again with an empty directory: %w", path, err)
	}
	p.saved = v
	p.epoch.Store(uint64(v.epoch))
	p.kept.Store(uint64(v.epoch))
	if v.taint != "" {
		p.taint.Store(&v.taint)
	}
	return p, nil
}

func (p *promise) made() history.Epoch { return history.Epoch(p.epoch.Load()) }

// save changes the vow and returns when that is on disk.
func (p *promise) save(change func(*vow)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.saved
	change(&next)
	if next == p.saved {
		return nil
	}
	began := time.Now()
	p.writing.Store(&began)
	err := p.file.Write(encodeVow(next))
	p.writing.Store(nil)
	if err != nil {
		return fmt.Errorf("write the node's promise: %w", err)
	}
	p.saved = next
	p.kept.Store(uint64(next.epoch))
	return nil
}

// settle draws the conclusion from how the log was found: what a node has acknowledged before it was on its disk, only
// a clean stop has not lost.
func (p *promise) settle(clean bool) error {
	if p.saved.received && !clean {
		return p.spoil("it had acknowledged entries that were not on its disk yet when it ended without warning")
	}
	return p.save(func(v *vow) { v.received = false })
}

// spoil taints the node.
func (p *promise) spoil(why string) error {
	why = why[:min(len(why), maxTaint)]
	p.regain.Store(0)
	p.taint.Store(&why)
	return p.save(func(v *vow) { v.taint, v.received = why, v.received && p.noted.Load() })
}

// reached ends the taint if the node has got back what it may have lacked. It only notes that: commits wait for it.
func (p *promise) reached(flushed history.LSN) {
	goal := p.regain.Load()
	if goal == 0 || uint64(flushed) < goal {
		return
	}
	if why := p.taint.Load(); p.regain.CompareAndSwap(goal, 0) {
		p.taint.CompareAndSwap(why, nil) // unless spoil has come between
	}
}

// Promised is the epoch below which this node takes part in nothing, whatever happens to it.
func (p *Pipeline) Promised() history.Epoch { return history.Epoch(p.promise.kept.Load()) }

// Promise binds this node to an epoch: from the first moment on it receives nothing, cuts nothing and acknowledges nothing in
// the name of a lower one, and leads none. When it returns that is on disk, as is the log up to the position that
// it gives, which holds everything that this node has ever acknowledged in a lower epoch. A lower epoch than
// the one that was promised last is refused with ErrPromised.
func (p *Pipeline) Promise(epoch history.Epoch) (history.Position, error) {
	if err := p.bind(epoch); err != nil {
		return history.Position{}, err
	}
	p.stepDown(epoch)
	at, err := p.seal(epoch)
	if err != nil {
		return history.Position{}, fmt.Errorf("promise epoch %d: %w", epoch, err)
	}
	if err := fault.Hit("promise.sealed"); err != nil {
		return history.Position{}, fmt.Errorf("promise epoch %d: %w", epoch, err)
	}
	err = p.promise.save(func(v *vow) { v.epoch = max(v.epoch, epoch) })
	_ = fault.Hit("promise.kept") // nothing is done here that could fail
	return at, err
}

// bind promises in memory: so far only that nobody of a lower epoch is heard any more.
func (p *Pipeline) bind(epoch history.Epoch) error {
	p.roles.Lock()
	defer p.roles.Unlock()
	if made := p.promise.made(); epoch < made {
		return fmt.Errorf("%w: %d, and now %d", ErrPromised, made, epoch)
	}
	p.promise.epoch.Store(uint64(epoch))
	return nil
}

// seal flushes the log, which from then on grows in the name of epoch or a later one only. No cut comes between: it
// would take the end away that is waited for.
func (p *Pipeline) seal(epoch history.Epoch) (history.Position, error) {
	p.applier.applying.Lock()
	defer p.applier.applying.Unlock()
	head := p.log.Fence(epoch)
	return head, p.log.Wait(context.Background(), head.LSN)
}

// mayHear refuses what comes in the name of an epoch that this node has promised to be past.
func (p *Pipeline) mayHear(under history.Epoch) error {
	if made := p.promise.made(); under < made {
		return fmt.Errorf("%w: %d, above %d", ErrPromised, made, under)
	}
	return nil
}

// Tainted says why this node may lack something that it has acknowledged once; "" if it cannot.
func (p *Pipeline) Tainted() string {
	if why := p.promise.taint.Load(); why != nil {
		return *why
	}
	return ""
}

// Taint notes that this node may lack something that it has acknowledged, until it has regained it.
func (p *Pipeline) Taint(why string) error { return p.promise.spoil(why) }

// TaintDir is Taint for a node whose storage nobody has open: before its log is replaced by one that may end earlier.
func TaintDir(dir, why string) error {
	p, err := openPromise(filepath.Join(dir, promiseFile))
	if err != nil {
		return err
	}
	return p.spoil(why)
}

// Regain says that everything this node can ever have acknowledged is in the history that it copies now, at or below
// head: with that on its disk the taint ends.
func (p *Pipeline) Regain(head history.LSN) {
	if p.Tainted() == "" {
		return
	}
	p.promise.regain.Store(uint64(max(head, 1)))
	p.advance()
}

// absolve has the file say that a taint has ended. Until then a crash brings it back, which is only more careful.
func (p *Pipeline) absolve() {
	if err := p.promise.save(func(v *vow) {
		if p.promise.taint.Load() == nil {
			v.taint = ""
		}
	}); err != nil {
		p.options.Logger.Error("cannot write down that this node's log is whole again", "error", err)
	}
}

// AcksReceived must have returned before this node first acknowledges, since its start, what is not on its disk.
func (p *Pipeline) AcksReceived() error {
	if p.promise.noted.Load() {
		return nil
	}
	if err := p.promise.save(func(v *vow) { v.received = true }); err != nil {
		return err
	}
	p.promise.noted.Store(true)
	return nil
}

// AcknowledgesReceived says whether AcksReceived has returned since the start.
func (p *Pipeline) AcknowledgesReceived() bool { return p.promise.noted.Load() }

// suspect is called before an end of the log is dropped that may have been whole once.
func (p *Pipeline) suspect() error {
	return p.promise.spoil("the last entry of its log does not read, and may have been acknowledged")
}

// Stalled is for how long the oldest write to this node's disk that somebody waits for has not returned.
func (p *Pipeline) Stalled() time.Duration {
	stalled := p.log.Stalled()
	if began := p.promise.writing.Load(); began != nil {
		stalled = max(stalled, time.Since(*began))
	}
	return stalled
}

func encodeVow(v vow) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, promiseHeader+len(v.taint)), promiseMagic...)
	b = le.AppendUint32(b, promiseVersion)
	received := uint32(0)
	if v.received {
		received = 1
	}
	b = le.AppendUint32(b, received)
	b = le.AppendUint64(b, uint64(v.epoch))
	return append(b, v.taint...)
}

func decodeVow(b []byte) (v vow, ok bool) {
	le := binary.LittleEndian
	if len(b) < promiseHeader || string(b[:8]) != promiseMagic || le.Uint32(b[8:]) != promiseVersion {
		return v, false
	}
	return vow{epoch: history.Epoch(le.Uint64(b[16:])), received: le.Uint32(b[12:]) != 0, taint: string(b[promiseHeader:])}, true
}
