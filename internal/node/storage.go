package node

import (
	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pagestore"
)

// storage is a pipeline as the engine uses it.
type storage struct {
	*commit.Pipeline
	uri    func(history.DatabaseID) string
	ruling *ruling
}

// Configure takes the rule that the settings ask for.
func (s storage) Configure(c commit.SyncConfig) { s.ruling.desire(c) }

func (s storage) URI(id history.DatabaseID) string { return s.uri(id) }

func (s storage) Create(id history.DatabaseID) error {
	_, err := s.Store().Create(id)
	return err
}

func (s storage) Drop(id history.DatabaseID) {
	s.Store().Drop(id)
	s.Kick()
}

func (s storage) IDs() []history.DatabaseID {
	var ids []history.DatabaseID
	for _, db := range s.Store().All() {
		ids = append(ids, db.ID)
	}
	return ids
}

func (s storage) SizeBytes(id history.DatabaseID) int64 {
	if db := s.Store().DB(id); db != nil {
		return int64(db.Head().Pages) * pagestore.PageSize
	}
	return 0
}

func (s storage) LogBytes() int64 { return s.Log().Bytes() }

func (s storage) Head() history.LSN { return s.Log().Received() }
