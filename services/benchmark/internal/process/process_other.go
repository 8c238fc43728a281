//go:build !linux

package process

import (
	"errors"
	"os/exec"
	"time"
)

func apart(*exec.Cmd) {}

// CPUs returns nothing: this package pins processes only on Linux.
func CPUs() []int { return nil }

func onCPUs(_ []int, start func() error) error { return start() }

// Pin fails: this package pins processes only on Linux.
func Pin([]int) error { return errors.ErrUnsupported }

func cpuOf(int) (time.Duration, bool) { return 0, false }

// OwnCPU returns false: this package reads CPU time only on Linux.
func OwnCPU() (time.Duration, bool) { return 0, false }
