package replication

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"skein/internal/replog"
)

const (
	// DefaultTimeout is how long the other side may be silent.
	DefaultTimeout = 5 * time.Second
	// DefaultHeartbeat is how often a sender that has nothing to say says so.
	DefaultHeartbeat = 100 * time.Millisecond

	nonceBytes = 32
)

// Link is how a node reaches others and lets itself be reached.
type Link struct {
	Identity
	// Secret is known to every node of the cluster and to nobody else. Without one, only nodes of the
	// same machine are spoken with.
	Secret    []byte
	Timeout   time.Duration // 0: DefaultTimeout
	Heartbeat time.Duration // 0: DefaultHeartbeat
	// Dial opens a connection; nil is TCP. Tests have networks of their own.
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Logger *slog.Logger
}

func (l *Link) setDefaults() {
	if l.Timeout == 0 {
		l.Timeout = DefaultTimeout
	}
	if l.Heartbeat == 0 {
		l.Heartbeat = DefaultHeartbeat
	}
	if l.Dial == nil {
		timeout := l.Timeout
		l.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", address)
		}
	}
	if l.Logger == nil {
		l.Logger = slog.New(slog.DiscardHandler)
	}
}

// Identify asks who is at an address. The Link may have no cluster yet.
func (l *Link) Identify(ctx context.Context, address string) (Identity, error) {
	link := *l
	link.setDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, who, err := link.dial(ctx, address, toIdentify)
	if err != nil {
		return Identity{}, err
	}
	return who, w.close()
}

// Open connects to a node for one of the exported purposes. The connection carries whatever bytes its users
// like, and their deadlines; ctx ends only the attempt.
func (l *Link) Open(ctx context.Context, address string, why Purpose) (net.Conn, Identity, error) {
	if !why.carriesBytes() {
		return nil, Identity{}, fmt.Errorf("open a connection: purpose %d has messages of its own", why)
	}
	link := *l
	link.setDefaults()
	w, who, stop, err := link.meet(ctx, address, why)
	if err != nil {
		return nil, Identity{}, err
	}
	if !stop() { // ctx was quicker, and has closed the connection
		return nil, Identity{}, context.Cause(ctx)
	}
	c, err := newByteConn(w)
	if err != nil {
		return nil, Identity{}, errors.Join(err, w.close())
	}
	return c, who, nil
}

// dial connects, and proves both sides to each other. The connection ends with ctx.
func (l *Link) dial(ctx context.Context, address string, why Purpose) (*wire, Identity, error) {
	w, who, _, err := l.meet(ctx, address, why)
	return w, who, err
}

// meet is dial for whoever may keep the connection when ctx ends, which stop is for.
func (l *Link) meet(ctx context.Context, address string, why Purpose) (w *wire, who Identity, stop func() bool, err error) {
	conn, err := l.Dial(ctx, address)
	if err != nil {
		return nil, Identity{}, nil, err
	}
	tune(conn, l.Timeout)
	stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	w = newWire(conn, l.Timeout)
	if who, err = l.introduce(w, why); err != nil {
		stop()
		return nil, Identity{}, nil, errors.Join(ended(ctx, err), w.close())
	}
	return w, who, stop, nil
}

// ended gives the reason why ctx is done, if it is: the errors of a connection that was closed for it say nothing.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// introduce is the dialing half of the handshake:
//
//	dialer → listener   hello: version, purpose, nonce, identity
//	listener → dialer   challenge: nonce, proof over both
//	dialer → listener   proof
//	listener → dialer   welcome: identity
//
// A proof is an HMAC over everything said so far, with the side that gives it, so that it is of use in
// this connection and direction only. The listener says who it is only after the dialer's proof.
func (l *Link) introduce(w *wire, why Purpose) (Identity, error) {
	if len(l.Secret) == 0 && !local(w.conn) {
		return Identity{}, refuse(RefusedSecret, "without a cluster secret only nodes of this machine are followed")
	}
	nonce := newNonce()
	var hello encoder
	hello.u16(Version)
	hello.u8(uint8(why))
	hello.bytes(nonce)
	hello.identity(l.Identity)
	if err := w.write(kindHello, 0, 0, hello.b); err != nil {
		return Identity{}, fmt.Errorf("say hello: %w", err)
	}
	m, err := w.expect(kindChallenge)
	if err != nil {
		return Identity{}, err
	}
	d := decoder{b: m.payload}
	theirs := append([]byte(nil), d.take(nonceBytes)...)
	proof := d.take(sha256.Size)
	if err := d.end(); err != nil {
		return Identity{}, err
	}
	if !hmac.Equal(proof, l.prove("listener", hello.b, theirs)) {
		return Identity{}, refuse(RefusedSecret, "it does not know this cluster's secret")
	}
	if err := w.write(kindProof, 0, 0, l.prove("dialer", hello.b, theirs)); err != nil {
		return Identity{}, fmt.Errorf("prove: %w", err)
	}
	w.trust(seedOf(nonce, theirs), why)
	if m, err = w.expect(kindWelcome); err != nil {
		return Identity{}, err
	}
	d = decoder{b: m.payload}
	who := d.identity()
	return who, d.end()
}

// receive is the listening half. What the dialer wants is refused or granted by admit, which may
// answer with a Refused.
func (l *Link) receive(w *wire, admit func(Identity, Purpose) error) (Identity, Purpose, error) {
	m, err := w.expect(kindHello)
	if err != nil {
		return Identity{}, 0, err
	}
	hello := append([]byte(nil), m.payload...)
	d := decoder{b: hello}
	version, why := d.u16(), Purpose(d.u8())
	if d.end() == nil && version != Version {
		return Identity{}, 0, w.refuse(refuse(RefusedVersion, "it speaks version %d of the protocol, you speak %d", Version, version))
	}
	theirs := d.take(nonceBytes)
	who := d.identity()
	if err := d.end(); err != nil {
		return Identity{}, 0, w.refuse(refuse(RefusedProtocol, "hello: %v", err))
	}
	if len(l.Secret) == 0 && !local(w.conn) {
		return who, why, w.refuse(refuse(RefusedSecret, "without a cluster secret it speaks only with nodes of its own machine"))
	}
	nonce := newNonce()
	if err := w.write(kindChallenge, 0, 0, nonce, l.prove("listener", hello, nonce)); err != nil {
		return who, why, err
	}
	if m, err = w.expect(kindProof); err != nil {
		return who, why, err
	}
	if !hmac.Equal(m.payload, l.prove("dialer", hello, nonce)) {
		return who, why, w.refuse(refuse(RefusedSecret, "you do not know its cluster's secret"))
	}
	w.trust(seedOf(theirs, nonce), why)
	if err := l.accepts(who, why); err != nil {
		return who, why, w.refuse(err)
	}
	if err := admit(who, why); err != nil {
		return who, why, w.refuse(err)
	}
	var e encoder
	e.identity(l.Identity)
	return who, why, w.write(kindWelcome, 0, 0, e.b)
}

// accepts judges who somebody says to be. Whoever only asks for the cluster's id need not know it.
func (l *Link) accepts(who Identity, why Purpose) error {
	if why == toIdentify && who.Cluster == (replog.Cluster{}) {
		return nil
	}
	if who.Cluster != l.Cluster {
		return refuse(RefusedCluster, "it belongs to cluster %x, and you to %x", l.Cluster, who.Cluster)
	}
	if who.Node == l.Node && why != toIdentify {
		return refuse(RefusedSelf, "it has your own node id, %s: a node cannot follow itself, and a copied directory needs an id of its own", l.Node)
	}
	return nil
}

// prove shows, to whoever knows the secret, that side knows it too.
func (l *Link) prove(side string, hello, nonce []byte) []byte {
	m := hmac.New(sha256.New, l.Secret)
	_, _ = fmt.Fprintf(m, "skein peer %s\x00", side)
	_, _ = m.Write(nonce)
	_, _ = m.Write(hello)
	return m.Sum(nil)
}

func newNonce() []byte {
	b := make([]byte, nonceBytes)
	_, _ = rand.Read(b) // never fails
	return b
}

func seedOf(dialer, listener []byte) uint32 {
	return binary.LittleEndian.Uint32(dialer) ^ binary.LittleEndian.Uint32(listener)
}

// local says whether the other side is on this machine. A connection without IP addresses is one
// within a process.
func local(c net.Conn) bool {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	return !ok || a.IP.IsLoopback()
}

// expect reads a message of one kind. Any other ends the connection; a refusal is the error that it carries.
func (w *wire) expect(k kind) (message, error) {
	m, err := w.read()
	if err != nil {
		return m, err
	}
	return m, w.check(m, k)
}

func (w *wire) check(m message, kinds ...kind) error {
	for _, k := range kinds {
		if m.kind == k {
			return nil
		}
	}
	if m.kind == kindRefuse {
		return decodeRefused(m.payload)
	}
	return fmt.Errorf("%w: a frame of kind %d where %d was due", errBadMessage, m.kind, kinds)
}

// refuse tells the other side, if it is a Refused, and gives the error back.
func (w *wire) refuse(err error) error {
	var r *Refused
	if errors.As(err, &r) {
		_ = w.write(kindRefuse, 0, 0, r.encode())
	}
	return err
}
