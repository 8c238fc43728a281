//go:build unix

package main

import "syscall"

// controlling makes the command's standard input its controlling terminal, so that Ctrl-C reaches it.
func controlling() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true, Setctty: true} }
