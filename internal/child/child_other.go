//go:build !linux

package child

import "syscall"

// Attributes gives a process a group of its own, so that Ctrl-C reaches only its parent, which then stops it in
// order. Without Linux's parent-death signal a process outlives a parent that is killed with kill -9.
func Attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
