package history

import (
	"errors"
	"fmt"
	"testing"
)

func TestBookmarksAreReadAsTheyAreWritten(t *testing.T) {
	for _, test := range []struct {
		text string
		want Bookmark
	}{
		{"0/1A2B@7-5f3c9a1e", Bookmark{[4]byte{0x5f, 0x3c, 0x9a, 0x1e}, 7, 0x1A2B}},
		{"0/0@0-00000000", Bookmark{}},
		{"FFFFFFFF/FFFFFFFF@18446744073709551615-ffffffff", Bookmark{[4]byte{255, 255, 255, 255}, 1<<64 - 1, 1<<64 - 1}},
		{"1/0@12-0000000a", Bookmark{[4]byte{3: 10}, 12, 1 << 32}},
	} {
		got, err := ParseBookmark(test.text)
		if err != nil || got != test.want {
			t.Errorf("%s is read as %+v, %v", test.text, got, err)
		}
		if s := test.want.String(); s != test.text {
			t.Errorf("%+v is written %s, want %s", test.want, s, test.text)
		}
	}
}

func TestMangledBookmarksAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "0/1A2B", "0/1A2B@", "0/1A2B@7", "0/1A2B@7-", "@7-5f3c9a1e", "0/1A2B@7-5f3c9a1", "0/1A2B@7-5f3c9a1e00",
		"0/1A2B@7-5f3c9a1g", "0/1A2B@-7-5f3c9a1e", "0/1A2B@+7-5f3c9a1e", "0/1A2B@0x7-5f3c9a1e", "1A2B@7-5f3c9a1e",
		" 0/1A2B@7-5f3c9a1e", "0/1A2B@7-5f3c9a1e ", "0/1A2B@7@7-5f3c9a1e", "0/1A2B@18446744073709551616-5f3c9a1e",
		"100000000/0@7-5f3c9a1e",
	} {
		if b, err := ParseBookmark(text); !errors.Is(err, errBadBookmark) {
			t.Errorf("%q is read as %v, %v", text, b, err)
		}
	}
}

func FuzzParseBookmark(f *testing.F) {
	for _, s := range []string{"0/1A2B@7-5f3c9a1e", "0/0@0-00000000", "1/FFFFFFFF@18446744073709551615-ffffffff", "0/1A2B", "@-", "0/1@1-5F3C9A1E"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBookmark(s)
		if err != nil {
			if b != (Bookmark{}) {
				t.Errorf("%q is refused and gives %v", s, b)
			}
			return
		}
		if again, err := ParseBookmark(b.String()); err != nil || again != b {
			t.Errorf("%q is %v, which is read as %v, %v", s, b, again, err)
		}
	})
}

func TestWhereABookmarkStands(t *testing.T) {
	here := [4]byte{1, 2, 3, 4}
	h := Epochs{{1, 1}, {3, 9}, {5, 20}}
	const head = 25
	for _, test := range []struct {
		name    string
		epoch   Epoch
		lsn     LSN
		visible LSN
		want    error
	}{
		{"visible, of the epoch that leads", 5, 22, head, nil},
		{"the newest that is visible", 5, 25, head, nil},
		{"here but not visible", 5, 23, 22, ErrAhead},
		{"not here yet", 5, 26, head, ErrAhead},
		{"of an earlier epoch", 1, 8, head, nil},
		{"the entry that begins an epoch", 3, 9, head, nil},
		{"a tail of an earlier epoch", 1, 9, head, &CutError{Last: 8}},
		{"a tail of the last epoch but one", 3, 20, head, &CutError{Last: 19}},
		{"an epoch of which nothing came to be", 2, 9, head, &CutError{Last: 8}},
		{"an epoch of which nothing came to be, at an LSN that others reached", 4, 3, head, &CutError{Last: 19}},
		{"a later leader's", 6, 3, head, ErrAhead},
		{"a later leader's, further on", 6, 99, head, ErrAhead},
		{"the leadership that ended its epoch is not visible and may be cut itself", 3, 21, 19, ErrAhead},
		{"nor is the one that passed its epoch over", 4, 21, 19, ErrAhead},
		{"its own leadership is not visible", 5, 21, 19, ErrAhead},
		{"what its epoch's leader inherited", 3, 4, head, nil},
		{"nothing", 0, 0, 0, nil},
		{"nothing, from the first epoch", 1, 0, 0, ErrAhead},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := Bookmark{here, test.epoch, test.lsn}
			got := h.Locate(b, here, test.visible)
			var cut *CutError
			if errors.As(got, &cut) {
				want, ok := test.want.(*CutError)
				if !ok || cut.Last != want.Last || cut.Bookmark != b {
					t.Errorf("%v, want %v", got, test.want)
				}
			} else if !errors.Is(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestABookmarkOfAnotherCluster(t *testing.T) {
	b := Bookmark{[4]byte{1}, 1, 1}
	err := Epochs{{1, 1}}.Locate(b, [4]byte{2}, 9)
	var other *OtherClusterError
	if !errors.As(err, &other) || other.Bookmark != b || other.Here != [4]byte{2} {
		t.Errorf("%v", err)
	}
}

func TestAPositionIsSpelledAsPrintfWould(t *testing.T) {
	for _, lsn := range []LSN{0, 1, 0xF, 0x10, 0x1A2B, 0xFFFFFFFF, 1 << 32, 0x123456789ABCDEF0, 1<<64 - 1} {
		if got, want := lsn.PgLSN(), fmt.Sprintf("%X/%X", uint64(lsn)>>32, uint32(lsn)); got != want {
			t.Errorf("%d is spelled %s, not %s", lsn, got, want)
		}
	}
	b := Bookmark{Cluster: [4]byte{0x5F, 0x3C, 0, 0xFF}, Epoch: 1<<64 - 1, LSN: 1<<64 - 1}
	if n := testing.AllocsPerRun(100, func() { _ = b.String() }); n > 1 {
		t.Errorf("the spelling of a bookmark allocates %v times", n)
	}
}
