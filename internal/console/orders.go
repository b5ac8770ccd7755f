package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/overview"
)

const (
	// orderWait is how long the cluster may take to take an order.
	orderWait = 15 * time.Second
	// changeWait is how long a change of leader is waited for, and changePace how often it is looked at.
	changeWait = 75 * time.Second
	changePace = 25 * time.Millisecond
	// toldWait is how much later than a state its events may be known to every node.
	toldWait = 200 * time.Millisecond
)

// order is a client that is about to change something, and how the cluster stood before.
type order struct {
	*client
	Options
	before overview.Overview
	newest string // when the last event was
}

// begin connects, and makes sure that there is something to give orders to.
func begin(ctx context.Context, options Options) (*order, error) {
	c, err := newClient(options.ConnString)
	if err != nil {
		return nil, err
	}
	o := &order{client: c, Options: options}
	if o.before, err = c.overview(ctx); err == nil && o.before.ByHand {
		err = fmt.Errorf("%s: %w; nobody else can be appointed. A node started with --bootstrap begins a cluster that appoints its leader", o.before.Asked, errNotAppointed)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return o, nil
}

// run sends one statement and gives its first value.
func (o *order) run(ctx context.Context, sql string, args ...string) (string, error) {
	rows, err := o.query(ctx, orderWait, sql, args...)
	if err != nil {
		return "", plain(err)
	}
	if len(rows) == 0 || len(rows[0]) == 0 {
		return "", nil
	}
	return rows[0][0], nil
}

// plain gives a node's answer without the wire's trimmings.
func plain(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	text := e.Message
	for _, more := range []string{e.Detail, e.Hint} {
		if more != "" {
			text += "\n" + more
		}
	}
	return errors.New(text)
}

func (o *order) say(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }

// Switchover has another node lead, in order: transactions end first, and nothing is lost. at is "" for now.
func Switchover(ctx context.Context, options Options, to, at string) error {
	o, err := begin(ctx, options)
	if err != nil {
		return err
	}
	defer o.close()
	when, err := moment(at, time.Now())
	if err != nil {
		return err
	}
	sql, args := "SELECT skein_switchover(NULL, NULL, false)", []string(nil)
	switch {
	case to != "" && at != "":
		sql, args = "SELECT skein_switchover($1, $2::timestamptz, false)", []string{to, when}
	case to != "":
		sql, args = "SELECT skein_switchover($1, NULL, false)", []string{to}
	case at != "":
		sql, args = "SELECT skein_switchover(NULL, $1::timestamptz, false)", []string{when}
	}
	return o.change(ctx, to, at != "", sql, args...)
}

// CancelSwitchover ends one that has not begun.
func CancelSwitchover(ctx context.Context, options Options) error {
	return simple(ctx, options, "SELECT skein_cancel_switchover()")
}

// Remove has a member leave the cluster.
func Remove(ctx context.Context, options Options, node string) error {
	return simple(ctx, options, "SELECT skein_remove_member($1)", node)
}

func simple(ctx context.Context, options Options, sql string, args ...string) error {
	o, err := begin(ctx, options)
	if err != nil {
		return err
	}
	defer o.close()
	text, err := o.run(ctx, sql, args...)
	if err == nil {
		o.say("%s", text)
	}
	return err
}

// change gives an order that changes who leads and, unless it is for later, waits for what comes of it: from another
// member if need be, for the one that leads ends its sessions.
func (o *order) change(ctx context.Context, to string, later bool, sql string, args ...string) error {
	events, err := o.history(ctx, 1)
	if err == nil && len(events) > 0 {
		o.newest = events[0].At
	}
	began := time.Now()
	text, err := o.run(ctx, sql, args...)
	if err != nil {
		return err
	}
	if later {
		o.say("%s", text)
		return nil
	}
	for time.Since(began) < changeWait {
		now, err := o.overview(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.New("not waited for: the order stands, skein status shows what has become of it")
		case err == nil && now.Version > o.before.Version && now.Leads && now.Switchover == nil && !now.Forced:
			return o.tell(ctx, now, to, time.Since(began))
		}
		select {
		case <-time.After(changePace):
		case <-ctx.Done():
		}
	}
	return errors.New("this has not come to an end yet; skein status shows what it waits for")
}

// tell says what a change has come to.
func (o *order) tell(ctx context.Context, now overview.Overview, to string, took time.Duration) error {
	if now.Leader == to || to == "" && now.Leader != o.before.Leader || slices.ContainsFunc(now.Members, func(m overview.Member) bool {
		return m.Name == now.Leader && string(m.ID) == to
	}) {
		o.say("%s leads epoch %d. It took %s; %s", now.Leader, now.Epoch, inWords(took), "skein history shows each step.")
		return nil
	}
	time.Sleep(toldWait)
	events, _ := o.history(ctx, 0)
	why := ""
	for _, e := range events {
		if e.At > o.newest {
			why = "\n" + e.Text
		}
	}
	return fmt.Errorf("%s leads on%s", now.Leader, why)
}

// FailoverOptions say what an operator is ready for.
type FailoverOptions struct {
	To             string
	AcceptDataLoss bool
	DryRun         bool
	Yes            bool // do not ask
}

// Failover promotes a node although the leader cannot hand over. What may be lost by it is shown first, and on a terminal
// it asks.
func Failover(ctx context.Context, options Options, f FailoverOptions) error {
	o, err := begin(ctx, options)
	if err != nil {
		return err
	}
	defer o.close()
	if f.DryRun {
		_, err := fmt.Fprint(o.Out, o.style().prospects(o.before))
		return err
	}
	if f.To == "" {
		return errors.New("say who is to lead: --to NODE; skein failover --dry-run shows who could")
	}
	fmt.Fprint(o.Out, o.style().stake(o.before, f))
	if !f.Yes {
		if err := o.ask("Go on?"); err != nil {
			return err
		}
	}
	return o.change(ctx, f.To, false, "SELECT skein_failover($1, "+strconv.FormatBool(f.AcceptDataLoss)+", false)", f.To)
}

var errNotAgreed = errors.New("nothing was done")

// ask wants a yes from a person; where there is none, --yes.
func (o *order) ask(question string) error {
	if !o.Terminal {
		return fmt.Errorf("%w: add --yes where nobody can be asked", errNotAgreed)
	}
	fmt.Fprintf(o.Out, "\n%s [y/N] ", question)
	answer, _ := bufio.NewReader(o.In).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errNotAgreed
	}
	return nil
}

// stake says what a failover to a node may cost.
func (s style) stake(o overview.Overview, f FailoverOptions) string {
	var b strings.Builder
	switch {
	case o.Leads:
		fmt.Fprintf(&b, "%s leads epoch %d and answers. skein switchover --to %s hands over in order.\n", o.Leader, o.Epoch, f.To)
	case o.Leader != "":
		fmt.Fprintf(&b, "%s led last, in epoch %d.\n", o.Leader, o.Epoch)
	}
	for _, m := range o.Members {
		if m.Name == f.To && m.Behind != nil && *m.Behind > 0 {
			fmt.Fprintf(&b, "%s lacks %d entries that %s is known to have.\n", m.Name, *m.Behind, o.Leader)
		}
	}
	switch {
	case o.Blind != "":
		b.WriteString(s.bad("At stake: ") + "unknown, for the cluster's coordinator cannot be asked: " + o.Blind + "\n")
	case o.Leads && f.AcceptDataLoss: // it takes part in the election, with everything
		fmt.Fprintf(&b, "Nothing that was acknowledged is lost by it as long as %s answers: --accept-data-loss is not needed.\n", o.Leader)
	case o.AtStake == "" && !f.AcceptDataLoss, o.Leads:
		b.WriteString("Nothing that was acknowledged is lost by it, or else it is given up.\n")
	case o.AtStake == "":
		b.WriteString("As far as can be seen nothing that was acknowledged is lost by it: --accept-data-loss is not needed.\n")
	case f.AcceptDataLoss:
		b.WriteString(s.bad("At stake: ") + o.AtStake + ". With --accept-data-loss they are given up; this is recorded in skein history.\n")
		b.WriteString("A node that has them and comes back keeps them in its vault/, outside of the database.\n")
	default:
		b.WriteString(s.bad("At stake: ") + o.AtStake + ". Without --accept-data-loss nothing is done that could lose them.\n")
	}
	return b.String()
}

// prospects says who would lead if one had to be found now.
func (s style) prospects(o overview.Overview) string {
	var b strings.Builder
	switch {
	case o.Blind != "":
		fmt.Fprintf(&b, "Unknown: the cluster's coordinator cannot be asked: %s\n", o.Blind)
		return b.String()
	case o.Heir != "":
		fmt.Fprintf(&b, "%s would lead: %s.\n", s.bold(o.Heir), o.HeirWhy)
	default:
		fmt.Fprintf(&b, "Nobody would lead by itself: %s.\n", o.HeirWhy)
	}
	switch {
	case o.Leads:
		fmt.Fprintf(&b, "If %s died now: %s.\n", o.Leader, o.IfLeaderDied)
	case o.AtStake == "":
		b.WriteString("Nothing that was acknowledged would be lost.\n")
	default:
		b.WriteString(s.bad("At stake: ") + o.AtStake + ".\n")
	}
	rows := [][]string{{"NODE", "EPOCH", "POSITION", "BEHIND", "COULD LEAD"}}
	for _, m := range o.Members {
		if m.Role == overview.Witness || m.Name == o.Leader && o.Leads {
			continue
		}
		could := "yes"
		if !m.Eligible {
			could = "no: " + m.Why
		}
		rows = append(rows, []string{m.Name, number(m.Epoch, m), at(m), behind(m), could})
	}
	b.WriteString("\n" + s.table(rows, map[int]bool{1: true, 2: true, 3: true}, func(int) string { return "" }))
	return b.String()
}

// moment reads a time of this machine's zone: 22:30, which is today's or else tomorrow's, 2006-01-02 22:30, or RFC 3339.
func moment(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(text, "+")); err == nil && strings.HasPrefix(text, "+") {
		return now.Add(d).Format(time.RFC3339), nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if at.Before(now) {
				at = at.AddDate(0, 0, 1)
			}
			return at.Format(time.RFC3339), nil
		}
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			if t.Before(now) {
				return "", fmt.Errorf("%s is over", text)
			}
			return t.Format(time.RFC3339), nil
		}
	}
	return "", fmt.Errorf("%q is no time; write 22:30, \"2006-01-02 22:30\", +90m, or 2006-01-02T22:30:00Z", text)
}
