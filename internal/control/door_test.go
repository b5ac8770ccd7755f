package control_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"skein/internal/control"
	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/replication"
	"skein/internal/replog"
)

// doored is a Control behind a Door, on TCP.
type doored struct {
	*control.Control
	link   replication.Link
	member failover.Member
	dir    string
	stop   func()
}

var purposes = map[control.Channel]replication.Purpose{
	control.Raft: replication.ToRaft, control.Watch: replication.ToWatch, control.Command: replication.ToCommand,
}

func (d *doored) dial(ctx context.Context, address string, what control.Channel) (net.Conn, error) {
	c, _, err := d.link.Open(ctx, address, purposes[what])
	return c, err
}

func openDoor(t *testing.T, name string, cluster byte, prepare func(d *doored)) *doored {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &doored{dir: filepath.Join(t.TempDir(), "control")}
	d.member = failover.Member{ID: failover.NodeID(name), Disk: "disk-" + name, Name: name, PeerAddr: l.Addr().String()}
	d.link = replication.Link{
		Identity: replication.Identity{Cluster: replog.Cluster{cluster}, Node: name, Disk: d.member.Disk, Incarnation: 1, Name: name, Address: d.member.PeerAddr},
		Secret:   []byte("secret"), Logger: slog.New(slog.DiscardHandler),
	}
	prepare(d)
	d.Control, err = control.Open(control.Options{Dir: d.dir, Self: d.member.ID, Address: d.member.PeerAddr, Dial: d.dial, Report: d.report})
	if err != nil {
		t.Fatal(err)
	}
	door := replication.NewDoor(d.link)
	for what, why := range purposes {
		door.Handle(why, func(ctx context.Context, c net.Conn, _ replication.Identity) { d.Serve(ctx, what, c) })
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := door.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	d.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(d.stop)
	return d
}

// report is that of a node without data, which leads when it should.
func (d *doored) report() failover.Report {
	r := failover.Report{Node: d.member.ID, Disk: d.member.Disk, Incarnation: 1, Ready: true, Heard: -1}
	if d.Control == nil { // it is being opened
		return r
	}
	s := d.State()
	duty := failover.DutyOf(s, r.Node)
	r.Seen, r.Promise = s.Version, duty.Epoch
	if duty.Role == failover.Lead {
		r.Leading, r.Settled = duty.Epoch, duty.Rule.ID
		r.Position = history.Position{Epoch: duty.Epoch, LSN: 1}
	}
	return r
}

// eventually waits for something that takes real time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute it is not so: %s", what)
		}
	}
}

func TestControlsBehindDoors(t *testing.T) {
	t.Parallel()
	begin := func(d *doored) {
		if err := control.Bootstrap(d.dir, d.member.ID, d.member.PeerAddr, failover.NewCluster(d.member)); err != nil {
			t.Fatal(err)
		}
	}
	a := openDoor(t, "a", 1, begin)
	eventually(t, "a leads", func() bool { return a.State().Leader == "a" && a.LeaseUntil() > control.Boottime() })
	join := func(d *doored) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := control.Join(ctx, d.dial, a.member.PeerAddr, d.member); err != nil {
			t.Fatal(err)
		}
	}
	b, c := openDoor(t, "b", 1, join), openDoor(t, "c", 1, join)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, d := range []*doored{c, b, a} {
		if _, err := d.Do(ctx, failover.Command{Kind: failover.SettingsCommand, Values: map[string]string{"stall_timeout": "9s"}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all know all", func() bool { return len(b.State().Members) == 3 && len(c.State().Members) == 3 })
	eventually(t, "another node coordinates", func() bool { return a.Coordinator() != "a" && a.Coordinator() != "" })

	openDoor(t, "x", 2, func(x *doored) { // of another cluster
		begin(x)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		once := func(ctx context.Context, address string, what control.Channel) (net.Conn, error) {
			defer cancel() // it would try for ever
			return x.dial(ctx, address, what)
		}
		var refused *replication.Refused
		if _, err := control.Join(ctx, once, a.member.PeerAddr, x.member); !errors.As(err, &refused) || refused.Code != replication.RefusedCluster {
			t.Errorf("a node of another cluster joins: %v", err)
		}
	})
	c.stop()
	if _, err := a.dial(t.Context(), c.member.PeerAddr, control.Watch); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: %v", err)
	}
	eventually(t, "c counts as gone", func() bool {
		_, f, err := a.Observe(ctx)
		if err != nil {
			return false
		}
		for _, o := range f.Nodes {
			if o.Node == "c" {
				return o.Refused
			}
		}
		return false
	})
}

func TestBoottimeGoesOn(t *testing.T) {
	a := control.Boottime()
	time.Sleep(10 * time.Millisecond)
	if passed := control.Boottime() - a; passed < 10*time.Millisecond || passed > time.Minute {
		t.Errorf("10 ms take %v", passed)
	}
}
