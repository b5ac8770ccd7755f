package replication

import (
	"fmt"
	"time"

	"skein/internal/history"
	"skein/internal/replog"
)

// Version of the protocol between nodes. The first message says it; another is refused with a text.
const Version = 2

// kind says what a frame carries.
type kind uint8

const (
	kindHello kind = iota + 1 // who dials, and what for
	kindChallenge
	kindProof
	kindWelcome
	kindRefuse // ends the connection, at any point

	kindOffer   // follower: what my log is
	kindVerdict // sender: what you must do to continue from it
	kindEntries
	kindHeartbeat
	kindAck

	kindSnapshotWanted
	kindSnapshot // what it will be
	kindAsk      // receiver: give me of these pages …
	kindGiven    // what was asked for, in that order
	kindDiffering
	kindSnapshotTaken

	kindPageWanted
	kindPage

	kindVerify
	kindVerified

	kindPast // follower: positions in my log that were asked for

	kindBytes // of a connection that Link.Open gave
)

// Purpose of a connection.
type Purpose uint8

const (
	toIdentify Purpose = iota + 1
	toStream
	toFetch
	toRepair
	toVerify

	// ToRaft, ToWatch and ToCommand carry the control plane's bytes, which mean nothing to this package.
	ToRaft
	ToWatch
	ToCommand

	// ToForward carries the statements of another node's clients, in PostgreSQL's protocol.
	ToForward

	// ToAsk carries an Asker's questions.
	ToAsk

	// ToRoute carries a router process's questions, and ToRead the statements of its clients that read, in PostgreSQL's protocol.
	ToRoute
	ToRead
)

// carriesBytes says whether what follows the handshake is somebody else's; see Link.Open.
func (p Purpose) carriesBytes() bool { return p >= ToRaft }

// Identity is how a node introduces itself.
type Identity struct {
	Cluster     replog.Cluster
	Node        string // of the directory
	Disk        string // a wiped and refilled directory has another
	Incarnation uint64 // of the process: random
	Name        string // as synchronous_standby_names knows it, and the slot
	Address     string // where other nodes reach its peer port
}

// reachable says whether others can connect to the node.
func (i Identity) reachable() bool { return i.Address != "" }

func (e *encoder) identity(i Identity) {
	e.bytes(i.Cluster[:])
	e.str(i.Node)
	e.str(i.Disk)
	e.u64(i.Incarnation)
	e.str(i.Name)
	e.str(i.Address)
}

func (d *decoder) identity() Identity {
	var i Identity
	copy(i.Cluster[:], d.take(len(i.Cluster)))
	i.Node, i.Disk, i.Incarnation, i.Name, i.Address = d.str(), d.str(), d.u64(), d.str(), d.str()
	return i
}

// Code says why a node refused.
type Code uint8

// Codes of a refusal.
const (
	RefusedVersion   Code = iota + 1 // another protocol version
	RefusedSecret                    // the cluster secrets differ, or one side has none
	RefusedCluster                   // another cluster
	RefusedSelf                      // a node following itself
	RefusedDuplicate                 // this node id, or this name, is connected by another process
	RefusedBehind                    // the follower knows more than this node does: it must find a newer leader
	RefusedBusy                      // cannot now; later it may
	RefusedProtocol                  // what came was not understood
	RefusedGone                      // a snapshot was outlived by what it reads from; begin again
)

// Refused is the error of a connection that the other node did not want.
type Refused struct {
	Code Code
	Text string
}

func (r *Refused) Error() string { return "refused by the other node: " + r.Text }

// Temporary says whether trying again can help without a person doing something.
func (r *Refused) Temporary() bool {
	switch r.Code {
	case RefusedDuplicate, RefusedBehind, RefusedBusy, RefusedGone:
		return true
	}
	return false
}

func refuse(c Code, format string, args ...any) *Refused {
	return &Refused{c, fmt.Sprintf(format, args...)}
}

func (r *Refused) encode() []byte {
	var e encoder
	e.u8(uint8(r.Code))
	e.str(r.Text)
	return e.b
}

func decodeRefused(b []byte) error {
	d := decoder{b: b}
	r := &Refused{Code(d.u8()), d.str()}
	if err := d.end(); err != nil {
		return err
	}
	return r
}

// offer is what a follower says of its log when it wants to go on with it.
type offer struct {
	Head    history.Position
	Epochs  history.Epochs
	Visible history.LSN // its readers have seen up to here: below it nothing can be taken back

	Past []history.Position // what it said later, when asked; not part of the message
}

func (o offer) encode() []byte {
	var e encoder
	e.position(o.Head)
	e.lsn(o.Visible)
	e.epochs(o.Epochs)
	return e.b
}

func decodeOffer(b []byte) (offer, error) {
	d := decoder{b: b}
	var o offer
	o.Head, o.Visible = d.position(), d.lsn()
	o.Epochs = d.epochs()
	return o, d.end()
}

func encodePast(positions []history.Position) []byte {
	var e encoder
	for _, p := range positions {
		e.position(p)
	}
	return e.b
}

func decodePast(b []byte) ([]history.Position, error) {
	d := decoder{b: b}
	var all []history.Position
	for len(d.b) > 0 && len(all) < maxAsked {
		all = append(all, d.position())
	}
	return all, d.end()
}

// action is what a sender answers to an offer.
type action uint8

const (
	actStream   action = iota + 1 // entries follow, from behind At
	actCut                        // take back what is above At, which both have, and offer again
	actSnapshot                   // the logs cannot be joined
	actCompare                    // say what you have at the entries of Ask
)

type verdict struct {
	Action   action
	At       history.Position // the last common entry; of a snapshot, as far as it is known
	Head     history.LSN      // of the sender
	Diverged bool             // of a snapshot: the follower has something above At that the sender has not
	Reason   string           // of a cut or snapshot
	Ask      []history.LSN    // of a comparison
}

func (v verdict) encode() []byte {
	var e encoder
	e.u8(uint8(v.Action))
	e.position(v.At)
	e.lsn(v.Head)
	e.bool(v.Diverged)
	e.str(v.Reason)
	e.u16(uint16(len(v.Ask)))
	for _, lsn := range v.Ask {
		e.lsn(lsn)
	}
	return e.b
}

func decodeVerdict(b []byte) (verdict, error) {
	d := decoder{b: b}
	v := verdict{Action: action(d.u8()), At: d.position(), Head: d.lsn(), Diverged: d.bool(), Reason: d.str()}
	n := int(d.u16())
	if v.Action < actStream || v.Action > actCompare || n > maxAsked {
		return v, errBadMessage
	}
	for range n {
		v.Ask = append(v.Ask, d.lsn())
	}
	return v, d.end()
}

// pulse stands at the front of entries and is all of a heartbeat.
type pulse struct {
	Committed history.LSN
	Head      history.LSN // of the sender's log
	Clock     int64       // sender's wall clock, µs since 1970
	Stamp     int64       // sender's own, given back in acks: the round trip is measured with it

	// Round asks whether the follower has promised no epoch later than Epoch; 0: nothing is asked. See commit.Question.
	Round uint64
	Epoch history.Epoch
	// Everything that had been acknowledged when the follower's clock stood at Echo, as it said in an ack, is at or below Safe. 0:
	// that is not known.
	Safe history.LSN
	Echo time.Duration
}

const pulseBytes = 64

func (p pulse) encode(dst []byte) []byte {
	e := encoder{dst}
	e.lsn(p.Committed)
	e.lsn(p.Head)
	e.u64(uint64(p.Clock))
	e.u64(uint64(p.Stamp))
	e.u64(p.Round)
	e.u64(uint64(p.Epoch))
	e.lsn(p.Safe)
	e.u64(uint64(p.Echo))
	return e.b
}

// decodePulse gives the rest of the payload too: whole frames of the log.
func decodePulse(b []byte) (pulse, []byte, error) {
	d := decoder{b: b}
	p := pulse{
		d.lsn(), d.lsn(), int64(d.u64()), int64(d.u64()),
		d.u64(), history.Epoch(d.u64()), d.lsn(), time.Duration(d.u64()),
	}
	return p, d.b, d.end()
}

// Flags of entries and heartbeats: which acks somebody waits for.
const (
	flagAwaitsReceived = 1 << iota
	flagAwaitsApplied
	flagAwaitsAnswer // to Round, or any ack if there is none
)

// flagPaused is a flag of an ack: applying does not go on, because somebody has said so.
const flagPaused = 1

// ack is how far a follower is.
type ack struct {
	Received, Flushed, Applied, Visible history.LSN
	Clock                               int64         // follower's wall clock, µs since 1970
	Stamp                               int64         // of the newest pulse
	Held                                int64         // ns between that pulse and this ack
	Round                               uint64        // the newest that was confirmed
	Reading                             time.Duration // of the follower's own clock; see commit.Pipeline.Now
}

func (a ack) encode(dst []byte) []byte {
	e := encoder{dst}
	e.lsn(a.Received)
	e.lsn(a.Flushed)
	e.lsn(a.Applied)
	e.lsn(a.Visible)
	e.u64(uint64(a.Clock))
	e.u64(uint64(a.Stamp))
	e.u64(uint64(a.Held))
	e.u64(a.Round)
	e.u64(uint64(a.Reading))
	return e.b
}

func decodeAck(b []byte) (ack, error) {
	d := decoder{b: b}
	a := ack{d.lsn(), d.lsn(), d.lsn(), d.lsn(), int64(d.u64()), int64(d.u64()), int64(d.u64()), d.u64(), time.Duration(d.u64())}
	return a, d.end()
}
