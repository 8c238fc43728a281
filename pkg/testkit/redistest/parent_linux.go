package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the server when the test process ends without its cleanups, as after a
// timeout of go test.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
