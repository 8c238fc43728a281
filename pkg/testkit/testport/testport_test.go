package testport

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// asProcess makes this test binary print ports, and wait until it may end.
const asProcess = "TESTPORT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) != "" {
		for range callers {
			fmt.Println(free())
		}
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	os.Exit(m.Run())
}

// callers is more than the number of ports of a block.
const callers = 2 * blockSize

func TestFree(t *testing.T) {
	ports := make(chan int, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() { ports <- Free(t) })
	}
	wg.Wait()
	close(ports)

	seen := make(map[int]bool)
	for port := range ports {
		if port < 20000 || port > 32767 {
			t.Errorf("port %d is out of range", port)
		}
		if seen[port] {
			t.Errorf("port %d was given twice", port)
		}
		seen[port] = true
	}
	for port := range seen {
		listener, err := listen(port)
		if err != nil {
			t.Fatalf("port %d is not free: %v", port, err)
		}
		listener.Close()
		break
	}
	for port := range ofProcesses(t, 4) {
		if seen[port] {
			t.Errorf("port %d was given to another process too", port)
		}
	}
}

// ofProcesses returns the ports of processes that run at the same time, and fails the test when two processes
// share a port.
func ofProcesses(t *testing.T, count int) map[int]bool {
	t.Helper()
	seen := map[int]bool{}
	for range count {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), asProcess+"=1", "GORACE=atexit_sleep_ms=0")
		stdin, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = stdin.Close()
			if err := child.Wait(); err != nil {
				t.Error(err)
			}
		})
		for range callers {
			var port int
			var failed string
			if _, err := fmt.Fscanln(stdout, &port, &failed); err != nil || failed != "<nil>" {
				t.Fatal(err, failed)
			}
			if seen[port] {
				t.Errorf("two processes were given port %d", port)
			}
			seen[port] = true
		}
	}
	return seen
}
