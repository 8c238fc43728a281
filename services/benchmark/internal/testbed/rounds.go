package testbed

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/countersign/countersign/services/benchmark/internal/report"
)

// Condition describes the calls of a turn. All conditions of one run share a testbed. Each server has one
// turn for each condition in each round.
type Condition struct {
	// Name appears in errors. It is empty when the run has only one condition.
	Name                  string
	Mix                   Mix
	Connections, InFlight int
}

// Condition returns the mix, the connections and the calls in flight of the options.
func (o Options) Condition() Condition {
	return Condition{Mix: o.Mix, Connections: o.Connections, InFlight: o.InFlight}
}

// rounds gives every server a turn under every condition in every round. The order is random in each round,
// so that no server always follows the same one. It returns the turns by condition.
func (t *Testbed) rounds(ctx context.Context, conditions []Condition) ([][]*report.Turn, error) {
	random := rand.New(rand.NewPCG(t.options.Seed, 2))
	turns := make([][]*report.Turn, len(conditions))
	for round := 1; round <= t.options.Rounds; round++ {
		fmt.Fprintf(t.options.Progress, "Round %d of %d\n", round, t.options.Rounds)
		for _, i := range random.Perm(len(t.servers) * len(conditions)) {
			s, c := t.servers[i%len(t.servers)], i/len(t.servers)
			turn, err := t.turn(ctx, round, s, conditions[c])
			if err != nil {
				return nil, fmt.Errorf("%s, round %d%s: %w", s.Title, round, conditions[c].suffix(), err)
			}
			turns[c] = append(turns[c], turn)
		}
	}
	return turns, nil
}

func (c Condition) suffix() string {
	if c.Name == "" {
		return ""
	}
	return ", " + c.Name
}
