package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/history"
	"skein/internal/replication"
)

const (
	// interval is how often a node is asked; hurry, while nobody is known to lead or somebody was refused.
	interval = 200 * time.Millisecond
	hurry    = 20 * time.Millisecond

	// answerTime is how long a node may take to answer.
	answerTime = time.Second

	// trials is how many answers in a row a node has to give that has failed to give one.
	trials = 3

	// welcome is how many sessions with another place a node takes between two answers.
	welcome = 20
)

// ErrNobody means that no node can be asked.
var ErrNobody = errors.New("no node of the cluster answers")

// Options of a Pool.
type Options struct {
	Addresses []string // of peer ports of some members
	Rule      Rule
	Leading   int // reads that the leader takes at a time when no other node can; 0: 16
	// Dial opens a connection for a purpose, and says who answers; replication.Link's Open does.
	Dial   func(ctx context.Context, address string, why replication.Purpose) (net.Conn, replication.Identity, error)
	Logger *slog.Logger // nil: nothing is logged
}

// Pool is the cluster's nodes as a router sees them.
type Pool struct {
	options Options
	slots   chan struct{} // one for each read that the leader takes

	mu      sync.Mutex
	nodes   []*node // in the order in which they became known
	known   chan struct{}
	changed chan struct{} // closed with every change of leader
	leader  Leader
	turn    int

	judged atomic.Int64 // counts judge's calls
}

// Leader is who takes writes.
type Leader struct {
	Name    string
	Address string
	Epoch   history.Epoch
}

// node is one of them. Its fields are guarded by Pool.mu.
type node struct {
	address  string
	watched  bool
	id       string
	report   Report
	member   Member // as others name it
	listed   bool   // others do
	heard    bool   // it has reported, and the last report still stands
	row      int    // answers in a row
	failed   bool   // it has been heard and then not
	suspect  bool   // it could not be connected to since it was heard
	reads    bool
	readable atomic.Bool // the same, for who does not hold mu
	places   int
	extra    int // of welcome
	up       context.Context
	down     context.CancelCauseFunc
	asks     chan struct{} // one slot: it is to be asked now
	missed   bool          // it has not answered at least once, which was logged
}

// New makes a Pool. It knows nobody before Run has asked.
func New(o Options) *Pool {
	if o.Leading == 0 {
		o.Leading = 16
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pool{options: o, slots: make(chan struct{}, o.Leading), known: make(chan struct{}, 1), changed: make(chan struct{})}
	for _, address := range o.Addresses {
		p.meet(address)
	}
	return p
}

// meet adds a node, unless it is known.
func (p *Pool) meet(address string) *node {
	if i := slices.IndexFunc(p.nodes, func(n *node) bool { return n.address == address }); i >= 0 {
		return p.nodes[i]
	}
	n := &node{address: address, asks: make(chan struct{}, 1)}
	n.up, n.down = context.WithCancelCause(context.Background())
	p.nodes = append(p.nodes, n)
	select {
	case p.known <- struct{}{}:
	default:
	}
	return n
}

// Run asks the nodes until ctx is done.
func (p *Pool) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	for {
		p.mu.Lock()
		for _, n := range p.nodes {
			if !n.watched {
				n.watched = true
				watching.Go(func() { p.watch(ctx, n) })
			}
		}
		p.mu.Unlock()
		select {
		case <-p.known:
		case <-ctx.Done():
			return nil
		}
	}
}

// watch asks one node again and again.
func (p *Pool) watch(ctx context.Context, n *node) {
	defer n.down(context.Canceled)
	for ctx.Err() == nil {
		if !p.votesOnly(n) {
			err := p.converse(ctx, n)
			p.lose(n, err)
		}
		p.rest(ctx, n)
	}
}

// votesOnly says that a node is a witness, which has nothing to say here.
func (p *Pool) votesOnly(n *node) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return n.listed && n.member.Witness
}

// converse asks over one connection until that fails.
func (p *Pool) converse(ctx context.Context, n *node) error {
	dialing, stop := context.WithTimeout(ctx, answerTime)
	conn, who, err := p.options.Dial(dialing, n.address, replication.ToRoute)
	stop()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	in := lines(conn)
	for ctx.Err() == nil {
		var r Report
		if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
			return err
		}
		if err := errors.Join(write(conn, question{}), read(in, &r)); err != nil {
			return err
		}
		p.take(n, who.Node, r)
		p.rest(ctx, n)
	}
	return nil
}

// rest waits until it is time to ask a node again.
func (p *Pool) rest(ctx context.Context, n *node) {
	pause := interval
	if _, ok := p.Leader(); !ok {
		pause = hurry
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.asks:
		timer.Reset(hurry) // whoever asks for it may do so a thousand times a second
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
}

// Refresh has all nodes asked soon: one of them was not what it was taken for.
func (p *Pool) Refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		select {
		case n.asks <- struct{}{}:
		default:
		}
	}
}

// take notes a report.
func (p *Pool) take(n *node, id string, r Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !n.heard {
		p.options.Logger.Info("a node answers", "node", r.Name, "address", n.address)
		n.up, n.down = context.WithCancelCause(context.Background())
		n.row = 0
	}
	n.id, n.report, n.heard, n.suspect, n.extra = id, r, true, false, welcome
	n.row++
	p.list()
	p.judge()
}

// lose notes that a node has not answered.
func (p *Pool) lose(n *node, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.heard || !n.missed {
		n.missed = true
		p.options.Logger.Warn("a node does not answer", "node", n.report.Name, "address", n.address, "error", why)
	}
	if n.heard {
		n.failed = true
		n.down(fmt.Errorf("the node does not answer: %w", why))
	}
	n.heard, n.row = false, 0
	p.judge()
}

// list takes over what the newest report says of the members.
func (p *Pool) list() {
	var newest *node
	for _, n := range p.nodes {
		if n.heard && len(n.report.Members) > 0 && (newest == nil || n.report.Epoch > newest.report.Epoch) {
			newest = n
		}
	}
	if newest == nil {
		return
	}
	for _, n := range p.nodes {
		n.listed = false
	}
	for _, m := range newest.report.Members {
		n := p.meet(m.Address)
		n.member, n.listed = m, true
	}
}

// judge says anew who leads and who may be read.
func (p *Pool) judge() {
	var now Leader
	var claims bool // by the leader itself
	for _, n := range p.nodes {
		r := n.report
		if !n.heard || r.Leader == "" && !r.Leads || r.Epoch < now.Epoch || r.Epoch == now.Epoch && claims {
			continue
		}
		if r.Leads {
			now, claims = Leader{r.Name, n.address, r.Epoch}, true
		} else {
			now = Leader{p.nameOf(r.Leader), r.Leader, r.Epoch}
		}
	}
	if now != p.leader {
		if now.Address != "" {
			p.options.Logger.Info("the leader", "node", now.Name, "address", now.Address, "epoch", now.Epoch)
		}
		p.leader = now
		close(p.changed)
		p.changed = make(chan struct{})
	}
	p.judged.Add(1)
	rule := p.rule()
	for i, seen := range p.view() {
		n := p.nodes[i]
		if reads := rule.Readable(seen); reads != n.reads {
			n.reads = reads
			n.readable.Store(reads)
			p.options.Logger.Info("reads", "node", seen.Name, "gets them", reads, "answers", seen.Up, "lag", seen.Lag, "hidden", seen.Hidden, "leads", seen.Leads)
		}
	}
}

func (p *Pool) nameOf(address string) string {
	for _, n := range p.nodes {
		if n.address == address && n.listed {
			return n.member.Name
		}
	}
	return address
}

func (p *Pool) rule() Rule {
	rule := p.options.Rule
	rule.Leaderless = p.leader.Address == ""
	return rule
}

// view is what Choose is told. A node that is known under two addresses counts under the first one that it answers at.
func (p *Pool) view() []Node {
	all := make([]Node, len(p.nodes))
	seen := map[string]bool{}
	members := slices.ContainsFunc(p.nodes, func(n *node) bool { return n.listed })
	for i, n := range p.nodes {
		m := n.member
		if members && !n.listed { // under another address, most likely
			j := slices.IndexFunc(p.nodes, func(o *node) bool { return o.listed && o.member.ID == n.id })
			if j < 0 {
				continue
			}
			m = p.nodes[j].member
		}
		all[i] = Node{
			Name: n.report.Name, Up: n.heard && !seen[n.id] && (n.row >= trials || !n.failed), Data: !m.Witness && n.report.Serves, Leads: n.report.Leads || p.leader.Address == n.address,
			Hidden: m.Hidden || m.Delayed, Lag: n.report.Lag, Unsure: n.report.Lag < 0, Reads: n.reads,
			Suspect: n.suspect, Load: max(n.report.Sessions, n.places), Places: n.places, Welcome: n.extra,
		}
		seen[n.id] = seen[n.id] || n.heard
	}
	return all
}

// Leader is false while nobody is known to lead.
func (p *Pool) Leader() (Leader, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader, p.leader.Address != ""
}

// Changed gives a channel that is closed once Leader may answer otherwise than before the call.
func (p *Pool) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Dial opens a connection to a leader, for statements.
func (p *Pool) Dial(ctx context.Context, address string) (net.Conn, error) {
	conn, _, err := p.options.Dial(ctx, address, replication.ToForward)
	if err != nil {
		p.Refresh()
	}
	return conn, err
}

// Credentials asks the leader, or whoever answers, for a role's.
func (p *Pool) Credentials(ctx context.Context, role string) (Credentials, error) {
	err := ErrNobody
	for _, address := range p.sources() {
		var c Credentials
		if c, err = p.credentials(ctx, address, role); err == nil {
			return c, nil
		}
	}
	return Credentials{}, err
}

func (p *Pool) credentials(ctx context.Context, address, role string) (c Credentials, err error) {
	ctx, stop := context.WithTimeout(ctx, answerTime)
	defer stop()
	conn, _, err := p.options.Dial(ctx, address, replication.ToRoute)
	if err != nil {
		return c, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return c, err
	}
	return c, errors.Join(write(conn, question{Role: &role}), read(lines(conn), &c))
}

// Await returns once a node with data answers.
func (p *Pool) Await(ctx context.Context) error {
	for len(p.sources()) == 0 {
		timer := time.NewTimer(hurry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
	return nil
}

// sources are the addresses of nodes with data that answer, the leader's first.
func (p *Pool) sources() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, n := range p.nodes {
		switch {
		case !n.heard || !n.report.Serves:
		case n.address == p.leader.Address:
			all = slices.Insert(all, 0, n.address)
		default:
			all = append(all, n.address)
		}
	}
	return all
}

// Open says that no role of the cluster has a password, and that all that answer are on this machine.
func (p *Pool) Open() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := false
	for _, n := range p.nodes {
		if !n.heard || !n.report.Serves {
			continue
		}
		host, _, err := net.SplitHostPort(n.address)
		ip := net.ParseIP(host)
		if !n.report.Open || err != nil || !(host == "localhost" || ip != nil && ip.IsLoopback()) {
			return false
		}
		open = true
	}
	return open
}
