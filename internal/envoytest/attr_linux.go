package envoytest

import "syscall"

// DieWithParent has the kernel kill the process when the thread that started it ends.
func DieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
