package commit

import "skein/internal/history"

// FindFull has the node go by a disk that the last checkpoint has found full.
func (p *Pipeline) FindFull() { p.full.Store(true) }

// BeginRead is ReadPosition up to where it waits: over says whether it may answer, and whether it ever may.
func BeginRead(p *Pipeline) (at history.LSN, over func() (confirmed, ok bool), ok bool) {
	role := p.role.Load()
	if !role.leads() || p.visible.Load() < role.rule.first {
		return 0, nil, false
	}
	at = p.present()
	r := p.want(role)
	return at, func() (confirmed, ok bool) {
		select {
		case <-r.over:
			may := r.confirmed && p.stillLeads(role) == nil
			return may, may
		default:
			return false, p.stillLeads(role) == nil
		}
	}, true
}
