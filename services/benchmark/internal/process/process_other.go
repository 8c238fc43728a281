//go:build !linux

package process

import (
	"errors"
	"os/exec"
	"time"
)

func apart(*exec.Cmd) {}

// CPUs returns nothing: only Linux can pin processes.
func CPUs() []int { return nil }

func onCPUs(_ []int, start func() error) error { return start() }

// Pin fails: only Linux can pin processes.
func Pin([]int) error { return errors.ErrUnsupported }

func cpuOf(int) (time.Duration, bool) { return 0, false }

// OwnCPU returns false: only Linux tells the CPU time.
func OwnCPU() (time.Duration, bool) { return 0, false }
