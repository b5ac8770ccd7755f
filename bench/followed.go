package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// asynchronousTarget is what must be left of the leader's throughput with asynchronous followers.
const asynchronousTarget = 0.9

// synchronous is a leader that waits for its one follower with every commit.
func synchronous(clients int, level string, target float64) measurement {
	name := fmt.Sprintf("one-row updates, %s, %s", plural(clients, "client"), level)
	updates := updates(clients)
	updates.level = level
	rate := figure{key: "per_second", name: name + ", per second"}
	if target > 0 {
		rate.target, rate.met = "≥ "+strconv.FormatFloat(target, 'g', -1, 64), atLeastTimes(target)
	}
	return measurement{
		name: name,
		take: func(ctx context.Context, o options, c *cluster, _ int) (sample, error) {
			if err := c.arrange(ctx, 1, true); err != nil {
				return nil, err
			}
			before, err := c.traffic(ctx)
			if err != nil {
				return nil, err
			}
			one, err := updates.run(ctx, o, c.leader)
			if err != nil {
				return nil, err
			}
			after, err := c.traffic(ctx)
			commits := float64(one.Transactions)
			return sample{
				"per_second": one.TPS, "latency_ms": one.LatencyMS, "log_bytes": one.logBytesEach(),
				"sent_bytes":     float64(after.sent-before.sent) / commits,
				"received_bytes": float64(after.received-before.received) / commits,
			}, err
		},
		figures: []figure{
			rate,
			{key: "sent_bytes", name: name + ", bytes sent for each"},
			{key: "received_bytes", name: name + ", bytes of acknowledgement for each"},
		},
	}
}

// traffic is that of the leader with its only follower.
func (c *cluster) traffic(ctx context.Context) (traffic, error) {
	text, err := query(ctx, c.leader, "SELECT client_port FROM pg_stat_replication")
	if err != nil {
		return traffic{}, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return traffic{}, fmt.Errorf("client_port of the follower: %w", err)
	}
	return trafficTo(port)
}

// leaderShare is the part of a processor that leaders have where their followers shall not take it from them. Whatever else runs
// needs less than the rest of two processors.
const leaderShare = 0.4

// asynchronousApart is asynchronous with a leader that has the same part of a processor in each run, as if its followers
// were on other machines: what is left tells its own cost, and not what else runs beside it.
func asynchronousApart(clients int) measurement {
	m := asynchronous(clients, fmt.Sprintf(", the leader with %g of a processor", leaderShare))
	take := m.take
	m.shares = true
	m.take = func(ctx context.Context, o options, c *cluster, round int) (s sample, err error) {
		group, err := newShare("leader", leaderShare)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, group.disband()) }()
		pids, err := children(c.leader.pid())
		if err != nil {
			return nil, err
		}
		for _, pid := range append(pids, c.leader.pid()) { // those that it forks later are in its group
			if err := group.add(pid); err != nil {
				return nil, err
			}
		}
		return take(ctx, o, c, round)
	}
	return m
}

// asynchronous compares a leader with followers and the same leader without.
func asynchronous(clients int, how string) measurement {
	name := "asynchronous followers, " + plural(clients, "client") + how
	target := fmt.Sprintf("≥ %.2f", asynchronousTarget)
	return measurement{
		name: name,
		take: func(ctx context.Context, o options, c *cluster, round int) (sample, error) {
			counts := []int{0, 1, 2}
			if round%2 == 1 {
				slices.Reverse(counts)
			}
			s := sample{}
			for _, n := range counts {
				if err := s.takeFollowed(ctx, o, c, clients, n); err != nil {
					return nil, fmt.Errorf("%s: %w", plural(n, "follower"), err)
				}
			}
			s["left_1"], s["left_2"] = s["per_second_1"]/s["per_second_0"], s["per_second_2"]/s["per_second_0"]
			return s, nil
		},
		figures: []figure{
			{key: "per_second_0", name: name + ": updates per second without"},
			{key: "left_1", name: name + ": what is left with one", digits: 2, alone: true, target: target, met: atLeast(asynchronousTarget)},
			{key: "left_2", name: name + ": what is left with two", digits: 2, alone: true, target: target, met: atLeast(asynchronousTarget)},
			{key: "processor_us_0", name: name + ": leader's processor time for a commit without, µs", digits: 1},
			{key: "processor_us_1", name: name + ": the same with one, µs", digits: 1},
			{key: "processor_us_2", name: name + ": the same with two, µs", digits: 1},
		},
	}
}

func (s sample) takeFollowed(ctx context.Context, o options, c *cluster, clients, followers int) error {
	if err := c.arrange(ctx, followers, false); err != nil {
		return err
	}
	before, err := processorSeconds(c.leader.pid())
	if err != nil {
		return err
	}
	one, err := updates(clients).run(ctx, o, c.leader)
	if err != nil {
		return err
	}
	after, err := processorSeconds(c.leader.pid())
	s[fmt.Sprintf("per_second_%d", followers)] = one.TPS
	s[fmt.Sprintf("processor_us_%d", followers)] = (after - before) * 1e6 / float64(one.Transactions)
	return err
}

// ticks is Linux's USER_HZ, the unit of times in /proc on every architecture that Go runs on.
const ticks = 100

// processorSeconds is the time that a process and its children have run since the process began. That
// of children that have ended is counted with their parent.
func processorSeconds(pid int) (float64, error) {
	own, err := processorTicks(pid, 4)
	if err != nil {
		return 0, err
	}
	running, err := children(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range running {
		if part, err := processorTicks(child, 2); err == nil { // one that has just ended stands with its parent
			own += part
		}
	}
	return float64(own) / ticks, nil
}

var statLine = regexp.MustCompile(`(?s)^[0-9]+ \(.*\) (.*)$`) // a program's name may have any character

// processorTicks sums the first of utime, stime, cutime and cstime of a process, see proc(5).
func processorTicks(pid, fields int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	match := statLine.FindSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("stat of process %d: %s", pid, text)
	}
	const utime = 11 // of what follows the name
	values := strings.Fields(string(match[1]))
	if len(values) < utime+fields {
		return 0, fmt.Errorf("stat of process %d: %s", pid, text)
	}
	var sum int64
	for _, value := range values[utime : utime+fields] {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
