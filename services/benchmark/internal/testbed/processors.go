package testbed

import (
	"fmt"

	"github.com/countersign/countersign/services/benchmark/internal/process"
)

// Processors says which processes run on which CPUs of the machine. The zero value pins no process.
type Processors struct {
	// servers are the CPUs of the measured servers. others are the CPUs of the load generator, Redis, the
	// authority, the other validators and the writer.
	servers, others []int
}

// Divide reserves one of the CPUs that this process may use for the measured servers. It pins nothing when
// there is only one CPU, or when the system cannot pin processes.
func Divide() Processors { return divide(process.CPUs()) }

func divide(cpus []int) Processors {
	if len(cpus) < 2 {
		return Processors{}
	}
	last := len(cpus) - 1
	return Processors{servers: cpus[last:], others: cpus[:last]}
}

func (p Processors) pinned() bool { return len(p.servers) > 0 }

// Pin restricts this process, the load generator, to the CPUs that are not reserved for the servers. The
// restriction lasts until the process exits.
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
