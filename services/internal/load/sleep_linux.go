package load

import (
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper sleeps more precisely than time.Sleep, which may sleep a millisecond too long: the runtime waits
// for timers in epoll, in whole milliseconds. It is for one goroutine, which has a thread to itself until
// close.
type sleeper struct{}

func newSleeper() *sleeper {
	runtime.LockOSThread()
	// By default the kernel adds up to 50 us (prctl(2), PR_SET_TIMERSLACK). An error leaves it like that.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return &sleeper{}
}

func (*sleeper) sleep(d time.Duration) {
	rest := unix.NsecToTimespec(int64(d))
	for {
		var left unix.Timespec
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &rest, &left)
		if !errors.Is(err, unix.EINTR) {
			return
		}
		rest = left // a signal of the runtime interrupted the sleep
	}
}

func (*sleeper) close() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // 0 is the default again
	runtime.UnlockOSThread()
}
