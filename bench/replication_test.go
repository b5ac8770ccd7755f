package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTableOfReplicationTakesMediansOfRounds(t *testing.T) {
	take := func(context.Context, options, *cluster, int) (sample, error) { return nil, nil }
	m := measurement{name: "updates", take: take, figures: []figure{
		{key: "rate", name: "updates, per second", target: "≥ 2", met: atLeastTimes(2)},
		{key: "ms", name: "visible, ms", digits: 2, target: "< PostgreSQL's", met: belowPostgres},
		{key: "left", name: "left", digits: 2, alone: true, target: "≥ 0.90", met: atLeast(0.9)},
	}}
	r := &replication{Measurements: []measured{{
		Name: "updates", figures: m.figures, Samples: map[string][]sample{
			"PostgreSQL": {{"rate": 100, "ms": 4, "left": 0.5}, {"rate": 900, "ms": 5, "left": 0.6}, {"rate": 200, "ms": 6, "left": 0.7}},
			"Skein":      {{"rate": 500, "ms": 5, "left": 0.95}},
		},
	}}}
	table := r.table().markdown()
	for _, want := range []string{
		"| updates, per second | 200 | 500 | 2.50 | ≥ 2 | met |",
		"| visible, ms | 5.00 | 5.00 | 1.00 | < PostgreSQL's | missed |",
		"| left | 0.60 | 0.95 |  | ≥ 0.90 | met |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("no line %s in\n%s", want, table)
		}
	}
	delete(r.Measurements[0].Samples, "Skein")
	if table := r.table().markdown(); !strings.Contains(table, "| updates, per second | 200 | – |  | ≥ 2 | not measured |") {
		t.Errorf("one server alone:\n%s", table)
	}
}

func TestMeasurementThatFailedLeavesTheOthers(t *testing.T) {
	m := measurement{name: "updates", take: func(_ context.Context, _ options, c *cluster, _ int) (sample, error) {
		if c.name() == "Skein" {
			return nil, io.ErrUnexpectedEOF
		}
		return sample{"rate": 1}, nil
	}}
	result := take(t.Context(), options{rounds: 2}, m, []*cluster{{leader: &postgres{}}, {leader: &skein{}}})
	if len(result.Samples["PostgreSQL"]) != 2 || result.Failed["Skein"] == "" || len(result.Failed) != 1 {
		t.Errorf("%+v", result)
	}
}

func TestMeasurementsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range measurements(options{run: regexp.MustCompile(""), commits: 10, megabytes: 10}) {
		if len(m.figures) == 0 {
			t.Errorf("%s has no figures", m.name)
		}
		for _, f := range m.figures {
			if seen[f.name] {
				t.Errorf("two lines are called %q", f.name)
			}
			seen[f.name] = true
			if (f.target == "") != (f.met == nil) {
				t.Errorf("%s: a target without a rule, or a rule without a target", f.name)
			}
		}
	}
}

func TestQuantiles(t *testing.T) {
	var values []time.Duration
	for i := 1000; i > 0; i-- {
		values = append(values, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 501, 0.99: 991, 1: 1000} {
		if got := quantile(values, q); got != want {
			t.Errorf("%g: %d, want %d", q, got, want)
		}
	}
}

func TestTrafficOfAConnection(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()

	port := client.LocalAddr().(*net.TCPAddr).Port
	before, err := trafficTo(port)
	switch {
	case errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		t.Skip("this system does not tell: ", err)
	case err != nil:
		t.Fatal(err)
	}
	exchange(t, server, client, 12345)
	exchange(t, client, server, 678) // which also acknowledges what came before
	after, err := trafficTo(port)
	if err != nil {
		t.Fatal(err)
	}
	if sent := after.sent - before.sent; sent != 12345 {
		t.Errorf("%d bytes sent", sent)
	}
	if received := after.received - before.received; received != 678 {
		t.Errorf("%d bytes received", received)
	}
	if _, err := trafficTo(1); err == nil {
		t.Error("traffic to a port that nobody is connected to")
	}
}

func exchange(t *testing.T, from, to net.Conn, n int) {
	t.Helper()
	if _, err := from.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

func TestProcessorTimeGrows(t *testing.T) {
	before, err := processorSeconds(os.Getpid())
	if err != nil {
		t.Skip("this system does not tell: ", err)
	}
	for {
		after, err := processorSeconds(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after < before {
			t.Fatalf("%g after %g", after, before)
		}
		if after > before { // reading /proc takes time enough
			return
		}
	}
}

func TestNoiseIsWholeRows(t *testing.T) {
	text, err := io.ReadAll(newNoise(41))
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(rows) != fillBytes/fillRow {
		t.Fatalf("%d rows", len(rows))
	}
	id, body, _ := strings.Cut(rows[0], "\t")
	if id != "42" || len(body) != fillRow || rows[0][3:] == rows[1][3:] {
		t.Errorf("first row: %s", rows[0])
	}
}
