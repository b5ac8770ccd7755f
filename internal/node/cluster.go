package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"skein/internal/replication"

	"skein/internal/commit"
	"skein/internal/control"

	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/rest"
	"skein/internal/watermark"
)

const (
	// leasePace is how often a commit that waits for a lease looks whether there is one.
	leasePace = 5 * time.Millisecond

	// maxNews bounds what a node has to tell the cluster's history.
	maxNews = 64

	// joinTime is how long one member is asked to let this node in.
	joinTime = 10 * time.Second

	// askTime is how long a node that stops waits for a coordinator: where all stop at once there may be none.
	askTime = time.Second

	// handOverTime is how long a leader that was asked to stop waits for another to lead.
	handOverTime = 5 * time.Second
)

// cluster says what a node has to do.
type cluster interface {
	// duty is the present one, under the version of the cluster's state that it follows from.
	duty() (d failover.Duty, version uint64)
	// await returns once there may be a newer version.
	await(ctx context.Context, version uint64) error
	// acts notes that this node acts under a version, and tells what has changed of its report.
	acts(version uint64)
	// tell has this node's report sent anew.
	tell()
}

// byHand is a cluster whose leader is set by configuration: the node that follows nobody. It never changes.
type byHand struct{ follow string }

func (c byHand) duty() (failover.Duty, uint64) {
	if c.follow == "" {
		return failover.Duty{Role: failover.Lead}, 0
	}
	return failover.Duty{Role: failover.Follow, Upstream: failover.Member{PeerAddr: c.follow}}, 0
}

func (byHand) await(ctx context.Context, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

func (byHand) acts(uint64) {}
func (byHand) tell()       {}

// appointed is a cluster that appoints its leader.
type appointed struct {
	node    *Node
	version watermark.Watermark // of the state, as far as this node knows

	mu      sync.Mutex
	seen    uint64        // version acted under
	changed chan struct{} // closed, and made anew, with every version, and when this node acts under it
}

func (a *appointed) self() failover.NodeID { return failover.NodeID(a.node.home.Node) }

func (a *appointed) duty() (failover.Duty, uint64) {
	s := a.node.control.Load().State()
	if s.Version == 0 {
		return failover.Duty{Role: failover.Wait}, 0
	}
	d := failover.DutyOf(s, a.self())
	if m, ok := memberOf(s, a.self()); !ok || m.Disk != a.node.home.Disk {
		d.Role = failover.Wait // the cluster does not know this directory, or no more
	}
	return d, s.Version
}

// member is this node as the cluster knows it.
func (a *appointed) member() (failover.Member, bool) {
	c := a.node.control.Load()
	if c == nil {
		return failover.Member{}, false
	}
	return memberOf(c.State(), a.self())
}

func memberOf(s failover.State, id failover.NodeID) (failover.Member, bool) {
	i := slices.IndexFunc(s.Members, func(m failover.Member) bool { return m.ID == id })
	if i < 0 {
		return failover.Member{}, false
	}
	return s.Members[i], true
}

func (a *appointed) await(ctx context.Context, version uint64) error {
	return a.version.Wait(ctx, history.LSN(version+1))
}

func (a *appointed) acts(version uint64) {
	a.mu.Lock()
	a.seen = version
	a.mu.Unlock()
	a.wake()
	a.tell()
}

func (a *appointed) actsUnder() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

func (a *appointed) tell() {
	if c := a.node.control.Load(); c != nil { // none while the first storage is opened
		c.Nudge()
	}
}

// watch passes news of the control plane on to whoever awaits them.
func (a *appointed) watch(ctx context.Context) error {
	for {
		a.version.Advance(history.LSN(a.node.control.Load().State().Version))
		a.wake()
		select {
		case <-ctx.Done():
			return nil
		case <-a.node.control.Load().Changed():
		}
	}
}

// wake tells whoever waits for another leader: there may be one, or this node has begun to be it.
func (a *appointed) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.changed)
	a.changed = make(chan struct{})
}

func (o *Options) check() error {
	switch {
	case o.Follow != "" && (o.Bootstrap || len(o.Join) > 0):
		return errors.New("--follow is for a cluster whose leader is set by configuration; a node that joins a cluster is told whom to follow")
	case o.Witness && len(o.Join) == 0:
		return errors.New("a witness joins a cluster: give --join with the address of a member")
	case (o.Bootstrap || len(o.Join) > 0) && o.PeerAddr == "" && o.PeerListener == nil:
		return errors.New("the nodes of a cluster speak with each other: give --peer-addr, such as 127.0.0.1:7432")
	}
	return nil
}

// mayFound says whether this node is to begin a cluster: of those that it might join instead nobody answers. A first node that
// was wiped would otherwise begin another cluster under the address of the old one.
func (n *Node) mayFound() bool {
	if !n.options.Bootstrap || !n.home.isNew() {
		return n.options.Bootstrap
	}
	for _, address := range n.options.Join {
		asking, stop := context.WithTimeout(context.Background(), askTime)
		l := n.link()
		_, err := l.Identify(asking, address)
		stop()
		if err == nil || errors.As(err, new(*replication.Refused)) {
			return false
		}
	}
	return true
}

func (n *Node) leadsByHand() bool {
	c, ok := n.cluster.(byHand)
	return ok && c.follow == ""
}

func (n *Node) controlDir() string { return filepath.Join(n.options.Dir, "control") }

// isMember says whether the directory is that of a member of a cluster which appoints its leader.
func (n *Node) isMember() bool {
	_, err := os.Stat(n.controlDir())
	return err == nil
}

// found begins a cluster, of which this node is the only member and elects itself. What the directory holds is
// the cluster's.
func (n *Node) found() error {
	if n.home.isNew() {
		if err := n.home.begin(nil); err != nil {
			return err
		}
	}
	n.founding = true
	if err := n.openStorage(); err != nil {
		return err
	}
	n.founding = false
	me := n.member()
	if err := control.Bootstrap(n.controlDir(), me.ID, me.PeerAddr, failover.NewCluster(me)); err != nil {
		return errors.Join(err, n.term.close())
	}
	n.options.Logger.Info("a cluster begins", "cluster", n.home.identity.Cluster, "node", n.name())
	return n.openControl()
}

// errCopied keeps a node from speaking for the one that it is a copy of.
var errCopied = errors.New("this directory is a copy, and the cluster relies on what this node has promised and acknowledged, of which a copy may lack the newest. " +
	"If it was restored from a backup, empty it: the node joins again by itself. " +
	"If it was moved here after the node had stopped, and the node has run nowhere else since, start it once with --moved")

// lifeTime is how long a life of a member's directory lasts: so much later a copy of it is known for one wherever it is put.
const lifeTime = 10 * time.Minute

// live begins one life of the directory after the other, the last at the end.
func (n *Node) live(ctx context.Context) error {
	n.beginLife()
	for rest.For(ctx, lifeTime) == nil {
		n.beginLife()
	}
	n.beginLife()
	return nil
}

// beginLife does so unless the disk does not take it: then copies are taken for newer than they are, and nothing else is wrong.
func (n *Node) beginLife() {
	if err := n.home.renew(); err != nil {
		n.options.Logger.Warn("older copies of this directory cannot be told from it", "error", err)
	}
}

func (n *Node) openMember() error {
	if n.home.isCopy() {
		if !n.options.Moved {
			return fmt.Errorf("%s: %w", n.options.Dir, errCopied)
		}
		if err := n.home.settle(); err != nil {
			return err
		}
	}
	if err := n.openControl(); err != nil {
		return err
	}
	if n.options.Witness {
		return nil
	}
	return n.openStorage()
}

// enter makes a new directory part of a cluster, and a member of one that appoints its leader. Meanwhile clients are told
// to wait.
func (n *Node) enter(ctx context.Context) error {
	joins := len(n.options.Join) > 0 && n.control.Load() == nil
	if !n.home.isNew() && !joins {
		return nil
	}
	serving, stop := context.WithCancel(ctx)
	refused := make(chan error, 1)
	go func() {
		refused <- n.refuse(serving, func() string { return "This node is joining a cluster, of which it has not reached any node yet." })
	}()
	var err error
	if n.home.isNew() {
		err = n.identify(ctx, append(n.options.Join, n.options.Follow)...)
	}
	if err == nil && joins {
		err = n.join(ctx)
	}
	stop()
	if err = errors.Join(err, <-refused); err != nil || ctx.Err() != nil || !joins {
		return err
	}
	return n.openMember()
}

// identify asks the nodes at addresses, one after the other, which cluster they are of until one answers: a new directory
// then belongs to that.
func (n *Node) identify(ctx context.Context, addresses ...string) error {
	l := n.link()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		for _, address := range addresses {
			if address == "" {
				continue
			}
			other, err := l.Identify(ctx, address)
			if err == nil {
				n.options.Logger.Info("joining a cluster", "cluster", hex.EncodeToString(other.Cluster[:]), "from", address)
				return n.home.begin(&other.Cluster)
			}
			var refused *replication.Refused
			if errors.As(err, &refused) {
				return err
			}
			n.options.Logger.Warn("the node to follow does not answer; trying again", "address", address, "error", err)
		}
		if rest.For(ctx, wait) != nil {
			return nil
		}
	}
}

// join asks to be made a member until a member has answered. A refusal counts only if it stands for
// a while: a node that was wiped comes back under its name before the cluster has missed the old one.
func (n *Node) join(ctx context.Context) error {
	var first time.Time
	for i := 0; ctx.Err() == nil; i++ {
		address := n.options.Join[i%len(n.options.Join)]
		asking, stop := context.WithTimeout(ctx, joinTime)
		_, err := control.Join(asking, n.dial, address, n.member())
		stop()
		if err == nil {
			return nil
		}
		if errors.As(err, new(*control.Refused)) {
			if first.IsZero() {
				first = time.Now()
			}
			if time.Since(first) > joinTime {
				return err
			}
		}
		n.options.Logger.Warn("cannot join the cluster; trying again", "address", address, "error", err)
		_ = rest.For(ctx, copyPause)
	}
	return nil
}

// member is this node as the cluster is told of it.
func (n *Node) member() failover.Member {
	m := failover.Member{
		ID: failover.NodeID(n.home.Node), Disk: n.home.Disk, Name: n.name(), PeerAddr: n.link().Address, PGAddr: n.options.AdvertisePG,
		Witness: n.options.Witness, Delay: n.options.ApplyDelay,
	}
	if m.PGAddr == "" && !m.Witness {
		m.PGAddr = n.sql.Addr().String()
	}
	return m
}

func (n *Node) openControl() error {
	a := n.cluster.(*appointed)
	c, err := control.Open(control.Options{
		Dir: n.controlDir(), Self: a.self(), Address: n.link().Address, Dial: n.dial, Report: a.report, Logger: n.options.Logger,
	})
	n.control.Store(c)
	return err
}

// lease gives what the pipeline asks before it acknowledges a commit that no follower is known to have: a leader that
// the coordinator has not heard of for too long may have been replaced.
func (n *Node) lease() func(context.Context) error {
	if n.leadsByHand() || n.options.Follow != "" {
		return nil
	}
	return func(ctx context.Context) error {
		for n.control.Load() == nil || control.Boottime() >= n.control.Load().LeaseUntil() {
			if rest.For(ctx, leasePace) != nil {
				return context.Cause(ctx)
			}
		}
		return nil
	}
}

// members gives the cluster's members, nil where the leader is set by configuration.
func (n *Node) members() func() []failover.Member {
	if _, ok := n.cluster.(*appointed); !ok {
		return nil
	}
	return func() []failover.Member {
		if n.control.Load() == nil {
			return nil
		}
		return n.control.Load().State().Members
	}
}

// memberIDs gives the ids of the cluster's members, nil while they are not known.
func (n *Node) memberIDs() (ids []string) {
	if members := n.members(); members != nil {
		for _, m := range members() {
			ids = append(ids, string(m.ID))
		}
	}
	return ids
}

// countAs says by what a follower's acknowledgements are known to the rule: in a cluster that appoints its leader by its id,
// which no other node ever has.
func (n *Node) countAs() func(replication.Identity) string {
	if n.members() == nil {
		return nil
	}
	return func(who replication.Identity) string { return who.Node }
}

// introduce tells the cluster what has changed of this node since it was last told: its name, or where it is found.
func (a *appointed) introduce(ctx context.Context) {
	for ctx.Err() == nil {
		s, me := a.node.control.Load().State(), a.node.member()
		known, ok := memberOf(s, me.ID)
		if !ok {
			if a.await(ctx, s.Version) != nil {
				return
			}
			continue
		}
		if known.Name == me.Name && known.PeerAddr == me.PeerAddr && known.PGAddr == me.PGAddr && known.Disk == me.Disk {
			return
		}
		if _, err := a.node.control.Load().Do(ctx, failover.Command{Kind: failover.JoinCommand, Member: me}); err != nil && ctx.Err() == nil {
			a.node.options.Logger.Warn("the cluster could not be told where this node is found; trying again", "error", err)
			_ = rest.For(ctx, copyPause)
		}
	}
}

// tell has the cluster's history say what happened to this node, as soon as somebody coordinates.
func (n *Node) tell(kind failover.EventKind, text string) {
	if _, ok := n.cluster.(*appointed); !ok {
		return
	}
	select {
	case n.news <- failover.Command{Kind: failover.TellCommand, Node: n.home.Node, Event: kind, Text: text}:
	default: // more than the history can be of use for; the log has it
	}
}

// tellNews carries the node's news to the coordinator, one after the other, until ctx is done.
func (n *Node) tellNews(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-n.news:
			if _, err := n.control.Load().Do(ctx, c); err != nil && ctx.Err() == nil {
				n.options.Logger.Warn("the cluster's history could not be told", "text", c.Text, "error", err)
			}
		}
	}
}

// tailKept tells of entries that this node had and the cluster has not.
func (n *Node) tailKept(t commit.Tail) {
	text := fmt.Sprintf("%s had entries %d to %d of epoch %d that the cluster does not have", n.name(), t.After+1, t.Head.LSN, t.Head.Epoch)
	if t.Shown > t.After {
		text += fmt.Sprintf("; those up to %d had been shown to clients", min(t.Shown, t.Head.LSN))
	} else {
		text += "; none of them had been shown to anybody"
	}
	n.tell(failover.RejoinEvent, text+". They are kept in "+filepath.Join("vault", filepath.Base(t.File)))
}

// pageMended tells of a page that did not read as it was written.
func (n *Node) pageMended(db history.DatabaseID, page pagestore.PageNo, from string, err error) {
	text := fmt.Sprintf("page %d of database %d was damaged on %s, and was mended from %s", page, db, n.name(), from)
	if err != nil {
		text = fmt.Sprintf("page %d of database %d is damaged on %s, and nobody has it whole: %v", page, db, n.name(), err)
	}
	n.tell(failover.RepairEvent, text)
}

// handOver lets another node lead before this one stops. It gives up after a while: then the others find out by themselves.
func (n *Node) handOver(ctx context.Context) {
	t := n.current.Load()
	if n.control.Load() == nil || t == nil || !t.pipeline.Leading() || len(n.control.Load().State().Members) < 2 {
		return
	}
	n.options.Logger.Info("handing over before this node stops")
	asking, stop := context.WithTimeout(ctx, askTime)
	_, err := n.control.Load().Do(asking, failover.Command{
		Kind: failover.SwitchoverCommand, By: "the leader, which was asked to stop", Till: time.Now().Add(handOverTime),
	})
	stop()
	for end := time.Now().Add(handOverTime); err == nil && t.pipeline.Leading() && ctx.Err() == nil && time.Now().Before(end); {
		if n.control.Load().State().Switchover == nil {
			break
		}
		_ = rest.For(ctx, leasePace)
	}
	if t.pipeline.Leading() {
		n.options.Logger.Warn("nobody has taken over; the cluster will elect a leader when it misses this one", "error", err)
	}
}

// dial opens a connection of the control plane.
func (n *Node) dial(ctx context.Context, address string, what control.Channel) (net.Conn, error) {
	l := n.link()
	conn, _, err := l.Open(ctx, address, purposes[what])
	return conn, err
}

var purposes = map[control.Channel]replication.Purpose{
	control.Raft: replication.ToRaft, control.Watch: replication.ToWatch, control.Command: replication.ToCommand,
}

// answerControl hands those who come for the control plane on to it.
func (n *Node) answerControl() {
	for what, why := range purposes {
		n.door.Handle(why, func(ctx context.Context, conn net.Conn, _ replication.Identity) {
			n.control.Load().Serve(ctx, what, conn)
		})
	}
}
