// Package node is one Skein process's node: it owns the directory, the storage, the engine, the
// listeners, and every goroutine that lives as long as they do. cmd/skein opens one and runs it.
//
// Its nouns: a Node is a directory and its addresses; a term is the time for which its storage is open in
// one role. Run goes from term to term: a follower that needs a new copy ends its term, fetches the
// copy and begins another. Within a term, roles carries out what the cluster asks of the node. In a cluster
// that was begun with Bootstrap the control plane appoints the leader; otherwise the leader is the node that is configured to
// follow nobody.
//
// After a crash the directory holds whole transactions only: everything acknowledged, and perhaps
// some that were not. Open recovers it without help.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"skein/internal/control"
	"skein/internal/failover"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replication"
	"skein/internal/replog"
	"skein/internal/rest"
)

// Options of a node. Only Dir is required.
type Options struct {
	Dir                string
	Name               string        // in synchronous_standby_names and in status; made from the node's id
	PGAddr             string        // where PostgreSQL clients connect; 127.0.0.1:5432
	Listener           net.Listener  // used instead of PGAddr when given
	PeerAddr           string        // where other nodes connect; nowhere
	PeerListener       net.Listener  // used instead of PeerAddr when given
	Advertise          string        // where other nodes find this one; PeerAddr
	Follow             string        // peer address of the node to copy from, in a cluster whose leader is set by configuration
	Bootstrap          bool          // begin a cluster that appoints its leader, unless the directory is of one already
	Join               []string      // peer addresses of members of such a cluster, which a new directory becomes a member of
	Witness            bool          // join as one that votes and holds no data
	Moved              bool          // the directory, if it is a copy, is all of the newest one
	AdvertisePG        string        // where clients find this node; PGAddr
	ApplyDelay         time.Duration // skein.min_apply_delay for this node alone; 0: the cluster's
	Secret             []byte        // shared by the nodes of the cluster; none: peers on this machine only
	Trust              bool          // every client on this machine is who it says it is
	MaxConnections     int           // sessions at a time; 100
	MaxVersionBytes    int64         // memory for page versions; 512 MB
	CheckpointLogBytes int64         // log between checkpoints; 256 MB
	SegmentBytes       int64         // of the log; 64 MB
	TempBytes          int64         // for temporary files; 64 GB
	Logger             *slog.Logger

	// Copying is told how far a copy of the cluster is that this node takes; nil: nobody is told.
	Copying func(replication.Progress)
}

func (o *Options) setDefaults() {
	if o.PGAddr == "" {
		o.PGAddr = "127.0.0.1:5432"
	}
	if o.TempBytes == 0 {
		o.TempBytes = 64 << 30
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Node is a node that is open. Run must be called once.
type Node struct {
	options     Options
	incarnation uint64 // of this process
	home        *home
	sql, peers  reusable // peers has no listener where nobody may connect
	term        *term    // opened by Open for Run, where that needs no other node
	current     atomic.Pointer[term]
	cluster     cluster
	control     atomic.Pointer[control.Control] // nil where the leader is set by configuration
	door        *replication.Door
	listening   listening
	news        chan failover.Command // for the cluster's history
	founding    bool                  // the storage of a new cluster is being made
	seen        history.Position      // what this node's readers had seen when its last term ended
	reread      bool                  // pages of this node are damaged
}

// Open takes the directory and listens; clients that connect wait for Run. A leader, and a follower that
// has a copy, recover here what is in the directory.
func Open(o Options) (*Node, error) {
	o.setDefaults()
	h, err := openHome(o.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{options: o, home: h, incarnation: rand.Uint64(), news: make(chan failover.Command, maxNews)}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.closeListeners(), h.Close())
	}
	return n, nil
}

// open binds the addresses, of which other nodes are told one, and opens the storage. Whoever connects waits
// until Run lets them in.
func (n *Node) open() error {
	if err := n.options.check(); err != nil {
		return err
	}
	if n.home.isNew() && n.options.Follow == "" && !n.options.Bootstrap && len(n.options.Join) == 0 {
		if err := n.home.begin(nil); err != nil {
			return err
		}
	}
	if err := n.listen(); err != nil {
		return err
	}
	n.cluster = &appointed{node: n, changed: make(chan struct{})}
	switch {
	case n.isMember():
		return n.openMember()
	case n.mayFound():
		return n.found()
	case len(n.options.Join) > 0: // by Run
		return nil
	}
	n.cluster = byHand{n.options.Follow}
	return n.openStorage()
}

// openStorage opens what is in the directory, unless that has to come from another node first.
func (n *Node) openStorage() error {
	if n.home.isNew() || n.lacksCopy() {
		return nil
	}
	t, err := n.openTerm(context.Background())
	if err = n.setAside(err); err != nil {
		return err
	}
	n.term = t
	return nil
}

// setAside makes a damaged follower fetch a new copy, of which only what differs travels. Its log goes to the
// vault as it is.
func (n *Node) setAside(err error) error {
	damaged := errors.Is(err, pagestore.ErrDamaged) || errors.Is(err, replog.ErrDamaged)
	if !damaged || n.leadsByHand() || n.isOnlyCopy() {
		return err
	}
	n.reread = true
	vault := filepath.Join(n.options.Dir, "vault")
	if err := replog.MakeDir(vault); err != nil {
		return err
	}
	kept := filepath.Join(vault, fmt.Sprintf("log-%d", time.Now().UnixMicro()))
	n.options.Logger.Error("this follower's data are damaged; it fetches a new copy", "error", err, "log kept in", kept)
	if err := os.Rename(commit.LogDir(n.options.Dir), kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(replog.SyncDir(vault), replog.SyncDir(n.options.Dir))
}

// isOnlyCopy says whether no other member holds data: what is here, damaged as it is, is then all that there is.
func (n *Node) isOnlyCopy() bool {
	a, ok := n.cluster.(*appointed)
	if !ok {
		return false
	}
	c := n.control.Load()
	return c == nil || !slices.ContainsFunc(c.State().Members, func(m failover.Member) bool { return !m.Witness && m.ID != a.self() })
}

func (n *Node) listen() (err error) {
	if n.sql.Listener, err = listen(n.options.Listener, n.options.PGAddr); err != nil {
		return err
	}
	if n.options.PeerListener == nil && n.options.PeerAddr == "" {
		return nil
	}
	if n.peers.Listener, err = listen(n.options.PeerListener, n.options.PeerAddr); err != nil {
		return err
	}
	if !onLoopback(n.peers.Addr()) && len(n.options.Secret) == 0 {
		return fmt.Errorf("refusing to listen for other nodes on %s: whoever connects could copy everything; give every node of the cluster the same --cluster-secret-file", n.peers.Addr())
	}
	return nil
}

func listen(given net.Listener, addr string) (net.Listener, error) {
	if given != nil {
		return given, nil
	}
	return net.Listen("tcp", addr)
}

func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func (n *Node) closeListeners() error {
	var err error
	for _, l := range []reusable{n.sql, n.peers} {
		if l.Listener != nil {
			err = errors.Join(err, l.Listener.Close())
		}
	}
	return err
}

// PGAddr is where PostgreSQL clients connect.
func (n *Node) PGAddr() net.Addr { return n.sql.Addr() }

// PeerAddr is where other nodes connect, nil where they cannot.
func (n *Node) PeerAddr() net.Addr {
	if n.peers.Listener == nil {
		return nil
	}
	return n.peers.Addr()
}

// Run serves until ctx is done, then lets statements end, flushes, checkpoints and closes. A leader that others can
// take over from hands over first. It also ends, with the reason, when the disk has failed or when a
// person must decide something.
func (n *Node) Run(ctx context.Context) error {
	err := n.serve(ctx)
	return errors.Join(err, n.closeListeners(), n.home.Close())
}

func (n *Node) serve(ctx context.Context) error {
	if err := n.enter(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		n.handOver(serving)
		stop()
	})()
	group, running := errgroup.WithContext(serving)
	n.door = replication.NewDoor(n.link())
	if n.peers.Listener != nil {
		group.Go(func() error { return n.door.Serve(running, n.peers.again()) })
	}
	if n.control.Load() != nil {
		n.answerControl()
		group.Go(func() error { return n.control.Load().Run(running) })
		group.Go(func() error { return n.cluster.(*appointed).watch(running) })
		group.Go(func() error { return n.tellNews(running) })
		group.Go(func() error { return n.live(running) })
		group.Go(func() error {
			n.cluster.(*appointed).introduce(running)
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		return n.terms(running)
	})
	err := group.Wait()
	if running.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// terms is the role loop: one term after the other, with a new copy between two when the first asks for it.
func (n *Node) terms(ctx context.Context) error {
	if n.options.Witness {
		return n.refuse(ctx, func() string { return "This node is a witness: it votes on who leads and holds no data." })
	}
	for hasty := false; ; {
		if n.term == nil {
			if err := n.fetch(ctx); err != nil || ctx.Err() != nil {
				return err
			}
			t, err := n.openTerm(ctx)
			if ctx.Err() != nil && err != nil {
				return nil // asked to stop while it was opening
			}
			if err != nil {
				return err
			}
			n.term = t
		}
		t, began := n.term, time.Now()
		n.term = nil
		n.current.Store(t)
		again, err := needsCopy(t.run(ctx))
		n.current.Store(nil)
		if err != nil || again == nil || ctx.Err() != nil {
			return errors.Join(err, t.close())
		}
		n.options.Logger.Warn("this node's copy cannot be continued; a new one is fetched, of which only what differs travels", "reason", again.Reason)
		err = t.saveTail(again)
		if t.brokenPromise(again) {
			return errors.Join(n.stopBroken(ctx, again, t.pipeline.Visible()), err, t.close())
		}
		n.reread = again.Reread
		if n.seen = (history.Position{}); !again.Diverged { // another past may end before what was seen of this one
			n.seen, _ = t.pipeline.Log().At(t.pipeline.Visible())
		}
		if err := errors.Join(err, t.close()); err != nil {
			return err
		}
		short := time.Since(began) < shortTerm
		if short && hasty { // whatever is wrong is wrong again
			_ = rest.For(ctx, copyPause)
		}
		hasty = short
	}
}

const (
	shortTerm = 5 * time.Second
	copyPause = time.Second
)

// needsCopy tells a term that ended because its copy cannot be continued from one that ended for another reason.
func needsCopy(err error) (*replication.NeedSnapshot, error) {
	var again *replication.NeedSnapshot
	switch {
	case errors.As(err, &again):
		return again, nil
	case errors.Is(err, pagestore.ErrDiverged), errors.Is(err, pagestore.ErrDamaged):
		// Pages are compared one by one, and those that are wrong replaced. Of damaged ones only those are met here that
		// the next entry needs; a leader meets them as errors of its clients.
		return &replication.NeedSnapshot{Reason: err.Error(), Reread: true}, nil
	}
	return nil, err
}

// name is what the node is called among the others.
func (n *Node) name() string {
	if n.options.Name != "" || n.home.isNew() {
		return n.options.Name
	}
	return "node-" + n.home.Node[:min(8, len(n.home.Node))]
}

// link is how this node introduces itself to others.
func (n *Node) link() replication.Link {
	address := n.options.Advertise
	if address == "" && n.peers.Listener != nil {
		address = n.peers.Addr().String()
	}
	return replication.Link{
		Identity: replication.Identity{
			Cluster: n.home.Cluster, Node: n.home.Node, Disk: n.home.Disk, Incarnation: n.incarnation, Name: n.name(), Address: address,
		},
		Secret: n.options.Secret, Logger: n.options.Logger,
	}
}

// fetch gets a copy of the cluster that this node follows. Meanwhile clients are told how far that is.
func (n *Node) fetch(ctx context.Context) error {
	serving, stop := context.WithCancel(ctx)
	progress := &copying{tell: n.options.Copying}
	refused := make(chan error, 1)
	go func() { refused <- n.refuse(serving, progress.String) }()
	var err error
	for err == nil && ctx.Err() == nil {
		var done bool
		if done, err = n.fetchFrom(ctx, progress); done {
			break
		}
	}
	stop()
	err = errors.Join(err, <-refused)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// fetchFrom tries to get the copy from the node to follow now. It gives up when the cluster names another.
func (n *Node) fetchFrom(ctx context.Context, progress *copying) (done bool, err error) {
	duty, version := n.cluster.duty()
	from := duty.Upstream.PeerAddr
	if duty.Role == failover.Follow && from != "" {
		fetching, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			for seen := version; n.cluster.await(fetching, seen) == nil; {
				var now failover.Duty
				if now, seen = n.cluster.duty(); now.Upstream.PeerAddr != from {
					stop()
				}
			}
		}()
		if err := commit.TaintDir(n.options.Dir, "it has taken a new copy, and has not caught up since"); err != nil {
			return true, err
		}
		l := n.link()
		source := upstream(duty)
		_, err := l.Fetch(fetching, from, n.options.Dir, replication.FetchOptions{
			Node: source.Node, Disk: source.Disk, Under: source.Shows.Epoch, NotBelow: n.seen, Reread: n.reread, SegmentBytes: n.options.SegmentBytes, Progress: progress.set,
		})
		if err == nil || n.control.Load() == nil && fetching.Err() == nil {
			return true, err
		}
		if ctx.Err() == nil && fetching.Err() == nil {
			n.options.Logger.Warn("no copy could be taken; trying again", "from", from, "error", err)
			_ = rest.For(ctx, copyPause)
		}
		return false, nil
	}
	waiting, stop := context.WithTimeout(ctx, copyPause)
	defer stop()
	_ = n.cluster.await(waiting, version)
	return false, nil
}
