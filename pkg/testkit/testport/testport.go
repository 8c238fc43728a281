// Package testport finds TCP ports for servers that tests start.
package testport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are taken from below 32768: above it Linux picks the local ports of outgoing connections, and one of those could
// come into being between Free and the start of the server. It also leaves room for a Redis Cluster bus, which listens
// 10,000 ports further on.
const (
	firstPort = 20000
	lastPort  = 32767
	attempts  = 1000
)

var (
	mu    sync.Mutex
	given = make(map[int]bool)
)

// Free returns a port from 20000 to 32767 on which nothing listened on 127.0.0.1 a moment ago. A process gets each port
// once; across processes the port is only likely to stay free, being random. It fails the test if it finds none. It is
// safe for concurrent use.
func Free(t testing.TB) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if given[port] {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			t.Fatalf("testport: release port %d: %v", port, err)
		}
		given[port] = true
		return port
	}
	t.Fatalf("testport: no free port from %d to %d in %d attempts", firstPort, lastPort, attempts)
	return 0
}
