package replication

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
)

const testDB = history.DatabaseID(2)

var testCluster = replog.Cluster{7, 7}

// network joins the nodes of a test within one process. Each pair of nodes has a proxy of its own.
type network struct {
	t  testing.TB
	mu sync.Mutex

	listeners map[string]*listener
	proxies   map[string]*faults

	scrubEvery time.Duration           // of nodes that are started
	segment    int64                   // of their logs
	tcp        map[string]net.Listener // instead of all this, where time is measured
}

func newNetwork(t testing.TB) *network {
	return &network{t: t, listeners: map[string]*listener{}, proxies: map[string]*faults{}}
}

// between is what lies between the one who dials and the one who listens.
func (n *network) between(dialer, listener string) *faults {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := dialer + ">" + listener
	if n.proxies[key] == nil {
		n.proxies[key] = &faults{}
	}
	return n.proxies[key]
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.proxies {
		p.close()
	}
}

var errNobodyListens = errors.New("connection refused")

func (n *network) dialer(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		if l := n.tcp[address]; l != nil {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		}
		n.mu.Lock()
		l := n.listeners[address]
		n.mu.Unlock()
		if l == nil {
			return nil, errNobodyListens
		}
		a, b := net.Pipe()
		c, d := net.Pipe()
		if err := n.between(from, address).join(b, c); err != nil {
			return nil, err
		}
		select {
		case l.conns <- d:
			return a, nil
		case <-l.closed:
			_ = a.Close()
			return nil, errNobodyListens
		case <-ctx.Done():
			_ = a.Close()
			return nil, context.Cause(ctx)
		}
	}
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	name   string
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.name} }

// unclosed is a listener that several peers use one after the other.
type unclosed struct{ net.Listener }

func (u unclosed) Close() error {
	return u.Listener.(*net.TCPListener).SetDeadline(time.Now())
}

func (u unclosed) Accept() (net.Conn, error) {
	_ = u.Listener.(*net.TCPListener).SetDeadline(time.Time{})
	return u.Listener.Accept()
}

func (n *network) listen(name string) *listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{}), name: name}
	n.listeners[name] = l
	return l
}

// node is one node of a test: its storage and its peer, without SQL.
type node struct {
	*commit.Pipeline
	t    testing.TB
	net  *network
	name string
	dir  string
	peer *Peer
	link Link

	stopStorage, stopPeer func()
	followed              chan error // what Follow ended with
}

var incarnations atomic.Uint64

func (n *network) link(name string) Link {
	return Link{
		Identity: Identity{Cluster: testCluster, Node: "id-" + name, Disk: "disk-" + name, Incarnation: incarnations.Add(1), Name: name, Address: name},
		Dial:     n.dialer(name), Logger: testLogger(n.t, name),
	}
}

func testLogger(t testing.TB, name string) *slog.Logger {
	if os.Getenv("SKEIN_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("on", name)
}

const testSegment = 4 * replog.MaxChunk

// start opens a node in dir and serves its peer port.
func (n *network) start(name, dir string, change ...func(*Link)) *node {
	n.t.Helper()
	p, _, err := commit.Open(dir, commit.Options{Cluster: testCluster, SegmentBytes: cmp.Or(n.segment, testSegment), CheckpointLogBytes: 1 << 40, Logger: testLogger(n.t, name)})
	if err != nil {
		n.t.Fatal(err)
	}
	s := &node{Pipeline: p, t: n.t, net: n, name: name, dir: dir, link: n.link(name)}
	for _, c := range change {
		c(&s.link)
	}
	if s.peer, err = NewPeer(Options{Link: s.link, Dir: dir, Pipeline: p, ScrubEvery: n.scrubEvery}); err != nil {
		n.t.Fatal(err)
	}
	s.stopStorage = background(func(ctx context.Context) error { return p.Run(ctx) }, n.t)
	var l net.Listener = n.tcp[name]
	if l == nil {
		l = n.listen(name)
	} else {
		l = unclosed{l}
	}
	s.stopPeer = background(func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ran := make(chan error, 1)
		go func() { ran <- s.peer.Run(ctx) }()
		err := serve(ctx, s.peer, l)
		cancel()
		return errors.Join(err, <-ran)
	}, n.t)
	return s
}

// serve has a peer answer whoever connects.
func serve(ctx context.Context, p *Peer, l net.Listener) error {
	d := NewDoor(p.Link)
	defer d.Admit(p)()
	return d.Serve(ctx, l)
}

// background runs fn until the returned function is called, which waits for it.
func background(fn func(context.Context) error, t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("background: %v", err)
		}
	})
}

// lead has the node write, under a rule for acknowledgements.
func (s *node) lead(names string, c commit.SyncConfig) *node {
	s.t.Helper()
	if err := s.Lead(context.Background(), 0); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if c.Names, err = commit.ParseStandbyNames(names); err != nil {
		s.t.Fatal(err)
	}
	s.Configure(c)
	return s
}

// follow has the node copy another one and apply what comes.
func (s *node) follow(upstream string) *node {
	s.followed = make(chan error, 1)
	apply := background(s.Follow, s.t)
	follow := background(func(ctx context.Context) error {
		err := s.peer.Follow(ctx, Upstream{Address: upstream, Under: commit.AnyEpoch})
		s.followed <- err
		if ctx.Err() == nil {
			return nil // the test looks at it
		}
		return err
	}, s.t)
	stop := s.stopPeer
	s.stopPeer = sync.OnceFunc(func() {
		follow()
		apply()
		stop()
	})
	return s
}

// stop ends the node. Not cleanly, its log is as after a crash of the process.
func (s *node) stop(clean bool) {
	s.t.Helper()
	s.net.mu.Lock()
	if l := s.net.listeners[s.name]; l != nil {
		delete(s.net.listeners, s.name)
	}
	s.net.mu.Unlock()
	s.stopPeer()
	s.stopStorage()
	if err := s.Close(clean); err != nil {
		s.t.Error(err)
	}
}

// write commits one transaction that fills some pages with what, and waits for it at a level.
func (s *node) write(what byte, pages ...pagestore.PageNo) history.LSN {
	s.t.Helper()
	lsn := s.append(what, pages...)
	if _, err := s.Wait(context.Background(), lsn, commit.On); err != nil {
		s.t.Fatal(err)
	}
	return lsn
}

func (s *node) append(what byte, pages ...pagestore.PageNo) history.LSN {
	s.t.Helper()
	return s.commit(func(i int, b []byte) {
		copy(b, bytes.Repeat([]byte{what}, len(b)))
		binary.LittleEndian.PutUint32(b, uint32(i))
	}, pages...)
}

// commit appends a transaction whose pages fill makes, and does not wait for it.
func (s *node) commit(fill func(i int, b []byte), pages ...pagestore.PageNo) history.LSN {
	s.t.Helper()
	db := s.Store().DB(testDB)
	if db == nil {
		var err error
		if db, err = s.Store().Create(testDB); err != nil {
			s.t.Fatal(err)
		}
	}
	size := db.Head().Pages
	var dirty []pagestore.Dirty
	for i, no := range pages {
		p := pagestore.NewPage()
		fill(i, p.Bytes())
		dirty = append(dirty, pagestore.Dirty{No: no, Page: p})
		size = max(size, uint32(no))
	}
	lsn, err := s.Commit(db, db.Head().LSN, dirty, size)
	if err != nil || lsn == 0 {
		s.t.Fatalf("commit: %d %v", lsn, err)
	}
	s.FlushSoon()
	return lsn
}

// awaitVisible waits until readers of the node see an entry.
func (s *node) awaitVisible(lsn history.LSN) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := s.VisibleMark().Wait(ctx, lsn); err != nil {
		s.t.Fatalf("%s does not come to show entry %d: it is at %+v, visible %d; its peer says %+v", s.name, lsn, s.Progress(), s.Visible(), s.peer.Status().Receiver)
	}
}

// page reads a page's filling as readers see it.
func (s *node) page(no pagestore.PageNo) byte {
	s.t.Helper()
	db := s.Store().DB(testDB)
	if db == nil {
		return 0
	}
	snapshot := db.Snapshot(s.Visible())
	defer snapshot.Close()
	b := make([]byte, pagestore.PageSize)
	if err := snapshot.ReadPage(no, b); err != nil {
		s.t.Fatal(err)
	}
	return b[100]
}

// sameAs compares two nodes, once the second shows all that the first does: same past, same databases.
func (s *node) sameAs(o *node) {
	s.t.Helper()
	at := s.Visible()
	o.awaitVisible(at)
	if a, b := must(s.t)(s.Log().At(at)), must(s.t)(o.Log().At(at)); a != b {
		s.t.Errorf("%s has %s where %s has %s", s.name, a, o.name, b)
	}
	for _, db := range s.Store().All() {
		other := o.Store().DB(db.ID)
		if other == nil {
			s.t.Errorf("%s has no database %d", o.name, db.ID)
			continue
		}
		mine, theirs := db.Snapshot(at), other.Snapshot(at)
		if mine.State() != theirs.State() {
			s.t.Errorf("database %d on %s: %+v, on %s: %+v", db.ID, s.name, mine.State(), o.name, theirs.State())
		}
		mine.Close()
		theirs.Close()
	}
}

func must(t testing.TB) func(history.Position, error) history.Position {
	return func(p history.Position, err error) history.Position {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// within says what a node's peer knows of a follower.
func (s *node) replica(name string) Replica {
	for _, r := range s.peer.Status().Replicas {
		if r.Name == name && r.State != StateBackup {
			return r
		}
	}
	return Replica{}
}

func dirOf(t testing.TB, name string) string {
	dir := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func pagesUpTo(n int) []pagestore.PageNo {
	all := make([]pagestore.PageNo, n)
	for i := range all {
		all[i] = pagestore.PageNo(i + 1)
	}
	return all
}
