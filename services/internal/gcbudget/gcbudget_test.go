package gcbudget

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for alive, want := range map[uint64]int{
		0: Most, 1: Most, 1 << 20: Most, Bytes / 4: Most, Bytes / 2: 200, Bytes: 100, 2 * Bytes: 50, 4 * Bytes: 25,
		1 << 40: 1, 1<<64 - 1: 1,
	} {
		if got := percent(alive); got != want {
			t.Errorf("%d bytes alive: %d %%, want %d %%", alive, got, want)
		}
	}
}

// TestGarbageStaysWithinItsBudget: garbage stays within its budget, however large the live heap is. A GOGC
// of the operator is not changed. Each case runs in a process of its own.
func TestGarbageStaysWithinItsBudget(t *testing.T) {
	if size := os.Getenv("GCBUDGET_TEST"); size != "" {
		report(size)
		return
	}
	for _, c := range []struct {
		alive     int
		gogc      string
		least, up int // bounds of the heap goal, beyond the live heap
	}{
		{alive: 16 << 20, least: 64 << 20, up: 80 << 20},
		{alive: 128 << 20, least: 200 << 20, up: 300 << 20},
		{alive: 512 << 20, least: 200 << 20, up: 300 << 20},
		{alive: 512 << 20, gogc: "50", least: 250 << 20, up: 300 << 20},
		{alive: 16 << 20, gogc: "100", least: 12 << 20, up: 24 << 20},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGarbageStaysWithinItsBudget$")
		cmd.Env = append(
			os.Environ(), fmt.Sprint("GCBUDGET_TEST=", c.alive, " ", c.least, " ", c.up), "GOGC="+c.gogc, "GOMEMLIMIT=off",
		)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "within\n") {
			t.Errorf("%d MiB alive, GOGC=%q: %v: goal %s beyond it, want %d to %d", c.alive>>20, c.gogc, err, out, c.least, c.up)
		}
	}
}

// report tells whether the heap goal is within the bounds. It collects several times, because a cleanup
// runs some time after its collection.
func report(given string) {
	var n, least, up int
	if _, err := fmt.Sscan(given, &n, &least, &up); err != nil {
		panic(err)
	}
	stop := Keep()
	defer stop()
	alive := make([]byte, n)
	samples := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
	beyond := 0
	for range 1000 {
		runtime.GC()
		metrics.Read(samples)
		if beyond = int(samples[0].Value.Uint64() - samples[1].Value.Uint64()); beyond >= least && beyond <= up {
			fmt.Println("within")
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println("at last", beyond)
	runtime.KeepAlive(alive)
}

// debugPercent returns the present GOGC.
func debugPercent() int {
	samples := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(samples)
	return int(samples[0].Value.Uint64())
}

// TestStopped: GOGC is not adapted after stop.
func TestStopped(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	k := &keeper{}
	k.await()
	k.stopped.Store(true)
	for range 3 {
		runtime.GC()
		runtime.Gosched()
	}
	if got := debugPercent(); got != 100 {
		t.Errorf("GOGC is %d", got)
	}
}
