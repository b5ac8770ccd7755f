package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"skein/internal/pgcatalog"
)

type versionCommand struct{}

func (versionCommand) Run() error {
	fmt.Printf("skein %s%s, %s %s/%s\n", pgcatalog.Release, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// revision is the commit that the binary was built from, where the go command recorded it.
func revision() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return " (" + setting.Value[:min(12, len(setting.Value))] + ")"
		}
	}
	return ""
}
