package commit

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"skein/internal/history"
	"skein/internal/watermark"
)

// rule decides, on the leader, what is acknowledged at which level. It only computes: who calls it
// flushes, hears followers and answers clients.
//
// Invariants, for every level L above Local: marks[L] ≤ flushed; marks[L] is at least the LSN that
// the named standbys have reached at L, and never goes down; while standbys are named, it is no more
// than that unless the leader was declared to be on its own (degraded).
type rule struct {
	asynchronous atomic.Bool // it is known that nobody is named: what is flushed is committed
	synchronous  atomic.Bool // standbys are named: their marks decide

	mu         sync.Mutex
	config     SyncConfig
	configured bool // before that nothing is committed: a restarted leader does not know yet whom to ask
	standbys   []Standby
	alone      bool // degraded: nobody is waited for

	// first is this leadership's first entry. What followers confirm below it proves nothing: they may have had it before
	// this leadership, and another that knows of a later one may still win over them. With it, all before it is committed.
	first history.LSN

	unnamed history.LSN                  // committed while nobody was named
	proved  [RemoteApply + 1]history.LSN // reached by the standbys themselves, at most marks; never goes down
	byAlone history.LSN                  // what is above proved and not above this was acknowledged by the leader alone

	marks [RemoteApply + 1]watermark.Watermark // from RemoteWrite on
}

var picks = [RemoteApply + 1]func(Progress) history.LSN{
	RemoteWrite: func(p Progress) history.LSN { return p.Received },
	On:          func(p Progress) history.LSN { return p.Flushed },
	RemoteApply: func(p Progress) history.LSN { return p.Applied },
}

// advance moves the marks on, now that this node has flushed so much, and gives what other sessions may
// see; ok is false as long as that is not known.
//
// A cluster at remote_apply publishes at On: followers show only what is committed, so that
// waiting for them to show it first would never end.
func (r *rule) advance(flushed history.LSN) (committed history.LSN, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.configured {
		return 0, false
	}
	if r.config.Names.Empty() {
		return flushed, true
	}
	for l := RemoteWrite; l <= RemoteApply; l++ {
		at := min(flushed, r.config.Names.reached(r.standbys, picks[l]))
		if at < r.first {
			at = 0
		}
		r.proved[l] = max(r.proved[l], at)
		if r.alone {
			at = flushed
		}
		r.marks[l].Advance(at)
	}
	if r.alone {
		r.byAlone = max(r.byAlone, flushed)
	}
	if r.config.Level <= Local {
		return flushed, true
	}
	return max(r.unnamed, r.marks[min(r.config.Level, On)].Load()), true
}

// how says of an entry that is acknowledged at a level whether standbys are known to have it, and if they are not
// whether the leader alone, without those who should have, has acknowledged it.
func (r *rule) how(lsn history.LSN, l Level) (alone, proved bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	proved = lsn <= r.proved[max(l, RemoteWrite)]
	return !proved && lsn <= r.byAlone, proved
}

// configure sets the rule. Whoever waits for standbys that are not named any more is let go by the next
// advance, or here when none are named.
//
// Whoever waits has seen asynchronous after its entry was flushed. So flushed is asked after that is set:
// then the entries of those who have seen the old value are below.
func (r *rule) configure(c SyncConfig, flushed func() history.LSN) {
	r.mu.Lock()
	defer r.mu.Unlock()
	free := r.configured && r.config.Names.Empty()
	r.config, r.configured = c, true
	r.asynchronous.Store(c.Names.Empty())
	r.synchronous.Store(!c.Names.Empty())
	if free {
		r.unnamed = flushed()
	}
	r.alone = r.alone && c.mayGoAlone()
	if c.Names.Empty() {
		at := flushed()
		for l := RemoteWrite; l <= RemoteApply; l++ {
			r.marks[l].Advance(at)
		}
	}
}

// acknowledge notes how far a standby is. It never goes back: a follower that has lost something is another
// one, and was forgotten first.
func (r *rule) acknowledge(name string, p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.find(name)
	if i < 0 {
		r.standbys = append(r.standbys, Standby{name, p})
		return
	}
	at := &r.standbys[i].Progress
	at.Received, at.Flushed, at.Applied = max(at.Received, p.Received), max(at.Flushed, p.Flushed), max(at.Applied, p.Applied)
}

func (r *rule) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.find(name); i >= 0 {
		r.standbys = slices.Delete(r.standbys, i, i+1)
	}
}

func (r *rule) find(name string) int {
	return slices.IndexFunc(r.standbys, func(s Standby) bool { return strings.EqualFold(s.Name, name) })
}

// reached gives what the standbys themselves have confirmed at a level, degraded or not.
func (r *rule) reached(l Level) history.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config.Names.reached(r.standbys, picks[max(l, RemoteWrite)])
}

// setAlone declares the leader to be on its own, or not any more.
func (r *rule) setAlone(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alone = on && r.config.mayGoAlone()
}

func (r *rule) isAlone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alone
}

func (r *rule) current() SyncConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
}

func (r *rule) state(name string) (priority int, state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config.Names.state(name, r.standbys)
}

// fail ends every wait: the node stops leading, or its disk has failed.
func (r *rule) fail(err error) {
	for l := RemoteWrite; l <= RemoteApply; l++ {
		r.marks[l].Fail(err)
	}
}
