package bench

import (
	"fmt"

	"github.com/countersign/countersign/services/countersign/internal/bench/process"
)

// place says which processors are whose.
type place struct {
	// servers are those of each server in turn, others those of the load generator, Redis and the writer.
	// Both are empty when nothing is pinned.
	servers, others []int
}

// newPlace divides the processors that there are: one for the servers. When there is only one, or the
// system does not let a process choose, nothing is pinned.
func newPlace(cpus []int) place {
	if len(cpus) < 2 {
		return place{}
	}
	last := len(cpus) - 1
	return place{servers: cpus[last:], others: cpus[:last]}
}

func (p place) pinned() bool { return len(p.servers) > 0 }

// take pins this process.
func (p place) take() error {
	if !p.pinned() {
		return nil
	}
	return process.Pin(p.others)
}

// note says which processors are whose, for people.
func (p place) note() string {
	if !p.pinned() {
		return "nothing is pinned, since this machine has one processor or its system does not let processes choose: servers and load generator are in each other's way"
	}
	return fmt.Sprintf("each server runs on CPU %v alone, the load generator and Redis on CPUs %v", p.servers, p.others)
}
