package replication

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"skein/internal/history"
)

func testSlots(t *testing.T, path string, b Bounds) *slots {
	t.Helper()
	s, err := openSlots(path, b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tenBytesEach is the size of a log of 100 entries.
func tenBytesEach(after history.LSN) int64 { return 10 * (100 - int64(after)) }

func TestLogIsKeptForTheSlowestSlot(t *testing.T) {
	s := testSlots(t, filepath.Join(t.TempDir(), "slots.json"), Bounds{SlotBytes: -1})
	now := time.Unix(5000, 0)
	if keep, _ := s.keep(now, tenBytesEach, false); keep != 0 {
		t.Errorf("no slot keeps the log from %d on", keep)
	}
	s.use("a", "na", 40, now)
	s.use("b", "nb", 0, now)
	if err := s.create("never used", 3, false, now); err != nil {
		t.Fatal(err)
	}
	if keep, _ := s.keep(now, tenBytesEach, false); keep != 1 {
		t.Errorf("kept from %d, want 1", keep)
	}
	s.advance("b", 60, now)
	s.advance("b", 50, now) // an older ack
	if keep, _ := s.keep(now, tenBytesEach, false); keep != 40 {
		t.Errorf("kept from %d, want 40", keep)
	}
	s.release("a")
	if err := s.drop("a"); err != nil {
		t.Fatal(err)
	}
	if keep, _ := s.keep(now, tenBytesEach, false); keep != 60 {
		t.Errorf("kept from %d, want 60", keep)
	}
}

func TestSlotsMadeAtTheSameTimeAreAllWrittenDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slots.json")
	s := testSlots(t, path, Bounds{})
	var making sync.WaitGroup
	for i := range 30 {
		making.Go(func() {
			name := fmt.Sprint("slot", i)
			if err := s.create(name, 1, true, time.Unix(5000, 0)); err != nil {
				t.Errorf("create %s: %v", name, err)
			}
		})
	}
	making.Wait()
	if got := testSlots(t, path, Bounds{}).list(); len(got) != 30 {
		t.Errorf("%d slots are written down, want 30", len(got))
	}
}

func TestSlotPastABoundIsLostUntilItsFollowerReturns(t *testing.T) {
	now := time.Unix(5000, 0)
	for _, test := range []struct {
		name   string
		bounds Bounds
		after  time.Duration
		lost   string
	}{
		{"bytes", Bounds{SlotBytes: 899}, 0, "wal_removed"},
		{"bytes, just within", Bounds{SlotBytes: 900}, 0, ""},
		{"idle", Bounds{SlotBytes: -1, SlotIdle: time.Minute}, time.Minute + 1, "idle_timeout"},
		{"idle, just within", Bounds{SlotBytes: -1, SlotIdle: time.Minute}, time.Minute, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := testSlots(t, filepath.Join(t.TempDir(), "slots.json"), test.bounds)
			s.use("a", "na", 10, now)
			s.release("a")
			keep, lost := s.keep(now.Add(test.after), tenBytesEach, false)
			if test.lost == "" {
				if keep != 10 || lost != nil {
					t.Errorf("keep %d, lost %v", keep, lost)
				}
				return
			}
			if keep != 0 || len(lost) != 1 || lost[0].Lost != test.lost {
				t.Errorf("keep %d, lost %v", keep, lost)
			}
			if _, again := s.keep(now.Add(test.after), tenBytesEach, false); again != nil {
				t.Error("lost twice")
			}
			s.use("a", "na", 90, now.Add(test.after))
			if keep, _ := s.keep(now.Add(test.after), tenBytesEach, false); keep != 90 {
				t.Errorf("after it came back: kept from %d", keep)
			}
		})
	}
}

func TestActiveSlotIsNotIdle(t *testing.T) {
	s := testSlots(t, filepath.Join(t.TempDir(), "slots.json"), Bounds{SlotBytes: -1, SlotIdle: time.Minute})
	now := time.Unix(5000, 0)
	s.use("a", "na", 10, now)
	if keep, lost := s.keep(now.Add(time.Hour), tenBytesEach, false); keep != 10 || lost != nil {
		t.Errorf("keep %d, lost %v", keep, lost)
	}
}

func TestSlotsOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slots.json")
	now := time.Unix(5000, 0).UTC()
	s := testSlots(t, path, Bounds{SlotBytes: -1})
	s.use("a", "na", 10, now)
	if err := s.create("b", 20, true, now); err != nil {
		t.Fatal(err)
	}
	if err := s.create("b", 20, true, now); !errors.Is(err, ErrSlotExists) {
		t.Errorf("made twice: %v", err)
	}
	if err := s.drop("a"); !errors.Is(err, ErrSlotActive) {
		t.Errorf("dropped while in use: %v", err)
	}
	if err := s.drop("c"); !errors.Is(err, ErrNoSlot) {
		t.Errorf("dropped what is not there: %v", err)
	}
	s.advance("a", 30, now)
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	list := testSlots(t, path, Bounds{}).list()
	want := []Slot{
		{Name: "a", Node: "na", Restart: 30, Reserved: true, LastSeen: now},
		{Name: "b", Restart: 20, Reserved: true, LastSeen: now},
	}
	if len(list) != 2 || list[0] != want[0] || list[1] != want[1] {
		t.Errorf("%+v, want %+v", list, want)
	}
}

func TestUnreadableSlotsFileSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slots.json")
	for _, content := range []string{"{", `{"format_version":2}`} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openSlots(path, Bounds{}); err == nil {
			t.Errorf("%s was taken for slots", content)
		}
	}
}

func TestFullDiskCostsTheDearestSlot(t *testing.T) {
	s := testSlots(t, filepath.Join(t.TempDir(), "slots.json"), Bounds{SlotBytes: -1})
	now := time.Unix(5000, 0)
	size := func(after history.LSN) int64 { return dispensable + 100 - int64(after) }
	for name, lsn := range map[string]history.LSN{"far": 10, "near": 90, "here": 101} {
		s.use(name, name, lsn, now)
	}
	if keep, lost := s.keep(now, size, true); keep != 90 || len(lost) != 1 || lost[0].Name != "far" {
		t.Errorf("keep %d, lost %v", keep, lost)
	}
	if keep, lost := s.keep(now, size, false); keep != 90 || lost != nil {
		t.Errorf("with room again: keep %d, lost %v", keep, lost)
	}
	if keep, lost := s.keep(now, size, true); keep != 101 || len(lost) != 1 || lost[0].Name != "near" {
		t.Errorf("keep %d, lost %v", keep, lost)
	}
	if keep, lost := s.keep(now, size, true); keep != 101 || lost != nil {
		t.Errorf("one that costs next to nothing: keep %d, lost %v", keep, lost)
	}
}

func TestSlotOfACopyThatStreamsElsewhereGoes(t *testing.T) {
	s := testSlots(t, filepath.Join(t.TempDir(), "slots.json"), Bounds{SlotBytes: -1})
	now := time.Unix(5000, 0)
	s.useForCopy("a", "na", 10, now)
	s.useForCopy("b", "nb", 20, now)
	s.release("a")
	s.use("b", "nb", 20, now)
	s.release("b")
	if keep, _ := s.keep(now.Add(copyPatience), tenBytesEach, false); keep != 10 {
		t.Errorf("kept from %d", keep)
	}
	if keep, _ := s.keep(now.Add(copyPatience+1), tenBytesEach, false); keep != 20 {
		t.Errorf("kept from %d", keep)
	}
}

// A member is removed while this node is away, whose slot kept the log for it.
func TestTheLogIsNotKeptForANodeThatWasRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slots.json")
	now := time.Unix(5000, 0)
	members := []string{"na", "nb"}
	open := func() *slots {
		s := testSlots(t, path, Bounds{SlotBytes: -1})
		s.members = func() []string { return members }
		return s
	}
	s := open()
	for _, node := range []string{"a", "b", "guest", "late"} {
		s.use(node, "n"+node, 40, now)
	}
	members = append(members, "nlate")
	if gone := s.former(); gone != nil {
		t.Errorf("%v are members, or have never been", gone)
	}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	members = nil
	s = open()
	if gone := s.former(); gone != nil {
		t.Errorf("%v were removed, as far as is known", gone)
	}
	members = []string{"na"}
	if gone := fmt.Sprint(s.former()); gone != "[b late]" {
		t.Errorf("%v were removed", gone)
	}
	s.use("b", "another", 50, now)
	if gone := fmt.Sprint(s.former()); gone != "[late]" {
		t.Errorf("%v were removed, and another node came under the name of b", gone)
	}
}
