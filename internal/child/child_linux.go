package child

import "syscall"

// Attributes gives a process a group of its own, so that Ctrl-C reaches only its parent, which then stops it in
// order; and has the kernel kill it when its parent dies without a word. The kernel takes the thread for the parent that
// started it (golang.org/issue/27505): whoever wants to be sure locks the goroutine to its thread until the process has ended.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
