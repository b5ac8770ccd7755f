package node

import (
	"strconv"
	"time"

	"skein/internal/replication"
)

// configure puts the cluster's settings into force, but for the rule of acknowledgement, which the engine hands
// to the storage. The engine has checked them; it calls this when it opens and at every change, also one
// that has come from the leader.
func (t *term) configure(settings map[string]string) {
	t.applyDelay.Store(int64(milliseconds(settings["skein.min_apply_delay"])))
	t.delay()
	t.peer.Configure(replication.Bounds{
		SlotBytes: number(settings["max_slot_wal_keep_size"], replication.DefaultSlotBytes),
		SlotIdle:  milliseconds(settings["idle_replication_slot_timeout"]),
	})
}

// delay puts into force how long after their commit transactions are shown here: what this member is set to, or else its own flag, or else
// what the cluster says.
func (t *term) delay() {
	d := time.Duration(t.applyDelay.Load())
	if own := t.node.options.ApplyDelay; own > 0 {
		d = own
	}
	if a, ok := t.node.cluster.(*appointed); ok {
		if m, ok := a.member(); ok && m.Delay > 0 {
			d = m.Delay
		}
	}
	t.pipeline.SetApplyDelay(d)
}

// milliseconds reads a duration as settings are kept; what is missing is 0.
func milliseconds(value string) time.Duration {
	return time.Duration(number(value, 0)) * time.Millisecond
}

func number(value string, missing int64) int64 {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return missing
	}
	return n
}
