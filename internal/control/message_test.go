package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"skein/internal/failover"
)

// kinds of messages.
func kinds() []any {
	return []any{&raftHello{}, &raftWelcome{}, &watchHello{}, &watchWelcome{}, &push{}, &numbered{}, &request{}, &answer{}}
}

func framed(body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// Whatever comes, it is an error or a message, and what is sent again is the same message.
func FuzzMessage(f *testing.F) {
	full := failover.NewCluster(failover.Member{ID: "a", PeerAddr: "a:1"})
	full.Switchover = &failover.Switchover{To: "b"}
	full.Rules = []failover.Rule{{ID: 1, Leader: "a", Members: []failover.NodeID{"b"}}}
	for _, v := range []any{
		raftHello{"a", "b"},
		watchHello{"a", "b", 7},
		watchWelcome{"a", "x", "no"},
		push{&full, 9, time.Second},
		numbered{1, failover.Report{Node: "a"}},
		request{"r", &failover.Command{Kind: failover.JoinCommand, Member: full.Members[0]}},
		answer{State: full, Elsewhere: &place{"a", "b"}},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(framed(string(b)))
	}
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add(framed("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range kinds() {
			if readMessage(bytes.NewReader(b), v) != nil {
				continue
			}
			said, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := readMessage(bytes.NewReader(framed(string(said))), again); err != nil {
				t.Fatalf("%s: %v", said, err)
			}
			if twice, err := json.Marshal(again); err != nil || !bytes.Equal(twice, said) {
				t.Errorf("%s becomes %s, %v", said, twice, err)
			}
		}
	})
}

func TestMessagesAreBounded(t *testing.T) {
	var v raftHello
	head := binary.LittleEndian.AppendUint32(nil, maxMessage+1)
	if err := readMessage(bytes.NewReader(head), &v); !errors.Is(err, errTooLarge) {
		t.Errorf("one that is announced too large: %v", err)
	}
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	if err := newMessages(a).send(raftHello{From: strings.Repeat("x", maxMessage)}, time.Second); !errors.Is(err, errTooLarge) {
		t.Errorf("one that would be: %v", err)
	}
	if err := readMessage(bytes.NewReader(framed("{}")[:5]), &v); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("one that is cut off: %v", err)
	}
}

// Whoever has come through the door may be broken. It must not take the node along, nor stay.
func TestNonsenseOnEveryChannel(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.begin("a")
		c.until("it leads", a.leads)
		hello := func(v any) []byte {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return framed(string(b))
		}
		to := string(a.control.self.id())
		for _, test := range []struct {
			name string
			what Channel
			say  []byte
		}{
			{"nothing", Raft, nil},
			{"nothing", Watch, nil},
			{"nothing", Command, nil},
			{"a channel that there is not", "other", nil},
			{"too large", Raft, []byte{0, 0, 0, 0xff}},
			{"too large", Watch, []byte{0, 0, 0, 0xff}},
			{"too large", Command, []byte{0, 0, 0, 0xff}},
			{"no JSON", Watch, framed("{")},
			{"no JSON", Command, framed("{")},
			{"another server", Raft, hello(raftHello{"x/1", "a/0"})},
			{"another node", Watch, hello(watchHello{From: "x", To: "y", Term: 1 << 40})},
			{"raft in disorder", Raft, append(hello(raftHello{"x/1", to}), strings.Repeat("\xff\x00\xc1", 1000)...)},
			{"a raft message that announces much", Raft, append(hello(raftHello{"x/1", to}), 0, 0xdd, 0xff, 0xff, 0xff, 0xff)},
			{"a watch in disorder", Watch, append(hello(watchHello{From: "x", To: a.id}), framed("[]")...)},
			{"a command that there is not", Command, hello(request{"r", &failover.Command{Kind: "what"}})},
		} {
			conn, err := c.dialer("x:1")(t.Context(), a.address, test.what)
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = conn.Write(test.say) }()
			over := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				close(over)
			}()
			select {
			case <-over:
			case <-time.After(2 * watchTimeout):
				if !strings.HasPrefix(test.name, "a raft message") { // Raft itself waits for the rest of those
					t.Errorf("%s on %s: the connection stays", test.name, test.what)
				}
			}
			_ = conn.Close()
		}
		a.do(setting("stall_timeout", "9s"))
		if a.control.watched == "x" {
			t.Error("who meant another node counts as the coordinator")
		}
	})
}

func TestRaftSpeaksWithTheServerThatItMeans(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.begin("a")
		c.until("it leads", a.leads)
		l := newLayer(server{"x", "1"}, "x:1")
		defer func() { _ = l.Close() }()
		l.dial = func(ctx context.Context, address string) (net.Conn, error) {
			return c.dialer("x:1")(ctx, address, Raft)
		}
		self := a.control.self
		for _, test := range []struct {
			at raft.ServerAddress
			ok bool
		}{
			{self.at(a.address), true},
			{server{self.node, "0"}.at(a.address), false},
			{server{"id-b", self.store}.at(a.address), false},
			{"nonsense", false},
			{"nonsense@" + raft.ServerAddress(a.address), false},
		} {
			conn, err := l.Dial(test.at, time.Second)
			if (err == nil) != test.ok {
				t.Errorf("%s: %v", test.at, err)
			}
			if err == nil {
				l.cut(errors.New("cut"))
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					t.Error("a connection outlives a cut")
				}
				if _, err := l.Dial(test.at, time.Second); err == nil {
					t.Error("one begins during a cut")
				}
				l.cut(nil)
			}
		}
		if at := l.Addr().String(); at != "x/1@x:1" {
			t.Errorf("its own address is %s", at)
		}
	})
}
