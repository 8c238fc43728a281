package testport

import (
	"net"
	"strconv"
	"sync"
	"testing"
)

func TestFree(t *testing.T) {
	const callers = 50
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
	if len(seen) == 0 {
		t.Fatal("no port was given")
	}
	for port := range seen {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatalf("port %d is not free: %v", port, err)
		}
		listener.Close()
		break
	}
}
