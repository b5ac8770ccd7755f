package replication

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"skein/internal/pagestore"
)

func TestRunsGoIntoAsFewMessagesAsTheyFitIn(t *testing.T) {
	var got []ask
	for a := range asks(wantPages, []pagestore.Run{{Database: 1, First: 5, Count: 2}, {Database: 1, First: 9, Count: 1}, {Database: 2, First: 1, Count: 300}, {Database: 2, First: 500, Count: 84}, {Database: 2, First: 600, Count: 1}}) {
		got = append(got, a)
	}
	want := []ask{
		{wantPages, 1, []pagestore.Run{{Database: 1, First: 5, Count: 2}, {Database: 1, First: 9, Count: 1}}},
		{wantPages, 2, []pagestore.Run{{Database: 2, First: 1, Count: 128}}},
		{wantPages, 2, []pagestore.Run{{Database: 2, First: 129, Count: 128}}},
		{wantPages, 2, []pagestore.Run{{Database: 2, First: 257, Count: 44}, {Database: 2, First: 500, Count: 84}}},
		{wantPages, 2, []pagestore.Run{{Database: 2, First: 600, Count: 1}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	for a := range asks(wantHashes, nil) {
		t.Errorf("asked for nothing: %+v", a)
	}
	for a := range asks(wantPages, []pagestore.Run{{Database: 1, First: 5, Count: 300}}) { // whoever has enough
		if a.pages() != 128 {
			t.Errorf("%+v", a)
		}
		break
	}
}

func TestAnAskIsReadAsItWasWrittenOrNotAtAll(t *testing.T) {
	for what, most := range map[wanted]int{wantDigests: askDigests, wantHashes: askHashes, wantPages: askPages} {
		a := ask{what, 7, []pagestore.Run{{Database: 7, First: 1, Count: most - 1}, {Database: 7, First: 9999999, Count: 1}}}
		if got, err := decodeAsk(a.encode()); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v, %v", got, err)
		}
		a.runs[1].Count = 2
		if _, err := decodeAsk(a.encode()); !errors.Is(err, errBadMessage) {
			t.Errorf("%d pages: %v", a.pages(), err)
		}
	}
	for _, bad := range []ask{
		{0, 1, nil},
		{4, 1, nil},
		{wantPages, 1, []pagestore.Run{{First: 0, Count: 1}}},
		{wantPages, 1, []pagestore.Run{{First: 1, Count: 0}}},
	} {
		if _, err := decodeAsk(bad.encode()); !errors.Is(err, errBadMessage) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestDigestsDifferWhereHashesDo(t *testing.T) {
	sums := make([]uint64, 3*digestBlock-10)
	for i := range sums {
		sums[i] = uint64(i) * 77
	}
	of := func(change int, pages int) []uint64 {
		other := slices.Clone(sums)
		if change >= 0 {
			other[change]++
		}
		return digests(other, pages)
	}
	same := of(-1, len(sums))
	if len(same) != 3 {
		t.Fatalf("%d digests", len(same))
	}
	for _, test := range []struct{ at, block int }{{0, 0}, {511, 0}, {512, 1}, {1024, 2}, {len(sums) - 1, 2}} {
		got := of(test.at, len(sums))
		for i := range got {
			if (got[i] != same[i]) != (i == test.block) {
				t.Errorf("page %d differs: block %d", test.at, i)
			}
		}
	}
	short := append(slices.Clone(sums[:700]), make([]uint64, len(sums)-700)...)
	if !slices.Equal(digests(sums[:700], len(sums)), digests(short, len(sums))) || len(digests(nil, 513)) != 2 {
		t.Error("what is missing does not count as zeros")
	}
}
