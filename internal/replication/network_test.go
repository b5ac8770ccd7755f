package replication

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// direction of bytes, seen from the one who dials.
type direction int

// The directions.
const (
	there direction = iota // from the dialer to the listener
	back
)

const (
	networkPiece  = 32 << 10
	networkBuffer = 16  // pieces in flight: what a network holds of a connection
	sendBuffer    = 256 // writes: what the sender's machine holds before one waits
)

// errNetworkRefuses is what dialing gives while the proxy refuses.
var errNetworkRefuses = errors.New("the network refuses the connection")

// faults stand between two nodes and do to their connections what networks do. They work in virtual time,
// for they use no socket. The zero value passes everything on; what is set applies to all connections, present and
// future, except where it says otherwise.
type faults struct {
	mu      sync.Mutex
	refused bool
	stopped [2]chan struct{} // closed on release; nil: not held
	late    [2]time.Duration
	cuts    [2]int64 // bytes that still pass before everything is cut; 0: no cut is planned
	flips   [2]int64 // bytes that still pass before one is flipped; 0: none is
	bytes   [2]int64
	joined  map[*pair]struct{}
	running sync.WaitGroup
}

type pair struct{ dialing, listening net.Conn }

func (p *pair) close() { _, _ = p.dialing.Close(), p.listening.Close() }

// refuse has new connections fail, or not any more.
func (p *faults) refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = on
}

// hold stops all bytes in one direction until Release; the connections stay.
func (p *faults) hold(d direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped[d] == nil {
		p.stopped[d] = make(chan struct{})
	}
}

// release lets the bytes go on that Hold has stopped.
func (p *faults) release(d direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped[d] != nil {
		close(p.stopped[d])
		p.stopped[d] = nil
	}
}

// delayBy has bytes arrive later, however many there are: it is latency, not bandwidth.
func (p *faults) delayBy(d direction, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late[d] = by
}

// cutAfter cuts the connection on which the n-th byte from now on passes in one direction, right behind it.
func (p *faults) cutAfter(d direction, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[d] = n
}

// flipAfter changes a bit of the byte that comes after n more.
func (p *faults) flipAfter(d direction, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flips[d] = n + 1
}

// cut ends all connections there are.
func (p *faults) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *faults) cutLocked() {
	for j := range p.joined {
		j.close()
	}
}

// passed counts the bytes that went through.
func (p *faults) passed(d direction) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes[d]
}

// join passes bytes between two connections until either ends, then closes both. It does not wait.
func (p *faults) join(dialing, listening net.Conn) error {
	j := &pair{dialing, listening}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused {
		j.close()
		return errNetworkRefuses
	}
	if p.joined == nil {
		p.joined = map[*pair]struct{}{}
	}
	p.joined[j] = struct{}{}
	p.running.Go(func() {
		var both sync.WaitGroup
		both.Go(func() { p.pass(there, dialing, listening, j) })
		p.pass(back, listening, dialing, j)
		both.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.joined, j)
	})
	return nil
}

type parcel struct {
	due  time.Time
	data []byte
}

// pass copies one direction of one connection: a reader that takes what comes, as the sender's machine does, also while the
// network holds it, and a writer that is late.
func (p *faults) pass(d direction, from, to net.Conn, j *pair) {
	ctx, cancel := context.WithCancel(context.Background())
	sent := make(chan []byte, sendBuffer)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer j.close()
	defer cancel()
	reading.Go(func() {
		defer close(sent)
		for {
			b := make([]byte, networkPiece)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			select {
			case sent <- b[:n]:
			case <-ctx.Done():
				return
			}
		}
	})
	inFlight := make(chan parcel, networkBuffer)
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		defer cancel()
		defer j.close()
		for b := range inFlight {
			time.Sleep(time.Until(b.due))
			if _, err := to.Write(b.data); err != nil {
				return
			}
		}
	})
	defer close(inFlight)
	for b := range sent {
		b, delay, last := p.treat(ctx, d, b)
		select {
		case inFlight <- parcel{time.Now().Add(delay), b}:
		case <-ctx.Done():
			return
		}
		if last {
			return
		}
	}
}

// treat waits while the direction is held, and does what is planned for these bytes.
func (p *faults) treat(ctx context.Context, d direction, b []byte) (rest []byte, delay time.Duration, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stopped[d] != nil {
		held := p.stopped[d]
		p.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if ctx.Err() != nil {
			break
		}
	}
	n := int64(len(b))
	if at := p.flips[d]; at > 0 {
		if at <= n {
			b[at-1] ^= 0x20
		}
		p.flips[d] = max(at-n, 0)
	}
	if at := p.cuts[d]; at > 0 {
		if at <= n {
			b, last = b[:at], true
			p.cuts[d] = 0
		} else {
			p.cuts[d] = at - n
		}
	}
	p.bytes[d] += int64(len(b))
	return b, p.late[d], last
}

// close cuts everything and waits until it is gone. Nothing can be joined afterwards.
func (p *faults) close() {
	p.refuse(true)
	p.release(there)
	p.release(back)
	p.cut()
	p.running.Wait()
}
