//go:build soak

package clustertest

import "testing"

// More of TestWires_F01_F03_LeaderCutOff.
func TestSoakWires_LeaderCutOff(t *testing.T) {
	wiresCutOff(t, map[string]func(e *elected, leader *member){
		"F02 nobody hears it": func(e *elected, leader *member) {
			for _, m := range e.others(leader) {
				e.wires.deafen(m, leader)
			}
		},
		"only the port for nodes": func(e *elected, leader *member) { e.wires.close(leader, wiresPeer) },
		"its cable is pulled":     func(e *elected, leader *member) { e.wires.plug(leader, "down") },
	})
}

// F06 with real packets: one link is broken. Nobody is replaced for that, and commits go on.
func TestSoakWires_F06_OneLink(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	for name, cut := range map[string]func(e *elected, leader *member){
		"to the coordinator": func(e *elected, leader *member) { e.wires.part(leader, e.coordinator()) },
		"to a follower":      func(e *elected, leader *member) { e.wires.part(leader, e.other(e.coordinator())) },
		"between followers":  func(e *elected, leader *member) { e.wires.part(e.coordinator(), e.other(e.coordinator())) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newWired(t, 3, "ANY 1 (*)")
			e.load()
			e.stays(func() {
				cut(e, e.leader)
				e.forLonger(silence)
				e.progress(20)
				e.wires.heal(e.members...)
				e.progress(20)
			})
			e.caughtUp()
			e.end(true)
		})
	}
}
