//go:build unix

package process

import "syscall"

// Pause stops the process (SIGSTOP) until Resume. The kernel still accepts connections and bytes for it.
func (r *running) Pause() error { return r.command.Process.Signal(syscall.SIGSTOP) }

// Resume lets the process continue.
func (r *running) Resume() error { return r.command.Process.Signal(syscall.SIGCONT) }
