//go:build !linux

package nodetest

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
