package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	cpuGroups = "/sys/fs/cgroup/cpu" // cgroup v1

	// sharePeriod is how often a share is handed out anew. The kernel's usual 100 ms would have a node stand still for most of them.
	sharePeriod  = 10 * time.Millisecond
	leastQuota   = time.Millisecond // that the kernel takes
	shareless    = "-1"
	emptyWait    = 5 * time.Second
	emptyingPace = 5 * time.Millisecond
)

// share is a control group whose processes have a part of one processor, and no more.
type share struct{ path string }

// sharesMissing says why this machine has none, or "".
func sharesMissing() string {
	if _, err := os.Stat(filepath.Join(cpuGroups, "cpu.cfs_quota_us")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err.Error()
	}
	s, err := newShare("try", 0.5)
	if err != nil {
		return fmt.Sprintf("no part of a processor can be given to a node here (cgroup v1 at %s, as root): %v", cpuGroups, err)
	}
	if err := s.remove(); err != nil {
		return err.Error()
	}
	return ""
}

// newShare makes a group with a part of one processor.
func newShare(name string, part float64) (*share, error) {
	s := &share{filepath.Join(cpuGroups, fmt.Sprintf("skein-bench-%d-%s", os.Getpid(), name))}
	if err := os.Mkdir(s.path, 0o755); err != nil {
		return nil, err
	}
	if err := s.give(part); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// give changes the part; 0 is all there is.
func (s *share) give(part float64) error {
	quota := shareless
	if part > 0 {
		d := time.Duration(part * float64(sharePeriod))
		if d < leastQuota {
			return fmt.Errorf("a share of %g is less than %v of every %v", part, leastQuota, sharePeriod)
		}
		quota = strconv.FormatInt(d.Microseconds(), 10)
	}
	return errors.Join(
		s.write("cpu.cfs_quota_us", shareless), // a period may not make the present quota too large
		s.write("cpu.cfs_period_us", strconv.FormatInt(sharePeriod.Microseconds(), 10)),
		s.write("cpu.cfs_quota_us", quota),
	)
}

// add puts a process under the limit, with all of its threads, unless it has ended.
func (s *share) add(pid int) error {
	if err := s.write("cgroup.procs", strconv.Itoa(pid)); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

func (s *share) write(file, text string) error {
	return os.WriteFile(filepath.Join(s.path, file), []byte(text), 0o644)
}

// disband removes a group whose processes go on, in the group of this one.
func (s *share) disband() error {
	own, err := ownGroup()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(emptyWait); ; { // one may fork meanwhile
		text, err := os.ReadFile(filepath.Join(s.path, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(text))
		if len(pids) == 0 || time.Now().After(deadline) {
			return s.remove()
		}
		for _, pid := range pids {
			if err := own.write("cgroup.procs", pid); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
}

// ownGroup is the group that this process is in.
func ownGroup() (*share, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && slices.Contains(strings.Split(f[1], ","), "cpu") {
			return &share{filepath.Join(cpuGroups, f[2])}, nil
		}
	}
	return nil, fmt.Errorf("no group for processors in /proc/self/cgroup:\n%s", text)
}

// remove removes a group whose processes have ended, or are about to.
func (s *share) remove() error {
	for deadline := time.Now().Add(emptyWait); ; {
		err := os.Remove(s.path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(emptyingPace)
	}
}
