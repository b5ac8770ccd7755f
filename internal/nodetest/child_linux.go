package nodetest

import "syscall"

// childAttributes has the kernel kill a node when its test dies without a word.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
