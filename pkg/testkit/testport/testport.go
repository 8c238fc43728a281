// Package testport finds TCP ports for servers that tests start. This package is not part of the public API
// and may change in any release.
package testport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are below 32768: above, Linux picks the local ports of outgoing connections, and such a connection
// could take a port between Free and the start of the server. This also leaves room for the bus of a Redis
// Cluster, which listens on a port 10,000 higher.
const (
	firstPort = 20000
	lastPort  = 32767
	// A process reserves whole blocks of ports, by listening on the first port of each until the process
	// ends. So no other test process gets a port of a server that is stopped for a while or about to start.
	blockSize = 76
	blocks    = (lastPort - firstPort + 1) / blockSize
)

var (
	mu sync.Mutex
	// own holds the listeners of the blocks, by number. A listener without a reference would be collected and
	// closed.
	own  = map[int]net.Listener{}
	rest []int
)

// Free returns a port from 20000 to 32767 on which nothing listened on 127.0.0.1 a moment ago. No other
// caller gets this port until this process ends, in this process or another. It fails the test when no port
// is free. It is safe for concurrent use.
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

// takeBlock reserves a block, and adds its ports to the rest. It returns false when no block is free. The
// caller holds the mutex.
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
