package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"skein/internal/overview"
)

const (
	// watchPace is how often a watched cluster is looked at, and watchedEvents how much of its history is shown below.
	watchPace     = 250 * time.Millisecond
	watchedEvents = 8
)

// Options of every command of this package.
type Options struct {
	ConnString string // any member, as for psql; several hosts may be named. "": PGHOST & co, else the demo's nodes
	In         io.Reader
	Out        io.Writer
	Terminal   bool // Out is one, and In too: colours, and questions
	JSON       bool
}

func (o Options) style() style { return style{color: o.Terminal} }

// Status shows how the cluster stands. The error is ErrProblem when something is wrong and ErrUnknown when that
// could not be found out; both have been shown.
func Status(ctx context.Context, options Options) error {
	c, err := newClient(options.ConnString)
	if err != nil {
		return err
	}
	defer c.close()
	o, err := c.overview(ctx)
	if err != nil {
		o = unreached(err)
	}
	if options.JSON {
		err = writeJSON(options.Out, o)
	} else {
		_, err = io.WriteString(options.Out, options.style().draw(o))
	}
	if err != nil {
		return err
	}
	return verdict(o)
}

// unreached is the overview of a cluster of which no node answers.
func unreached(err error) overview.Overview {
	return overview.Overview{
		Health: overview.Unclear, Blind: err.Error(),
		Problems: []overview.Problem{{What: err.Error(), Do: "name a node that runs with --url postgres://user@host:port/database; `skein demo` starts some"}},
	}
}

func verdict(o overview.Overview) error {
	switch o.Health {
	case overview.Healthy:
		return nil
	case overview.Sick:
		return ErrProblem
	}
	return ErrUnknown
}

func writeJSON(out io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", b)
	return err
}

// Members shows the table of Status alone.
func Members(ctx context.Context, options Options) error {
	c, err := newClient(options.ConnString)
	if err != nil {
		return err
	}
	defer c.close()
	o, err := c.overview(ctx)
	if err != nil {
		return err
	}
	if options.JSON {
		return writeJSON(options.Out, o.Members)
	}
	_, err = io.WriteString(options.Out, options.style().members(o))
	return err
}

// Watch shows how the cluster stands until ctx is done: on a terminal in place, elsewhere again whenever something has
// changed that a person would want to know.
func Watch(ctx context.Context, options Options) error {
	c, err := newClient(options.ConnString)
	if err != nil {
		return err
	}
	defer c.close()
	screen := &screen{Options: options}
	screen.open()
	defer screen.close()
	for {
		began := time.Now()
		o, err := c.overview(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var events []event
		if err == nil && !o.ByHand {
			events, _ = c.history(ctx, watchedEvents) // it is an extra
		}
		if err := screen.show(o, events, err); err != nil {
			return err
		}
		select {
		case <-time.After(watchPace - time.Since(began)):
		case <-ctx.Done():
			return nil
		}
	}
}

// screen is what Watch draws on.
type screen struct {
	Options
	last string
}

// The terminal's alternate screen, and how to draw over what is there.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	restOfLine  = "\x1b[K"
	restBelow   = "\x1b[J"
)

func (s *screen) open() {
	if s.Terminal {
		fmt.Fprint(s.Out, enterScreen)
	}
}

// close leaves the last picture behind.
func (s *screen) close() {
	if s.Terminal {
		fmt.Fprint(s.Out, leaveScreen, s.last)
	}
}

func (s *screen) show(o overview.Overview, events []event, failed error) error {
	if s.JSON {
		return s.showJSON(o, failed)
	}
	text, essence := s.picture(o, events, failed)
	if s.Terminal {
		s.last = text
		_, err := io.WriteString(s.Out, home+strings.ReplaceAll(text, "\n", restOfLine+"\n")+restBelow)
		return err
	}
	if essence == s.last {
		return nil
	}
	if s.last != "" {
		text = "\n" + text
	}
	s.last = essence
	_, err := io.WriteString(s.Out, text)
	return err
}

// picture gives the screen, and what of it is worth telling again.
func (s *screen) picture(o overview.Overview, events []event, failed error) (text, essence string) {
	if failed != nil {
		o = unreached(failed)
	}
	text = s.style().draw(o)
	if len(events) > 0 {
		text += "\n" + s.style().history(events)
	}
	lines := []string{style{}.headline(o)}
	for _, p := range o.Problems {
		lines = append(lines, p.What)
	}
	for _, m := range o.Members {
		lines = append(lines, m.Name+string(m.Role)+m.State)
	}
	return text, strings.Join(lines, "\n")
}

func (s *screen) showJSON(o overview.Overview, failed error) error {
	if failed != nil {
		o = unreached(failed)
	}
	b, err := json.Marshal(o)
	if err != nil || string(b) == s.last {
		return err
	}
	s.last = string(b)
	_, err = fmt.Fprintf(s.Out, "%s\n", b)
	return err
}
