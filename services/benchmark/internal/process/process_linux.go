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

// apart makes the kernel kill the child when this process dies without having stopped it. It also puts the
// child into a process group of its own, so that Ctrl-C reaches only this process.
func apart(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// CPUs returns the numbers of the CPUs that this process may run on.
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

// onCPUs calls a function that starts a process. The process runs only on the given CPUs from its start: it
// inherits them from the thread that starts it. A Go program also counts its CPUs once, when it starts.
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

// Pin restricts all threads of this process to some CPUs.
func Pin(cpus []int) error {
	set := setOf(cpus)
	// A new thread inherits the CPUs of the thread that starts it. The second round finds the threads that an
	// unpinned thread started during the first round.
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

// OwnCPU returns the CPU time of this process so far. It returns false when the system does not report it.
func OwnCPU() (time.Duration, bool) { return cpuOf(os.Getpid()) }
