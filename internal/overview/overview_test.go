package overview

import (
	"testing"
	"time"

	"skein/internal/failover"
)

// Every setting is changed by the command that its name makes, and only that one.
func TestSettingsAreWhatCommandsSet(t *testing.T) {
	for name, value := range map[string]string{
		"skein.automatic_failover": "off", "skein.failover_timeout": "900", "skein.failover_pause": "1000", "skein.stall_timeout": "2000",
	} {
		s := failover.NewCluster(failover.Member{ID: "a", Name: "a"})
		before := SettingsOf(s.Settings)
		after, _, err := SettingCommand(name, value).Apply(s, failover.Facts{Now: time.Unix(0, 0)})
		if err != nil {
			t.Fatal(name, err)
		}
		if got, ok := SettingValue(after.Settings, name); !ok || got != value {
			t.Errorf("%s is %q, %t", name, got, ok)
		}
		for i, now := range SettingsOf(after.Settings) {
			if (now.Value != before[i].Value) != (now.Name == name) {
				t.Errorf("%s = %s has made %s %s", name, value, now.Name, now.Value)
			}
		}
	}
	if _, ok := SettingValue(failover.DefaultSettings(), "skein.sync_timeout"); ok {
		t.Error("skein.sync_timeout is taken for a setting of the cluster")
	}
	if _, _, err := SettingCommand("skein.sync_timeout", "1").Apply(failover.State{}, failover.Facts{}); err == nil {
		t.Error("a setting that there is not was taken")
	}
}

func TestAttributes(t *testing.T) {
	if got := Attributes(failover.Member{}); got != "" {
		t.Errorf("of nothing special: %q", got)
	}
	m := failover.Member{Priority: 3, NeverLeader: true, Hidden: true, Delay: 90 * time.Minute, Leaving: true}
	if got := Attributes(m); got != "priority 3, never leader, hidden, delayed by 1 h 30 min, leaving" {
		t.Error(got)
	}
}

func TestLasting(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 s", 1540 * time.Millisecond: "1.5 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min 1 s", 2 * time.Hour: "2 h",
		26*time.Hour + time.Minute: "1 d 2 h", -3 * time.Second: "-3.0 s",
	} {
		if got := Lasting(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
