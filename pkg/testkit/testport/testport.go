// Package testport finds TCP ports for servers that tests start.
package testport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are taken from below 32768: above it Linux picks the local ports of outgoing connections, and one
// of those could come into being between Free and the start of the server. It also leaves room for a Redis
// Cluster bus, which listens 10,000 ports further on.
const (
	firstPort = 20000
	lastPort  = 32767
	// A process has whole blocks of ports to itself, by listening on the first of each until it ends: no
	// other test process is given a port of a server that is stopped for a while, or about to start.
	blockSize = 76
	blocks    = (lastPort - firstPort + 1) / blockSize
)

var (
	mu sync.Mutex
	// own are the listeners of the blocks, by the block's number: one that nobody holds is collected, and
	// closed.
	own  = map[int]net.Listener{}
	rest []int
)

// Free returns a port from 20000 to 32767 on which nothing listened on 127.0.0.1 a moment ago, and that no
// other caller is given, in this process or another, until this process ends. It fails the test if it finds
// none. It is safe for concurrent use.
func Free(t testing.TB) int {
	t.Helper()
	port, err := free()
	if err != nil {
		t.Fatalf("testport: %v", err)
	}
	return port
}

func free() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	for {
		if len(rest) == 0 && !takeBlock() {
			return 0, fmt.Errorf("no free block of %d ports from %d to %d", blockSize, firstPort, lastPort)
		}
		port := rest[0]
		rest = rest[1:]
		if listener, err := listen(port); err == nil {
			return port, listener.Close()
		}
	}
}

// takeBlock adds the ports of a block to the rest; false when there is none. The caller holds the mutex.
func takeBlock() bool {
	for _, block := range rand.Perm(blocks) {
		first := firstPort + block*blockSize
		if own[block] != nil {
			continue
		}
		listener, err := listen(first)
		if err != nil {
			continue
		}
		own[block] = listener
		for port := first + 1; port < first+blockSize; port++ {
			rest = append(rest, port)
		}
		return true
	}
	return false
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
