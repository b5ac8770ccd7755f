package overview

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"skein/internal/failover"
)

// Attributes says in a few words what is special about a member; "" if nothing is.
func Attributes(m failover.Member) string {
	var words []string
	if m.Priority != 0 {
		words = append(words, fmt.Sprintf("priority %d", m.Priority))
	}
	for _, w := range []struct {
		is   bool
		word string
	}{{m.NeverLeader, "never leader"}, {m.Hidden, "hidden"}, {m.Delay > 0, "delayed by " + Lasting(m.Delay)}, {m.Leaving, "leaving"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

// Lasting spells a duration for people: its two largest units, or tenths of a second.
func Lasting(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Lasting(-d)
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return two(int(d/time.Minute), "min", int(d%time.Minute/time.Second), "s")
	case d < 24*time.Hour:
		return two(int(d/time.Hour), "h", int(d%time.Hour/time.Minute), "min")
	}
	return two(int(d/(24*time.Hour)), "d", int(d%(24*time.Hour)/time.Hour), "h")
}

func two(large int, unit string, small int, smaller string) string {
	if small == 0 {
		return fmt.Sprintf("%d %s", large, unit)
	}
	return fmt.Sprintf("%d %s %d %s", large, unit, small, smaller)
}
