package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"skein/internal/commit"
	"skein/internal/history"
)

// A router process has no data. What a session is without any — its settings, its prepared statements, the block that has
// failed — is the same as on a node, and so is the code.

// Hollow makes an engine without data, roles and databases. Its sessions take any name for true, hold what a client has set
// up, and run what needs no SQLite; everything else has to be kept from them. It follows, for ever.
func Hollow(logger *slog.Logger) *Engine {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		storage: nowhere{}, options: Options{Logger: logger}, started: time.Now(), locks: newAdvisoryLocks(),
		databases: map[string]*Database{}, sessions: map[uint32]*Session{}, schemas: map[history.DatabaseID]history.LSN{},
		hollow: newDatabase("", 0, "", 1),
	}
	e.cluster.Store(&clusterSettings{})
	return e
}

// Begin gives a session of a hollow engine a setting that another node says it begins with, spelled as there.
func (s *Session) Begin(name, value string) {
	p := parameters[name]
	switch {
	case name == "is_superuser":
	case carried(name):
		var err error
		if value, err = checked(name, value); err != nil {
			return // of another version
		}
	default:
		return
	}
	if p == nil || value != p.value {
		s.begin(name, value, "user")
		s.changes++
	}
}

// Shows says whether a session's own settings decide what SHOW gives: a node must be asked for all others.
func (s *Session) Shows(name string) bool {
	p := parameters[name]
	return p != nil && !p.node && !p.agreed && (!p.readOnly || p.report || name == "skein.provenance")
}

var errNowhere = errors.New("this process has no data")

// nowhere is the Storage of a hollow engine.
type nowhere struct{}

func (nowhere) URI(history.DatabaseID) string      { return "" }
func (nowhere) Create(history.DatabaseID) error    { return errNowhere }
func (nowhere) Drop(history.DatabaseID)            {}
func (nowhere) IDs() []history.DatabaseID          { return nil }
func (nowhere) SizeBytes(history.DatabaseID) int64 { return 0 }
func (nowhere) LogBytes() int64                    { return 0 }
func (nowhere) Wait(context.Context, history.LSN, commit.Level) (bool, error) {
	return false, errNowhere
}
func (nowhere) Visible() history.LSN                     { return 0 }
func (nowhere) Await(context.Context, history.LSN) error { return errNowhere }
func (nowhere) Flushed() history.LSN                     { return 0 }
func (nowhere) Epochs() history.Epochs                   { return history.Epochs{} }
func (nowhere) Head() history.LSN                        { return 0 }
func (nowhere) Checkpoint() error                        { return errNowhere }
func (nowhere) Leads() history.Epoch                     { return 0 }
func (nowhere) Cluster() [4]byte                         { return [4]byte{} }
func (nowhere) Configure(commit.SyncConfig)              {}
