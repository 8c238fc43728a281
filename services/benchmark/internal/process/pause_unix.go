//go:build unix

package process

import "syscall"

// Pause stops the process until Resume. Its kernel still accepts connections and bytes.
func (r *running) Pause() error { return r.command.Process.Signal(syscall.SIGSTOP) }

// Resume lets the process continue.
func (r *running) Resume() error { return r.command.Process.Signal(syscall.SIGCONT) }
