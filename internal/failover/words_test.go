package failover

import (
	"testing"
	"time"
)

func TestDurationsForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		700*time.Millisecond + time.Microsecond: "700ms", 12 * time.Second: "12s", time.Minute: "1m", 70 * time.Second: "1m10s", 10 * time.Minute: "10m",
		time.Hour: "1h0m", 61*time.Minute + 300*time.Millisecond: "1h1m",
	} {
		if got := short(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}
