package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// apart lets the kernel end the process when this one ends without doing it, and keeps a Ctrl-C from it,
// which is for this process to act on.
func apart(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// CPUs returns the processors that this process may run on.
func CPUs() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &set) != nil {
		return nil
	}
	var all []int
	for cpu := range len(set) * strconv.IntSize {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	return all
}

func setOf(cpus []int) *unix.CPUSet {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return &set
}

// onCPUs calls a function that starts a process, so that the process runs on some processors only, from its
// first moment on: it inherits them from the thread that starts it. Go programs count their processors
// then, too.
func onCPUs(cpus []int, start func() error) error {
	if len(cpus) == 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, setOf(cpus)); err != nil {
		return fmt.Errorf("CPUs %v: %w", cpus, err)
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &before))
}

// Pin keeps this process to some processors.
func Pin(cpus []int) error {
	set := setOf(cpus)
	// A thread that is started meanwhile has the processors of the one that starts it: the second round
	// finds those whose starter was not pinned yet.
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("CPUs %v: %w", cpus, err)
			}
		}
	}
	return nil
}

// cpuOf reads the clock of a process's CPU time, whose number is made of the process's
// (clock_getcpuclockid(3); Linux, include/linux/posix-timers.h: CPUCLOCK_SCHED is 2).
func cpuOf(pid int) (time.Duration, bool) {
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &at); err != nil {
		return 0, false
	}
	return time.Duration(at.Nano()), true
}

// OwnCPU returns how much time this process has had of the processors; false when it is not known.
func OwnCPU() (time.Duration, bool) { return cpuOf(os.Getpid()) }
