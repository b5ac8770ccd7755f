package clustertest

import (
	"testing"

	"skein/internal/nodetest"
)

// mutations break, one after the other, the rules that nothing acknowledged is lost by, in the whole process: test must notice.
var mutations = []struct {
	name, test string
	patches    []nodetest.Patch
}{
	// The state that asks for a promise is answered as if it was made, and everything goes on as it was.
	{"no seal", "TestFailover_P1_TheOldLeaderDoesNotKnow", []nodetest.Patch{{
		File: "internal/node/report.go",
		Old:  "	r.Promise, r.Stalled, r.Tainted = p.Promised(), p.Stalled(), p.Tainted()\n",
		New:  "	r.Promise, r.Stalled, r.Tainted = p.Promised(), p.Stalled(), p.Tainted()\n	if d, _ := a.duty(); d.Epoch > r.Promise {\n		r.Promise = d.Epoch\n	}\n",
	}, {
		File: "internal/node/roles.go",
		Old:  "	if d.Epoch > t.pipeline.Promised() {\n",
		New:  "	if d.Epoch > t.pipeline.Promised() && d.Role == failover.Wait {\n		return nil\n	}\n	if d.Epoch > t.pipeline.Promised() {\n",
	}}},
	// A follower says that it has on its disk what it has received, and writes it when it comes to it.
	{"acknowledge before flush", "TestOutage_P5_AFollowerLosesWhatIsNotOnItsDisk", []nodetest.Patch{{
		File: "internal/replication/receiver.go",
		Old:  "	flushed := pipeline.Log().Flushed.Load()\n",
		New:  "	flushed := pipeline.Log().Received()\n",
	}, {
		File: "internal/replication/receiver.go",
		Old:  "	if _, err := r.peer.pipeline.Flush(ctx); err != nil {\n		return &storageFailed{fmt.Errorf(\"flush what was received: %w\", err)}\n	}\n",
		New:  "	r.peer.pipeline.FlushSoon()\n",
	}}},
	{"compare LSN only", "TestFailover_P3_TheLongerLogIsOfAnOlderEpoch", []nodetest.Patch{{
		File: "internal/failover/elect.go",
		Old:  "return b.Position.Less(a.Position)",
		New:  "return b.Position.LSN < a.Position.LSN",
	}}},
	{"tainted nodes count", "TestOutage_P5_AFollowerLosesWhatIsNotOnItsDisk", []nodetest.Patch{{
		File: "internal/node/report.go",
		Old:  "	r.Promise, r.Stalled, r.Tainted = p.Promised(), p.Stalled(), p.Tainted()\n",
		New:  "	r.Promise, r.Stalled = p.Promised(), p.Stalled()\n",
	}, {
		File: "internal/node/roles.go",
		Old:  "if why := t.pipeline.Tainted(); why != \"\" {",
		New:  "if why := t.pipeline.Tainted(); false {",
	}}},
	{"no chain", "TestLeader_RestoredFromAnOlderCopy", []nodetest.Patch{{
		File: "internal/replication/decide.go",
		Old:  "		case err == nil && mine == theirs:\n",
		New:  "		case err == nil && mine.Epoch == theirs.Epoch:\n",
	}, {
		File: "internal/replog/thread.go",
		Old:  "		return f.chain == t.head.Chain && f.epoch >= t.head.Epoch\n",
		New:  "		return f.epoch >= t.head.Epoch\n",
	}}},
}

// noEpochStart has a leader count acknowledgements of what it has inherited before its own first entry is acknowledged.
var noEpochStart = nodetest.Patch{File: "internal/commit/role.go", Old: "	l.rule.first = first\n", New: "	l.rule.first = 0\n"}

// The builds take minutes, in soak; that each still finds what it breaks is seen at once.
func TestEveryMutationHasSomethingToBreak(t *testing.T) {
	nodetest.Overlay(t, noEpochStart)
	for _, m := range mutations {
		nodetest.Overlay(t, m.patches...)
	}
}
