package router

import (
	"fmt"
	"time"

	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/sqlstate"
)

// provenance is where the answer to a session's last statement came from.
type provenance struct {
	node   string
	role   string
	at     history.LSN // everything up to there was to be seen
	age    time.Duration
	ageOK  bool // age is known
	leads  bool // this node does: its age is looked up when it is asked for
	reason string
}

func (p *provenance) String() string {
	if p.reason == "" {
		return ""
	}
	age := "unknown"
	if p.ageOK {
		age = p.age.Round(10 * time.Microsecond).String()
	}
	return fmt.Sprintf("node: %s; role: %s; position: %s; staleness: %s; reason: %s", p.node, p.role, p.at.PgLSN(), age, p.reason)
}

// answersHere notes that what runs now is answered by this node. A question about the node itself is not worth a note.
func (s *Session) answersHere() {
	c, f := &s.cycle, s.router.options.Fresh
	if !c.reads && !c.writes {
		return
	}
	s.came = provenance{node: s.router.options.Name, role: "follower", at: max(f.Visible(), s.here.Floor()), reason: c.why}
	if s.here.Leads() {
		s.came.role, s.came.leads = "leader", true
	} else {
		s.came.age, s.came.ageOK = f.Staleness()
	}
}

// answeredBy tells where the last answer came from. For how long this node has not made sure that it leads is looked up only now: it
// would cost each statement a system call or two.
func (s *Session) answeredBy() string {
	if s.came.leads {
		s.came.age, s.came.ageOK = s.router.options.Fresh.Staleness()
	}
	return s.came.String()
}

// answeredAway notes that the leader has answered. What another node has answered that knows best.
func (s *Session) answeredAway(l *link) {
	if l.place != nil {
		s.came = provenance{}
		return
	}
	why := s.cycle.why
	if s.cycle.writes || why == "" {
		why = "what may write is the leader's"
	}
	s.came = provenance{node: l.leader.Name, role: "leader", at: s.here.Floor(), ageOK: true, reason: why}
	s.tellProvenance()
}

// tellProvenance tells a client that wants to know after each statement.
func (s *Session) tellProvenance() {
	if told := s.cycle.reads || s.cycle.writes; told && !s.lent && s.here.Setting("skein.report_provenance") == "on" {
		s.out.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "answered by %s", s.answeredBy()))
	}
}

// showsProvenance says whether a statement asks for it.
func showsProvenance(st *dialect.Statement) bool {
	return st != nil && st.Kind == dialect.Show && (st.Set.Name == "skein.provenance" || st.Set.Name == "all")
}
