package router

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"skein/internal/dialect"
	"skein/internal/engine"
	"skein/internal/sqlstate"
)

// Take decides where a message belongs. Those that belong here it leaves to the engine.
func (s *Session) Take(ctx context.Context, kind byte, body []byte) (bool, error) {
	if s.lent {
		return s.takeLent(ctx, kind, body)
	}
	if s.here == nil || s.here.Engine() != s.router.engine.Load() {
		if taken, err := s.attachWaiting(ctx, kind); taken || err != nil {
			return taken, err
		}
	}
	if s.router.options.Cluster == nil {
		return false, nil
	}
	c := &s.cycle
	if l := s.leaderLink(); l != nil && l.held != "" && !c.away && (s.here.Leads() || !s.alive(l)) {
		return false, errBereft
	}
	if s.away != nil && s.here.Leads() {
		if s.away.held != "" {
			return false, errBereft
		}
		s.hangUp()
	}
	switch {
	case c.failed:
		return true, s.skip(ctx, kind)
	case s.lost != nothing:
		return s.mourn(kind, body)
	case s.remote && kind == 'Q' && s.raised(body):
		return true, s.ready(ctx)
	case c.away:
		return true, s.forward(ctx, kind, body)
	case kind == 'Q' && s.splits(body):
		return true, s.split(ctx, body)
	case s.belongsAway(kind, body):
		if c.ran {
			return true, s.fail(kind, errMixed)
		}
		return true, s.forward(ctx, kind, body)
	}
	if s.router.options.Pool != nil { // what stays here reads nothing
		c.add(kind, body)
		return false, nil
	}
	switch kind {
	case 'P', 'B', 'D': // or what is described is not what will be read
		if s.here.Standing() || s.here.Setting("skein.read_consistency") == "eventual" {
			break
		}
		knows, err := s.knows(ctx)
		if errors.Is(err, errLeaving) {
			return s.Take(ctx, kind, body)
		}
		if err != nil {
			return true, s.fail(kind, err)
		}
		if !knows && !c.ran {
			return true, s.forward(ctx, kind, body)
		}
	case 'Q', 'E':
		fresh, err := s.freshen(ctx, kind, body)
		if errors.Is(err, errLeaving) {
			return s.Take(ctx, kind, body)
		}
		if err != nil {
			return true, s.fail(kind, err)
		}
		if !fresh && !s.unblock() {
			return true, s.fail(kind, errFallenBehind)
		}
		if !fresh {
			return true, s.forward(ctx, kind, body)
		}
		s.answersHere()
	}
	c.add(kind, body)
	return false, nil
}

// errMixed: the implicit transaction has read on this node already.
var errMixed = sqlstate.New(sqlstate.FeatureNotSupported, "a pipeline that has begun by reading on a follower cannot write").
	WithHint("Begin it with BEGIN, or send Sync before the write.")

// unblock gives up the block that has begun here, if there is one, so that it can begin anew at the leader. It is false if something
// has been read in it, or in the pipeline.
func (s *Session) unblock() bool {
	switch {
	case s.cycle.ran:
		return false
	case s.here.Status() == 'I':
		return true
	case !s.here.Untouched() || len(s.opening) == 0:
		return false
	}
	s.reopen = true
	s.here.Abandon()
	return true
}

// errFallenBehind: the pipeline cannot be moved to the leader in its middle.
var errFallenBehind = sqlstate.New(sqlstate.SerializationFailure, "this node cannot be as new as the rest of the pipeline must be").
	WithHint("Repeat it.")

// belongsAway says whether a message does.
func (s *Session) belongsAway(kind byte, body []byte) bool {
	if s.reopen {
		s.notes(kind, body) // whether it may be sent twice
		return true
	}
	if s.router.options.Pool != nil {
		return s.leaves(kind, body)
	}
	if s.here.Leads() {
		s.notes(kind, body)
		return false
	}
	if l := s.away; l != nil && (l.status != 'I' || l.held == engine.HeldTables) {
		s.notes(kind, body)
		return true
	}
	if s.here.Status() != 'I' { // a block that only reads, or has failed
		s.notes(kind, body)
		return false
	}
	away := s.notes(kind, body) || s.away != nil && s.away.held != "" && s.discards(kind, body)
	if !away && kind == 'P' && !s.cycle.ran && len(s.cycle.raw) == 0 {
		away = s.ahead()
	}
	return away
}

// splits says whether a text ends a block that is here and then goes on to write.
func (s *Session) splits(body []byte) bool {
	if s.reopen || s.here.Status() == 'I' || s.here.Leads() {
		return false
	}
	list := s.statements('Q', body)
	i := blockEnd(list)
	return i > 0 && slices.ContainsFunc(list[i:], func(st *dialect.Statement) bool { return writes(st, s.named, s.here.ReadsOnly()) })
}

// split runs such a text in its two parts.
func (s *Session) split(ctx context.Context, body []byte) error {
	list := s.statements('Q', body)
	i := blockEnd(list)
	if err := s.here.Simple(ctx, together(list[:i])); err != nil {
		return s.fail('Q', err)
	}
	s.cycle.reset(s.here.Status())
	rest := append([]byte(together(list[i:])), 0)
	if !s.belongsAway('Q', rest) {
		return s.fail('Q', errMixed)
	}
	return s.forward(ctx, 'Q', rest)
}

// blockEnd is how many statements there are up to the first that ends a block.
func blockEnd(list []*dialect.Statement) int {
	return 1 + slices.IndexFunc(list, func(st *dialect.Statement) bool {
		return st.Kind == dialect.Commit || st.Kind == dialect.Rollback
	})
}

func together(list []*dialect.Statement) string {
	texts := make([]string, len(list))
	for i, st := range list {
		texts[i] = st.Text
	}
	return strings.Join(texts, ";\n")
}

// discards says whether a message gives up what the session holds, some of it at the leader.
func (s *Session) discards(kind byte, body []byte) bool {
	return slices.ContainsFunc(s.statements(kind, body), func(st *dialect.Statement) bool { return st != nil && st.Kind == dialect.Discard })
}

// ahead looks whether the pipeline that begins here comes to write.
func (s *Session) ahead() (away bool) {
	s.out.Ahead(func(kind byte, body []byte) bool {
		if kind == 'S' || kind == 'H' {
			return false
		}
		away = s.notes(kind, body)
		return !away
	})
	return away
}

// notes looks at the statements of a message and says whether one of them writes. A text that cannot be read is refused
// here.
func (s *Session) notes(kind byte, body []byte) (away bool) {
	c := &s.cycle
	if name, ok := bound(kind, body); ok && c.made[name] {
		return false // what had the name before is of no account
	}
	if kind == 'P' {
		if c.made == nil {
			c.made = map[string]bool{}
		}
		c.made[text(body)] = true
	}
	for _, st := range s.statements(kind, body) {
		if showsProvenance(st) {
			s.here.Told("skein.provenance", s.answeredBy())
		}
		w := writes(st, s.named, s.here.ReadsOnly())
		c.note(st, w)
		away = away || w
	}
	return away
}

func (s *Session) named(name string) *dialect.Statement {
	p, _ := s.here.Prepared(name)
	return p.Statement
}

// statements are those that a message is about.
func (s *Session) statements(kind byte, body []byte) []*dialect.Statement {
	switch kind {
	case 'Q':
		list, _ := s.here.Engine().Parse(text(body))
		return list
	case 'P':
		_, rest := cut(body)
		list, _ := s.here.Engine().Parse(text(rest))
		return list
	}
	if name, ok := bound(kind, body); ok {
		return []*dialect.Statement{s.named(name)}
	}
	return nil
}

// bound is the name of the prepared statement that a Bind or Describe message is about.
func bound(kind byte, body []byte) (name string, ok bool) {
	switch {
	case kind == 'B':
		_, rest := cut(body)
		return text(rest), true
	case kind == 'D' && len(body) > 0 && body[0] == 'S':
		return text(body[1:]), true
	}
	return "", false
}

// cut takes a string that ends in NUL off a message's body.
func cut(body []byte) (s, rest []byte) {
	s, rest, _ = bytes.Cut(body, []byte{0})
	return s, rest
}

func text(body []byte) string {
	s, _ := cut(body)
	return string(s)
}

// fail answers a message with an error. What comes before the next Sync is skipped.
func (s *Session) fail(kind byte, err error) error {
	if err := s.out.Report(err); err != nil {
		return err
	}
	return s.failing(kind)
}

// failing goes on after an error that the client has been told.
func (s *Session) failing(kind byte) error {
	if s.here != nil {
		s.here.Fail()
	}
	if kind == 'Q' || kind == 'S' {
		return s.ready(context.WithoutCancel(context.Background()))
	}
	s.cycle.failed = true
	return nil
}

// skip waits for the Sync after an error.
func (s *Session) skip(ctx context.Context, kind byte) error {
	if kind != 'S' {
		return nil
	}
	return s.ready(ctx)
}

// ready ends a cycle that nobody else ends.
func (s *Session) ready(ctx context.Context) error {
	if s.here == nil {
		s.end()
		return nil
	}
	if err := s.here.Sync(ctx); err != nil {
		if err := s.out.Report(err); err != nil {
			return err
		}
	}
	s.end()
	return nil
}

// end tells the client that it may go on.
func (s *Session) end() {
	s.out.ReadyForQuery(s.Status())
	s.cycle.reset(s.Status())
}

// mourn tells the client that its block is lost; here there is a failed one in its place. A client that rolls it back need not know.
func (s *Session) mourn(kind byte, body []byte) (taken bool, err error) {
	lost, ends := s.lost, dialect.Kind(0)
	if list := s.statements(kind, body); len(list) == 1 && list[0] != nil {
		ends = list[0].Kind
	}
	s.revert()
	s.lost, s.opening = nothing, s.opening[:0]
	if lost == block && ends != dialect.Commit {
		s.here.Block()
	}
	if lost == block && ends == dialect.Rollback {
		s.cycle.add(kind, body)
		return false, nil
	}
	return true, s.fail(kind, errLostBlock)
}
