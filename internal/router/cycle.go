package router

import (
	"encoding/binary"

	"skein/internal/dialect"
)

// maxKept bounds how much of a cycle is kept for being sent again.
const maxKept = 64 << 10

// cycle is what the client has sent since ReadyForQuery.
type cycle struct {
	raw      []byte   // its messages as they came, from the first on unless it is long
	long     bool     // it was too much to be kept
	answered int      // how many of its messages have been answered
	ran      bool     // rows, or the end of a statement, are among the answers
	erred    bool     // an error is
	copying  bool     // the client has not said yet that its data were all
	away     bool     // it runs there
	refused  bool     // a node on which it was to read has turned it down
	again    bool     // or here, from the beginning: the engine was changed in its middle
	noted    []string // statements that it has prepared at the leader
	sent     int      // how much of raw is on its way
	synced   bool     // the leader is ready for the next
	skips    bool     // the leader has refused something and skips what comes before the next Sync
	failed   bool     // and so does this node
	began    byte     // the transaction status that it began with
	last     byte     // kind of its newest message

	writes  bool            // something in it belongs to the leader
	commits bool            // a COMMIT or ROLLBACK is in it
	decides bool            // a COMMIT is
	reads   bool            // tables
	why     string          // it runs where it does
	made    map[string]bool // names of what it prepares
	opening bool            // there is nothing in it but BEGIN, and how the block runs
	modes   bool            // it says how the block runs
	plain   bool            // nothing in it commits but its end
}

func (c *cycle) reset(status byte) {
	*c = cycle{raw: c.raw[:0], began: status, opening: true, plain: true}
	if cap(c.raw) > maxKept {
		c.raw = nil
	}
}

// add keeps a message.
func (c *cycle) add(kind byte, body []byte) {
	c.last = kind
	if c.long && !c.away || !c.away && len(c.raw)+len(body) > maxKept {
		c.long = true
		return
	}
	c.raw = append(c.raw, kind)
	c.raw = binary.BigEndian.AppendUint32(c.raw, uint32(len(body)+4))
	c.raw = append(c.raw, body...)
}

// note takes a statement of the cycle into account.
func (c *cycle) note(st *dialect.Statement, writes bool) {
	c.writes = c.writes || writes
	if st != nil {
		c.reads = c.reads || readsTables(st)
		c.plain = c.plain && (st.Kind == dialect.Select || st.Kind == dialect.Insert || st.Kind == dialect.Update || st.Kind == dialect.Delete)
		c.commits = c.commits || st.Kind == dialect.Commit || st.Kind == dialect.Rollback
		c.decides = c.decides || st.Kind == dialect.Commit
		c.opening = c.opening && opens(st)
		c.modes = c.modes || st.Kind != dialect.Begin && opens(st)
	}
}

// repeatable says whether the client would not notice if the cycle began anew somewhere else.
func (c *cycle) repeatable() bool { return !c.ran && !c.long }

// lasting says whether the cycle may have made something that lasts: it writes, or commits what was written before.
func (c *cycle) lasting() bool { return c.writes && !c.opening || c.decides }

// told counts the messages that are answered: how many of raw the client has heard of is a number of those.
func told(kind byte) int {
	switch kind {
	case 'H', 'd', 'c', 'f':
		return 0
	}
	return 1
}

// next takes the message at an offset apart.
func next(raw []byte, at int) (kind byte, body []byte, end int) {
	end = at + 1 + int(binary.BigEndian.Uint32(raw[at+1:]))
	return raw[at], raw[at+5 : end], end
}
