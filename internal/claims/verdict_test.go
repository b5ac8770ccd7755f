package claims

import (
	"strings"
	"testing"
	"time"
)

func write(client, number int, o Outcome) Write {
	return Write{Key: Key{client, number}, Outcome: o, Leader: &Leadership{"a", 1}}
}

// Every way in which a final state can be wrong is told; a right one has nothing to tell.
func TestHold(t *testing.T) {
	writes := []Write{write(0, 1, Acknowledged), write(0, 2, Refused), write(0, 3, Unknown), write(1, 1, Acknowledged), write(1, 2, Unknown)}
	right := func() Have { return Have{{0, 1}: 1, {0, 3}: 1, {1, 1}: 1} }
	for name, one := range map[string]struct {
		doctor func(Have)
		want   string
	}{
		"right":                            {func(Have) {}, ""},
		"an unknown write has not arrived": {func(h Have) { delete(h, Key{0, 3}) }, ""},
		"the other one has":                {func(h Have) { h[Key{1, 2}] = 1 }, ""},
		"an acknowledged one is lost":      {func(h Have) { delete(h, Key{1, 1}) }, "lost"},
		"a refused one is there":           {func(h Have) { h[Key{0, 2}] = 1 }, "refused"},
		"an acknowledged one twice":        {func(h Have) { h[Key{0, 1}] = 2 }, "more than once"},
		"an unknown one twice":             {func(h Have) { h[Key{0, 3}] = 2 }, "more than once"},
		"one that nobody wrote":            {func(h Have) { h[Key{7, 1}] = 1 }, "nobody has asked"},
	} {
		t.Run(name, func(t *testing.T) {
			have := right()
			one.doctor(have)
			got := Hold(writes, have).Problems(true)
			if one.want == "" && len(got) > 0 || one.want != "" && (len(got) != 1 || !strings.Contains(got[0], one.want)) {
				t.Errorf("problems %q, want %q", got, one.want)
			}
		})
	}
	have := right()
	delete(have, Key{0, 1})
	v := Hold(writes, have)
	if len(v.Problems(false)) > 0 || len(v.Lost) != 1 || v.Acknowledged != 2 || v.Unknown != 2 || v.Arrived != 1 {
		t.Errorf("where losses are only counted: %+v", v)
	}
}

func TestLeaders(t *testing.T) {
	at := func(sent, told int, address string, epoch uint64) Write {
		return Write{Outcome: Acknowledged, Sent: time.Duration(sent), Told: time.Duration(told), Leader: &Leadership{address, epoch}}
	}
	unheard := at(30, 40, "a", 1)
	unheard.Outcome = Unknown
	for name, one := range map[string]struct {
		writes []Write
		want   string
	}{
		"one leader after the other": {[]Write{at(1, 2, "a", 1), at(3, 4, "b", 2), at(5, 6, "a", 3), at(6, 7, "a", 3)}, ""},
		"the last reply is late":     {[]Write{at(1, 10, "a", 1), at(3, 4, "b", 2)}, ""},
		"a zombie is not believed":   {[]Write{at(3, 4, "b", 2), unheard}, ""},
		"two in one epoch":           {[]Write{at(1, 2, "a", 1), at(3, 4, "b", 1)}, "two nodes"},
		"a zombie acknowledges":      {[]Write{at(1, 2, "a", 1), at(3, 4, "b", 2), at(5, 6, "a", 1)}, "after a later one"},
		"told out of order":          {[]Write{at(3, 4, "b", 2), at(5, 9, "a", 1), at(1, 2, "a", 1)}, "after a later one"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Leaders(one.writes)
			if one.want == "" && len(got) > 0 || one.want != "" && (len(got) != 1 || !strings.Contains(got[0], one.want)) {
				t.Errorf("problems %q, want %q", got, one.want)
			}
		})
	}
}

func TestLongestPause(t *testing.T) {
	var writes []Write
	for _, told := range []int{1, 2, 5, 9, 30, 31} {
		w := write(0, told, Acknowledged)
		w.Told = time.Duration(told)
		writes = append(writes, w)
	}
	refused := write(0, 7, Refused)
	refused.Told = 7
	writes = append(writes, refused)
	for _, one := range [][4]int{{0, 10, 5, 4}, {0, 40, 9, 21}, {5, 6, 5, 1}, {31, 50, 31, 19}} {
		at, pause := LongestPause(writes, time.Duration(one[0]), time.Duration(one[1]))
		if int(at) != one[2] || int(pause) != one[3] {
			t.Errorf("from %d till %d: a pause of %d from %d on, want %d from %d on", one[0], one[1], pause, at, one[3], one[2])
		}
	}
}

// What a cluster reports of its losses is compared with what its clients have lost.
func TestCounted(t *testing.T) {
	reported := given([]string{
		"n1 had entries 5 to 9 of epoch 1 that the cluster does not have; those up to 7 had been shown to clients. They are kept in vault/1-5-9.log",
		"n1 had entries 15 to 19 of epoch 2 that the cluster does not have; none of them had been shown to anybody. They are kept in vault/2-15-19.log",
		"n2 had entries 30 to 30 of epoch 3 that the cluster does not have; those up to 30 had been shown to clients. They are kept in vault/3-30-30.log",
	})
	if reported != 4 {
		t.Fatalf("reported: %d, want 4", reported)
	}
	v := Verdict{Lost: make([]Write, 3), Unknown: 5, Arrived: 4}
	for reported, right := range map[int]bool{2: false, 3: true, 4: true, 5: false} {
		if got := v.Counted(reported); (len(got) == 0) != right {
			t.Errorf("3 lost and 1 of unknown outcome not there, %d reported: %q", reported, got)
		}
	}
}
