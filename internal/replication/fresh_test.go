package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
)

// bound has a node lead under a rule that the cluster counts on.
func (s *node) bound(names string) *node {
	return s.lead(names, commit.SyncConfig{Level: commit.On, Bound: true})
}

// asks what a read must see, for some time.
func (s *node) asks(d time.Duration) (history.LSN, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	at, _, err := s.ReadPosition(ctx, "")
	return at, err
}

// A leader whom others have replaced, and who is cut off on one side only: what it asks reaches its followers, and answers that they gave
// before come late.
func TestALeaderThatHasBeenReplacedHasNoReadAnswered(t *testing.T) { // L2, I7, G13
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).bound("ANY 1 (b, c)")
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		c := n.start("c", dirOf(t, "c")).follow("a")
		defer c.stop(true)
		last := a.write(1, 1)
		b.awaitVisible(last)
		c.awaitVisible(last)
		began := time.Now()
		if at, err := a.asks(time.Second); err != nil || at != last {
			t.Fatalf("%d, %v; want %d", at, err, last)
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("an answer took %v: nobody was asked at once", took)
		}
		for _, f := range []string{"b", "c"} {
			n.between(f, "a").hold(there)
		}
		time.Sleep(time.Second) // they confirm, and nobody hears it
		for _, f := range []*node{b, c} {
			if _, err := f.Promise(9); err != nil {
				t.Fatal(err)
			}
		}
		answered := make(chan error, 1)
		go func() {
			_, err := a.asks(time.Minute)
			answered <- err
		}()
		time.Sleep(time.Second)
		for _, f := range []string{"b", "c"} {
			n.between(f, "a").release(there)
		}
		if err := <-answered; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a read was answered: %v", err)
		}
		for _, f := range []*node{a, b, c} {
			if d, ok := f.Staleness(); !ok || d < time.Minute {
				t.Errorf("%s: a minute after the leader was replaced, staleness %v, %v", f.name, d, ok)
			}
		}
	})
}

// One of those who still follow a leader that has been replaced must not take itself for fresh, though it hears that leader all the time.
func TestNobodyIsFreshByALeaderThatHasBeenReplaced(t *testing.T) { // I7
	inBubble(t, func(t *testing.T, n *network) {
		a := n.start("a", dirOf(t, "a")).bound("ANY 1 (b, c)")
		defer a.stop(true)
		b := n.start("b", dirOf(t, "b")).follow("a")
		defer b.stop(true)
		c := n.start("c", dirOf(t, "c")).follow("a")
		defer c.stop(true)
		d := n.start("d", dirOf(t, "d")).follow("a") // is not counted
		defer d.stop(true)
		e := n.start("e", dirOf(t, "e")).follow("d") // copies from that one
		defer e.stop(true)
		last := a.write(1, 1)
		d.awaitVisible(last)
		e.awaitVisible(last)
		time.Sleep(time.Second)
		for _, f := range []*node{b, c} {
			if _, err := f.Promise(9); err != nil {
				t.Fatal(err)
			}
		}
		replaced := time.Now()
		for i := range 100 {
			a.append(byte(i+2), 1)
			time.Sleep(17 * time.Millisecond)
			for _, f := range []*node{a, d, e} {
				if got, ok := f.Staleness(); !ok || got < time.Since(replaced) {
					t.Fatalf("%s: %v after the leader was replaced, staleness %v, %v", f.name, time.Since(replaced), got, ok)
				}
			}
		}
	})
}

// truth is what was acknowledged, and when.
type truth struct {
	at  []time.Time
	lsn []history.LSN
}

func (w *truth) acknowledged(lsn history.LSN) {
	w.at, w.lsn = append(w.at, time.Now()), append(w.lsn, lsn)
}

// check holds what a node says of itself against it, and gives how stale it says that it is.
func (w *truth) check(t *testing.T, f *node) time.Duration {
	t.Helper()
	now := time.Now()
	d, ok := f.Staleness()
	if !ok {
		t.Errorf("%s does not know how fresh it is", f.name)
		return 0
	}
	visible := f.Visible()
	for i := len(w.at) - 1; i >= 0; i-- {
		if w.at[i].Before(now.Add(-d)) {
			if visible < w.lsn[i] {
				t.Errorf("%s says staleness %v and shows %d; %d was acknowledged %v ago", f.name, d, visible, w.lsn[i], now.Sub(w.at[i]))
			}
			break
		}
	}
	return d
}

func TestFollowersKnowHowFreshTheyAre(t *testing.T) { // I7
	for _, test := range []struct {
		name  string
		names string
	}{
		{"two are asked", "ANY 1 (b, c)"},
		{"both are", "ANY 2 (b, c)"},
		{"nobody is", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *network) {
				a := n.start("a", dirOf(t, "a"))
				if test.names == "" {
					a.lead("", commit.SyncConfig{})
				} else {
					a.bound(test.names)
				}
				defer a.stop(true)
				followers := []*node{n.start("b", dirOf(t, "b")).follow("a"), n.start("c", dirOf(t, "c")).follow("a"), n.start("d", dirOf(t, "d")).follow("c")}
				for _, f := range followers {
					defer f.stop(true)
				}
				for _, f := range []string{"b", "c"} {
					n.between(f, "a").delayBy(there, time.Millisecond)
					n.between(f, "a").delayBy(back, time.Millisecond)
				}
				var w truth
				last := a.write(1, 1)
				for _, f := range followers {
					f.awaitVisible(last)
				}
				time.Sleep(time.Second)
				worst := func(during string, rounds int, pause time.Duration, do func(i int)) map[string]time.Duration {
					most := map[string]time.Duration{}
					for i := range rounds {
						do(i)
						time.Sleep(pause)
						for _, f := range followers {
							most[f.name] = max(most[f.name], w.check(t, f))
						}
					}
					t.Log(during, most)
					return most
				}
				idle := worst("idle", 300, 7*time.Millisecond, func(int) {})
				worst("at first", 20, time.Millisecond, func(i int) { w.acknowledged(a.write(byte(i+200), 1)) })
				busy := worst("busy", 300, time.Millisecond, func(i int) { w.acknowledged(a.write(byte(i+2), 1)) })
				if idle["b"] > 3*DefaultHeartbeat/2 || idle["c"] > 3*DefaultHeartbeat/2 || idle["d"] > 3*DefaultHeartbeat {
					t.Errorf("idle, staleness comes to %v", idle)
				}
				if busy["b"] > 20*time.Millisecond || busy["c"] > 20*time.Millisecond {
					t.Errorf("under load, staleness comes to %v", busy)
				}
				rand := rand.New(rand.NewPCG(1, 2))
				disturbed := worst("disturbed", 600, 5*time.Millisecond, func(i int) {
					if rand.IntN(2) == 0 {
						ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
						defer cancel()
						lsn := a.commit(func(_ int, b []byte) { binary.LittleEndian.PutUint32(b, uint32(i+1)) }, 2)
						if _, err := a.Wait(ctx, lsn, commit.On); err == nil {
							w.acknowledged(lsn)
						}
					}
					f := followers[rand.IntN(2)]
					link, way := n.between(f.name, "a"), direction(rand.IntN(2))
					switch rand.IntN(12) {
					case 0:
						link.hold(way)
					case 1:
						link.cut()
					case 2:
						f.PauseApply()
					default:
						link.release(there)
						link.release(back)
						f.ResumeApply()
					}
				})
				if disturbed["b"] < 10*time.Millisecond {
					t.Error("nothing was disturbed")
				}
				for _, f := range followers {
					f.ResumeApply()
				}
				synctest.Wait()
			})
		})
	}
}

// door lets an Asker in under a name.
func (n *network) door(name string, position func(context.Context, string) (history.LSN, history.Epoch, error)) (stop func()) {
	d := NewDoor(n.link(name))
	d.Handle(ToAsk, Answering(position))
	l := n.listen(name)
	return background(func(ctx context.Context) error { return d.Serve(ctx, l) }, n.t)
}

func TestQuestionsOfOneNodeShareAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		var asked []string
		answer := make(chan history.LSN)
		defer n.door("a", func(ctx context.Context, key string) (history.LSN, history.Epoch, error) {
			asked = append(asked, key)
			select {
			case at := <-answer:
				return at, 3, nil
			case <-ctx.Done():
				return 0, 0, context.Cause(ctx)
			}
		})()
		asker := NewAsker(n.link("f"))
		defer background(asker.Run, t)()
		if _, _, err := asker.Ask(t.Context(), ""); !errors.Is(err, errNobodyToAsk) {
			t.Errorf("asked nobody: %v", err)
		}
		asker.Aim("a", "id-a")
		got := make(chan history.LSN, 100)
		ask := func(key string) {
			go func() {
				at, epoch, err := asker.Ask(t.Context(), key)
				if err != nil || epoch != 3 {
					t.Errorf("%d of epoch %d, %v", at, epoch, err)
				}
				got <- at
			}()
			synctest.Wait()
		}
		ask("")
		for range 20 {
			ask("")
		}
		if len(asked) != 1 {
			t.Fatalf("while a question is under way, %q are asked", asked)
		}
		answer <- 7
		synctest.Wait()
		if len(got) != 1 || <-got != 7 {
			t.Error("those who came later got the answer to a question that was under way")
		}
		if len(asked) != 2 {
			t.Fatalf("those who gathered meanwhile asked %d times", len(asked)-1)
		}
		ask("user:1")
		if len(asked) != 3 || asked[2] != "user:1" {
			t.Fatalf("asked %q", asked)
		}
		answer <- 8
		answer <- 8
		synctest.Wait()
		if len(got) != 21 {
			t.Errorf("%d answers", len(got))
		}
	})
}

func TestQuestionsEndWhenWhoIsAskedDoesNotAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		never := func(ctx context.Context, _ string) (history.LSN, history.Epoch, error) {
			<-ctx.Done()
			return 0, 0, context.Cause(ctx)
		}
		defer n.door("a", never)()
		defer n.door("b", func(context.Context, string) (history.LSN, history.Epoch, error) { return 5, 2, nil })()
		asker := NewAsker(n.link("f"))
		defer background(asker.Run, t)()
		within := func(d time.Duration, what string) {
			t.Helper()
			began := time.Now()
			if _, _, err := asker.Ask(t.Context(), ""); err == nil || time.Since(began) > d {
				t.Errorf("%s: %v after %v", what, err, time.Since(began))
			}
		}
		asker.Aim("a", "id-a")
		within(askTime, "it does not know")
		n.between("f", "a").hold(back)
		within(2*askTime, "nothing comes back")
		n.between("f", "a").release(back)
		asker.Aim("nowhere", "")
		within(0, "nobody is there")
		asker.Aim("b", "id-a")
		within(time.Second, "another node answers")

		asker.Aim("a", "id-a")
		ended := make(chan error, 1)
		go func() {
			_, _, err := asker.Ask(t.Context(), "")
			ended <- err
		}()
		synctest.Wait()
		asker.Aim("b", "id-b")
		if err := <-ended; !errors.Is(err, errAskedOther) {
			t.Errorf("asked where nobody leads any more: %v", err)
		}
		if at, epoch, err := asker.Ask(t.Context(), ""); at != 5 || epoch != 2 || err != nil {
			t.Errorf("%d of epoch %d, %v", at, epoch, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		n.between("f", "b").hold(back)
		if _, _, err := asker.Ask(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
