package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
	"skein/internal/history"
)

// Channel is what a connection between two Controls is for.
type Channel string

// The channels.
const (
	Raft    Channel = "raft"
	Watch   Channel = "watch"   // the coordinator's streams
	Command Channel = "command" // carried to the coordinator
)

const (
	// raftTimeout is for how long a coordinator may be silent before another is elected; it is twice that, by
	// chance. What the nodes of a coordinator that is gone ask for waits that long.
	raftTimeout = 500 * time.Millisecond

	// commitPause is how late the others learn at the most that an entry is committed. States are pushed to
	// nodes otherwise, and sooner.
	commitPause = 50 * time.Millisecond

	// Raft's log is cut to trailing entries after a snapshot, which is due when so many have come.
	snapshotDue = 256
	trailing    = 64

	// stallLimit is how long a write to the control store may take. Then this node's Raft speaks with nobody, so that
	// others elect a coordinator that can write.
	stallLimit = 1500 * time.Millisecond

	// shutdownLimit is how long the end of Run may take where a disk does not answer.
	shutdownLimit = 3 * time.Second
)

// Options of a Control. All are required but Logger, Next and Voters.
type Options struct {
	Dir     string // of the control store, this package's own
	Self    failover.NodeID
	Address string // where other nodes reach this one
	// Dial connects to a node at an address. Its error has syscall.ECONNREFUSED in it where nobody listens.
	Dial   func(ctx context.Context, address string, what Channel) (net.Conn, error)
	Report func() failover.Report // from any goroutine; must not wait for a disk
	Logger *slog.Logger

	// Next and Voters are failover's; tests have others.
	Next   func(failover.State, failover.Facts) (failover.State, []failover.Event, bool)
	Voters func(failover.State) []failover.NodeID

	boottime func() time.Duration // Boottime; tests have another
}

func (o *Options) setDefaults() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Next == nil {
		o.Next = failover.Next
	}
	if o.Voters == nil {
		o.Voters = failover.Voters
	}
	if o.boottime == nil {
		o.boottime = Boottime
	}
	if o.Self == "" || strings.ContainsAny(string(o.Self), "/@") {
		return fmt.Errorf("open control: %q is no node id", o.Self)
	}
	return nil
}

// Control is one node's part in the cluster's decisions. Its methods may be called from any goroutine.
type Control struct {
	o         Options
	self      server
	store     *store
	machine   *machine
	layer     *layer
	transport *transport
	raft      *raft.Raft
	close     func() error
	futures   sync.WaitGroup // of Raft, that are waited for

	changed chan struct{} // one slot
	present atomic.Pointer[coordinator]

	mu       sync.Mutex
	state    failover.State             // never goes back
	lease    time.Duration              // until when, by Boottime; of state.Epoch
	watchers map[chan struct{}]struct{} // one slot each: the report has changed
	watched  failover.NodeID            // by whom, in watchedIn
	term     uint64
	trouble  string
}

// Bootstrap makes the control store of a cluster whose only node is self. Until it has returned, there is none.
func Bootstrap(dir string, self failover.NodeID, address string, s failover.State) (err error) {
	if _, err := os.Stat(filepath.Join(dir, storeFile)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("begin a cluster: there is a control store in %s already (%v)", dir, err)
	}
	making := dir + ".new"
	if err := os.RemoveAll(making); err != nil {
		return fmt.Errorf("begin a cluster: %w", err)
	}
	if err := bootstrap(making, self, address, s); err != nil {
		return fmt.Errorf("begin a cluster: %w", err)
	}
	// What is there is a directory without a store, if anything.
	if err := errors.Join(os.RemoveAll(dir), os.Rename(making, dir), syncDir(filepath.Dir(dir))); err != nil {
		return fmt.Errorf("begin a cluster: %w", err)
	}
	return nil
}

func bootstrap(dir string, self failover.NodeID, address string, s failover.State) (err error) {
	st, err := openStore(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	s.Version = 1
	first, err := encodeProposal(proposal{State: s})
	if err != nil {
		return err
	}
	me := server{self, st.id}
	voters := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: me.id(), Address: me.at(address)}}}
	if err := st.SetUint64([]byte(varTerm), 1); err != nil {
		return err
	}
	err = st.StoreLogs([]*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(voters)},
		{Index: 2, Term: 1, Type: raft.LogCommand, Data: first},
	})
	return errors.Join(err, syncDir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open takes part with what is in o.Dir. A node that has just joined has nothing there; the coordinator will
// come to it. The caller must call Run.
func Open(o Options) (_ *Control, err error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	c := &Control{o: o, changed: make(chan struct{}, 1), watchers: map[chan struct{}]struct{}{}}
	if c.store, err = openStore(o.Dir); err != nil {
		return nil, fmt.Errorf("open control: %w", err)
	}
	if err := c.open(); err != nil {
		if c.layer != nil {
			_ = c.layer.Close()
		}
		return nil, errors.Join(fmt.Errorf("open control: %w", err), c.store.close())
	}
	return c, nil
}

func (c *Control) open() (err error) {
	defer func() {
		if p := recover(); p != nil { // Raft does not report an entry that is missing
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	logger := quiet(c.o.Logger)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(c.o.Dir, 2, logger)
	if err != nil {
		return err
	}
	c.self = server{c.o.Self, c.store.id}
	c.machine = &machine{learned: c.learn, applied: c.store.committed}
	c.layer = newLayer(c.self, c.o.Address)
	c.layer.dial = func(ctx context.Context, address string) (net.Conn, error) { return c.o.Dial(ctx, address, Raft) }
	network := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: logger, Stream: c.layer, MaxPool: 2, Timeout: 2 * time.Second,
		// Without pipelines: one whose answers are refused while the next entry is sent waits for itself for ever, and
		// keeps Raft from ending too. With an entry now and then they would gain nothing.
		MaxRPCsInFlight: 1,
	})
	c.transport = &transport{network, c.sendsTo, c.layer}
	c.raft, err = raft.NewRaft(&raft.Config{
		ProtocolVersion: raft.ProtocolVersionMax, LocalID: c.self.id(),
		HeartbeatTimeout: raftTimeout, ElectionTimeout: raftTimeout, LeaderLeaseTimeout: raftTimeout, CommitTimeout: commitPause,
		MaxAppendEntries: 64, SnapshotThreshold: snapshotDue, TrailingLogs: trailing, SnapshotInterval: 10 * time.Second,
		NoLegacyTelemetry: true, Logger: logger,
	}, c.machine, c.store, c.store, snapshots, c.transport)
	if err != nil {
		return errors.Join(err, c.transport.Close())
	}
	c.close = sync.OnceValue(c.shutdown)
	c.recall()
	return nil
}

// recall learns what is known to have been agreed on. Raft tells it only when it has found a majority, and without one a
// node should know all the same whom it had to follow.
func (c *Control) recall() {
	known := machine{learned: func(failover.State) {}, applied: func(uint64) {}}
	known.kept.State = c.machine.state()
	for _, l := range c.store.known() {
		if l.Type == raft.LogCommand {
			_ = known.Apply(l)
		}
	}
	c.learn(known.state())
}

// Run takes part until ctx is done, and hands the coordination over if it can. Its error is that something did not
// end in time.
func (c *Control) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	watching.Go(func() { c.watchStore(ctx) })
	c.hurry()
	for ctx.Err() == nil {
		if c.raft.State() == raft.Leader {
			c.coordinate(ctx)
			continue
		}
		select {
		case <-c.raft.LeaderCh():
		case <-ctx.Done():
		}
	}
	cancel()
	watching.Wait()
	return c.close()
}

// hurry has the only voter of a cluster elect itself at once: nobody else can be the coordinator.
func (c *Control) hurry() {
	all := c.raft.GetConfiguration().Configuration().Servers
	if len(all) != 1 || all[0].ID != c.self.id() {
		return
	}
	c.runForLeader()
}

// shutdown ends Raft. A disk that does not answer must not keep the node from ending.
func (c *Control) shutdown() error {
	_ = within(raftTimeout, c.futures.Wait) // what is asked of Raft when it ends is not always answered
	done := c.raft.Shutdown()               // and says so before the store gives up writes that wait
	_ = c.layer.Close()
	closed := make(chan error, 1)
	if !within(shutdownLimit, func() {
		c.store.giveUp()
		_ = done.Error() // closes the transport as well
		c.transport.CloseStreams()
		closed <- c.store.close()
	}) {
		return errors.New("close control: the disk does not answer")
	}
	return <-closed
}

// within runs fn, and goes on without it when it takes longer, which it reports.
func within(d time.Duration, fn func()) bool {
	done := make(chan struct{})
	go func() {
		fn()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// watchStore keeps Raft from speaking while its store cannot write.
func (c *Control) watchStore(ctx context.Context) {
	tick := time.NewTicker(stallLimit / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.judgeStore()
	}
}

func (c *Control) judgeStore() {
	stalled, err := c.store.stalled()
	trouble := ""
	switch {
	case stalled < stallLimit:
	case err != nil:
		trouble = fmt.Sprintf("the control store in %s cannot be written: %v", c.o.Dir, err)
	default:
		trouble = fmt.Sprintf("the disk of the control store in %s has not answered for more than %v", c.o.Dir, stallLimit)
	}
	c.mu.Lock()
	before := c.trouble
	c.trouble = trouble
	c.mu.Unlock()
	if trouble == before {
		return
	}
	if trouble == "" {
		c.layer.cut(nil)
		c.o.Logger.Info("this node takes part in the cluster's decisions again")
		return
	}
	c.layer.cut(errors.New(trouble))
	c.o.Logger.Error("this node takes no part in the cluster's decisions", "reason", trouble)
}

// Trouble says why this node takes no part in the cluster's decisions, "" if it does.
func (c *Control) Trouble() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

// learn takes note of a State that has been agreed on. They may come in any order: Raft tells them from the beginning when
// a node starts, and a stream sooner than the log.
func (c *Control) learn(s failover.State) {
	c.mu.Lock()
	newer := s.Version > c.state.Version
	if newer {
		if s.Epoch != c.state.Epoch {
			c.lease = 0
		}
		c.state = s
	}
	c.mu.Unlock()
	if newer {
		nudge(c.changed)
	}
}

// nudge fills a one-slot channel.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// State is the newest one that this node knows to be agreed on; its Version is 0 if there is none. Nothing in it may
// be changed.
func (c *Control) State() failover.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Changed has a value when there may be a newer State. It is for one reader.
func (c *Control) Changed() <-chan struct{} { return c.changed }

// Nudge has the coordinator told this node's report at once.
func (c *Control) Nudge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		nudge(w)
	}
}

// LeaseUntil is how long this node may acknowledge commits on its own, by Boottime; 0: it has no lease.
func (c *Control) LeaseUntil() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lease
}

// extend makes the lease longer, if it does. A lease is for one epoch: who leads the next one, though it be the same
// node, was appointed by somebody who may not know how long the leases of before were.
func (c *Control) extend(epoch history.Epoch, until time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch == c.state.Epoch {
		c.lease = max(c.lease, until)
	}
}

// History is what has happened in the cluster, oldest first, as far as this node knows.
func (c *Control) History() []failover.Event { return c.machine.history() }

// Coordinator is who coordinates as far as this node knows; "" if it does not.
func (c *Control) Coordinator() failover.NodeID {
	at, _ := c.coordinator()
	return at.Node
}

// coordinator says who coordinates, and where.
func (c *Control) coordinator() (place, bool) {
	if c.present.Load() != nil {
		return place{c.o.Self, c.o.Address}, true
	}
	at, _ := c.raft.LeaderWithID()
	if s, address, ok := parseAddress(at); ok && s != c.self {
		if now := c.addressOf(s.node); now != "" {
			address = now
		}
		return place{s.node, address}, true
	}
	c.mu.Lock()
	watched := c.watched
	c.mu.Unlock()
	if watched == "" || watched == c.o.Self {
		return place{}, false
	}
	return place{watched, c.addressOf(watched)}, true
}

// addressOf is where a member is reached; "" if this node does not know it.
func (c *Control) addressOf(id failover.NodeID) string {
	m, _ := member(c.State(), id)
	return m.PeerAddr
}

func member(s failover.State, id failover.NodeID) (failover.Member, bool) {
	for _, m := range s.Members {
		if m.ID == id {
			return m, true
		}
	}
	return failover.Member{}, false
}

// Serve answers a connection that another node has made, until that ends or ctx is done.
func (c *Control) Serve(ctx context.Context, what Channel, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	var err error
	switch what {
	case Raft:
		err = c.layer.serve(ctx, conn)
	case Watch:
		err = c.serveWatch(ctx, newMessages(conn))
	case Command:
		err = c.serveCommand(ctx, newMessages(conn))
	}
	if err != nil && ctx.Err() == nil {
		c.o.Logger.Debug("a control connection ended", "channel", what, "error", err)
	}
}
