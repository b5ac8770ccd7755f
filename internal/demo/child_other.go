//go:build !linux

package demo

import "syscall"

// childAttributes gives the node a process group of its own, so that Ctrl-C reaches only the demo,
// which then stops it in order. Without Linux's parent-death signal a node outlives a demo that is
// killed with kill -9.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
