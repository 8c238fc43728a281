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

// apart makes the kernel end the child when this process ends without ending it. It also keeps Ctrl-C from
// the child: this process handles it.
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

// onCPUs calls a function that starts a process, so that the process runs on the given processors from its
// first moment on: a process inherits them from the thread that starts it. A Go program counts its processors
// at that moment too.
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

// Pin restricts this process to some processors.
func Pin(cpus []int) error {
	set := setOf(cpus)
	// A new thread inherits the processors of the thread that starts it. The second round finds threads that
	// were started by a thread that was not pinned yet.
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

// cpuOf reads the CPU time clock of a process. The clock's number follows from the process id
// (clock_getcpuclockid(3); Linux, include/linux/posix-timers.h: CPUCLOCK_SCHED is 2).
func cpuOf(pid int) (time.Duration, bool) {
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &at); err != nil {
		return 0, false
	}
	return time.Duration(at.Nano()), true
}

// OwnCPU returns the CPU time of this process so far; false when the system does not tell it.
func OwnCPU() (time.Duration, bool) { return cpuOf(os.Getpid()) }
