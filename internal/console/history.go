package console

import (
	"context"
	"io"
	"strconv"
	"time"

	"skein/internal/overview"
)

// event is one line of the cluster's history.
type event struct {
	At     string   `json:"at"`
	Kind   string   `json:"kind"`
	Epoch  string   `json:"epoch"`
	Node   string   `json:"node,omitempty"`
	LSN    string   `json:"lsn,omitempty"`
	TookMS *float64 `json:"took_ms,omitempty"`
	Text   string   `json:"event"`
}

const historyQuery = "SELECT at, kind, epoch, node, lsn, took_ms, event FROM skein_history"

// history gives the last events, the oldest of them first; most 0 is all.
func (c *client) history(ctx context.Context, most int) ([]event, error) {
	rows, err := c.query(ctx, answerWait, historyQuery)
	if err != nil {
		return nil, err
	}
	if most > 0 && len(rows) > most {
		rows = rows[len(rows)-most:]
	}
	events := make([]event, len(rows))
	for i, r := range rows {
		events[i] = event{At: r[0], Kind: r[1], Epoch: r[2], Node: r[3], LSN: r[4], Text: r[6]}
		if ms, err := strconv.ParseFloat(r[5], 64); err == nil {
			events[i].TookMS = &ms
		}
	}
	return events, nil
}

// History shows every election, promotion, switchover, degradation and change of members.
func History(ctx context.Context, options Options) error {
	c, err := newClient(options.ConnString)
	if err != nil {
		return err
	}
	defer c.close()
	o, err := c.overview(ctx)
	if err != nil {
		return err
	}
	if o.ByHand {
		return errNotAppointed
	}
	events, err := c.history(ctx, 0)
	if err != nil {
		return err
	}
	if options.JSON {
		return writeJSON(options.Out, events)
	}
	_, err = io.WriteString(options.Out, options.style().history(events))
	return err
}

// history is the table of events; times are those of this machine's zone.
func (s style) history(events []event) string {
	rows := [][]string{{"WHEN", "EPOCH", "KIND", "NODE", "TOOK", "WHAT"}}
	for _, e := range events {
		took := ""
		if e.TookMS != nil {
			took = inWords(time.Duration(*e.TookMS * float64(time.Millisecond)))
		}
		rows = append(rows, []string{local(e.At), e.Epoch, e.Kind, e.Node, took, e.Text})
	}
	return s.table(rows, map[int]bool{1: true, 4: true}, func(int) string { return "" })
}

// inWords keeps milliseconds, which is what failovers take.
func inWords(d time.Duration) string {
	if d < 10*time.Second {
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	return overview.Lasting(d)
}

// local turns a timestamptz as nodes give it, in UTC, into this machine's time.
func local(at string) string {
	for _, layout := range []string{"2006-01-02 15:04:05.999999Z07", "2006-01-02 15:04:05.999999Z07:00"} {
		if t, err := time.Parse(layout, at); err == nil {
			return t.Local().Format("2006-01-02 15:04:05.000")
		}
	}
	return at
}
