package testbed

import (
	"fmt"

	"github.com/countersign/countersign/services/benchmark/internal/process"
)

// Processors divides the processors of the machine. The zero value pins no process.
type Processors struct {
	// servers are for the server whose turn it is; others are for the load generator, Redis and the writer.
	servers, others []int
}

// Divide gives one of this machine's processors to the servers. Nothing is pinned when there is only one
// processor, or when the system cannot pin processes.
func Divide() Processors { return divide(process.CPUs()) }

func divide(cpus []int) Processors {
	if len(cpus) < 2 {
		return Processors{}
	}
	last := len(cpus) - 1
	return Processors{servers: cpus[last:], others: cpus[:last]}
}

func (p Processors) pinned() bool { return len(p.servers) > 0 }

// Pin pins this process, the load generator, until it ends.
func (p Processors) Pin() error {
	if !p.pinned() {
		return nil
	}
	return process.Pin(p.others)
}

// Note describes the division for people.
func (p Processors) Note() string {
	if !p.pinned() {
		return "nothing is pinned, since this machine has one processor or its system cannot pin processes: " +
			"servers and load generator slow each other down"
	}
	return fmt.Sprintf("each server runs on CPU %v alone, the load generator and Redis on CPUs %v", p.servers, p.others)
}
