package overview

import (
	"slices"
	"strconv"
	"time"

	"skein/internal/failover"
)

// Setting is one that the cluster keeps outside of its databases, because it is needed when there is no leader.
type Setting struct {
	Name  string `json:"name"`  // as SHOW and ALTER SYSTEM know it
	Value string `json:"value"` // as ALTER SYSTEM takes it; durations in milliseconds
	Help  string `json:"help"`
}

// setting is one of them under its name in a command of the cluster.
type setting struct {
	name, command, help string
	get                 func(failover.Settings) string
}

var settings = []setting{
	{"skein.automatic_failover", "failover", "off: nobody is promoted without an operator's order", func(s failover.Settings) string {
		if s.Manual {
			return "off"
		}
		return "on"
	}},
	{"skein.failover_timeout", "failover_timeout", "how long a leader may be silent before another one is elected", func(s failover.Settings) string { return inMilliseconds(s.FailoverTimeout) }},
	{"skein.failover_pause", "failover_pause", "how long after a failover the next one waits, unless the leader is dead", func(s failover.Settings) string { return inMilliseconds(s.FailoverPause) }},
	{"skein.stall_timeout", "stall_timeout", "how long one write may take the leader's disk before another node leads", func(s failover.Settings) string { return inMilliseconds(s.StallTimeout) }},
}

func inMilliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// SettingValue gives one of s as ALTER SYSTEM would set it; false if there is none of this name.
func SettingValue(s failover.Settings, name string) (string, bool) {
	i := slices.IndexFunc(settings, func(k setting) bool { return k.name == name })
	if i < 0 {
		return "", false
	}
	return settings[i].get(s), true
}

// SettingCommand changes one of them to a value as SettingValue gives it.
func SettingCommand(name, value string) failover.Command {
	c := failover.Command{Kind: failover.SettingsCommand}
	if i := slices.IndexFunc(settings, func(k setting) bool { return k.name == name }); i >= 0 {
		name = settings[i].command
	}
	if name == "failover" {
		value = map[string]string{"on": "automatic", "off": "manual"}[value]
	}
	c.Values = map[string]string{name: value}
	return c
}

// SettingsOf lists them all.
func SettingsOf(s failover.Settings) []Setting {
	all := make([]Setting, len(settings))
	for i, k := range settings {
		all[i] = Setting{k.name, k.get(s), k.help}
	}
	return all
}
