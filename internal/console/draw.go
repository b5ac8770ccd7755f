package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"skein/internal/failover"
	"skein/internal/overview"
)

// style is how a terminal shows things; the zero value is for files and pipes.
type style struct{ color bool }

func (s style) paint(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) good(text string) string  { return s.paint("32", text) }
func (s style) bad(text string) string   { return s.paint("1;31", text) }
func (s style) dim(text string) string   { return s.paint("2", text) }
func (s style) bold(text string) string  { return s.paint("1", text) }
func (s style) doubt(text string) string { return s.paint("33", text) }

// draw is the status screen: whether all is well, what is not and what to do, then who is there, then what may fail.
func (s style) draw(o overview.Overview) string {
	var b strings.Builder
	b.WriteString(s.headline(o) + "\n")
	for _, p := range o.Problems {
		b.WriteString(s.bad("! ") + p.What + "\n")
		if p.Do != "" {
			b.WriteString("  → " + p.Do + "\n")
		}
	}
	if len(o.Members) > 0 {
		b.WriteString("\n" + s.members(o))
	}
	if more := s.outlook(o); more != "" {
		b.WriteString("\n" + more)
	}
	return b.String()
}

func (s style) headline(o overview.Overview) string {
	mark := map[overview.Health]string{
		overview.Healthy: s.good("● healthy"), overview.Sick: s.bad("● problem"), overview.Unclear: s.doubt("● unknown"),
	}[o.Health]
	return mark + "   " + strings.Join(append([]string{lead(o)}, acknowledging(o)...), " · ")
}

// lead says who leads, or what is done about it that nobody does.
func lead(o overview.Overview) string {
	epoch := "epoch " + strconv.FormatUint(uint64(o.Epoch), 10)
	switch {
	case o.Blind != "" && o.Version == 0:
		return "nothing is known yet"
	case o.Leads && o.Blind != "":
		return o.Leader + " says that it leads " + epoch
	case o.Blind != "" && o.Leader != "":
		return o.Leader + " led last, as far as " + o.Asked + " knows (" + epoch + ")"
	case o.ByHand && !o.Leads:
		return o.Asked + " follows"
	case o.Leads:
		return o.Leader + " leads " + epoch
	case o.Health == overview.Unclear && o.Leader != "":
		return "whether " + o.Leader + " leads " + epoch + " is not known yet"
	case o.Candidate != "":
		return o.Candidate + " copies what it lacks, then leads " + epoch
	case o.Leader == "":
		return "no leader yet · electing, " + epoch
	case o.Phase == "leading":
		return "no leader · " + o.Leader + " was appointed for " + epoch
	}
	return "no leader · electing, " + epoch + cause(o)
}

func cause(o overview.Overview) string {
	if o.Cause == "" {
		return ""
	}
	return " (" + o.Cause + ")"
}

// acknowledging says what a commit waits for.
func acknowledging(o overview.Overview) []string {
	switch {
	case !o.Leads:
		return nil
	case o.Rule == "" || o.Mode == string(failover.Asynchronous):
		return []string{o.Mode}
	}
	return []string{o.Mode + ": " + o.Rule}
}

// members is the table. A question mark stands for what cannot be known.
func (s style) members(o overview.Overview) string {
	rows := [][]string{{"  NODE", "ROLE", "STATE", "EPOCH", "POSITION", "BEHIND", "HEARD", "CLIENTS AT", ""}}
	for _, m := range o.Members {
		mark := " "
		if m.Role == overview.Leader {
			mark = "*"
		}
		address := m.Address
		if address == "" {
			address = "–"
		}
		rows = append(rows, []string{
			mark + " " + m.Name, string(m.Role), m.State, number(m.Epoch, m), at(m), behind(m), heard(m), address, notes(o, m),
		})
	}
	return s.table(rows, map[int]bool{3: true, 4: true, 5: true, 6: true}, func(row int) string {
		m := o.Members[row-1]
		switch {
		case m.Role == overview.Leader:
			return "1"
		case m.Role == overview.Away:
			return "31"
		case m.Role == overview.Unknown:
			return "2"
		}
		return ""
	})
}

func number[T ~uint64](v *T, m overview.Member) string {
	switch {
	case v != nil:
		return strconv.FormatUint(uint64(*v), 10)
	case m.Role == overview.Witness:
		return "–"
	}
	return "?"
}

func at(m overview.Member) string {
	switch {
	case m.Head != nil:
		return m.Head.PgLSN()
	case m.Role == overview.Witness:
		return "–"
	}
	return "?"
}

func behind(m overview.Member) string {
	switch {
	case m.Behind != nil:
		return strconv.FormatInt(*m.Behind, 10)
	case m.Role == overview.Leader || m.Role == overview.Witness:
		return "–"
	}
	return "?"
}

// heard is since when the coordinator has heard nothing. Below two seconds nobody needs to know.
func heard(m overview.Member) string {
	switch {
	case m.Silence == nil:
		return "?"
	case *m.Silence < 2000:
		return "now"
	}
	return overview.Lasting(time.Duration(*m.Silence*float64(time.Millisecond))) + " ago"
}

func notes(o overview.Overview, m overview.Member) string {
	var words []string
	if m.Synchronous {
		words = append(words, "sync")
	}
	if m.Name == o.Coordinator {
		words = append(words, "coordinator")
	}
	if m.Voter && m.Votes != nil && !*m.Votes {
		words = append(words, "no vote yet")
	}
	if m.Attributes != "" {
		words = append(words, m.Attributes)
	}
	return strings.Join(words, ", ")
}

// table aligns cells; the first row is the head. A column without any text is left out.
func (s style) table(rows [][]string, right map[int]bool, paint func(row int) string) string {
	widths := make([]int, len(rows[0]))
	used := make([]bool, len(rows[0]))
	for n, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			used[i] = used[i] || n > 0 && cell != ""
		}
	}
	var b strings.Builder
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if !used[i] {
				continue
			}
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if line.Len() > 0 {
				line.WriteString("  ")
			}
			if right[i] {
				line.WriteString(padding + cell)
			} else {
				line.WriteString(cell + padding)
			}
		}
		text := strings.TrimRight(line.String(), " ")
		switch {
		case n == 0:
			text = s.dim(text)
		case paint(n) != "":
			text = s.paint(paint(n), text)
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}

// outlook says what may happen.
func (s style) outlook(o overview.Overview) string {
	var rows [][2]string
	if o.Leads && o.IfLeaderDied != "" && o.Blind == "" {
		rows = append(rows, [2]string{"if " + o.Leader + " died now", o.IfLeaderDied})
	}
	if o.Survives != nil && o.Leads {
		rows = append(rows, [2]string{"can lose now", canLose(o)})
	}
	if sw := o.Switchover; sw != nil {
		rows = append(rows, [2]string{"switchover", sw.String()})
	}
	if len(o.Losses) > 0 {
		rows = append(rows, [2]string{"lost commits", "epochs that began without proof that nothing was missing: " + epochs(o) + "; skein history says why"})
	}
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%s  %s\n", s.dim(r[0]+strings.Repeat(" ", width-len(r[0]))), r[1])
	}
	return b.String()
}

// canLose says how many nodes may fail at once.
func canLose(o overview.Overview) string {
	nodes := "no node: commits would be lost, or nobody would lead until it is back"
	switch *o.Survives {
	case 0:
	case 1:
		nodes = "any one node"
	default:
		nodes = fmt.Sprintf("any %d nodes", *o.Survives)
	}
	if *o.WritesSurvive > 0 {
		nodes += "; commits go on without " + strconv.Itoa(*o.WritesSurvive) + " of the standbys"
	}
	return nodes
}

func epochs(o overview.Overview) string {
	var all []string
	for _, e := range o.Losses {
		all = append(all, strconv.FormatUint(uint64(e), 10))
	}
	return strings.Join(all, ", ")
}
