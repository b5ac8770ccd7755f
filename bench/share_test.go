package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestAProcessGoesOnWhenItsGroupIsDisbanded(t *testing.T) {
	if missing := sharesMissing(); missing != "" {
		t.Skip(missing)
	}
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Wait() }()
	defer func() { _ = sleeper.Process.Kill() }()
	s, err := newShare("test", leaderShare)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.add(sleeper.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if members, err := os.ReadFile(filepath.Join(s.path, "cgroup.procs")); err != nil || strings.TrimSpace(string(members)) != strconv.Itoa(sleeper.Process.Pid) {
		t.Errorf("in the group: %q, %v", members, err)
	}
	if err := s.disband(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path); !os.IsNotExist(err) {
		t.Errorf("the group is still there: %v", err)
	}
	if _, err := processorSeconds(sleeper.Process.Pid); err != nil {
		t.Errorf("the process has ended with its group: %v", err)
	}
}
