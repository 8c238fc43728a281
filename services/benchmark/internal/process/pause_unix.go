//go:build unix

package process

import "syscall"

// Pause stops the process until Resume: its kernel still takes what is sent to it.
func (r *running) Pause() error { return r.command.Process.Signal(syscall.SIGSTOP) }

// Resume lets the process go on.
func (r *running) Resume() error { return r.command.Process.Signal(syscall.SIGCONT) }
