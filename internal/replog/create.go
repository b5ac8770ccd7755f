package replog

import (
	"errors"
	"fmt"

	"skein/internal/fault"
	"skein/internal/history"
)

// Create makes a log without entries that goes on behind at, for a node that holds the databases as
// of at and epochs as its history. A power cut leaves no log or a whole one. It is ErrExists if dir
// holds a log.
func Create(dir string, o Options, at history.Position, epochs history.Epochs) error {
	o = o.withDefaults()
	if past := epochs.Until(at.LSN); past.Last() != at.Epoch {
		return fmt.Errorf("create log: epochs %v do not lead to %v", epochs, at)
	}
	if err := MakeDir(dir); err != nil {
		return err
	}
	for _, suffix := range []string{segmentSuffix, cleanMark} {
		names, err := listFiles(dir, suffix)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return fmt.Errorf("create log: %w: %s", ErrExists, dir)
		}
	}
	l := newLog(dir, o)
	if err := errors.Join(l.openSpares(), l.closeFiles()); err != nil { // of a Create that was cut off
		return err
	}
	l.spares = nil
	if err := l.saveEpochs(epochs.Until(at.LSN)); err != nil {
		return err
	}
	if err := l.create(at); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	return l.closeFiles()
}

// create begins a log with one segment. Its name comes last: with that the log is there.
func (l *Log) create(at history.Position) error {
	s, err := l.newSpare()
	if err != nil {
		return err
	}
	s.number, s.first, s.before = 1, at.LSN+1, at
	l.segments = []*segment{s}
	if err := fault.Hit("log.create"); err != nil {
		return err
	}
	if err := l.options.disk.writeAt(s.file, encodeSegmentHeader(l.options.Cluster, s.number, s.first, at), 0); err != nil {
		return err
	}
	if err := l.options.disk.sync(s.file); err != nil {
		return err
	}
	return l.name(s)
}

func (l *Log) closeFiles() error {
	var err error
	if l.saved.file != nil {
		err = l.saved.file.Close()
	}
	for _, s := range append(l.segments, l.spares...) {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
