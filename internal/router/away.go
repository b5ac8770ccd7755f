package router

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"skein/internal/dialect"
	"skein/internal/engine"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

const (
	// window bounds what is sent before the answers to it are read, so that the two sides never wait for each other to
	// read: it fits the buffers between them.
	window = 64 << 10

	// retryPause is how long a node that is named leader and does not lead yet is let be.
	retryPause = 10 * time.Millisecond

	// cancelTime is for how long a leader is tried to be told of a cancel request.
	cancelTime = 2 * time.Second

	// watchInterval is how often a session that waits for a leader looks whether its client is there.
	watchInterval = time.Second
)

// forward has a message answered by the leader. It is sent with the Sync or Flush that follows.
func (s *Session) forward(ctx context.Context, kind byte, body []byte) error {
	c := &s.cycle
	switch {
	case s.remote:
		return s.fail(kind, engine.ErrNotLeader)
	case c.skips && kind != 'S':
		return nil
	case c.long && !c.away:
		return s.fail(kind, errMixed)
	case c.away:
		s.notes(kind, body)
	}
	c.away = true
	c.add(kind, body)
	switch {
	case kind == 'Q', kind == 'S', kind == 'H':
		return s.exchange(ctx)
	case len(c.raw)-c.sent >= window:
		c.add('H', nil)
		return s.exchange(ctx)
	}
	return nil
}

// exchange sends what has gathered and passes the answers on, as often as it takes and is allowed.
func (s *Session) exchange(ctx context.Context) error {
	s.here.Awake()
	defer s.out.WatchClient(watchInterval)()
	deadline := time.Now().Add(s.patience())
	before := s.mark()
	for {
		done, err := s.settle(ctx, deadline)
		if err == nil {
			err = s.attempt(ctx, deadline)
		}
		done()
		if err == nil {
			return nil
		}
		s.router.options.Logger.Debug("forwarding failed", "error", err)
		if s.here == nil { // nor will there be an engine soon
			return err
		}
		s.rewind(before)
		if ended := s.out.Ended(); ended != nil {
			return ended
		}
		open := s.away != nil && s.away.status != 'I'
		if s.away != nil && (open || !errors.Is(err, errTurnedDown)) {
			s.failed(err)
			held := s.away.held
			s.drop()
			if held != "" {
				return s.bereft(err)
			}
		}
		if errors.Is(err, errLeaving) { // connect finds the next engine
			s.cycle.sent = 0
			continue
		}
		settled, repeat, failed := s.resolve(ctx, err, deadline)
		switch {
		case settled:
			return failed
		case s.here == nil:
			return err
		}
		if !repeat && !s.again(err, open) || !time.Now().Before(deadline) {
			return s.giveUp(ctx, err, open)
		}
		s.cycle.sent = 0
		if !errors.Is(err, errTurnedDown) {
			rest(ctx, retryPause)
		}
	}
}

// bereft gives the last word to a client that has lost what it held at the leader: its locks are somebody else's by now, and the name of a
// temporary table may mean another one.
func (s *Session) bereft(err error) error {
	var fatal *fatalError
	var lost *lostError
	switch c := &s.cycle; {
	case errors.As(err, &fatal):
		return fatal.last
	case errors.As(err, &lost) && c.lasting() && !c.erred:
		if err := s.out.Report(unknown(err)); err != nil {
			return err
		}
	}
	return errBereft
}

var errBereft = sqlstate.New(sqlstate.AdminShutdown, "terminating connection: the leader has gone that held this session's locks or temporary tables").
	WithHint("Connect again.")

// unknown is for a cycle that may have made something that lasts.
func unknown(err error) *sqlstate.Error {
	return sqlstate.New(sqlstate.TransactionUnknown, "the outcome of the transaction is unknown: %v", err).
		WithDetail("It was sent to the leader, and whether it was committed there was not learnt.").
		WithHint("Look whether its changes are there before you repeat it, or name transactions with skein.transaction_token.")
}

// mark is how far the answering of a cycle was at some time.
type mark struct {
	written  int64
	answered int
	noted    int
	ran      bool
}

func (s *Session) mark() mark {
	c := &s.cycle
	return mark{written: s.out.Written(), answered: c.answered, ran: c.ran, noted: len(c.noted)}
}

// rewind takes back what the client has been answered since, if nothing of it has left. Rows and the end of a statement may be taken back, as
// long as only the end of the cycle commits; never an error, which may be that the outcome is unknown.
func (s *Session) rewind(to mark) {
	c := &s.cycle
	if c.erred || !c.plain || !s.out.Rewind(to.written) {
		return
	}
	for _, name := range c.noted[to.noted:] {
		_ = s.here.CloseStatement(name)
	}
	c.answered, c.ran, c.noted = to.answered, to.ran, c.noted[:to.noted]
	c.synced, c.skips = false, false
}

// again says whether the cycle may be sent once more. open is whether a block was open at the leader.
func (s *Session) again(err error, open bool) bool {
	c := &s.cycle
	if !c.repeatable() {
		return false
	}
	if open || c.began != 'I' {
		if len(s.opening) == 0 {
			return false
		}
		s.reopen = true
	}
	var fatal *fatalError
	var lost *lostError
	var told *sqlstate.Error
	switch {
	case errors.As(err, &fatal), errors.As(err, &told):
		return false
	case errors.As(err, &lost):
		return !c.writes || s.reopen && !c.commits
	}
	return true
}

// giveUp tells the client what is known of a cycle that was not answered to its end.
func (s *Session) giveUp(ctx context.Context, err error, open bool) error {
	c := &s.cycle
	var fatal *fatalError
	var lost *lostError
	var told *sqlstate.Error
	s.reopen = false
	switch {
	case errors.As(err, &fatal):
		return fatal.last
	case c.erred: // the client has heard of an error, and of no other one
		if (open || c.began != 'I') && !c.commits {
			s.here.Block()
		}
	case errors.Is(err, errTurnedDown):
		told = errMixed
	case s.front.reads && errors.As(err, &lost) && (open || c.began != 'I' || !c.repeatable()):
		told = errLostReader
		if open || c.began != 'I' {
			s.here.Block()
		}
	case (open || c.began != 'I') && !c.commits:
		told = errLostBlock
		s.here.Block()
	case errors.As(err, &lost) && c.lasting() && !c.copying:
		told = unknown(err)
	case errors.As(err, &told):
	case open || c.began != 'I' || c.copying:
		told = errLostBlock
	case s.front.reads:
		told = sqlstate.New(sqlstate.CannotConnectNow, "no node has answered this read: %v", err).
			WithHint("Try again in a moment; skein status on a node says what is wrong.")
	default:
		told = sqlstate.New(sqlstate.CannotConnectNow, "there is no leader to run this statement: %v", err).
			WithDetail("Nothing of it has been done. It waited for skein.failover_wait (%v).", s.patience()).
			WithHint("Reads go on. See skein status for what keeps the cluster from having a leader.")
	}
	s.opening = s.opening[:0]
	c.away = false
	s.revert()
	if told == nil {
		err = s.failing(c.last)
	} else {
		err = s.fail(c.last, told)
	}
	if err == nil {
		s.here.Rest(false)
	}
	return err
}

// attempt sends the cycle's messages from the first on that was not sent, and reads until all of them are answered.
func (s *Session) attempt(ctx context.Context, deadline time.Time) error {
	if err := s.connect(ctx, deadline); err != nil {
		return err
	}
	l, c := s.away, &s.cycle
	if l == nil {
		return s.rerun(ctx)
	}
	defer context.AfterFunc(ctx, func() { _ = l.up.Close() })()
	s.tidy()
	if l.status == 'I' {
		l.set(s.here)
		l.raise(s.here)
	}
	if s.reopen {
		s.send(s.opening, 0, len(s.opening))
	}
	switch told, err := s.recheck(ctx); {
	case err != nil:
		return err
	case told != nil:
		s.opening, s.reopen, c.away = s.opening[:0], false, false
		return s.fail(c.last, told)
	}
	s.send(c.raw, c.sent, -1)
	if err := l.up.Flush(); err != nil {
		return errUnsent
	}
	c.sent = len(c.raw)
	if len(c.raw) > maxKept {
		c.raw, c.sent, c.long = c.raw[:0], 0, true
	}
	s.mu.Lock()
	s.answering = l
	s.mu.Unlock()
	err := s.pump(l)
	s.mu.Lock()
	s.answering = nil
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.reopen = false
	if c.synced {
		return s.finish(ctx)
	}
	s.here.Rest(true)
	return nil
}

// connect finds the leader, and sees that the link is to it; without one if that is this node.
func (s *Session) connect(ctx context.Context, deadline time.Time) error {
	if err := s.attach(ctx); err != nil || s.cycle.again {
		return err
	}
	if l := s.away; l != nil {
		if s.alive(l) {
			return nil
		}
		return errUnsent
	}
	if s.front.reads {
		return errUnsent
	}
	ctx, done := s.here.Interruptible(ctx)
	defer done()
	ctx, stop := context.WithDeadline(ctx, deadline)
	defer stop()
	for {
		changed := s.router.options.Cluster.Changed()
		to, ok := s.router.options.Cluster.Leader()
		switch {
		case ok && to.Here && s.here.Leads():
			return nil
		case ok && !to.Here:
			l, err := s.dial(ctx, to, true)
			if err == nil {
				s.away = l
				return nil
			}
			s.router.options.Logger.Debug("the leader cannot be reached", "leader", to.Name, "error", err)
		}
		select {
		case <-changed:
		case <-time.After(retryPause):
		case <-ctx.Done():
			return errors.Join(errUnsent, context.Cause(ctx))
		}
		if err := s.attach(ctx); err != nil { // what this node's engine is may have changed as well
			return err
		}
	}
}

// alive reads what the leader has said meanwhile: it may have sent this node away.
func (s *Session) alive(l *link) bool {
	if now, ok := s.router.options.Cluster.Leader(); ok && l.place == nil && now.Epoch > l.leader.Epoch {
		return false
	}
	for l.up.Pending() {
		kind, body, err := l.up.Next()
		if err != nil || kind == 'E' {
			return false
		}
		s.aside(l, kind, body)
	}
	return true
}

// send sends messages of a cycle, from one offset on. silent is up to which offset the client waits for no answer; -1 is as
// many messages as the client has been answered.
func (s *Session) send(raw []byte, from, silent int) {
	l := s.away
	for at, n := 0, 0; at < len(raw); {
		kind, body, end := next(raw, at)
		if at >= from {
			d := due{kind: kind, counts: silent < 0, silent: at < silent || silent < 0 && !s.cycle.long && n < s.cycle.answered}
			s.provide(kind, body, d.silent)
			l.up.Send(kind, body)
			if s.expect(&d, body) {
				l.due = append(l.due, d)
			}
		}
		n += told(kind)
		at = end
	}
}

// expect fills in what an answer will mean. It is false for a message that gets none.
func (s *Session) expect(d *due, body []byte) bool {
	switch d.kind {
	case 'H', 'd', 'c', 'f':
		return false
	case 'Q':
		delete(s.away.prepared, "")
	case 'P':
		name, rest := cut(body)
		sql, types := cut(rest)
		d.name, d.text, d.types = string(name), string(sql), bytes.Clone(types)
		s.away.prepared[d.name] = engine.Prepared{Text: d.text}
	case 'C', 'D':
		if len(body) > 0 && body[0] == 'S' {
			d.name = text(body[1:])
		}
	}
	return true
}

// provide has the leader know the prepared statements that a message is about.
func (s *Session) provide(kind byte, body []byte, silent bool) {
	switch kind {
	case 'P':
		if name, _ := cut(body); len(name) > 0 {
			if _, mine := s.here.Prepared(string(name)); mine && !silent {
				s.prepare(string(name)) // so that it refuses the name
			} else {
				s.away.forget(string(name))
			}
		}
	case 'B':
		_, rest := cut(body)
		s.prepare(text(rest))
	case 'D', 'C':
		if kind == 'D' && len(body) > 0 && body[0] == 'S' {
			s.prepare(text(body[1:]))
		}
	case 'Q':
		for _, st := range s.statements(kind, body) {
			if st != nil && st.Kind == dialect.Execute && s.prepare(st.Prepare.Name) {
				s.away.due[len(s.away.due)-1].hidden = true
				s.away.up.Send('S', nil)
				s.away.due = append(s.away.due, due{kind: 'S', silent: true})
			}
		}
	}
}

// forget closes a statement of which the client has none any more.
func (l *link) forget(name string) {
	if _, has := l.prepared[name]; has {
		delete(l.prepared, name)
		l.up.Send('C', append(append([]byte{'S'}, name...), 0))
		l.due = append(l.due, due{kind: 'C', silent: true})
	}
}

// prepare has the leader prepare a statement of the client's that it does not have.
func (s *Session) prepare(name string) (sent bool) {
	l := s.away
	p, ok := s.here.Prepared(name)
	if has, there := l.prepared[name]; there && (has.Pending() || ok && has.Same(p)) || !ok {
		return false
	}
	if name != "" {
		l.forget(name)
	}
	l.prepared[name] = p
	l.up.Send('P', p.Message(name))
	l.due = append(l.due, due{kind: 'P', silent: true, name: name})
	return true
}

// pump passes answers on until none is due.
func (s *Session) pump(l *link) error {
	for len(l.due) > 0 {
		kind, body, err := l.up.Next()
		if err != nil {
			return &lostError{err}
		}
		if err := s.answer(l, kind, body); err != nil {
			return err
		}
	}
	return nil
}

// answer takes one message of the leader.
func (s *Session) answer(l *link, kind byte, body []byte) error {
	if s.aside(l, kind, body) {
		return nil
	}
	d := &l.due[0]
	switch kind {
	case 'E':
		return s.refusal(l, d, body)
	case 'G':
		return s.copyIn(l, body)
	case 'Z':
		if len(body) > 0 {
			l.status = body[0]
		}
	}
	if !d.silent && kind != 'Z' {
		if d.kind == 'E' || d.kind == 'Q' {
			s.cycle.ran = true
		}
		if err := s.out.Pass(kind, body); err != nil {
			return err
		}
	}
	if !d.ends(kind) {
		return nil
	}
	if d.kind == 'D' && d.hidden {
		s.compare(l, d.name, fields(kind, body))
	} else if d.kind == 'D' && d.name != "" {
		s.here.Describe(d.name, fields(kind, body))
	}
	s.done(l, d, kind)
	return nil
}

// done ends an answer.
func (s *Session) done(l *link, d *due, kind byte) {
	if d.counts && !d.silent {
		s.cycle.answered++
		s.cycle.synced = s.cycle.synced || kind == 'Z'
	}
	switch {
	case d.kind == 'P' && d.text != "":
		s.noted(l, d)
	case d.kind == 'C' && d.name != "" && d.counts:
		_ = s.here.CloseStatement(d.name)
		delete(l.prepared, d.name)
	}
	l.due = slices.Delete(l.due, 0, 1)
}

// noted keeps here what the client has prepared there.
func (s *Session) noted(l *link, d *due) {
	if !d.silent {
		list, err := s.here.Engine().Parse(d.text)
		if err != nil || len(list) > 1 {
			return
		}
		var st *dialect.Statement
		if len(list) == 1 {
			st = list[0]
		}
		s.here.Note(d.name, d.text, st, oids(d.types))
		s.cycle.noted = append(s.cycle.noted, d.name)
	}
	if p, ok := s.here.Prepared(d.name); ok {
		l.prepared[d.name] = p
	}
}

// aside takes what may come at any time. It is false for everything else.
func (s *Session) aside(l *link, kind byte, body []byte) bool {
	switch kind {
	case 'S':
		name, rest := cut(body)
		s.parameter(l, string(name), text(rest))
	case 'N':
		if len(l.due) > 0 && !l.due[0].silent {
			_ = s.out.Pass(kind, body)
		}
	case 'A':
		_ = s.out.Pass(kind, body)
	case 'K':
		s.mu.Lock()
		l.cancel = bytes.Clone(body)
		s.mu.Unlock()
	case 'R', 'v':
	default:
		return false
	}
	return true
}

// parameter takes a setting that a statement has changed there. What a new session begins with is known.
func (s *Session) parameter(l *link, name, value string) {
	if l.cancel == nil || l.told(s, name, value) {
		return
	}
	if name == lastCommit {
		if !s.forgets(l, value) {
			s.reads.wrote = time.Now()
			s.here.Told(name, value)
		}
		return
	}
	same := l.changes == s.here.Changes()
	name = strings.ToLower(name)
	if s.before == nil {
		s.before = s.here.Own()
	}
	s.here.Adopt(name, value)
	l.settings[name] = s.here.Setting(name)
	if same {
		l.changes = s.here.Changes()
	}
}

// revert has the settings be as before the transaction that is lost.
func (s *Session) revert() {
	if s.before != nil {
		s.here.Revert(s.before)
		s.before = nil
	}
}

// refusal takes an ErrorResponse.
func (s *Session) refusal(l *link, d *due, body []byte) error {
	switch e := errorFields(body); {
	case e.Code == sqlstate.NotLeader && l.place != nil && !e.fatal:
		return s.turnedDown(l)
	case e.Code == sqlstate.NotLeader:
		return errMoved
	case e.fatal && l.place != nil && (e.Code == sqlstate.AdminShutdown || e.Code == sqlstate.CannotConnectNow): // the node's end, not the client's
		return &lostError{errors.New(e.Message)} // nothing to be told
	case e.fatal && l.cancel == nil: // there is no session yet: the client's own may go on
		return &e.Error
	case e.fatal:
		return &fatalError{&e.Error}
	}
	if !d.hidden {
		s.cycle.ran, s.cycle.erred = true, true
		if err := s.out.Pass('E', body); err != nil {
			return err
		}
	}
	if d.kind == 'Q' || d.kind == 'S' {
		return nil
	}
	// The leader skips what comes before the next Sync, and so does the client.
	i := slices.IndexFunc(l.due, func(d due) bool { return d.kind == 'S' || d.kind == 'Q' })
	if i < 0 {
		i = len(l.due)
		s.cycle.skips = true
	}
	for _, skipped := range l.due[:i] {
		if skipped.kind == 'P' {
			delete(l.prepared, skipped.name)
		}
	}
	l.due = slices.Delete(l.due, 0, i)
	return nil
}

// copyIn passes the client's data on until it says that this was all.
func (s *Session) copyIn(l *link, body []byte) error {
	s.cycle.ran = true
	if err := s.out.Pass('G', body); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	s.cycle.copying = true
	// What was sent along behind it the leader takes for a part of the data and passes over.
	l.due = l.due[:1]
	over, woken := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(woken)
		l.up.Await()
		close(over) // first: Receive looks at it when it has been woken, and then never again
		s.out.Wake()
	}()
	defer func() { <-woken }()
	for {
		kind, body, err := s.out.Receive(over)
		if errors.Is(err, pgwire.ErrWoken) {
			return nil // the leader has something to say: an error, most likely
		}
		if err != nil {
			_ = l.up.Close() // or what came might pass for all of it
			return err
		}
		if kind == 'X' {
			_ = l.up.Close()
			return &lostError{errors.New("the client has gone")}
		}
		s.cycle.copying = kind != 'c'
		l.up.Send(kind, body)
		if (kind == 'c' || kind == 'f') && l.due[0].kind == 'E' {
			l.up.Send('H', nil) // the client's Sync may be a long time in coming
		}
		if kind == 'c' || kind == 'f' || !s.out.More() || l.up.Buffered() >= window/2 {
			if err := l.up.Flush(); err != nil {
				return &lostError{err}
			}
		}
		if kind == 'c' || kind == 'f' {
			return nil
		}
	}
}

// finish ends a cycle that was away.
func (s *Session) finish(ctx context.Context) error {
	c, l := &s.cycle, s.away
	switch {
	case l.status == 'I':
		s.opening, s.before = s.opening[:0], nil
	case c.began == 'I' && c.opening && !c.long:
		s.opening = append(s.opening[:0], c.raw...)
	case c.ran:
		s.opening = s.opening[:0]
	}
	s.repeatHere()
	s.answeredAway(l)
	if err := s.here.Sync(ctx); err != nil { // portals that were made here before
		return err
	}
	s.end()
	s.here.Rest(l.status != 'I')
	return nil
}

// repeatHere does here what the cycle has done away to the session's own things.
func (s *Session) repeatHere() {
	for at := 0; at < len(s.cycle.raw); {
		kind, body, end := next(s.cycle.raw, at)
		if kind == 'Q' {
			_ = s.here.CloseStatement("")
			for _, st := range s.statements(kind, body) {
				s.here.Repeat(st)
				s.hasPrepared(st)
			}
		}
		at = end
	}
}

// hasPrepared notes that the leader has what SQL's PREPARE has made.
func (s *Session) hasPrepared(st *dialect.Statement) {
	if st.Kind != dialect.Prepare {
		return
	}
	if p, ok := s.here.Prepared(st.Prepare.Name); ok {
		s.away.prepared[st.Prepare.Name] = p
	}
}

// rerun runs the cycle here, from its beginning, as new as its reads must be by now.
func (s *Session) rerun(ctx context.Context) error {
	fresh, err := s.freshen(ctx, 'E', nil)
	if err != nil {
		return err
	}
	if !fresh {
		s.cycle.again = false
		return errUnsent
	}
	return s.replay(ctx)
}

// replay runs the cycle here: this node has become the leader.
func (s *Session) replay(ctx context.Context) error {
	c := &s.cycle
	c.away, c.again = false, false
	h := pgwire.NewReplayer(s.out, s.here)
	if s.reopen {
		s.reopen = false
		for at := 0; at < len(s.opening); {
			kind, body, end := next(s.opening, at)
			if err := h.Message(kind, body, true); err != nil {
				return err
			}
			at = end
		}
	}
	kind := byte(0)
	for at, n := 0, 0; at < len(c.raw); {
		var body []byte
		var end int
		kind, body, end = next(c.raw, at)
		if err := h.Message(kind, body, n < c.answered); err != nil {
			return err
		}
		n += told(kind)
		at = end
	}
	if kind == 'S' || kind == 'Q' {
		s.endHere()
		return nil
	}
	c.failed = h.Skipping()
	return nil
}

// cancel asks a leader to interrupt what a session of this router runs there.
func cancel(dial func(context.Context) (net.Conn, error), key []byte) {
	ctx, stop := context.WithTimeout(context.Background(), cancelTime)
	defer stop()
	conn, err := dial(ctx)
	if err != nil {
		return
	}
	up := pgwire.NewUpstream(conn)
	if up.Cancel(key) == nil {
		_, _, _ = up.Next() // its end
	}
	_ = up.Close()
}

// rest waits, or gives up with ctx.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
