package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"skein/internal/history"
	"skein/internal/pagestore"
)

// sent gives the bytes of one message.
func sent(t testing.TB, seed, number uint32, k kind, epoch history.Epoch, payload []byte) []byte {
	t.Helper()
	a, b := net.Pipe()
	w := newWire(a, time.Minute)
	w.seed, w.number = seed, number
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(b)
		got <- all
	}()
	if err := w.write(k, 3, epoch, payload[:len(payload)/2], payload[len(payload)/2:]); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	return <-got
}

// bytesConn is a connection from which bytes come.
type bytesConn struct {
	net.Conn
	io.Reader
}

func (c bytesConn) Read(b []byte) (int, error)      { return c.Reader.Read(b) }
func (c bytesConn) SetReadDeadline(time.Time) error { return nil }

func readFrom(b []byte, seed uint32, limit int) (message, error) {
	w := newWire(bytesConn{Reader: bytes.NewReader(b)}, time.Minute)
	w.seed, w.limit = seed, limit
	return w.read()
}

func TestMessageArrivesAsItWasSent(t *testing.T) {
	for _, n := range []int{0, 1, 1000, writePiece - wireHeader - 1, writePiece - wireHeader, writePiece, 3*writePiece + 5, maxPayload} {
		payload := bytes.Repeat([]byte("skein"), n/5+1)[:n]
		m, err := readFrom(sent(t, 7, 0, kindEntries, 9, payload), 7, maxPayload)
		if err != nil || m.kind != kindEntries || m.flags != 3 || m.epoch != 9 || !bytes.Equal(m.payload, payload) {
			t.Errorf("%d bytes: %v (kind %d, %d bytes)", n, err, m.kind, len(m.payload))
		}
	}
}

func TestDamagedForeignOrLateMessageIsRefused(t *testing.T) { // F11, F12
	good := sent(t, 7, 0, kindAck, 9, []byte("payload"))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if m, err := readFrom(bad, 7, maxPayload); err == nil {
			t.Errorf("byte %d flipped: %+v", i, m)
		}
		if _, err := readFrom(good[:i], 7, maxPayload); err == nil || i > 0 && errors.Is(err, io.EOF) {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
	if _, err := readFrom(good, 8, maxPayload); !errors.Is(err, errDamagedFrame) {
		t.Errorf("a frame of another connection: %v", err)
	}
	if _, err := readFrom(sent(t, 7, 1, kindAck, 9, nil), 7, maxPayload); !errors.Is(err, errDamagedFrame) {
		t.Errorf("a frame out of order: %v", err)
	}
}

// A length that has grown on the way would have the reader wait for bytes that nobody sends, for as long as
// heartbeats keep the connection alive.
func TestDamagedHeaderIsRefusedBeforeThePayloadIsAwaited(t *testing.T) { // F12
	refused := func(what string, h []byte, seed uint32) {
		t.Helper()
		w := newWire(bytesConn{Reader: io.MultiReader(bytes.NewReader(h), iotest.ErrReader(errors.New("awaits the payload")))}, time.Minute)
		w.seed, w.limit = seed, maxPayload
		if _, err := w.read(); !errors.Is(err, errDamagedFrame) {
			t.Errorf("%s: %v", what, err)
		}
	}
	header := func(number uint32) []byte { return sent(t, 7, number, kindEntries, 9, make([]byte, 100))[:wireHeader] }
	for bit := range 8 * wireHeader {
		bad := header(0)
		bad[bit/8] ^= 1 << (bit % 8)
		refused(fmt.Sprintf("bit %d of byte %d flipped", bit%8, bit/8), bad, 7)
	}
	refused("a frame out of order", header(1), 7)
	refused("a frame of another connection", header(0), 8)
}

func TestAnnouncedGigabyteTakesNoMemory(t *testing.T) {
	b := make([]byte, wireHeader)
	for _, n := range []uint32{maxStranger + 1, 1 << 30, 1<<32 - 1} {
		binary.LittleEndian.PutUint32(b, n)
		binary.LittleEndian.PutUint32(b[wireSum:], crc32.Checksum(b[:wireSum], castagnoli))
		w := newWire(bytesConn{Reader: bytes.NewReader(b)}, time.Minute)
		if _, err := w.read(); !errors.Is(err, errTooLarge) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if cap(w.body) > 0 {
			t.Errorf("%d bytes taken", cap(w.body))
		}
	}
}

func TestSilentConnectionEnds(t *testing.T) { // F10
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer func() { _ = b.Close() }()
		start := time.Now()
		_, err := newWire(a, 5*time.Second).read()
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestWriteThatNobodyTakesEnds(t *testing.T) { // F13
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer func() { _ = b.Close() }()
		start := time.Now()
		err := newWire(a, 5*time.Second).write(kindEntries, 0, 0, make([]byte, 1000))
		if err == nil || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestSlowConnectionThatMovesDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		var taking sync.WaitGroup
		taking.Go(func() { // 64 KB in four seconds, where one second more would be silence
			piece := make([]byte, writePiece)
			for {
				time.Sleep(4 * time.Second)
				if _, err := io.ReadFull(b, piece); err != nil {
					return
				}
			}
		})
		if err := newWire(a, 5*time.Second).write(kindEntries, 0, 0, make([]byte, 16*writePiece-wireHeader)); err != nil {
			t.Error(err)
		}
		_ = b.Close()
		taking.Wait()
	})
}

func FuzzWire(f *testing.F) {
	f.Add(sent(f, 0, 0, kindHello, 0, []byte("hello")))
	f.Add(append(sent(f, 0, 0, kindEntries, 2, make([]byte, 100)), sent(f, 0, 1, kindAck, 2, make([]byte, 56))...))
	f.Add(make([]byte, wireHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWire(bytesConn{Reader: bytes.NewReader(b)}, time.Minute)
		for {
			m, err := w.read()
			if err != nil {
				break
			}
			decodeAny(m.payload)
		}
		if cap(w.body) > maxStranger+wireHeader {
			t.Errorf("%d bytes taken", cap(w.body))
		}
	})
}

// FuzzMessages reads everything as everything: no decoder may panic or take memory for what is not there.
func FuzzMessages(f *testing.F) {
	f.Add(offer{Epochs: history.Epochs{{Epoch: 1, LSN: 1}, {Epoch: 2, LSN: 9}}}.encode())
	f.Add(verdict{Action: actCut, Reason: "x"}.encode())
	f.Add(snapshotHead{Epochs: history.Epochs{{Epoch: 1, LSN: 1}}}.encode())
	f.Add(pageRun{1, 1, 1}.encode(nil))
	f.Add(ask{wantPages, 1, []pagestore.Run{{Database: 1, First: 1, Count: 3}}}.encode())
	f.Add(refuse(RefusedBusy, "no").encode())
	f.Fuzz(func(_ *testing.T, b []byte) { decodeAny(b) })
}

func decodeAny(b []byte) {
	d := decoder{b: b}
	_ = d.identity()
	_ = decodeRefused(b)
	if o, err := decodeOffer(b); err == nil {
		_, _ = pastOf(history.Epochs{{Epoch: 1, LSN: 1}, {Epoch: 5, LSN: 100}}, 1000, 10).decide(o)
	}
	_, _ = decodeVerdict(b)
	_, _ = decodePast(b)
	_, _, _ = decodePulse(b)
	_, _ = decodeAck(b)
	_, _ = decodeSnapshotHead(b)
	if run, rest, err := decodePageRun(b, 1); err == nil {
		_, _, _ = decodeSums(rest, run.Count)
	}
	if a, err := decodeAsk(b); err == nil && a.pages() > a.what.most() {
		panic("more is asked than may be")
	}
	_, _ = decodeVerified(b, Identity{}, "")
	_, _, _ = decodeQuestion(b)
	_, _, _, _ = decodeAnswer(b)
}

func TestMessagesSurviveTheWire(t *testing.T) {
	epochs := history.Epochs{{Epoch: 1, LSN: 1}, {Epoch: 4, LSN: 9}}
	at := history.Position{Epoch: 4, LSN: 12, Chain: 99}
	o, err := decodeOffer(offer{Head: at, Epochs: epochs, Visible: 11}.encode())
	if err != nil || o.Head != at || len(o.Epochs) != 2 || o.Epochs[1] != epochs[1] || o.Visible != 11 {
		t.Errorf("offer %+v %v", o, err)
	}
	want := verdict{actCut, at, 20, true, "why", []history.LSN{7, 9}}
	v, err := decodeVerdict(want.encode())
	if err != nil || !reflect.DeepEqual(v, want) {
		t.Errorf("verdict %+v %v", v, err)
	}
	past, err := decodePast(encodePast([]history.Position{at, {LSN: 4}}))
	if err != nil || len(past) != 2 || past[0] != at || past[1].LSN != 4 {
		t.Errorf("past %+v %v", past, err)
	}
	a, err := decodeAck(ack{1, 2, 3, 4, 5, 6, 7, 8, 9}.encode(nil))
	if err != nil || a != (ack{1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("ack %+v %v", a, err)
	}
	p, rest, err := decodePulse(append(pulse{1, 2, 3, 4, 5, 6, 7, 8}.encode(nil), "frames"...))
	if err != nil || p != (pulse{1, 2, 3, 4, 5, 6, 7, 8}) || string(rest) != "frames" {
		t.Errorf("pulse %+v %q %v", p, rest, err)
	}
	var question encoder
	question.question(7, "user:42")
	number, key, err := decodeQuestion(question.b[2:])
	if err != nil || number != 7 || key != "user:42" || int(question.b[0]) != len(question.b)-2 {
		t.Errorf("question %d %q %v", number, key, err)
	}
	for _, want := range []askAnswer{{at: 5, epoch: 2}, {err: errors.New("not now")}} {
		b := encodeAnswer(7, "user:42", want)
		number, key, got, err := decodeAnswer(b[2:])
		if err != nil || number != 7 || key != "user:42" || got.at != want.at || got.epoch != want.epoch || fmt.Sprint(got.err) != fmt.Sprint(want.err) || int(b[0]) != len(b)-2 {
			t.Errorf("answer %d %q %+v %v, want %+v", number, key, got, err, want)
		}
	}
	var refused *Refused
	if err := decodeRefused(refuse(RefusedCluster, "%s", strings.Repeat("x", 1000)).encode()); !errors.As(err, &refused) || refused.Code != RefusedCluster || len(refused.Text) != maxString {
		t.Errorf("refusal %v", err)
	}
	bad := offer{Head: at, Epochs: history.Epochs{{Epoch: 4, LSN: 9}, {Epoch: 4, LSN: 10}}}
	if _, err := decodeOffer(bad.encode()); err == nil {
		t.Error("a history that does not ascend was taken")
	}
}
