package dialect

import (
	"slices"
	"strings"

	"skein/internal/sqlstate"
)

// The modes of WAIT FOR LSN: what must have come to the position, and where.
const (
	StandbyReplay = "standby_replay"
	StandbyWrite  = "standby_write"
	StandbyFlush  = "standby_flush"
	PrimaryFlush  = "primary_flush"
)

// WaitModes are the modes of WAIT FOR LSN, the default first.
var WaitModes = []string{StandbyReplay, StandbyWrite, StandbyFlush, PrimaryFlush}

// wait reads WAIT FOR LSN 'lsn' [WITH (option, …)]. Its errors are PostgreSQL's, down to the text.
func (p *parser) wait() {
	p.next()
	p.kind(Wait, "WAIT")
	p.expect("for", "lsn")
	w := &WaitStmt{LSN: p.stringValue(), Mode: StandbyReplay}
	p.st.Wait = w
	if p.accept("with") {
		p.expect("(")
		var seen []string
		for !p.dead() {
			at := p.i
			name := p.name()
			if slices.Contains(seen, name) {
				p.refuse(at, sqlstate.SyntaxError, "conflicting or redundant options")
				return
			}
			seen = append(seen, name)
			p.waitOption(w, at, name)
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
	}
	p.finish()
}

// waitOption reads the value of one option, whose name is at the token at.
func (p *parser) waitOption(w *WaitStmt, at int, name string) {
	value, given := "", !p.is(",") && !p.is(")")
	if given {
		value = p.optionValue()
	}
	switch name {
	case "no_throw":
		on, ok := boolean(value)
		if given && !ok {
			p.refuse(at, sqlstate.SyntaxError, "no_throw requires a Boolean value")
		}
		w.NoThrow = on || !given
	case "mode":
		w.Mode = asciiLower(value)
		if given && !slices.Contains(WaitModes, w.Mode) {
			p.fail(sqlstate.New(sqlstate.InvalidParameterValue, "unrecognized value for WAIT option \"mode\": \"%s\"", value).
				WithHint("Available values: %s.", strings.Join(WaitModes, ", ")).At(p.position(at)))
		}
	case "timeout":
		w.Timeout = value
	default:
		p.fail(sqlstate.New(sqlstate.SyntaxError, "option \"%s\" not recognized", name).
			WithHint("The options are MODE, TIMEOUT and NO_THROW.").At(p.position(at)))
	}
	if !given && name != "no_throw" {
		p.refuse(at, sqlstate.SyntaxError, "%s requires a parameter", name)
	}
}

// boolean reads what PostgreSQL takes for an option that is on or off.
func boolean(value string) (on, ok bool) {
	switch asciiLower(value) {
	case "true", "on", "1":
		return true, true
	case "false", "off", "0":
		return false, true
	}
	return false, false
}
