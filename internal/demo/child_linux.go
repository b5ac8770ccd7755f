package demo

import "syscall"

// childAttributes gives the node a process group of its own, so that Ctrl-C reaches only the demo,
// which then stops it in order; and has the kernel kill it when the demo dies without a word.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
