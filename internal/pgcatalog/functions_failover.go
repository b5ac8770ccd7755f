package pgcatalog

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/failover"
	"skein/internal/oid"
	"skein/internal/overview"
	"skein/internal/sqlstate"
)

const (
	// switchoverWait is how long a switchover is tried before the old leader goes on.
	switchoverWait = time.Minute
	// forceWait is how long a failover by hand may take.
	forceWait = 30 * time.Second
	// commandWait is how long the coordinator may take to agree to a command.
	commandWait = 10 * time.Second
	// outcomeWait is for how much longer than it may take an outcome is waited for.
	outcomeWait = 5 * time.Second
	// outcomePace is how often a function that waits looks at what has become of its command.
	outcomePace = 10 * time.Millisecond
	// toldWait is how much later than a state its events may be known to every node.
	toldWait = 200 * time.Millisecond
)

// failoverFunctions change who leads, on any node: the command goes to the coordinator.
func failoverFunctions() []function {
	return []function{
		{"skein_overview", 0, 0, 0, overviewJSON},
		{"skein_switchover", 0, 3, direct | nullable, ordered("skein_switchover", switchover)},
		{"skein_cancel_switchover", 0, 0, direct, ordered("skein_cancel_switchover", cancelSwitchover)},
		{"skein_failover", 1, 3, direct, ordered("skein_failover", failOver)},
		{"skein_remove_member", 1, 1, direct, ordered("skein_remove_member", removeMember)},
		{"skein_set_member", 3, 3, direct, ordered("skein_set_member", setMember)},
		{"pg_promote", 0, 2, direct, promote},
	}
}

// order is one call of a function that changes something, by a superuser of a cluster that appoints its leader.
type order struct {
	*call
	cluster Failover
	ctx     context.Context // ends when the statement is cancelled
}

func ordered(name string, run func(*order) error) func(*call) error {
	return func(c *call) error {
		if err := c.superuserFor(name); err != nil {
			return err
		}
		f, err := c.failover()
		if err != nil {
			return err
		}
		// Who waits for writers to pause must not be one.
		if c.conn.TxnState("main") == sqlite3.TXN_WRITE {
			return sqlstate.New(sqlstate.ActiveTransaction, "%s cannot run inside a transaction that has written", name)
		}
		return run(&order{c, f, c.conn.GetInterrupt()})
	}
}

// overviewJSON is what skein status shows.
func overviewJSON(c *call) error {
	f, err := c.failover()
	if err != nil {
		return err
	}
	b, err := json.Marshal(overview.Of(observe(c.conn.GetInterrupt(), f)))
	if err != nil {
		return err
	}
	return c.returnText(string(b))
}

// do has the coordinator carry out a command in the name of the session's role.
func (o *order) do(cmd failover.Command) (failover.State, error) {
	cmd.By = o.sess().User()
	ctx, cancel := context.WithTimeout(o.ctx, commandWait)
	defer cancel()
	s, err := o.cluster.Do(ctx, cmd)
	return s, commandError(o.ctx, err)
}

func commandError(ctx context.Context, err error) error {
	var refused *Refused
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return sqlstate.New(sqlstate.NotInRequiredState, "%s", refused.Reason)
	case ctx.Err() != nil:
		return sqlite3.INTERRUPT
	}
	return sqlstate.New(sqlstate.TransactionUnknown, "the cluster has not answered, whether it does what it was told is unknown: %v", err).
		WithHint("skein status shows what has become of it.")
}

// named finds a member by name or id.
func named(s failover.State, name string) (failover.Member, error) {
	i := slices.IndexFunc(s.Members, func(m failover.Member) bool { return m.Name == name || string(m.ID) == name })
	if i < 0 {
		return failover.Member{}, sqlstate.New(sqlstate.UndefinedObject, "the cluster has no member %q", name).WithHint("Its members are %s.", memberNames(s))
	}
	return s.Members[i], nil
}

func nameOf(s failover.State, id failover.NodeID) string {
	m, err := named(s, string(id))
	if err != nil || m.Name == "" {
		return string(id)
	}
	return m.Name
}

func memberNames(s failover.State) string {
	text := ""
	for i, m := range s.Members {
		if i > 0 {
			text += ", "
		}
		text += m.Name
	}
	return text
}

// switchover is skein_switchover(to, at, wait): an orderly change of leader, which fails nothing and loses nothing.
// It waits for the outcome, unless it is for later.
func switchover(o *order) error {
	s := o.cluster.State()
	var target failover.NodeID
	cmd := failover.Command{Kind: failover.SwitchoverCommand}
	if !o.isNull(0) {
		to, err := named(s, o.text(0))
		if err != nil {
			return err
		}
		cmd.Node, target = string(to.ID), to.ID
	}
	if !o.isNull(1) {
		at, err := o.instant(1, oid.Timestamptz, o.zone())
		if err != nil {
			return err
		}
		cmd.At = at.Time()
	}
	since := len(o.cluster.History())
	s, err := o.do(cmd)
	if err != nil {
		return err
	}
	if later := time.Until(cmd.At); later > 0 {
		return o.returnText("a switchover is to begin in " + overview.Lasting(later))
	}
	if !o.waits() {
		return o.returnText("a switchover has begun" + o.farewell())
	}
	now, err := o.outcome(s, switchoverWait+outcomeWait, func(now failover.State) bool { return now.Switchover == nil })
	return o.tell(s, now, target, since, err)
}

// waits says whether to wait for what a change of leader comes to: if that is wanted, and on the leader never, since it ends
// this session too.
func (o *order) waits() bool {
	return o.sess().Cluster().InRecovery() && (len(o.arg) < 3 || o.arg[2].Bool())
}

func (o *order) farewell() string {
	if o.sess().Cluster().InRecovery() {
		return ""
	}
	return "; this session ends when another node leads"
}

func cancelSwitchover(o *order) error {
	if _, err := o.do(failover.Command{Kind: failover.CancelCommand}); err != nil {
		return err
	}
	return o.returnText("no switchover is under way")
}

// failOver is skein_failover(to, accept_data_loss, wait).
func failOver(o *order) error {
	to, err := named(o.cluster.State(), o.text(0))
	if err != nil {
		return err
	}
	since := len(o.cluster.History())
	s, err := o.do(failover.Command{Kind: failover.ForceCommand, Node: string(to.ID), DataLoss: len(o.arg) > 1 && o.arg[1].Bool()})
	if err != nil {
		return err
	}
	if !o.waits() {
		return o.returnText("a failover has begun" + o.farewell())
	}
	now, err := o.outcome(s, forceWait+outcomeWait, func(now failover.State) bool { return now.Forced == nil })
	return o.tell(s, now, to.ID, since, err)
}

// outcome waits until a command is done with and somebody leads, and gives the State in which that is so.
func (o *order) outcome(s failover.State, limit time.Duration, done func(failover.State) bool) (failover.State, error) {
	pace := time.NewTicker(outcomePace)
	defer pace.Stop()
	late := time.After(limit)
	for {
		now := o.cluster.State()
		if now.Version >= s.Version && now.Phase == failover.Leading && done(now) {
			return now, nil
		}
		select {
		case <-pace.C:
		case <-late:
			return now, sqlstate.New(sqlstate.NotInRequiredState, "this has not come to an end yet: the cluster is %s, epoch %d", now.Phase, now.Epoch).
				WithHint("skein status shows what it waits for.")
		case <-o.ctx.Done():
			return now, sqlite3.INTERRUPT
		}
	}
}

// tell says what a change of leader that began with s has come to. to is who was meant to lead, "" for anybody but
// the old leader.
func (o *order) tell(s, now failover.State, to failover.NodeID, since int, err error) error {
	if err != nil {
		return err
	}
	if now.Leader == to || to == "" && now.Leader != s.Leader {
		return o.returnText(nameOf(now, now.Leader) + " leads epoch " + strconv.FormatUint(uint64(now.Epoch), 10))
	}
	time.Sleep(toldWait)
	told := sqlstate.New(sqlstate.NotInRequiredState, "%s leads on", nameOf(now, now.Leader))
	if all := o.cluster.History(); len(all) > since {
		_ = told.WithDetail("%s", all[len(all)-1].Text)
	}
	return told
}

func removeMember(o *order) error {
	m, err := named(o.cluster.State(), o.text(0))
	if err != nil {
		return err
	}
	s, err := o.do(failover.Command{Kind: failover.RemoveCommand, Node: string(m.ID)})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(s.Members, func(other failover.Member) bool { return other.ID == m.ID }) {
		return o.returnText(m.Name + " is leaving: it goes as soon as nothing depends on it")
	}
	return o.returnText(m.Name + " is no member any more")
}

// setMember is skein_set_member(name, attribute, value).
func setMember(o *order) error {
	m, err := named(o.cluster.State(), o.text(0))
	if err != nil {
		return err
	}
	if strings.EqualFold(o.text(1), "delay") {
		return sqlstate.New(sqlstate.InvalidParameterValue, "how late a node shows transactions is its own affair").
			WithHint("Start it with --min-apply-delay, or set skein.min_apply_delay for all.")
	}
	cmd := failover.Command{Kind: failover.MemberCommand, Node: string(m.ID), Values: map[string]string{strings.ToLower(o.text(1)): strings.ToLower(o.text(2))}}
	now, err := o.do(cmd)
	if err != nil {
		return err
	}
	if m, err = named(now, string(m.ID)); err != nil {
		return err
	}
	if special := overview.Attributes(m); special != "" {
		return o.returnText(m.Name + ": " + special)
	}
	return o.returnText(m.Name + ": nothing special")
}

// promote is pg_promote(wait, wait_seconds): this node is to lead. A leader that is alive hands over in order;
// where there is none, this node is promoted if nothing is lost by it.
func promote(c *call) error {
	if err := c.superuserFor("pg_promote"); err != nil {
		return err
	}
	if !c.sess().Cluster().InRecovery() {
		return errNotInRecovery()
	}
	return ordered("pg_promote", takeOver)(c)
}

func takeOver(o *order) error {
	wait := len(o.arg) == 0 || o.arg[0].Bool()
	seconds, err := o.intOr(1, 60)
	if err != nil {
		return err
	}
	if seconds <= 0 {
		return sqlstate.New(sqlstate.InvalidParameterValue, "\"wait_seconds\" must not be negative or zero")
	}
	kind := failover.SwitchoverCommand
	if o.cluster.State().Phase != failover.Leading {
		kind = failover.ForceCommand
	}
	self := o.cluster.Self()
	s, err := o.do(failover.Command{Kind: kind, Node: string(self)})
	if err != nil {
		return err
	}
	if !wait {
		return o.returnBool(true)
	}
	now, err := o.outcome(s, time.Duration(seconds)*time.Second, func(now failover.State) bool { return now.Switchover == nil && now.Forced == nil })
	if errors.Is(err, sqlite3.INTERRUPT) {
		return err
	}
	return o.returnBool(err == nil && now.Leader == self)
}
